/* entry.c - packing and opening stored answers; see entry.h.
 *
 *   0  magic "oce", version            56  family, flags                  70  length of pieces
 *   4  length of the whole             58  lengths of model, space,       74  model, space, question,
 *   8  checksum of all from 16 on          question, content type             content type, pieces
 *  16  created, expires                66  mark
 *  32  eval_count, eval_ns, prompt_eval_ns
 *
 * The checksum (XXH3, 64 bits) is there against torn pages and wrong bytes, not against somebody who forges: who can
 * write to the store can write any entry. A length is checked against what is there before it is used, so bytes
 * without a checksum (entry_peek) are harmless too. */
#include "cache/entry.h"

#include <xxhash.h>

enum { VERSION = 1, SUMMED_FROM = 16, HEAD = 74, STRINGS = 4 };
enum { FLAG_STREAM = 1, FLAG_LENGTH = 2, FLAG_HAS_MODEL = 4 };
static const char magic[4] = { 'o', 'c', 'e', VERSION };

_Static_assert(HEAD + ENTRY_QUESTION_MAX + 3 * ENTRY_NAME_MAX <= ENTRY_PEEK_BYTES, "a peek sees all strings");

static void number_write(char *at, uint64_t n, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (char)(n >> 8 * i);
}

static uint64_t number_read(const char *at, int bytes)
{
	uint64_t n = 0;

	for (int i = 0; i < bytes; i++)
		n |= (uint64_t)(unsigned char)at[i] << 8 * i;
	return n;
}

/* At most `most` bytes, not ending inside a UTF-8 character. */
static struct slice cut(struct slice s, size_t most)
{
	if (s.len <= most)
		return s;
	while (most > 0 && ((unsigned char)s.at[most] & 0xc0) == 0x80)
		most--;
	return slice_of(s.at, most);
}

enum err entry_pack(struct buf *out, const struct entry_meta *m, struct slice pieces)
{
	const struct slice strings[STRINGS] = { m->model, m->space, cut(m->question, ENTRY_QUESTION_MAX), m->content_type };
	char head[HEAD] = { 0 };
	size_t total = HEAD, from = out->len;
	enum err e = ERR_OK;

	for (int i = 0; i < STRINGS; i++) {
		if (strings[i].len > ENTRY_NAME_MAX)
			return ERR_TOO_LARGE;              /* a name cut short would be another name */
		number_write(head + 58 + 2 * i, strings[i].len, 2);
		total += strings[i].len;
	}
	if (pieces.len > UINT32_MAX - total)
		return ERR_TOO_LARGE;
	total += pieces.len;
	memcpy(head, magic, sizeof magic);
	number_write(head + 4, total, 4);
	number_write(head + 16, (uint64_t)m->created_ms, 8);
	number_write(head + 24, (uint64_t)m->expires_ms, 8);
	number_write(head + 32, m->eval_count, 8);
	number_write(head + 40, m->eval_ns, 8);
	number_write(head + 48, m->prompt_eval_ns, 8);
	head[56] = (char)m->family;
	head[57] = (char)((m->stream ? FLAG_STREAM : 0) | (m->length ? FLAG_LENGTH : 0) |
			  (m->has_model ? FLAG_HAS_MODEL : 0));
	number_write(head + 66, m->mark, 4);
	number_write(head + 70, pieces.len, 4);

	e = buf_reserve(out, total);
	if (!e)
		e = buf_add(out, head, sizeof head);
	for (int i = 0; i < STRINGS && !e; i++)
		e = buf_put(out, strings[i]);
	if (!e)
		e = buf_put(out, pieces);
	if (!e)
		number_write(out->at + from + 8, XXH3_64bits(out->at + from + SUMMED_FROM, total - SUMMED_FROM), 8);
	return e;
}

/* Reads head and strings; *end is where the strings end. */
static bool front_read(struct slice raw, struct entry_meta *m, size_t *end)
{
	struct slice *strings[STRINGS] = { &m->model, &m->space, &m->question, &m->content_type };
	size_t at = HEAD;

	if (raw.len < HEAD || memcmp(raw.at, magic, sizeof magic) != 0)
		return false;
	unsigned char family = (unsigned char)raw.at[56], flags = (unsigned char)raw.at[57];
	if (family >= FAMILY_COUNT)
		return false;
	*m = (struct entry_meta){
		.created_ms = (int64_t)number_read(raw.at + 16, 8),
		.expires_ms = (int64_t)number_read(raw.at + 24, 8),
		.eval_count = number_read(raw.at + 32, 8),
		.eval_ns = number_read(raw.at + 40, 8),
		.prompt_eval_ns = number_read(raw.at + 48, 8),
		.sum = number_read(raw.at + 8, 8),
		.family = (enum family)family,
		.stream = flags & FLAG_STREAM,
		.length = flags & FLAG_LENGTH,
		.has_model = flags & FLAG_HAS_MODEL,
		.mark = (uint32_t)number_read(raw.at + 66, 4),
	};
	for (int i = 0; i < STRINGS; i++) {
		size_t len = number_read(raw.at + 58 + 2 * i, 2);
		if (len > ENTRY_NAME_MAX || len > raw.len - at)
			return false;
		*strings[i] = slice_of(raw.at + at, len);
		at += len;
	}
	*end = at;
	return number_read(raw.at + 4, 4) == at + number_read(raw.at + 70, 4);
}

enum err entry_unpack(struct slice raw, struct entry_meta *m, struct slice *pieces)
{
	size_t end;

	if (!front_read(raw, m, &end) || number_read(raw.at + 4, 4) != raw.len)
		return ERR_CORRUPT;
	if (XXH3_64bits(raw.at + SUMMED_FROM, raw.len - SUMMED_FROM) != m->sum)
		return ERR_CORRUPT;
	*pieces = slice_of(raw.at + end, raw.len - end);
	return ERR_OK;
}

enum err entry_peek(struct slice front, struct entry_meta *m)
{
	size_t end;

	return front_read(front, m, &end) ? ERR_OK : ERR_CORRUPT;
}
