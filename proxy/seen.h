/* seen.h - a worker's memory of raw requests: what a body came to when it was parsed, by a mark of its bytes.
 *
 * Parsing and writing the canonical form cost more than all the rest of a hit; a request seen before, byte for byte,
 * needs neither. A line holds only while the configuration and the models' digests are the same. It may also hold the
 * reply that was given, to be given again within the second while the store has not changed, or says the same again.
 * Limits  SEEN_LINES lines, each in one place given by its mark: a newer one takes the place; replies of
 *         SEEN_REPLIES_BYTES in all. */
#ifndef PROXY_SEEN_H
#define PROXY_SEEN_H

#include "proxy/base/ask.h"
#include "proxy/server.h"

enum { SEEN_MARK = 16, SEEN_LINES = 8192, SEEN_BODY_MAX = 64 << 10, SEEN_MODEL_MAX = 80, SEEN_REPLIES_BYTES = 4 << 20 };

/* A reply as it was sent. Its Date, Age and ttl speak of one second, and so it is good for no longer. */
struct seen_reply {
	struct reply *reply;         /* NULL: none */
	size_t bytes;
	uint64_t version;            /* of the store, before it was asked; 0: not known */
	uint64_t sum;                /* of the entry it was made from */
	int64_t second;              /* of the wall clock */
	int64_t expires_ms;
	uint64_t place;              /* of the entry in the store */
	uint64_t tokens, ns;         /* that giving it saves */
};

struct seen_line {
	uint8_t mark[SEEN_MARK];
	uint8_t key[KEY_BYTES];
	uint64_t generation;         /* of the digests */
	const void *config;          /* the configuration it was made under: compared, never looked into */
	uint8_t stream, family;
	uint8_t model_len;           /* 0: the line is empty */
	char model[SEEN_MODEL_MAX];  /* for the reply, the inside of a JSON string */
	struct seen_reply again;
};

struct seen *seen_new(void);
void seen_free(struct seen *s);
void seen_clear(struct seen *s);     /* for a new configuration: its address may be that of one that is gone */
/* UMAC-128 (RFC 4418) under a key that is made at random for this table and never leaves it: by far cheaper than SHA-256, and
 * as hard to make two requests share a mark. */
void seen_mark(struct seen *s, const struct slice *parts, size_t n, uint8_t mark[SEEN_MARK]);
/* Lives until the next seen_add() or seen_clear(). */
struct seen_line *seen_find(struct seen *s, const uint8_t mark[SEEN_MARK], uint64_t generation, const void *config);
void seen_add(struct seen *s, const struct seen_line *line);         /* without a reply */
void seen_keep(struct seen *s, struct seen_line *line, const struct seen_reply *again);      /* takes the reply over */

#endif
