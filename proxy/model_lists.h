/* model_lists.h - the lists of models of several upstreams as one: GET /api/tags, /v1/models, /api/ps.
 *
 * Every host that is up is asked at once. An entry stands once for each name, as the first host of the list has it; what a host
 * fails to tell, or has not told after LISTS_MS, is left out. If none told a list, the first reply or failure is the answer.
 *
 * Ownership  the exchange's, from lists_begin() to lists_free().
 * Limits     LIST_MAX bytes of each host, LIST_ENTRIES_MAX entries in all; LISTS_MS. */
#ifndef PROXY_MODEL_LISTS_H
#define PROXY_MODEL_LISTS_H

#include "proxy/exchange.h"

enum { LIST_MAX = 4 << 20, LIST_ENTRIES_MAX = 1 << 14, LISTS_MS = 5000 };

bool lists_wanted(const struct exchange *x);     /* such a request, and several hosts */
void lists_begin(struct exchange *x);
void lists_stop(struct exchange *x);             /* the client has its answer, or has left */
void lists_free(struct exchange *x);

/* The lists in one, by the first that is one; false: none is. n: at most HOSTS_MAX. */
bool lists_merge(const struct slice *lists, size_t n, struct buf *out);

#endif
