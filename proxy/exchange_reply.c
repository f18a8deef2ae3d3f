/* exchange_reply.c - what a reply says of itself: heads, errors, whole answers, and the log line and numbers at its end. */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/exchange.h"
#include "proxy/headers.h"

enum { PASSED_HEADERS_BYTES = 2 * UPSTREAM_HEAD_BYTES };
#include "proxy/journal.h"

const char *const result_name[] = {
	[RESULT_EXACT] = "exact", [RESULT_SEMANTIC] = "semantic", [RESULT_JOINED] = "joined", [RESULT_MISS] = "miss",
	[RESULT_BYPASS] = "bypass", [RESULT_PASS] = "pass",
};

const char *reply_stream_type(const struct exchange *x)
{
	(void)x;
	return "application/x-ndjson";
}

/* printf would cost a tenth of a hit. */
static void put_number(char *to, int64_t n)
{
	char digits[24];
	int i = 0;

	for (n = n > 0 ? n : 0; n || i == 0; n /= 10)
		digits[i++] = (char)('0' + n % 10);
	while (i)
		*to++ = digits[--i];
	*to = '\0';
}

/* RFC 9211. What the cache did, and for a bypass why. */
static void write_status(struct exchange *x)
{
	char *to = x->status_text;
	int64_t ttl = (x->expires_ms - wall_now()) / 1000;

	switch (x->result) {
	case RESULT_EXACT:
		memcpy(to, "ollacache; hit; ttl=", 20);
		put_number(to + 20, x->expires_ms ? ttl : x->config->cache_ttl / 1000);
		break;
	case RESULT_SEMANTIC:
		snprintf(to, STATUS_TEXT_MAX, "ollacache; hit; ttl=%lld; detail=semantic", (long long)ttl);
		break;
	case RESULT_JOINED:
		snprintf(to, STATUS_TEXT_MAX, "ollacache; fwd=miss; collapsed");
		break;
	case RESULT_MISS:
		snprintf(to, STATUS_TEXT_MAX, "ollacache; fwd=miss");
		break;
	default:
		snprintf(to, STATUS_TEXT_MAX, "ollacache; fwd=%s%s%s", x->bypass == BYPASS_NO_CACHE ? "request" : "bypass",
		         x->bypass == BYPASS_NO ? "" : "; detail=", bypass_name[x->bypass]);
	}
}

/* Values that need room of their own while a head is being made. */
struct texts { char age[24], similarity[16]; struct arena passed; };

static size_t own_headers(struct exchange *x, struct header *h, struct texts *t)
{
	size_t n = 0;

	if (!x->is_ask || x->result == RESULT_NONE)
		return 0;
	write_status(x);
	h[n++] = (struct header){ "X-Cache", result_name[x->result] };
	h[n++] = (struct header){ "Cache-Status", x->status_text };
	if (x->result == RESULT_EXACT || x->result == RESULT_SEMANTIC) {
		put_number(t->age, x->stored_ms ? (wall_now() - x->stored_ms) / 1000 : 0);
		h[n++] = (struct header){ "Age", t->age };
	}
	if (x->result == RESULT_SEMANTIC) {
		snprintf(t->similarity, sizeof t->similarity, "%.2f", x->similarity);
		h[n++] = (struct header){ "X-Cache-Similarity", t->similarity };
	}
	if (x->prompt_cut)
		h[n++] = (struct header){ "X-Prompt-Truncated", "1" };
	if (*x->note)
		h[n++] = (struct header){ "X-Candidates", x->note };
	if (x->explained.len && x->wishes.explain)
		h[n++] = (struct header){ "X-Complex-Explain", x->explained.at };
	return n;
}

/* What the upstream's reply says besides its type and length: to who leads, and of an error to all. */
static size_t passed_headers(struct exchange *x, struct header *h, struct arena *arena)
{
	enum { MOST = REPLY_HEADERS - 16 };     /* ours have room behind them */
	struct slice rest = slice_text(x->passed), line, name;
	size_t n = 0;

	if (x->fetch.transfer && x->fetch.transfer->status)
		return headers_back(x->fetch.transfer, true, arena, h, MOST);
	while (n < MOST && slice_next(&rest, '\n', &line))
		if (slice_next(&line, ':', &name)) {
			h[n] = (struct header){ arena_text(arena, name), arena_text(arena, line) };
			n += h[n].name && h[n].value;
		}
	return n;
}

static size_t make_head(struct exchange *x, struct header h[REPLY_HEADERS], const char *content_type, struct texts *t)
{
	size_t n = 0;

	arena_init(&t->passed, PASSED_HEADERS_BYTES);
	if (content_type && *content_type)
		h[n++] = (struct header){ "Content-Type", content_type };
	if (x->fetch.transfer || x->passed)
		n += passed_headers(x, h + n, &t->passed);
	n += own_headers(x, h + n, t);
	return n + origin_headers(x->origin, x->request, h + n);
}

static void send_off(struct exchange *x, int status)
{
	x->status = status;
	if (x->result == RESULT_NONE && x->is_ask)
		x->result = RESULT_BYPASS;
}

static const char *answer_type(const struct exchange *x, bool stream)
{
	return stream ? reply_stream_type(x) : "application/json; charset=utf-8";
}

void reply_begin(struct exchange *x, int status, const char *content_type, int64_t length)
{
	struct header h[REPLY_HEADERS];
	struct texts t;

	send_off(x, status);
	x->head_sent = true;
	if (!content_type)
		content_type = answer_type(x, length < 0);
	request_reply_begin(x->request, status, h, make_head(x, h, content_type, &t), length);
	arena_fini(&t.passed);
}

void reply_whole(struct exchange *x, int status, const char *content_type, char *body, size_t len, bool stream)
{
	struct header h[REPLY_HEADERS];
	struct texts t;

	if (!request_claim(x->request, len)) {
		free(body);
		reply_error(x, ERR_REPLIES_FULL, NULL);
		return;
	}
	send_off(x, status);
	if (!content_type)
		content_type = answer_type(x, stream);
	size_t n = make_head(x, h, content_type, &t);
	if (!x->keep || len > REPLY_WHOLE_MAX || (stream && !request_fits_chunk(x->request, len))) {
		request_reply(x->request, status, h, n, body, len, stream);
		arena_fini(&t.passed);
		return;
	}
	x->keep->bytes = len + REPLY_HEAD_COST;
	x->keep->reply = reply_make(x->worker->server, status, h, n, body, len, stream);
	arena_fini(&t.passed);
	if (x->keep->reply)
		request_reply_made(x->request, x->keep->reply);
	else
		request_abort(x->request);
}

#define QUEUE_RETRY_S "30"                       /* who waited that long need not ask again at once */

void reply_error(struct exchange *x, enum err e, const char *text)
{
	struct header h[REPLY_HEADERS] = { { "Content-Type", "application/json; charset=utf-8" } };
	struct texts t;
	struct buf body;
	size_t n = 1, len;

	x->end = err_info[e].name;
	x->status = err_info[e].status;
	if (!x->request || request_replied(x->request))
		return;
	buf_init(&body, 4096);
	if (x->dialect->write_error(slice_text(text ? text : err_info[e].text), &body))
		body.len = 0;
	if (e == ERR_NOT_CACHED) {
		/* it was looked for, and went nowhere else */
		h[n++] = (struct header){ "X-Cache", "miss" };
		h[n++] = (struct header){ "Cache-Status", "ollacache; detail=only-if-cached" };
	} else {
		n += own_headers(x, h + n, &t);
	}
	n += origin_headers(x->origin, x->request, h + n);
	if (x->status == 503)
		h[n++] = (struct header){ "Retry-After", e == ERR_QUEUE_SLOW ? QUEUE_RETRY_S : "1" };
	char *bytes = buf_take(&body, &len);
	request_reply(x->request, x->status, h, n, bytes, len, false);
}

/* Lines for a stream. A stored text is one piece, but clients read lines of bounded length: it is given in parts. */
static enum err put_lines(struct exchange *x, struct slice pieces, struct buf *out)
{
	struct buf parts;
	enum err e = ERR_OK;
	size_t at = 0;

	buf_init(&parts, SIZE_MAX / 4);
	if (pieces.len > LINE_TEXT_MAX) {
		e = pieces_split(pieces, LINE_TEXT_MAX, &parts);
		pieces = buf_slice(&parts);
	}
	while (!e && x->dialect->write_line(&x->style, pieces, &at, out, &e))
		;
	buf_fini(&parts);
	return e;
}

static enum err put_object(struct exchange *x, struct slice pieces, struct buf *out)
{
	enum err e = x->dialect->write_whole_head(&x->style, out);

	return e ? e : x->dialect->write_whole_rest(x->style.family, pieces, out);
}

void reply_answer(struct exchange *x, struct slice pieces, const char *content_type, const struct answer_id *id, struct buf *owner)
{
	struct buf out;
	size_t len;

	reply_style_now(&x->style);
	if (pieces.len > STORED_PACED) {
		stored_reply(x, pieces, content_type, id, owner);
		return;
	}
	buf_init(&out, SIZE_MAX / 4);
	enum err e = x->ask.stream ? put_lines(x, pieces, &out) : put_object(x, pieces, &out);
	if (e) {
		buf_fini(&out);
		reply_error(x, e, NULL);
		return;
	}
	char *body = buf_take(&out, &len);
	reply_whole(x, 200, content_type, body, len, x->ask.stream);
	x->streamed = x->ask.stream;
}

void reply_saved(struct exchange *x, uint64_t tokens, uint64_t ns)
{
	metric_add(&x->worker->metrics, tokens_saved, tokens);
	metric_add(&x->worker->metrics, gpu_seconds_saved, ns);
	x->saved_tokens += tokens;
	x->saved_ns += ns;
}

/* ---- at the end ---- */

/* The label under which a request is timed: its result if it was served, else that it was not. Whoever asks for a model
 * that is not there, or while the upstream is down, is answered fast: such replies would make misses look quick. */
static int timed_as(const struct exchange *x)
{
	bool ended = *x->end && x->end != err_info[ERR_CLIENT_GONE].name && x->end != err_info[ERR_CLIENT_SLOW].name;

	if ((x->status >= 400 && x->status < 500) || x->end == err_info[ERR_NOT_CACHED].name)
		return RESULT_REFUSED;
	if (x->status >= 500 || ended)
		return RESULT_FAILED;
	return x->result != RESULT_NONE ? x->result : x->counted ? RESULT_BYPASS : RESULT_PASS;
}

static void count(struct exchange *x)
{
	struct metrics *m = &x->worker->metrics;

	if (!x->counted)
		return;
	switch (x->result) {
	case RESULT_EXACT:    metric_add(m, exact_cache_hits, 1); break;
	case RESULT_SEMANTIC: metric_add(m, semantic_cache_hits, 1); break;
	case RESULT_JOINED:   metric_add(m, joined_requests, 1); break;
	case RESULT_MISS:     metric_add(m, cache_misses, 1); break;
	case RESULT_BYPASS:   metric_add(m, bypassed_requests, 1); break;
	default:              break;
	}
	if (x->status == 200 && (x->streamed || (x->head_sent && x->ask.stream)))
		metric_add(m, streaming_requests, 1);
	if (timed_as(x) == RESULT_FAILED)
		metric_add(m, failed_requests, 1);
	else if (timed_as(x) == RESULT_REFUSED)
		metric_add(m, refused_requests, 1);
}

/* What became of candidates, as X-Candidates tells it, as fields of their own. */
static void log_winner(struct log_entry *e, const char *note)
{
	int n, winner;
	double score;

	if (sscanf(note, "%d; winner=%d; score=%lf", &n, &winner, &score) != 3)
		return;
	log_int(e, "candidates", n);
	log_int(e, "winner", winner);
	log_real(e, "score", score);
}

static void log_steps(struct log_entry *e, const struct exchange *x)
{
	char key[32];

	for (int i = 0; i < STEPS; i++) {
		if (x->step_us[i] <= 0)
			continue;
		snprintf(key, sizeof key, "%s_ms", step_name[i]);
		log_ms(e, key, x->step_us[i]);
	}
}

/* What went wrong on our side or the upstream's is a warning. Somebody who only looks (a dashboard, a scraper, a health
 * check) does so every few seconds: that is told at debug. */
static enum log_level request_level(const struct exchange *x)
{
	const struct request *r = x->request;
	bool looks = !strcmp(r->method, "GET") || !strcmp(r->method, "HEAD");

	if (admin_is_own(r) && looks && x->status < 400)
		return LOG_DEBUG;
	return timed_as(x) == RESULT_FAILED ? LOG_WARN : LOG_INFO;
}

/* One line a request. For people it says what happened, in about a hundred characters; who asked, how much and how long
 * in which step is for machines, and for whoever asks for debug. */
static void log_request(struct exchange *x, bool sent, int64_t total_us)
{
	struct log_entry e;
	const struct request *r = x->request;
	enum log_level level = request_level(x);

	if (!log_on(level))
		return;
	log_begin(&e, level, "request");
	bool all = e.json || log_on(LOG_DEBUG);
	if (all) {
		log_int(&e, "n", (int64_t)x->number);
		log_text(&e, "client", slice_text(r->peer));
		log_text(&e, "method", slice_text(r->method));
	}
	log_text(&e, "path", r->path);
	log_int(&e, "status", x->status);
	if (x->result != RESULT_NONE)
		log_text(&e, "result", slice_text(result_name[x->result]));
	if (x->result == RESULT_BYPASS && x->bypass != BYPASS_NO)
		log_text(&e, "why", slice_text(x->doubt ? x->doubt : bypass_name[x->bypass]));
	if (x->ask.model.len || x->style.model.len)
		log_text(&e, "model", x->ask.model.len ? x->ask.model : x->style.model);
	if (x->result == RESULT_SEMANTIC)
		log_real(&e, "similarity", x->similarity);
	if (*x->note)
		log_winner(&e, x->note);
	if (x->config->log_prompts && x->ask.question.len)
		log_text(&e, "question", x->ask.question);
	if (*x->end || !sent)
		log_text(&e, "end", slice_text(*x->end ? x->end : "not sent"));
	if (all) {
		log_int(&e, "in", (int64_t)x->body_bytes);
		log_int(&e, "out", (int64_t)r->sent_bytes);
	}
	log_ms(&e, all ? "total_ms" : "ms", total_us);
	if (all && r->first_byte_us)
		log_ms(&e, "first_byte_ms", r->first_byte_us - r->begun_us);
	if (all)
		log_steps(&e, x);
	log_end(&e);
}

/* Why it was not served from the cache, or not at all. */
static const char *reason(const struct exchange *x)
{
	if (*x->end || timed_as(x) == RESULT_FAILED)
		return *x->end ? x->end : err_info[ERR_PASSED].name;
	if (x->result == RESULT_BYPASS && x->bypass != BYPASS_NO)
		return x->doubt ? x->doubt : bypass_name[x->bypass];
	return timed_as(x) == RESULT_REFUSED ? err_info[ERR_PASSED].name : "";
}

/* Our own endpoints are left out: whoever looks at the dashboard would see little else. */
static void remember(struct exchange *x, int64_t total_us)
{
	const struct request *r = x->request;
	const struct journal_line line = {
		.at_ms = wall_now(), .total_us = total_us, .first_us = r->first_byte_us ? r->first_byte_us - r->begun_us : -1,
		.status = x->status, .host = x->host, .result = x->result, .timed = (enum metric_result)timed_as(x), .why = reason(x),
	};
	const struct journal_news news = {
		.method = slice_text(r->method), .path = r->path, .model = x->ask.model.len ? x->ask.model_plain : x->style.model,
		.tokens_saved = x->saved_tokens, .gpu_ns_saved = x->saved_ns, .counted = x->counted,
	};

	if (!admin_is_own(r))
		journal_add(x->worker->journal, &line, &news);
}

void exchange_account(struct exchange *x, bool sent)
{
	struct metrics *m = &x->worker->metrics;
	const struct request *r = x->request;
	int64_t total = x->entered_us - r->begun_us;     /* its last step was entered just now */

	count(x);
	if (x->counted || x->result != RESULT_NONE) {
		if (r->first_byte_us)
			metric_observe_us(m, first_byte_seconds, timed_as(x), r->first_byte_us - r->begun_us);
		metric_observe_us(m, request_seconds, timed_as(x), total);
	}
	remember(x, total);
	log_request(x, sent, total);
}
