/* headers.h - which of a client's headers go upstream, and which say something of one connection only: one list for
 * what is asked and what passes, for a header kept back on one way and let through on the other would be a way around. */
#ifndef PROXY_HEADERS_H
#define PROXY_HEADERS_H

#include "proxy/base/arena.h"
#include "proxy/server.h"

/* Is it about this connection only (RFC 9110, 7.6.1), by its name or because the Connection header names it? */
bool header_is_hop(struct slice name, struct slice connection);

/* Is it one of the names? */
bool header_listed(struct slice name, const struct slice *names, size_t n);
#define HEADER_LISTED(name, names) header_listed(name, names, sizeof(names) / sizeof *(names))

/* Copies what goes upstream of r's headers into to, `most` at most; returns how many. asked: a generation's request,
 * of which the cache's own conditions and the coding of the reply stay here too. Texts live in the arena; a full one says
 * so itself. */
size_t headers_forward(const struct request *r, bool asked, struct arena *arena, struct header *to, size_t most);

#endif
