/* worker.c - see worker.h. */
#include "proxy/worker.h"

#include <stdlib.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/base/log_writer.h"
#include "proxy/check.h"
#include "proxy/confirm.h"
#include "proxy/keep_alive.h"
#include "proxy/exchange.h"
#include "proxy/history.h"
#include "proxy/journal.h"
#include "proxy/seen.h"
#include "scoring/scoring.h"

enum { DRAIN_LOOK_MS = 20, LAST_TURNS_MS = 3000 };

const struct scoring *worker_scoring(struct worker *w, const struct config *c)
{
	const struct lexicon *l = atomic_load(&w->shared->lexicon);
	struct scoring_options o;
	unsigned skipped = 0;

	if (!l || (w->scoring && w->scoring_config == c))
		return l ? w->scoring : NULL;
	scoring_free(w->scoring);
	w->scoring = NULL;
	scoring_options_init(&o);
#define CRITERION(name, default_weight, function, help) o.weight[CRITERION_##name] = c->scoring_weight_##name;
#include "scoring/criteria.def"
#undef CRITERION
	o.length_min = (unsigned)c->scoring_length_min;
	o.length_max = (unsigned)c->scoring_length_max;
	o.length_relative = c->scoring_length_relative;
	enum err e = scoring_new(&o, c->scoring_forbidden_content, l, &w->scoring, &skipped);
	if (e)
		log_line(LOG_ERROR, "complex", "scoring.forbidden: %s", err_info[e].text);
	config_drop(w->scoring_config);
	w->scoring_config = config_hold(c);
	return w->scoring;
}

/* ---- orders ---- */

static void on_drain(struct alarm *a)
{
	struct worker *w = (struct worker *)((char *)a - offsetof(struct worker, drain));

	if ((w->n_exchanges == 0 && w->n_landings == 0) || loop_now(&w->loop) >= w->drain_until)
		loop_stop(&w->loop);
	else
		alarm_set(&w->alarms, a, DRAIN_LOOK_MS, on_drain);
}

static void on_order(struct mail *m)
{
	struct worker_order *o = (struct worker_order *)((char *)m - offsetof(struct worker_order, mail));
	struct worker *w = o->worker;

	if (o->config) {
		config_drop(w->config);
		w->config = o->config;
		seen_clear(w->seen);
	}
	if (o->drain && !w->drain_until) {
		w->drain_until = loop_now(&w->loop) + w->config->server_drain_timeout + 1;
		server_drain(w->server);
		alarm_set(&w->alarms, &w->drain, 0, on_drain);
	}
	free(o);
}

void worker_tell(struct worker *w, struct worker_order *o)
{
	o->worker = w;
	o->mail.run = on_order;
	loop_post(&w->loop, &o->mail);
}

/* ---- the thread ---- */

/* What is left after the drain ends here, broken; mail, burials and cancelled transfers need a few turns more. */
static void wind_up(struct worker *w)
{
	int64_t until = clock_us() + (int64_t)LAST_TURNS_MS * 1000;

	if (w->check)
		check_stop(w->check);
	if (w->n == 0) {
		keep_alives_stop(w->shared->keep_alives);
		engines_stop(w->shared->engines);
		history_stop(w->shared->history);
	}
	server_abort(w->server);
	do {
		uv_run(&w->loop.uv, UV_RUN_NOWAIT);
		if (w->n_exchanges || w->n_landings)
			uv_sleep(1);
	} while ((w->n_exchanges || w->n_landings) && clock_us() < until);
	if (w->link && (w->n_exchanges || w->n_landings)) {    /* they wait for a store that does not answer */
		fetch_stop_landings(w);
		w->shared->store->ops->stop(w->link);
		for (int i = 0; i < 3; i++)
			uv_run(&w->loop.uv, UV_RUN_NOWAIT);
	}
	if (w->n_exchanges)
		log_line(LOG_WARN, "worker", "%zu requests could not be ended in time", w->n_exchanges);
	confirm_stop_all(w);
	alarm_clear(&w->alarms, &w->drain);
	w->loop.before_sleep = NULL;
	if (w->link)
		w->shared->store->ops->detach(w->link);
	w->link = NULL;
	server_free(w->server);
	for (int i = 0; i < 3; i++)
		uv_run(&w->loop.uv, UV_RUN_NOWAIT);
	upstream_free(w->upstream);
	alarms_fini(&w->alarms);
	for (int i = 0; i < 3; i++)
		uv_run(&w->loop.uv, UV_RUN_NOWAIT);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	log_writer_join();
	loop_run(&w->loop);
	wind_up(w);
	atomic_store(&w->ended, true);
	return NULL;
}

/* The end of a turn: what it asked of the clients first, for that may ask the store; then the store's commands in one write. */
static void before_sleep(struct loop *l, void *arg)
{
	struct worker *w = arg;

	(void)l;
	server_turn(w->server);
	if (w->link)
		w->shared->store->ops->flush(w->link);
}

struct worker *worker_new(struct shared *shared, int n, const struct config *c, const struct worker_order *order)
{
	struct worker *w = calloc(1, sizeof *w);

	if (!w)
		abort();
	w->shared = shared;
	w->n = n;
	w->config = config_hold(c);
	w->seen = seen_new();
	w->journal = journal_new();
	loop_init(&w->loop);
	alarms_init(&w->alarms, &w->loop);
	const struct server_options o = {
		.loop = &w->loop, .metrics = &w->metrics, .connections = &shared->connections, .budget = &shared->buffered,
		.max_connections = c->server_max_connections, .header_timeout_ms = c->server_header_timeout,
		.idle_timeout_ms = c->server_idle_timeout, .ops = &exchange_ops, .arg = w,
	};
	w->server = server_new(&o);
	w->upstream = upstream_new(&w->loop, &w->alarms, shared->hosts, &w->metrics);
	if (shared->store)
		w->link = shared->store->ops->attach(shared->store, &w->loop);
	for (size_t i = 0; i < order->n_listen; i++)
		server_listen(w->server, order->listen_fds[i], order->listen_admin[i]);
	w->loop.before_sleep = before_sleep;
	w->loop.before_sleep_arg = w;
	if (n == 0) {
		w->check = check_start(w);
		engines_start(shared->engines, w);
		keep_alives_start(shared->keep_alives, w);
		shared->history = history_start(w);
	}
	return w;
}

void worker_run(struct worker *w)
{
	if (pthread_create(&w->thread, NULL, run, w))
		abort();
}

bool worker_ended(struct worker *w)
{
	return atomic_load(&w->ended);
}

void worker_join(struct worker *w)
{
	pthread_join(w->thread, NULL);
}

void worker_free(struct worker *w)
{
	loop_fini(&w->loop);
	exchanges_forget(w);
	scoring_free(w->scoring);
	config_drop(w->scoring_config);
	config_drop(w->config);
	seen_free(w->seen);
	journal_free(w->journal);
	free(w);
}
