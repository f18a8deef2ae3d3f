/* text.c - growing text, Go's JSON escapes, dates, hashes, SHA-256 (FIPS 180-4). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/fake/fake.h"

void *must(void *p)
{
	if (!p) {
		fputs("fake_ollama: out of memory\n", stderr);
		abort();
	}
	return p;
}

static void str_room(struct str *s, size_t more)
{
	if (s->n + more + 1 <= s->room)
		return;
	s->room = (s->n + more + 1) * 2;
	s->at = must(realloc(s->at, s->room));
}

void str_add(struct str *s, const void *bytes, size_t n)
{
	str_room(s, n);
	if (n)
		memcpy(s->at + s->n, bytes, n);
	s->n += n;
	s->at[s->n] = 0;
}

void str_puts(struct str *s, const char *text)
{
	str_add(s, text, strlen(text));
}

void str_fmt(struct str *s, const char *format, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, format);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	str_room(s, (size_t)n);
	vsnprintf(s->at + s->n, (size_t)n + 1, format, again);
	va_end(again);
	s->n += (size_t)n;
}

void str_free(struct str *s)
{
	free(s->at);
	*s = (struct str){ 0 };
}

char *text_copy(const char *bytes, size_t n)
{
	char *t = must(malloc(n + 1));

	if (n)
		memcpy(t, bytes, n);
	t[n] = 0;
	return t;
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
		 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	if (!n || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

void utf8_mend(struct str *out, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t k = utf8_len((const unsigned char *)bytes + i, n - i);

		if (k)
			str_add(out, bytes + i, k);
		else
			str_puts(out, "\xef\xbf\xbd");
		i += k ? k : 1;
	}
}

void str_json(struct str *s, const char *bytes, size_t n)
{
	str_puts(s, "\"");
	for (size_t i = 0; i < n;) {
		const unsigned char *p = (const unsigned char *)bytes + i;
		size_t k = utf8_len(p, n - i);

		if (!k) {
			str_puts(s, "\\ufffd");
		} else if (k == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) {
			str_fmt(s, "\\u20%02x", p[2] - 0x80);
		} else if (k > 1 || (*p >= 0x20 && !strchr("\"\\<>&", *p))) {
			str_add(s, p, k);
		} else if (*p == '"' || *p == '\\') {
			str_fmt(s, "\\%c", *p);
		} else if (*p && strchr("\n\r\t\b\f", *p)) {
			str_fmt(s, "\\%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : *p == '\t' ? 't' : *p == '\b' ? 'b' : 'f');
		} else {
			str_fmt(s, "\\u%04x", *p);
		}
		i += k ? k : 1;
	}
	str_puts(s, "\"");
}

uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void put_created_at(struct str *s)
{
	struct timespec t;
	struct tm tm;
	char date[40], nanos[16];
	size_t n;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(nanos, sizeof nanos, ".%09ld", t.tv_nsec);
	for (n = strlen(nanos); n > 1 && nanos[n - 1] == '0';)
		n--;
	nanos[n > 1 ? n : 0] = 0;
	str_fmt(s, "\"%s%sZ\"", date, nanos);
}

void put_http_date(struct str *s)
{
	time_t t = time(NULL);
	struct tm tm;
	char date[64];

	gmtime_r(&t, &tm);
	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	str_puts(s, date);
}

uint64_t hash_text(uint64_t h, const char *bytes, size_t n)
{
	h ^= 14695981039346656037u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)bytes[i]) * 1099511628211u;
	return hash_mix(h);
}

uint64_t hash_mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53u;
	return h ^ h >> 33;
}

static const uint32_t sha_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void sha256_block(struct sha256 *c, const unsigned char *p)
{
	uint32_t w[64], a, b, d, e, f, g, h, k;

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] + (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	a = c->h[0], b = c->h[1], k = c->h[2], d = c->h[3], e = c->h[4], f = c->h[5], g = c->h[6], h = c->h[7];
	for (int i = 0; i < 64; i++) {
		uint32_t one = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + sha_k[i] + w[i];
		uint32_t two = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & k) ^ (b & k));

		h = g, g = f, f = e, e = d + one, d = k, k = b, b = a, a = one + two;
	}
	c->h[0] += a, c->h[1] += b, c->h[2] += k, c->h[3] += d, c->h[4] += e, c->h[5] += f, c->h[6] += g, c->h[7] += h;
}

void sha256_start(struct sha256 *c)
{
	*c = (struct sha256){ .h = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
				     0x1f83d9ab, 0x5be0cd19 } };
}

void sha256_add(struct sha256 *c, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	size_t held = c->bytes % 64;

	c->bytes += n;
	if (held) {
		size_t k = n < 64 - held ? n : 64 - held;

		memcpy(c->block + held, p, k);
		p += k;
		n -= k;
		if (held + k < 64)
			return;
		sha256_block(c, c->block);
	}
	for (; n >= 64; p += 64, n -= 64)
		sha256_block(c, p);
	if (n)
		memcpy(c->block, p, n);
}

void sha256_hex(struct sha256 *c, char hex[static 65])
{
	uint64_t bits = c->bytes * 8;
	unsigned char tail[72] = { 0x80 };
	size_t pad = (c->bytes % 64 < 56 ? 56 : 120) - c->bytes % 64;

	for (int i = 0; i < 8; i++)
		tail[pad + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
	sha256_add(c, tail, pad + 8);
	for (int i = 0; i < 8; i++)
		snprintf(hex + 8 * i, 9, "%08x", c->h[i]);
}
