/* peer.h - connections to the upstreams. libcurl makes them (names, addresses tried in turn, TLS); written to and read from they
 * are by their user. Unused ones are kept for the next, and watched: one the upstream has closed is gone by then.
 *
 * Ownership  peer_take() and peer_dial() lend a connection to its user, until peer_keep() or peer_close().
 * Threads    the worker's loop.
 * Callbacks  from the loop, never inside a call here; none after peer_keep() or peer_close(), which they may call.
 * Names      are kept for PEER_NAME_S, and looked up again for the next connection after one that failed.
 * Errors     of on_open(): UPSTREAM_DOWN; NO_DESCRIPTORS and NO_MEMORY, which are not the upstream's.
 * Limits     PEER_IDLE_MOST connections are kept unused, for PEER_IDLE_MS at most; making one has the time it is given. */
#ifndef PROXY_PEER_H
#define PROXY_PEER_H

#include <sys/uio.h>

#include "proxy/base/alarm.h"
#include "proxy/base/buf.h"
#include "proxy/hosts.h"

enum { PEER_IDLE_MOST = 256, PEER_IDLE_MS = 110000, PEER_NAME_S = 30 };
enum { PEER_READ = 1, PEER_WRITE = 2 };

struct peers;
struct peer;

struct peer_user {
	void (*on_open)(struct peer_user *u, enum err e);          /* after peer_dial(), once; failed, it is to be closed too */
	void (*on_ready)(struct peer_user *u, int events);         /* PEER_READ, PEER_WRITE: some of what is watched for */
};

/* Out of memory, at start, it ends the process. */
struct peers *peers_new(struct loop *loop, struct alarms *alarms, struct hosts *hosts);
void peers_free(struct peers *peers);            /* none may be lent; what is left to free follows from the loop */

/* The host's name as its requests write it (RFC 9110, 7.2). */
const char *peers_authority(const struct peers *peers, int host);
/* The path of its URL, without a slash at its end: it stands before the path of every request. */
const char *peers_base(const struct peers *peers, int host);

/* An unused connection to the host that is alive, as far as this end knows; NULL: none. */
struct peer *peer_take(struct peers *peers, int host, struct peer_user *user);
/* A new one; on_open() comes, after `ms` at the latest. NULL: out of memory. */
struct peer *peer_dial(struct peers *peers, int host, int64_t ms, struct peer_user *user);
void peer_keep(struct peer *peer);               /* for the next: its last reply was read whole */
void peer_close(struct peer *peer);

void peer_watch(struct peer *peer, int events);
/* As recv() and sendmsg() of a socket that does not wait: errno EAGAIN; what TLS has to say of an error is EPROTO. */
ssize_t peer_read(struct peer *peer, char *to, size_t max);
ssize_t peer_write(struct peer *peer, const struct iovec *parts, size_t n);

#endif
