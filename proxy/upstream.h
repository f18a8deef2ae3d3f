/* upstream.h - the upstreams' side of a worker: requests out, replies in.
 *
 * Ownership  upstream_start() returns a transfer that lives until on_end() has been called or upstream_cancel() has
 *            returned; what its request lends (target, headers, body) must live as long, or
 *            until transfer_sent().
 * Threads    the worker's loop.
 * Callbacks  on_head once, on_bytes any number of times, on_end once and last; none before upstream_start() has
 *            returned, none after upstream_cancel(). From inside them every call here is allowed.
 * Limits     a reply's head: UPSTREAM_HEAD_BYTES. Every wait (place, connection, first byte, silence) has a timer. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "proxy/base/alarm.h"
#include "proxy/hosts.h"
#include "proxy/metrics.h"
#include "proxy/server.h"

enum { UPSTREAM_HEAD_BYTES = 64 << 10 };

struct upstream;
struct transfer;

struct transfer_ops {
	void (*on_head)(struct transfer *t, int status);
	/* Returns false to pause: these were taken, and no more are read until upstream_resume(); what was read with them still
	 * comes. */
	bool (*on_bytes)(struct transfer *t, struct slice bytes);
	void (*on_end)(struct transfer *t, enum err e);
	/* Streamed bodies: fills to, returns how much; 0 is the end, UPLOAD_PAUSE waits for upstream_upload_more(). */
	size_t (*on_upload)(struct transfer *t, char *to, size_t max);
};
#define UPLOAD_PAUSE SIZE_MAX

struct transfer_request {
	const char *method;
	const char *target;                  /* path and query, raw */
	const struct header *headers;        /* without Host, Content-Length and hop-by-hop ones */
	size_t n_headers;
	struct slice body;                   /* a whole body; at NULL: none, or streamed */
	bool upload;                         /* streamed by on_upload */
	int64_t upload_length;               /* -1: chunked */
	bool uncounted;                      /* the proxy's own question, not a client's: left out of the metrics */
	bool bulk;                           /* a download in large pieces rather than a stream of small ones */
	host_set may;                        /* which upstreams; 0: all */
	int64_t connect_ms, first_byte_ms, idle_ms, max_in_flight;
};

struct transfer {                            /* read-only for owners, but for `owner` */
	void *owner;
	int status;                          /* 0 until on_head */
	int host;                            /* which upstream answers */
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
