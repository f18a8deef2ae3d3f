/* upstream.h - the upstreams' side of a worker: requests out, replies in.
 *
 * Ownership  upstream_start() returns a transfer that lives until on_end() has been called or upstream_cancel() has
 *            returned; what its request lends (target, headers, body) must live as long, or
 *            until transfer_sent().
 * Threads    the worker's loop.
 * Callbacks  on_head once, on_bytes any number of times, on_end once and last; none before upstream_start() has
 *            returned, none after upstream_cancel(). From inside them every call here is allowed.
 * Limits     a reply's head: UPSTREAM_HEAD_BYTES. Every wait (place, connection, first byte, the rest of
 *            the head, silence) has a timer. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "proxy/base/alarm.h"
#include "proxy/hosts.h"
#include "proxy/http.h"
#include "proxy/metrics.h"

enum { UPSTREAM_WHY_MAX = 512 };

struct upstream;
struct transfer;

struct transfer_ops {
	void (*on_head)(struct transfer *t, int status);
	/* Returns false to pause: these were taken, and no more are read until upstream_resume(); what was read with them still
	 * comes. */
	bool (*on_bytes)(struct transfer *t, struct slice bytes);
	void (*on_end)(struct transfer *t, enum err e);
	/* Streamed bodies: as http_ops'; UPLOAD_PAUSE waits for upstream_upload_more(). */
	size_t (*on_upload)(struct transfer *t, char *to, size_t max);
	bool (*on_rewind)(struct transfer *t);
	void (*on_queue)(struct transfer *t);        /* `queued` is another than before; may be NULL */
};

struct transfer {                            /* read-only for owners, but for `owner` */
	void *owner;
	int status;                          /* 0 until on_head */
	int host;                            /* which upstream answers */
	bool queued;                         /* it waits for a place at an upstream */
	char why[UPSTREAM_WHY_MAX];          /* what failed, where, in a sentence for people; empty: the error says it all */
	uint64_t bytes;
};

struct upstream *upstream_new(struct loop *loop, struct alarms *alarms, struct hosts *hosts, struct metrics *metrics);
void upstream_free(struct upstream *u);      /* every transfer must have ended */

/* NULL: out of memory. */
struct transfer *upstream_start(struct upstream *u, const struct transfer_request *rq, const struct transfer_ops *ops, void *owner);
void upstream_cancel(struct transfer *t);
void upstream_resume(struct transfer *t);
void upstream_upload_more(struct transfer *t);
/* The request has left whole and its reply has begun: what the request lends is read no more. */
bool transfer_sent(const struct transfer *t);

/* A header of the reply; {NULL, 0} if it is not there. Until the transfer ends. */
struct slice transfer_header(const struct transfer *t, const char *name);
void transfer_each_header(const struct transfer *t, void (*each)(void *arg, struct slice name, struct slice value), void *arg);

#endif
