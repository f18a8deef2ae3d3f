/* check.h - looks at every upstream's models now and then: whether it is up, and which digests it has.
 *
 * One worker does it for all upstreams, each by its own clock: a look at the start, one every upstream.health_interval, and
 * one soon after it is wanted (models_want_look()); one at a time, and what is wanted no more often than every 250 ms. */
#ifndef PROXY_CHECK_H
#define PROXY_CHECK_H

#include "proxy/worker.h"

struct check *check_start(struct worker *w);
void check_stop(struct check *c);        /* the loop must run on for a turn */

#endif
