/* worker.h - one thread: a loop, its side to the clients, its side to the upstreams, a link to the store, its numbers.
 *
 * What workers share hangs off struct shared: upstreams (hosts), their models, flights, the store, the budget of request
 * bodies, the count of connections. Everything else is a worker's own and reached only by its mailbox. */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include "cache/flight.h"
#include "cache/store.h"
#include "proxy/base/alarm.h"
#include "proxy/budget.h"
#include "proxy/config.h"
#include "proxy/hosts.h"
#include "proxy/metrics.h"
#include "proxy/models.h"
#include "proxy/server.h"
#include "proxy/upstream.h"

enum { WORKERS_MAX = 256 };

struct copies;
struct exchange;
struct lexicon;
struct scoring;
struct seen;
struct check;
struct engines;
struct landing;
struct keep_alives;
struct confirm;
struct history;
struct recent;
struct journal;

struct shared {
	struct hosts *hosts;
	struct models *models;
	struct engines *engines;
	struct keep_alives *keep_alives;
	struct flights *flights;
	struct store *store;                 /* NULL: cache.store = off */
	_Atomic uint64_t store_errors;
	struct budget buffered;
	struct copies *copies;               /* large answers on their way to clients */
	_Atomic int64_t connections;
	_Atomic bool draining;
	_Atomic(struct lexicon *) lexicon;   /* NULL until loaded, or when the semantic tier is off */
	_Atomic bool dictionaries_settled;   /* loaded, or not wanted */
	_Atomic uint64_t requests_seen;      /* numbers exchanges, for /ollacache/requests */
	struct worker *worker[WORKERS_MAX];
	_Atomic size_t n_workers;      /* the first may serve while the last is being started */
	int64_t started_ms;
	struct history *history;             /* worker 0 writes it */
	struct recent *recent;               /* semantic hits, for the dashboard */
};

struct worker {
	struct loop loop;
	struct alarms alarms;
	struct metrics metrics;
	struct shared *shared;
	const struct config *config;         /* held; new exchanges take it */
	struct server *server;
	struct upstream *upstream;
	struct store_link *link;             /* NULL: cache.store = off */
	struct seen *seen;
	struct scoring *scoring;             /* made when first needed, for scoring_config */
	const struct config *scoring_config; /* held */
	struct journal *journal;             /* the requests that have ended */
	struct check *check;                 /* worker 0: the health checks */
	struct exchange *exchanges;          /* all that are not finished */
	size_t n_exchanges;
	struct exchange *spare;              /* freed ones, to be used again */
	size_t n_spare;
	pthread_t thread;
	int n;
	struct confirm *confirms;            /* answers whose model is looked at once more (confirm.h) */
	size_t n_confirms;
	size_t n_landings;                   /* answers on their way into the store */
	struct landing *waiting;             /* those that wait for another's under their key (fetch.c) */
	struct alarm drain;
	int64_t drain_until;                 /* loop_now(); 0: not draining */
	_Atomic bool ended;
};

/* What main tells a worker by mail. */
struct worker_order {
	struct mail mail;
	struct worker *worker;
	const struct config *config;         /* a new configuration, held for the worker; NULL: none */
	bool drain;                          /* stop accepting; end when all is answered or the time is over */
	const int *listen_fds;               /* only at the start */
	const bool *listen_admin;
	size_t n_listen;
};

/* The scorer by this configuration; NULL while there are no dictionaries. */
const struct scoring *worker_scoring(struct worker *w, const struct config *c);

/* The order's listening sockets are the worker's from here on. Its thread runs once all workers are there to be looked at
 * by one another. */
struct worker *worker_new(struct shared *shared, int n, const struct config *config, const struct worker_order *order);
void worker_run(struct worker *w);
/* Any thread; the order comes from malloc and is taken over. */
void worker_tell(struct worker *w, struct worker_order *order);
bool worker_ended(struct worker *w);             /* its thread has nothing left to do */
void worker_join(struct worker *w);              /* waits for the thread's end */
void worker_free(struct worker *w);              /* after every worker has been joined: until then mail may come */

#endif
