/* control.c - /fake/…: what has been asked of the fake, waiting for it to happen, and telling it to misbehave.
 * Also the one door every request comes through (dispatch), and Ollama's Origin and Host rules. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/fake/fake.h"

enum { LOG_BODY_MAX = 64 << 10 };

struct waiter {
	struct waiter *next;
	struct timer timer;
	struct req *r;
	char *event;
	int64_t n;
	bool le, late;
};
static struct waiter *waiters;

/* ---- counters ---- */
void count_path(const char *path)
{
	struct path_count *p;

	if (!strncmp(path, "/api/blobs/", 11))
		path = "/api/blobs";
	for (p = fake.paths; p && strcmp(p->path, path); p = p->next)
		;
	if (!p) {
		p = must(calloc(1, sizeof *p));
		p->path = text_copy(path, strlen(path));
		p->next = fake.paths;
		fake.paths = p;
	}
	p->n++;
}

static const struct { const char *name; int64_t *at; bool gauge; } counters[] = {
	{ "connections", &fake.connections, false }, { "heads", &fake.heads, false }, { "requests", &fake.requests, false },
	{ "started", &fake.started, false }, { "first", &fake.first, false }, { "done", &fake.done, false },
	{ "cancelled", &fake.cancelled, false }, { "failed", &fake.failed, false }, { "dropped", &fake.dropped, false },
	{ "body_bytes", &fake.body_bytes, false }, { "running", &fake.running, true }, { "queued", &fake.queued, true },
	{ "waiting", &fake.waiting, true }, { "open", &fake.open, true },
};
enum { COUNTERS = sizeof counters / sizeof *counters };

/* The value of an event's counter; -1: no such event. `path:/api/tags` counts requests of one path,
 * `at:NAME` those that wait at a barrier. */
static int64_t counter_get(const char *event)
{
	for (size_t i = 0; i < COUNTERS; i++)
		if (!strcmp(counters[i].name, event))
			return *counters[i].at;
	if (!strncmp(event, "path:", 5)) {
		for (struct path_count *p = fake.paths; p; p = p->next)
			if (!strcmp(p->path, event + 5))
				return (int64_t)p->n;
		return 0;
	}
	return -1;
}

static json_t *state_json(void)
{
	json_t *o = json_object(), *paths = json_object();

	for (size_t i = 0; i < COUNTERS; i++)
		json_object_set_new(o, counters[i].name, json_integer(*counters[i].at));
	for (struct path_count *p = fake.paths; p; p = p->next)
		json_object_set_new(paths, p->path, json_integer((json_int_t)p->n));
	json_object_set_new(o, "paths", paths);
	json_object_set_new(o, "down", fake.down ? json_string(fake.down) : json_null());
	return o;
}

static void reply_value(struct req *r, int status, json_t *v)
{
	struct reply_opts o = { .type = "application/json" };
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

	json_decref(v);
	reply(r, status, &o, text ? text : "null", text ? strlen(text) : 4);
	free(text);
}

/* ---- the log ---- */
json_t *log_item(const struct req *r)
{
	static const char *const names[] = { "receiving", "queued", "running", "done", "cancelled", "failed", "dropped" };
	json_t *o = json_object(), *headers = json_array();
	struct str text = { 0 };

	json_object_set_new(o, "id", json_integer((json_int_t)r->id));
	json_object_set_new(o, "connection", json_integer((json_int_t)r->conn_id));
	json_object_set_new(o, "method", json_string(r->method));
	utf8_mend(&text, r->target, strlen(r->target));
	json_object_set_new(o, "target", json_stringn(text.at, text.n));
	json_object_set_new(o, "version", json_string(r->minor ? "HTTP/1.1" : "HTTP/1.0"));
	for (const char *p = r->head.at; p && *p;) {
		const char *end = strstr(p, "\r\n");
		size_t n = end ? (size_t)(end - p) : strlen(p);

		text.n = 0;
		utf8_mend(&text, p, n);
		json_array_append_new(headers, json_stringn(text.at, text.n));
		p = end ? end + 2 : NULL;
	}
	json_object_set_new(o, "headers", headers);
	json_object_set_new(o, "body_bytes", json_integer((json_int_t)r->body_bytes));
	json_object_set_new(o, "body_sha256", json_string(r->sha_hex));
	if (r->body_bytes <= LOG_BODY_MAX && r->body_bytes == r->body.n) {
		text.n = 0;
		utf8_mend(&text, r->body.at, r->body.n);
		json_object_set_new(o, "body", json_stringn(text.n ? text.at : "", text.n));
	}
	json_object_set_new(o, "state", json_string(names[r->state]));
	json_object_set_new(o, "status", json_integer(r->status));
	json_object_set_new(o, "bytes_out", json_integer((json_int_t)r->bytes_out));
	json_object_set_new(o, "arrived_us", json_integer((json_int_t)r->arrived_us));
	json_object_set_new(o, "started_us", json_integer((json_int_t)r->started_us));
	json_object_set_new(o, "first_us", json_integer((json_int_t)r->first_us));
	json_object_set_new(o, "ended_us", json_integer((json_int_t)r->ended_us));
	str_free(&text);
	return o;
}

static void do_log(struct req *r)
{
	char *path = query_get(r, "path"), *since = query_get(r, "since");
	uint64_t after = since ? strtoull(since, NULL, 10) : 0;
	json_t *list = json_array();

	for (const struct req *q = fake.log_first; q; q = q->next)
		if (q->id > after && (!path || !strcmp(q->path, path)))
			json_array_append_new(list, log_item(q));
	free(path);
	free(since);
	reply_value(r, 200, list);
}

/* ---- waiting ---- */
static void waiter_fire(struct timer *t)
{
	struct waiter *w = (struct waiter *)((char *)t - offsetof(struct waiter, timer));

	w->late = true;
	fake.dirty = true;
}

static void waiter_free(struct waiter *w)
{
	struct waiter **p = &waiters;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	timer_stop(&w->timer);
	free(w->event);
	free(w);
}

void control_turn(void)
{
	while (fake.dirty) {
		fake.dirty = false;
		for (struct waiter *w = waiters, *next; w; w = next) {
			int64_t v = counter_get(w->event);
			bool there = w->le ? v <= w->n : v >= w->n;

			next = w->next;
			if (there || w->late) {
				struct req *r = w->r;

				waiter_free(w);
				reply_value(r, there ? 200 : 408, state_json());
				break;                   /* a reply may have changed the list */
			}
		}
		for (struct waiter *w = waiters; w; w = w->next)
			fake.dirty = fake.dirty || w->late;
	}
}

void control_conn_gone(struct conn *c)
{
	for (struct waiter *w = waiters; w; w = w->next)
		if (w->r->conn == c) {
			waiter_free(w);
			return;
		}
}

static void do_wait(struct req *r)
{
	struct waiter *w = must(calloc(1, sizeof *w));
	char *n = query_get(r, "n"), *ms = query_get(r, "timeout_ms"), *op = query_get(r, "op");

	*w = (struct waiter){ .next = waiters, .r = r, .event = query_get(r, "event"), .n = n ? atoll(n) : 1,
			      .le = op && !strcmp(op, "le"), .timer.fire = waiter_fire };
	waiters = w;
	if (!w->event || counter_get(w->event) < 0) {
		waiter_free(w);
		reply_error(r, 400, "event is one of connections heads requests started first done cancelled failed dropped body_bytes running queued waiting open path:/…");
	} else {
		timer_arm(&w->timer, now_us() + (uint64_t)(ms ? atol(ms) : 10000) * 1000);
		fake.dirty = true;
	}
	free(n);
	free(ms);
	free(op);
}

/* ---- orders ---- */
static void do_release(struct req *r)
{
	char *name = query_get(r, "barrier"), *n = query_get(r, "n"), *all = query_get(r, "all");

	barrier_release(name ? name : "default", n ? atol(n) : 0, all && *all == '1');
	free(name);
	free(n);
	free(all);
	reply_value(r, 200, state_json());
}

static void do_digest(struct req *r)
{
	char *name = query_get(r, "model"), *digest = query_get(r, "digest"), *caps = query_get(r, "caps"), *context = query_get(r, "context");
	struct model *m = name ? model_add(name, caps) : NULL;

	if (!m) {
		reply_error(r, 400, "model is missing");
	} else {
		char hex[65];
		struct sha256 sha;

		if (!m->caps)
			m->caps = text_copy("completion,tools", 16);
		if (context)
			m->context = atol(context);
		if (digest && strlen(digest) == 64) {
			strcpy(m->digest, digest);
		} else if (digest) {             /* any word will do: its hash */
			sha256_start(&sha);
			sha256_add(&sha, digest, strlen(digest));
			sha256_hex(&sha, hex);
			strcpy(m->digest, hex);
		}
		reply_value(r, 200, json_string(m->digest));
	}
	free(name);
	free(digest);
	free(caps);
	free(context);
}

static void rules_clear(void)
{
	while (fake.rules) {
		struct rule *u = fake.rules;

		fake.rules = u->next;
		free(u->path);
		free(u->mode);
		free(u);
	}
}

static void do_rule(struct req *r)
{
	char *path = query_get(r, "path"), *ms = query_get(r, "ms"), *status = query_get(r, "status"), *mode = query_get(r, "mode");
	struct rule *u = must(calloc(1, sizeof *u)), **p = &fake.rules;

	if (!path)
		path = text_copy("/api/tags", 9);
	while (*p && strcmp((*p)->path, path))
		p = &(*p)->next;
	if (*p) {
		struct rule *old = *p;

		*p = old->next;
		free(old->path);
		free(old->mode);
		free(old);
	}
	*u = (struct rule){ .next = fake.rules, .path = path, .ms = ms ? atol(ms) : 0, .status = status ? atoi(status) : 0, .mode = mode };
	fake.rules = u;
	free(ms);
	free(status);
	reply_value(r, 200, state_json());
}

static void up(void)
{
	fake.down = NULL;
	listeners_open();
}

static void do_down(struct req *r)
{
	static const char *const modes[] = { "refuse", "reset", "hang", "503" };
	char *mode = query_get(r, "mode");
	struct conn *c = r->conn;

	fake.down = "refuse";
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (mode && !strcmp(mode, modes[i]))
			fake.down = modes[i];
	free(mode);
	if (!strcmp(fake.down, "refuse"))
		listeners_close();
	if (!strcmp(fake.down, "refuse") || !strcmp(fake.down, "reset"))
		kill_main_conns(c);
	reply_value(r, 200, state_json());
}

static void do_reset(struct req *r)
{
	up();
	rules_clear();
	barriers_reset();
	models_default();
	for (size_t i = 0; i < COUNTERS; i++)
		if (!counters[i].gauge)
			*counters[i].at = 0;
	for (struct path_count *p = fake.paths; p; p = p->next)
		p->n = 0;
	fake.dirty = true;
	reply_value(r, 200, state_json());
}

static void do_bytes(struct req *r)
{
	char *n = query_get(r, "n");
	size_t bytes = n ? strtoull(n, NULL, 10) : 1 << 20;
	struct reply_opts o = { .type = "application/octet-stream" };
	struct str s = { 0 };

	reply_head(r, &s, 200, &o, (long long)bytes);
	out_bytes(r->conn, s.at, s.n);
	out_fill(r->conn, 'b', bytes);
	str_free(&s);
	free(n);
	reply_end(r);
}

bool control_dispatch(struct req *r)
{
	static const struct { const char *name; void (*run)(struct req *); } orders[] = {
		{ "log", do_log }, { "wait", do_wait }, { "release", do_release }, { "digest", do_digest }, { "rule", do_rule },
		{ "down", do_down }, { "reset", do_reset }, { "bytes", do_bytes },
	};
	const char *name = r->path + 6;

	if (strncmp(r->path, "/fake/", 6))
		return false;
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
		if (!strcmp(name, orders[i].name)) {
			orders[i].run(r);
			return true;
		}
	if (!strcmp(name, "slots")) {
		char *n = query_get(r, "n");

		fake.slots = n ? atol(n) : 0;
		free(n);
		gens_from_queue();
	} else if (!strcmp(name, "up")) {
		up();
	} else if (strcmp(name, "state")) {
		reply_error(r, 404, "the fake knows log wait state release digest rule slots down up reset bytes");
		return true;
	}
	reply_value(r, 200, state_json());
	return true;
}

/* ---- Origin and Host, as Ollama judges them ---- */
static bool origin_ok(const char *o, const char *host)
{
	static const char *const schemes[] = { "app://", "file://", "tauri://", "vscode-webview://", "vscode-file://" };
	static const char *const hosts[] = { "localhost", "127.0.0.1", "0.0.0.0" };
	const char *at;

	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
		if (!strncmp(o, schemes[i], strlen(schemes[i])))
			return true;
	at = !strncmp(o, "http://", 7) ? o + 7 : !strncmp(o, "https://", 8) ? o + 8 : NULL;
	if (!at)
		return false;
	if (host && !strcmp(at, host))
		return true;
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		size_t n = strlen(hosts[i]);

		if (!strncmp(at, hosts[i], n) && (!at[n] || at[n] == ':'))
			return true;
	}
	return false;
}

static bool host_ok(const char *host)
{
	static const char *const ends[] = { ".local", ".localhost", ".internal" };
	size_t n = strcspn(host, ":");
	unsigned a, b;

	if (host[0] == '[' || !n || (n == 9 && !strncasecmp(host, "localhost", 9)) || !memchr(host, '.', n))
		return true;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (n > strlen(ends[i]) && !strncasecmp(host + n - strlen(ends[i]), ends[i], strlen(ends[i])))
			return true;
	return sscanf(host, "%u.%u.", &a, &b) == 2 && (a == 127 || a == 10 || (a == 192 && b == 168) || (a == 172 && b >= 16 && b < 32) || a == 0);
}

void origin_headers(const struct req *r, struct str *s)
{
	char *origin = r->has_origin ? req_header(r, "Origin") : NULL;

	if (origin)
		str_fmt(s, "Access-Control-Allow-Origin: %s\r\n", origin);
	free(origin);
}

bool origin_check(struct req *r)
{
	char *origin = req_header(r, "Origin"), *host = req_header(r, "Host");
	bool same = origin && host && strstr(origin, "://") && !strcmp(strstr(origin, "://") + 3, host);
	bool ok = (!origin || origin_ok(origin, host)) && (!host || host_ok(host));

	r->has_origin = origin && ok && !same;
	if (!ok)
		reply(r, 403, NULL, "", 0);
	free(origin);
	free(host);
	return ok;
}

/* ---- the door ---- */
static void page(struct req *r, int status, const char *type, const char *body)
{
	struct reply_opts o = { .type = type };

	reply(r, status, &o, body, strlen(body));
}

static void dispatch_now(struct req *r)
{
	const struct rule *u;

	for (u = fake.rules; u && strcmp(u->path, r->path); u = u->next)
		;
	if (u && u->mode && !strcmp(u->mode, "hang"))
		return;
	if (u && u->mode && !strcmp(u->mode, "reset"))
		req_close(r, true);
	else if (u && u->mode && !strcmp(u->mode, "html"))
		page(r, 200, "text/html", "<html>not Ollama</html>");
	else if (u && u->mode && !strcmp(u->mode, "garbage"))
		page(r, 200, "application/json; charset=utf-8", "{\"models\":[{\"name\":7,\"digest\":");
	else if (u && u->mode && !strcmp(u->mode, "empty"))
		page(r, 200, "application/json; charset=utf-8", "{\"models\":[]}");
	else if (u && u->status)
		reply_error(r, u->status, "the fake was told to fail");
	else if (play_dispatch(r))
		;
	else if (!fake.check_origin || origin_check(r))
		api_dispatch(r);
}

static void delay_fire(struct timer *t)
{
	dispatch_now((struct req *)((char *)t - offsetof(struct req, delay)));
}

void dispatch(struct req *r)
{
	const struct rule *u;

	if (control_dispatch(r))
		return;
	if (fake.down && !strcmp(fake.down, "503")) {
		reply_error(r, 503, "the fake is down");
		return;
	}
	if (fake.down && !strcmp(fake.down, "hang"))
		return;
	for (u = fake.rules; u && strcmp(u->path, r->path); u = u->next)
		;
	if (u && u->ms) {
		r->delay.fire = delay_fire;
		timer_arm(&r->delay, now_us() + (uint64_t)u->ms * 1000);
		return;
	}
	dispatch_now(r);
}
