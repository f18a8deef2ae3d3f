/* admin_entry.c - one stored entry: what is known of it and its answer as JSON; and removing it. */
#include <stdlib.h>

#include "cache/key.h"
#include "proxy/admin.h"
#include "proxy/base/log.h"

/* Text may grow when it is escaped anew, and what is no UTF-8 does. */
enum { REPLY_TIMES = 6, REPLY_MORE = 64 << 10 };

struct entry_job {
	struct own own;                      /* first */
	struct exchange *x;
	struct store_get get;
};

static void job_free(struct own *own)
{
	struct entry_job *j = (struct entry_job *)own;

	buf_fini(&j->get.entry);
	buf_fini(&j->get.proposed);
	free(j);
}

/* The id at the end of the path; false: the client was told. */
static bool read_id(struct exchange *x, uint8_t key[KEY_BYTES])
{
	const struct slice path = x->request->path;
	const char *slash = memrchr(path.at, '/', path.len);
	char why[ADMIN_WHY_MAX];

	if (!key_parse(slice_of(slash + 1, path.len - (size_t)(slash + 1 - path.at)), key)) {
		admin_error(x, ERR_BAD_QUERY, "an id is 64 hex digits, as the list of entries shows it");
		return false;
	}
	if (!query_read(x->request->query, NULL, 0, why)) {
		admin_error(x, ERR_BAD_QUERY, why);
		return false;
	}
	if (!x->worker->link) {
		admin_error(x, ERR_NOT_FOUND, "there is no store: cache.store is off");
		return false;
	}
	return true;
}

/* ---- an answer as JSON ---- */

static enum err put_text_of(struct buf *out, const char *name, enum piece_kind kind, struct slice pieces)
{
	struct buf text;

	buf_init(&text, pieces.len + 1);
	enum err e = pieces_text(pieces, kind, &text);
	if (!e && text.len) {
		e = buf_addf(out, "\"%s\":", name);
		e = e ? e : admin_put_text(out, buf_slice(&text), 0);
		e = e ? e : buf_add(out, ",", 1);
	}
	buf_fini(&text);
	return e;
}

/* All pieces of a kind, which are parts of an array or object already, between brackets. */
static enum err put_parts_of(struct buf *out, const char *name, enum piece_kind kind, struct slice pieces, const char *brackets)
{
	struct slice bytes;
	enum piece_kind k;
	size_t at = 0, n = 0;
	enum err e = ERR_OK;

	while (!e && pieces_next(pieces, &at, &k, &bytes)) {
		if (k != kind || bytes.len == 0)
			continue;
		e = n++ ? buf_add(out, ",", 1) : buf_addf(out, "\"%s\":%c", name, brackets[0]);
		e = e ? e : buf_put(out, bytes);
	}
	return e || !n ? e : buf_addf(out, "%c,", brackets[1]);
}

static enum err put_answer(struct buf *out, struct slice pieces, enum family family)
{
	enum err e = buf_addf(out, "\"answer\":{");

	if (family == FAMILY_CHAT || family == FAMILY_GENERATE) {
		e = e ? e : put_text_of(out, "text", PIECE_CONTENT, pieces);
		e = e ? e : put_text_of(out, "thinking", PIECE_THINKING, pieces);
		e = e ? e : put_parts_of(out, "tool_calls", PIECE_TOOL_CALLS, pieces, "[]");
		e = e ? e : put_parts_of(out, "message", PIECE_MESSAGE_FIELD, pieces, "{}");
		e = e ? e : put_parts_of(out, "fields", PIECE_FIELD, pieces, "{}");
		e = e ? e : put_parts_of(out, "stats", PIECE_LAST, pieces, "{}");
	} else {
		e = e ? e : put_parts_of(out, "body", PIECE_BODY, pieces, "{}");
	}
	if (!e && out->at[out->len - 1] == ',')
		out->len--;
	return e ? e : buf_add(out, "}", 1);
}

static enum err put_meta(struct buf *out, const struct entry_meta *m, const uint8_t key[KEY_BYTES], size_t bytes)
{
	int64_t now = wall_now();
	enum err e = buf_addf(out, "{");

	e = e ? e : admin_put_key(out, "id", key);
	e = e ? e : buf_addf(out, ",\"question\":");
	e = e ? e : admin_put_text(out, m->question, 0);
	e = e ? e : buf_addf(out, ",\"model\":");
	e = e ? e : admin_put_text(out, m->model, 0);
	e = e ? e : buf_addf(out, ",\"namespace\":");
	e = e ? e : admin_put_text(out, m->space, 0);
	e = e ? e : buf_addf(out, ",\"content_type\":");
	e = e ? e : admin_put_text(out, m->content_type, 0);
	return e ? e : buf_addf(out, ",\"family\":\"%s\",\"age\":%lld,\"ttl\":%lld,\"bytes\":%zu,\"created_ms\":%lld,\"expires_ms\":%lld,"
	                        "\"streamed\":%s,\"eval_count\":%llu,\"gpu_seconds\":%.3f,", family_name[m->family],
	                        (long long)(now - m->created_ms) / 1000, (long long)(m->expires_ms - now) / 1000, bytes,
	                        (long long)m->created_ms, (long long)m->expires_ms, m->stream ? "true" : "false",
	                        (unsigned long long)m->eval_count, (double)(m->eval_ns + m->prompt_eval_ns) / 1e9);
}

static void got(struct entry_job *j, enum store_news news)
{
	struct exchange *x = j->x;
	struct entry_meta m;
	struct slice pieces;
	struct buf out;

	if (!x->request)
		return;
	if (news == STORE_FAILED) {
		admin_error(x, ERR_STORE_DOWN, NULL);
		return;
	}
	if (news != STORE_FOUND || entry_unpack(buf_slice(&j->get.entry), &m, &pieces) || m.expires_ms <= wall_now()) {
		admin_error(x, ERR_NOT_FOUND, "there is no entry with this id (any more)");
		return;
	}
	buf_init(&out, REPLY_TIMES * j->get.entry.len + REPLY_MORE);
	enum err e = put_meta(&out, &m, j->get.key, j->get.entry.len);
	e = e ? e : put_answer(&out, pieces, m.family);
	e = e ? e : buf_add(&out, "}", 1);
	admin_reply_json(x, &out, e);
}

static void on_got(struct store_get *g, enum store_news news)
{
	struct entry_job *j = (struct entry_job *)((char *)g - offsetof(struct entry_job, get));
	struct exchange *x = j->x;

	got(j, news);
	exchange_drop(x);
}

void admin_entry_get(struct exchange *x)
{
	struct entry_job *j;
	uint8_t key[KEY_BYTES];

	if (!read_id(x, key))
		return;
	j = calloc(1, sizeof *j);
	if (!j) {
		admin_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	j->own.free = job_free;
	j->x = x;
	x->own = &j->own;
	memcpy(j->get.key, key, KEY_BYTES);
	buf_init(&j->get.entry, CACHE_ENTRY_BYTES(x->config));
	j->get.done = on_got;
	enum store_news news = x->worker->shared->store->ops->get(x->worker->link, &j->get);
	if (news == STORE_LATER)
		exchange_hold(x);
	else
		got(j, news);
}

/* ---- removing it ---- */

static void on_dropped(void *arg, bool was_there)
{
	struct exchange *x = arg;
	struct buf out;

	flights_unlist_landed(x->worker->shared->flights);
	if (x->request && was_there) {
		buf_init(&out, ADMIN_BODY_MAX);
		log_line(LOG_INFO, "cache", "one entry removed by hand");
		admin_reply_json(x, &out, buf_addf(&out, "{\"removed\":1}"));
	} else if (x->request) {
		struct store *s = x->worker->shared->store;
		bool up = s->ops->state(s).up;
		admin_error(x, up ? ERR_NOT_FOUND : ERR_STORE_DOWN, up ? "there is no entry with this id (any more)" : NULL);
	}
	exchange_drop(x);
}

void admin_entry_delete(struct exchange *x)
{
	uint8_t key[KEY_BYTES];

	if (!read_id(x, key))
		return;
	exchange_hold(x);
	x->worker->shared->store->ops->drop(x->worker->link, key, on_dropped, x);
}
