/* admin_state.c - metrics, stats, health and readiness: numbers and states that anyone may see. */
#include "proxy/admin.h"
#include "proxy/base/log_writer.h"
#include "proxy/host_state.h"

static const char json_type[] = "application/json; charset=utf-8";

void admin_extra(struct shared *s, struct metrics_extra *extra, struct metrics_upstream *upstreams)
{
	struct store_state state = s->store ? s->store->ops->state(s->store) : (struct store_state){ 0 };
	size_t n = hosts_count(s->hosts);

	*extra = (struct metrics_extra){ .store_up = state.up, .store_entries = state.entries, .store_bytes = state.bytes,
	                                 .store_errors = atomic_load(&s->store_errors), .log_lines_lost = log_writer_lost(),
	                                 .queue_length = hosts_waiting(s->hosts), .upstreams = upstreams, .n_upstreams = n };
	for (size_t i = 0; i < n; i++)
		upstreams[i] = (struct metrics_upstream){ hosts_url(s->hosts, i), hosts_up(s->hosts, i) };
}

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
		admin_error(x, e, NULL);
		return;
	}
	admin_reply(x, 200, prometheus ? "text/plain; version=0.0.4; charset=utf-8" : json_type, &out);
}

void admin_metrics(struct exchange *x) { all_metrics(x, true); }
void admin_stats(struct exchange *x)   { all_metrics(x, false); }

/* cause and since_ms are there when not all of it works. */
static enum err put_store(struct buf *out, struct store *store)
{
	const struct store_state state = store ? store->ops->state(store) : (struct store_state){ 0 };
	enum err e = buf_addf(out, "\"store\":{\"kind\":\"%s\",\"up\":%s", store ? store->ops->name : "off", state.up ? "true" : "false");

	if (*state.cause) {
		e = e ? e : buf_addf(out, ",\"cause\":");
		e = e ? e : admin_put_text(out, slice_text(state.cause), 0);
		e = e ? e : buf_addf(out, ",\"since_ms\":%lld", (long long)state.since_ms);
	}
	return e ? e : buf_addf(out, "}");
}

static enum err put_states(struct exchange *x, struct buf *out)
{
	struct shared *s = x->worker->shared;
	struct metrics_upstream upstreams[HOSTS_MAX];
	struct metrics_extra extra;

	admin_extra(s, &extra, upstreams);
	enum err e = put_store(out, s->store);
	e = e ? e : buf_addf(out, ",\"upstreams\":[");
	for (size_t i = 0; i < extra.n_upstreams && !e; i++) {
		e = buf_addf(out, "%s{\"url\":", i ? "," : "");
		e = e ? e : admin_put_text(out, slice_text(upstreams[i].url), 0);
		const struct host_state state = host_state_of(s->hosts, i);
		e = e ? e : buf_addf(out, ",\"up\":%s,\"since\":%lld,\"cause\":\"%s\",\"why\":", state.up ? "true" : "false",
		                     (long long)state.since_ms / 1000, host_cause_name[state.cause]);
		e = e ? e : admin_put_text(out, slice_text(state.why), 0);
		e = e ? e : buf_add(out, "}", 1);
	}
	return e ? e : buf_add(out, "]", 1);
}

/* Near questions are found only once the dictionaries are loaded; where that failed, not before a restart. */
static const char *dictionaries(const struct shared *s)
{
	return atomic_load(&s->lexicon) ? "loaded" : atomic_load(&s->dictionaries_settled) ? "failed" : "loading";
}

static void reply_states(struct exchange *x, int status, const char *word)
{
	struct shared *s = x->worker->shared;
	struct buf out;

	buf_init(&out, ADMIN_BODY_MAX);
	enum err e = buf_addf(&out, "{\"status\":\"%s\",\"version\":\"%s\",\"uptime_s\":%lld,\"workers\":%zu,\"draining\":%s,"
	                      "\"dictionaries\":\"%s\",", word, OLLACACHE_VERSION, (long long)(wall_now() - s->started_ms) / 1000,
	                      s->n_workers, atomic_load(&s->draining) ? "true" : "false", dictionaries(s));
	e = e ? e : put_states(x, &out);
	e = e ? e : buf_add(&out, "}\n", 2);
	if (e) {
		buf_fini(&out);
		admin_error(x, e, NULL);
		return;
	}
	admin_reply(x, status, json_type, &out);
}

void admin_health(struct exchange *x)
{
	reply_states(x, 200, "ok");
}

void admin_ready(struct exchange *x)
{
	struct shared *s = x->worker->shared;
	bool any_up = false;

	for (size_t i = 0; i < hosts_count(s->hosts); i++)
		any_up |= hosts_up(s->hosts, i);
	const char *word = atomic_load(&s->draining) ? "draining" : !atomic_load(&s->dictionaries_settled) ? "loading dictionaries"
	                 : !any_up ? "no upstream is up" : "ready";
	reply_states(x, strcmp(word, "ready") ? 503 : 200, word);
}
