/* budget.h - a number of bytes all workers share (server.max_buffered): taken before they are used, given back after.
 *
 * A share of a body grows as the body comes. Who cannot get more at once waits in line and is told by mail; the owner bounds
 * that wait with a timer, so that two who each wait for what the other holds both come to an end.
 *
 * Whoever fills it must not shut the others out:
 *   - all clients behind one address hold a quarter at most, a half where nobody else needs it;
 *   - a share of more than BUDGET_SMALL leaves an eighth of the whole to the small ones;
 *   - replies hold a half at most.
 *
 * Threads    any. After budget_leave() no mail comes. */
#ifndef PROXY_BUDGET_H
#define PROXY_BUDGET_H

#include <stdatomic.h>

#include "proxy/base/loop.h"

enum { BUDGET_SMALL = 64 << 10, BUDGET_CLIENT_BYTES = 16, BUDGET_BUCKETS = 256 };

struct budget_share {
	struct mail mail;            /* posted when the share was taken */
	struct loop *loop;
	uint8_t client[BUDGET_CLIENT_BYTES];     /* who holds it: an address; set before the first take */
	uint64_t bytes;              /* taken */
	uint64_t wants;              /* waited for */
	struct budget_share *next;
	atomic_bool waits;           /* in line; once false, `bytes` is its owner's to read: it is cleared after they are added */
};

struct budget_client;

struct budget {
	pthread_mutex_t lock;
	uint64_t used, limit;
	uint64_t replies;            /* of `used` */
	struct budget_share *first, **last;
	struct budget_client *client[BUDGET_BUCKETS];        /* those who hold something */
};

void budget_init(struct budget *b, uint64_t limit_bytes);
void budget_fini(struct budget *b);
void budget_limit(struct budget *b, uint64_t limit_bytes);
/* The most that one share can ever hold. */
uint64_t budget_most(struct budget *b);

/* True: share->bytes has grown by `bytes`. False: it waits (if patient) or not; it may be served before this returns, and
 * then no longer waits, has its bytes, and the mail is on its way. */
bool budget_take(struct budget *b, struct budget_share *share, uint64_t bytes, bool patient);
void budget_give(struct budget *b, struct budget_share *share, uint64_t bytes);      /* a part of it back */
void budget_unwait(struct budget *b, struct budget_share *share);    /* out of the line, with what it has */
void budget_leave(struct budget *b, struct budget_share *share);     /* the line; and all of it back */

/* What replies hold until they have left. One alone always fits. */
bool budget_take_reply(struct budget *b, uint64_t bytes);
void budget_give_reply(struct budget *b, uint64_t bytes);

#endif
