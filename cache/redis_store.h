/* redis_store.h - the Redis store's insides, shared by store_redis.c, redis_near.c, redis_walk.c and
 * redis_count.c and by nobody else. */
#ifndef CACHE_REDIS_STORE_H
#define CACHE_REDIS_STORE_H

#include <stdatomic.h>

#include "cache/near.h"
#include "cache/redis_ear.h"
#include "cache/redis_health.h"
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
	_Atomic int links, links_down;        /* attached; of those, not up */
	_Atomic bool load_refused;            /* the last time the library was loaded */
	struct redis_health health;
	_Atomic uint64_t changes;             /* of this process' links: counted when sent and when answered */
	_Atomic uint64_t entries, bytes;
};

/* Looking for near questions, on a connection of its own: what is asked there waits for nobody but its like. One look-up is
 * under way at a time, the others wait here; each no longer than redis.timeout. */
struct redis_near {
	struct redis_link link;
	struct redis_call call;
	bool asking;                          /* the call is under way */
	struct redis_op *asked;               /* for whom; NULL: nobody waits for it any more */
	struct redis_op *first, **last;       /* who waits, in the order of coming */
	size_t n;
	unsigned lost;                        /* connections, since it was last up */
	uv_timer_t late;                      /* the first of them all has waited long enough */
};

struct store_link {
	struct redis_link redis;              /* first: found back by its address */
	struct redis_near near;
	struct redis_ear ear;
	struct redis *store;
	bool stopping;                        /* its connections are cut by ourselves: nothing to be told */
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

	enum { NEAR_NONE, NEAR_WAITS, NEAR_ASKED } near;
	struct redis_op *near_next;
	int64_t near_due;

	struct store_get *get;                /* NULL: cancelled, or told */
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

/* Whether a reply is an error, or none; counts it, and notes what it says of this part of the server. */
bool redis_is_error(struct store_link *l, enum redis_part part, const redisReply *r);

/* prefix + "near:{" + scope in hex, 16 bytes of it, + "}"; returns its length. */
enum { SCOPE_BYTES = PREFIX_MAX + 64 };
size_t redis_scope_name(const struct redis *s, char to[SCOPE_BYTES], const uint8_t scope[KEY_BYTES]);

/* redis_near.c */
void redis_near_open(struct store_link *l, struct loop *loop);
void redis_near_close(struct store_link *l);  /* before its operations are freed */
bool redis_near_asks(const struct store_link *l);     /* whether there is any sense in asking, and in posting */
/* What op->get asks for is looked for; op->left counts it until it has ended, however it ends. */
void redis_near_begin(struct redis_op *op);
void redis_near_leave(struct redis_op *op);   /* it is not wanted any more; op->left is the caller's to mend */
void redis_near_again(struct store_link *l);  /* now and then: what was refused may be allowed by now */

void redis_count(struct store_link *l);       /* asks how many entries there are, and how large, unless another link just did */

void redis_walk(struct store_link *l, struct store_walk *w);
void redis_scan_free(struct redis_scan *scan);

/* Callbacks of links, for store_redis.c and redis_near.c. */
void redis_handle_closed(struct store_link *l);       /* the last one frees the link */
void redis_on_loaded(struct store_link *l, const char *refusal);

#endif
