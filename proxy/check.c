/* check.c - see check.h. */
#include "proxy/check.h"

#include <stdlib.h>

#include "proxy/base/log.h"

enum { TAGS_MAX = 16 << 20, ANSWER_MS = 5000 };

struct one { struct check *check; struct transfer *transfer; struct buf body; size_t host; };

struct check {
	struct worker *w;
	struct alarm again;
	struct mail wanted;                  /* from any thread: something was doubted */
	bool runs, once_more;
	size_t left;
	struct one one[HOSTS_MAX];
	struct burial burial;
	bool stopped;
};

static void begin(struct check *c);

static void on_again(struct alarm *a)
{
	begin((struct check *)((char *)a - offsetof(struct check, again)));
}

static void one_ended(struct one *o, bool answered)
{
	struct check *c = o->check;
	struct hosts *h = c->w->shared->hosts;
	bool was_up = hosts_up(h, o->host);

	hosts_set_up(h, o->host, models_learnt(c->w->shared->models, o->host, answered ? buf_slice(&o->body) : (struct slice){ 0 }));
	if (was_up != hosts_up(h, o->host))
		log_line(LOG_INFO, "upstream", "%s is %s", hosts_url(h, o->host), was_up ? "down" : "up");
	buf_fini(&o->body);
	if (--c->left)
		return;
	c->runs = false;
	models_check_ended(c->w->shared->models);
	if (c->once_more)
		begin(c);
}

static void on_head(struct transfer *t, int status) { (void)t, (void)status; }

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct one *o = t->owner;

	if (buf_put(&o->body, bytes))
		o->body.len = 0;             /* no list of models is that long: it will not be understood */
	return true;
}

static void on_end(struct transfer *t, enum err e)
{
	struct one *o = t->owner;

	o->transfer = NULL;
	one_ended(o, !e && t->status == 200);
}

static const struct transfer_ops ops = { .on_head = on_head, .on_bytes = on_bytes, .on_end = on_end };

static void begin(struct check *c)
{
	const struct config *config = c->w->config;
	struct hosts *h = c->w->shared->hosts;
	size_t n = hosts_count(h);

	if (c->stopped)
		return;
	if (c->runs) {
		c->once_more = true;
		return;
	}
	c->once_more = false;
	c->runs = true;
	c->left = n;
	models_check_begins(c->w->shared->models);
	alarm_set(&c->w->alarms, &c->again, config->upstream_health_interval, on_again);
	for (size_t i = 0; i < n; i++) {
		struct one *o = &c->one[i];
		const struct transfer_request rq = { .method = "GET", .target = "/api/tags", .uncounted = true, .may = 1u << i,
		                                     .connect_ms = config->upstream_connect_timeout, .first_byte_ms = ANSWER_MS,
		                                     .idle_ms = ANSWER_MS };
		o->check = c;
		o->host = i;
		buf_init(&o->body, TAGS_MAX);
		o->transfer = upstream_start(c->w->upstream, &rq, &ops, o);
		if (!o->transfer)
			one_ended(o, false);
	}
}

static void on_wanted(struct mail *m)
{
	begin((struct check *)((char *)m - offsetof(struct check, wanted)));
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
		abort();
	c->w = w;
	c->wanted.run = on_wanted;
	models_on_doubt(w->shared->models, want, c);
	begin(c);
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
	models_on_doubt(c->w->shared->models, NULL, NULL);
	alarm_clear(&c->w->alarms, &c->again);
	for (size_t i = 0; i < HOSTS_MAX; i++) {
		if (c->one[i].transfer)
			upstream_cancel(c->one[i].transfer);
		buf_fini(&c->one[i].body);
	}
	c->burial.bury = bury;
	loop_bury(&c->w->loop, &c->burial);
}
