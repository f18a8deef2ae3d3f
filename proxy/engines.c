/* engines.c - see engines.h. */
#include "proxy/engines.h"

#include <stdlib.h>

#include "proxy/base/scan.h"
#include "proxy/dialect.h"
#include "proxy/worker.h"

enum { PS_MAX = 256 << 10, SHOW_MAX = 1 << 20, CONTEXT_MOST = 1 << 30 };

struct fact {                                /* of a model at one upstream */
	char digest[DIGEST_MAX];             /* "": there is none here */
	char model[ENGINE_NAME_MAX];         /* its full name; "": nobody has asked for its context */
	uint64_t context;                    /* 0: not known */
	bool loaded;                         /* by the last look */
	bool shown;                          /* /api/show has been asked */
	int64_t wanted_ms;
};

struct engine {                              /* of one upstream */
	struct fact fact[ENGINE_MODELS];
	int64_t looked_ms;                   /* when the last look ended, whichever way; 0: there was none, or it is out of date */
	bool wanted;                         /* a look is */
	/* the looking worker's own */
	struct engines *all;
	int host;
	struct engine_call ps, show;
	char showing[DIGEST_MAX];
	int64_t began_ms;
	struct alarm next;
};

struct engines {
	pthread_mutex_t lock;
	struct hosts *hosts;
	struct worker *w;                    /* NULL: nobody looks (yet, or any more) */
	struct mail mail;                    /* a look is wanted */
	void (*on_look)(void *arg);
	void *on_look_arg;
	size_t n;
	struct engine engine[];
};

static int64_t now_ms(void)
{
	return clock_us() / 1000;
}

struct engines *engines_new(struct hosts *hosts)
{
	size_t n = hosts_count(hosts);
	struct engines *e = calloc(1, sizeof *e + n * sizeof *e->engine);

	if (!e)
		abort();                     /* at start */
	pthread_mutex_init(&e->lock, NULL);
	e->hosts = hosts;
	e->n = n;
	for (size_t i = 0; i < n; i++) {
		e->engine[i].all = e;
		e->engine[i].host = (int)i;
	}
	return e;
}

void engines_free(struct engines *e)
{
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* ---- a call ---- */

static void call_over(struct engine_call *c, int status)
{
	c->transfer = NULL;
	alarm_clear(&c->w->alarms, &c->limit);
	buf_fini(&c->request);
	c->done(c, c->too_long ? 0 : status);
}

static void on_head(struct transfer *t, int status) { (void)t, (void)status; }

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct engine_call *c = t->owner;

	if (c->most && !c->too_long)
		c->too_long = buf_put(&c->reply, bytes) != ERR_OK;
	return true;
}

static void on_end(struct transfer *t, enum err e)
{
	call_over(t->owner, e ? 0 : t->status);
}

static void on_limit(struct alarm *a)
{
	struct engine_call *c = (struct engine_call *)((char *)a - offsetof(struct engine_call, limit));

	if (c->transfer)
		upstream_cancel(c->transfer);
	call_over(c, 0);
}

static const struct transfer_ops call_ops = { .on_head = on_head, .on_bytes = on_bytes, .on_end = on_end };

void engine_call_begin(struct engine_call *c, struct worker *w, int host, const char *target, struct buf *request, bool counted)
{
	static const struct header json[] = { { "Content-Type", "application/json" } };
	bool posts = request->len > 0;

	c->w = w;
	c->too_long = false;
	c->request = *request;
	*request = (struct buf){ 0 };
	buf_init(&c->reply, c->most);
	const struct transfer_request rq = {
		.method = posts ? "POST" : "GET", .target = target, .headers = json, .n_headers = posts, .body = buf_slice(&c->request),
		.uncounted = !counted, .kind = TRANSFER_PASS, .may = (host_set)1 << host,
		/* its own limit comes first: that it was slow is not held against the upstream */
		.connect_ms = w->config->upstream_connect_timeout, .first_byte_ms = 2 * ENGINE_CALL_MS, .idle_ms = 2 * ENGINE_CALL_MS,
	};
	c->transfer = upstream_start(w->upstream, &rq, &call_ops, c);
	/* out of memory it ends as one that was not answered, from the loop as well */
	alarm_set(&w->alarms, &c->limit, c->transfer ? ENGINE_CALL_MS : 0, on_limit);
}

void engine_call_stop(struct engine_call *c)
{
	if (c->transfer)
		upstream_cancel(c->transfer);
	c->transfer = NULL;
	if (c->w)
		alarm_clear(&c->w->alarms, &c->limit);
	buf_fini(&c->request);
	buf_fini(&c->reply);
}

static bool call_runs(const struct engine_call *c)
{
	return c->transfer || alarm_is_set(&c->limit);
}

/* ---- facts; with the lock held ---- */

static struct fact *find(struct engine *en, const char *digest)
{
	for (size_t i = 0; i < ENGINE_MODELS; i++)
		if (*digest && !strcmp(en->fact[i].digest, digest))
			return &en->fact[i];
	return NULL;
}

static struct fact *find_or_add(struct engine *en, const char *digest)
{
	struct fact *f = find(en, digest);

	if (f)
		return f;
	f = &en->fact[0];
	for (size_t i = 0; i < ENGINE_MODELS && *f->digest; i++)
		if (!*en->fact[i].digest || en->fact[i].wanted_ms < f->wanted_ms)
			f = &en->fact[i];
	*f = (struct fact){ 0 };
	snprintf(f->digest, sizeof f->digest, "%s", digest);
	return f;
}

/* One of the models that /api/ps tells of. */
static void note_loaded(struct engine *en, struct slice item)
{
	struct slice name, value, digest = { 0 };
	uint64_t context = 0;
	char text[DIGEST_MAX];
	struct scan s;

	for (scan_init(&s, item); scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("digest")) && scan_is_text(value))
			digest = scan_inside(value);
		else if (slice_is(name, SLICE("context_length")) && !slice_number(value, CONTEXT_MOST, &context))
			context = 0;
	}
	if (!digest.len || digest.len >= sizeof text)
		return;
	snprintf(text, sizeof text, "%.*s", (int)digest.len, digest.at);
	struct fact *f = find_or_add(en, text);
	f->loaded = true;
	f->context = context ? context : f->context;
}

static void note_ps(struct engine *en, struct slice reply)
{
	struct slice name, value, item;
	struct scan s, items;

	for (size_t i = 0; i < ENGINE_MODELS; i++)
		en->fact[i].loaded = false;
	for (scan_init(&s, reply); scan_next(&s, &name, &value); )
		if (slice_is(name, SLICE("models")) && scan_is_array(value))
			for (scan_items_init(&items, value); scan_item(&items, &item); )
				if (scan_is_object(item))
					note_loaded(en, item);
}

/* The model's own num_ctx, by which it is loaded: a line of its parameters; 0: there is none. */
static uint64_t num_ctx_in(struct slice parameters)
{
	static const char key[] = "num_ctx";
	size_t len = sizeof key - 1;
	uint64_t n = 0;

	for (size_t i = 0; i + len < parameters.len; i++) {
		size_t from = i + len, to;
		if (memcmp(parameters.at + i, key, len) || parameters.at[from] != ' ')
			continue;
		while (from < parameters.len && parameters.at[from] == ' ')
			from++;
		for (to = from; to < parameters.len && parameters.at[to] >= '0' && parameters.at[to] <= '9'; )
			to++;
		if (slice_number(slice_of(parameters.at + from, to - from), CONTEXT_MOST, &n))
			return n;
	}
	return 0;
}

/* Of a reply to /api/show: what the model is loaded with, else the longest it was trained for. */
static uint64_t context_in(struct slice reply)
{
	static const char end[] = ".context_length";
	struct slice name, value, field;
	uint64_t set = 0, trained = 0;
	struct scan s, info;

	for (scan_init(&s, reply); scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("parameters")) && scan_is_text(value))
			set = num_ctx_in(scan_inside(value));
		if (!slice_is(name, SLICE("model_info")) || !scan_is_object(value))
			continue;
		for (scan_init(&info, value); scan_next(&info, &field, &value); )
			if (field.len >= sizeof end - 1 && !memcmp(field.at + field.len - (sizeof end - 1), end, sizeof end - 1) &&
			    !slice_number(value, CONTEXT_MOST, &trained))
				trained = 0;
	}
	return set ? set : trained;
}

/* ---- looks ---- */

static void begin(struct engine *en);

static void on_next(struct alarm *a)
{
	begin((struct engine *)((char *)a - offsetof(struct engine, next)));
}

/* The wanted look begins as soon as it may. */
static void hasten(struct engine *en)
{
	struct engines *e = en->all;
	int64_t since = now_ms() - en->began_ms;

	pthread_mutex_lock(&e->lock);
	bool wanted = en->wanted && e->w;
	pthread_mutex_unlock(&e->lock);
	if (!wanted || call_runs(&en->ps) || alarm_is_set(&en->next))
		return;
	if (!en->began_ms || since >= ENGINE_LOOKS_APART_MS)
		begin(en);
	else
		alarm_set(&e->w->alarms, &en->next, ENGINE_LOOKS_APART_MS - since, on_next);
}

/* What /api/ps has not told of is asked for by name, one model after the other, each once. */
static void show_next(struct engine *en)
{
	struct engines *e = en->all;
	char model[ENGINE_NAME_MAX] = "";
	struct buf body;

	if (call_runs(&en->show))
		return;
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < ENGINE_MODELS && !*model; i++) {
		struct fact *f = &en->fact[i];
		if (!*f->model || f->context || f->shown)
			continue;
		f->shown = true;
		memcpy(model, f->model, sizeof model);
		memcpy(en->showing, f->digest, sizeof en->showing);
	}
	pthread_mutex_unlock(&e->lock);
	if (!*model)
		return;
	buf_init(&body, 8 * ENGINE_NAME_MAX);
	if (!buf_addf(&body, "{\"model\":\"") && !buf_put_json(&body, slice_text(model)) && !buf_addf(&body, "\"}"))
		engine_call_begin(&en->show, e->w, en->host, "/api/show", &body, false);
	buf_fini(&body);
}

static void on_shown(struct engine_call *c, int status)
{
	struct engine *en = (struct engine *)((char *)c - offsetof(struct engine, show));
	uint64_t context = status == 200 ? context_in(buf_slice(&c->reply)) : 0;

	buf_fini(&c->reply);
	pthread_mutex_lock(&en->all->lock);
	struct fact *f = find(en, en->showing);
	if (f && !f->context)
		f->context = context;
	pthread_mutex_unlock(&en->all->lock);
	show_next(en);
}

static void on_looked(struct engine_call *c, int status)
{
	struct engine *en = (struct engine *)((char *)c - offsetof(struct engine, ps));
	struct engines *e = en->all;

	pthread_mutex_lock(&e->lock);
	note_ps(en, status == 200 ? buf_slice(&c->reply) : (struct slice){ 0 });
	en->looked_ms = now_ms();
	pthread_mutex_unlock(&e->lock);
	buf_fini(&c->reply);
	show_next(en);
	hasten(en);
	if (e->on_look)
		e->on_look(e->on_look_arg);
}

static void begin(struct engine *en)
{
	struct engines *e = en->all;
	struct buf none = { 0 };

	if (call_runs(&en->ps))
		return;
	pthread_mutex_lock(&e->lock);
	en->wanted = false;
	pthread_mutex_unlock(&e->lock);
	en->began_ms = now_ms();
	engine_call_begin(&en->ps, e->w, en->host, "/api/ps", &none, false);
}

static void on_wanted(struct mail *m)
{
	struct engines *e = (struct engines *)((char *)m - offsetof(struct engines, mail));

	for (size_t i = 0; i < e->n; i++)
		hasten(&e->engine[i]);
}

void engines_want_context(struct engines *e, host_set hosts, struct slice model_full, const char *digest)
{
	int64_t now = now_ms();
	bool wanted = false;

	hosts &= hosts_all_up(e->hosts);
	if (!*digest || model_full.len >= ENGINE_NAME_MAX)
		return;
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->n; i++) {
		struct engine *en = &e->engine[i];
		if (!(hosts >> i & 1))
			continue;
		struct fact *f = find_or_add(en, digest);
		f->wanted_ms = now;
		snprintf(f->model, sizeof f->model, "%.*s", (int)model_full.len, model_full.at);
		/* while it is not loaded nobody can say what it will be loaded with */
		if (now - en->looked_ms <= (f->loaded && f->context ? ENGINE_KNOWN_MS : ENGINE_LOOKS_APART_MS))
			continue;
		en->wanted = true;
		wanted = true;
	}
	if (wanted && e->w)
		loop_post(&e->w->loop, &e->mail);
	pthread_mutex_unlock(&e->lock);
}

uint64_t engines_context(struct engines *e, int host, const char *digest)
{
	if (host < 0)
		return 0;
	pthread_mutex_lock(&e->lock);
	const struct fact *f = find(&e->engine[host], digest);
	uint64_t context = f ? f->context : 0;
	pthread_mutex_unlock(&e->lock);
	return context;
}

bool engines_looked(struct engines *e, int host, int64_t within_ms)
{
	struct engine *en = &e->engine[host];

	pthread_mutex_lock(&e->lock);
	bool looked = en->looked_ms && now_ms() - en->looked_ms <= within_ms;
	en->wanted |= !looked;
	pthread_mutex_unlock(&e->lock);
	if (!looked)
		hasten(en);
	return looked;
}

bool engines_loaded(struct engines *e, int host, const char *digest)
{
	pthread_mutex_lock(&e->lock);
	const struct fact *f = find(&e->engine[host], digest);
	bool loaded = f && f->loaded;
	pthread_mutex_unlock(&e->lock);
	return loaded;
}

void engines_changed(struct engines *e, int host)
{
	pthread_mutex_lock(&e->lock);
	e->engine[host].looked_ms = 0;
	pthread_mutex_unlock(&e->lock);
}

/* ---- life ---- */

void engines_on_look(struct engines *e, void (*call)(void *arg), void *arg)
{
	e->on_look = call;
	e->on_look_arg = arg;
}

void engines_start(struct engines *e, struct worker *w)
{
	for (size_t i = 0; i < e->n; i++) {
		e->engine[i].ps = (struct engine_call){ .done = on_looked, .most = PS_MAX };
		e->engine[i].show = (struct engine_call){ .done = on_shown, .most = SHOW_MAX };
	}
	e->mail.run = on_wanted;
	pthread_mutex_lock(&e->lock);
	e->w = w;
	pthread_mutex_unlock(&e->lock);
}

void engines_stop(struct engines *e)
{
	struct worker *w = e->w;

	pthread_mutex_lock(&e->lock);
	e->w = NULL;                             /* mail that is under way finds this */
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < e->n; i++) {
		alarm_clear(&w->alarms, &e->engine[i].next);
		engine_call_stop(&e->engine[i].ps);
		engine_call_stop(&e->engine[i].show);
	}
}
