/* hosts.h - the upstreams, as all workers see them: which is up, which failed a moment ago, how busy each is; and the places at
 * them.
 *
 * The choice among the hosts that may answer a request is made here alone, by hosts_take(): of those that are well the least
 * busy, in turn where several are equally so. A host that failed is passed over for a while, twice as long after each failure
 * in a row; then one request tries it.
 *
 * Threads    all calls from any thread.
 * Callbacks  a ticket's mail is posted to its loop; after hosts_leave() none comes.
 * Limits     HOSTS_MAX upstreams (a set of them is one word); places at each: hosts_limit(). */
#ifndef PROXY_HOSTS_H
#define PROXY_HOSTS_H

#include "proxy/base/loop.h"
#include "proxy/trust.h"

enum { HOSTS_MAX = 32 };
enum { AVOID_FIRST_MS = 1000, AVOID_DOUBLINGS = 6 };     /* passed over for 1 s, 2 s … 64 s */

struct hosts;
struct host_states;
typedef uint32_t host_set;           /* bit i: host i */

/* Before anybody connects. The texts are copied. */
void hosts_trust(struct hosts *h, struct trust authorities);
struct trust hosts_authorities(const struct hosts *h);
struct hosts *hosts_new(const char *const *urls, size_t n);
void hosts_free(struct hosts *h);
/* Places at each host, for all that take one; 0: no limit, as at first. More than are taken are kept until given back. */
void hosts_limit(struct hosts *h, int64_t places);
size_t hosts_count(const struct hosts *h);
const char *hosts_url(const struct hosts *h, size_t i);
bool hosts_up(struct hosts *h, size_t i);
host_set hosts_all_up(struct hosts *h);
host_set hosts_all(const struct hosts *h);
uint64_t hosts_changes(const struct hosts *h);           /* how often one went up or down */
struct host_states *hosts_states(const struct hosts *h); /* host_state.h, which calls hosts_set_up() */
void hosts_set_up(struct hosts *h, size_t i, bool up);

/* A place at an upstream. Taken at once or, when all that may be taken are at their limit, in the order of asking. */
struct host_ticket {
	struct mail mail;            /* posted when a place was found; run is the owner's */
	struct loop *loop;
	host_set may;                /* which hosts */
	bool no_place;               /* it takes none: no limit holds it up, and it holds up nobody */
	bool in_order;               /* the first of the list, however busy */
	bool untold;                 /* how it goes does not say how well the host is: it is no trial */
	int host;                    /* taken; -1: none yet */
	bool trial;                  /* it is the one that tries a host that had failed */
	bool waits;
	uint64_t turn;               /* the rest is the line's own: its number in it */
	struct host_line *line;
	struct host_ticket *next, **at;
};
/* True: ticket->host is set. False: the mail will come. */
bool hosts_take(struct hosts *h, struct host_ticket *t);
void hosts_give(struct hosts *h, struct host_ticket *t);          /* the place back; the next in line gets it */
void hosts_leave(struct hosts *h, struct host_ticket *t);         /* the line, without a place */
/* How the request went that was sent to ticket->host. hung: it was waited for in vain, which is not tried again soon. True: it
 * had been well until then. */
void hosts_worked(struct hosts *h, const struct host_ticket *t);
bool hosts_failed(struct hosts *h, const struct host_ticket *t, bool hung);
host_set hosts_well(struct hosts *h, host_set may);               /* those that are up and not passed over */
size_t hosts_waiting(struct hosts *h);                            /* in line, for any of them */

#endif
