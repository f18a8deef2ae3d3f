/* check.c - see check.h.
 *
 * A look has LOOK_MS as a whole, whatever comes meanwhile: an upstream that drips is as good as one that is silent. */
#include "proxy/check.h"

#include <stdlib.h>

#include "proxy/host_state.h"

enum { TAGS_MAX = 16 << 20, LOOK_MS = 5000, CONNECT_MS = 4000, LOOKS_APART_MS = 250 };

struct look {
	struct check *check;
	int host;
	struct transfer *transfer;           /* NULL: none is under way */
	struct buf body;
	struct alarm next, limit;
	int64_t began;                       /* loop_now(); of the last one */
};

struct check {
	struct worker *w;
	struct mail wanted;                  /* from any thread: a look is wanted */
	struct look look[HOSTS_MAX];
	size_t n;
	struct burial burial;
	bool stopped;
};

static void begin(struct look *l);

static void on_next(struct alarm *a)
{
	begin((struct look *)((char *)a - offsetof(struct look, next)));
}

/* The next look comes as soon as may be, if one is wanted; one that is under way may have seen what was before. */
static void hasten(struct look *l)
{
	struct check *c = l->check;
	int64_t apart = c->w->config->upstream_health_interval, since = loop_now(&c->w->loop) - l->began;

	if (l->transfer || c->stopped || !models_look_wanted(c->w->shared->models, l->host))
		return;
	apart = apart < LOOKS_APART_MS ? apart : LOOKS_APART_MS;
	alarm_set(&c->w->alarms, &l->next, since < apart ? apart - since : 0, on_next);
}

static void ended(struct look *l, enum host_cause cause, const char *detail)
{
	struct shared *s = l->check->w->shared;
	bool answered = cause == HOST_OK;

	l->transfer = NULL;
	alarm_clear(&l->check->w->alarms, &l->limit);
	if (!models_look_ended(s->models, l->host, answered ? buf_slice(&l->body) : (struct slice){ 0 }) && answered)
		cause = HOST_NO_LIST;
	if (cause == HOST_OK)
		host_up(s->hosts, (size_t)l->host);
	else if (cause != HOST_NOT_ASKED)
		host_down(s->hosts, (size_t)l->host, cause, detail);
	buf_fini(&l->body);
	hasten(l);
}

static void on_head(struct transfer *t, int status) { (void)t, (void)status; }

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct look *l = t->owner;

	if (buf_put(&l->body, bytes))
		l->body.len = 0;             /* no list of models is that long: it will not be understood */
	return true;
}

static void on_end(struct transfer *t, enum err e)
{
	struct look *l = t->owner;
	char status[16];

	switch (e) {
	case ERR_OK:
		snprintf(status, sizeof status, "%d", t->status);
		if (t->status == 200)
			ended(l, HOST_OK, NULL);
		else
			ended(l, HOST_STATUS, status);
		break;
	case ERR_UPSTREAM_DOWN:      ended(l, HOST_NOT_ASKED, NULL); break;      /* who dialled has said why */
	case ERR_UPSTREAM_BROKE:     ended(l, HOST_CLOSED, NULL); break;
	case ERR_UPSTREAM_BABBLE:    ended(l, HOST_NOT_HTTP, NULL); break;
	case ERR_UPSTREAM_SLOW:      ended(l, HOST_SILENT, NULL); break;
	default:                     ended(l, HOST_NOT_ASKED, NULL); break;      /* our own shortage says nothing of it */
	}
}

static void on_limit(struct alarm *a)
{
	struct look *l = (struct look *)((char *)a - offsetof(struct look, limit));

	upstream_cancel(l->transfer);
	ended(l, HOST_SILENT, NULL);
}

static const struct transfer_ops ops = { .on_head = on_head, .on_bytes = on_bytes, .on_end = on_end };

static void begin(struct look *l)
{
	struct worker *w = l->check->w;
	const struct config *config = w->config;
	int64_t connect_ms = config->upstream_connect_timeout;
	const struct transfer_request rq = { .method = "GET", .target = "/api/tags", .uncounted = true, .may = (host_set)1 << l->host,
	                                     .connect_ms = connect_ms < CONNECT_MS ? connect_ms : CONNECT_MS, .first_byte_ms = LOOK_MS, .idle_ms = LOOK_MS };

	if (l->check->stopped)
		return;
	alarm_set(&w->alarms, &l->next, config->upstream_health_interval, on_next);
	if (l->transfer)
		return;
	models_look_begins(w->shared->models, l->host);
	l->began = loop_now(&w->loop);
	buf_init(&l->body, TAGS_MAX);
	l->transfer = upstream_start(w->upstream, &rq, &ops, l);
	if (l->transfer)
		alarm_set(&w->alarms, &l->limit, LOOK_MS, on_limit);
	else
		ended(l, HOST_NOT_ASKED, NULL);
}

static void on_wanted(struct mail *m)
{
	struct check *c = (struct check *)((char *)m - offsetof(struct check, wanted));

	for (size_t i = 0; i < c->n; i++)
		hasten(&c->look[i]);
}

static void want(void *arg)
{
	struct check *c = arg;

	loop_post(&c->w->loop, &c->wanted);
}

struct check *check_start(struct worker *w)
{
	struct check *c = calloc(1, sizeof *c);

	if (!c)
		abort();                     /* at start */
	c->w = w;
	c->wanted.run = on_wanted;
	c->n = hosts_count(w->shared->hosts);
	models_on_wanted(w->shared->models, want, c);
	for (size_t i = 0; i < c->n; i++) {
		c->look[i].check = c;
		c->look[i].host = (int)i;
		begin(&c->look[i]);
	}
	return c;
}

static void bury(struct burial *b)
{
	struct check *c = (struct check *)((char *)b - offsetof(struct check, burial));

	if (c->wanted.posted)
		loop_bury(&c->w->loop, b);
	else
		free(c);
}

void check_stop(struct check *c)
{
	c->stopped = true;
	models_on_wanted(c->w->shared->models, NULL, NULL);
	for (size_t i = 0; i < c->n; i++) {
		struct look *l = &c->look[i];
		alarm_clear(&c->w->alarms, &l->next);
		alarm_clear(&c->w->alarms, &l->limit);
		if (l->transfer)
			upstream_cancel(l->transfer);
		buf_fini(&l->body);
	}
	c->burial.bury = bury;
	loop_bury(&c->w->loop, &c->burial);
}
