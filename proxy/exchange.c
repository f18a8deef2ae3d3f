/* exchange.c - the life of a request: how it begins, what its client does, how it ends; see exchange.h. The steps between
 * are exchange_lookup.c (parse to seek) and exchange_stream.c (what a reader is given). */
#include "proxy/exchange.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/base/release.h"
#include "proxy/destination.h"
#include "proxy/model_lists.h"
#include "proxy/hop.h"
#include "proxy/semantic.h"
#include "proxy/route.h"
#include "proxy/virtual.h"

enum {
	EXCHANGE_MAGIC = 0x45786368,
	SPARE_EXCHANGES = 256,
};

const char *const step_name[STEPS] = {
	[STEP_ROUTE] = "route", [STEP_BODY] = "body", [STEP_PARSE] = "parse", [STEP_DIGEST] = "digest", [STEP_LOOKUP] = "lookup",
	[STEP_JOIN] = "join", [STEP_SEEK] = "seek", [STEP_QUEUE] = "queue", [STEP_FORWARD] = "forward", [STEP_STREAM] = "stream",
	[STEP_PASS] = "pass", [STEP_ADMIN] = "admin", [STEP_FINISH] = "finish",
};

/* ---- holding ---- */

static void check(const struct exchange *x)
{
	assert(x && x->magic == EXCHANGE_MAGIC && x->refs > 0);
}

void exchange_hold(struct exchange *x)
{
	check(x);
	x->refs++;
}

/* A few are kept: an exchange is too large for malloc's quick lists. Under a sanitizer none is, so that it sees each. */
static void exchange_free(struct worker *w, struct exchange *x)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	free(x);
	(void)w;
#else
	if (w->n_spare >= SPARE_EXCHANGES) {
		free(x);
		return;
	}
	x->next = w->spare;
	w->spare = x;
	w->n_spare++;
#endif
}

static void bury(struct burial *b)
{
	struct exchange *x = (struct exchange *)((char *)b - offsetof(struct exchange, burial));
	struct worker *w = x->worker;

	if (x->wake.posted || x->alone.posted || x->room.posted || x->digest_wait.mail.posted || x->share.mail.posted) {
		loop_bury(&w->loop, b);          /* a mail is under way: it finds a finished exchange, then we go */
		return;
	}
	*x->prev = x->next;
	if (x->next)
		x->next->prev = x->prev;
	w->n_exchanges--;
	release_buf(&w->loop, &x->body);
	buf_fini(&x->lines_out);
	buf_fini(&x->explained);
	buf_fini(&x->get.entry);
	buf_fini(&x->get.proposed);
	semantic_free(x->near);
	candidates_free(x);
	lists_free(x);
	admin_free(x);
	release_arena(&w->loop, &x->arena);
	config_drop(x->config);
	x->magic = 0;
	exchange_free(w, x);
}

void exchanges_forget(struct worker *w)
{
	while (w->spare) {
		struct exchange *x = w->spare;
		w->spare = x->next;
		free(x);
	}
}

void exchange_drop(struct exchange *x)
{
	check(x);
	if (--x->refs)
		return;
	exchange_share_back(x);
	alarm_clear(&x->worker->alarms, &x->wait);
	alarm_clear(&x->worker->alarms, &x->heartbeat);
	loop_bury(&x->worker->loop, &x->burial);
}

void exchange_step(struct exchange *x, enum step step)
{
	int64_t now = clock_us();

	x->step_us[x->step] += now - x->entered_us;
	x->entered_us = now;
	x->step = step;
	log_line(LOG_DEBUG, "step", "%llu %s", (unsigned long long)x->number, step_name[step]);
}

/* ---- mail ---- */

static void on_wake(struct mail *m)
{
	struct exchange *x = EXCHANGE_OF(m, wake);

	if (x->flight && x->request)
		exchange_pump(x);
}

static void on_alone(struct mail *m)
{
	struct exchange *x = EXCHANGE_OF(m, alone);

	if (x->lead_flight)
		fetch_stop(x);
}

static void on_room(struct mail *m)
{
	struct exchange *x = EXCHANGE_OF(m, room);

	if (x->lead_flight)
		fetch_room(x);
}

/* Called under the flight's lock, from any thread. */
void exchange_post_wake(void *arg)  { struct exchange *x = arg; loop_post(&x->worker->loop, &x->wake); }
void exchange_post_alone(void *arg) { struct exchange *x = arg; loop_post(&x->worker->loop, &x->alone); }
void exchange_post_room(void *arg)  { struct exchange *x = arg; loop_post(&x->worker->loop, &x->room); }

/* ---- route ---- */

static struct exchange *exchange_new(struct request *r, struct worker *w)
{
	struct exchange *x = w->spare;

	if (x) {
		w->spare = x->next;
		w->n_spare--;
	} else if (!(x = malloc(sizeof *x))) {
		return NULL;
	}
	memset(x, 0, offsetof(struct exchange, get));
	x->get.entry = x->get.proposed = (struct buf){ 0 };
	x->get.query = NULL;
	x->get.n_proposals = 0;
	x->get.both = x->get.bounded = false;
	x->get.link_private = NULL;
	x->note[0] = x->status_text[0] = '\0';
	x->magic = EXCHANGE_MAGIC;
	x->refs = 1;
	x->worker = w;
	x->config = config_hold(w->config);
	x->request = r;
	x->upload_length = r->content_length;
	x->number = atomic_fetch_add(&w->shared->requests_seen, 1) + 1;
	x->next = w->exchanges;
	x->prev = &w->exchanges;
	if (x->next)
		x->next->prev = &x->next;
	w->exchanges = x;
	w->n_exchanges++;
	x->burial.bury = bury;
	x->wake.run = on_wake;
	x->alone.run = on_alone;
	x->room.run = on_room;
	x->reader = (struct flight_reader){ .wake = exchange_post_wake, .arg = x };
	x->result = RESULT_NONE;
	x->host = -1;
	x->candidates = 1;
	x->dialect = &dialect_ollama;
	x->end = "";
	x->begun_us = x->entered_us = r->begun_us;
	arena_init(&x->arena, EXCHANGE_ARENA_LEAST);
	buf_init(&x->body, x->config->server_max_body);
	buf_init(&x->lines_out, SIZE_MAX / 4);
	r->owner = x;
	return x;
}

/* As Ollama's refusal: no body, and Allow where the method would have been the wrong one anyway. */
static void forbid(struct exchange *x)
{
	const char *method = x->request->method, *allow = route_allow(x->request->path);
	const struct header h = { "Allow", allow };
	size_t n = allow && !route_lists(allow, method);

	x->status = 403;
	x->origin = ORIGIN_NONE;
	x->end = "forbidden";
	if (!strcmp(method, "HEAD"))
		request_reply_begin(x->request, 403, &h, n, -1);         /* no length either */
	else
		request_reply(x->request, 403, &h, n, NULL, 0, false);
}

static void preflight(struct exchange *x)
{
	struct header h[CORS_HEADERS_MAX];
	size_t n = origin_preflight(x->origin, x->request, route_allow(x->request->path), h);

	x->status = 204;
	request_reply(x->request, 204, h, n, NULL, 0, false);
}

static void count_ask(struct exchange *x)
{
	x->counted = true;
	metric_add(&x->worker->metrics, requests, 1);
}

static void on_begin(struct request *r, void *arg)
{
	struct worker *w = arg;
	struct exchange *x = exchange_new(r, w);
	char why[256];

	if (!x) {
		request_abort(r);
		return;
	}
	const struct route *route = route_find(r);
	x->route_name = route ? family_name[route->family] : admin_is_own(r) ? "own" : "pass";
	if (atomic_load(&w->shared->draining)) {
		reply_error(x, ERR_DRAINING, NULL);
		return;
	}
	if (hop_came_back(r)) {
		reply_error(x, ERR_LOOP, NULL);
		return;
	}
	if (!host_allowed(x->config, r)) {
		forbid(x);
		return;
	}
	if (admin_is_own(r)) {
		exchange_step(x, STEP_ADMIN);
		admin_begin(x);
		return;
	}
	x->origin = origin_judge(x->config, r);
	if (x->origin == ORIGIN_FORBIDDEN) {
		forbid(x);
		return;
	}
	if (x->origin != ORIGIN_NONE && !strcmp(r->method, "OPTIONS")) {
		preflight(x);
		return;
	}
	if (!route) {
		metric_add(&w->metrics, passed_requests, 1);
		x->lists = virtual_is_list(x->config, r);
		x->shows = virtual_is_show(r);
		x->peeks = hosts_count(w->shared->hosts) > 1 && destination_in_body(r);
		if (lists_wanted(x))
			lists_begin(x);
		else if (x->shows || x->peeks)
			exchange_body_begin(x);
		else
			pass_begin(x, false);
		return;
	}
	x->is_ask = true;
	x->family = route->family;
	count_ask(x);
	if (!wishes_read(x, why, sizeof why)) {
		reply_error(x, ERR_BAD_HEADER, why);
		return;
	}
	exchange_body_begin(x);
}

/* ---- body ---- */

static size_t on_body(struct request *r, struct slice bytes)
{
	struct exchange *x = r->owner;

	x->body_bytes += bytes.len;
	if (x->pass)
		return pass_body(x, bytes);
	if (x->own)
		return admin_body(x, bytes);
	if (x->step != STEP_BODY)
		return bytes.len;
	return exchange_body(x, bytes);
}

/* /api/show of NAME@complex is asked as NAME. */
static void pass_shown(struct exchange *x)
{
	struct buf body;

	buf_init(&body, x->config->server_max_body + VIRTUAL_SHOW_MAX);
	if (virtual_show(buf_slice(&x->body), &body)) {
		buf_fini(&x->body);
		x->body = body;
	}
	pass_begin(x, true);
}

static void on_whole(struct request *r)
{
	struct exchange *x = r->owner;

	if (x->pass) {
		pass_body_whole(x);
		return;
	}
	if (x->own) {
		admin_whole(x);
		return;
	}
	if (x->step != STEP_BODY || request_replied(r))
		return;
	if (x->shows)
		pass_shown(x);
	else if (x->peeks)
		pass_begin(x, true);
	else if (!exchange_short_way(x))
		exchange_parse(x);
}

/* ---- the client ---- */

static void on_writable(struct request *r)
{
	struct exchange *x = r->owner;

	if (x->pass)
		pass_writable(x);
	if (x->stored.copy)
		stored_pump(x);
	if (x->lead_flight)
		fetch_writable(x);
	if (x->request && x->flight && x->head_sent)
		exchange_pump(x);
}

static void stop_waiting(struct exchange *x)
{
	struct worker *w = x->worker;

	if (x->digest_wait.loop)
		models_unwait(w->shared->models, &x->digest_wait);
	alarm_clear(&w->alarms, &x->wait);
	alarm_clear(&w->alarms, &x->heartbeat);
	exchange_share_back(x);
	if (x->getting && !x->lead_flight) {
		w->shared->store->ops->cancel(w->link, &x->get);
		x->getting = false;
		exchange_drop(x);
	}
	stored_drop(x);
	if (x->pass)
		pass_stop(x);
	lists_stop(x);
}

static void on_gone(struct request *r, enum err why)
{
	struct exchange *x = r->owner;

	x->client_gone = true;
	x->end = err_info[why].name;
	metric_add(&x->worker->metrics, client_gone, 1);
	exchange_hold(x);
	stop_waiting(x);
	exchange_leave_flight(x);
	if (x->lead_flight)
		exchange_post_room(x);                    /* an upstream that waited for this client waits for nobody now */
	exchange_drop(x);
}

static void on_done(struct request *r, bool sent)
{
	struct exchange *x = r->owner;

	exchange_hold(x);
	if (!x->client_gone) {
		if (!sent && !*x->end)
			x->end = err_info[ERR_CLIENT_GONE].name;
		stop_waiting(x);
		exchange_leave_flight(x);
	}
	exchange_step(x, STEP_FINISH);
	exchange_account(x, sent);
	x->request = NULL;
	r->owner = NULL;
	if (x->lead_flight)
		exchange_post_room(x);
	exchange_drop(x);
	exchange_drop(x);
}

const struct request_ops exchange_ops = {
	.begin = on_begin,
	.body = on_body,
	.whole = on_whole,
	.writable = on_writable,
	.gone = on_gone,
	.done = on_done,
};
