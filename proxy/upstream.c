/* upstream.c - see upstream.h.
 *
 * An ended or cancelled transfer gives up its connection at once and calls its owner no more; its memory and its place at the
 * upstream go at the end of the loop's turn, when nobody on the stack still looks at it.
 *
 * What failed before its owner has heard of a reply is sent to another upstream that may have it, if there is one: to each in
 * turn while none could be connected to, for then nothing was done; else to one more, if what was asked may be done twice. A
 * body that is streamed cannot be sent again once some of it was read. */
#include "proxy/upstream.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/host_state.h"
#include "proxy/upstream_private.h"

static struct private *private_of(const struct transfer *t)
{
	return (struct private *)(uintptr_t)t;
}

static void count(const struct private *t, _Atomic uint64_t *cell)
{
	if (!t->rq.uncounted)
		metric_cell_add(cell, 1);
}

static struct private *of_http(struct http *h)
{
	return (struct private *)((char *)h - offsetof(struct private, http));
}

static void begin(struct private *t);

/* ---- a transfer's end ---- */

static void bury(struct burial *b)
{
	struct private *t = (struct private *)((char *)b - offsetof(struct private, burial));

	if (t->ticket.host >= 0)
		hosts_give(t->u->hosts, &t->ticket);
	if (t->ticket.mail.posted) {             /* its mail is under way: once more, next turn */
		loop_bury(t->u->loop, &t->burial);
		return;
	}
	http_fini(&t->http);
	t->u->n_transfers--;
	free(t);
}

static void stop(struct private *t)
{
	t->over = true;
	http_stop(&t->http);
	hosts_leave(t->u->hosts, &t->ticket);
	alarm_clear(t->u->alarms, &t->alarm);
	loop_bury(t->u->loop, &t->burial);
}

static void end(struct private *t, enum err e)
{
	if (t->over)
		return;
	if (e)
		count(t, &t->u->metrics->upstream_errors);
	stop(t);
	t->ops->on_end(&t->pub, e);
}

void upstream_cancel(struct transfer *pub)
{
	struct private *t = private_of(pub);

	if (t->over)
		return;
	count(t, &t->u->metrics->upstream_cancelled);
	stop(t);
}

/* ---- failures ---- */

/* To another upstream, if one may be asked. */
static bool fail_over(struct private *t, enum err e)
{
	struct upstream *u = t->u;
	host_set left = failure_left(t, e);

	if (!left)
		return false;
	log_line(LOG_DEBUG, "upstream", "%s failed before its first byte (%s); trying another", hosts_url(t->u->hosts, (size_t)t->pub.host),
	         e ? err_info[e].name : "its status");
	if (e || failure_is_busy(t->refused))
		count(t, &u->metrics->upstream_errors);
	t->tried |= (host_set)1 << t->pub.host;
	t->again |= e ? e != ERR_UPSTREAM_DOWN : failure_is_busy(t->refused);
	hosts_give(u->hosts, &t->ticket);
	t->ticket.may = left;
	begin(t);
	return true;
}

static void failed(struct private *t, enum err e)
{
	if (failure_speaks_against(e))
		failure_hold_against(t, e, 0);
	failure_say_why(t, e);
	http_stop(&t->http);
	if (!fail_over(t, e))
		end(t, e);
}

static void on_http_end(struct http *h, enum err e)
{
	struct private *t = of_http(h);

	if (e)
		failed(t, e);
	else
		end(t, ERR_OK);
}

/* ---- bytes ---- */

/* How long the upstream may say nothing at first. A plain answer may take long, or will never come, and nothing tells which: if
 * another host could answer it as well, that one is asked after the time in which a stream would have begun. */
static int64_t first_limit(const struct private *t)
{
	const struct transfer_request *rq = &t->rq;
	bool elsewhere = transfer_tells(t) && hosts_well(t->u->hosts, failure_left(t, ERR_UPSTREAM_SLOW));

	return !rq->answer_ms || (elsewhere && rq->first_byte_ms < rq->answer_ms) ? rq->first_byte_ms : rq->answer_ms;
}

/* How much longer the upstream may take to go on. */
static int64_t patience(const struct private *t)
{
	const struct http *h = &t->http;
	const struct transfer_request *rq = &t->rq;
	int64_t now = loop_now(t->u->loop), left;

	if (h->paused || h->upload_paused)
		return rq->idle_ms;              /* it is not the upstream that keeps silent: whoever paused has a timer */
	if (t->pub.status)
		left = rq->idle_ms - (now - h->last_sign);
	else if (h->heard)
		left = rq->idle_ms - (now - h->heard_at);        /* once begun a head comes whole, not a byte now and then */
	else
		left = first_limit(t) - (now - h->last_sign);
	int64_t whole = rq->answer_ms && rq->kind == TRANSFER_GENERATION ? rq->answer_ms - (now - t->asked_at) : left;
	return whole < left ? whole : left;
}

static void on_alarm(struct alarm *a);

/* Looked at anew at least as often as an answer may be silent: what is waited for changes with its first byte. */
static void wait_on(struct private *t, int64_t ms)
{
	alarm_set(t->u->alarms, &t->alarm, ms < t->rq.idle_ms ? ms : t->rq.idle_ms, on_alarm);
}

static void on_alarm(struct alarm *a)
{
	struct private *t = (struct private *)((char *)a - offsetof(struct private, alarm));
	int64_t left = patience(t);

	if (left > 0)
		wait_on(t, left);
	else
		failed(t, ERR_UPSTREAM_SLOW);
}

static void on_refused(struct alarm *a)
{
	struct private *t = (struct private *)((char *)a - offsetof(struct private, alarm));

	if (!fail_over(t, ERR_OK))
		failed(t, ERR_UPSTREAM_BROKE);   /* the other one has gone in this moment */
}

static void on_http_head(struct http *h, int status)
{
	struct private *t = of_http(h);
	struct hosts *hosts = t->u->hosts;

	host_replied(hosts, (size_t)t->pub.host);
	if (failure_is_busy(status))
		failure_hold_against(t, ERR_OK, status);
	else if (transfer_tells(t))
		hosts_worked(hosts, &t->ticket);
	t->refused = status;
	if (failure_refuses(t, status) && failure_left(t, ERR_OK)) {
		http_stop(h);                    /* and on from the loop: the reply is being read */
		alarm_set(t->u->alarms, &t->alarm, 0, on_refused);
		return;
	}
	t->pub.status = status;
	if (status >= 500)
		count(t, &t->u->metrics->upstream_errors);
	wait_on(t, t->rq.idle_ms);
	t->ops->on_head(&t->pub, status);
}

static void on_http_bytes(struct http *h, struct slice bytes)
{
	struct private *t = of_http(h);

	t->pub.bytes += bytes.len;
	if (!t->ops->on_bytes(&t->pub, bytes))
		http_pause(h);
}

static size_t on_http_upload(struct http *h, char *to, size_t max)
{
	struct private *t = of_http(h);

	return t->ops->on_upload(&t->pub, to, max);
}

static bool on_http_rewind(struct http *h)
{
	struct private *t = of_http(h);

	return t->ops->on_rewind && t->ops->on_rewind(&t->pub);
}

static const struct http_ops http_ops = {
	.on_head = on_http_head, .on_bytes = on_http_bytes, .on_upload = on_http_upload, .on_rewind = on_http_rewind,
	.on_end = on_http_end,
};

bool transfer_sent(const struct transfer *pub)
{
	const struct private *t = private_of(pub);

	return pub->status && !t->over && http_sent(&t->http);
}

void upstream_resume(struct transfer *pub)
{
	struct private *t = private_of(pub);

	if (!t->over)
		http_resume(&t->http);
}

void upstream_upload_more(struct transfer *pub)
{
	struct private *t = private_of(pub);

	if (!t->over)
		http_upload_more(&t->http);
}

/* ---- a transfer's start ---- */

static enum err send_off(struct private *t)
{
	struct upstream *u = t->u;
	enum err e;

	t->pub.host = t->ticket.host;
	t->asked_at = loop_now(u->loop);
	e = http_start(&t->http, u->peers, u->loop, t->pub.host, &t->rq, &http_ops);
	if (e)
		return e;
	count(t, &u->metrics->upstream_requests);
	wait_on(t, patience(t));
	return ERR_OK;
}

static void on_no_start(struct alarm *a)
{
	end((struct private *)((char *)a - offsetof(struct private, alarm)), ERR_NO_MEMORY);
}

/* ---- in line for a place ---- */

static void queue_over(struct private *t)
{
	t->pub.queued = false;
	metric_observe_us(t->u->metrics, queue_seconds, 0, (loop_now(t->u->loop) - t->asked_at) * 1000);
}

static void on_no_place(struct alarm *a)
{
	struct private *t = (struct private *)((char *)a - offsetof(struct private, alarm));

	queue_over(t);
	end(t, ERR_QUEUE_SLOW);
}

static void on_place(struct mail *m)
{
	struct private *t = (struct private *)((char *)m - offsetof(struct private, ticket.mail));

	if (t->over)
		return;
	queue_over(t);
	enum err e = send_off(t);
	if (e)
		end(t, e);
	else if (t->ops->on_queue)
		t->ops->on_queue(&t->pub);
}

/* Never calls back before it returns, but for on_queue(): what goes wrong at once is told from the loop. */
static void begin(struct private *t)
{
	if (!hosts_take(t->u->hosts, &t->ticket)) {
		t->asked_at = loop_now(t->u->loop);
		t->pub.queued = true;
		alarm_set(t->u->alarms, &t->alarm, t->rq.queue_ms, on_no_place);
		if (t->tried && t->ops->on_queue)
			t->ops->on_queue(&t->pub);
		return;
	}
	if (send_off(t))
		alarm_set(t->u->alarms, &t->alarm, 0, on_no_start);
}

struct transfer *upstream_start(struct upstream *u, const struct transfer_request *rq, const struct transfer_ops *ops, void *owner)
{
	struct private *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->pub.owner = owner;
	t->pub.host = -1;
	t->u = u;
	t->rq = *rq;
	t->ops = ops;
	t->burial.bury = bury;
	t->ticket = (struct host_ticket){ .mail.run = on_place, .loop = u->loop, .may = rq->may ? rq->may : UINT32_MAX,
	                                  .no_place = rq->uncounted || rq->kind != TRANSFER_GENERATION,
	                                  .untold = !transfer_tells(t), .in_order = rq->kind == TRANSFER_CHANGE,
	                                  .host = -1 };
	u->n_transfers++;
	begin(t);
	return &t->pub;
}

/* ---- the reply's head ---- */

void transfer_each_header(const struct transfer *pub, void (*each)(void *arg, struct slice name, struct slice value), void *arg)
{
	http_each_header(&private_of(pub)->http, each, arg);
}

struct slice transfer_header(const struct transfer *pub, const char *name)
{
	return http_header(&private_of(pub)->http, name);
}

/* ---- the worker's side ---- */

struct upstream *upstream_new(struct loop *loop, struct alarms *alarms, struct hosts *hosts, struct metrics *metrics)
{
	struct upstream *u = calloc(1, sizeof *u);

	if (!u)
		abort();                     /* at start */
	u->loop = loop;
	u->alarms = alarms;
	u->hosts = hosts;
	u->metrics = metrics;
	u->peers = peers_new(loop, alarms, hosts);
	return u;
}

void upstream_free(struct upstream *u)
{
	assert(u->n_transfers == 0);
	peers_free(u->peers);
	free(u);
}
