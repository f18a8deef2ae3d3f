/* exchange_stream.c - a reader and its flight: what has come is given to the client as it wants it, at its own pace. */
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/base/release.h"
#include "proxy/exchange.h"
#include "proxy/semantic.h"

/* ---- what a stream goes on with ---- */

/* Of what lay in the arena and the body only that is kept, in one block, which the store and the log will want; of the question's
 * words, only what will be stored. */
void exchange_lighten(struct exchange *x)
{
	struct ask *a = &x->ask;
	struct slice *const kept[] = { &a->model, &a->model_plain, &a->model_full, &a->question, &x->style.model, &x->wishes.space };
	size_t bytes = 0;
	struct buf b;

	if (x->light)
		return;
	if (!x->lead_flight) {
		semantic_free(x->near);
		x->near = NULL;
	}
	if (a->question.len > ENTRY_QUESTION_MAX)
		a->question.len = ENTRY_QUESTION_MAX + 1;        /* the entry, and a line of the log, cut it between characters */
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		bytes += kept[i]->len;
	buf_init(&b, bytes);
	if (buf_reserve(&b, bytes))
		return;                      /* it stays as large as it is */
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		size_t at = b.len;
		(void)!buf_put(&b, *kept[i]);    /* the room was reserved */
		*kept[i] = kept[i]->len ? slice_of(b.at + at, kept[i]->len) : (struct slice){ 0 };
	}
	memset(x->wishes.tenant, 0, sizeof x->wishes.tenant);    /* its key is made */
	a->canonical = a->canonical_scope = a->forward = a->several = a->keep_alive = a->load_options = (struct slice){ 0 };
	memset(a->own, 0, sizeof a->own);
	x->rq = (struct transfer_request){ 0 };
	x->why = NULL;
	release_arena(&x->worker->loop, &x->arena);
	release_buf(&x->worker->loop, &x->body);
	x->body = b;
	x->light = true;
	exchange_share_back(x);
}

/* ---- stream: a reader and its flight ---- */

void exchange_leave_flight(struct exchange *x)
{
	if (!x->flight)
		return;
	struct flight *f = x->flight;
	x->flight = NULL;
	flight_drop(f, &x->reader);
}

/* A follower lets go of the one it followed, as if it had not joined yet. */
static void unfollow(struct exchange *x)
{
	exchange_leave_flight(x);
	x->reader = (struct flight_reader){ .wake = exchange_post_wake, .arg = x };
	x->takes = false;
	x->result = RESULT_NONE;
}

/* Followers that have sent nothing start again, once, when the one they followed fails. */
static void restart(struct exchange *x)
{
	x->restarted = true;
	unfollow(x);
	exchange_start_lookup(x);
}

/* Do this request's own wishes allow what its flight turned out to be? Who leads has looked already. What was new when it came
 * while this request waited is no old answer. */
static bool may_take(const struct exchange *x, const struct flight_head *head)
{
	if (x->led)
		return true;
	if (head->origin == FLIGHT_UPSTREAM && x->result == RESULT_JOINED)
		return true;
	if (head->origin == FLIGHT_SEMANTIC &&
	    (x->wishes.semantic_off || head->similarity < semantic_threshold(x->config, &x->wishes)))
		return false;
	return exchange_fresh_enough(x, head->created_ms, head->expires_ms);
}

/* False: it may not be given what its flight turned out to be, and has gone on: with others that may not either, by whichever of
 * them comes first, or by itself. */
static bool take(struct exchange *x)
{
	struct flight_head head = flight_get_head(x->flight);

	x->takes = x->takes || may_take(x, &head);
	if (x->takes)
		return true;
	x->refusals = x->head_sent ? REFUSALS_MAX : x->refusals + 1;     /* its stream has begun: no reply can be made at once */
	unfollow(x);
	exchange_join(x);
	return false;
}

static void learn_origin(struct exchange *x)
{
	struct flight_head head = flight_get_head(x->flight);

	x->style.has_model = head.has_model;
	snprintf(x->note, sizeof x->note, "%s", head.note);
	x->prompt_cut = head.prompt_cut;
	x->stored_ms = head.created_ms;
	x->expires_ms = head.expires_ms;
	if (!x->led || head.origin != FLIGHT_UPSTREAM)
		exchange_keep_alive(x);
	if (head.origin == FLIGHT_UPSTREAM)
		return;
	if (x->result == RESULT_NONE || x->result == RESULT_JOINED || x->result == RESULT_MISS)
		x->result = head.origin == FLIGHT_SEMANTIC ? RESULT_SEMANTIC : RESULT_EXACT;
	x->similarity = head.similarity;
}

static void saved_by(struct exchange *x)
{
	const struct answer *a = flight_answer(x->flight);

	if (x->result == RESULT_JOINED || x->result == RESULT_SEMANTIC || x->result == RESULT_EXACT)
		reply_saved(x, a->eval_count, a->eval_ns + a->prompt_eval_ns);
}

/* Of an answer too large to share each gets one of its own. */
static void restart_alone(struct exchange *x)
{
	x->bypass = BYPASS_TOO_LARGE;
	restart(x);
}

/* The flight failed. What the upstream itself said goes to everyone as it came; else our own words. */
static void pump_failed(struct exchange *x, enum err e)
{
	const struct answer *a = flight_answer(x->flight);
	struct flight_head head = flight_get_head(x->flight);
	bool passed = e == ERR_PASSED;

	if (!x->head_sent && !x->led && e == ERR_TOO_LARGE) {
		restart_alone(x);
		return;
	}
	if (!x->head_sent && !passed && !x->led && !x->restarted) {
		restart(x);
		return;
	}
	if (!x->head_sent && passed && (head.status != 200 || !head.stream)) {
		char *copy = malloc(a->error.len + 1);
		if (copy)
			memcpy(copy, a->error.at, a->error.len);
		x->passed = head.passed;
		reply_whole(x, head.status, head.content_type, copy, copy ? a->error.len : 0, false);
		x->passed = NULL;
		return;
	}
	if (!x->head_sent && !passed) {
		reply_error(x, e, x->why);
		return;
	}
	if (!x->head_sent && !x->ask.stream) {
		char *copy = malloc(a->error.len + 1);
		if (copy)
			memcpy(copy, a->error.at, a->error.len);
		reply_whole(x, 500, NULL, copy, copy ? a->error.len : 0, false);
		return;
	}
	if (!x->head_sent)
		reply_begin(x, 200, reply_stream_type(x), -1);
	struct buf line;
	buf_init(&line, SIZE_MAX / 4);
	enum err full = passed ? buf_put(&line, buf_slice(&a->error)) : x->dialect->write_error(slice_text(err_info[e].text), &line);
	full = full ? full : buf_add(&line, "\n", 1);
	if (!full)
		(void)!request_write(x->request, buf_slice(&line));      /* a failure has broken the reply, as is meant */
	buf_fini(&line);
	x->end = err_info[e].name;
	/* a stream kept alive for candidates that all failed must not look whole */
	request_end(x->request, passed && x->candidates == 1);
}

static void begin_stream(struct exchange *x)
{
	learn_origin(x);
	if (!x->lead_flight)
		exchange_lighten(x);         /* from here on it does not start again */
	request_narrow(x->request);
	reply_begin(x, 200, reply_stream_type(x), -1);
}

bool exchange_write_lines(struct exchange *x, struct slice pieces)
{
	size_t at = 0;
	enum err e = ERR_OK;

	reply_style_now(&x->style);
	x->lines_out.len = 0;
	while (!e && x->dialect->write_line(&x->style, pieces, &at, &x->lines_out, &e) && !e) {
		if (x->lines_out.len)
			e = request_write(x->request, buf_slice(&x->lines_out));
		x->lines_out.len = 0;
	}
	if (e) {
		x->end = err_info[e].name;
		request_end(x->request, false);
	}
	buf_fini(&x->lines_out);
	return !e && request_queued(x->request) < READER_WINDOW;
}

static void pump_stream(struct exchange *x)
{
	struct buf pieces;
	enum flight_news news = FLIGHT_WAIT;
	enum err why = ERR_OK;
	bool room = true;

	buf_init(&pieces, SIZE_MAX / 4);
	while (room && x->request) {
		pieces.len = 0;
		news = flight_read(x->flight, &x->reader, &pieces, &why);
		if ((news == FLIGHT_MORE || news == FLIGHT_END) && !take(x)) {
			buf_fini(&pieces);
			return;
		}
		if (news != FLIGHT_MORE)
			break;
		alarm_clear(&x->worker->alarms, &x->heartbeat);
		if (!x->head_sent)
			begin_stream(x);
		room = exchange_write_lines(x, buf_slice(&pieces));
	}
	buf_fini(&pieces);
	if (!x->request)
		return;
	if (news == FLIGHT_END) {
		if (!x->head_sent)
			begin_stream(x);
		saved_by(x);
		request_end(x->request, true);
	} else if (news == FLIGHT_FAILED) {
		pump_failed(x, why);
	}
}

void exchange_pump(struct exchange *x)
{
	enum err why;

	if (x->reader.raw || !x->flight || (request_replied(x->request) && !x->head_sent))
		return;
	if (x->step != STEP_STREAM && !x->lead_flight)
		exchange_step(x, STEP_STREAM);
	if (!x->reader.whole) {
		pump_stream(x);
		return;
	}
	switch (flight_read(x->flight, &x->reader, NULL, &why)) {
	case FLIGHT_END:
		if (request_replied(x->request) || !take(x))
			break;
		learn_origin(x);
		saved_by(x);
		struct flight_head head = flight_get_head(x->flight);
		struct answer_id id = flight_id(x->flight);
		reply_answer(x, buf_slice(&flight_answer(x->flight)->pieces), head.stream ? NULL : head.content_type, &id, NULL);
		break;
	case FLIGHT_FAILED:
		if (!request_replied(x->request))
			pump_failed(x, why);
		break;
	case FLIGHT_OVER:
		/* this answer will not be kept whole: one of its own, passed through. Who leads had asked for one object and is
		 * sent a stream of them */
		if (request_replied(x->request))
			break;
		if (x->led)
			reply_error(x, ERR_UPSTREAM_BABBLE, NULL);
		else
			restart_alone(x);
		break;
	case FLIGHT_MORE:
	case FLIGHT_WAIT:
		break;
	}
}
