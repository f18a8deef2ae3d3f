/* hosts.h - the upstreams, as all workers see them: which is up, how busy.
 *
 * Threads    all calls from any thread.
 * Callbacks  a ticket's mail is posted to its loop; after hosts_leave() none comes.
 * Limits     HOSTS_MAX upstreams (a set of them is one word). */
#ifndef PROXY_HOSTS_H
#define PROXY_HOSTS_H

#include "proxy/base/loop.h"

enum { HOSTS_MAX = 32 };

struct hosts;
struct host_states;
typedef uint32_t host_set;           /* bit i: host i */

struct hosts *hosts_new(const char *const *urls, size_t n);
void hosts_free(struct hosts *h);
size_t hosts_count(const struct hosts *h);
const char *hosts_url(const struct hosts *h, size_t i);
bool hosts_up(struct hosts *h, size_t i);
host_set hosts_all_up(struct hosts *h);
uint64_t hosts_changes(const struct hosts *h);           /* how often one went up or down */
struct host_states *hosts_states(const struct hosts *h); /* host_state.h, which calls hosts_set_up() */
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

#endif
