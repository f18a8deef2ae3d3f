/* store_embedded.c - the store that needs no server: LMDB in a directory; see store.h and embedded.h.
 *
 * A get is one read transaction renewed, one descent of a tree and one copy, all on the link's own thread and without
 * a lock, unless something is waiting to be written: then the pending table is asked first. Pending before LMDB, in
 * this order: what has just left the pending table is committed, so the later look sees it. */
#include <stdlib.h>

#include "cache/embedded.h"
#include "proxy/base/log.h"

static struct embedded *of(struct store *store)
{
	return (struct embedded *)store;               /* its first member */
}

/* On the link's loop: tells what the writer has finished. */
static void on_bell(uv_async_t *bell)
{
	struct store_link *l = bell->data;

	for (;;) {
		pthread_mutex_lock(&l->store->lock);
		struct op *op = l->finished;
		if (op && !(l->finished = op->next))
			l->finished_last = &l->finished;
		pthread_mutex_unlock(&l->store->lock);
		if (!op)
			return;
		bool last = false;
		if (op->kind == OP_WALK) {
			struct store_walk *w = op->walk;
			for (struct walk_row *r = op->rows; r; r = r->next)
				w->row(w, &r->row);
			w->done(w, op->failed ? STORE_FAILED : op->n_rows || op->removed ? STORE_FOUND : STORE_NONE,
				op->removed);
		} else {
			op->done(op->arg, op->ok);
		}
		last = uv_is_closing((uv_handle_t *)bell);     /* what was told may have detached us */
		op_end(op);
		if (last)
			return;
	}
}

static struct store_link *embedded_attach(struct store *store, struct loop *loop)
{
	struct embedded *s = of(store);
	struct store_link *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->store = s;
	l->finished_last = &l->finished;
	l->looked = malloc(QUERY_LOOKED * sizeof *l->looked);
	if (!l->looked || mdb_txn_begin(s->t.env, NULL, MDB_RDONLY, &l->txn))
		goto none;
	if (mdb_cursor_open(l->txn, s->t.terms, &l->terms) || uv_async_init(&loop->uv, &l->bell, on_bell))
		goto none;
	mdb_txn_reset(l->txn);
	l->bell.data = l;
	uv_unref((uv_handle_t *)&l->bell);
	pthread_mutex_init(&l->notes_lock, NULL);
	pthread_mutex_lock(&s->lock);
	l->next = s->links;
	s->links = l;
	pthread_mutex_unlock(&s->lock);
	return l;
none:
	if (l->terms)
		mdb_cursor_close(l->terms);
	if (l->txn)
		mdb_txn_abort(l->txn);
	free(l->looked);
	free(l);
	return NULL;
}

static void link_free(uv_handle_t *bell)
{
	free(bell->data);
}

static void orphan(struct op *ops, struct store_link *l)
{
	for (; ops; ops = ops->next)
		if (ops->link == l)
			ops->link = NULL;
}

static void embedded_detach(struct store_link *l)
{
	struct embedded *s = l->store;
	struct store_link **at = &s->links;

	pthread_mutex_lock(&s->lock);
	while (s->walking && s->walking->link == l)            /* one step at most: it looks at our caller's memory */
		pthread_cond_wait(&s->walked, &s->lock);
	orphan(s->queue, l);
	orphan(s->batch, l);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	struct op *finished = l->finished;
	pthread_mutex_unlock(&s->lock);
	while (finished) {
		struct op *op = finished;
		finished = op->next;
		op_end(op);
	}
	l->finished = NULL;
	l->finished_last = &l->finished;
	mdb_cursor_close(l->terms);
	mdb_txn_abort(l->txn);
	free(l->looked);
	pthread_mutex_destroy(&l->notes_lock);
	uv_close((uv_handle_t *)&l->bell, link_free);
}

/* Notes a use in a small table of the link's; a place is found within a few steps, or the use goes unnoted. */
static void note_use(struct store_link *l, uint64_t doc)
{
	enum { STEPS = 8 };

	pthread_mutex_lock(&l->notes_lock);            /* the writer takes it once in two seconds */
	for (unsigned i = 0; i < STEPS; i++) {
		struct note *n = &l->notes[(doc * 0x9e3779b97f4a7c15ull >> 32) % NOTES_MAX ^ i];
		if (n->times == 0)
			n->doc = doc;
		if (n->doc == doc) {
			n->times++;
			l->noted = true;
			break;
		}
	}
	pthread_mutex_unlock(&l->notes_lock);
}

static enum store_news copied(struct embedded *s, enum err e)
{
	if (e == ERR_OK)
		return STORE_FOUND;
	if (e == ERR_TOO_LARGE)
		return STORE_NONE;                     /* stored under a larger cache.max_entry */
	embedded_failed(s);
	return STORE_FAILED;
}

/* What the pending table says of a key; STORE_LATER: nothing. */
static enum store_news get_pending(struct embedded *s, struct store_get *g, int64_t now)
{
	enum store_news news = STORE_NONE;

	pthread_mutex_lock(&s->lock);
	struct op *op = pending_find(s, g->key);
	if (op)
		atomic_fetch_add_explicit(&op->refs, 1, memory_order_relaxed);
	pthread_mutex_unlock(&s->lock);
	if (!op)
		return STORE_LATER;
	if (op->kind == OP_PUT && op->expires_ms > now)
		news = copied(s, buf_put(&g->entry, op->entry));
	op_drop(op);
	return news;
}

static bool is_pending(struct embedded *s, const uint8_t *key)
{
	if (atomic_load_explicit(&s->pending, memory_order_acquire) == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	bool is = pending_find(s, key);
	pthread_mutex_unlock(&s->lock);
	return is;
}

static bool propose(struct store_get *g, const uint8_t *key, struct slice question)
{
	struct store_proposal *p = &g->proposal[g->n_proposals];

	if (buf_put(&g->proposed, question))
		return false;
	memcpy(p->key, key, KEY_BYTES);
	p->question = slice_of(NULL, question.len);    /* where it is is known when proposed grows no more */
	g->n_proposals++;
	return true;
}

/* The best of both, best first, copied into g. */
static bool propose_best(struct store_get *g, const struct near_best *waiting, const struct near_best *stored)
{
	size_t w = 0, s = 0, at = 0;
	bool ok = true;

	buf_init(&g->proposed, (size_t)STORE_PROPOSALS * NEAR_QUESTION_MAX);
	while (ok && g->n_proposals < STORE_PROPOSALS && (w < waiting->n || s < stored->n)) {
		if (w < waiting->n && (s == stored->n || waiting->found[w].score >= stored->found[s].score)) {
			const struct op *op = waiting->found[w++].what;
			ok = propose(g, op->key, op->question);
		} else {
			const MDB_val *record = stored->found[s++].what;
			struct doc_view view;
			if (tables_doc(record->mv_data, record->mv_size, &view))
				ok = propose(g, view.key, view.question);
		}
	}
	for (size_t i = 0; i < g->n_proposals; i++) {
		g->proposal[i].question.at = g->proposed.at + at;
		at += g->proposal[i].question.len;
	}
	return ok;
}

static enum store_news embedded_get(struct store_link *l, struct store_get *g)
{
	struct embedded *s = l->store;
	bool pending = atomic_load_explicit(&s->pending, memory_order_acquire) > 0, ok = true;
	const struct store_query *q = g->query;
	struct near_best waiting = { .n = 0 }, stored = { .n = 0 };
	enum store_news news = STORE_LATER;
	int64_t now = wall_now();
	struct near_query nq;
	struct stored entry;
	size_t terms;

	g->n_proposals = 0;
	g->bounded = false;
	g->place = 0;
	if (q && !near_fits(q->words, q->n_words, &terms))
		q = NULL;
	if (q)
		near_query_init(&nq, q);
	if (pending)
		news = get_pending(s, g, now);
	if (pending && q) {
		pthread_mutex_lock(&s->lock);
		pending_near(s, q, &nq, now, &waiting, &g->bounded);
		pthread_mutex_unlock(&s->lock);
	}
	if (mdb_txn_renew(l->txn)) {
		ok = false;
	} else {
		int e = news == STORE_LATER ? tables_find(&s->t, l->txn, g->key, now, &entry) : 0;
		if (news == STORE_LATER) {
			ok = !e || e == MDB_NOTFOUND;
			news = e ? STORE_NONE : copied(s, tables_copy(&s->t, l->txn, &entry, &g->entry));
			if (news == STORE_FOUND)
				note_use(l, entry.doc);
			g->place = news == STORE_FOUND ? entry.doc : 0;
		}
		MDB_val records[STORE_PROPOSALS];
		if (q && ok)
			ok = !mdb_cursor_renew(l->txn, l->terms) && !tables_near(l, q, &nq, now, is_pending, &stored, records, &g->bounded);
		if (q && ok)
			ok = propose_best(g, &waiting, &stored);
		mdb_txn_reset(l->txn);
	}
	for (size_t i = 0; i < waiting.n; i++)
		op_drop((struct op *)(uintptr_t)waiting.found[i].what);
	if (!ok)
		embedded_failed(s);
	return ok || news == STORE_FOUND ? news : STORE_FAILED;
}

static uint64_t embedded_version(struct store_link *l)
{
	return atomic_load_explicit(&l->store->version, memory_order_acquire);
}

static void embedded_used(struct store_link *l, uint64_t place)
{
	if (place)
		note_use(l, place);
}

static void embedded_cancel(struct store_link *l, struct store_get *g)
{
	(void)l, (void)g;                              /* get never answers later */
}

/* Queues an operation; lock not held. False: there is no room, or nobody to do it. */
static bool queue(struct embedded *s, struct op *op)
{
	bool room;

	pthread_mutex_lock(&s->lock);
	room = s->pending_bytes + op->cost <= PENDING_BYTES || op->kind == OP_WALK;
	if (room) {
		op->next = NULL;
		*s->queue_last = op;
		s->queue_last = &op->next;
		if (op->kind != OP_WALK)
			pending_add(s, op);
		s->hurry |= op->kind != OP_PUT || s->pending_bytes > BATCH_BYTES;
		if (!s->gathering || s->hurry)
			pthread_cond_signal(&s->work);
	}
	pthread_mutex_unlock(&s->lock);
	return room;
}

/* Says no, by the same way as all answers go. */
static void refuse(struct store_link *l, struct op *op)
{
	pthread_mutex_lock(&l->store->lock);
	op->ok = false;
	op->failed = true;
	op->next = NULL;
	*l->finished_last = op;
	l->finished_last = &op->next;
	pthread_mutex_unlock(&l->store->lock);
	uv_async_send(&l->bell);
}

static struct op *op_new(struct store_link *l, enum op_kind kind, size_t bytes)
{
	struct op *op = malloc(sizeof *op + bytes);

	if (!op)
		return NULL;
	*op = (struct op){ .kind = kind, .link = l, .cost = sizeof *op };
	atomic_init(&op->refs, 1);
	op->last_row = &op->rows;
	return op;
}

static char *lay(char **to, const void *bytes, size_t len)
{
	char *at = *to;

	if (len)
		memcpy(at, bytes, len);
	*to += len;
	return at;
}

/* Copies an item; NULL if it is too large for this store or there is no memory. */
static struct op *op_of_item(struct store_link *l, const struct store_item *item)
{
	uint8_t packed[NEAR_PACKED_MAX];
	size_t n_terms = 0, words_len = 0;
	unsigned total = 0;
	bool words = item->has_question && item->question.len <= NEAR_QUESTION_MAX &&
		     near_fits(item->words, item->n_words, &n_terms);

	if (!words)
		n_terms = 0;
	if (words)
		words_len = near_pack(packed, item->words, item->n_words, &total);
	struct slice question = words ? item->question : slice_of(NULL, 0);
	size_t cost = tables_cost(item->entry.len, tables_doc_len(words_len, question.len), n_terms);
	if (item->entry.len > l->store->max_bytes / 8)
		return NULL;
	struct op *op = op_new(l, OP_PUT, n_terms * (sizeof(struct op_posting) + 8) + words_len + question.len + item->entry.len);
	if (!op)
		return NULL;
	memcpy(op->key, item->key, KEY_BYTES);
	if (words)
		memcpy(op->scope, item->scope, KEY_BYTES);
	op->expires_ms = item->expires_ms;
	op->cost = cost;
	op->total = total;
	op->n_terms = n_terms;
	op->words_len = words_len;
	char *to = op->bytes;                          /* aligned parts first */
	op->postings = (struct op_posting *)(void *)to;
	to += n_terms * sizeof(struct op_posting);
	op->terms = (const uint64_t *)(void *)to;
	for (size_t i = 0; words && i < item->n_words; i++)
		lay(&to, item->words[i].terms, 8 * (size_t)item->words[i].n_terms);
	op->words = (const uint8_t *)lay(&to, packed, words_len);
	op->question = slice_of(lay(&to, question.at, question.len), question.len);
	op->entry = slice_of(lay(&to, item->entry.at, item->entry.len), item->entry.len);
	return op;
}

static void submit(struct store_link *l, struct op *op, void (*done)(void *arg, bool ok), void *arg)
{
	op->done = done;
	op->arg = arg;
	if (queue(l->store, op))
		return;
	embedded_failed(l->store);
	if (done)
		refuse(l, op);
	else
		op_end(op);
}

static void embedded_put(struct store_link *l, const struct store_item *item, void (*done)(void *arg, bool stored), void *arg)
{
	struct op *op = op_of_item(l, item);

	if (op) {
		submit(l, op, done, arg);
		return;
	}
	embedded_failed(l->store);
	op = done ? op_new(l, OP_DROP, 0) : NULL;      /* only to say no */
	if (op) {
		op->done = done;
		op->arg = arg;
		refuse(l, op);
	} else if (done) {
		done(arg, false);
	}
}

static void embedded_drop(struct store_link *l, const uint8_t key[KEY_BYTES], void (*done)(void *arg, bool was_there), void *arg)
{
	struct op *op = op_new(l, OP_DROP, 0);

	if (op) {
		memcpy(op->key, key, KEY_BYTES);
		submit(l, op, done, arg);
		return;
	}
	embedded_failed(l->store);
	if (done)
		done(arg, false);
}

static void embedded_walk(struct store_link *l, struct store_walk *w)
{
	struct op *op = op_new(l, OP_WALK, 0);

	if (!op) {
		embedded_failed(l->store);
		w->done(w, STORE_FAILED, 0);
		return;
	}
	if (w->limit == 0 || (!w->remove && w->limit > WALK_ROWS_MAX))
		w->limit = WALK_ROWS_MAX;
	op->walk = w;
	queue(l->store, op);
}

static struct store_state embedded_state(struct store *store)
{
	struct embedded *s = of(store);

	struct store_state state = {
		.up = !atomic_load(&s->broken), .entries = atomic_load(&s->entries), .bytes = atomic_load(&s->cost),
	};

	pthread_mutex_lock(&s->lock);
	if (*s->cause)
		snprintf(state.cause, sizeof state.cause, "it cannot be written to: %s", s->cause);
	state.since_ms = s->broken_since_ms;
	pthread_mutex_unlock(&s->lock);
	return state;
}

static void embedded_flush(struct store_link *l)
{
	(void)l;                                       /* the writer is told at once */
}

static struct op *first_of(struct op *ops, const struct store_link *l)
{
	while (ops && (ops->link != l || ops->kind == OP_WALK))
		ops = ops->next;
	return ops;
}

/* The writer does what was queued all the same, if its disk lets it; only nobody hears of it. */
static void embedded_stop(struct store_link *l)
{
	struct embedded *s = l->store;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		struct op *op = first_of(s->queue, l);
		if (!op)
			op = first_of(s->batch, l);
		void (*done)(void *, bool) = op ? op->done : NULL;
		void *arg = op ? op->arg : NULL;
		if (op)
			op->link = NULL;
		pthread_mutex_unlock(&s->lock);
		if (!op)
			return;
		if (done)
			done(arg, false);
	}
}

static void embedded_free(struct embedded *s)
{
	embedded_file_close(s);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->walked);
	pthread_mutex_destroy(&s->lock);
	free(s->path);
	free(s);
}

static void embedded_close(struct store *store)
{
	struct embedded *s = of(store);

	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->writer, NULL);
	embedded_free(s);
}

static const struct store_ops embedded_ops = {
	.name = "embedded",
	.counts_hits = true,
	.attach = embedded_attach,
	.detach = embedded_detach,
	.get = embedded_get,
	.cancel = embedded_cancel,
	.version = embedded_version,
	.used = embedded_used,
	.put = embedded_put,
	.drop = embedded_drop,
	.walk = embedded_walk,
	.state = embedded_state,
	.flush = embedded_flush,
	.stop = embedded_stop,
	.close = embedded_close,
};

struct store *store_embedded_open(const char *path, uint64_t max_bytes, char *why, size_t len)
{
	struct embedded *s = calloc(1, sizeof *s);
	pthread_condattr_t monotonic;

	if (!s || !(s->path = strdup(path))) {
		free(s);
		snprintf(why, len, "out of memory");
		return NULL;
	}
	s->store.ops = &embedded_ops;
	s->max_bytes = max_bytes < STORE_LEAST ? STORE_LEAST : max_bytes;
	s->lock_fd = -1;
	s->queue_last = &s->queue;
	atomic_init(&s->version, 1);
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->work, &monotonic);
	pthread_cond_init(&s->walked, NULL);
	pthread_condattr_destroy(&monotonic);
	if (!embedded_file_open(s, why, len)) {
		embedded_free(s);
		return NULL;
	}
	atomic_store(&s->entries, s->t.now.entries);
	atomic_store(&s->cost, s->t.now.cost);
	if (pthread_create(&s->writer, NULL, embedded_write, s)) {
		snprintf(why, len, "cache.path %s: no thread for writing could be started", path);
		embedded_free(s);
		return NULL;
	}
	return &s->store;
}
