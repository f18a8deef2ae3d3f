/* redis_link.h - one loop's connection to Redis: found, kept, given up, found again.
 *
 * A link is up or down. Up: calls are sent and answered in order. One that is not answered within timeout_ms ends the
 * connection: what is late once is late for all behind it, and a frozen server must cost each request one wait at most.
 * All calls under way then get no reply, the link is down, and tries again by itself with backoff. It is up again only
 * when a new connection has answered PING.
 *
 * Ownership  a call is embedded in its owner and lives until its done() or redis_link_close().
 * Threads    the loop's own.
 * Order      done() comes in the order of sending; never before redis_send() has returned. */
#ifndef CACHE_REDIS_LINK_H
#define CACHE_REDIS_LINK_H

#include <hiredis/async.h>

#include "cache/redis_url.h"
#include "proxy/base/loop.h"

struct redis_call {
	struct redis_call *next;
	int64_t due;
	void (*done)(struct redis_call *, const redisReply *);   /* no reply: NULL. The reply is the link's */
};

enum redis_stage { REDIS_DOWN, REDIS_SENTINEL, REDIS_CONNECTING, REDIS_GREETING, REDIS_UP };

struct redis_link {
	/* the owner sets these */
	const struct redis_url *url;
	int64_t timeout_ms, retry_ms;
	const char *function;                 /* source of a library to load on connecting; NULL: none */
	/* It is up (why is NULL), or a connection was lost or could not be made. */
	void (*changed)(struct redis_link *, const char *why);
	void (*loaded)(struct redis_link *, const char *refusal);   /* the library is there; or not, for this reason */
	void (*closed)(struct redis_link *);  /* after redis_link_close(): the memory may go */

	/* its own */
	struct loop *loop;
	struct redis_conn *conn;
	struct redis_call *doomed;            /* of a connection just lost, still to be told */
	struct redis_resolve *resolve;
	enum redis_stage stage;
	uv_timer_t timer;                     /* deadline of what is under way, or the pause before the next try */
	int64_t pause_ms;
	size_t attempt;                       /* which host, which of its addresses */
	bool closing, has_function, loading;
	struct redis_call greet[6];
};

void redis_link_open(struct redis_link *l, struct loop *loop);
void redis_link_close(struct redis_link *l);   /* calls under way are forgotten: no done() */

static inline bool redis_link_up(const struct redis_link *l)
{
	return l->stage == REDIS_UP;
}

/* Queues a command; redis_link_flush() sends. False: the link is down, or no memory. */
bool redis_send(struct redis_link *l, struct redis_call *call, int argc, const char **argv, const size_t *lens);
/* The same with words that end with a NUL, eight at most. */
bool redis_send_words(struct redis_link *l, struct redis_call *call, int argc, const char **argv);
void redis_link_flush(struct redis_link *l);

/* Where its connection leads: an address, or the path of a unix socket, which is then not NULL. 0, or -1 when there is none. */
struct sockaddr_storage;
int redis_link_peer(const struct redis_link *l, struct sockaddr_storage *address, const char **path);

/* The library is gone from the server (a flush, a restart without persistence), or was refused: loads it again. */
void redis_link_reload(struct redis_link *l);

/* Down and between two tries: tries at once. */
void redis_link_hurry(struct redis_link *l);

/* Ends this connection and looks for another: a master that has become a replica. */
void redis_link_drop(struct redis_link *l, const char *why);

#endif
