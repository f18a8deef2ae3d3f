/* fetch.c - the leader's side of a flight: gets the answer, gives it to the flight, and to its own client as it came.
 *
 * While the leader's client keeps up it is sent the upstream's own lines ("raw"); a client that lags more than
 * STREAM_WINDOW becomes a reader of the flight like any other, so that it costs no more than they do. The upstream waits
 * where nobody takes what it sends, or the flight keeps no more of it (past cache.max_entry, or not understood).
 *
 * What is not a stream is kept until it has ended, then understood, stored and answered in one piece; past the limit
 * it passes through ("blind"). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/entry.h"
#include "proxy/base/log.h"
#include "proxy/candidates.h"
#include "proxy/confirm.h"
#include "proxy/engines.h"
#include "proxy/exchange.h"
#include "proxy/headers.h"
#include "proxy/semantic.h"

enum { LINE_SLACK = 64 << 10, HEADERS_MOST = 100, LAST_CHUNK_MS = 1000 };
enum { CONTEXT_TOKENS = 128 };   /* a prompt that has not at least so many fits into any context */

/* ---- the end of leading ---- */

void fetch_done(struct exchange *x)
{
	struct flight *f = x->lead_flight;

	assert(f);
	x->lead_flight = NULL;
	if (x->fetch.transfer)
		upstream_cancel(x->fetch.transfer);
	x->fetch.transfer = NULL;
	if (x->fetch.started) {
		ndjson_fini(&x->fetch.lines);
		buf_fini(&x->fetch.whole);
		x->fetch.started = false;
	}
	candidates_stop(x);
	alarm_clear(&x->worker->alarms, &x->fetch.last_chunk);
	alarm_clear(&x->worker->alarms, &x->heartbeat);
	flight_drop(f, NULL);
	exchange_drop(x);
}

void fetch_fail(struct exchange *x, enum err e)
{
	flight_finish(x->lead_flight, e);
	fetch_done(x);
}

/* The last reader may have left in the turn in which the answer landed: then only the end of the upstream's reply is waited for. */
void fetch_stop(struct exchange *x)
{
	if (flight_finish(x->lead_flight, ERR_CLIENT_GONE))
		fetch_done(x);
}

/* ---- storing ---- */

static const int reason_metric[UNSTORED_KINDS] = {
	[NOT_WHOLE] = UNSTORED_NOT_WHOLE, [BAD_DONE_REASON] = UNSTORED_DONE_REASON, [BAD_STATUS] = UNSTORED_STATUS,
	[HAD_ERROR] = UNSTORED_ERROR, [TOO_LARGE] = UNSTORED_TOO_LARGE, [ASKED_NOT_TO] = UNSTORED_NO_STORE,
	[SAMPLED] = UNSTORED_NOT_DETERMINISTIC, [MODEL_EXCLUDED] = UNSTORED_MODEL_EXCLUDED, [EMPTY] = UNSTORED_EMPTY,
	[PROMPT_CUT] = UNSTORED_PROMPT_CUT,
};

static void count_unstored(struct exchange *x, enum unstored why)
{
	metric_label(&x->worker->metrics, unstored_answers, reason_metric[why]);
}

static enum unstored bypass_reason(enum bypass why)
{
	switch (why) {
	case BYPASS_SAMPLING: return SAMPLED;
	case BYPASS_MODEL:    return MODEL_EXCLUDED;
	case BYPASS_TOO_LARGE: return TOO_LARGE;
	default:              return ASKED_NOT_TO;
	}
}

/* A flight stays listed until its answer is in the store. This is what waits for that. */
struct landing {
	struct flight *flight;
	struct worker *worker;
	bool refreshes;                      /* an older answer may be there */
	struct flight_put put;
	struct mail mail;                    /* it is its turn */
	struct landing *next, **at;          /* among the worker's that wait; at NULL: it does not */
	struct burial burial;
	struct buf entry;                    /* of one that waited for that */
	struct store_item item;
};

static void bury(struct burial *b)
{
	struct landing *l = (struct landing *)((char *)b - offsetof(struct landing, burial));

	if (l->mail.posted)
		loop_bury(&l->worker->loop, b);  /* its mail is under way: once more, next turn */
	else
		free(l);
}

static void stop_waiting(struct landing *l)
{
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	l->at = NULL;
}

static void landing_over(struct landing *l, bool stored)
{
	if (stored)
		metric_add(&l->worker->metrics, stored_answers, 1);
	else
		metric_label(&l->worker->metrics, unstored_answers, UNSTORED_STORE);
	l->worker->n_landings--;
	buf_fini(&l->entry);
	flight_unlist(l->flight);
	flight_drop(l->flight, NULL);
	loop_bury(&l->worker->loop, &l->burial);
}

static void on_stored(void *arg, bool stored)
{
	struct landing *l = arg;
	struct worker *w = l->worker;

	if (!stored && l->refreshes && w->link)
		w->shared->store->ops->drop(w->link, l->put.key, NULL, NULL);    /* better none than the one it was to replace */
	if (w->shared->store->ops->puts_late)
		flights_put_end(w->shared->flights, &l->put);
	landing_over(l, stored);
}

static void on_turn(struct mail *m)
{
	struct landing *l = (struct landing *)((char *)m - offsetof(struct landing, mail));
	struct worker *w = l->worker;

	if (!l->at)
		return;                          /* the worker ends: it does not wait any more */
	stop_waiting(l);
	if (l->put.superseded) {
		landing_over(l, false);
		return;
	}
	w->shared->store->ops->put(w->link, &l->item, on_stored, l);
	w->shared->store->ops->flush(w->link);
}

static void post_turn(struct flight_put *p)
{
	struct landing *l = (struct landing *)((char *)p - offsetof(struct landing, put));

	loop_post(&l->worker->loop, &l->mail);
}

/* Now, or in its turn: then without its question, which the one before it under this key has put already. */
static void put(struct landing *l, const struct store_item *item, struct buf *entry)
{
	struct worker *w = l->worker;
	const struct store_ops *ops = w->shared->store->ops;

	l->put.go = post_turn;
	l->mail.run = on_turn;
	l->burial.bury = bury;
	memcpy(l->put.key, item->key, KEY_BYTES);
	if (ops->puts_late && !flights_put_begin(w->shared->flights, &l->put)) {
		l->item = (struct store_item){ .expires_ms = item->expires_ms, .entry = item->entry };
		memcpy(l->item.key, item->key, KEY_BYTES);
		l->entry = *entry;
		*entry = (struct buf){ 0 };
		l->next = w->waiting;
		l->at = &w->waiting;
		if (l->next)
			l->next->at = &l->next;
		w->waiting = l;
		return;
	}
	ops->put(w->link, item, on_stored, l);
	ops->flush(w->link);                     /* on its way before the client can ask again */
}

void fetch_stop_landings(struct worker *w)
{
	while (w->waiting) {
		struct landing *l = w->waiting;
		stop_waiting(l);
		flights_put_leave(w->shared->flights, &l->put);
		landing_over(l, false);
	}
}

static bool store(struct exchange *x, const struct answer *a, const struct flight_head *head, int host)
{
	struct entry_meta m = {
		.created_ms = head->created_ms, .expires_ms = head->expires_ms, .family = x->family, .stream = head->stream, .length = a->length,
		.has_model = a->has_model, .mark = entry_mark(x->key), .eval_count = a->eval_count, .eval_ns = a->eval_ns,
		.prompt_eval_ns = a->prompt_eval_ns,
		.model = x->ask.model_full, .space = x->wishes.space, .question = x->ask.question,
		.content_type = slice_text(head->content_type),
	};
	struct store_item item = { .expires_ms = m.expires_ms };
	struct buf entry;
	struct landing *l = m.expires_ms > m.created_ms ? calloc(1, sizeof *l) : NULL;

	buf_init(&entry, CACHE_ENTRY_BYTES(x->config));
	if (!l || entry_pack(&entry, &m, buf_slice(&a->pieces))) {
		buf_fini(&entry);
		free(l);
		return false;
	}
	memcpy(item.key, x->key, KEY_BYTES);
	item.entry = buf_slice(&entry);
	if (!a->length)                          /* an answer that was cut off serves exact hits only */
		semantic_item(x->near, &item);
	l->flight = x->lead_flight;
	l->worker = x->worker;
	flight_hold(l->flight);
	flight_relist(l->flight, x->key);        /* a refresh flew alone: who asks before its answer is in the store is given it too */
	x->worker->n_landings++;
	l->refreshes = x->bypass == BYPASS_NO_CACHE;
	put(l, &item, &entry);
	confirm_begin(x->worker, x->key, host, m.model, x->digest);
	buf_fini(&entry);
	return true;
}

/* Is the context, which the request itself does not set, of any use? */
static bool context_counts(const struct exchange *x)
{
	return *x->digest && !x->prompt.num_ctx && x->prompt.least_tokens >= CONTEXT_TOKENS;
}

/* By the time the answer ends it may be known. */
static void want_context(struct exchange *x, host_set hosts)
{
	if (context_counts(x))
		engines_want_context(x->worker->shared->engines, hosts, x->ask.model_full, x->digest);
}

/* The engine has read only a part of the question: what it said is no answer to the whole. */
static bool prompt_cut(struct exchange *x, const struct answer *a, int host)
{
	uint64_t context = context_counts(x) ? engines_context(x->worker->shared->engines, host, x->digest) : 0;

	if (!prompt_was_cut(&x->prompt, a->prompt_tokens, context))
		return false;
	log_line(LOG_WARN, "upstream", "request %llu: the engine has read %llu tokens of a prompt that is longer than its context; options.num_ctx makes it larger",
	         (unsigned long long)x->number, (unsigned long long)a->prompt_tokens);
	x->prompt_cut = true;
	return true;
}

static int64_t ttl_ms(const struct exchange *x)
{
	int64_t ttl = flight_ttl_ms(x->lead_flight), most = x->config->cache_volatile_ttl;

	return x->fetch.ages && ttl > most ? most : ttl;
}

void fetch_land(struct exchange *x, int status, int host)
{
	struct flight *f = x->lead_flight;
	const struct answer *a = flight_answer(f);       /* only the leader writes to it, and that is us */
	struct flight_head head = flight_get_head(f);
	enum unstored why = policy_unstored(&x->ask, a, status, CACHE_PIECES_BYTES(x->config));
	bool stored = false;

	head.prompt_cut = prompt_cut(x, a, host);
	if (head.prompt_cut && why == STORABLE)
		why = PROMPT_CUT;
	/* who joins a landed flight is told what the store will tell */
	head.created_ms = wall_now();
	head.expires_ms = head.created_ms + ttl_ms(x);
	flight_set_head(f, &head);
	flight_finish(f, ERR_OK);
	if (!flight_landed(f))
		why = TOO_LARGE;                 /* past its limit a flight keeps only what its readers still need */
	if (!policy_refreshes(x->bypass) || !x->keyed)
		why = why == STORABLE ? bypass_reason(x->bypass) : why;
	if (why == STORABLE && x->worker->link)
		stored = store(x, a, &head, host);
	else if (x->bypass != BYPASS_OFF)
		count_unstored(x, why == STORABLE ? ASKED_NOT_TO : why);
	if (!stored)
		flight_unlist(f);
}

/* ---- the leader's own client ---- */

static bool raw_client(const struct exchange *x)
{
	return x->request && x->reader.raw;
}

/* Before the head has left nothing can: what comes in a burst then is no sign of a slow client. */
static bool lags(const struct exchange *x)
{
	return raw_client(x) && request_queued(x->request) > (x->request->first_byte_us ? READER_WINDOW : STREAM_WINDOW);
}

static void send_raw(struct exchange *x, struct slice bytes, bool line)
{
	if (!raw_client(x))
		return;
	if (line ? request_write_line(x->request, bytes) : request_write(x->request, bytes))
		x->end = err_info[ERR_NO_MEMORY].name;
}

static void end_raw(struct exchange *x, bool whole)
{
	if (raw_client(x))
		request_end(x->request, whole);
}

/* Its window is full: from here on it reads the flight, unless that keeps nothing. */
static bool make_reader(struct exchange *x)
{
	if (x->fetch.blind)
		return false;
	flight_unraw(x->lead_flight, &x->reader);
	return true;
}

/* ---- a stream ---- */

/* The upstream has sent the whole answer and does not end its reply. */
static void on_no_last_chunk(struct alarm *a)
{
	struct exchange *x = EXCHANGE_OF(a, fetch.last_chunk);

	end_raw(x, true);
	fetch_done(x);
}

static bool on_line(void *arg, struct slice line)
{
	struct exchange *x = arg;
	struct fetch *f = &x->fetch;

	if (!f->blind && !f->ended) {
		struct answer *a = flight_open(x->lead_flight);
		enum err e = x->dialect->read_line(a, x->family, line);
		bool whole = a->whole;
		flight_shut(x->lead_flight);
		if (e) {
			f->last_error = e;
			f->blind = true;
			flight_unlist(x->lead_flight);       /* it will fail: nobody else is to wait for that */
			log_line(LOG_WARN, "upstream", "a line that is not an answer: %s", err_info[e].name);
		} else if (whole) {
			f->ended = true;
			fetch_land(x, f->transfer->status, f->transfer->host);  /* stored, or on its way there, before the client has the last line */
			alarm_set(&x->worker->alarms, &f->last_chunk, LAST_CHUNK_MS, on_no_last_chunk);
		}
	}
	send_raw(x, line, true);
	return x->lead_flight != NULL;
}

/* Must the upstream wait? */
static bool must_wait(struct exchange *x)
{
	if (!x->lead_flight)
		return false;
	if (lags(x) && !make_reader(x))
		return true;
	if (x->fetch.ended || x->fetch.blind)
		return false;
	return flight_behind(x->lead_flight) > FLIGHT_WINDOW;
}

static void stream_bytes(struct exchange *x, struct slice bytes)
{
	struct fetch *f = &x->fetch;
	size_t taken;

	if (f->blind && f->last_error == ERR_TOO_LARGE) {
		send_raw(x, bytes, false);
		return;
	}
	enum err e = ndjson_feed(&f->lines, bytes, &taken);
	if (!e || !x->lead_flight)
		return;
	/* a line longer than any answer we keep: the rest of this reply is passed on as it comes */
	f->blind = true;
	f->last_error = ERR_TOO_LARGE;
	flight_unlist(x->lead_flight);
	struct slice held = ndjson_rest(&f->lines);
	send_raw(x, held, false);
	send_raw(x, slice_of(bytes.at + taken, bytes.len - taken), false);
	ndjson_fini(&f->lines);
}

static void stream_end(struct exchange *x, enum err e)
{
	struct fetch *f = &x->fetch;
	struct slice rest = ndjson_rest(&f->lines);

	if (rest.len && !e) {
		/* half a line, or one without its newline: as it came */
		if (!f->blind && !f->ended) {
			struct answer *a = flight_open(x->lead_flight);
			f->last_error = x->dialect->read_line(a, x->family, rest);
			bool whole = a->whole;
			flight_shut(x->lead_flight);
			if (!f->last_error && whole && !f->ended) {
				f->ended = true;
				fetch_land(x, f->transfer->status, f->transfer->host);
			}
		}
		send_raw(x, rest, false);
	}
	if (f->ended) {
		end_raw(x, true);
		fetch_done(x);
		return;
	}
	const struct answer *a = flight_answer(x->lead_flight);
	bool said = a->error.len > 0;
	enum err why = said ? ERR_PASSED : e ? e : f->last_error ? f->last_error : ERR_UPSTREAM_BROKE;
	count_unstored(x, said ? HAD_ERROR : f->last_error == ERR_TOO_LARGE ? TOO_LARGE : NOT_WHOLE);
	if (raw_client(x) && (e || why != ERR_TOO_LARGE))
		x->end = err_info[why].name;
	if (raw_client(x) && e && !said) {
		struct buf line;
		buf_init(&line, LINE_SLACK);
		/* a line that the upstream broke off is not begun; what passes without being cut into lines may be inside one */
		if (f->blind && f->last_error == ERR_TOO_LARGE)
			send_raw(x, SLICE("\n"), false);
		if (!x->dialect->write_error(slice_text(err_info[e].text), &line))
			send_raw(x, buf_slice(&line), true);
		buf_fini(&line);
	}
	end_raw(x, !e || said);
	fetch_fail(x, why);
}

/* ---- one object ---- */

/* Too large to keep, or nothing we can read: from here on it passes through to our own client. */
static void go_blind(struct exchange *x)
{
	struct fetch *f = &x->fetch;
	struct slice text = transfer_header(f->transfer, "Content-Length");
	uint64_t length;

	f->blind = true;
	f->last_error = ERR_TOO_LARGE;
	flight_unlist(x->lead_flight);
	if (!x->request || request_replied(x->request))
		return;
	struct flight_head head = flight_get_head(x->lead_flight);
	x->reader.raw = true;
	reply_begin(x, f->transfer->status, head.content_type, slice_number(text, INT64_MAX, &length) ? (int64_t)length : -1);
}

static void whole_bytes(struct exchange *x, struct slice bytes)
{
	struct fetch *f = &x->fetch;

	if (!f->blind && !buf_put(&f->whole, bytes))
		return;
	if (!f->blind) {
		go_blind(x);
		send_raw(x, buf_slice(&f->whole), false);
		buf_fini(&f->whole);
	}
	send_raw(x, bytes, false);
}

/* The reply as it came, to our own client; others get it from the flight. */
static void reply_as_it_came(struct exchange *x, const struct flight_head *head)
{
	struct buf *w = &x->fetch.whole;
	size_t len;

	if (!x->request || request_replied(x->request))
		return;
	struct buf shrunk = *w;
	*w = (struct buf){ .limit = w->limit };
	char *body = buf_take(&shrunk, &len);
	bool chunked = !transfer_header(x->fetch.transfer, "Content-Length").at;
	reply_whole(x, head->status, head->content_type, body, len, chunked);
}

static bool renamed(const struct exchange *x)
{
	return x->ask.model.len != x->ask.model_plain.len;
}

static void whole_end(struct exchange *x, enum err e)
{
	struct fetch *f = &x->fetch;
	struct flight_head head = flight_get_head(x->lead_flight);
	int status = f->transfer->status;

	if (f->blind || e) {
		count_unstored(x, f->blind ? TOO_LARGE : NOT_WHOLE);
		if (raw_client(x) && e)
			x->end = err_info[e].name;
		if (raw_client(x))
			request_end(x->request, !e);
		fetch_fail(x, e ? e : ERR_TOO_LARGE);
		return;
	}
	struct answer *a = flight_open(x->lead_flight);
	enum err read = status == 200 ? x->dialect->read_line(a, x->family, buf_slice(&f->whole)) : ERR_PASSED;
	bool whole = !read && a->whole;
	if (!whole) {
		a->error.len = 0;
		read = buf_put(&a->error, buf_slice(&f->whole));
	}
	flight_shut(x->lead_flight);
	if (whole) {
		fetch_land(x, status, f->transfer->host);
		if (!renamed(x))
			reply_as_it_came(x, &head);
		fetch_done(x);
		return;
	}
	count_unstored(x, status == 200 ? NOT_WHOLE : BAD_STATUS);
	if (status == 200 && x->request && !request_replied(x->request))
		x->end = err_info[ERR_UPSTREAM_BABBLE].name;
	reply_as_it_came(x, &head);
	fetch_fail(x, read ? read : ERR_PASSED);
}

/* ---- the transfer ---- */

/* Waiting in line for a place is a step of its own, as long as the client is there to have steps. */
void fetch_queued(struct exchange *x, bool waits)
{
	enum step from = waits ? STEP_FORWARD : STEP_QUEUE, to = waits ? STEP_QUEUE : STEP_FORWARD;

	if (x->request && x->step == from)
		exchange_step(x, to);
}

/* Of an error all who wait for it are told what its head says: when to come back, whom to ask instead. Cookies are for one. */
static void keep_head(const struct transfer *t, struct flight_head *head)
{
	struct header h[HEADERS_MOST];
	struct arena arena;
	size_t len = 0;

	arena_init(&arena, 2 * UPSTREAM_HEAD_BYTES);
	size_t n = headers_back(t, true, &arena, h, HEADERS_MOST);
	for (size_t i = 0; i < n; i++) {
		size_t room = sizeof head->passed - len, needs = strlen(h[i].name) + strlen(h[i].value) + 3;
		if (needs <= room && !slice_is_nocase(slice_text(h[i].name), SLICE("Set-Cookie")))
			len += (size_t)snprintf(head->passed + len, room, "%s:%s\n", h[i].name, h[i].value);
	}
	arena_fini(&arena);
}

static void on_head(struct transfer *t, int status)
{
	struct exchange *x = t->owner;
	struct fetch *f = &x->fetch;
	struct flight_head head = { .origin = FLIGHT_UPSTREAM, .status = status };
	struct slice type = transfer_header(t, "Content-Type");

	x->host = t->host;
	snprintf(head.content_type, sizeof head.content_type, "%.*s", (int)type.len, type.at ? type.at : "");
	static const struct slice ndjson = { "application/x-ndjson", 20 };
	bool encoded = transfer_header(t, "Content-Encoding").at;
	f->streams = status == 200 && type.len >= ndjson.len && slice_is_nocase(slice_of(type.at, ndjson.len), ndjson) && !encoded;
	head.stream = f->streams;
	want_context(x, (host_set)1 << t->host);         /* now it is loaded, for this request */
	if (status != 200)
		keep_head(t, &head);
	flight_set_head(x->lead_flight, &head);
	if (encoded)
		go_blind(x);
	if (!f->streams || !x->request || !x->ask.stream || renamed(x))
		return;
	x->reader.raw = true;
	exchange_step(x, STEP_STREAM);
	request_narrow(x->request);
	reply_begin(x, 200, head.content_type, -1);
}

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct exchange *x = t->owner;

	if (x->fetch.streams)
		stream_bytes(x, bytes);
	else
		whole_bytes(x, bytes);
	if (!x->light && x->lead_flight && transfer_sent(t))
		exchange_lighten(x);
	if (raw_client(x))
		request_flush(x->request);
	return !must_wait(x);
}

static void on_end(struct transfer *t, enum err e)
{
	struct exchange *x = t->owner;

	exchange_hold(x);
	x->host = t->host;
	if (*t->why)
		x->why = arena_text(&x->arena, slice_text(t->why));
	if (t->status == 0) {
		if (e == ERR_OK)
			e = ERR_UPSTREAM_BABBLE;
		x->fetch.transfer = NULL;
		fetch_fail(x, e);
	} else if (x->fetch.streams) {
		stream_end(x, e);
	} else {
		whole_end(x, e);
	}
	exchange_drop(x);
}

static void on_queue(struct transfer *t)
{
	struct exchange *x = t->owner;

	fetch_queued(x, t->queued);
}

static const struct transfer_ops fetch_ops = { .on_head = on_head, .on_bytes = on_bytes, .on_end = on_end, .on_queue = on_queue };

/* ---- start ---- */

/* While the client is still there: the leader may have to go on without it. */
enum err fetch_prepare(struct exchange *x)
{
	struct header found[HEADERS_MOST];
	char *target = arena_text(&x->arena, x->request->target);
	const struct config *c = x->config;
	struct shared *s = x->worker->shared;
	/* what is not looked up goes to a host that has the model too, though with any digest */
	bool several = hosts_count(s->hosts) > 1;
	host_set may = x->hosts || !several ? x->hosts : models_hosts(s->models, x->ask.model_full);

	size_t n = headers_forward(x->request, true, &x->arena, found, HEADERS_MOST);
	struct header *h = n ? arena_alloc(&x->arena, n * sizeof *h) : NULL;
	if (!target || (n && !h))
		return ERR_NO_MEMORY;
	if (h)
		memcpy(h, found, n * sizeof *h);
	x->rq = (struct transfer_request){
		.method = "POST", .target = target, .headers = h, .n_headers = n, .body = x->ask.forward, .may = may,
		.seeks = several && !may,
		.connect_ms = c->upstream_connect_timeout, .first_byte_ms = c->upstream_first_byte_timeout,
		.idle_ms = c->upstream_idle_timeout, .queue_ms = c->upstream_queue_timeout,
		.answer_ms = x->ask.stream ? 0 : c->upstream_answer_timeout,
	};
	return x->arena.full ? ERR_NO_MEMORY : ERR_OK;
}

void fetch_start(struct exchange *x)
{
	struct fetch *f = &x->fetch;

	if (x->request)
		request_watch(x->request);
	candidates_free(x);
	*f = (struct fetch){ 0 };
	f->ages = x->config->cache_volatile_ttl && semantic_ages(x);
	semantic_settle(x->near);
	buf_fini(&x->get.entry);                 /* the look-up is over: what was proposed has been judged */
	buf_fini(&x->get.proposed);
	want_context(x, x->hosts);
	if (x->candidates > 1) {
		candidates_start(x);
		return;
	}
	f->started = true;
	ndjson_init(&f->lines, CACHE_PIECES_BYTES(x->config) + LINE_SLACK, on_line, x);
	buf_init(&f->whole, CACHE_PIECES_BYTES(x->config) + LINE_SLACK);
	f->transfer = upstream_start(x->worker->upstream, &x->rq, &fetch_ops, x);
	if (!f->transfer)
		fetch_fail(x, ERR_NO_MEMORY);
	else
		fetch_queued(x, f->transfer->queued);
}

/* ---- going on ---- */

static void go_on(struct exchange *x)
{
	if (x->lead_flight && x->fetch.transfer && !must_wait(x))
		upstream_resume(x->fetch.transfer);
}

void fetch_room(struct exchange *x)
{
	go_on(x);
}

void fetch_writable(struct exchange *x)
{
	go_on(x);
}
