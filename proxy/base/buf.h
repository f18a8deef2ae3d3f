/* buf.h - bytes: a slice lends them, a buf owns them and grows to a limit it was born with.
 *
 * Ownership  a slice never owns; whoever owns the bytes says how long they live. buf_fini() frees a buf's.
 * Limits     buf_add() past `limit` fails with ERR_TOO_LARGE and leaves the buf as it was.
 * Neither assumes a NUL at the end. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proxy/base/err.h"

struct slice {
	const char *at;
	size_t len;
};
#define SLICE_INIT(literal) { "" literal, sizeof(literal) - 1 }     /* where only constants may stand */
#define SLICE(literal) ((struct slice)SLICE_INIT(literal))

static inline struct slice slice_of(const char *at, size_t len)
{
	return (struct slice){ at, len };
}

static inline struct slice slice_text(const char *nul_ended)
{
	return (struct slice){ nul_ended, nul_ended ? strlen(nul_ended) : 0 };
}

static inline bool slice_is(struct slice s, struct slice t)
{
	return s.len == t.len && (s.len == 0 || memcmp(s.at, t.at, s.len) == 0);
}

/* Equal when ASCII case does not count (header names, media types). */
bool slice_is_nocase(struct slice s, struct slice t);

/* Without the spaces and tabs around it. */
struct slice slice_trim(struct slice s);

/* Takes the part before the next `sep` off *rest; false when nothing is left. Parts are trimmed. */
bool slice_next(struct slice *rest, char sep, struct slice *part);

/* A plain decimal number without sign, at most `most`. False if it is anything else. */
bool slice_number(struct slice s, uint64_t most, uint64_t *n);

struct buf {
	char *at;
	size_t len, room, limit;
};

static inline void buf_init(struct buf *b, size_t limit_bytes)
{
	*b = (struct buf){ .limit = limit_bytes };
}

void buf_fini(struct buf *b);                      /* frees; the buf is empty again, with its limit */
must_use enum err buf_reserve(struct buf *b, size_t more);   /* room for `more` bytes past len */
must_use enum err buf_add(struct buf *b, const void *bytes, size_t len);
must_use enum err buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_shrink(struct buf *b);                    /* gives back what is far more room than the bytes need */
void buf_fit(struct buf *b);                       /* all room that its bytes do not need */
void buf_cut(struct buf *b, size_t first);         /* drops the first bytes, keeps the rest */

static inline must_use enum err buf_put(struct buf *b, struct slice s)
{
	return buf_add(b, s.at, s.len);
}

static inline struct slice buf_slice(const struct buf *b)
{
	return (struct slice){ b->at, b->len };
}

/* Gives the bytes away: the caller frees them with free(). */
char *buf_take(struct buf *b, size_t *len);

/* Appends s as the inside of a JSON string (escaped, without the quotes). s must be UTF-8. */
must_use enum err buf_put_json(struct buf *b, struct slice s);

#endif
