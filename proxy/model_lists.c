/* model_lists.c - see model_lists.h. */
#include "proxy/model_lists.h"

#include <stdlib.h>

#include "proxy/base/scan.h"
#include "proxy/headers.h"
#include "proxy/virtual.h"

enum { LIST_HEADERS_MAX = 100, LIST_FRAME = 4096 };

struct list {
	struct model_lists *all;
	struct transfer *transfer;           /* NULL once ended */
	struct buf body;
	int status;
	char content_type[FLIGHT_TYPE_MAX];
	enum err error;
	char why[UPSTREAM_WHY_MAX];
};

struct model_lists {
	struct exchange *x;
	struct transfer_request rq;
	struct alarm late;
	size_t n, running;
	struct list list[HOSTS_MAX];
};

/* ---- one list of many ---- */

/* The array of models in a list's body, as it stands there; {NULL, 0}: there is none. */
static struct slice entries_of(struct slice body)
{
	struct slice name, value, found = { 0 };
	struct scan s;

	scan_init(&s, body);
	while (scan_next(&s, &name, &value))
		if (scan_is_array(value) && (slice_is(name, SLICE("models")) || slice_is(name, SLICE("data"))))
			found = value;
	return s.bad ? (struct slice){ 0 } : found;
}

/* An entry's name, as it is written there. */
static struct slice name_of(struct slice entry)
{
	struct slice name, value, found = { 0 };
	struct scan s;

	if (!scan_is_object(entry))
		return found;
	scan_init(&s, entry);
	while (scan_next(&s, &name, &value))
		if (slice_is(name, SLICE("name")) || (slice_is(name, SLICE("id")) && !found.len))
			found = value;
	return found;
}

/* Names seen: a hash table without removal, at most half full. */
struct names { struct slice *at; size_t room, n; };

static size_t hash(struct slice s)
{
	uint32_t h = 2166136261u;                /* FNV-1a */

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.at[i]) * 16777619u;
	return h;
}

/* True: it was not there, and is now. */
static bool names_add(struct names *names, struct slice name)
{
	size_t i = hash(name) & (names->room - 1);

	while (names->at[i].at) {
		if (slice_is(names->at[i], name))
			return false;
		i = (i + 1) & (names->room - 1);
	}
	names->at[i] = name;
	names->n++;
	return true;
}

static enum err put_entries(struct slice entries, struct names *names, struct buf *out)
{
	struct slice entry;
	struct scan s;
	enum err e = ERR_OK;

	scan_items_init(&s, entries);
	while (!e && scan_item(&s, &entry)) {
		struct slice name = name_of(entry);
		if (names->n >= LIST_ENTRIES_MAX || (name.len && !names_add(names, name)))
			continue;
		e = out->at[out->len - 1] == '[' ? ERR_OK : buf_add(out, ",", 1);
		e = e ? e : buf_put(out, entry);
	}
	return e;
}

bool lists_merge(const struct slice *lists, size_t n, struct buf *out)
{
	struct slice entries[HOSTS_MAX], frame = { 0 }, first = { 0 };
	struct names names = { .at = calloc(2 * LIST_ENTRIES_MAX, sizeof *names.at), .room = 2 * LIST_ENTRIES_MAX };

	for (size_t i = 0; i < n; i++) {
		entries[i] = entries_of(lists[i]);
		if (entries[i].at && !first.at) {
			first = entries[i];
			frame = lists[i];
		}
	}
	enum err e = !names.at ? ERR_NO_MEMORY : !first.at ? ERR_BAD_JSON : buf_add(out, frame.at, (size_t)(first.at - frame.at) + 1);
	for (size_t i = 0; i < n && !e; i++)
		if (entries[i].at)
			e = put_entries(entries[i], &names, out);
	const char *rest = first.at ? first.at + first.len - 1 : NULL;
	e = e ? e : buf_add(out, rest, (size_t)(frame.at + frame.len - rest));
	free(names.at);
	return !e;
}

/* ---- the reply ---- */

static void reply_body(struct exchange *x, int status, const char *type, struct buf *body)
{
	struct header h[CORS_HEADERS_MAX + 1] = { { "Content-Type", type } };
	size_t len, n = *type ? 1 : 0;

	x->status = status;
	n += origin_headers(x->origin, x->request, h + n);
	char *bytes = buf_take(body, &len);
	request_reply(x->request, status, h, n, bytes, len, false);
}

/* No host told a list: what the first one said, or how it failed. */
static void reply_failure(struct model_lists *all)
{
	struct exchange *x = all->x;

	for (size_t i = 0; i < all->n; i++) {
		struct list *l = &all->list[i];
		if (!l->error && l->status) {
			reply_body(x, l->status, l->content_type, &l->body);
			return;
		}
	}
	const struct list *l = &all->list[0];
	reply_error(x, l->error ? l->error : ERR_UPSTREAM_SLOW, *l->why ? l->why : NULL);
}

static void reply(struct model_lists *all)
{
	struct exchange *x = all->x;
	struct slice lists[HOSTS_MAX];
	const char *type = NULL;
	struct buf merged, more;
	size_t n = 0;

	alarm_clear(&x->worker->alarms, &all->late);
	for (size_t i = 0; i < all->n; i++) {
		struct list *l = &all->list[i];
		if (l->error || l->status != 200)
			continue;
		type = type ? type : l->content_type;
		lists[n++] = buf_slice(&l->body);
	}
	buf_init(&merged, LIST_MAX * (HOSTS_MAX + 1));
	if (!n || !lists_merge(lists, n, &merged)) {
		buf_fini(&merged);
		reply_failure(all);
		return;
	}
	buf_init(&more, 3 * merged.len + LIST_FRAME);
	if (x->lists && virtual_list(buf_slice(&merged), &more)) {
		buf_fini(&merged);
		merged = more;
	} else {
		buf_fini(&more);
	}
	reply_body(x, 200, type, &merged);
	buf_fini(&merged);
}

/* ---- the hosts ---- */

static void on_late(struct alarm *a)
{
	struct model_lists *all = (struct model_lists *)((char *)a - offsetof(struct model_lists, late));

	for (size_t i = 0; i < all->n; i++) {
		struct list *l = &all->list[i];
		if (l->transfer)
			upstream_cancel(l->transfer);
		l->error = l->transfer ? ERR_UPSTREAM_SLOW : l->error;
		l->transfer = NULL;
	}
	reply(all);
}

static void on_head(struct transfer *t, int status)
{
	struct list *l = t->owner;
	struct slice type = transfer_header(t, "Content-Type");

	l->status = status;
	snprintf(l->content_type, sizeof l->content_type, "%.*s", (int)type.len, type.at ? type.at : "");
}

static bool on_bytes(struct transfer *t, struct slice bytes)
{
	struct list *l = t->owner;

	if (!l->error)
		l->error = buf_put(&l->body, bytes);
	return true;
}

static void on_end(struct transfer *t, enum err e)
{
	struct list *l = t->owner;
	struct exchange *x = l->all->x;

	l->transfer = NULL;
	l->error = l->error ? l->error : e;
	snprintf(l->why, sizeof l->why, "%s", t->why);
	exchange_hold(x);
	if (--l->all->running == 0)
		reply(l->all);
	exchange_drop(x);
}

static const struct transfer_ops list_ops = { .on_head = on_head, .on_bytes = on_bytes, .on_end = on_end };

/* ---- life ---- */

bool lists_wanted(const struct exchange *x)
{
	static const struct slice paths[] = { SLICE_INIT("/api/tags"), SLICE_INIT("/v1/models"), SLICE_INIT("/api/ps") };
	const struct request *r = x->request;

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		if (slice_is(r->path, paths[i]))
			return !strcmp(r->method, "GET") && !r->has_body && hosts_count(x->worker->shared->hosts) > 1;
	return false;
}

void lists_begin(struct exchange *x)
{
	struct hosts *hosts = x->worker->shared->hosts;
	const struct config *c = x->config;
	struct model_lists *all = x->model_lists = calloc(1, sizeof *all);
	struct header *h = arena_alloc(&x->arena, LIST_HEADERS_MAX * sizeof *h);
	char *target = arena_text(&x->arena, x->request->target);
	host_set up = hosts_all_up(hosts);

	exchange_step(x, STEP_PASS);
	if (!all || !h || !target) {
		reply_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	all->x = x;
	all->rq = (struct transfer_request){
		.method = "GET", .target = target, .headers = h,
		.n_headers = headers_forward(x->request, true, &x->arena, h, LIST_HEADERS_MAX), .kind = TRANSFER_PASS,
		.connect_ms = c->upstream_connect_timeout, .first_byte_ms = c->upstream_first_byte_timeout,
		.idle_ms = c->upstream_idle_timeout,
	};
	alarm_set(&x->worker->alarms, &all->late, LISTS_MS, on_late);
	for (size_t i = 0; i < hosts_count(hosts); i++) {
		struct list *l = &all->list[all->n];
		if (up && !(up >> i & 1))
			continue;
		all->n++;
		l->all = all;
		buf_init(&l->body, LIST_MAX);
		all->rq.may = (host_set)1 << i;
		l->transfer = upstream_start(x->worker->upstream, &all->rq, &list_ops, l);
		l->error = l->transfer ? ERR_OK : ERR_NO_MEMORY;
		all->running += l->transfer != NULL;
	}
	if (!all->running)
		reply(all);
}

void lists_stop(struct exchange *x)
{
	struct model_lists *all = x->model_lists;

	if (!all)
		return;
	alarm_clear(&x->worker->alarms, &all->late);
	for (size_t i = 0; i < all->n; i++) {
		if (all->list[i].transfer)
			upstream_cancel(all->list[i].transfer);
		all->list[i].transfer = NULL;
	}
}

void lists_free(struct exchange *x)
{
	struct model_lists *all = x->model_lists;

	for (size_t i = 0; all && i < all->n; i++)
		buf_fini(&all->list[i].body);
	free(all);
	x->model_lists = NULL;
}
