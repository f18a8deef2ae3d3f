/* upstream_private.h - what upstream.c and upstream_failure.c share. */
#ifndef PROXY_UPSTREAM_PRIVATE_H
#define PROXY_UPSTREAM_PRIVATE_H

#include "proxy/upstream.h"

struct private {
	struct transfer pub;                 /* first */
	struct upstream *u;
	struct transfer_request rq;
	const struct transfer_ops *ops;
	struct http http;
	struct host_ticket ticket;
	struct alarm alarm;
	bool over;                           /* the owner is not to be called any more */
	host_set tried;
	int refused;                         /* the status of the last host's reply; with it, it may have been sent on to another */
	bool again;                          /* a host that had the request failed, and it was sent to another */
	int64_t asked_at;                    /* loop_now(): of a host, or for a place */
	struct burial burial;
};

struct upstream {
	struct loop *loop;
	struct alarms *alarms;
	struct hosts *hosts;
	struct metrics *metrics;
	struct peers *peers;
	size_t n_transfers;
};

/* Does its outcome say how well the host's models are? */
bool transfer_tells(const struct private *t);

/* pub.why, for the error a transfer ends with. */
void failure_say_why(struct private *t, enum err e);
/* Is this error the host's, and not ours? */
bool failure_speaks_against(enum err e);
/* A status by which a host says that another may do better. */
bool failure_is_busy(int status);
/* The same, or that it has not what is sought. */
bool failure_refuses(const struct private *t, int status);
/* With others to choose from the host is passed over for a while. e ERR_OK: it replied with this status. */
void failure_hold_against(struct private *t, enum err e, int status);
/* The hosts that may be asked after this failure; none: it is final. e ERR_OK: the host replied, with t->refused. */
host_set failure_left(const struct private *t, enum err e);

#endif
