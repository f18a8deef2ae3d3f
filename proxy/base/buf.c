/* buf.c - slices and growing buffers; see buf.h. */
#include "proxy/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_LEAST = 128, BUF_DOUBLES = 32 << 10, BUF_HUGE = 1 << 20, BUF_LARGE = 64 << 10 };

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool slice_is_nocase(struct slice s, struct slice t)
{
	if (s.len != t.len)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] != t.at[i] && lower(s.at[i]) != lower(t.at[i]))
			return false;
	return true;
}

struct slice slice_trim(struct slice s)
{
	while (s.len && (s.at[0] == ' ' || s.at[0] == '\t'))
		s.at++, s.len--;
	while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	return s;
}

bool slice_next(struct slice *rest, char sep, struct slice *part)
{
	if (!rest->at)
		return false;
	const char *end = rest->len ? memchr(rest->at, sep, rest->len) : NULL;
	size_t len = end ? (size_t)(end - rest->at) : rest->len;

	*part = slice_trim(slice_of(rest->at, len));
	*rest = end ? slice_of(end + 1, rest->len - len - 1) : (struct slice){ 0 };
	return true;
}

bool slice_number(struct slice s, uint64_t most, uint64_t *n)
{
	uint64_t v = 0;

	if (s.len == 0 || s.len > 19)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s.at[i] - '0');
	}
	*n = v;
	return v <= most;
}

void buf_fini(struct buf *b)
{
	free(b->at);
	b->at = NULL;
	b->len = b->room = 0;
}

enum err buf_reserve(struct buf *b, size_t more)
{
	if (more > b->limit - b->len)
		return ERR_TOO_LARGE;
	if (b->len + more <= b->room)
		return ERR_OK;
	/* In between there may be thousands, each with what it does not use; a huge one grown in small steps leaves the heap
	 * with holes of every size it had. */
	size_t room = b->room ? b->room : BUF_LEAST;
	while (room < b->len + more)
		room += room < BUF_DOUBLES || room >= BUF_HUGE ? room : room / 4;
	if (room > b->limit)
		room = b->limit;
	char *at = realloc(b->at, room);
	if (!at)
		return ERR_NO_MEMORY;
	b->at = at;
	b->room = room;
	return ERR_OK;
}

enum err buf_add(struct buf *b, const void *bytes, size_t len)
{
	if (len == 0)
		return ERR_OK;
	enum err e = buf_reserve(b, len);
	if (e)
		return e;
	memcpy(b->at + b->len, bytes, len);
	b->len += len;
	return ERR_OK;
}

enum err buf_addf(struct buf *b, const char *format, ...)
{
	char small[256];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(small, sizeof small, format, args);
	va_end(args);
	if (len < 0)
		return ERR_NO_MEMORY;
	if ((size_t)len < sizeof small)
		return buf_add(b, small, (size_t)len);
	enum err e = buf_reserve(b, (size_t)len + 1);     /* vsnprintf ends with a NUL, which is not kept */
	if (e)
		return e;
	va_start(args, format);
	vsnprintf(b->at + b->len, (size_t)len + 1, format, args);
	va_end(args);
	b->len += (size_t)len;
	return ERR_OK;
}

void buf_shrink(struct buf *b)
{
	if (b->room >= BUF_LARGE && b->len <= b->room / 4)
		buf_fit(b);
}

void buf_fit(struct buf *b)
{
	size_t room = b->len > BUF_LEAST ? b->len : BUF_LEAST;
	char *at = realloc(b->at, room);
	if (at) {
		b->at = at;
		b->room = room;
	}
}

void buf_cut(struct buf *b, size_t first)
{
	if (first >= b->len) {
		b->len = 0;
		return;
	}
	memmove(b->at, b->at + first, b->len - first);
	b->len -= first;
}

char *buf_take(struct buf *b, size_t *len)
{
	char *at = b->at;

	*len = b->len;
	b->at = NULL;
	b->len = b->room = 0;
	return at;
}

enum err buf_put_json(struct buf *b, struct slice s)
{
	size_t from = 0;
	enum err e = ERR_OK;

	for (size_t i = 0; i < s.len && !e; i++) {
		unsigned char c = (unsigned char)s.at[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		e = buf_add(b, s.at + from, i - from);
		from = i + 1;
		if (e)
			break;
		if (c == '"' || c == '\\')
			e = buf_add(b, (char[]){ '\\', (char)c }, 2);
		else if (c == '\n')
			e = buf_add(b, "\\n", 2);
		else
			e = buf_addf(b, "\\u%04x", c);
	}
	return e ? e : buf_add(b, s.at + from, s.len - from);
}
