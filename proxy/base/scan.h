/* scan.h - reads the fields of one JSON object as spans of its own bytes, without building anything.
 *
 * Replies of the upstream go through here once a token, and what is stored must replay without loss: a parser
 * that builds values would round the numbers of logprobs, forget how text was escaped, and cost several times
 * the rest of a chunk's way. What is not well-formed is said to be bad, and then
 * is neither stored nor understood, only passed on; strings are checked for structure, not for UTF-8.
 *
 * Ownership  names and values lend the object's bytes.
 * Limits     SCAN_DEPTH levels of nesting (RFC 8259, section 9, lets a reader set one). */
#ifndef BASE_SCAN_H
#define BASE_SCAN_H

#include "proxy/base/buf.h"
#include "proxy/base/eight.h"

enum { SCAN_DEPTH = 256 };

struct scan {
	const char *at, *end;
	bool bad;              /* not a well-formed object, or array */
	bool begun;
};

/* Looks at one object; space around it is allowed. */
void scan_init(struct scan *s, struct slice json);

/* The next field: its name without quotes, its value as written. False at the end or when bad. */
bool scan_next(struct scan *s, struct slice *name, struct slice *value);

/* Items of an array, by the same struct: looks at one array; the next item as written. */
void scan_items_init(struct scan *s, struct slice json);
bool scan_item(struct scan *s, struct slice *value);

/* After the last field: is there nothing but space behind the object? */
bool scan_ended(const struct scan *s);

static inline const char *scan_skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* The first byte from p that is not plainly part of a text: a quote, a backslash, a control byte; with `ascii` one beyond it,
 * too. */
static inline const char *scan_plain(const char *p, const char *end, bool ascii)
{
	for (; end - p >= EIGHT; p += EIGHT) {
		uint64_t x = eight_at(p);
		uint64_t odd = eight_below(x, 0x20) | eight_is(x, '"') | eight_is(x, '\\') | (ascii ? eight_beyond_ascii(x) : 0);
		if (odd)
			return p + eight_first(odd);
	}
	while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\' && !(ascii && (unsigned char)*p >= 0x80))
		p++;
	return p;
}

/* What a value is, by its first byte. */
static inline bool scan_is_text(struct slice v)   { return v.len >= 2 && v.at[0] == '"'; }
static inline bool scan_is_object(struct slice v) { return v.len >= 2 && v.at[0] == '{'; }
static inline bool scan_is_array(struct slice v)  { return v.len >= 2 && v.at[0] == '['; }
static inline bool scan_is_true(struct slice v)   { return slice_is(v, SLICE("true")); }

/* Without its quotes, brackets or braces, and the space inside them. */
struct slice scan_inside(struct slice value);

/* The longest front of the inside of a JSON string, at most `most` bytes, that cuts no character or escape in two; one whole
 * character where even that is longer. */
size_t scan_text_cut(struct slice json_text, size_t most);

#endif
