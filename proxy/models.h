/* models.h - which upstream has which models, with which digests, as all workers see it.
 *
 * Threads    all calls from any thread, but for models_learnt(), which is the health checker's (worker 0).
 * Callbacks  a waiter's mail is posted to its loop; after models_unwait() none comes.
 * Limits     MODELS_MAX models of each upstream. */
#ifndef PROXY_MODELS_H
#define PROXY_MODELS_H

#include "proxy/base/ask.h"
#include "proxy/hosts.h"

enum { MODELS_MAX = 10000 };

struct models;

struct models *models_new(struct hosts *hosts);
void models_free(struct models *m);

enum models_news { MODEL_KNOWN, MODEL_UNKNOWN, MODELS_NOT_LEARNT };

/* The digest by which answers of this model are kept, and the hosts that have just that. */
enum models_news models_find(struct models *m, struct slice model_full, char digest[DIGEST_MAX], host_set *have);
/* Changes whenever a digest did. */
uint64_t models_generation(struct models *m);

struct models_waiter { struct mail mail; struct loop *loop; struct models_waiter *next; bool waits; };
void models_wait(struct models *m, struct models_waiter *w);    /* mail comes when the next check has ended */
void models_unwait(struct models *m, struct models_waiter *w);

/* Something passed that may have changed the models: what is known holds no more until the next check has ended. */
void models_doubt(struct models *m);
/* Who is to be told that a check is wanted now (the health checker). */
void models_on_doubt(struct models *m, void (*call)(void *arg), void *arg);

/* A check: begins for all hosts, then each host's list as /api/tags gave it (tags.at NULL: no answer; false: it is no
 * list), and whether the host is up by that. */
void models_check_begins(struct models *m);
bool models_learnt(struct models *m, size_t i, struct slice tags);
void models_check_ended(struct models *m);

#endif
