/* entry.h - an answer as stored bytes: versioned, checksummed, the same in every store.
 *
 * Layout: head (magic, version, lengths, times, checksum of all the rest), then the strings listing shows,
 * then the answer's pieces. All numbers are little-endian. An unknown version or a wrong checksum is a miss. */
#ifndef CACHE_ENTRY_H
#define CACHE_ENTRY_H

#include "proxy/base/ask.h"

enum { ENTRY_QUESTION_MAX = 512, ENTRY_NAME_MAX = 512 };
/* entry_peek() needs no more than this from the front of an entry. */
enum { ENTRY_PEEK_BYTES = 128 + ENTRY_QUESTION_MAX + 3 * ENTRY_NAME_MAX };

struct entry_meta {
	int64_t created_ms, expires_ms;       /* wall clock */
	enum family family;
	bool stream;                          /* the reply it was made from was a stream */
	bool length;                          /* done_reason length: for exact hits only */
	bool has_model;
	uint32_t mark;                        /* entry_mark() of the key it is stored under: one in another's place is known by it */
	uint64_t eval_count, eval_ns, prompt_eval_ns;
	uint64_t sum;                         /* the checksum, when it was read: of two entries of one key it tells which */
	struct slice model;                   /* in full form */
	struct slice space;                   /* X-Cache-Namespace */
	struct slice question;                /* the first ENTRY_QUESTION_MAX bytes, cut at a character */
	struct slice content_type;            /* of the upstream's reply */
};

static inline uint32_t entry_mark(const uint8_t key[KEY_BYTES])
{
	return (uint32_t)key[0] | (uint32_t)key[1] << 8 | (uint32_t)key[2] << 16 | (uint32_t)key[3] << 24;
}

/* Appends the packed entry to out, the question cut to ENTRY_QUESTION_MAX. Errors: TOO_LARGE (also for a name past
 * ENTRY_NAME_MAX), NO_MEMORY; out is then as it was. */
must_use enum err entry_pack(struct buf *out, const struct entry_meta *m, struct slice pieces);

/* Checks and opens; meta and pieces point into raw. ERR_CORRUPT if it is not a whole entry of this version. */
must_use enum err entry_unpack(struct slice raw, struct entry_meta *m, struct slice *pieces);

/* The meta alone, from the first ENTRY_PEEK_BYTES (or fewer, if the entry is shorter); no checksum. */
must_use enum err entry_peek(struct slice front, struct entry_meta *m);

#endif
