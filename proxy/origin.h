/* origin.h - who may ask from a browser: Ollama's rules for Host and Origin, judged by the proxy alone.
 *
 * A proxy rewrites Host, which switches the upstream's own check off; so the same check is made here, on hits too.
 * Rules as recorded from Ollama 0.33 (gin-contrib/cors and its allowedHosts middleware). */
#ifndef PROXY_ORIGIN_H
#define PROXY_ORIGIN_H

#include "proxy/config.h"
#include "proxy/server.h"

enum { CORS_HEADERS_MAX = 8 };

enum origin { ORIGIN_NONE, ORIGIN_ECHOED, ORIGIN_ANY, ORIGIN_FORBIDDEN };

/* A Host header's value without its port; the brackets of an IPv6 address off. What is no host stays as it is. */
struct slice origin_host(struct slice host);

/* May a request that says it is for this host be answered? */
bool host_allowed(const struct config *c, const struct request *r);

enum origin origin_judge(const struct config *c, const struct request *r);

/* The CORS headers of a reply to this request; returns how many were put into h. Their values lend the request's. */
size_t origin_headers(enum origin o, const struct request *r, struct header h[CORS_HEADERS_MAX]);
/* Those of a preflight's 204. allow: the methods of the path, NULL if not known. */
size_t origin_preflight(enum origin o, const struct request *r, const char *allow, struct header h[CORS_HEADERS_MAX]);

#endif
