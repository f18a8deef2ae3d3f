/* pass.c - what is not asked: both directions at once, in constant memory, chunk by chunk as it was flushed.
 *
 * A side that is full stops the other: the client's body is read only while there is room in `up`, the upstream's only while
 * the client takes what is queued for it. What was read of a body before it turned out to be none of ours (too large, not
 * understood) is the beginning of `up`. */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/base/release.h"
#include "proxy/destination.h"
#include "proxy/exchange.h"
#include "proxy/headers.h"
#include "proxy/model_change.h"
#include "proxy/route.h"
#include "proxy/virtual.h"

enum { PASS_WINDOW = 32 << 10, PASS_HEADERS_MAX = 200, PASS_ARENA = 1 << 20 };

struct pass {
	struct transfer *transfer;
	struct transfer_request rq;
	struct buf up;                   /* from up_at on: read from the client, not yet taken by the upstream */
	size_t up_at;
	struct buf list;                 /* a list of models, to which more are added */
	bool changes;                    /* it may change the upstream's models */
	struct model_change change;
	bool again;                      /* `up` has the body from its beginning: it can be sent again until the reply begins */
	bool up_whole, up_paused, waits;   /* waits: the upstream asked for more than there was */
};

/* ---- the reply ---- */

/* The head is written once the list is whole: its length changes. */
static bool keeps_list(const struct exchange *x, int status)
{
	return x->lists && status == 200;
}

static void reply_head(struct exchange *x, struct transfer *t, int status, int64_t known_length)
{
	struct header *h = calloc(PASS_HEADERS_MAX, sizeof *h);
	x->status = status;
	if (!x->request || !h) {
		free(h);
		return;
	}
	size_t n = headers_back(t, false, &x->arena, h, PASS_HEADERS_MAX - CORS_HEADERS_MAX - 2);
	if (x->is_ask) {
		x->result = RESULT_BYPASS;
		snprintf(x->status_text, sizeof x->status_text, "ollacache; fwd=bypass; detail=%s", bypass_name[x->bypass]);
		h[n++] = (struct header){ "X-Cache", "bypass" };
		h[n++] = (struct header){ "Cache-Status", x->status_text };
	}
	n += origin_headers(x->origin, x->request, h + n);
	if (status == 204 || known_length == 0) {
		request_reply(x->request, status, h, n, NULL, 0, false);
	} else {
		x->head_sent = true;
		request_reply_begin(x->request, status, h, n, known_length);
	}
	free(h);
}

static void on_head(struct transfer *t, int status)
{
	struct exchange *x = t->owner;
	struct slice length = transfer_header(t, "Content-Length");
	uint64_t n = 0;
	bool known = length.at && slice_number(length, INT64_MAX, &n);

	x->host = t->host;
	x->pass->again = false;
	if (!keeps_list(x, status))
		reply_head(x, t, status, known ? (int64_t)n : -1);
}

static void reply_list(struct exchange *x, struct transfer *t)
{
	struct pass *p = x->pass;
	struct buf longer;

	buf_init(&longer, VIRTUAL_LIST_MAX * 3);
	bool made = virtual_list(buf_slice(&p->list), &longer);
	struct slice body = made ? buf_slice(&longer) : buf_slice(&p->list);
	reply_head(x, t, t->status, (int64_t)body.len);
	if (x->head_sent)
		(void)!request_write(x->request, body);          /* a failure has broken the reply */
	buf_fini(&longer);
}

/* It has been sent whole, and is not wanted again. */
static void let_body_go(struct exchange *x)
{
	release_buf(&x->worker->loop, &x->pass->up);
	x->pass->up_at = 0;
	exchange_share_back(x);
}

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct exchange *x = t->owner;

	if (x->pass->changes)
		model_change_bytes(&x->pass->change, bytes);
	if (x->pass->up_whole && transfer_sent(t))
		let_body_go(x);
	if (keeps_list(x, t->status)) {
		if (x->pass->list.limit == 0)
			buf_init(&x->pass->list, VIRTUAL_LIST_MAX);
		/* longer than any list: passed on as it came from here on */
		if (!buf_put(&x->pass->list, bytes))
			return true;
		x->lists = false;
		reply_head(x, t, t->status, -1);
		if (x->request && x->head_sent)
			(void)!request_write(x->request, buf_slice(&x->pass->list));
	}
	if (!x->request || !x->head_sent)
		return true;
	if (request_write(x->request, bytes))
		return true;                     /* the reply is broken: done() comes */
	request_flush(x->request);
	return x->request && request_queued(x->request) < PASS_WINDOW;
}

/* The reply is over, or given up. */
static void tell_change(struct exchange *x, const struct transfer *t)
{
	struct pass *p = x->pass;

	if (!p->changes)
		return;
	p->changes = false;
	if (model_change_done(&p->change, t->status) && t->host >= 0)
		models_want_look(x->worker->shared->models, t->host);
}

static void on_end(struct transfer *t, enum err e)
{
	struct exchange *x = t->owner;
	struct pass *p = x->pass;

	p->transfer = NULL;
	x->host = t->host;
	tell_change(x, t);                       /* before the client hears of the end */
	if (!x->request)
		return;
	if (!e && keeps_list(x, t->status))
		reply_list(x, t);
	if (e && !x->head_sent)
		reply_error(x, e, *t->why ? t->why : NULL);
	else if (x->head_sent) {
		if (e)
			x->end = err_info[e].name;
		request_end(x->request, !e);
	}
	/* what is still to come of the body is dropped */
	p->up_whole = true;
	if (p->up_paused) {
		p->up_paused = false;
		request_more(x->request);
	}
}

/* ---- the client's body ---- */

static void drop_sent(struct loop *l, struct pass *p)
{
	p->up_at = p->up.len = 0;
	if (p->up.room > PASS_WINDOW)
		release_buf(l, &p->up);
}

static bool on_rewind(struct transfer *t)
{
	struct pass *p = ((struct exchange *)t->owner)->pass;

	if (p->again)
		p->up_at = 0;
	p->waits &= !p->again;
	return p->again;
}

static size_t on_upload(struct transfer *t, char *to, size_t max)
{
	struct exchange *x = t->owner;
	struct pass *p = x->pass;
	size_t n = p->up.len - p->up_at;

	if (n == 0) {
		if (p->up_whole)
			return 0;
		p->waits = true;
		return UPLOAD_PAUSE;
	}
	n = n < max ? n : max;
	memcpy(to, p->up.at + p->up_at, n);
	p->up_at += n;
	if (p->up_at == p->up.len) {
		if (!p->again)
			drop_sent(&x->worker->loop, p);
		exchange_share_back(x);          /* of what had been kept before it was known that it passes */
	}
	if (p->up_paused && p->up.len - p->up_at < PASS_WINDOW / 2 && x->request) {
		p->up_paused = false;
		request_more(x->request);
	}
	return n;
}

static const struct transfer_ops pass_ops = {
	.on_head = on_head, .on_bytes = on_bytes, .on_end = on_end, .on_upload = on_upload, .on_rewind = on_rewind,
};

size_t pass_body(struct exchange *x, struct slice bytes)
{
	struct pass *p = x->pass;

	if (!p || p->up_whole || !p->transfer)
		return bytes.len;                /* nobody wants it any more */
	if (p->up.len - p->up_at >= PASS_WINDOW) {
		p->up_paused = true;
		x->body_bytes -= bytes.len;
		return 0;
	}
	p->again &= p->up.len + bytes.len <= PASS_WINDOW;
	if (p->up_at && !p->again) {
		buf_cut(&p->up, p->up_at);
		p->up_at = 0;
	}
	if (buf_put(&p->up, bytes)) {
		pass_stop(x);
		reply_error(x, ERR_NO_MEMORY, NULL);
		return bytes.len;
	}
	if (p->waits) {
		p->waits = false;
		upstream_upload_more(p->transfer);
	}
	return bytes.len;
}

void pass_body_whole(struct exchange *x)
{
	struct pass *p = x->pass;

	if (!p)
		return;                          /* it could not begin, and the client was told */
	p->up_whole = true;
	if (p->transfer && p->waits) {
		p->waits = false;
		upstream_upload_more(p->transfer);
	}
}

/* ---- start and end ---- */

void pass_begin(struct exchange *x, bool whole)
{
	const struct config *c = x->config;
	struct request *r = x->request;
	bool several = hosts_count(x->worker->shared->hosts) > 1;
	struct destination to = destination_find(r, several ? buf_slice(&x->body) : (struct slice){ 0 }, x->worker->shared->models);

	/* also of a body whose parsing has filled its room: passing it on needs a little, and not of that */
	x->arena.limit += PASS_ARENA;
	x->arena.full = false;
	struct pass *p = arena_alloc(&x->arena, sizeof *p);
	struct header *h = arena_alloc(&x->arena, PASS_HEADERS_MAX * sizeof *h);
	char *target = arena_text(&x->arena, r->target);

	exchange_step(x, STEP_PASS);
	if (!p || !h || !target) {
		reply_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	size_t n = headers_forward(r, false, &x->arena, h, PASS_HEADERS_MAX);
	x->pass = p;
	p->changes = route_changes_models(r);
	if (p->changes)
		model_change_begin(&p->change);
	p->up = x->body;                         /* what was read so far goes first */
	p->up.limit = SIZE_MAX / 4;              /* bounded by PASS_WINDOW, and by server.max_body for what was there */
	x->body = (struct buf){ .limit = x->body.limit };
	p->rq = (struct transfer_request){
		.method = arena_text(&x->arena, slice_text(r->method)), .target = target, .headers = h, .n_headers = n,
		.body = whole ? buf_slice(&p->up) : (struct slice){ 0 }, .upload = r->has_body && !whole,
		.upload_length = x->upload_length, .bulk = true, .kind = to.kind, .may = to.may, .seeks = to.seeks,
		.connect_ms = c->upstream_connect_timeout, .first_byte_ms = c->upstream_first_byte_timeout,
		.idle_ms = c->upstream_idle_timeout,
		/* whoever may be waiting for an answer as a whole is given the time for one */
		.answer_ms = r->has_body && !to.streams ? c->upstream_answer_timeout : 0,
	};
	p->up_whole = whole;
	p->again = p->rq.upload && p->up.len <= PASS_WINDOW;
	if (p->rq.method && !x->arena.full)
		p->transfer = upstream_start(x->worker->upstream, &p->rq, &pass_ops, x);
	if (!p->transfer)
		reply_error(x, ERR_NO_MEMORY, NULL);
}

void pass_writable(struct exchange *x)
{
	if (x->pass->transfer)
		upstream_resume(x->pass->transfer);
}

void pass_stop(struct exchange *x)
{
	struct pass *p = x->pass;

	if (p->transfer) {
		tell_change(x, p->transfer);     /* an upstream that goes on with a pull alone changes its models too */
		upstream_cancel(p->transfer);
		p->transfer = NULL;
	}
	release_buf(&x->worker->loop, &p->up);
	buf_fini(&p->list);
	p->up_at = 0;
}
