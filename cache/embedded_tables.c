/* embedded_tables.c - the embedded store's records; see embedded.h.
 *
 *   entries  key                -> struct head, the entry      all that an exact hit reads
 *   chunks   doc << 16 | nth    -> a page of an entry too long to stand in the tree
 *   docs     doc                -> struct doc, words, question    everything else; doc counts up, never used twice
 *   terms    scope[0..8), term  -> weight << 48 | doc          sorted duplicates: postings, by total weight
 *   order    stamp              -> doc                         least used first
 *   expiry   expires, doc (BE)  -> nothing                     soonest first
 *   meta     "totals"           -> struct totals
 *
 * A long value would be laid by LMDB into pages that follow one another, and in a full store there is no such run of
 * free pages; so a long entry is cut into chunks that take one page each.
 *
 * Numbers are the machine's own (LMDB files do not travel either). A record is checked before it is believed: LMDB has
 * no checksums, and a wrong length must cost a miss, not the process. A posting names half of its scope only; the
 * record behind it has the whole, which is compared. */
#include <stdlib.h>

#include "cache/embedded.h"

enum { TABLES_VERSION = 1, PAGE = 4096, INLINE_MAX = 1900, CHUNK = PAGE - 16, DOC_BITS = 48 };

struct head {
	int64_t expires_ms;
	uint64_t doc;
	uint32_t len, zero;                   /* of the entry, wherever it is */
};

struct doc {
	uint8_t key[KEY_BYTES], scope[KEY_BYTES];
	int64_t expires_ms;
	uint64_t stamp, hits;
	uint32_t cost, question_len;
	uint32_t words_len, zero;
};
struct place { uint8_t scope[8]; uint64_t term; };

static uint64_t posting(unsigned total, uint64_t doc)
{
	return (uint64_t)total << DOC_BITS | doc;
}

static MDB_val val(const void *at, size_t len)
{
	return (MDB_val){ len, (void *)(uintptr_t)at };
}

static struct place place_of(const uint8_t scope[KEY_BYTES], uint64_t term)
{
	struct place p = { .term = term };

	memcpy(p.scope, scope, sizeof p.scope);
	return p;
}

struct expiry_key { uint8_t bytes[16]; };
static struct expiry_key expiry_of(int64_t expires_ms, uint64_t doc)
{
	uint64_t e = expires_ms < 0 ? 0 : (uint64_t)expires_ms;
	struct expiry_key k;

	for (int i = 0; i < 8; i++) {
		k.bytes[i] = (uint8_t)(e >> (56 - 8 * i));
		k.bytes[8 + i] = (uint8_t)(doc >> (56 - 8 * i));
	}
	return k;
}

static uint64_t big_endian(const uint8_t *at)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | at[i];
	return n;
}

/* A leaf page is two thirds full on the average; what does not fit in half a page gets pages of its own. */
static size_t record_cost(size_t len)
{
	return len > INLINE_MAX ? (len + 16 + PAGE - 1) / PAGE * PAGE + 64 : (len + 8) * 3 / 2;
}

size_t tables_doc_len(size_t words_len, size_t question_len)
{
	return sizeof(struct doc) + words_len + question_len;
}

size_t tables_cost(size_t entry_len, size_t doc_len, size_t n_terms)
{
	enum { ORDER = 36, EXPIRY = 36, POSTING = 48 };        /* a posting: eight bytes, and now and then a key */
	size_t entry = KEY_BYTES + sizeof(struct head), chunks = 0;

	if (entry_len > INLINE_MAX)
		chunks = (entry_len + CHUNK - 1) / CHUNK;
	else
		entry += entry_len;
	return record_cost(entry) + chunks * (PAGE + 48) + record_cost(8 + doc_len) + ORDER + EXPIRY + POSTING * n_terms;
}

static uint64_t chunk_key(uint64_t doc, size_t nth)
{
	return doc << 16 | nth;
}

bool tables_entry(MDB_val value, struct stored *stored)
{
	struct head h;

	if (value.mv_size < sizeof h)
		return false;
	memcpy(&h, value.mv_data, sizeof h);
	stored->expires_ms = h.expires_ms;
	stored->doc = h.doc;
	stored->len = h.len;
	stored->inside = slice_of((char *)value.mv_data + sizeof h, value.mv_size - sizeof h);
	return stored->inside.len == (h.len > INLINE_MAX ? 0 : h.len);
}

static int chunk_get(const struct tables *t, MDB_txn *txn, const struct stored *e, size_t nth, struct slice *chunk)
{
	uint64_t at = chunk_key(e->doc, nth);
	size_t left = e->len - nth * CHUNK;
	MDB_val k = val(&at, sizeof at), v;
	int error = mdb_get(txn, t->chunks, &k, &v);

	if (!error && v.mv_size != (left < CHUNK ? left : CHUNK))
		error = MDB_CORRUPTED;
	if (!error)
		*chunk = slice_of(v.mv_data, v.mv_size);
	return error;
}

enum err tables_copy(const struct tables *t, MDB_txn *txn, const struct stored *e, struct buf *out)
{
	size_t before = out->len;
	struct slice chunk;

	if (e->len <= INLINE_MAX)
		return buf_put(out, e->inside);
	enum err error = buf_reserve(out, e->len);
	for (size_t i = 0; i * CHUNK < e->len && !error; i++)
		error = chunk_get(t, txn, e, i, &chunk) ? ERR_CORRUPT : buf_put(out, chunk);
	if (error)
		out->len = before;
	return error;
}

struct slice tables_front(const struct tables *t, MDB_txn *txn, const struct stored *e)
{
	struct slice front = e->inside;

	if (e->len > INLINE_MAX && chunk_get(t, txn, e, 0, &front))
		front.len = 0;
	return front;
}

/* The head of a record, copied (records are not aligned); false if its lengths do not add up. */
static bool doc_read(MDB_val record, struct doc *d)
{
	if (record.mv_size < sizeof *d)
		return false;
	memcpy(d, record.mv_data, sizeof *d);
	return record.mv_size - sizeof *d == (size_t)d->words_len + d->question_len;
}

bool tables_doc(const void *record, size_t len, struct doc_view *view)
{
	struct doc d;

	if (!doc_read(val(record, len), &d))
		return false;
	view->key = record;
	view->question = slice_of((const char *)record + sizeof d + d.words_len, d.question_len);
	return true;
}

int tables_open(struct tables *t)
{
	static const struct { const char *name; size_t at; unsigned flags; } table[] = {
		{ "meta", offsetof(struct tables, meta), 0 },
		{ "entries", offsetof(struct tables, entries), 0 },
		{ "chunks", offsetof(struct tables, chunks), MDB_INTEGERKEY },
		{ "docs", offsetof(struct tables, docs), MDB_INTEGERKEY },
		{ "order", offsetof(struct tables, order), MDB_INTEGERKEY },
		{ "expiry", offsetof(struct tables, expiry), 0 },
		{ "terms", offsetof(struct tables, terms), MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP },
	};
	MDB_val key = val("totals", 6), v;
	MDB_txn *txn;
	int e = mdb_txn_begin(t->env, NULL, 0, &txn);

	if (e)
		return e;
	for (size_t i = 0; i < sizeof table / sizeof *table && !e; i++) {
		MDB_dbi *dbi = (MDB_dbi *)((char *)t + table[i].at);
		unsigned flags = 0;
		e = mdb_dbi_open(txn, table[i].name, MDB_CREATE | table[i].flags, dbi);
		if (!e)
			e = mdb_dbi_flags(txn, *dbi, &flags);
		if (!e && flags != table[i].flags)     /* as it lies in the file: LMDB believes that, not us */
			e = MDB_INCOMPATIBLE;
	}
	if (!e) {
		e = mdb_get(txn, t->meta, &key, &v);
		if (e == MDB_NOTFOUND) {
			t->now = (struct totals){ .version = TABLES_VERSION, .next_doc = 1, .next_stamp = 1 };
			e = tables_totals_write(t, txn);
		} else if (!e && v.mv_size != sizeof t->now) {
			e = MDB_VERSION_MISMATCH;
		} else if (!e) {
			memcpy(&t->now, v.mv_data, sizeof t->now);
			e = t->now.version == TABLES_VERSION ? 0 : MDB_VERSION_MISMATCH;
		}
	}
	if (e) {
		mdb_txn_abort(txn);
		return e;
	}
	return mdb_txn_commit(txn);
}

int tables_totals_write(struct tables *t, MDB_txn *txn)
{
	MDB_val key = val("totals", 6), v = val(&t->now, sizeof t->now);

	return mdb_put(txn, t->meta, &key, &v, 0);
}

static int found_or(int e)                     /* what is to be removed may be gone already */
{
	return e == MDB_NOTFOUND ? 0 : e;
}

/* Removes the postings of packed words. */
static int postings_remove(struct tables *t, MDB_txn *txn, const struct doc *d, const uint8_t *words, uint64_t doc)
{
	unsigned total = 0;
	size_t at = 1;
	int e = 0;

	for (int pass = 0; pass < 2; pass++, at = 1)           /* first their weight, which is part of each posting */
		for (unsigned w = 0; d->words_len && w < words[0] && !e; w++) {
			if (d->words_len - at < 2 || (d->words_len - at - 2) / 8 < words[at + 1])
				return 0;                      /* not words: nothing was posted for these bytes */
			unsigned weight = words[at], terms = words[at + 1];
			at += 2;
			total += pass ? 0 : weight;
			for (unsigned i = 0; pass && i < terms && !e; i++) {
				uint64_t term;
				memcpy(&term, words + at + 8 * i, 8);
				struct place p = place_of(d->scope, term);
				uint64_t value = posting(total, doc);
				MDB_val k = val(&p, sizeof p), v = val(&value, sizeof value);
				e = found_or(mdb_del(txn, t->terms, &k, &v));
			}
			at += 8 * (size_t)terms;
		}
	return e;
}

static int entry_remove(struct tables *t, MDB_txn *txn, MDB_val k, const struct stored *entry)
{
	int e = mdb_del(txn, t->entries, &k, NULL);

	for (size_t i = 0; entry->len > INLINE_MAX && i * CHUNK < entry->len && !e; i++) {
		uint64_t at = chunk_key(entry->doc, i);
		MDB_val c = val(&at, sizeof at);
		e = found_or(mdb_del(txn, t->chunks, &c, NULL));
	}
	return e;
}

/* Removes all that belongs to a doc; *freed is its cost, 0 if it is not there. */
static int doc_remove(struct tables *t, MDB_txn *txn, uint64_t doc, uint64_t *freed)
{
	MDB_val k = val(&doc, sizeof doc), record, v;
	uint8_t words[NEAR_PACKED_MAX];
	struct stored entry;
	struct doc d;

	*freed = 0;
	int e = mdb_get(txn, t->docs, &k, &record);
	if (e)
		return found_or(e);
	if (!doc_read(record, &d) || d.words_len > sizeof words)
		return MDB_CORRUPTED;
	memcpy(words, (char *)record.mv_data + sizeof d, d.words_len);     /* the page may move under our deletes */
	e = postings_remove(t, txn, &d, words, doc);
	if (!e)
		e = mdb_del(txn, t->docs, &k, NULL);
	if (!e) {
		k = val(&d.stamp, sizeof d.stamp);
		e = found_or(mdb_del(txn, t->order, &k, NULL));
	}
	if (!e) {
		struct expiry_key x = expiry_of(d.expires_ms, doc);
		k = val(&x, sizeof x);
		e = found_or(mdb_del(txn, t->expiry, &k, NULL));
	}
	k = val(d.key, KEY_BYTES);
	if (!e && (e = mdb_get(txn, t->entries, &k, &v)) == 0 && tables_entry(v, &entry) && entry.doc == doc)
		e = entry_remove(t, txn, k, &entry);
	if (found_or(e))
		return e;
	*freed = d.cost ? d.cost : 1;
	t->now.entries -= t->now.entries > 0;
	t->now.cost -= d.cost < t->now.cost ? d.cost : t->now.cost;
	return 0;
}

int tables_drop(struct tables *t, MDB_txn *txn, const uint8_t key[KEY_BYTES], bool *was_there)
{
	MDB_val k = val(key, KEY_BYTES), v;
	struct stored entry;
	uint64_t freed;
	int e = mdb_get(txn, t->entries, &k, &v);

	*was_there = false;
	if (e)
		return found_or(e);
	if (!tables_entry(v, &entry))
		return mdb_del(txn, t->entries, &k, NULL);
	e = doc_remove(t, txn, entry.doc, &freed);
	*was_there = !e;
	return e;
}

static int doc_put(struct tables *t, MDB_txn *txn, const struct op *op, uint64_t doc)
{
	struct doc d = {
		.expires_ms = op->expires_ms, .stamp = t->now.next_stamp++, .cost = (uint32_t)op->cost,
		.question_len = (uint32_t)op->question.len, .words_len = (uint32_t)op->words_len,
	};
	MDB_val k = val(&doc, sizeof doc), v = { tables_doc_len(op->words_len, op->question.len), NULL };

	memcpy(d.key, op->key, KEY_BYTES);
	memcpy(d.scope, op->scope, KEY_BYTES);
	int e = mdb_put(txn, t->docs, &k, &v, MDB_RESERVE);
	if (e)
		return e;
	char *to = v.mv_data;
	memcpy(to, &d, sizeof d);
	if (op->words_len)
		memcpy(to + sizeof d, op->words, op->words_len);
	if (op->question.len)
		memcpy(to + sizeof d + op->words_len, op->question.at, op->question.len);
	k = val(&d.stamp, sizeof d.stamp);
	v = val(&doc, sizeof doc);
	e = mdb_put(txn, t->order, &k, &v, 0);
	if (e)
		return e;
	struct expiry_key x = expiry_of(d.expires_ms, doc);
	k = val(&x, sizeof x);
	v = val("", 0);
	return mdb_put(txn, t->expiry, &k, &v, 0);
}

static int entry_put(struct tables *t, MDB_txn *txn, const struct op *op, uint64_t doc)
{
	bool inside = op->entry.len <= INLINE_MAX;
	struct head h = { .expires_ms = op->expires_ms, .doc = doc, .len = (uint32_t)op->entry.len };
	MDB_val k = val(op->key, KEY_BYTES), v = { sizeof h + (inside ? op->entry.len : 0), NULL };
	int e = mdb_put(txn, t->entries, &k, &v, MDB_RESERVE);

	if (e)
		return e;
	memcpy(v.mv_data, &h, sizeof h);
	if (inside && op->entry.len)
		memcpy((char *)v.mv_data + sizeof h, op->entry.at, op->entry.len);
	for (size_t at = 0; !inside && at < op->entry.len && !e; at += CHUNK) {
		uint64_t key = chunk_key(doc, at / CHUNK);
		size_t left = op->entry.len - at;
		k = val(&key, sizeof key);
		v = val(op->entry.at + at, left < CHUNK ? left : CHUNK);
		e = mdb_put(txn, t->chunks, &k, &v, 0);
	}
	return e;
}

int tables_put(struct tables *t, MDB_txn *txn, const struct op *op)
{
	uint64_t doc = t->now.next_doc++, value = posting(op->total, doc);
	bool was_there;
	int e = tables_drop(t, txn, op->key, &was_there);

	if (!e)
		e = doc_put(t, txn, op, doc);
	for (size_t i = 0; i < op->n_terms && !e; i++) {
		struct place p = place_of(op->scope, op->terms[i]);
		MDB_val k = val(&p, sizeof p), v = val(&value, sizeof value);
		e = mdb_put(txn, t->terms, &k, &v, MDB_NODUPDATA);
		if (e == MDB_KEYEXIST)
			e = 0;                         /* two words with one term */
	}
	if (!e)
		e = entry_put(t, txn, op, doc);
	if (e)
		return e;
	t->now.entries++;
	t->now.cost += op->cost;
	return 0;
}

/* The first key of a table. */
static int first_of(MDB_txn *txn, MDB_dbi table, MDB_val *k, MDB_val *v)
{
	MDB_cursor *c;
	int e = mdb_cursor_open(txn, table, &c);

	if (e)
		return e;
	e = mdb_cursor_get(c, k, v, MDB_FIRST);
	mdb_cursor_close(c);
	return e;
}

int tables_evict(struct tables *t, MDB_txn *txn, int64_t now, bool only_expired, uint64_t *freed)
{
	MDB_val k, v;
	uint64_t doc;
	int e = first_of(txn, t->expiry, &k, &v);

	*freed = 0;
	if (!e && k.mv_size == sizeof(struct expiry_key) && (int64_t)big_endian(k.mv_data) <= now) {
		struct expiry_key x;
		memcpy(&x, k.mv_data, sizeof x);
		e = doc_remove(t, txn, big_endian(x.bytes + 8), freed);
		if (!e && *freed == 0) {               /* a leftover: it must not stand in the way for ever */
			k = val(&x, sizeof x);
			e = found_or(mdb_del(txn, t->expiry, &k, NULL));
			*freed = 1;
		}
		return e;
	}
	if (only_expired || (e && e != MDB_NOTFOUND))
		return found_or(e);
	e = first_of(txn, t->order, &k, &v);
	if (e)
		return found_or(e);
	if (k.mv_size != sizeof doc || v.mv_size != sizeof doc)
		return MDB_CORRUPTED;
	uint64_t stamp;
	memcpy(&stamp, k.mv_data, sizeof stamp);
	memcpy(&doc, v.mv_data, sizeof doc);
	e = doc_remove(t, txn, doc, freed);
	if (!e && *freed == 0) {
		k = val(&stamp, sizeof stamp);
		e = found_or(mdb_del(txn, t->order, &k, NULL));
		*freed = 1;
	}
	return e;
}

int tables_used(struct tables *t, MDB_txn *txn, const struct note *note)
{
	uint64_t doc = note->doc;
	MDB_val k = val(&doc, sizeof doc), record;
	struct doc d;
	int e = mdb_get(txn, t->docs, &k, &record);

	if (e)
		return found_or(e);
	if (!doc_read(record, &d))
		return MDB_CORRUPTED;
	d.hits += note->times;
	uint64_t old = d.stamp;
	bool moves = t->now.next_stamp - d.stamp > t->now.entries / 8 + 1;
	if (moves)
		d.stamp = t->now.next_stamp++;
	size_t len = record.mv_size;
	char *copy = malloc(len);
	if (!copy)
		return 0;                              /* a hit not noted */
	memcpy(copy, record.mv_data, len);
	memcpy(copy, &d, sizeof d);
	MDB_val v = val(copy, len);
	e = mdb_put(txn, t->docs, &k, &v, 0);
	free(copy);
	if (e || !moves)
		return e;
	k = val(&old, sizeof old);
	e = found_or(mdb_del(txn, t->order, &k, NULL));
	if (e)
		return e;
	k = val(&d.stamp, sizeof d.stamp);
	v = val(&doc, sizeof doc);
	return mdb_put(txn, t->order, &k, &v, 0);
}

int tables_find(const struct tables *t, MDB_txn *txn, const uint8_t key[KEY_BYTES], int64_t now, struct stored *entry)
{
	MDB_val k = val(key, KEY_BYTES), v;
	int e = mdb_get(txn, t->entries, &k, &v);

	if (e)
		return e;
	if (!tables_entry(v, entry))
		return MDB_CORRUPTED;
	return entry->expires_ms <= now ? MDB_NOTFOUND : 0;
}

int tables_hits(const struct tables *t, MDB_txn *txn, uint64_t doc, uint64_t *hits)
{
	MDB_val k = val(&doc, sizeof doc), record;
	struct doc d;
	int e = mdb_get(txn, t->docs, &k, &record);

	if (!e && !doc_read(record, &d))
		e = MDB_CORRUPTED;
	*hits = e ? 0 : d.hits;
	return e;
}

struct rarity { size_t postings; const struct store_word *word; };

static int by_rarity(const void *a, const void *b)
{
	const struct rarity *x = a, *y = b;

	return (x->postings > y->postings) - (x->postings < y->postings);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* How many postings the terms of a word have. */
static int count_postings(MDB_cursor *c, const struct store_query *q, const struct store_word *w, size_t *n)
{
	int e = 0;

	*n = 0;
	for (unsigned i = 0; i < w->n_terms && !e; i++) {
		struct place p = place_of(q->scope, w->terms[i]);
		MDB_val k = val(&p, sizeof p), v;
		size_t count = 0;
		e = mdb_cursor_get(c, &k, &v, MDB_SET);
		if (!e)
			e = mdb_cursor_count(c, &count);
		*n += e ? 0 : count;
		e = found_or(e);
	}
	return e;
}

/* Appends the postings of one term with a weight from least to most. */
static int read_postings(MDB_cursor *c, const struct store_query *q, uint64_t term, uint64_t *to, size_t *n)
{
	struct place p = place_of(q->scope, term);
	uint64_t from = posting(q->least, 0), value;
	MDB_val k = val(&p, sizeof p), v = val(&from, sizeof from);
	int e = mdb_cursor_get(c, &k, &v, MDB_GET_BOTH_RANGE);

	while (!e && *n < QUERY_LOOKED && v.mv_size == sizeof value) {
		memcpy(&value, v.mv_data, sizeof value);
		if (value >> DOC_BITS > q->most)
			break;
		to[(*n)++] = value & ((1ull << DOC_BITS) - 1);
		e = mdb_cursor_get(c, &k, &v, MDB_NEXT_DUP);
	}
	return found_or(e);
}

int tables_near(struct store_link *l, const struct store_query *q, const struct near_query *nq, int64_t now,
		bool (*skip)(struct embedded *, const uint8_t *key), struct near_best *best, MDB_val records[STORE_PROPOSALS],
		bool *bounded)
{
	struct tables *t = &l->store->t;
	struct rarity rare[STORE_WORDS_MAX];
	unsigned looked = 0;
	size_t n = 0;
	int e = 0;

	for (size_t i = 0; i < q->n_words && !e; i++) {
		rare[i].word = &q->words[i];
		e = count_postings(l->terms, q, rare[i].word, &rare[i].postings);
	}
	if (e)
		return e;
	qsort(rare, q->n_words, sizeof *rare, by_rarity);
	for (size_t i = 0; i < q->n_words && looked <= q->unlooked && !e; i++) {
		looked += rare[i].word->weight;
		for (unsigned j = 0; rare[i].postings && j < rare[i].word->n_terms && !e; j++)
			e = read_postings(l->terms, q, rare[i].word->terms[j], l->looked, &n);
	}
	if (e)
		return e;
	*bounded |= n == QUERY_LOOKED;
	qsort(l->looked, n, sizeof *l->looked, by_number);     /* one under several terms is looked at once, pages in order */
	for (size_t i = 0; i < n; i++) {
		uint64_t doc = l->looked[i];
		MDB_val k = val(&doc, sizeof doc), record;
		struct doc d;
		if (i > 0 && l->looked[i - 1] == doc)
			continue;
		e = mdb_get(l->txn, t->docs, &k, &record);
		if (e || !doc_read(record, &d))
			continue;
		const uint8_t *words = (const uint8_t *)record.mv_data + sizeof d;
		double score = near_score(nq, words, d.words_len);
		if (score <= 0 || d.expires_ms <= now || memcmp(d.scope, q->scope, KEY_BYTES) != 0 ||
		    !near_enters(best, score, doc) || skip(l->store, d.key))
			continue;
		MDB_val *slot = best->n < STORE_PROPOSALS ? &records[best->n] :
				(MDB_val *)(uintptr_t)best->found[STORE_PROPOSALS - 1].what;
		*slot = record;
		near_enter(best, score, doc, slot);
	}
	return 0;
}
