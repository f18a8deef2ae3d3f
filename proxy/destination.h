/* destination.h - where a request that passes may go, and what it is to the upstreams there (docs/operate.md has the table).
 *
 * What names a model goes to a host that has it; which of these is the balancer's choice (hosts.h). What changes models goes to
 * the first host of the list that has the model it speaks of, else to the first that is up, and is never sent twice.
 *
 * Limits  the name is looked for in the first DESTINATION_PEEK bytes of a body, and only if there are several hosts. */
#ifndef PROXY_DESTINATION_H
#define PROXY_DESTINATION_H

#include "proxy/http.h"
#include "proxy/models.h"

enum { DESTINATION_PEEK = 1 << 20 };

struct destination {
	enum transfer_kind kind;
	host_set may;                        /* 0: any */
	bool seeks;                          /* it names a model that no host is known to have */
	bool streams;                        /* its body says that the answer is to be a stream */
};

/* Does its body say which model it speaks of? */
bool destination_in_body(const struct request *r);

/* body: what there is of it, from its beginning; none with one host, where there is nothing to choose. */
struct destination destination_find(const struct request *r, struct slice body, struct models *m);

#endif
