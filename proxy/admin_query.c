/* admin_query.c - what stands behind the ? of an address (as HTML forms write it), and patterns; see admin.h. */
#include <stdio.h>
#include <unicode/utf8.h>

#include "proxy/admin.h"

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* NULL: done; else what is wrong with it. */
static const char *decode(struct slice s, char *to, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.at[i];
		if (c == '+') {
			c = ' ';
		} else if (c == '%') {
			int high = i + 2 < s.len ? hex_digit(s.at[i + 1]) : -1, low = high < 0 ? -1 : hex_digit(s.at[i + 2]);
			if (low < 0)
				return "a % must be followed by two hex digits";
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0')
			return "a NUL is not text";
		if (n == room)
			return "too long";
		to[n++] = c;
	}
	to[n] = '\0';
	for (int32_t i = 0; i < (int32_t)n; ) {
		UChar32 code;
		U8_NEXT((const uint8_t *)to, i, (int32_t)n, code);
		if (code < 0)
			return "not UTF-8";
	}
	return NULL;
}

static bool read_pair(struct slice pair, const struct query_value *wanted, size_t n, unsigned *seen, char why[ADMIN_WHY_MAX])
{
	const char *equals = memchr(pair.at, '=', pair.len), *wrong;
	struct slice name = slice_of(pair.at, equals ? (size_t)(equals - pair.at) : pair.len), value = { 0 };
	char text[QUERY_NAME_MAX + 1];

	if (equals)
		value = slice_of(equals + 1, pair.len - name.len - 1);
	if (decode(name, text, QUERY_NAME_MAX)) {
		snprintf(why, ADMIN_WHY_MAX, "the query has a name that is not known here");
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (strcmp(text, wanted[i].name) != 0)
			continue;
		wrong = *seen & 1u << i ? "given twice" : decode(value, wanted[i].to, QUERY_VALUE_MAX);
		if (wrong)
			snprintf(why, ADMIN_WHY_MAX, "query: %s: %s", text, wrong);
		*seen |= 1u << i;
		return !wrong;
	}
	snprintf(why, ADMIN_WHY_MAX, "query: '%s' is not known here", text);
	return false;
}

bool query_read(struct slice query, const struct query_value *wanted, size_t n, char why[ADMIN_WHY_MAX])
{
	struct slice pair;
	unsigned seen = 0;

	for (size_t i = 0; i < n; i++)
		*wanted[i].to = '\0';
	while (slice_next(&query, '&', &pair))
		if (pair.len && !read_pair(pair, wanted, n, &seen, why))
			return false;
	return true;
}

static char small(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* The length of the character at the front: what ? stands for. */
static size_t one(struct slice s)
{
	size_t n = 1;

	while (n < s.len && (s.at[n] & 0xc0) == 0x80)
		n++;
	return n;
}

bool query_glob(const char *pattern, struct slice s)
{
	const char *star = NULL;
	size_t at = 0, retry = 0;

	/* a later star makes the choices of an earlier one final, so one place to go back to is enough */
	while (at < s.len) {
		if (*pattern == '*') {
			star = pattern++;
			retry = at;
		} else if (*pattern == '?') {
			pattern++;
			at += one(slice_of(s.at + at, s.len - at));
		} else if (*pattern && small(*pattern) == small(s.at[at])) {
			pattern++;
			at++;
		} else if (star) {
			pattern = star + 1;
			at = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}
