/* admin_cache.c - the list of stored entries, a page at a time, and purging them.
 *
 * Both walk the store in its own order. A page looks at LOOKS_A_PAGE entries at most, so that a search for what is rare
 * among a million never keeps anybody waiting long: it may come back short, or empty, with a cursor to go on from.
 * A sorted page has to look at all of them; it does so for SORT_US and then shows what it has, with "complete" false.
 * A purge goes on to its end in bounded walks, also when the client has left meanwhile.
 *
 * Threads  wants() is called on whatever thread the store walks in; until done() it is the only one to look at the job. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unicode/ucasemap.h>

#include "proxy/admin.h"
#include "proxy/base/log.h"
#include "proxy/top_rows.h"

enum {
	PAGE_DEFAULT = 50, PAGE_MAX = 500,
	LOOKS_A_PAGE = 20000,
	SORT_US = 2000000, SORT_LOOKS_A_CLOCK = 256,     /* between two looks at the clock */
	PAGE_BYTES_MAX = 8 << 20,
	FOLDED_MAX = 3 * ENTRY_QUESTION_MAX + 8,         /* folding makes text at most three times as long */
};
static_assert((int)QUERY_VALUE_MAX <= (int)ENTRY_QUESTION_MAX, "q has the same room");

enum sort { SORT_NONE, SORT_CREATED, SORT_EXPIRES, SORT_HITS, SORT_BYTES };
static const char *const sort_name[] = { "", "created", "expires", "hits", "bytes" };

struct job {
	struct own own;                      /* first */
	struct exchange *x;
	struct store_walk walk;
	char q[QUERY_VALUE_MAX + 1], model[QUERY_VALUE_MAX + 1], space[QUERY_VALUE_MAX + 1];
	UCaseMap *fold;
	char folded[FOLDED_MAX];             /* q */
	int32_t folded_len;
	unsigned looked;
	enum sort sort;
	bool descending, out_of_time;
	int64_t until_us;
	struct top_rows top;
	struct buf out;
	enum err e;
	bool any;
	uint64_t removed;
	int64_t now_ms;
};

static void job_free(struct own *own)
{
	struct job *j = (struct job *)own;

	if (j->fold)
		ucasemap_close(j->fold);
	top_rows_fini(&j->top);
	buf_fini(&j->out);
	free(j);
}

static struct job *job_new(struct exchange *x)
{
	struct job *j = x->worker->link ? calloc(1, sizeof *j) : NULL;

	if (!j) {
		admin_error(x, x->worker->link ? ERR_NO_MEMORY : ERR_NOT_FOUND, x->worker->link ? NULL : "there is no store: cache.store is off");
		return NULL;
	}
	j->own.free = job_free;
	j->x = x;
	j->now_ms = wall_now();
	buf_init(&j->out, PAGE_BYTES_MAX);
	x->own = &j->own;
	return j;
}

/* ---- which entries ---- */

static bool model_taken(const char *pattern, struct slice model)
{
	static const struct slice latest = { ":latest", 7 };

	if (query_glob(pattern, model))
		return true;
	return model.len > latest.len && slice_is(slice_of(model.at + model.len - latest.len, latest.len), latest) &&
	       query_glob(pattern, slice_of(model.at, model.len - latest.len));
}

static bool question_taken(const struct job *j, struct slice question)
{
	char folded[FOLDED_MAX];
	UErrorCode code = U_ZERO_ERROR;
	int32_t len = ucasemap_utf8FoldCase(j->fold, folded, FOLDED_MAX, question.at, (int32_t)question.len, &code);

	return U_SUCCESS(code) && memmem(folded, (size_t)len, j->folded, (size_t)j->folded_len);
}

static bool taken(const struct job *j, const struct entry_meta *m)
{
	return (!*j->model || model_taken(j->model, m->model)) && (!*j->space || query_glob(j->space, m->space)) &&
	       (!*j->q || question_taken(j, m->question));
}

static bool wants(struct store_walk *w, const struct store_row *row)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, walk));
	struct entry_meta m;

	if (!w->remove && ++j->looked >= LOOKS_A_PAGE)
		w->limit = 0;                /* ends the walk with this entry */
	return !entry_peek(row->entry_head, &m) && taken(j, &m);
}

/* Takes nothing from the walk: what comes first is kept here until all have been seen. */
static bool ranks(struct store_walk *w, const struct store_row *row)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, walk));
	struct entry_meta m;

	if (++j->looked % SORT_LOOKS_A_CLOCK == 0 && clock_us() > j->until_us) {
		j->out_of_time = true;
		w->limit = 0;
	}
	if (j->e || entry_peek(row->entry_head, &m) || !taken(j, &m))
		return false;
	uint64_t rank = j->sort == SORT_CREATED ? (uint64_t)m.created_ms : j->sort == SORT_EXPIRES ? (uint64_t)m.expires_ms
	              : j->sort == SORT_HITS ? row->hits : row->bytes;
	j->e = top_rows_offer(&j->top, j->descending ? UINT64_MAX - rank : rank, row);
	return false;
}

static bool fold_q(struct job *j)
{
	UErrorCode code = U_ZERO_ERROR;

	j->fold = ucasemap_open("", U_FOLD_CASE_DEFAULT, &code);
	if (U_SUCCESS(code))
		j->folded_len = ucasemap_utf8FoldCase(j->fold, j->folded, FOLDED_MAX, j->q, (int32_t)strlen(j->q), &code);
	return U_SUCCESS(code);
}

/* ---- a page ---- */

static enum err put_row(struct job *j, const struct store_row *row)
{
	struct buf *out = &j->out;
	struct entry_meta m;

	if (entry_peek(row->entry_head, &m))
		m = (struct entry_meta){ .created_ms = j->now_ms, .expires_ms = j->now_ms };      /* of another version: it still has an id */
	enum err e = buf_addf(out, "%s{", j->any ? ",\n" : "");
	j->any = true;
	e = e ? e : admin_put_key(out, "id", row->key);
	e = e ? e : buf_addf(out, ",\"question\":");
	e = e ? e : admin_put_text(out, m.question, 0);
	e = e ? e : buf_addf(out, ",\"model\":");
	e = e ? e : admin_put_text(out, m.model, 0);
	e = e ? e : buf_addf(out, ",\"namespace\":");
	e = e ? e : admin_put_text(out, m.space, 0);
	e = e ? e : buf_addf(out, ",\"family\":\"%s\",\"age\":%lld,\"ttl\":%lld,\"bytes\":%llu,\"hits\":", family_name[m.family],
	                     (long long)(j->now_ms - m.created_ms) / 1000, (long long)(m.expires_ms - j->now_ms) / 1000,
	                     (unsigned long long)row->bytes);
	if (j->x->worker->shared->store->ops->counts_hits)
		return e ? e : buf_addf(out, "%llu}", (unsigned long long)row->hits);
	return e ? e : buf_addf(out, "null}");
}

static void on_row(struct store_walk *w, const struct store_row *row)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, walk));

	if (!j->e)
		j->e = put_row(j, row);
}

static void on_sorted(struct store_walk *w, enum store_news news, uint64_t removed)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, walk));
	struct exchange *x = j->x;
	char cursor[TOP_CURSOR_MAX + 1];

	(void)removed;
	if (news != STORE_FAILED && *w->after && !j->out_of_time && x->request) {
		w->limit = 0;                /* the store gives so many at once; on to the rest */
		x->worker->shared->store->ops->walk(x->worker->link, w);
		return;
	}
	if (x->request && news == STORE_FAILED) {
		admin_error(x, ERR_STORE_DOWN, NULL);
	} else if (x->request) {
		enum err e = j->e;
		top_rows_sort(&j->top);
		for (size_t i = 0; i < j->top.n && !e; i++)
			e = put_row(j, &j->top.at[i].row);
		top_rows_cursor(&j->top, cursor);
		e = e ? e : buf_addf(&j->out, "],\"matched\":%llu,\"complete\":%s,\"after\":", (unsigned long long)j->top.seen,
		                     j->out_of_time ? "false" : "true");
		e = e ? e : *cursor ? admin_put_text(&j->out, slice_text(cursor), 0) : buf_addf(&j->out, "null");
		e = e ? e : buf_addf(&j->out, "}");
		admin_reply_json(x, &j->out, e);
	}
	exchange_drop(x);
}

static void on_page(struct store_walk *w, enum store_news news, uint64_t removed)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, walk));
	struct exchange *x = j->x;

	(void)removed;
	if (x->request && news == STORE_FAILED) {
		admin_error(x, ERR_STORE_DOWN, NULL);
	} else if (x->request) {
		enum err e = j->e ? j->e : buf_addf(&j->out, "],\"after\":");
		e = e ? e : *w->after ? admin_put_text(&j->out, slice_text(w->after), 0) : buf_addf(&j->out, "null");
		e = e ? e : buf_addf(&j->out, "}");
		admin_reply_json(x, &j->out, e);
	}
	exchange_drop(x);
}

static const char bad_cursor[] = "query: after takes what an earlier page gave as \"after\", in the same order";

/* A cursor is the store's own, or that of an order, of these characters only; as a + may have been read as a space, a space is one. */
static bool read_cursor(char *after, struct store_walk *w)
{
	size_t len = strlen(after);

	for (char *p = after; *p; p++)
		*p = *p == ' ' ? '+' : *p;
	if (len >= sizeof w->after || strspn(after, "0123456789abcdef+") != len)
		return false;
	memcpy(w->after, after, len + 1);
	return true;
}

/* created, expires, hits or bytes, with a minus in front: the largest first. */
static bool read_sort(const char *sort, struct job *j)
{
	j->descending = *sort == '-';
	for (size_t i = SORT_CREATED; i < sizeof sort_name / sizeof *sort_name; i++)
		if (!strcmp(sort + j->descending, sort_name[i]))
			j->sort = (enum sort)i;
	return j->sort || !*sort;
}

static void list_sorted(struct job *j, size_t most, const char *after)
{
	struct exchange *x = j->x;

	if (top_rows_init(&j->top, most)) {
		admin_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	if (*after && !top_rows_go_on(&j->top, after)) {
		admin_error(x, ERR_BAD_QUERY, bad_cursor);
		return;
	}
	j->until_us = clock_us() + SORT_US;
	j->walk.wants = ranks;
	j->walk.row = on_row;                        /* none comes */
	j->walk.done = on_sorted;
	exchange_hold(x);
	x->worker->shared->store->ops->walk(x->worker->link, &j->walk);
}

void admin_cache_list(struct exchange *x)
{
	struct job *j = job_new(x);
	char limit[QUERY_VALUE_MAX + 1], after[QUERY_VALUE_MAX + 1], sort[QUERY_VALUE_MAX + 1], why[ADMIN_WHY_MAX];
	uint64_t n = PAGE_DEFAULT;

	if (!j)
		return;
	const struct query_value wanted[] = { { "q", j->q }, { "limit", limit }, { "after", after }, { "model", j->model },
	                                      { "namespace", j->space }, { "sort", sort } };
	if (!query_read(x->request->query, wanted, sizeof wanted / sizeof *wanted, why)) {
		admin_error(x, ERR_BAD_QUERY, why);
		return;
	}
	if (*limit && (!slice_number(slice_text(limit), PAGE_MAX, &n) || n == 0)) {
		admin_error(x, ERR_BAD_QUERY, "query: limit takes a number from 1 to 500");
		return;
	}
	if (!read_sort(sort, j)) {
		admin_error(x, ERR_BAD_QUERY, "query: sort takes created, expires, hits or bytes, with a minus in front for the largest first");
		return;
	}
	if (!read_cursor(after, &j->walk)) {
		admin_error(x, ERR_BAD_QUERY, bad_cursor);
		return;
	}
	if (*j->q && !fold_q(j)) {
		admin_error(x, ERR_BAD_QUERY, "query: q cannot be compared");
		return;
	}
	j->e = buf_addf(&j->out, "{\"entries\":[");
	if (j->sort) {
		j->walk.after[0] = '\0';
		list_sorted(j, (size_t)n, after);
		return;
	}
	j->walk.limit = n;
	j->walk.wants = wants;
	j->walk.row = on_row;
	j->walk.done = on_page;
	exchange_hold(x);
	x->worker->shared->store->ops->walk(x->worker->link, &j->walk);
}

/* ---- purge ---- */

static void purge_on(struct job *j);

static void purge_over(struct job *j, bool failed)
{
	struct exchange *x = j->x;

	flights_unlist_landed(x->worker->shared->flights);
	log_line(LOG_INFO, "cache", "purge%s%s%s%s: %llu entries removed%s", *j->model ? " model=" : "", j->model, *j->space ? " namespace=" : "",
	         j->space, (unsigned long long)j->removed, failed ? ", then the store failed" : "");
	if (x->request && failed)
		admin_error(x, ERR_STORE_DOWN, NULL);
	else if (x->request)
		admin_reply_json(x, &j->out, buf_addf(&j->out, "{\"removed\":%llu}", (unsigned long long)j->removed));
	exchange_drop(x);
}

static void on_purged(struct store_walk *w, enum store_news news, uint64_t removed)
{
	struct job *j = (struct job *)((char *)w - offsetof(struct job, walk));

	j->removed += removed;
	if (news == STORE_FAILED || !*w->after || atomic_load(&j->x->worker->shared->draining))
		purge_over(j, news == STORE_FAILED);
	else
		purge_on(j);
}

static void purge_on(struct job *j)
{
	struct exchange *x = j->x;

	j->walk.limit = 0;
	x->worker->shared->store->ops->walk(x->worker->link, &j->walk);
}

void admin_cache_purge(struct exchange *x)
{
	struct job *j = job_new(x);
	char all[QUERY_VALUE_MAX + 1], why[ADMIN_WHY_MAX];

	if (!j)
		return;
	const struct query_value wanted[] = { { "model", j->model }, { "namespace", j->space }, { "all", all } };
	if (!query_read(x->request->query, wanted, sizeof wanted / sizeof *wanted, why)) {
		admin_error(x, ERR_BAD_QUERY, why);
		return;
	}
	if (*all && strcmp(all, "1") != 0) {
		admin_error(x, ERR_BAD_QUERY, "query: all takes 1");
		return;
	}
	if (!*all && !*j->model && !*j->space) {
		admin_error(x, ERR_BAD_QUERY, "say what to remove: model=, namespace= (patterns), or all=1");
		return;
	}
	j->walk.remove = true;
	j->walk.wants = *j->model || *j->space ? wants : NULL;
	j->walk.done = on_purged;
	exchange_hold(x);
	purge_on(j);
}
