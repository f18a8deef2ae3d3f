/* hosts.h - the upstreams, as all workers see them: which is up, how busy, which models with which digests.
 *
 * Threads    all calls from any thread, but for hosts_learnt(), which is the health checker's (worker 0).
 * Callbacks  a ticket's and a waiter's mail is posted to its loop; after hosts_leave() / models_unwait() none comes.
 * Limits     HOSTS_MAX upstreams (a set of them is one word); MODELS_MAX models each. */
#ifndef PROXY_HOSTS_H
#define PROXY_HOSTS_H

#include "proxy/base/ask.h"
#include "proxy/base/loop.h"

enum { HOSTS_MAX = 32, MODELS_MAX = 10000 };

struct hosts;
typedef uint32_t host_set;           /* bit i: host i */

struct hosts *hosts_new(const char *const *urls, size_t n);
void hosts_free(struct hosts *h);
size_t hosts_count(const struct hosts *h);
const char *hosts_url(const struct hosts *h, size_t i);
bool hosts_up(struct hosts *h, size_t i);
void hosts_set_up(struct hosts *h, size_t i, bool up);

/* A place at an upstream. Taken at once or, when all that may be taken are at their limit, in the order of asking. */
struct host_ticket {
	struct mail mail;            /* posted when a place was found; run is the owner's */
	struct loop *loop;
	host_set may;                /* which hosts */
	host_set tried;              /* these only if nothing else is left */
	int host;                    /* taken; -1: none yet */
	bool waits;
	uint64_t turn;               /* the rest is the line's own: its number in it */
	struct host_line *line;
	struct host_ticket *next, **at;
};
/* True: ticket->host is set. False: the mail will come. limit 0: none. */
bool hosts_take(struct hosts *h, struct host_ticket *t, int64_t limit);
void hosts_give(struct hosts *h, struct host_ticket *t, int64_t limit);   /* the place back; the next in line gets it */
void hosts_leave(struct hosts *h, struct host_ticket *t);                 /* the line, without a place */

/* ---- models ---- */

enum models_news { MODEL_KNOWN, MODEL_UNKNOWN, MODELS_NOT_LEARNT };

/* The digest by which answers of this model are kept, and the hosts that have just that. */
enum models_news models_find(struct hosts *h, struct slice model_full, char digest[DIGEST_MAX], host_set *have);
/* Changes whenever a digest did. */
uint64_t models_generation(struct hosts *h);

struct models_waiter { struct mail mail; struct loop *loop; struct models_waiter *next; bool waits; };
void models_wait(struct hosts *h, struct models_waiter *w);    /* mail comes when the next check has ended */
void models_unwait(struct hosts *h, struct models_waiter *w);

/* Something passed that may have changed the models: what is known holds no more until the next check has ended. */
void models_doubt(struct hosts *h);
/* Who is to be told that a check is wanted now (the health checker). */
void models_on_doubt(struct hosts *h, void (*call)(void *arg), void *arg);

/* A check: begins for all hosts, then each host's list as /api/tags gave it (tags.at NULL: no answer). */
void hosts_check_begins(struct hosts *h);
void hosts_learnt(struct hosts *h, size_t i, struct slice tags);
void hosts_check_ended(struct hosts *h);

#endif
