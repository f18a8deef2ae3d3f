/* canonical.c - see canonical.h. Reads and writes in one pass: what was read of a value is what was written of it, so two
 * names in one object are the same if their written forms are.
 *
 * Names are kept while their objects are open, NAMES_READ_MOST of them; each object's are sorted, which costs little because there
 * are NAMES_MOST of them at most. */
#include "proxy/base/canonical.h"

#include <stdlib.h>
#include <unicode/utf8.h>

#include "proxy/base/ask.h"
#include "proxy/base/scan.h"

enum { FEW_NAMES = 16, NAMES_MOST = 4096, NAMES_READ_MOST = 64 << 10, INT64_DIGITS = 19, DOUBLE_DIGITS = 308, EXPONENT_MOST = 9999, EXPONENT_BYTES = 8, UTF8_LONGEST = 4 };

struct name { size_t from, len; };       /* in out */

struct writer {
	struct buf *out;
	struct buf names;                /* struct name of every object being read, the innermost last */
	const char *end;
	const char *wrong;
	size_t decimals;                 /* whole numbers that were not written as such */
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

/* p is at the opening quote. */
static const char *text(struct writer *w, const char *p)
{
	const char *from = p++;          /* with the quote */

	for (;;) {
		p = scan_plain(p, w->end, true);
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

static bool fits_64_bits(const char *digits, size_t n, bool negative)
{
	static const char most[] = "9223372036854775807", least[] = "9223372036854775808";

	return n < INT64_DIGITS || (n == INT64_DIGITS && memcmp(digits, negative ? least : most, n) <= 0);
}

static bool put_whole(struct writer *w, const char *from, size_t len)
{
	bool negative = *from == '-';
	const char *digits = from + negative;

	if (!fits_64_bits(digits, len - negative, negative))
		return refuse(w, "a number too large");
	return *digits == '0' ? put(w, "0", 1) : put(w, from, len);          /* -0 too */
}

static bool put_exponent(struct writer *w, int exponent)
{
	char text[EXPONENT_BYTES], *at = text + sizeof text;

	for (int n = abs(exponent); n || at == text + sizeof text; n /= 10)
		*--at = (char)('0' + n % 10);
	if (exponent < 0)
		*--at = '-';
	*--at = 'e';
	return put(w, at, (size_t)(text + sizeof text - at));
}

/* A number with a fraction or an exponent, by its value: digits without zeros at either end, times a power of ten. Where
 * that is whole it is written like the whole number it equals, so that 0 and 0.0 are one. No double is made of it, so what
 * a double does not tell apart stays apart, and nothing is lost but a hit. */
static bool put_decimal(struct writer *w, struct slice whole, struct slice fraction, int exponent, bool negative)
{
	char digits[CANONICAL_NUMBER + INT64_DIGITS], *at = digits;

	if (whole.len + fraction.len > CANONICAL_NUMBER)
		return refuse(w, "a number too long");
	memcpy(digits, whole.at, whole.len);
	memcpy(digits + whole.len, fraction.at, fraction.len);
	size_t n = whole.len + fraction.len;
	for (exponent -= (int)fraction.len; n && digits[n - 1] == '0'; n--)
		exponent++;
	for (; n && *at == '0'; n--)
		at++;
	w->decimals += !n || exponent >= 0;
	if (!n)
		return put(w, "0", 1);
	if ((int)n + exponent > DOUBLE_DIGITS)
		return refuse(w, "a number too large");
	if (negative && !put(w, "-", 1))
		return false;
	char *end = at + n;
	if (exponent >= 0 && n + (size_t)exponent <= INT64_DIGITS)
		memset(end, '0', (size_t)exponent);
	if (exponent >= 0 && fits_64_bits(at, n + (size_t)exponent, negative))
		return put(w, at, n + (size_t)exponent);
	return put(w, at, n) && put_exponent(w, exponent);
}

static const char *skip_digits(const struct writer *w, const char *p)
{
	while (p < w->end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* p is behind the e. */
static const char *read_exponent(struct writer *w, const char *p, int *exponent)
{
	bool negative = p < w->end && *p == '-';
	int n = 0;

	p += p < w->end && (*p == '-' || *p == '+');
	const char *end = skip_digits(w, p);
	if (end == p)
		return not_json(w);
	for (; p < end; p++) {
		n = n * 10 + (*p - '0');
		if (n > EXPONENT_MOST)
			return wrong(w, negative ? "a number too small" : "a number too large");
	}
	*exponent = negative ? -n : n;
	return end;
}

static const char *number(struct writer *w, const char *p)
{
	const char *from = p, *digits = p + (*p == '-'), *end;
	struct slice fraction = SLICE("");
	int exponent = 0;

	p = digits < w->end && *digits == '0' ? digits + 1 : skip_digits(w, digits);
	if (p == digits)
		return not_json(w);
	end = p;
	if (p < w->end && *p == '.') {
		p = skip_digits(w, ++p);
		fraction = slice_of(end + 1, (size_t)(p - end) - 1);
		if (!fraction.len)
			return not_json(w);
	}
	if (p < w->end && (*p == 'e' || *p == 'E') && !(p = read_exponent(w, p + 1, &exponent)))
		return NULL;
	bool done = p == end ? put_whole(w, from, (size_t)(p - from))
	                     : put_decimal(w, slice_of(digits, (size_t)(end - digits)), fraction, exponent, digits > from);
	return done ? p : NULL;
}

static const char *word(struct writer *w, const char *p)
{
	static const struct slice words[] = { SLICE_INIT("true"), SLICE_INIT("false"), SLICE_INIT("null") };

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
	p = scan_skip_space(p, w->end);
	if (p == w->end || *p != ':')
		return not_json(w);
	return put(w, ":", 1) ? value(w, scan_skip_space(p + 1, w->end), depth) : NULL;
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
	p = scan_skip_space(p + 1, w->end);
	for (bool first = true; p < w->end && (*p != close || !first); first = false) {
		p = object ? field(w, p, depth + 1) : value(w, p, depth + 1);
		if (!p)
			return NULL;
		p = scan_skip_space(p, w->end);
		if (p == w->end || *p != ',')
			break;
		if (!put(w, ",", 1))
			return NULL;
		p = scan_skip_space(p + 1, w->end);
	}
	if (p == w->end || *p != close)
		return not_json(w);
	if (object && (w->names.len - names) / sizeof(struct name) > NAMES_MOST)
		return wrong(w, "too many names");
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

const char *canonical_write(struct slice json, struct buf *out, size_t *decimals)
{
	*decimals = 0;
	if (!json.len)
		return "not JSON";
	struct writer w = { .out = out, .end = json.at + json.len };
	size_t before = out->len;

	buf_init(&w.names, sizeof(struct name) * (json.len < NAMES_READ_MOST ? json.len : NAMES_READ_MOST));
	const char *p = value(&w, scan_skip_space(json.at, w.end), 0);
	if (p && scan_skip_space(p, w.end) != w.end)
		not_json(&w);
	buf_fini(&w.names);
	if (w.wrong)
		out->len = before;
	*decimals = w.decimals;
	return w.wrong;
}
