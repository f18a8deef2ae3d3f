/* candidates.h - several answers for one ask: vary, start, collect, score, pick, cancel (SCORING.md). */
#ifndef PROXY_CANDIDATES_H
#define PROXY_CANDIDATES_H

#include "proxy/exchange.h"

/* complex.auto: is this question one for several answers, by its length or by what it says? */
bool candidates_auto(const struct exchange *x);

/* Keeps this client's stream alive with empty lines until the winner comes, if it waits for candidates. */
void candidates_heartbeat(struct exchange *x);

/* Starts x->candidates generations for the flight x leads. */
void candidates_start(struct exchange *x);
/* Cancels what still runs and frees; nothing to do when there are none. */
void candidates_stop(struct exchange *x);

#endif
