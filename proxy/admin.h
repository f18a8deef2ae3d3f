/* admin.h - the endpoints of the proxy's own: /metrics and /ollacache/…
 *
 * Some answer anyone (numbers, health), the others need admin.token or, without one, a client on this machine that no
 * web page can be speaking for. None ever sends CORS headers. */
#ifndef PROXY_ADMIN_H
#define PROXY_ADMIN_H

#include "proxy/exchange.h"

enum { ADMIN_BODY_MAX = 4 << 20 };

/* Replies; body is taken over. */
void admin_reply(struct exchange *x, int status, const char *content_type, struct buf *body);

/* What no worker counts: store and upstreams, for metrics_*(). upstreams needs room for HOSTS_MAX. */
void admin_extra(struct shared *s, struct metrics_extra *extra, struct metrics_upstream *upstreams);

/* May this request use the endpoints that show or change what is stored? ERR_OK, NO_TOKEN or FORBIDDEN. */
enum err admin_may(const struct exchange *x);

#endif
