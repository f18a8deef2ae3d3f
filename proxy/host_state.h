/* host_state.h - whether each upstream can be asked, since when, and why not; the log is told when that changes.
 *
 * A look at an upstream's models (check.c) decides. In between, a connection that cannot be made says that it is down, and a
 * reply of any kind that it can be connected to again.
 *
 * Threads  any. */
#ifndef PROXY_HOST_STATE_H
#define PROXY_HOST_STATE_H

#include "proxy/hosts.h"

enum { HOST_WHY_MAX = 240 };

enum host_cause {
	HOST_OK, HOST_NOT_ASKED,
	/* no connection */
	HOST_NO_NAME, HOST_REFUSED, HOST_UNREACHABLE, HOST_SLOW_CONNECT, HOST_TLS,
	/* a connection, but no list of models */
	HOST_SILENT, HOST_CLOSED, HOST_NOT_HTTP, HOST_STATUS, HOST_NO_LIST,
	HOST_CAUSES
};
extern const char *const host_cause_name[HOST_CAUSES];   /* one word, for programs */

struct host_state {
	bool up;
	enum host_cause cause;
	int64_t since_ms;                    /* wall clock */
	char why[HOST_WHY_MAX];              /* a clause without a full stop, for people; "" when up */
};

void host_up(struct hosts *h, size_t i);
void host_down(struct hosts *h, size_t i, enum host_cause cause, const char *detail);    /* detail may be NULL */
void host_replied(struct hosts *h, size_t i);
struct host_state host_state_of(struct hosts *h, size_t i);

/* For hosts.c alone. */
struct host_states;
struct host_states *host_states_new(size_t n);
void host_states_free(struct host_states *s);

#endif
