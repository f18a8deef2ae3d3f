/* redis_walk.c - listing and purging in Redis: SCAN, and the front of what it names; see store.h and redis_store.h.
 *
 * A step is one SCAN of a few dozen keys, then STRLEN and GETRANGE of each in one round trip; the next step begins when
 * the last reply is in, so neither the server nor the loop is held up. A batch is taken in the order of its keys, so
 * that a walk can end in the middle of it: the cursor handed out is SCAN's own and the last key done of its batch.
 * SCAN promises that what stays is seen, not that it is seen once; a listing that goes on in the middle of a batch just
 * while the server shrinks its table may miss some. */
#include <stdlib.h>

#include "cache/entry.h"
#include "cache/redis_store.h"

enum { SCAN_COUNT = 64, BATCH_MAX = 4096, ROWS_MAX = 1000 };

struct redis_found {                          /* one key of a batch */
	struct redis_call length, front, removal, unindexed;
	struct redis_op *op;
	uint8_t key[KEY_BYTES];
	uint64_t bytes;
};

struct redis_scan {
	struct store_walk *walk;
	char pattern[2 * PREFIX_MAX + 16];
	char cursor[32], next[32];            /* of this batch; of the one after it */
	uint8_t last[KEY_BYTES];              /* done in this batch, up to here */
	bool has_last;
	struct redis_found *found;
	size_t n_found, looked, rows;
	uint64_t removed;
	bool failed;
};

void redis_scan_free(struct redis_scan *scan)
{
	if (scan)
		free(scan->found);
	free(scan);
}

static void walk_end(struct redis_op *op)
{
	struct redis_scan *s = op->scan;
	struct store_walk *w = s->walk;
	uint64_t removed = s->removed;
	enum store_news news = s->failed ? STORE_FAILED : s->rows ? STORE_FOUND : STORE_NONE;

	if (w->remove)
		redis_changed(op->link->store);
	redis_op_free(op);
	w->done(w, news, removed);
}

static void scan_next(struct redis_op *op);

/* A failure of our own, such as no memory; what the server says was counted when it said so. */
static void walk_failed(struct redis_op *op)
{
	op->scan->failed = true;
	redis_failed(op->link->store);
}

static void on_removed(struct redis_call *call, const redisReply *r)
{
	struct redis_found *f = (struct redis_found *)(void *)((char *)call - offsetof(struct redis_found, removal));
	struct redis_op *op = f->op;

	if (redis_is_error(op->link, REDIS_PART_LIST, r))
		op->scan->failed = true;
	else
		op->scan->removed += r->type == REDIS_REPLY_INTEGER && r->integer > 0;
	redis_op_replied(op);
}

static void on_unindexed(struct redis_call *call, const redisReply *r)
{
	struct redis_found *f = (struct redis_found *)(void *)((char *)call - offsetof(struct redis_found, unindexed));

	(void)redis_is_error(f->op->link, REDIS_PART_LIST, r);
	redis_op_replied(f->op);
}

static void remove_found(struct redis_found *f)
{
	const struct redis *s = f->op->link->store;
	char name[NAME_BYTES], index[PREFIX_MAX + 8];
	struct command del = { 0 }, unindex = { 0 };

	redis_changed(f->op->link->store);
	command_word(&del, "UNLINK");
	command_add(&del, name, redis_entry_name(s, name, f->key));
	snprintf(index, sizeof index, "%sindex", s->prefix);
	command_word(&unindex, "ZREM");
	command_word(&unindex, index);
	command_add(&unindex, name + s->prefix_len, KEY_HEX);
	if (!redis_op_send(f->op, &f->removal, on_removed, &del) || !redis_op_send(f->op, &f->unindexed, on_unindexed, &unindex))
		walk_failed(f->op);
}

static void on_length(struct redis_call *call, const redisReply *r)
{
	struct redis_found *f = (struct redis_found *)(void *)((char *)call - offsetof(struct redis_found, length));

	f->bytes = !redis_is_error(f->op->link, REDIS_PART_LIST, r) && r->type == REDIS_REPLY_INTEGER ? (uint64_t)r->integer : 0;
	redis_op_replied(f->op);
}

static void on_front(struct redis_call *call, const redisReply *r)
{
	struct redis_found *f = (struct redis_found *)(void *)((char *)call - offsetof(struct redis_found, front));
	struct redis_scan *s = f->op->scan;
	struct store_walk *w = s->walk;

	if (!r) {
		s->failed = true;
	} else if (s->rows < w->limit) {
		s->looked++;
		memcpy(s->last, f->key, KEY_BYTES);
		if (!redis_is_error(f->op->link, REDIS_PART_LIST, r) && r->type == REDIS_REPLY_STRING && r->len > 0) {
			struct store_row row = { .entry_head = slice_of(r->str, r->len), .bytes = f->bytes };
			memcpy(row.key, f->key, KEY_BYTES);
			if (!w->wants || w->wants(w, &row)) {
				s->rows++;
				if (w->remove)
					remove_found(f);
				else
					w->row(w, &row);
			}
		}
	}
	redis_op_replied(f->op);
}

/* All of a batch is in. */
static void batch_end(struct redis_op *op)
{
	struct redis_scan *s = op->scan;

	if (s->looked < s->n_found && !s->failed) {    /* the limit came first: go on within this batch */
		char name[NAME_BYTES];
		redis_entry_name(op->link->store, name, s->last);
		if (s->walk->remove)                   /* what was wanted is gone, so the batch can be taken from its start */
			snprintf(s->walk->after, sizeof s->walk->after, "%s", s->cursor);
		else
			snprintf(s->walk->after, sizeof s->walk->after, "%s+%.64s", s->cursor,
				 name + op->link->store->prefix_len);
		walk_end(op);
		return;
	}
	bool over = strcmp(s->next, "0") == 0;
	snprintf(s->walk->after, sizeof s->walk->after, "%s", over ? "" : s->next);
	memcpy(s->cursor, s->next, sizeof s->cursor);
	s->has_last = false;
	if (over || s->failed || s->rows >= s->walk->limit)
		walk_end(op);
	else
		scan_next(op);
}

static bool look_at(struct redis_op *op, struct redis_found *f)
{
	char name[NAME_BYTES], last[16];
	struct command length = { 0 }, front = { 0 };
	size_t len = redis_entry_name(op->link->store, name, f->key);

	snprintf(last, sizeof last, "%d", ENTRY_PEEK_BYTES - 1);
	command_word(&length, "STRLEN");
	command_add(&length, name, len);
	command_word(&front, "GETRANGE");
	command_add(&front, name, len);
	command_word(&front, "0");
	command_word(&front, last);
	return redis_op_send(op, &f->length, on_length, &length) && redis_op_send(op, &f->front, on_front, &front);
}

static int by_key(const void *a, const void *b)
{
	return memcmp(((const struct redis_found *)a)->key, ((const struct redis_found *)b)->key, KEY_BYTES);
}

static void on_scanned(struct redis_call *call, const redisReply *r)
{
	struct redis_op *op = (struct redis_op *)(void *)((char *)call - offsetof(struct redis_op, call));
	struct redis_scan *s = op->scan;
	size_t prefix = op->link->store->prefix_len;
	bool error = redis_is_error(op->link, REDIS_PART_LIST, r);
	bool ok = !error && r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
		  r->element[0]->str && r->element[0]->len < sizeof s->next && r->element[1]->elements <= BATCH_MAX;

	s->n_found = s->looked = 0;
	free(s->found);
	s->found = ok ? calloc(r->element[1]->elements + 1, sizeof *s->found) : NULL;
	if (s->found) {
		memcpy(s->next, r->element[0]->str, r->element[0]->len + 1);
		for (size_t i = 0; i < r->element[1]->elements; i++) {
			const redisReply *name = r->element[1]->element[i];
			struct redis_found *f = &s->found[s->n_found];
			f->op = op;
			if (name->type == REDIS_REPLY_STRING && name->len > prefix &&
			    redis_key_read(f->key, name->str + prefix, name->len - prefix) &&
			    !(s->has_last && memcmp(f->key, s->last, KEY_BYTES) <= 0))
				s->n_found++;
		}
		qsort(s->found, s->n_found, sizeof *s->found, by_key);
		for (size_t i = 0; i < s->n_found && !s->failed; i++)
			if (!look_at(op, &s->found[i]))
				walk_failed(op);
	} else {
		s->failed = true;
		if (!error)
			redis_failed(op->link->store);
		memcpy(s->next, s->cursor, sizeof s->next);
	}
	redis_op_replied(op);                          /* this reply; the batch ends when the others have come */
}

static void scan_next(struct redis_op *op)
{
	struct redis_scan *s = op->scan;
	struct command c = { 0 };
	char count[16];

	snprintf(count, sizeof count, "%d", SCAN_COUNT);
	command_word(&c, "SCAN");
	command_word(&c, s->cursor);
	command_word(&c, "MATCH");
	command_word(&c, s->pattern);
	command_word(&c, "COUNT");
	command_word(&c, count);
	op->end = batch_end;
	if (!redis_op_send(op, &op->call[0], on_scanned, &c)) {
		walk_failed(op);
		op->end = walk_end;
		redis_op_refuse(op);
	}
}

void redis_walk(struct store_link *l, struct store_walk *w)
{
	struct redis_op *op = redis_op_new(l, walk_end);
	struct redis_scan *s = op ? calloc(1, sizeof *s) : NULL;
	char *to;

	if (!s) {
		if (op)
			redis_op_free(op);
		redis_failed(l->store);
		w->done(w, STORE_FAILED, 0);
		return;
	}
	op->scan = s;
	s->walk = w;
	if (w->limit == 0 || (!w->remove && w->limit > ROWS_MAX))
		w->limit = ROWS_MAX;
	size_t len = strnlen(w->after, sizeof w->after - 1);       /* behind it there may be the rest of a longer one */
	char *plus = memchr(w->after, '+', len);
	if (plus)
		len = (size_t)(plus - w->after);
	snprintf(s->cursor, sizeof s->cursor, "%.*s", (int)(len < sizeof s->cursor ? len : 0), len ? w->after : "0");
	if (!*s->cursor || strspn(s->cursor, "0123456789") != strlen(s->cursor))
		memcpy(s->cursor, "0", 2);
	s->has_last = plus && redis_key_read(s->last, plus + 1, strnlen(plus + 1, sizeof w->after - (size_t)(plus + 1 - w->after)));
	to = s->pattern;
	for (const char *at = l->store->prefix; *at; at++) {   /* a prefix may have characters that mean something to MATCH */
		if (strchr("*?[]^-\\", *at))
			*to++ = '\\';
		*to++ = *at;
	}
	memcpy(to, "[0-9a-f]*", sizeof "[0-9a-f]*");
	scan_next(op);
}
