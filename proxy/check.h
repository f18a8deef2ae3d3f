/* check.h - asks every upstream for its models now and then: whether it is up, and which digests it has.
 *
 * One worker does it for all. A check is made at the start, every upstream.health_interval, and at once when a request
 * that may have changed the models has passed (models_doubt()). */
#ifndef PROXY_CHECK_H
#define PROXY_CHECK_H

#include "proxy/worker.h"

struct check *check_start(struct worker *w);
void check_stop(struct check *c);        /* the loop must run on for a turn */

#endif
