/* admin.c - see admin.h. */
#include "proxy/admin.h"

#include <nettle/memops.h>
#include <stdio.h>
#include <stdlib.h>

static const char json_type[] = "application/json; charset=utf-8";

bool admin_is_own(const struct request *r)
{
	static const struct slice prefix = { "/ollacache/", 11 };

	return r->is_admin || slice_is(r->path, SLICE("/metrics")) || slice_is(r->path, SLICE("/ollacache")) ||
	       (r->path.len >= prefix.len && !memcmp(r->path.at, prefix.at, prefix.len));
}

void admin_reply(struct exchange *x, int status, const char *content_type, struct buf *body)
{
	const struct header h[] = { { "Content-Type", content_type }, { "Cache-Control", "no-store" },
	                            { "X-Content-Type-Options", "nosniff" } };
	size_t len;
	char *bytes = buf_take(body, &len);

	x->status = status;
	request_reply(x->request, status, h, sizeof h / sizeof *h, bytes, len, false);
}

void admin_extra(struct shared *s, struct metrics_extra *extra, struct metrics_upstream *upstreams)
{
	struct store_state state = s->store ? s->store->ops->state(s->store) : (struct store_state){ 0 };
	size_t n = hosts_count(s->hosts);

	*extra = (struct metrics_extra){ .store_up = state.up, .store_entries = state.entries, .store_bytes = state.bytes,
	                                 .store_errors = atomic_load(&s->store_errors), .upstreams = upstreams, .n_upstreams = n };
	for (size_t i = 0; i < n; i++)
		upstreams[i] = (struct metrics_upstream){ hosts_url(s->hosts, i), hosts_up(s->hosts, i) };
}

/* ---- who may ---- */

static bool token_is(const char *authorization, const char *token)
{
	static const struct slice scheme = { "Bearer ", 7 };
	struct slice a = slice_text(authorization);
	size_t len = strlen(token);

	if (a.len < scheme.len || !slice_is_nocase(slice_of(a.at, scheme.len), scheme))
		return false;
	a = slice_of(a.at + scheme.len, a.len - scheme.len);
	/* the length may be told by time, the content not */
	return a.len == len && memeql_sec(a.at, token, len);
}

/* No proxy in between, no web page behind it: from this machine, to this machine, and asked by itself or our own page. */
static bool local_and_alone(const struct exchange *x)
{
	const struct request *r = x->request;
	const char *host = request_header(r, "Host"), *origin = request_header(r, "Origin");
	static const char *const forwarded[] = { "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP" };
	struct slice name = slice_text(host);

	if (!r->peer_local)
		return false;
	for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
		if (request_header(r, forwarded[i]))
			return false;
	if (name.len && name.at[0] == '[') {
		const char *end = memchr(name.at, ']', name.len);
		name = end ? slice_of(name.at, (size_t)(end - name.at) + 1) : name;
	} else if (name.len && memchr(name.at, ':', name.len)) {
		name.len = (size_t)((const char *)memchr(name.at, ':', name.len) - name.at);
	}
	bool loopback = name.len == 0 || slice_is_nocase(name, SLICE("localhost")) || slice_is(name, SLICE("[::1]")) ||
	                (name.len >= 4 && !memcmp(name.at, "127.", 4) && strspn(name.at, "0123456789.") >= name.len);
	if (!loopback)
		return false;
	if (!origin)
		return true;
	return host && !strncmp(origin, "http://", 7) && !strcmp(origin + 7, host);
}

enum err admin_may(const struct exchange *x)
{
	const char *token = x->config->admin_token;

	if (*token)
		return token_is(request_header(x->request, "Authorization"), token) ? ERR_OK : ERR_NO_TOKEN;
	return local_and_alone(x) ? ERR_OK : ERR_FORBIDDEN;
}

/* ---- the endpoints ---- */

static void all_metrics(struct exchange *x, bool prometheus)
{
	struct shared *s = x->worker->shared;
	struct metrics *cells[WORKERS_MAX];
	struct metrics_upstream upstreams[HOSTS_MAX];
	struct metrics_extra extra;
	struct buf out;

	for (size_t i = 0; i < s->n_workers; i++)
		cells[i] = &s->worker[i]->metrics;
	admin_extra(s, &extra, upstreams);
	buf_init(&out, ADMIN_BODY_MAX);
	enum err e = prometheus ? metrics_prometheus(&out, cells, (int)s->n_workers, &extra)
	                        : metrics_json(&out, cells, (int)s->n_workers, &extra);
	if (e) {
		buf_fini(&out);
		reply_error(x, e, NULL);
		return;
	}
	admin_reply(x, 200, prometheus ? "text/plain; version=0.0.4; charset=utf-8" : json_type, &out);
}

static void get_metrics(struct exchange *x) { all_metrics(x, true); }
static void get_stats(struct exchange *x)   { all_metrics(x, false); }

static enum err put_states(struct exchange *x, struct buf *out)
{
	struct shared *s = x->worker->shared;
	struct metrics_upstream upstreams[HOSTS_MAX];
	struct metrics_extra extra;

	admin_extra(s, &extra, upstreams);
	enum err e = buf_addf(out, "\"store\":{\"kind\":\"%s\",\"up\":%s},\"upstreams\":[", s->store ? s->store->ops->name : "off",
	                      extra.store_up ? "true" : "false");
	for (size_t i = 0; i < extra.n_upstreams && !e; i++) {
		e = buf_addf(out, "%s{\"url\":\"", i ? "," : "");
		e = e ? e : buf_put_json(out, slice_text(upstreams[i].url));
		e = e ? e : buf_addf(out, "\",\"up\":%s}", upstreams[i].up ? "true" : "false");
	}
	return e ? e : buf_add(out, "]", 1);
}

static void reply_states(struct exchange *x, int status, const char *word)
{
	struct buf out;

	buf_init(&out, ADMIN_BODY_MAX);
	enum err e = buf_addf(&out, "{\"status\":\"%s\",\"version\":\"%s\",", word, OLLACACHE_VERSION);
	e = e ? e : put_states(x, &out);
	e = e ? e : buf_add(&out, "}\n", 2);
	if (e) {
		buf_fini(&out);
		reply_error(x, e, NULL);
		return;
	}
	admin_reply(x, status, json_type, &out);
}

static void get_health(struct exchange *x)
{
	reply_states(x, 200, "ok");
}

static void get_ready(struct exchange *x)
{
	struct shared *s = x->worker->shared;
	bool any_up = false;

	for (size_t i = 0; i < hosts_count(s->hosts); i++)
		any_up |= hosts_up(s->hosts, i);
	const char *word = atomic_load(&s->draining) ? "draining" : !atomic_load(&s->dictionaries_settled) ? "loading dictionaries"
	                 : !any_up ? "no upstream is up" : "ready";
	reply_states(x, strcmp(word, "ready") ? 503 : 200, word);
}

static const struct endpoint {
	const char *method, *path;
	bool anyone;
	void (*answer)(struct exchange *x);
} endpoints[] = {
	{ "GET", "/metrics", true, get_metrics },
	{ "GET", "/ollacache/stats", true, get_stats },
	{ "GET", "/ollacache/health", true, get_health },
	{ "GET", "/ollacache/ready", true, get_ready },
};

void admin_begin(struct exchange *x)
{
	const struct request *r = x->request;
	bool known = false, head = !strcmp(r->method, "HEAD");

	if (x->config->admin_listen_list.n && !r->is_admin) {
		reply_error(x, ERR_NOT_FOUND, NULL);
		return;
	}
	for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
		const struct endpoint *e = &endpoints[i];
		if (!slice_is(r->path, slice_text(e->path)))
			continue;
		known = true;
		if (strcmp(r->method, e->method) && !(head && !strcmp(e->method, "GET")))
			continue;
		enum err may = e->anyone ? ERR_OK : admin_may(x);
		if (may)
			reply_error(x, may, NULL);
		else
			e->answer(x);
		return;
	}
	reply_error(x, known ? ERR_BAD_METHOD : ERR_NOT_FOUND, NULL);
}
