/* embedded_writer.c - the one thread that writes to LMDB; see embedded.h.
 *
 * It takes what has gathered in the queue as one transaction: while one batch is being synced to disk the next one
 * gathers, so batches grow with the load and a single put is on disk within one sync. The data of a batch is synced,
 * its head is not (MDB_NOMETASYNC): what a killed process has committed is there; a power cut may cost the last batch.
 *
 * Room     before a batch, the least used entries go until it fits. Two measures: the
 *          reckoned cost of all entries, which keeps the store at a steady size although pages are never quite full,
 *          and the pages really free, which is what LMDB fails for. When the disk is full all the same, a tenth of the
 *          store goes, the batch is tried once more, and is then given up: a put not stored is a miss later.
 *          A transaction copies every page it changes and gives the old ones free for the next but one; so what one
 *          transaction may touch is a fourth of what is kept free, and all work is cut to that (`step`).
 * Use      links count the entries they served in tables of their own; every FOLD_MS they are added up here.
 * Walks    are steps of WALK_STEP entries, each with a short transaction, with batches in between. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "cache/embedded.h"
#include "cache/entry.h"
#include "proxy/base/log.h"

enum { GATHER_MS = 20 };                   /* how long the first put of a batch waits for others */
enum { STEP_MAX = 256, EVICT_ROUNDS = 4096, PAGE_ROUNDS = 4, FOLD_MS = 2000, PAGE = 4096 };
enum { ENTRY_PAGES = 32, NOTE_PAGES = 6 };     /* pages that removing an entry, or noting its use, touches at most or so */
enum { NOTHING = INT_MIN };                    /* no code of LMDB's */

void embedded_failed(struct embedded *s)
{
	if (s->store.errors)
		atomic_fetch_add_explicit(s->store.errors, 1, memory_order_relaxed);
}

/* One line when writing begins to fail, one when it works again. */
static void told(struct embedded *s, int e)
{
	if (e)
		embedded_failed(s);
	pthread_mutex_lock(&s->lock);
	if (e && !s->complained)
		s->broken_since_ms = wall_now();
	snprintf(s->cause, sizeof s->cause, "%s", e ? mdb_strerror(e) : "");
	pthread_mutex_unlock(&s->lock);
	if (e && !s->complained)
		log_line(LOG_ERROR, "store", "%s cannot be written to: %s; answers are not stored until it can", s->path,
			 mdb_strerror(e));
	else if (!e && s->complained)
		log_line(LOG_INFO, "store", "%s can be written to again", s->path);
	s->complained = e;
	atomic_store(&s->broken, e != 0);
}

/* Pages in use, by LMDB's own books: all up to the last one but for those on its free list. */
static int pages_used(struct embedded *s, uint64_t *pages)
{
	MDB_envinfo info;
	MDB_cursor *c;
	MDB_txn *txn;
	MDB_val k, v;
	uint64_t unused = 0;
	int e = mdb_txn_begin(s->t.env, NULL, MDB_RDONLY, &txn);

	if (e)
		return e;
	e = mdb_cursor_open(txn, 0, &c);
	if (!e) {
		while (!(e = mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
			size_t n;
			memcpy(&n, v.mv_data, sizeof n);
			unused += n;
		}
		mdb_cursor_close(c);
	}
	mdb_txn_abort(txn);
	if (e != MDB_NOTFOUND)
		return e;
	mdb_env_info(s->t.env, &info);
	*pages = info.me_last_pgno + 1 - unused;
	return 0;
}

static uint64_t cost_limit(const struct embedded *s)
{
	return s->max_bytes - s->max_bytes / 8;
}

/* How many entries one transaction may remove. */
static size_t step(const struct embedded *s)
{
	uint64_t entries = (s->max_bytes - cost_limit(s)) / PAGE / 4 / ENTRY_PAGES;

	return entries < 1 ? 1 : entries > STEP_MAX ? STEP_MAX : (size_t)entries;
}

/* Runs one write transaction; totals go back to what they were if it fails. NOTHING: there is nothing to commit. */
static int transact(struct embedded *s, int (*what)(struct embedded *, MDB_txn *, void *), void *arg)
{
	struct totals before = s->t.now;
	MDB_txn *txn;
	int e = mdb_txn_begin(s->t.env, NULL, 0, &txn);

	if (e)
		return e;
	e = what(s, txn, arg);
	if (!e)
		e = tables_totals_write(&s->t, txn);
	if (e)
		mdb_txn_abort(txn);
	else
		e = mdb_txn_commit(txn);
	if (e)
		s->t.now = before;
	else
		embedded_changed(s);
	if (e == NOTHING)
		e = 0;
	atomic_store(&s->entries, s->t.now.entries);
	atomic_store(&s->cost, s->t.now.cost);
	return e;
}

struct evict { uint64_t wanted, freed; int64_t now; bool only_expired, any; };

static int evict_some(struct embedded *s, MDB_txn *txn, void *arg)
{
	struct evict *v = arg;
	uint64_t freed = 1;
	int e = 0;

	for (size_t i = 0; i < step(s) && freed && v->freed < v->wanted && !e; i++) {
		e = tables_evict(&s->t, txn, v->now, v->only_expired, &freed);
		v->freed += freed;
		v->any |= freed > 0;
	}
	return e || v->any ? e : NOTHING;
}

/* Evicts entries of `wanted` cost in all, or all there are. */
static int evict(struct embedded *s, uint64_t wanted, bool only_expired)
{
	struct evict v = { .wanted = wanted, .now = wall_now(), .only_expired = only_expired };
	int e = 0;

	for (int i = 0; i < EVICT_ROUNDS && v.freed < wanted && !e; i++) {
		v.any = false;
		e = transact(s, evict_some, &v);
		if (!v.any)
			break;
	}
	return e;
}

static int make_room(struct embedded *s, uint64_t cost)
{
	uint64_t limit = cost_limit(s), pages;
	int e = 0;

	if (s->t.now.cost + cost > limit)
		e = evict(s, s->t.now.cost + cost - limit + s->max_bytes / 256, false);
	/* pages freed by one transaction serve the next but one, and writing copies what it changes: hence twice */
	uint64_t reserve = 2 * cost + s->max_bytes / 32;
	for (int i = 0; i < PAGE_ROUNDS && !e; i++) {
		e = pages_used(s, &pages);
		if (e || pages * PAGE + reserve <= s->max_bytes || s->t.now.entries == 0)
			break;
		e = evict(s, s->max_bytes / 64, false);
	}
	return e;
}

static int write_ops(struct embedded *s, MDB_txn *txn, void *arg)
{
	int e = 0;

	for (struct op *op = arg; op && !e; op = op->next)
		if (op->kind == OP_DROP) {
			e = tables_drop(&s->t, txn, op->key, &op->ok);
		} else {
			e = tables_put(&s->t, txn, op);
			op->ok = !e;
		}
	return e;
}

static void write_batch(struct embedded *s, struct op *batch)
{
	uint64_t cost = 0;

	for (struct op *op = batch; op; op = op->next)
		cost += op->cost;
	int e = make_room(s, cost);
	if (!e)
		e = transact(s, write_ops, batch);
	if (e) {                                       /* no room in the map or on the disk: some goes, and once more */
		if (e != ENOMEM)                       /* for which no answer need go */
			evict(s, s->t.now.cost / 10 + cost, false);
		e = transact(s, write_ops, batch);
	}
	told(s, e);
	for (struct op *op = batch; op && e; op = op->next)
		op->ok = false;
}

struct folding { struct note *at, *end; };

static int fold_notes(struct embedded *s, MDB_txn *txn, void *arg)
{
	struct folding *f = arg;
	size_t most = step(s) * ENTRY_PAGES / NOTE_PAGES, done = 0;
	int e = 0;

	for (; f->at < f->end && done < most && !e; f->at++)
		if (f->at->times) {
			e = tables_used(&s->t, txn, f->at);
			done++;
		}
	return e || done ? e : NOTHING;
}

/* Adds up what the links have noted, one link after the other. */
static void fold(struct embedded *s)
{
	static struct note notes[NOTES_MAX];           /* the writer's alone */
	struct store_link *l;
	bool any;

	for (size_t nth = 0; ; nth++) {
		pthread_mutex_lock(&s->lock);
		l = s->links;
		for (size_t i = 0; i < nth && l; i++)
			l = l->next;
		if (l) {
			pthread_mutex_lock(&l->notes_lock);
			any = l->noted;
			if (any) {
				memcpy(notes, l->notes, sizeof notes);
				memset(l->notes, 0, sizeof l->notes);
			}
			l->noted = false;
			pthread_mutex_unlock(&l->notes_lock);
		}
		pthread_mutex_unlock(&s->lock);
		if (!l)
			return;
		struct folding f = { notes, any ? notes + NOTES_MAX : notes };
		int e = 0;
		while (f.at < f.end && !e)
			e = transact(s, fold_notes, &f);
		if (any)                               /* a write that works says so, too: there may be no other for long */
			told(s, e);
	}
}

/* Tells an operation's link that it is over; lock held. Without a link, or nobody to tell, that is all. */
static void finish(struct op *op)
{
	struct store_link *l = op->link;

	if (!l || (!op->done && op->kind != OP_WALK)) {
		op_end(op);
		return;
	}
	op->next = NULL;
	*l->finished_last = op;
	l->finished_last = &op->next;
	uv_async_send(&l->bell);
}

struct walk_remove { uint8_t keys[WALK_STEP][KEY_BYTES]; size_t n; uint64_t removed; };

static int remove_walked(struct embedded *s, MDB_txn *txn, void *arg)
{
	struct walk_remove *r = arg;
	int e = 0;

	r->removed = 0;
	for (size_t i = 0; i < r->n && !e; i++) {
		bool was_there;
		e = tables_drop(&s->t, txn, r->keys[i], &was_there);
		r->removed += was_there;
	}
	return e;
}

static bool row_keep(struct op *op, const struct store_row *row)
{
	struct walk_row *r = malloc(sizeof *r + row->entry_head.len);

	if (!r)
		return false;
	r->next = NULL;
	r->row = *row;
	memcpy(r->head, row->entry_head.at, row->entry_head.len);
	r->row.entry_head = slice_of(r->head, row->entry_head.len);
	*op->last_row = r;
	op->last_row = &r->next;
	op->n_rows++;
	return true;
}

static void hex_write(char *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		to[2 * i] = "0123456789abcdef"[from[i] >> 4];
		to[2 * i + 1] = "0123456789abcdef"[from[i] & 15];
	}
	to[2 * n] = 0;
}

/* The key a cursor names; false: from the start (or no cursor of ours). */
static bool hex_read(uint8_t key[KEY_BYTES], const char *from)
{
	if (strnlen(from, 2 * KEY_BYTES + 1) != 2 * KEY_BYTES)
		return false;
	for (int i = 0; i < 2 * KEY_BYTES; i++) {
		const char *digit = strchr("0123456789abcdef", from[i]);
		if (!digit)
			return false;
		unsigned n = (unsigned)(digit - "0123456789abcdef");
		key[i / 2] = (uint8_t)(i % 2 ? key[i / 2] << 4 | n : n);
	}
	return true;
}

/* One step of a walk: true when it is over. The walk itself may be looked at: detach waits for `walking`. */
static bool walk_step(struct embedded *s, struct op *op)
{
	static struct walk_remove remove;              /* the writer's alone */
	struct store_walk *w = op->walk;
	uint8_t after[KEY_BYTES];
	bool from = hex_read(after, w->after), over = false, full = false;
	int64_t now = wall_now();
	MDB_val k = { KEY_BYTES, after }, v;
	MDB_cursor *c;
	MDB_txn *txn;
	int e = mdb_txn_begin(s->t.env, NULL, MDB_RDONLY, &txn);

	remove.n = 0;
	if (e) {
		op->failed = true;
		embedded_failed(s);
		return true;
	}
	e = mdb_cursor_open(txn, s->t.entries, &c);
	if (!e) {
		e = mdb_cursor_get(c, &k, &v, from ? MDB_SET_RANGE : MDB_FIRST);
		if (!e && from && k.mv_size == KEY_BYTES && memcmp(k.mv_data, after, KEY_BYTES) == 0)
			e = mdb_cursor_get(c, &k, &v, MDB_NEXT);
		for (int i = 0; i < WALK_STEP && !e && !over && !full; i++) {
			struct store_row row = { 0 };
			struct stored entry;
			if (k.mv_size == KEY_BYTES && tables_entry(v, &entry) && entry.expires_ms > now) {
				memcpy(row.key, k.mv_data, KEY_BYTES);
				row.bytes = entry.len;
				row.entry_head = tables_front(&s->t, txn, &entry);
				if (row.entry_head.len > ENTRY_PEEK_BYTES)
					row.entry_head.len = ENTRY_PEEK_BYTES;
				tables_hits(&s->t, txn, entry.doc, &row.hits);
				if (w->wants && !w->wants(w, &row))
					;
				else if (w->remove)
					memcpy(remove.keys[remove.n++], row.key, KEY_BYTES);
				else if (!row_keep(op, &row))
					e = ENOMEM;
				over = op->n_rows + op->removed + remove.n >= w->limit;
				full = remove.n == step(s);
			}
			if (k.mv_size == KEY_BYTES)
				hex_write(w->after, k.mv_data, KEY_BYTES);
			if (!e)
				e = mdb_cursor_get(c, &k, &v, MDB_NEXT);
		}
		mdb_cursor_close(c);
	}
	mdb_txn_abort(txn);
	if (e == MDB_NOTFOUND) {
		w->after[0] = 0;
		over = true;
		e = 0;
	}
	if (!e && remove.n) {
		e = transact(s, remove_walked, &remove);
		told(s, e);
		op->removed += e ? 0 : remove.removed;
	} else if (e) {
		embedded_failed(s);
	}
	op->failed = e != 0;
	return over || e;
}

static void walk(struct embedded *s, struct op *op)
{
	if (!op->walked)
		fold(s);                               /* so that a listing shows the hits there were */
	op->walked = true;
	bool over = walk_step(s, op);
	pthread_mutex_lock(&s->lock);
	s->walking = NULL;
	pthread_cond_broadcast(&s->walked);
	if (over) {
		finish(op);
	} else {                                       /* behind what has been put meanwhile */
		op->next = NULL;
		*s->queue_last = op;
		s->queue_last = &op->next;
	}
	pthread_mutex_unlock(&s->lock);
}

/* Takes the first operations of the queue that fit into one transaction; a walk comes alone. Lock held. */
static struct op *take(struct embedded *s)
{
	struct op *first = s->queue, **end = &first;
	uint64_t cost = 0, most = s->max_bytes / 64 < BATCH_BYTES ? s->max_bytes / 64 : BATCH_BYTES;
	size_t pages = 0;

	for (int n = 0; *end; n++) {
		cost += (*end)->cost;
		pages += ENTRY_PAGES / 2 + 2 * (*end)->n_terms;
		if (n > 0 && ((*end)->kind == OP_WALK || first->kind == OP_WALK || cost > most || pages > step(s) * ENTRY_PAGES))
			break;
		end = &(*end)->next;
	}
	s->queue = *end;
	if (!s->queue) {
		s->queue_last = &s->queue;
		s->hurry = false;
	}
	*end = NULL;
	return first;
}

static bool wait_for_work(struct embedded *s, const struct timespec *until)
{
	while (!s->queue && !s->closing)
		if (pthread_cond_timedwait(&s->work, &s->lock, until) == ETIMEDOUT)
			return false;
	return s->queue != NULL;
}

static struct timespec in_ms(int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000l;
	if (t.tv_nsec >= 1000000000l) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000l;
	}
	return t;
}

/* Until the time is over, the batch is large, or somebody waits for something else than a put. Lock held. */
static void gather(struct embedded *s)
{
	struct timespec until = in_ms(GATHER_MS);

	s->gathering = true;
	while (!s->hurry && !s->closing)
		if (pthread_cond_timedwait(&s->work, &s->lock, &until) == ETIMEDOUT)
			break;
	s->gathering = false;
}

static bool passed(const struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > t->tv_sec || (now.tv_sec == t->tv_sec && now.tv_nsec >= t->tv_nsec);
}

static void batch_over(struct embedded *s)
{
	pthread_mutex_lock(&s->lock);
	for (struct op *op = s->batch, *next; op; op = next) {
		next = op->next;
		pending_remove(s, op);
		finish(op);
	}
	s->batch = NULL;
	pthread_mutex_unlock(&s->lock);
}

void *embedded_write(void *store)
{
	struct embedded *s = store;
	struct timespec due = in_ms(FOLD_MS);
	bool more = true, full = false;

	while (more) {
		pthread_mutex_lock(&s->lock);
		bool work = wait_for_work(s, &due);
		if (work && !full && !s->closing && s->queue->kind == OP_PUT) {
			/* what is put is visible already: a moment later the same sync serves many. What did not fit into the
			 * batch before has waited for it */
			gather(s);
		}
		struct op *first = work ? take(s) : NULL;
		full = first && s->queue;
		if (first && first->kind == OP_WALK && !first->link) {
			op_end(first);                 /* whoever asked has gone */
			first = NULL;
		} else if (first && first->kind == OP_WALK) {
			s->walking = first;
		} else {
			s->batch = first;
		}
		more = work || !s->closing;
		pthread_mutex_unlock(&s->lock);
		if (first && first->kind == OP_WALK) {
			walk(s, first);
		} else if (first) {
			write_batch(s, first);
			batch_over(s);
		}
		if (passed(&due)) {
			fold(s);
			evict(s, UINT64_MAX, true);
			due = in_ms(FOLD_MS);
		}
	}
	return NULL;
}
