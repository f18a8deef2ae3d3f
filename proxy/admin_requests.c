/* admin_requests.c - what runs now: every worker writes down its own exchanges, and the one that was asked puts the
 * parts together.
 *
 * Each worker gets a mail; the last of them to answer posts one back. A worker that is stuck does not keep the client
 * waiting for longer than ANSWER_MS, but the parts live until every mail has been run (the exchange is held so long).
 *
 * Threads  a part is written by its worker alone until it has counted itself down. */
#include <stdlib.h>

#include "proxy/admin.h"

enum { ROWS_MAX = 1000, PART_BYTES_MAX = 2 << 20, PATH_SHOWN = 256, ANSWER_MS = 2000 };

struct part {
	struct mail mail;
	struct gather *gather;
	struct worker *worker;
	struct buf rows;
	size_t running;                      /* all there are, shown or not */
};

struct gather {
	struct own own;                      /* first */
	struct exchange *x;
	struct mail all;
	struct alarm late;
	atomic_size_t left;
	size_t n;
	struct part part[];
};

static void gather_free(struct own *own)
{
	struct gather *g = (struct gather *)own;

	for (size_t i = 0; i < g->n; i++)
		buf_fini(&g->part[i].rows);
	free(g);
}

/* One without a client any more leads a flight that others read: that is its step then. */
static enum err put_request(struct buf *out, const struct exchange *x, const struct part *p, int64_t now_us)
{
	const struct request *r = x->request;
	enum err e = buf_addf(out, "%s{\"n\":%llu,\"worker\":%d,\"what\":\"%s\",\"since_ms\":%lld,\"step\":\"%s\",\"step_ms\":%lld",
	                      out->len ? ",\n" : "", (unsigned long long)x->number, p->worker->n, x->route_name,
	                      (long long)(now_us - x->begun_us) / 1000, r ? step_name[x->step] : "lead",
	                      (long long)(x->step_us[x->step] + now_us - x->entered_us) / 1000);

	if (r) {
		e = e ? e : buf_addf(out, ",\"client\":");
		e = e ? e : admin_put_text(out, slice_text(r->peer), 0);
		e = e ? e : buf_addf(out, ",\"method\":");
		e = e ? e : admin_put_text(out, slice_text(r->method), PATH_SHOWN);
		e = e ? e : buf_addf(out, ",\"path\":");
		e = e ? e : admin_put_text(out, r->path, PATH_SHOWN);
	}
	if (x->ask.model.len) {
		e = e ? e : buf_addf(out, ",\"model\":");
		e = e ? e : admin_put_text(out, x->ask.model, PATH_SHOWN);
	}
	if (x->candidates > 1)
		e = e ? e : buf_addf(out, ",\"candidates\":%u", x->candidates);
	if (x->result != RESULT_NONE)
		e = e ? e : buf_addf(out, ",\"result\":\"%s\"", result_name[x->result]);
	return e ? e : buf_addf(out, ",\"leads\":%s,\"client_gone\":%s,\"in\":%zu,\"out\":%llu}", x->lead_flight ? "true" : "false",
	                        x->client_gone || !r ? "true" : "false", x->body_bytes, (unsigned long long)(r ? r->sent_bytes : 0));
}

/* On the worker that is asked. */
static void on_asked(struct mail *m)
{
	struct part *p = (struct part *)((char *)m - offsetof(struct part, mail));
	struct gather *g = p->gather;
	int64_t now = clock_us();
	size_t shown = 0;

	for (const struct exchange *x = p->worker->exchanges; x; x = x->next) {
		if (x->refs == 0 || x->step == STEP_ADMIN || (x->step == STEP_FINISH && !x->lead_flight))
			continue;
		p->running++;
		size_t before = p->rows.len;
		if (shown++ < ROWS_MAX && put_request(&p->rows, x, p, now))
			p->rows.len = before;
	}
	if (atomic_fetch_sub(&g->left, 1) == 1)
		loop_post(&g->x->worker->loop, &g->all);
}

static void reply(struct gather *g)
{
	struct buf out;
	size_t running = 0;
	bool any = false;
	enum err e;

	buf_init(&out, PART_BYTES_MAX * g->n + PATH_SHOWN);
	for (size_t i = 0; i < g->n; i++)
		running += g->part[i].running;
	e = buf_addf(&out, "{\"running\":%zu,\"requests\":[", running);
	for (size_t i = 0; i < g->n && !e; i++) {
		if (g->part[i].rows.len == 0)
			continue;
		e = any ? buf_add(&out, ",\n", 2) : ERR_OK;
		e = e ? e : buf_put(&out, buf_slice(&g->part[i].rows));
		any = true;
	}
	e = e ? e : buf_addf(&out, "]}");
	admin_reply_json(g->x, &out, e);
}

static void on_all(struct mail *m)
{
	struct gather *g = (struct gather *)((char *)m - offsetof(struct gather, all));
	struct exchange *x = g->x;

	alarm_clear(&x->worker->alarms, &g->late);
	if (x->request && !request_replied(x->request))
		reply(g);
	exchange_drop(x);
}

static void on_late(struct alarm *a)
{
	struct gather *g = (struct gather *)((char *)a - offsetof(struct gather, late));

	if (g->x->request)
		admin_error(g->x, ERR_BUSY, NULL);
}

void admin_requests(struct exchange *x)
{
	struct shared *s = x->worker->shared;
	char why[ADMIN_WHY_MAX];
	struct gather *g;

	if (!query_read(x->request->query, NULL, 0, why)) {
		admin_error(x, ERR_BAD_QUERY, why);
		return;
	}
	g = calloc(1, sizeof *g + s->n_workers * sizeof *g->part);
	if (!g) {
		admin_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	g->own.free = gather_free;
	g->x = x;
	g->all.run = on_all;
	g->n = s->n_workers;
	atomic_init(&g->left, g->n);
	x->own = &g->own;
	exchange_hold(x);
	alarm_set(&x->worker->alarms, &g->late, ANSWER_MS, on_late);
	for (size_t i = 0; i < g->n; i++) {
		struct part *p = &g->part[i];
		*p = (struct part){ .mail.run = on_asked, .gather = g, .worker = s->worker[i] };
		buf_init(&p->rows, PART_BYTES_MAX);
	}
	for (size_t i = 0; i < g->n; i++)
		loop_post(&s->worker[i]->loop, &g->part[i].mail);
}
