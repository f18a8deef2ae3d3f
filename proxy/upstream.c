/* upstream.c - see upstream.h.
 *
 * An ended or cancelled transfer gives up its connection at once and calls its owner no more; its memory and its place at the
 * upstream go at the end of the loop's turn, when nobody on the stack still looks at it.
 *
 * An upstream that fails before the first byte of its reply is not asked again; another one is, if there is one and the
 * body can be sent again (a streamed body can only if none of it was read). */
#include "proxy/upstream.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/host_state.h"

struct private {
	struct transfer pub;                 /* first */
	struct upstream *u;
	struct transfer_request rq;
	const struct transfer_ops *ops;
	struct http http;
	struct host_ticket ticket;
	struct alarm alarm;
	bool over;                           /* the owner is not to be called any more */
	host_set tried;
	struct burial burial;
};

struct upstream {
	struct loop *loop;
	struct alarms *alarms;
	struct hosts *hosts;
	struct metrics *metrics;
	struct peers *peers;
	size_t n_transfers;
};

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
		hosts_give(t->u->hosts, &t->ticket, t->rq.max_in_flight);
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

/* Another upstream that has not been asked yet, if the failure came before the first byte. */
static bool fail_over(struct private *t, enum err e)
{
	struct upstream *u = t->u;
	host_set left;

	if (t->pub.status || t->http.upload_begun || (e != ERR_UPSTREAM_DOWN && e != ERR_UPSTREAM_BROKE))
		return false;
	t->tried |= 1u << t->pub.host;
	left = t->ticket.may & ~t->tried & (hosts_count(u->hosts) >= 32 ? UINT32_MAX : (1u << hosts_count(u->hosts)) - 1);
	if (!left)
		return false;
	log_line(LOG_DEBUG, "upstream", "%s failed before its first byte (%s); trying another", hosts_url(u->hosts, (size_t)t->pub.host),
	         err_info[e].name);
	count(t, &u->metrics->upstream_errors);
	hosts_give(u->hosts, &t->ticket, t->rq.max_in_flight);
	t->ticket.tried = t->tried;
	t->ticket.may = left;
	begin(t);
	return true;
}

static void on_http_end(struct http *h, enum err e)
{
	struct private *t = of_http(h);

	if (!fail_over(t, e))
		end(t, e);
}

/* ---- bytes ---- */

static void on_alarm(struct alarm *a)
{
	struct private *t = (struct private *)((char *)a - offsetof(struct private, alarm));
	int64_t limit = t->pub.status ? t->rq.idle_ms : t->rq.first_byte_ms;
	int64_t silent = loop_now(t->u->loop) - t->http.last_sign;

	if (t->http.paused || t->http.upload_paused)
		silent = 0;                      /* it is not the upstream that keeps silent: whoever paused has a timer */
	if (silent < limit) {
		alarm_set(t->u->alarms, a, limit - silent, on_alarm);
		return;
	}
	end(t, ERR_UPSTREAM_SLOW);
}

static void on_http_head(struct http *h, int status)
{
	struct private *t = of_http(h);

	t->pub.status = status;
	if (status >= 500)
		count(t, &t->u->metrics->upstream_errors);
	host_replied(t->u->hosts, (size_t)t->pub.host);
	alarm_set(t->u->alarms, &t->alarm, t->rq.idle_ms, on_alarm);
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

static const struct http_ops http_ops = {
	.on_head = on_http_head, .on_bytes = on_http_bytes, .on_upload = on_http_upload, .on_end = on_http_end,
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
	e = http_start(&t->http, u->peers, u->loop, t->pub.host, &t->rq, &http_ops);
	if (e)
		return e;
	count(t, &u->metrics->upstream_requests);
	alarm_set(u->alarms, &t->alarm, t->rq.first_byte_ms, on_alarm);
	return ERR_OK;
}

static void on_no_start(struct alarm *a)
{
	end((struct private *)((char *)a - offsetof(struct private, alarm)), ERR_NO_MEMORY);
}

static void on_no_place(struct alarm *a)
{
	end((struct private *)((char *)a - offsetof(struct private, alarm)), ERR_UPSTREAM_SLOW);
}

static void on_place(struct mail *m)
{
	struct private *t = (struct private *)((char *)m - offsetof(struct private, ticket.mail));

	if (t->over)
		return;
	enum err e = send_off(t);
	if (e)
		end(t, e);
}

/* Never calls back before it returns: what goes wrong at once is told from the loop. */
static void begin(struct private *t)
{
	if (!hosts_take(t->u->hosts, &t->ticket, t->rq.max_in_flight)) {
		alarm_set(t->u->alarms, &t->alarm, t->rq.first_byte_ms, on_no_place);
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
	t->ticket = (struct host_ticket){ .mail.run = on_place, .loop = u->loop, .may = rq->may ? rq->may : UINT32_MAX, .host = -1 };
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
