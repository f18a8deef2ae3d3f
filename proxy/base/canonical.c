/* canonical.c - see canonical.h. Reads and writes in one pass: what was read of a value is what was written of it, so two
 * names in one object are the same if their written forms are. */
#include "proxy/base/canonical.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unicode/utf8.h>

#include "proxy/base/ask.h"
#include "proxy/base/scan.h"

enum { FEW_NAMES = 16, INT64_DIGITS = 19, UTF8_LONGEST = 4 };

struct name { size_t from, len; };       /* in out */

struct writer {
	struct buf *out;
	struct buf names;                /* struct name of every object being read, the innermost last */
	const char *end;
	const char *wrong;
};

/* What reads returns where it got to, NULL with w->wrong set; what writes, false with it set. */
static bool refuse(struct writer *w, const char *why)
{
	w->wrong = why;
	return false;
}

static const char *wrong(struct writer *w, const char *why)
{
	w->wrong = why;
	return NULL;
}

static const char *not_json(struct writer *w)
{
	return wrong(w, "not JSON");
}

static bool written(struct writer *w, enum err e)
{
	return e ? refuse(w, e == ERR_TOO_LARGE ? "too large" : "no memory to read it") : true;
}

static bool put(struct writer *w, const void *bytes, size_t len)
{
	return written(w, buf_add(w->out, bytes, len));
}

static const char *skip_space(const struct writer *w, const char *p)
{
	while (p < w->end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* ---- text ---- */

/* p is at a backslash. */
static const char *escape(struct writer *w, const char *p)
{
	uint32_t c;
	char utf8[UTF8_LONGEST];
	size_t took = json_escape_read(slice_of(p, (size_t)(w->end - p)), &c);

	if (!took || c == 0 || U_IS_SURROGATE(c))
		return not_json(w);
	size_t len = utf8_write(utf8, c);
	return written(w, buf_put_json(w->out, slice_of(utf8, len))) ? p + took : NULL;
}

/* p is at a byte beyond ASCII; returns behind its character. */
static const char *character(struct writer *w, const char *p)
{
	int32_t at = 0, most = w->end - p < UTF8_LONGEST ? (int32_t)(w->end - p) : UTF8_LONGEST;
	UChar32 c;

	U8_NEXT(p, at, most, c);
	return c < 0 ? not_json(w) : p + at;
}

/* Bytes of a text that are not written as they are read without a further look. */
static const bool not_plain[256] = { [0 ... 0x1f] = true, ['"'] = true, ['\\'] = true, [0x80 ... 0xff] = true };

/* p is at the opening quote. */
static const char *text(struct writer *w, const char *p)
{
	const char *from = p++;          /* with the quote */

	for (;;) {
		while (p < w->end && !not_plain[(unsigned char)*p])
			p++;
		if (p == w->end || (unsigned char)*p < 0x20)
			return not_json(w);
		if (*p == '"')
			return put(w, from, (size_t)(p + 1 - from)) ? p + 1 : NULL;
		if (*p == '\\') {
			if (!put(w, from, (size_t)(p - from)))
				return NULL;
			p = from = escape(w, p);
		} else {
			p = character(w, p);
		}
		if (!p)
			return NULL;
	}
}

/* ---- numbers and words ---- */

/* A whole value is written like the integer it equals, so that 0 and 0.0 are one; past 2^53, where a double may stand for
 * several integers, like none. */
static bool put_double(struct writer *w, double d)
{
	char number[40];
	bool whole = d == floor(d), sure = fabs(d) < 0x1p53;
	int len = whole && sure ? snprintf(number, sizeof number, "%lld", (long long)d)
	                        : snprintf(number, sizeof number, whole ? "%.17e" : "%.17g", d);
	return put(w, number, (size_t)len);
}

static bool put_real(struct writer *w, const char *from, size_t len)
{
	char number[CANONICAL_NUMBER + 1];

	if (len > CANONICAL_NUMBER)
		return refuse(w, "a number too long");
	memcpy(number, from, len);
	number[len] = '\0';
	double d = strtod(number, NULL);
	return isinf(d) ? refuse(w, "a number too large") : put_double(w, d);
}

static bool put_whole(struct writer *w, const char *from, size_t len)
{
	static const char most[] = "9223372036854775807", least[] = "9223372036854775808";
	bool negative = *from == '-';
	const char *digits = from + negative;
	size_t n = len - negative;

	if (n > INT64_DIGITS || (n == INT64_DIGITS && memcmp(digits, negative ? least : most, n) > 0))
		return refuse(w, "a number too large");
	return *digits == '0' ? put(w, "0", 1) : put(w, from, len);          /* -0 too */
}

static const char *skip_digits(const struct writer *w, const char *p)
{
	while (p < w->end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

static const char *number(struct writer *w, const char *p)
{
	const char *from = p, *digits, *whole;

	digits = p += *p == '-';
	p = p < w->end && *p == '0' ? p + 1 : skip_digits(w, p);
	if (p == digits)
		return not_json(w);
	whole = p;
	if (p < w->end && *p == '.') {
		digits = ++p;
		p = skip_digits(w, p);
		if (p == digits)
			return not_json(w);
	}
	if (p < w->end && (*p == 'e' || *p == 'E')) {
		p++;
		p += p < w->end && (*p == '+' || *p == '-');
		digits = p;
		p = skip_digits(w, p);
		if (p == digits)
			return not_json(w);
	}
	bool done = p == whole ? put_whole(w, from, (size_t)(p - from)) : put_real(w, from, (size_t)(p - from));
	return done ? p : NULL;
}

static const char *word(struct writer *w, const char *p)
{
	static const struct slice words[] = { { "true", 4 }, { "false", 5 }, { "null", 4 } };

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if ((size_t)(w->end - p) >= words[i].len && !memcmp(p, words[i].at, words[i].len))
			return put(w, p, words[i].len) ? p + words[i].len : NULL;
	return not_json(w);
}

/* ---- objects and arrays ---- */

static int by_name(const void *a, const void *b, void *out)
{
	const struct name *m = a, *n = b;
	const char *written = out;

	if (m->len != n->len)
		return m->len < n->len ? -1 : 1;
	return memcmp(written + m->from, written + n->from, m->len);
}

/* Of the names from a place in w->names on, which are in no further use: they may be put in another order. */
static bool name_twice(const struct writer *w, size_t from)
{
	size_t n = (w->names.len - from) / sizeof(struct name);

	if (n < 2)
		return false;
	struct name *names = (struct name *)(void *)(w->names.at + from);
	if (n <= FEW_NAMES) {
		for (size_t i = 1; i < n; i++)
			for (size_t j = 0; j < i; j++)
				if (!by_name(&names[i], &names[j], w->out->at))
					return true;
		return false;
	}
	qsort_r(names, n, sizeof *names, by_name, w->out->at);
	for (size_t i = 1; i < n; i++)
		if (!by_name(&names[i - 1], &names[i], w->out->at))
			return true;
	return false;
}

static const char *value(struct writer *w, const char *p, int depth);

static const char *field(struct writer *w, const char *p, int depth)
{
	struct name name = { .from = w->out->len };

	if (p == w->end || *p != '"')
		return not_json(w);
	p = text(w, p);
	if (!p)
		return NULL;
	name.len = w->out->len - name.from;
	if (!written(w, buf_add(&w->names, &name, sizeof name)))
		return NULL;
	p = skip_space(w, p);
	if (p == w->end || *p != ':')
		return not_json(w);
	return put(w, ":", 1) ? value(w, skip_space(w, p + 1), depth) : NULL;
}

/* p is at the opening bracket or brace. */
static const char *nested(struct writer *w, const char *p, int depth)
{
	size_t names = w->names.len;
	bool object = *p == '{';
	char close = object ? '}' : ']';

	if (depth == SCAN_DEPTH)
		return wrong(w, "nested too deep");
	if (!put(w, p, 1))
		return NULL;
	p = skip_space(w, p + 1);
	for (bool first = true; p < w->end && (*p != close || !first); first = false) {
		p = object ? field(w, p, depth + 1) : value(w, p, depth + 1);
		if (!p)
			return NULL;
		p = skip_space(w, p);
		if (p == w->end || *p != ',')
			break;
		if (!put(w, ",", 1))
			return NULL;
		p = skip_space(w, p + 1);
	}
	if (p == w->end || *p != close)
		return not_json(w);
	if (object && name_twice(w, names))
		return wrong(w, "key twice");
	w->names.len = names;
	return put(w, &close, 1) ? p + 1 : NULL;
}

static const char *value(struct writer *w, const char *p, int depth)
{
	if (p == w->end)
		return not_json(w);
	switch (*p) {
	case '"': return text(w, p);
	case '{':
	case '[': return nested(w, p, depth);
	case 't':
	case 'f':
	case 'n': return word(w, p);
	default:  return number(w, p);
	}
}

const char *canonical_write(struct slice json, struct buf *out)
{
	if (!json.len)
		return "not JSON";
	struct writer w = { .out = out, .end = json.at + json.len };
	size_t before = out->len;

	buf_init(&w.names, sizeof(struct name) * json.len);
	const char *p = value(&w, skip_space(&w, json.at), 0);
	if (p && skip_space(&w, p) != w.end)
		not_json(&w);
	buf_fini(&w.names);
	if (w.wrong)
		out->len = before;
	return w.wrong;
}
