/* bytes.h - inside scoring/ only: small questions about bytes, for the files that look for final answers. */
#ifndef SCORING_BYTES_H
#define SCORING_BYTES_H

#include "proxy/base/buf.h"

static inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A byte of a word: ASCII letters and digits, and all of other alphabets. */
static inline bool is_word(char c)
{
	return is_digit(c) || (c | 32) - 'a' + 0u < 26u || (unsigned char)c >= 0x80;
}

static inline struct slice last_bytes(struct slice s, size_t most)
{
	if (s.len <= most)
		return s;
	s.at += s.len - most;
	s.len = most;
	while (s.len && ((unsigned char)s.at[0] & 0xc0) == 0x80)
		s.at++, s.len--;
	return s;
}

static inline struct slice from_byte(struct slice s, size_t i)
{
	return i < s.len ? slice_of(s.at + i, s.len - i) : slice_of(s.at + s.len, 0);
}

static inline bool starts(struct slice s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.at, with, len) == 0;
}

/* Case away, byte for byte: a letter whose other case has another length stays, so that a place in the folded
 * text is the same place in the text. `to` has room for s.len bytes. */
void bytes_fold(struct slice s, char *to);

#endif
