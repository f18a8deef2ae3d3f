/* redis_health.h - what of a Redis server works, as all links of this process see it, and the log lines about that.
 *
 * A server can be away, or refuse a part of what is asked: reading, writing, near questions, or the index that counts and
 * lists. Each part is told once when it ceases to work, with the cause and what to do, and once when it works again; the
 * same refusal at most once in SAY_AGAIN_MS, so that what comes and goes does not fill the log. What near questions and the
 * index are refused is not asked for again until REFUSED_MS later: a user who may only GET, SET and DEL costs no failures.
 *
 * Threads  any. A part that works costs its callers one atomic read. */
#ifndef CACHE_REDIS_HEALTH_H
#define CACHE_REDIS_HEALTH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/store.h"

enum redis_part {
	REDIS_PART_LINK,                      /* it answers at all */
	REDIS_PART_READ, REDIS_PART_WRITE,
	REDIS_PART_NEAR_LINK, REDIS_PART_NEAR,
	REDIS_PART_INDEX, REDIS_PART_LIST,
	REDIS_PARTS
};

enum redis_kind {                             /* of what a server says instead of an answer */
	REDIS_KIND_NOPERM, REDIS_KIND_NOAUTH, REDIS_KIND_WRONGPASS, REDIS_KIND_OOM, REDIS_KIND_READONLY, REDIS_KIND_MISCONF,
	REDIS_KIND_LOADING, REDIS_KIND_BUSY, REDIS_KIND_MASTERDOWN, REDIS_KIND_NOREPLICAS, REDIS_KIND_DENIED, REDIS_KIND_CLUSTER,
	REDIS_KIND_UNKNOWN,                   /* a command, or a function, that it does not have */
	REDIS_KIND_OTHER,                     /* of this one command and not of the server, or no connection */
	REDIS_KINDS
};
enum redis_kind redis_kind_of(const char *error);

struct redis_health {
	pthread_mutex_t lock;
	_Atomic unsigned failing;             /* bits 1 << part */
	struct {
		int64_t since_ms;
		int64_t said_ms[REDIS_KINDS];  /* when a cause of this kind was last told; 0: never */
		bool told;                    /* that it fails: so it is told when it works again */
		char cause[STORE_CAUSE_MAX];
		_Atomic int64_t again_ms;     /* not asked for before; 0: at any time */
	} part[REDIS_PARTS];
	char name[160];                       /* of the server, for the log */
};

void redis_health_init(struct redis_health *h, const char *name);
void redis_health_fini(struct redis_health *h);

/* A part does not work, for what the server said or what became of the connection. True: it did until now. */
bool redis_health_fails(struct redis_health *h, enum redis_part part, const char *cause);
void redis_health_works(struct redis_health *h, enum redis_part part);
/* Whether to ask for this part at all now; after a refusal one of many callers is told so once in REFUSED_MS. */
bool redis_health_asks(struct redis_health *h, enum redis_part part);

/* Fills up, cause and since_ms: the gravest of what does not work. */
void redis_health_state(struct redis_health *h, struct store_state *state);

#endif
