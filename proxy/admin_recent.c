/* admin_recent.c - what the dashboard draws: the history of the numbers, and what happened last.
 *
 * The last requests and semantic hits, and the sums by model and upstream, come from rings and tables of fixed size that the
 * workers fill (journal.h, recent.h). */
#include <stdlib.h>

#include "proxy/admin.h"
#include "proxy/history.h"
#include "proxy/journal.h"
#include "proxy/recent.h"

enum { RECENT_BYTES_MAX = 1 << 20 };

void admin_history(struct exchange *x)
{
	struct buf out;

	buf_init(&out, ADMIN_BODY_MAX);
	admin_reply_json(x, &out, history_json(x->worker->shared->history, &out));
}

/* "name":"text" with a comma before it. */
static enum err put_text(struct buf *out, const char *name, const char *text)
{
	enum err e = buf_addf(out, ",\"%s\":", name);

	return e ? e : admin_put_text(out, slice_text(text), 0);
}

static enum err put_hit(struct buf *out, const struct recent_hit *h)
{
	enum err e = buf_addf(out, "{\"at_ms\":%lld,\"similarity\":%.3f,", (long long)h->at_ms, h->similarity);

	e = e ? e : admin_put_key(out, "id", h->key);
	e = e ? e : put_text(out, "asked", h->asked);
	e = e ? e : put_text(out, "stored", h->stored);
	e = e ? e : put_text(out, "model", h->model);
	return e ? e : buf_add(out, "}", 1);
}

static enum err put_hits(struct buf *out, struct recent *recent)
{
	struct recent_hit *hits = malloc(RECENT_HITS * sizeof *hits);
	size_t n = hits ? recent_get(recent, hits) : 0;
	enum err e = hits ? buf_addf(out, "\"semantic_hits\":[") : ERR_NO_MEMORY;

	for (size_t i = 0; i < n && !e; i++) {
		e = i ? buf_add(out, ",\n", 2) : ERR_OK;
		e = e ? e : put_hit(out, &hits[i]);
	}
	free(hits);
	return e ? e : buf_add(out, "]", 1);
}

/* How it went in one word: as it was timed, which is its result unless it was refused or failed. */
static enum err put_line(struct buf *out, const struct shared *s, const struct journal_line *l)
{
	static const char *const not_served[] = { [RESULT_REFUSED] = "refused", [RESULT_FAILED] = "failed" };
	enum err e = buf_addf(out, "{\"at_ms\":%lld,\"status\":%d,\"total_ms\":%.3f,\"first_byte_ms\":", (long long)l->at_ms, l->status,
	                      (double)l->total_us / 1000);

	e = e ? e : l->first_us < 0 ? buf_addf(out, "null") : buf_addf(out, "%.3f", (double)l->first_us / 1000);
	e = e ? e : put_text(out, "method", l->method);
	e = e ? e : put_text(out, "path", l->path);
	e = e ? e : put_text(out, "model", l->model);
	e = e ? e : put_text(out, "outcome", l->timed >= RESULT_REFUSED ? not_served[l->timed] : result_name[l->timed]);
	e = e ? e : put_text(out, "cache", l->result < 0 ? "" : result_name[l->result]);
	e = e ? e : put_text(out, "why", l->why);
	if (l->host >= 0)
		e = e ? e : put_text(out, "upstream", hosts_url(s->hosts, (size_t)l->host));
	return e ? e : buf_add(out, "}", 1);
}

static enum err put_sums(struct buf *out, const struct journal_sums *s)
{
	enum err e = buf_addf(out, ",\"refused\":%llu,\"failed\":%llu,\"generated_seconds\":%.3f,\"tokens_saved\":%llu,"
	                      "\"gpu_seconds_saved\":%.3f", (unsigned long long)s->kind[RESULT_REFUSED],
	                      (unsigned long long)s->kind[RESULT_FAILED], (double)s->generated_us / 1e6,
	                      (unsigned long long)s->tokens_saved, (double)s->gpu_ns_saved / 1e9);

	for (int k = 0; k <= RESULT_PASS && !e; k++)
		e = buf_addf(out, ",\"%s\":%llu", result_name[k], (unsigned long long)s->kind[k]);
	return e;
}

static bool any(const struct journal_sums *s)
{
	for (int k = 0; k < metric_result_count; k++)
		if (s->kind[k])
			return true;
	return false;
}

static enum err put_models(struct buf *out, const struct journal_view *v)
{
	enum err e = buf_addf(out, ",\n\"models\":[");
	size_t n = 0;

	for (size_t i = 0; i < v->n_models && !e; i++) {
		if (!any(&v->model[i].sums))
			continue;
		e = buf_addf(out, "%s{\"model\":", n++ ? ",\n" : "");
		e = e ? e : admin_put_text(out, slice_text(v->model[i].name), 0);
		e = e ? e : put_sums(out, &v->model[i].sums);
		e = e ? e : buf_add(out, "}", 1);
	}
	return e ? e : buf_add(out, "]", 1);
}

static enum err put_upstreams(struct buf *out, const struct shared *s, const struct journal_view *v)
{
	enum err e = buf_addf(out, ",\n\"upstreams\":[");

	for (size_t i = 0; i < hosts_count(s->hosts) && !e; i++) {
		e = buf_addf(out, "%s{\"url\":", i ? ",\n" : "");
		e = e ? e : admin_put_text(out, slice_text(hosts_url(s->hosts, i)), 0);
		e = e ? e : put_sums(out, &v->host[i]);
		e = e ? e : buf_add(out, "}", 1);
	}
	return e ? e : buf_add(out, "]", 1);
}

static enum err put_requests(struct buf *out, const struct shared *s, const struct journal_view *v)
{
	enum err e = buf_addf(out, ",\n\"requests\":[");

	for (size_t i = 0; i < v->n_last && !e; i++) {
		e = i ? buf_add(out, ",\n", 2) : ERR_OK;
		e = e ? e : put_line(out, s, &v->last[i]);
	}
	return e ? e : buf_add(out, "]", 1);
}

void admin_recent(struct exchange *x)
{
	struct shared *s = x->worker->shared;
	struct journal_view *view = calloc(1, sizeof *view);
	struct buf out;

	if (!view) {
		admin_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	for (size_t i = 0; i < s->n_workers; i++)
		journal_read(s->worker[i]->journal, view);
	buf_init(&out, RECENT_BYTES_MAX);
	enum err e = buf_addf(&out, "{\"since_ms\":%lld,", (long long)s->started_ms);
	e = e ? e : put_hits(&out, s->recent);
	e = e ? e : put_requests(&out, s, view);
	e = e ? e : put_models(&out, view);
	e = e ? e : put_upstreams(&out, s, view);
	free(view);
	admin_reply_json(x, &out, e ? e : buf_add(&out, "}", 1));
}
