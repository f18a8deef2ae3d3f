/* budget.h - a number of bytes all workers share (server.max_buffered): taken before they are used, given back after.
 *
 * Who cannot get its share at once waits in line and is told by mail; a share is taken whole, so that those who have
 * theirs always come to an end and nobody waits for half a share for ever.
 * Threads    any. After budget_leave() no mail comes. */
#ifndef PROXY_BUDGET_H
#define PROXY_BUDGET_H

#include <stdatomic.h>

#include "proxy/base/loop.h"

struct budget_share {
	struct mail mail;            /* posted when the share was taken */
	struct loop *loop;
	uint64_t bytes;              /* taken */
	uint64_t wants;              /* waited for */
	struct budget_share *next;
	atomic_bool waits;           /* in line; once false, `bytes` is its owner's to read: it is cleared after they are added */
};

struct budget {
	pthread_mutex_t lock;
	uint64_t used, limit;
	struct budget_share *first, **last;
};

void budget_init(struct budget *b, uint64_t limit_bytes);
void budget_fini(struct budget *b);
void budget_limit(struct budget *b, uint64_t limit_bytes);

/* True: share->bytes has grown by `bytes`. False: it waits (if patient) or not; it may be served before this returns, and
 * then no longer waits, has its bytes, and the mail is on its way. More than the limit is never given. */
bool budget_take(struct budget *b, struct budget_share *share, uint64_t bytes, bool patient);
void budget_leave(struct budget *b, struct budget_share *share);     /* the line; and all of it back */

#endif
