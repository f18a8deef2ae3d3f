/* ask.c - the pieces of an answer, and JSON text to UTF-8; see ask.h.
 *
 * Pieces are written once and read in order, so they are a flat run of bytes: no pointers, nothing to free one by
 * one, and the very bytes that are stored. Text that arrives token by token grows the last piece in place: only its
 * length is rewritten. */
#include "proxy/base/ask.h"

#include "proxy/base/scan.h"

enum { PIECE_HEAD = 5 };              /* kind, then the length in 32 bits */

const char *const family_name[FAMILY_COUNT] = {
	[FAMILY_CHAT] = "chat",
	[FAMILY_GENERATE] = "generate",
	[FAMILY_EMBED] = "embed",
	[FAMILY_EMBEDDINGS] = "embeddings",
};

void answer_init(struct answer *a, size_t limit_bytes)
{
	*a = (struct answer){ 0 };
	buf_init(&a->pieces, limit_bytes);
	buf_init(&a->error, limit_bytes);
}

void answer_fini(struct answer *a)
{
	buf_fini(&a->pieces);
	buf_fini(&a->error);
}

static uint32_t length_read(const char *at)
{
	const unsigned char *b = (const unsigned char *)at;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void length_write(char *at, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		at[i] = (char)(n >> 8 * i);
}

static bool is_text(enum piece_kind kind)
{
	return kind == PIECE_THINKING || kind == PIECE_CONTENT;
}

/* The length of the last piece if text of this kind may be added to it, else -1. What is remembered in `last` is
 * checked against the bytes, as pieces may also have been put there whole, from a stored entry. */
static int64_t grows(const struct answer *a, enum piece_kind kind)
{
	if (!is_text(kind) || a->pieces.len < PIECE_HEAD || a->last > a->pieces.len - PIECE_HEAD)
		return -1;
	const char *head = a->pieces.at + a->last;
	uint32_t len = length_read(head + 1);
	return head[0] == (char)kind && a->last + PIECE_HEAD + len == a->pieces.len ? (int64_t)len : -1;
}

enum err answer_add(struct answer *a, enum piece_kind kind, struct slice bytes)
{
	char head[PIECE_HEAD] = { (char)kind };
	enum err e;

	if (bytes.len == 0 && is_text(kind))
		return ERR_OK;
	if (bytes.len > UINT32_MAX)
		return ERR_TOO_LARGE;
	int64_t before = grows(a, kind);
	if (before >= 0) {
		if (bytes.len > UINT32_MAX - (uint64_t)before)
			return ERR_TOO_LARGE;
		e = buf_put(&a->pieces, bytes);
		if (!e)
			length_write(a->pieces.at + a->last + 1, (uint32_t)((uint64_t)before + bytes.len));
		return e;
	}
	if (bytes.len > SIZE_MAX - PIECE_HEAD)
		return ERR_TOO_LARGE;
	e = buf_reserve(&a->pieces, PIECE_HEAD + bytes.len);
	if (e)
		return e;
	size_t at = a->pieces.len;
	length_write(head + 1, (uint32_t)bytes.len);
	e = buf_add(&a->pieces, head, sizeof head);
	if (!e)
		e = buf_put(&a->pieces, bytes);
	if (!e)
		a->last = at;
	return e;
}

bool pieces_next(struct slice pieces, size_t *at, enum piece_kind *kind, struct slice *bytes)
{
	if (*at > pieces.len || pieces.len - *at < PIECE_HEAD)
		return false;
	const char *head = pieces.at + *at;
	uint32_t len = length_read(head + 1);
	unsigned char k = (unsigned char)head[0];
	if (k == 0 || k >= PIECE_KINDS || len > pieces.len - *at - PIECE_HEAD)
		return false;
	*kind = (enum piece_kind)k;
	*bytes = slice_of(head + PIECE_HEAD, len);
	*at += PIECE_HEAD + len;
	return true;
}

static enum err put_piece(struct buf *out, enum piece_kind kind, struct slice bytes)
{
	char head[PIECE_HEAD] = { (char)kind };

	length_write(head + 1, (uint32_t)bytes.len);
	enum err e = buf_add(out, head, sizeof head);
	return e ? e : buf_put(out, bytes);
}

enum err pieces_split(struct slice pieces, size_t most, struct buf *out)
{
	size_t at = 0, from = out->len;
	enum piece_kind kind;
	struct slice rest;
	enum err e = ERR_OK;

	while (!e && pieces_next(pieces, &at, &kind, &rest)) {
		while (!e && is_text(kind) && rest.len > most) {
			size_t cut = scan_text_cut(rest, most);
			e = put_piece(out, kind, slice_of(rest.at, cut));
			rest = slice_of(rest.at + cut, rest.len - cut);
		}
		e = e ? e : put_piece(out, kind, rest);
	}
	if (e)
		out->len = from;
	return e;
}

enum err pieces_part(struct slice pieces, size_t *at, size_t *in, size_t most, struct buf *out)
{
	size_t next = *at, left = most;
	enum piece_kind kind;
	struct slice bytes;
	enum err e = ERR_OK;

	while (!e && pieces_next(pieces, &next, &kind, &bytes)) {
		struct slice rest = slice_of(bytes.at + *in, bytes.len - *in);
		if (rest.len > left && left < most)
			break;               /* it fits better behind */
		if (is_text(kind) && rest.len > left)
			rest.len = scan_text_cut(rest, left);
		e = put_piece(out, kind, rest);
		*in += rest.len;
		if (*in < bytes.len || rest.len > left)
			left = 0;
		else
			left -= rest.len;
		if (*in < bytes.len)
			break;
		*at = next;
		*in = 0;
	}
	return e;
}

enum err pieces_text(struct slice pieces, enum piece_kind kind, struct buf *out)
{
	size_t at = 0, from = out->len;
	enum piece_kind k;
	struct slice bytes;
	enum err e = ERR_OK;

	while (!e && pieces_next(pieces, &at, &k, &bytes))
		if (k == kind)
			e = json_decode_text(bytes, out);
	if (e)
		out->len = from;
	return e;
}

/* Four hex digits; -1 if they are not. */
static int32_t hex4(const char *at)
{
	int32_t n = 0;

	for (int i = 0; i < 4; i++) {
		char c = at[i];
		int digit = c >= '0' && c <= '9' ? c - '0' :
			    c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			    c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (digit < 0)
			return -1;
		n = n << 4 | digit;
	}
	return n;
}

size_t utf8_write(char out[4], uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(lead[n] | c);
	return n;
}

size_t json_escape_read(struct slice s, uint32_t *c)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

	if (s.len < 2)
		return 0;
	if (s.at[1] != 'u') {
		const char *known = memchr(from, s.at[1], sizeof from - 1);
		if (!known)
			return 0;
		*c = (unsigned char)to[known - from];
		return 2;
	}
	int32_t unit = s.len < 6 ? -1 : hex4(s.at + 2);
	if (unit < 0)
		return 0;
	*c = (uint32_t)unit;
	if (unit < 0xd800 || unit >= 0xdc00)
		return 6;
	int32_t low = s.len >= 12 && s.at[6] == '\\' && s.at[7] == 'u' ? hex4(s.at + 8) : -1;
	if (low < 0xdc00 || low >= 0xe000)
		return 6;
	*c = 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
	return 12;
}

enum err json_decode_text(struct slice json, struct buf *out)
{
	size_t from = out->len;
	enum err e = ERR_OK;

	while (json.len && !e) {
		const char *escape = memchr(json.at, '\\', json.len);
		size_t plain = escape ? (size_t)(escape - json.at) : json.len, took = 0;
		uint32_t c = 0;
		char utf8[4];

		e = buf_add(out, json.at, plain);
		json = slice_of(json.at + plain, json.len - plain);
		if (e || json.len == 0)
			break;
		took = json_escape_read(json, &c);
		if (c >= 0xd800 && c < 0xe000)
			c = 0xfffd;                            /* half of a pair: only high then low means something */
		e = took ? buf_add(out, utf8, utf8_write(utf8, c)) : ERR_BAD_JSON;
		json = slice_of(json.at + took, json.len - took);
	}
	if (e)
		out->len = from;
	return e;
}
