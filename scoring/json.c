/* json.c - is this JSON, and are two of them the same value? One pass, no memory.
 *
 * A value becomes a hash: keys of an object in any order, numbers by value (1 = 1.0), strings after their escapes
 * are resolved. So two answers or two tool calls can be compared without building trees. A collision would at
 * worst count two different answers as agreeing.
 *
 * Limits  JSON_DEPTH levels; deeper is not taken for JSON. */
#include "scoring/round.h"

#include "proxy/base/ask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { JSON_DEPTH = 128, NUMBER_MAX = 63 };
enum { SEED_STRING = 1, SEED_NUMBER, SEED_ARRAY, SEED_OBJECT, SEED_WORD, SEED_CALL };

struct reader {
	const char *at, *end;
	int depth;
};

static bool value(struct reader *r, uint64_t *h);

static void spaces(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
		r->at++;
}

static bool take(struct reader *r, char c)
{
	spaces(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static int hex4(const char *s, const char *end)
{
	int v = 0;

	if (end - s < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = s[i];
		int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static uint64_t feed(uint64_t h, unsigned char c)
{
	return (h ^ c) * 0x100000001b3u;                     /* FNV-1a */
}

static uint64_t feed_char(uint64_t h, unsigned cp)
{
	if (cp < 0x80)
		return feed(h, (unsigned char)cp);
	if (cp < 0x800)
		return feed(feed(h, (unsigned char)(0xc0 | cp >> 6)), (unsigned char)(0x80 | (cp & 63)));
	if (cp < 0x10000)
		return feed(feed(feed(h, (unsigned char)(0xe0 | cp >> 12)), (unsigned char)(0x80 | (cp >> 6 & 63))),
		            (unsigned char)(0x80 | (cp & 63)));
	h = feed(feed(h, (unsigned char)(0xf0 | cp >> 18)), (unsigned char)(0x80 | (cp >> 12 & 63)));
	return feed(feed(h, (unsigned char)(0x80 | (cp >> 6 & 63))), (unsigned char)(0x80 | (cp & 63)));
}

/* A string; its inside as written goes to *raw (may be NULL). */
static bool string(struct reader *r, uint64_t *hash, struct slice *raw)
{
	uint64_t h = hash_mix(SEED_STRING, 0);

	if (!take(r, '"'))
		return false;
	const char *from = r->at;
	while (r->at < r->end && *r->at != '"') {
		unsigned char c = (unsigned char)*r->at++;
		if (c < 0x20)
			return false;
		if (c != '\\') {
			h = feed(h, c);
			continue;
		}
		static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
		if (r->at == r->end)
			return false;
		c = (unsigned char)*r->at++;
		const char *known = c ? strchr(names, c) : NULL;
		if (known) {
			h = feed(h, (unsigned char)means[known - names]);
		} else if (c == 'u') {
			int cp = hex4(r->at, r->end);
			if (cp < 0)
				return false;
			r->at += 4;
			if (cp >= 0xd800 && cp < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
				int low = hex4(r->at + 2, r->end);
				if (low >= 0xdc00 && low < 0xe000) {
					cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
					r->at += 6;
				}
			}
			h = feed_char(h, (unsigned)cp);
		} else {
			return false;
		}
	}
	if (r->at == r->end)
		return false;
	if (raw)
		*raw = slice_of(from, (size_t)(r->at - from));
	r->at++;
	*hash = h;
	return true;
}

static size_t digits(struct reader *r)
{
	const char *from = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return (size_t)(r->at - from);
}

static bool number(struct reader *r, uint64_t *hash)
{
	char text[NUMBER_MAX + 1];
	const char *from = r->at;
	bool whole = true;

	if (r->at < r->end && *r->at == '-')
		r->at++;
	const char *first = r->at;
	size_t n = digits(r);
	if (n == 0 || (n > 1 && *first == '0'))
		return false;
	if (r->at < r->end && *r->at == '.') {
		whole = false;
		r->at++;
		if (digits(r) == 0)
			return false;
	}
	if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
		whole = false;
		r->at++;
		if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
			r->at++;
		if (digits(r) == 0)
			return false;
	}
	size_t len = (size_t)(r->at - from);
	uint64_t h = hash_mix(SEED_NUMBER, 0);
	if (len <= NUMBER_MAX) {
		memcpy(text, from, len);
		text[len] = 0;
		double v = whole ? 0 : strtod(text, NULL);
		if (!whole && isfinite(v) && fabs(v) < 1e15 && v == floor(v))
			snprintf(text, sizeof text, "%.0f", v);
		else if (!whole && isfinite(v))
			snprintf(text, sizeof text, "%.15g", v);
		from = strcmp(text, "-0") == 0 ? "0" : text;
		len = strlen(from);
	}
	for (size_t i = 0; i < len; i++)
		h = feed(h, (unsigned char)from[i]);
	*hash = h;
	return true;
}

static bool members(struct reader *r, uint64_t *hash)
{
	uint64_t sum = 0, key, v;

	if (!take(r, '}'))
		do {
			if (!string(r, &key, NULL) || !take(r, ':') || !value(r, &v))
				return false;
			sum += hash_mix(key, v);                     /* a sum: the order of keys does not count */
		} while (take(r, ','));
	else
		r->at--;
	*hash = hash_mix(SEED_OBJECT, sum);
	return take(r, '}');
}

static bool items(struct reader *r, uint64_t *hash)
{
	uint64_t h = hash_mix(SEED_ARRAY, 0), v;

	if (!take(r, ']'))
		do {
			if (!value(r, &v))
				return false;
			h = hash_mix(h, v);
		} while (take(r, ','));
	else
		r->at--;
	*hash = h;
	return take(r, ']');
}

static bool value(struct reader *r, uint64_t *h)
{
	static const char *const words[] = { "true", "false", "null" };
	bool fine;

	spaces(r);
	if (r->at == r->end || r->depth == JSON_DEPTH)
		return false;
	switch (*r->at) {
	case '"':
		return string(r, h, NULL);
	case '{':
	case '[':
		r->depth++;
		fine = *r->at++ == '{' ? members(r, h) : items(r, h);
		r->depth--;
		return fine;
	}
	for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
		size_t len = strlen(words[i]);
		if ((size_t)(r->end - r->at) >= len && memcmp(r->at, words[i], len) == 0) {
			r->at += len;
			*h = hash_mix(SEED_WORD, i);
			return true;
		}
	}
	return number(r, h);
}

static struct reader reader_of(struct slice s)
{
	const char *at = s.at ? s.at : "";

	return (struct reader){ .at = at, .end = at + s.len };
}

bool json_hash(struct slice text, uint64_t *hash)
{
	struct reader r = reader_of(text);

	if (!value(&r, hash))
		return false;
	spaces(&r);
	return r.at == r.end;
}

/* Arguments are an object in Ollama's dialect and a string holding one in OpenAI's. */
static bool arguments(struct reader *r, uint64_t *hash)
{
	struct slice raw;

	spaces(r);
	if (r->at == r->end || *r->at != '"')
		return value(r, hash);
	if (!string(r, hash, &raw))
		return false;
	struct buf text;
	uint64_t inner;
	buf_init(&text, raw.len + 1);
	if (json_decode_text(raw, &text) == ERR_OK && json_hash(buf_slice(&text), &inner))
		*hash = inner;
	buf_fini(&text);
	return true;
}

/* The name and arguments of one call, wherever its dialect keeps them: in "function" or at the top. */
static bool call(struct reader *r, uint64_t *name, uint64_t *args, bool *named)
{
	uint64_t ignored;
	struct slice key;

	if (!take(r, '{') || ++r->depth > JSON_DEPTH)
		return false;
	if (take(r, '}')) {
		r->depth--;
		return true;
	}
	do {
		if (!string(r, &ignored, &key) || !take(r, ':'))
			return false;
		spaces(r);
		bool fine = true;
		if (slice_is(key, SLICE("function")) && r->at < r->end && *r->at == '{') {
			fine = call(r, name, args, named);
		} else if (slice_is(key, SLICE("name"))) {
			fine = string(r, name, &key);
			*named = fine && key.len > 0;
		} else if (slice_is(key, SLICE("arguments"))) {
			fine = arguments(r, args);
		} else {
			fine = value(r, &ignored);
		}
		if (!fine)
			return false;
	} while (take(r, ','));
	r->depth--;
	return take(r, '}');
}

int json_calls(struct slice list, uint64_t *hash)
{
	struct reader r = reader_of(list);
	uint64_t sum = 0;
	int n = 0;

	spaces(&r);
	if (r.at == r.end)
		return 0;
	do {
		uint64_t name = 0, args = hash_mix(SEED_OBJECT, 0);      /* no arguments are {} */
		bool named = false;
		if (!call(&r, &name, &args, &named) || !named)
			return -1;
		sum += hash_mix(hash_mix(SEED_CALL, name), args);        /* calls made together have no order */
		n++;
	} while (take(&r, ','));
	spaces(&r);
	*hash = sum;
	return r.at == r.end ? n : -1;
}
