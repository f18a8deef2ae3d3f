/* confirm.h - is the model still the one an answer was made by?
 *
 * Digests are known by looks at the upstreams, seconds apart; a model replaced in between answers under the digest of the one
 * before. So the upstream that has answered is looked at once more, after the answer's end, and the answer is dropped from the
 * store if the model no longer has the digest it was stored under; also if the upstream cannot be asked for longer than
 * upstream.health_interval (UNCONFIRMED_LEAST_MS at least, so that a short outage costs nothing).
 *
 * Nobody waits for this: the client has its answer, and who asks meanwhile is given what is stored. What is dropped may by then
 * be another answer under the same key, which costs that one a miss.
 *
 * Ownership  one lives by itself until it is decided, or its worker ends.
 * Threads    its worker's.
 * Limits     CONFIRMS_MOST at once in a worker; an answer beyond that is dropped. */
#ifndef PROXY_CONFIRM_H
#define PROXY_CONFIRM_H

#include "proxy/worker.h"

enum { CONFIRMS_MOST = 10000, UNCONFIRMED_LEAST_MS = 10000 };

/* An answer has been put under key, made by that host, whose model had the digest before it began. */
void confirm_begin(struct worker *w, const uint8_t key[KEY_BYTES], int host, struct slice model_full, const char *digest);
void confirm_stop_all(struct worker *w);         /* before the store's link goes; the loop must run on for a turn */

#endif
