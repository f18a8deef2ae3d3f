/* copies.h - large answers that are being given to clients: one copy of each, however many read it.
 *
 * A client that reads slowly holds what it is given for as long as it is let. Were that a copy of its own, a few hundred
 * clients that do not read would cost a gigabyte. Here each holds a reference, and is given a window at a time.
 *
 * Ownership  counted: copies_get() and copies_share() return a hold, copy_drop() gives it back; the last one frees.
 * Threads    any.
 * Limits     all copies together: the part of server.max_buffered that replies have (budget.h). */
#ifndef PROXY_COPIES_H
#define PROXY_COPIES_H

#include "cache/flight.h"
#include "proxy/budget.h"

struct copies;
struct copy;

struct copies *copies_new(struct budget *budget);
void copies_free(struct copies *cs);             /* no copy may be left */

/* The copy of what id names; NULL: there is none. */
struct copy *copies_get(struct copies *cs, const struct answer_id *id);
/* The same, made of bytes, which are taken over, where there was none. NULL: no room or memory; bytes stay the caller's. */
struct copy *copies_share(struct copies *cs, const struct answer_id *id, struct buf *bytes);
struct slice copy_bytes(const struct copy *c);
void copy_drop(struct copy *c);

#endif
