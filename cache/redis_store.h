/* redis_store.h - the Redis store's insides, shared by store_redis.c, redis_walk.c and redis_count.c and by nobody else. */
#ifndef CACHE_REDIS_STORE_H
#define CACHE_REDIS_STORE_H

#include <stdatomic.h>

#include "cache/near.h"
#include "cache/redis_ear.h"
#include "cache/redis_link.h"

enum { OPS_MAX = 20000, ARGS_MAX = 10, PREFIX_MAX = 256, KEY_HEX = 2 * KEY_BYTES, NAME_BYTES = PREFIX_MAX + KEY_HEX + 1 };

enum { COUNT_EVERY_MS = 2000 };

struct redis {
	struct store store;
	struct redis_url url;
	char *prefix;
	size_t prefix_len;
	int64_t timeout_ms, retry_ms;
	_Atomic int64_t counted_at;           /* when a link last asked for the numbers below */
	_Atomic int links_down;               /* of those attached */
	_Atomic uint64_t changes;             /* of this process' links: counted when sent and when answered */
	_Atomic uint64_t entries, bytes;
};

struct store_link {
	struct redis_link redis;              /* first: found back by its address */
	struct redis_ear ear;
	struct redis *store;
	struct redis_op *ops;                 /* under way, for detach */
	size_t n_ops;
	uv_timer_t counter, later;
	struct redis_call count_call[3];
	int counting;                         /* of those calls, how many are under way */
	bool was_up;
	int open_handles;
};

/* One operation: one or more calls whose replies it gathers. */
struct redis_op {
	struct redis_op *prev, *next;
	struct store_link *link;
	struct redis_call call[3];
	int left;                             /* replies still to come */
	void (*end)(struct redis_op *);       /* when all have come; frees the operation */
	bool ok, refused;

	struct store_get *get;                /* NULL: cancelled */
	enum store_news news;
	void (*done)(void *arg, bool ok);
	void *arg;
	struct redis_scan *scan;
};

struct command {
	int n;
	const char *at[ARGS_MAX];
	size_t len[ARGS_MAX];
};
void command_add(struct command *c, const void *at, size_t len);
void command_word(struct command *c, const char *text);

void redis_failed(struct redis *s);           /* counts a failure */
void redis_changed(struct redis *s);          /* something was put or dropped: counts it for version() */

/* prefix + key in hex; returns its length. And back, from the hex. */
size_t redis_entry_name(const struct redis *s, char to[NAME_BYTES], const uint8_t key[KEY_BYTES]);
bool redis_key_read(uint8_t key[KEY_BYTES], const char *from, size_t len);

struct redis_op *redis_op_new(struct store_link *l, void (*end)(struct redis_op *));   /* NULL: down, full, or no memory */
void redis_op_free(struct redis_op *op);
void redis_op_replied(struct redis_op *op);   /* one reply less; the last one ends the operation */
bool redis_op_send(struct redis_op *op, struct redis_call *call, void (*done)(struct redis_call *, const redisReply *),
		   const struct command *c);
void redis_op_refuse(struct redis_op *op);    /* ends it in the loop's next turn */

/* Whether a reply is an error, or none; looks after what the error asks for. */
bool redis_is_error(struct store_link *l, const redisReply *r);

void redis_count(struct store_link *l);       /* asks how many entries there are, and how large, unless another link just did */

void redis_walk(struct store_link *l, struct store_walk *w);
void redis_scan_free(struct redis_scan *scan);

#endif
