/* route.h - which of the ways through the house a request takes: the four endpoints are asked, the rest passes. */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include "proxy/base/ask.h"
#include "proxy/server.h"

struct route {
	const char *path;
	enum family family;
};

/* The route of a POST to one of the cached endpoints; NULL: anything else. Paths are taken as written: an escaped or
 * doubled one is the upstream's to judge. */
const struct route *route_find(const struct request *r);
const struct route *route_of_path(struct slice path);
/* What Ollama says in Allow to other methods on this path; NULL: it does not know the path. */
const char *route_allow(struct slice path);
bool route_lists(const char *allow, const char *method);

/* Does a request to this path, whatever came of it, leave models other than they were? */
bool route_changes_models(const struct request *r);

#endif
