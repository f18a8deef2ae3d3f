/* hop.h - the mark this process puts on every request it sends, by which it knows one that comes back: upstream.url leads to
 * itself, at once or through other proxies.
 *
 * The mark is random, one per process, so that proxies of the same kind can stand behind one another; each adds a header of its
 * own and passes on those that came.
 * Threads  any. */
#ifndef PROXY_HOP_H
#define PROXY_HOP_H

#include "proxy/server.h"

#define HOP_HEADER "X-Ollacache-Hop"

const char *hop_mark(void);
bool hop_came_back(const struct request *r);

#endif
