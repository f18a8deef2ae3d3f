/* key.c - see key.h. */
#include "cache/key.h"

#include <nettle/sha2.h>

static void add(struct sha256_ctx *c, struct slice s)
{
	uint8_t len[8];

	for (int i = 0; i < 8; i++)
		len[i] = (uint8_t)((uint64_t)s.len >> 8 * i);
	sha256_update(c, sizeof len, len);
	sha256_update(c, s.len, (const uint8_t *)s.at);
}

void key_make(const struct key_parts *p, uint8_t key[KEY_BYTES])
{
	const uint64_t numbers[] = { 2 /* version of this form */, p->family, p->candidates, p->mark };
	const struct slice parts[] = { slice_of((const char *)numbers, sizeof numbers), p->scope, p->space, p->digest, p->form };
	struct sha256_ctx c;

	sha256_init(&c);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		add(&c, parts[i]);
	for (size_t i = 0; i < TENANT_PARTS; i++)
		add(&c, p->tenant[i]);
	sha256_digest(&c, KEY_BYTES, key);
}

void key_hash(struct slice bytes, uint8_t hash[KEY_BYTES])
{
	struct sha256_ctx c;

	sha256_init(&c);
	sha256_update(&c, bytes.len, (const uint8_t *)bytes.at);
	sha256_digest(&c, KEY_BYTES, hash);
}

void key_hex(const uint8_t key[KEY_BYTES], char hex[2 * KEY_BYTES + 1])
{
	static const char digit[] = "0123456789abcdef";

	for (int i = 0; i < KEY_BYTES; i++) {
		hex[2 * i] = digit[key[i] >> 4];
		hex[2 * i + 1] = digit[key[i] & 15];
	}
	hex[2 * KEY_BYTES] = '\0';
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool key_parse(struct slice hex, uint8_t key[KEY_BYTES])
{
	if (hex.len != 2 * KEY_BYTES)
		return false;
	for (int i = 0; i < KEY_BYTES; i++) {
		int high = digit_of(hex.at[2 * i]), low = digit_of(hex.at[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		key[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}
