/* headers.h - which of a client's headers go upstream, and which say something of one connection only: one list for
 * what is asked and what passes, for a header kept back on one way and let through on the other would be a way around. */
#ifndef PROXY_HEADERS_H
#define PROXY_HEADERS_H

#include "proxy/base/arena.h"
#include "proxy/server.h"
#include "proxy/upstream.h"

/* What the Connection headers of one head name, all of them together. Who names more than that many is believed to name all. */
enum { CONNECTION_NAMES = 32 };
struct connection_names {
	struct slice name[CONNECTION_NAMES];
	size_t n;
	bool all;
};
/* To be called for each header of the head; arg is a struct connection_names. */
void connection_names_add(void *arg, struct slice name, struct slice value);

/* Is it about this connection only (RFC 9110, 7.6.1), by its name or because a Connection header names it? */
bool header_is_hop(struct slice name, const struct connection_names *connection);

/* Is it one of the names? */
bool header_listed(struct slice name, const struct slice *names, size_t n);
#define HEADER_LISTED(name, names) header_listed(name, names, sizeof(names) / sizeof *(names))

/* Copies what goes upstream of r's headers into to, `most` at most; returns how many. asked: a generation's request,
 * of which the cache's own conditions and the coding of the reply stay here too. Texts live in the arena; a full one says
 * so itself. */
size_t headers_forward(const struct request *r, bool asked, struct arena *arena, struct header *to, size_t most);

/* The same the other way: what of an upstream's reply goes to the client. asked: of an answer, whose type and date are the
 * cache's to say. */
size_t headers_back(const struct transfer *t, bool asked, struct arena *arena, struct header *to, size_t most);

#endif
