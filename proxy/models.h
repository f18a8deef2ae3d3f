/* models.h - which upstream has which models, with which digests, as all workers see it.
 *
 * What was last known holds: while an upstream is looked at anew, while it does not answer, while it is down. Each upstream
 * is looked at by itself, so none waits for another.
 *
 * Threads    all calls from any thread, but for models_look_begins() and models_look_ended(), which are the health checker's.
 * Callbacks  a waiter's mail is posted to its loop; after models_unwait() none is posted any more.
 * Limits     MODELS_MAX models of each upstream. */
#ifndef PROXY_MODELS_H
#define PROXY_MODELS_H

#include "proxy/base/ask.h"
#include "proxy/hosts.h"

enum { MODELS_MAX = 10000 };

struct models;

struct models *models_new(struct hosts *hosts);
void models_free(struct models *m);

struct models_waiter {                       /* embedded in its owner, which sets mail.run and loop and zeroes the rest */
	struct mail mail;
	struct loop *loop;
	bool one;                            /* it waits for a look at one host, else for the end of any */
	int host;
	uint64_t look;                       /* the number of the look it waits for */
	bool answered;                       /* set before its mail is posted: the look brought a list */
	bool waits;                          /* guarded by the lock, as are: */
	struct models_waiter *next, **at;
};

enum models_news { MODEL_KNOWN, MODEL_UNKNOWN, MODELS_NOT_LEARNT };

/* The digest by which answers of this model are kept, and the hosts that have just that. NOT_LEARNT: a look that is under way
 * or wanted may tell; w, if it is not NULL, is told when one has ended, and then asks again with the same w. */
enum models_news models_find(struct models *m, struct slice model_full, char digest[DIGEST_MAX], host_set *have, struct models_waiter *w);
/* How many the host has, by the last look. */
size_t models_count(struct models *m, int host);
/* Has the host this model with just this digest, by the last look? */
bool models_has(struct models *m, int host, struct slice model_full, const char *digest);
/* The hosts that have a model of this name, whatever its digest; 0: none is known to. */
host_set models_hosts(struct models *m, struct slice model_full);
/* Changes whenever what models_find() says of digests may have changed; 0: nothing is known yet. */
uint64_t models_generation(struct models *m);

/* A look that begins after this call; how soon is the health checker's to say. */
void models_want_look(struct models *m, int host);
/* The same, and mail when it has ended, whichever way. */
void models_wait_look(struct models *m, struct models_waiter *w, int host);
/* As models_wait_look(), for a look that comes without being wanted: after one that brought nothing. */
void models_wait_next_look(struct models *m, struct models_waiter *w, int host);
void models_unwait(struct models *m, struct models_waiter *w);

/* ---- the health checker's side ---- */

/* Who is to be told that a look is wanted; any thread, with the lock held: it may only post. NULL: nobody. */
void models_on_wanted(struct models *m, void (*call)(void *arg), void *arg);
bool models_look_wanted(struct models *m, int host);
void models_look_begins(struct models *m, int host);
/* The host's list as /api/tags gave it (at NULL: no answer). False: it is none, and what was known holds. */
bool models_look_ended(struct models *m, int host, struct slice tags);

#endif
