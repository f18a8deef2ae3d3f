/* scan.c - spans of a JSON object; see scan.h. The grammar is RFC 8259's. */
#include "proxy/base/scan.h"

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* p is at the backslash; returns the escape's last byte, or NULL. */
static const char *skip_escape(const char *p, const char *end)
{
	if (end - p < 2)
		return NULL;
	if (p[1] != 'u')
		return memchr("\"\\/bfnrt", p[1], 8) ? p + 1 : NULL;
	if (end - p < 6 || !is_hex(p[2]) || !is_hex(p[3]) || !is_hex(p[4]) || !is_hex(p[5]))
		return NULL;
	return p + 5;
}

/* p is at the opening quote; returns past the closing one, or NULL. */
static const char *skip_text(const char *p, const char *end)
{
	while ((p = scan_plain(p + 1, end, false)) < end) {
		if (*p == '"')
			return p + 1;
		if (*p != '\\' || !(p = skip_escape(p, end)))
			return NULL;
	}
	return NULL;
}

/* A number or a literal: everything up to what may follow a value. */
static const char *skip_word(const char *p, const char *end)
{
	const char *from = p;

	while (p < end && ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || *p == '-' || *p == '+' || *p == '.' || *p == 'E'))
		p++;
	size_t len = (size_t)(p - from);
	if (len == 0)
		return NULL;
	if (*from >= 'a' && *from <= 'z' && !slice_is(slice_of(from, len), SLICE("true")) &&
	    !slice_is(slice_of(from, len), SLICE("false")) && !slice_is(slice_of(from, len), SLICE("null")))
		return NULL;
	if (*from == '+' || *from == '.' || *from == 'E')
		return NULL;
	return p;
}

/* Arrays and objects are walked for balance: which bracket closes, and that strings end. What lies between is
 * the upstream's business and is handed on as it is. */
static const char *skip_nested(const char *p, const char *end)
{
	char open[SCAN_DEPTH];
	size_t depth = 0;

	for (; p && p < end; ) {
		char c = *p;
		if (c == '"') {
			p = skip_text(p, end);
			continue;
		}
		if (c == '{' || c == '[') {
			if (depth == SCAN_DEPTH)
				return NULL;
			open[depth++] = c;
		} else if (c == '}' || c == ']') {
			if (open[--depth] != (c == '}' ? '{' : '['))
				return NULL;
			if (depth == 0)
				return p + 1;
		}
		p++;
	}
	return NULL;
}

static const char *skip_value(const char *p, const char *end)
{
	if (p >= end)
		return NULL;
	if (*p == '"')
		return skip_text(p, end);
	if (*p == '{' || *p == '[')
		return skip_nested(p, end);
	return skip_word(p, end);
}

static void begin(struct scan *s, struct slice json, char open)
{
	*s = (struct scan){ .at = json.at, .end = json.len ? json.at + json.len : json.at };
	s->at = scan_skip_space(s->at, s->end);
	s->bad = s->at == s->end || *s->at != open;
	if (!s->bad)
		s->at++;
}

void scan_init(struct scan *s, struct slice json)
{
	begin(s, json, '{');
}

void scan_items_init(struct scan *s, struct slice json)
{
	begin(s, json, '[');
}

/* Where the next field or item begins; NULL, with s->bad set unless it is the end that comes. */
static const char *next(struct scan *s, char close)
{
	if (s->bad || !s->at)
		return NULL;
	const char *p = scan_skip_space(s->at, s->end);

	if (p < s->end && *p == close) {
		s->at = p;                 /* scan_ended() looks from here; a further call finds the brace again */
		return NULL;
	}
	s->bad = true;
	if (s->begun) {
		if (p >= s->end || *p != ',')
			return NULL;
		p = scan_skip_space(p + 1, s->end);
	}
	return p;
}

static bool take(struct scan *s, const char *p, struct slice *value)
{
	const char *end = skip_value(p, s->end);

	if (!end)
		return false;
	*value = slice_of(p, (size_t)(end - p));
	s->at = end;
	s->begun = true;
	s->bad = false;
	return true;
}

bool scan_next(struct scan *s, struct slice *name, struct slice *value)
{
	const char *p = next(s, '}'), *name_end;

	if (!p || p >= s->end || *p != '"' || !(name_end = skip_text(p, s->end)))
		return false;
	*name = slice_of(p + 1, (size_t)(name_end - p) - 2);
	p = scan_skip_space(name_end, s->end);
	if (p >= s->end || *p != ':')
		return false;
	return take(s, scan_skip_space(p + 1, s->end), value);
}

bool scan_item(struct scan *s, struct slice *value)
{
	const char *p = next(s, ']');

	return p && take(s, p, value);
}

bool scan_ended(const struct scan *s)
{
	return !s->bad && s->at < s->end && *s->at == '}' && scan_skip_space(s->at + 1, s->end) == s->end;
}

struct slice scan_inside(struct slice value)
{
	if (value.len < 2)
		return (struct slice){ 0 };
	const char *from = value.at + 1, *end = value.at + value.len - 1;

	if (*value.at != '"') {
		from = scan_skip_space(from, end);
		while (end > from && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n' || end[-1] == '\r'))
			end--;
	}
	return slice_of(from, (size_t)(end - from));
}

static int hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		int c = p[i] | 0x20;
		v = v * 16 + (c >= 'a' ? c - 'a' + 10 : c - '0');
	}
	return v;
}

size_t scan_text_cut(struct slice t, size_t most)
{
	size_t at = 0;

	if (t.len <= most)
		return t.len;
	while (at < t.len) {
		size_t step = 1;
		if (t.at[at] == '\\' && at + 1 < t.len) {
			step = t.at[at + 1] == 'u' ? 6 : 2;
			/* a high surrogate stays with its low one */
			if (step == 6 && at + 12 <= t.len && (hex4(t.at + at + 2) & 0xFC00) == 0xD800 && t.at[at + 6] == '\\' &&
			    t.at[at + 7] == 'u')
				step = 12;
		} else {
			while (at + step < t.len && ((unsigned char)t.at[at + step] & 0xC0) == 0x80)
				step++;
		}
		if (step > t.len - at)
			step = t.len - at;         /* an escape that is none */
		if (at + step > most)
			return at ? at : step;     /* one character longer than `most`: better long than stuck */
		at += step;
	}
	return at;
}
