/* redis_ear.h - hears that keys under a prefix have changed in Redis, whoever changed them.
 *
 * What a server has said may be said again without asking it, as long as one is told of changes: Redis calls it
 * server-assisted client-side caching (CLIENT TRACKING, Redis 6). The ear is a connection beside the link's, subscribed
 * to the server's invalidation messages; the link's connection then asks that those of the prefix (BCAST) are sent there
 * (REDIRECT), which works with the protocol hiredis 0.14 speaks. A server that knows no tracking, or forbids it to this
 * user, leaves the ear deaf, and nothing else changes.
 *
 * Between a change and its message there is the way from the server to here, and a network cut goes unnoticed until the
 * link's calls do: whoever trusts the ear for longer than he can bear to be wrong needs a bound of his own.
 *
 * Threads  the link's loop. */
#ifndef CACHE_REDIS_EAR_H
#define CACHE_REDIS_EAR_H

#include "cache/redis_link.h"

enum { EAR_BYTES = 2048 };

struct redis_ear {
	/* the owner sets these */
	struct redis_link *link;
	const char *prefix;
	void (*closed)(struct redis_ear *);   /* after redis_ear_end(): the memory may go */

	/* its own */
	enum { EAR_CLOSED, EAR_OPENING, EAR_GREETING, EAR_ASKING, EAR_HEARS, EAR_CLOSING } stage;
	union { uv_handle_t handle; uv_stream_t stream; uv_tcp_t tcp; uv_pipe_t pipe; } at;
	uv_connect_t connecting;
	redisReader *reader;
	int greetings;                        /* replies still to come before it is subscribed */
	long long id;                         /* the server's name for its connection */
	struct redis_call call[2];            /* of the link's */
	int calls;                            /* how many of those are under way */
	uint64_t changes;
	bool refused, ending;
	char in[EAR_BYTES];
};

/* The link is up: begins to listen, unless it does or the server refused. May be called again and again. */
void redis_ear_open(struct redis_ear *e);
/* The link is down: what may have changed since is unknown. */
void redis_ear_close(struct redis_ear *e);
/* For good. closed() comes from the loop; false: nothing was open, it will not come. */
bool redis_ear_end(struct redis_ear *e);

/* Changes whenever something under the prefix may have; never a number it was before. 0: it does not hear, or has not yet
 * listened to what is there for it. */
uint64_t redis_ear_version(const struct redis_ear *e);

#endif
