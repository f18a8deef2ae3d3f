/* candidates.c - see candidates.h.
 *
 * Every candidate is a generation of its own, not streamed, with its own parameters; which upstream it runs on is the
 * hosts' choice (the least busy). They end by agreement, by all having ended, or at complex.deadline; the winner goes to the
 * flight, and from there to the store and to every reader, like any other answer.
 *
 * Limits  an answer: cache.max_entry; a larger candidate has failed. */
#include "proxy/candidates.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/base/scan.h"
#include "scoring/scoring.h"

enum { SEED_MOST = 0x7fffffff, REPLY_SLACK = 64 << 10, REST_MOST = 16 << 10 };

enum one_state { ONE_RUNS, ONE_WHOLE, ONE_FAILED };

struct one {
	struct candidates *all;
	struct transfer *transfer;           /* NULL once ended */
	struct buf rest;                     /* of what it was asked, behind ask.several */
	struct buf reply;
	struct answer answer;
	struct buf text, tool_calls;         /* for the scorer */
	double mean_logprob;
	int status, host;
	char content_type[FLIGHT_TYPE_MAX];
	enum err error;
	enum one_state state;
};

struct candidates {
	struct exchange *x;
	int64_t began_us;
	struct alarm deadline;
	bool late;                           /* the deadline has passed with too few */
	int n, whole, ended;
	struct one one[];
};

/* ---- what the scorer is told ---- */

/* Mean log-probability of the tokens, from pieces of array items; NAN when there are none. */
static double mean_logprob(struct slice pieces)
{
	struct slice bytes, name, value;
	enum piece_kind kind;
	size_t at = 0, n = 0;
	double sum = 0;

	while (pieces_next(pieces, &at, &kind, &bytes)) {
		if (kind != PIECE_LOGPROBS)
			continue;
		for (const char *p = bytes.at, *end = bytes.at + bytes.len; p && p < end; p = memchr(p, '{', (size_t)(end - p))) {
			struct scan s;
			scan_init(&s, slice_of(p, (size_t)(end - p)));
			while (scan_next(&s, &name, &value))
				if (slice_is(name, SLICE("logprob")) && value.len < 40) {
					char text[40] = "";
					memcpy(text, value.at, value.len);
					sum += strtod(text, NULL);
					n++;
				}
			if (s.bad)
				return NAN;
			p = s.at + 1;
			if (p >= end)
				break;
		}
	}
	return n ? sum / (double)n : NAN;
}

static enum err read_for_scorer(struct one *o)
{
	struct slice pieces = buf_slice(&o->answer.pieces), bytes;
	enum piece_kind kind;
	size_t at = 0;
	enum err e = pieces_text(pieces, PIECE_CONTENT, &o->text);

	while (!e && pieces_next(pieces, &at, &kind, &bytes))
		if (kind == PIECE_TOOL_CALLS) {
			e = o->tool_calls.len ? buf_add(&o->tool_calls, ",", 1) : ERR_OK;
			e = e ? e : buf_put(&o->tool_calls, bytes);
		}
	o->mean_logprob = mean_logprob(pieces);
	return e;
}

static int as_candidates(const struct candidates *cs, struct candidate *c)
{
	for (int i = 0; i < cs->n; i++) {
		const struct one *o = &cs->one[i];
		c[i] = (struct candidate){ .text = buf_slice(&o->text), .tool_calls = buf_slice(&o->tool_calls),
		                           .failed = o->state != ONE_WHOLE, .cut = o->answer.length, .mean_logprob = o->mean_logprob };
	}
	return cs->n;
}

static struct scoring_question question_of(const struct exchange *x)
{
	return (struct scoring_question){ .text = x->ask.question, .tools = x->ask.tools, .format = x->ask.format };
}

/* ---- the end ---- */

void candidates_stop(struct exchange *x)
{
	struct candidates *cs = x->fetch.candidates;

	if (!cs)
		return;
	x->fetch.candidates = NULL;
	alarm_clear(&x->worker->alarms, &cs->deadline);
	for (int i = 0; i < cs->n; i++) {
		struct one *o = &cs->one[i];
		if (o->transfer) {
			upstream_cancel(o->transfer);
			metric_add(&x->worker->metrics, candidates_cancelled, 1);
		}
		buf_fini(&o->reply);
		buf_fini(&o->text);
		buf_fini(&o->tool_calls);
		answer_fini(&o->answer);
	}
	/* who calls this may be inside one of their calls */
	x->fetch.spent = cs;
}

void candidates_free(struct exchange *x)
{
	struct candidates *cs = x->fetch.spent;

	for (int i = 0; cs && i < cs->n; i++)
		buf_fini(&cs->one[i].rest);
	free(cs);
	x->fetch.spent = NULL;
}

/* None came through: the upstream's own word for the first that failed, as it came. */
static void all_failed(struct candidates *cs)
{
	struct exchange *x = cs->x;
	const struct one *o = &cs->one[0];

	if (!o->status) {
		fetch_fail(x, o->error ? o->error : ERR_UPSTREAM_BROKE);
		return;
	}
	struct flight_head head = { .origin = FLIGHT_UPSTREAM, .status = o->status };
	snprintf(head.content_type, sizeof head.content_type, "%s", o->content_type);
	flight_set_head(x->lead_flight, &head);
	struct answer *a = flight_open(x->lead_flight);
	enum err e = buf_put(&a->error, buf_slice(&o->reply));
	flight_shut(x->lead_flight);
	fetch_fail(x, e ? e : o->error ? o->error : ERR_PASSED);
}

static void fly(struct candidates *cs, int winner, const struct score *scores)
{
	struct exchange *x = cs->x;
	struct one *o = &cs->one[winner];
	struct flight_head head = { .origin = FLIGHT_UPSTREAM, .status = 200 };

	snprintf(head.content_type, sizeof head.content_type, "%s", o->content_type);
	snprintf(head.note, sizeof head.note, "%d; winner=%d; score=%.2f", cs->n, winner + 1, scores[winner].total);
	log_line(LOG_DEBUG, "complex", "%llu %s", (unsigned long long)x->number, head.note);
	flight_set_head(x->lead_flight, &head);
	struct answer *a = flight_open(x->lead_flight);
	enum err e = buf_put(&a->pieces, buf_slice(&o->answer.pieces));
	a->whole = !e;
	a->length = o->answer.length;
	a->odd = o->answer.odd;
	a->has_model = o->answer.has_model;
	a->says = o->answer.says;
	a->prompt_tokens = o->answer.prompt_tokens;
	a->eval_count = o->answer.eval_count;
	a->eval_ns = o->answer.eval_ns;
	a->prompt_eval_ns = o->answer.prompt_eval_ns;
	flight_shut(x->lead_flight);
	if (e) {
		fetch_fail(x, e);
		return;
	}
	fetch_land(x, 200, o->host);
	fetch_done(x);
}

static void explain(struct exchange *x, const struct score *scores, const struct candidate *c, int n, int winner)
{
	if (!x->wishes.explain)
		return;
	buf_fini(&x->explained);
	buf_init(&x->explained, EXPLAIN_BYTES + 1);
	if (scoring_explain(scores, c, n, winner, &x->explained) || buf_add(&x->explained, "", 1))
		x->explained.len = 0;
}

static void choose(struct candidates *cs)
{
	struct exchange *x = cs->x;
	struct metrics *m = &x->worker->metrics;
	const struct scoring *s = worker_scoring(x->worker, x->config);
	struct candidate c[CANDIDATES_MAX];
	struct score scores[CANDIDATES_MAX] = { 0 };
	struct scoring_question q = question_of(x);
	int n = as_candidates(cs, c), winner = -1;

	if (s)
		winner = scoring_pick(s, &q, c, n, scores);
	for (int i = 0; !s && winner < 0 && i < n; i++)
		if (!c[i].failed)
			winner = i;              /* no dictionaries yet: the first that is whole */
	if (winner < 0) {
		all_failed(cs);
		return;
	}
	metric_label(m, candidate_wins, winner);
	metric_observe_us(m, winner_seconds, 0, clock_us() - cs->began_us);
	explain(x, scores, c, n, winner);
	fly(cs, winner, scores);
}

/* One more has ended: is that enough? */
static void consider(struct candidates *cs)
{
	struct exchange *x = cs->x;
	const struct scoring *s;
	struct candidate c[CANDIDATES_MAX];
	struct scoring_question q = question_of(x);

	if (cs->ended == cs->n || (cs->late && cs->whole >= x->config->complex_min_finished)) {
		choose(cs);
		return;
	}
	if (!x->config->complex_early_stop || cs->whole < 2 || !(s = worker_scoring(x->worker, x->config)))
		return;
	int n = 0;
	for (int i = 0, all = as_candidates(cs, c); i < all; i++)
		if (!c[i].failed)
			c[n++] = c[i];           /* those that still run have no say yet */
	if (scoring_agreed(s, &q, c, n)) {
		metric_add(&x->worker->metrics, early_stops, 1);
		choose(cs);
	}
}

static void on_deadline(struct alarm *a)
{
	struct candidates *cs = (struct candidates *)((char *)a - offsetof(struct candidates, deadline));

	cs->late = true;
	if (cs->whole >= cs->x->config->complex_min_finished && cs->whole > 0)
		choose(cs);
}

/* ---- one candidate ---- */

static void on_head(struct transfer *t, int status)
{
	struct one *o = t->owner;
	struct slice type = transfer_header(t, "Content-Type");

	o->status = status;
	snprintf(o->content_type, sizeof o->content_type, "%.*s", (int)type.len, type.at ? type.at : "");
}

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct one *o = t->owner;

	if (!o->error)
		o->error = buf_put(&o->reply, bytes);
	return true;
}

static void on_end(struct transfer *t, enum err e)
{
	struct one *o = t->owner;
	struct candidates *cs = o->all;

	o->transfer = NULL;
	o->host = t->host;
	o->error = o->error ? o->error : e;
	if (o == &cs->one[0] && *t->why)
		cs->x->why = arena_text(&cs->x->arena, slice_text(t->why));      /* told if all fail */
	if (!o->error && o->status == 200)
		o->error = cs->x->dialect->read_line(&o->answer, cs->x->family, buf_slice(&o->reply));
	if (!o->error && o->status == 200 && o->answer.whole)
		o->error = read_for_scorer(o);
	o->state = !o->error && o->status == 200 && o->answer.whole ? ONE_WHOLE : ONE_FAILED;
	if (o->state == ONE_WHOLE)
		cs->whole++;
	else
		metric_add(&cs->x->worker->metrics, candidates_failed, 1);
	cs->ended++;
	exchange_hold(cs->x);
	struct exchange *x = cs->x;
	consider(cs);
	exchange_drop(x);
}

/* All of them wait for places: so does the request. */
static void look_at_queue(struct candidates *cs)
{
	bool waits = false, runs = false;

	for (int i = 0; i < cs->n; i++) {
		waits |= cs->one[i].transfer && cs->one[i].transfer->queued;
		runs |= cs->one[i].transfer && !cs->one[i].transfer->queued;
	}
	fetch_queued(cs->x, waits && !runs);
}

static void on_queue(struct transfer *t)
{
	struct one *o = t->owner;

	look_at_queue(o->all);
}

static const struct transfer_ops one_ops = { .on_head = on_head, .on_bytes = on_bytes, .on_end = on_end, .on_queue = on_queue };

/* The first keeps the client's own parameters. */
static struct variant variant_of(const struct exchange *x, int i)
{
	const struct config *c = x->config;
	struct variant v = { 0 };
	uint32_t seed = 0;

	if (i == 0)
		return v;
	size_t k = (size_t)i - 1;
	if (c->complex_temperatures_numbers.n) {
		v.has_temperature = true;
		v.temperature = c->complex_temperatures_numbers.at[k % c->complex_temperatures_numbers.n];
	}
	if (c->complex_top_ps_numbers.n && !x->ask.top_p_set) {
		v.has_top_p = true;
		v.top_p = c->complex_top_ps_numbers.at[k % c->complex_top_ps_numbers.n];
	}
	if (c->complex_num_predicts_numbers.n && !x->ask.length_set) {
		v.has_num_predict = true;
		v.num_predict = (int64_t)c->complex_num_predicts_numbers.at[k % c->complex_num_predicts_numbers.n];
	}
	memcpy(&seed, x->key, sizeof seed);          /* the same question varies in the same way */
	v.has_seed = true;
	v.seed = (seed + (uint32_t)i) & SEED_MOST;
	return v;
}

static enum err start_one(struct candidates *cs, int i)
{
	struct exchange *x = cs->x;
	struct one *o = &cs->one[i];
	struct variant v = variant_of(x, i);
	struct transfer_request rq = x->rq;
	size_t most = CACHE_PIECES_BYTES(x->config) + REPLY_SLACK;

	o->all = cs;
	o->mean_logprob = NAN;
	buf_init(&o->rest, REST_MOST);
	buf_init(&o->reply, most);
	buf_init(&o->text, most);
	buf_init(&o->tool_calls, most);
	answer_init(&o->answer, most);
	enum err e = x->dialect->vary(&x->ask, &v, &o->rest);
	if (e)
		return e;
	rq.body = x->ask.several;
	rq.rest = buf_slice(&o->rest);
	rq.answer_ms = x->config->upstream_answer_timeout;       /* it is asked for as a whole, whatever the client wants */
	o->transfer = upstream_start(x->worker->upstream, &rq, &one_ops, o);
	if (!o->transfer)
		return ERR_NO_MEMORY;
	metric_add(&x->worker->metrics, candidates_started, 1);
	return ERR_OK;
}

void candidates_start(struct exchange *x)
{
	int n = (int)x->candidates;
	struct candidates *cs = calloc(1, sizeof *cs + (size_t)n * sizeof cs->one[0]);
	enum err e = cs ? ERR_OK : ERR_NO_MEMORY;

	assert(n > 1 && n <= CANDIDATES_MAX);
	metric_add(&x->worker->metrics, parallel_requests, 1);
	if (cs) {
		cs->x = x;
		cs->n = n;
		cs->began_us = clock_us();
		x->fetch.candidates = cs;
		alarm_set(&x->worker->alarms, &cs->deadline, x->config->complex_deadline, on_deadline);
	}
	for (int i = 0; i < n && !e; i++)
		e = start_one(cs, i);
	if (e)
		fetch_fail(x, e);
	else
		look_at_queue(cs);
}

/* ---- while they run ---- */

static void on_heartbeat(struct alarm *a)
{
	struct exchange *x = (struct exchange *)((char *)a - offsetof(struct exchange, heartbeat));

	if (!x->request || !x->flight || (request_replied(x->request) && !x->head_sent))
		return;
	if (!x->head_sent) {
		x->style.has_model = true;
		reply_begin(x, 200, reply_stream_type(x), -1);
	}
	reply_style_now(&x->style);
	x->lines_out.len = 0;
	if (!x->dialect->write_empty(&x->style, &x->lines_out) && request_queued(x->request) < STREAM_WINDOW)
		(void)!request_write(x->request, buf_slice(&x->lines_out));     /* a failure has broken the reply */
	x->lines_out.len = 0;
	alarm_set(&x->worker->alarms, a, x->config->complex_heartbeat, on_heartbeat);
}

void candidates_heartbeat(struct exchange *x)
{
	if (x->candidates > 1 && x->ask.stream)
		alarm_set(&x->worker->alarms, &x->heartbeat, x->config->complex_heartbeat, on_heartbeat);
}
