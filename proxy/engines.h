/* engines.h - what the upstreams' engines have loaded, and how long a context each model has there.
 *
 * GET /api/ps tells both of what is loaded; of what is not, POST /api/show tells the longest context it may have. Both are asked
 * off the path of any request, by one worker for all: a look at an upstream at most every ENGINE_LOOKS_APART_MS, and only when
 * somebody wants to know. Until then, and where an upstream does not answer, nothing is known, which is no error.
 *
 * Threads    all calls from any thread, but for those of the worker that looks.
 * Limits     ENGINE_MODELS models at each upstream, the least lately wanted goes first; ENGINE_NAME_MAX; ENGINE_CALL_MS a call. */
#ifndef PROXY_ENGINES_H
#define PROXY_ENGINES_H

#include "proxy/base/ask.h"
#include "proxy/base/alarm.h"
#include "proxy/hosts.h"
#include "proxy/http.h"

enum { ENGINE_MODELS = 64, ENGINE_NAME_MAX = 256, ENGINE_LOOKS_APART_MS = 2000, ENGINE_KNOWN_MS = 30000, ENGINE_CALL_MS = 10000 };

struct engines;
struct worker;

struct engines *engines_new(struct hosts *hosts);
void engines_free(struct engines *e);

/* The context will be asked for: looks, unless one has told lately. The digest is that of the model at these hosts. */
void engines_want_context(struct engines *e, host_set hosts, struct slice model_full, const char *digest);
/* In tokens; 0: not known. */
uint64_t engines_context(struct engines *e, int host, const char *digest);

/* ---- the worker that looks ---- */

void engines_start(struct engines *e, struct worker *w);
void engines_stop(struct engines *e);            /* the loop must run on for a turn */
/* Who is told whenever a look has ended. */
void engines_on_look(struct engines *e, void (*call)(void *arg), void *arg);
/* Has a look ended in the last so many milliseconds, whichever way? Else one is on its way when this returns. */
bool engines_looked(struct engines *e, int host, int64_t within_ms);
/* By the last look; false too where that failed. */
bool engines_loaded(struct engines *e, int host, const char *digest);
/* What the last look told of what is loaded is over. */
void engines_changed(struct engines *e, int host);

/* A request of the proxy's own to one upstream, which has ENGINE_CALL_MS as a whole. done() comes from the loop, once, unless the
 * call is stopped: with the reply's status, 0 if none came whole. */
struct engine_call {
	void (*done)(struct engine_call *c, int status);     /* the caller's */
	size_t most;                         /* bytes of the reply that are kept; one that is longer is no answer; 0: none is */
	struct worker *w;                    /* the rest is its own */
	struct transfer *transfer;           /* NULL: none is under way */
	struct buf request, reply;
	struct alarm limit;
	bool too_long;
};
/* request: taken over; empty for a GET. counted: as a client's, in the metrics. */
void engine_call_begin(struct engine_call *c, struct worker *w, int host, const char *target, struct buf *request, bool counted);
void engine_call_stop(struct engine_call *c);

#endif
