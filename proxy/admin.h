/* admin.h - the endpoints of the proxy's own: /metrics and /ollacache/…
 *
 * Some answer anyone (numbers, health, the page), the others need admin.token or, without one, a client on this machine
 * that no web page can be speaking for. None ever sends CORS headers.
 *
 *   admin.c            which endpoint, who may, how a reply looks, a body that is wanted
 *   admin_query.c      what stands behind the ? of an address
 *   admin_state.c      metrics, stats, health, ready
 *   admin_cache.c      the list of entries, and purging them
 *   admin_entry.c      one entry
 *   admin_requests.c   what runs now, gathered from all workers
 *   admin_explain.c    what would be done with a request, and why
 *   admin_recent.c     the history, the last requests and semantic hits, sums by model and upstream
 *   admin_page.c       the dashboard
 *
 * Ownership  what an endpoint needs longer than one call begins with a struct own and hangs off its exchange, which frees
 *            it; who waits for a callback holds the exchange, so that it outlives a client that leaves.
 * Threads    the exchange's worker's. */
#ifndef PROXY_ADMIN_H
#define PROXY_ADMIN_H

#include "proxy/exchange.h"

enum {
	ADMIN_BODY_MAX = 4 << 20,            /* of a reply */
	EXPLAIN_BODY_MAX = 1 << 20,          /* of a request to explain */
	QUERY_VALUE_MAX = 512,               /* one value behind the ?, decoded */
	QUERY_NAME_MAX = 16,
	ADMIN_WHY_MAX = 200,
};

struct own {
	size_t body_max;                             /* 0: a body is dropped */
	void (*whole)(struct exchange *x);           /* the body is in x->body */
	void (*free)(struct own *own);
};

/* ---- what the endpoints share ---- */

/* Replies; body is taken over. */
void admin_reply(struct exchange *x, int status, const char *content_type, struct buf *body);
void admin_reply_json(struct exchange *x, struct buf *body, enum err e);     /* 200, or e's error; body is taken over */
void admin_error(struct exchange *x, enum err e, const char *text);          /* text NULL: the error's own */

/* Appends s as a JSON string with its quotes, whatever its bytes; what is not UTF-8 becomes U+FFFD. At most `most` bytes
 * of s, cut at a character; 0: all. */
must_use enum err admin_put_text(struct buf *out, struct slice s, size_t most);
must_use enum err admin_put_key(struct buf *out, const char *name, const uint8_t key[KEY_BYTES]);   /* "name":"hex" */

/* What no worker counts: store and upstreams, for metrics_*(). upstreams needs room for HOSTS_MAX. */
void admin_extra(struct shared *s, struct metrics_extra *extra, struct metrics_upstream *upstreams);

/* May this request use the endpoints that show or change what is stored? ERR_OK, NO_TOKEN or FORBIDDEN. */
enum err admin_may(const struct exchange *x);

/* ---- admin_query.c ---- */

struct query_value {
	const char *name;
	char *to;                            /* QUERY_VALUE_MAX + 1 bytes; "" if it is not there */
};
/* Takes a query apart: name=value&…, percent-decoded, + for a space. Every name must be one of the wanted, and stand once.
 * False with a sentence in why otherwise, and for what is no UTF-8, has a NUL in it, or is too long. */
bool query_read(struct slice query, const struct query_value *wanted, size_t n, char why[ADMIN_WHY_MAX]);
/* Does a pattern (* for anything, ? for one character) take the text? ASCII letters match in either case. At most
 * pattern times text steps. */
bool query_glob(const char *pattern, struct slice text);

/* ---- the endpoints ---- */

void admin_metrics(struct exchange *x);
void admin_stats(struct exchange *x);
void admin_health(struct exchange *x);
void admin_ready(struct exchange *x);
void admin_history(struct exchange *x);
void admin_recent(struct exchange *x);
void admin_cache_list(struct exchange *x);
void admin_cache_purge(struct exchange *x);
void admin_entry_get(struct exchange *x);            /* the id is what follows the last slash of the path */
void admin_entry_delete(struct exchange *x);
void admin_requests(struct exchange *x);
void admin_explain(struct exchange *x);
void admin_page(struct exchange *x);
void admin_redirect(struct exchange *x);

#endif
