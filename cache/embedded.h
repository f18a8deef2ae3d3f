/* embedded.h - the embedded store's insides, shared by its files and by nobody else.
 *
 *   store_embedded.c    open and close, and what a link does: get, put, drop, walk
 *   embedded_file.c     the directory: its lock, whether the file may be trusted, opening LMDB
 *   embedded_check.c    whether the file is sound, page by page
 *   embedded_tables.c   records in LMDB: one entry in, out, found, looked for by words
 *   embedded_pending.c  what was put and is not committed yet, in memory
 *   embedded_writer.c   the one thread that writes: batches, eviction, expiry, notes of use, walks
 *
 * Threads  links read LMDB on their own thread without any lock. `lock` guards the queue, the pending table and the
 *          list of links; it is held for a few memory accesses, never over a read or write of the disk. Only the
 *          writer begins write transactions. */
#ifndef CACHE_EMBEDDED_H
#define CACHE_EMBEDDED_H

#include <lmdb.h>
#include <stdatomic.h>

#include "cache/near.h"

enum {
	BATCH_BYTES = 4 << 20,                /* of one transaction */
	PENDING_BYTES = 32 << 20,             /* put and not yet committed; beyond it a put is refused */
	PENDING_LOOKED = 2048,                /* pending entries one query scores at most */
	PENDING_BUCKETS = 4096,
	QUERY_LOOKED = 2048,                  /* postings one query reads at most: about 1 ms of a loop's time */
	WALK_STEP = 512,                      /* entries a walk looks at in one step */
	WALK_ROWS_MAX = 1000,                 /* rows one walk returns at most */
	NOTES_MAX = 4096,                     /* entries a link remembers to have been used, between two folds */
	LINKS_MAX = 1000,
	STORE_LEAST = 4 << 20,                /* a smaller file than this makes no sense */
};

enum op_kind { OP_PUT, OP_DROP, OP_WALK };

struct op_posting {
	struct op_posting *next;
	uint64_t place;                       /* scope and term, as embedded_place() mixes them */
	struct op *op;
};

struct op {                                   /* something for the writer to do; put and drop are seen by all at once */
	struct op *next;                      /* in the queue, the batch, or its link's finished ones */
	struct op *chain;                     /* pending, in the bucket of its key */
	atomic_uint refs;
	enum op_kind kind;
	struct store_link *link;              /* who is told; NULL when it has detached. Guarded by lock */
	bool ok, failed, walked;
	void (*done)(void *arg, bool ok);
	void *arg;

	uint8_t key[KEY_BYTES], scope[KEY_BYTES];
	int64_t expires_ms;
	struct slice entry, question;         /* in `bytes` */
	const uint8_t *words;                 /* packed; in `bytes` */
	size_t words_len, n_terms, cost;
	unsigned total;                       /* weight of all words */
	const uint64_t *terms;                /* of all words, n_terms of them */
	struct op_posting *postings;          /* as many */

	struct store_walk *walk;              /* not touched once link is NULL */
	struct walk_row *rows, **last_row;
	size_t n_rows;
	uint64_t removed;
	char bytes[];
};

struct walk_row {
	struct walk_row *next;
	struct store_row row;
	char head[];
};

struct note { uint64_t doc; uint32_t times; };

struct store_link {
	struct embedded *store;
	struct store_link *next;              /* guarded by store->lock */
	uv_async_t bell;
	struct op *finished, **finished_last; /* guarded by store->lock */
	MDB_txn *txn;                         /* reset between calls */
	MDB_cursor *terms;
	uint64_t *looked;                     /* QUERY_LOOKED postings, of the query under way */
	pthread_mutex_t notes_lock;
	bool noted;
	struct note notes[NOTES_MAX];
};

struct totals {                               /* of what is stored; kept in the store with every batch */
	uint32_t version, zero;
	uint64_t next_doc, next_stamp;
	uint64_t entries, cost;
};

struct tables {
	MDB_env *env;
	MDB_dbi meta, entries, chunks, docs, order, expiry, terms;
	struct totals now;                    /* the writer's */
};

struct embedded {
	struct store store;
	struct tables t;
	char *path;
	int lock_fd;
	uint64_t max_bytes;

	pthread_mutex_t lock;
	pthread_cond_t work;                  /* something for the writer */
	pthread_cond_t walked;                /* a step of a walk is over */
	struct op *queue, **queue_last;
	struct op *batch;                     /* what the writer has taken */
	struct op *walking;                   /* whose caller's memory the writer is looking at */
	size_t pending_bytes;
	atomic_size_t pending;                /* puts and drops in the pending table; read without the lock, too */
	struct op *by_key[PENDING_BUCKETS];
	struct op_posting *by_place[PENDING_BUCKETS];
	struct store_link *links;
	bool closing, complained;
	bool gathering, hurry;                /* the writer waits for more puts; something queued cannot wait */
	pthread_t writer;
	_Atomic uint64_t entries, cost;       /* the totals for state() */
	_Atomic bool broken;                  /* the last write failed */
	char cause[128];                      /* why, and since when; guarded by lock */
	int64_t broken_since_ms;
	_Atomic uint64_t version;             /* of what gets see */
};

/* embedded_file.c: locks the directory and opens LMDB there; false: why says it. */
bool embedded_file_open(struct embedded *s, char *why, size_t len);
void embedded_file_close(struct embedded *s);

/* embedded_check.c: goes through the first `bytes` of an LMDB file, as many as its heads say there are, of pages that
 * long, for so many ms at most; nobody may write to it meanwhile. UNDECIDED: there was no time or no memory for it. */
enum check { CHECK_SOUND, CHECK_DAMAGED, CHECK_UNDECIDED };
enum check embedded_check(int fd, uint64_t bytes, uint32_t page, unsigned ms);

/* embedded_tables.c; all return LMDB's codes */
struct doc;                                   /* an entry's record beside the entry itself */
int tables_open(struct tables *t);            /* MDB_VERSION_MISMATCH: the tables of another version */
int tables_put(struct tables *t, MDB_txn *txn, const struct op *op);
int tables_drop(struct tables *t, MDB_txn *txn, const uint8_t key[KEY_BYTES], bool *was_there);
int tables_totals_write(struct tables *t, MDB_txn *txn);

/* Removes the entry that is to go first: an expired one, else (unless only_expired) the least used. *freed is its
 * cost; 0 if there was none. */
int tables_evict(struct tables *t, MDB_txn *txn, int64_t now, bool only_expired, uint64_t *freed);

/* Notes that an entry was used. What is in the newer part of the order already stays where it is: the order is that
 * of use to within an eighth of the store, and an entry in constant use costs a write in every eighth only. */
int tables_used(struct tables *t, MDB_txn *txn, const struct note *note);

/* What the entry of a key costs on disk, page waste reckoned in: an estimate that does not shrink when it is wrong. */
size_t tables_cost(size_t entry_len, size_t doc_len, size_t n_terms);
size_t tables_doc_len(size_t words_len, size_t question_len);

/* What a reader needs. A stored entry lives as long as the transaction. */
struct stored {
	int64_t expires_ms;
	uint64_t doc;
	size_t len;
	struct slice inside;                  /* the entry, if it is short enough to stand in the tree */
};
int tables_find(const struct tables *t, MDB_txn *txn, const uint8_t key[KEY_BYTES], int64_t now, struct stored *entry);

/* Appends it. Errors: TOO_LARGE, NO_MEMORY, CORRUPT. */
enum err tables_copy(const struct tables *t, MDB_txn *txn, const struct stored *e, struct buf *out);

/* Its first bytes, as many as entry_peek() needs; empty if they cannot be read. */
struct slice tables_front(const struct tables *t, MDB_txn *txn, const struct stored *e);
int tables_hits(const struct tables *t, MDB_txn *txn, uint64_t doc, uint64_t *hits);

/* Splits what the table of entries holds. */
bool tables_entry(MDB_val value, struct stored *stored);

struct doc_view { const uint8_t *key; struct slice question; };
bool tables_doc(const void *record, size_t len, struct doc_view *view);

/* Enters the stored entries nearest to the query into best; `what` is the record in the transaction's memory.
 * skip() says which keys the pending table knows better; bounded: there is more than QUERY_LOOKED. */
int tables_near(struct store_link *l, const struct store_query *q, const struct near_query *nq, int64_t now,
		bool (*skip)(struct embedded *, const uint8_t *key), struct near_best *best, MDB_val records[STORE_PROPOSALS],
		bool *bounded);

/* Gets may see something else from here on: after every change. */
static inline void embedded_changed(struct embedded *s)
{
	atomic_fetch_add_explicit(&s->version, 1, memory_order_release);
}

/* embedded_pending.c; lock held unless said otherwise */
uint64_t embedded_place(const uint8_t scope[KEY_BYTES], uint64_t term);
void pending_add(struct embedded *s, struct op *op);
void pending_remove(struct embedded *s, struct op *op);
struct op *pending_find(struct embedded *s, const uint8_t key[KEY_BYTES]);   /* the newest; not held */
void pending_near(struct embedded *s, const struct store_query *q, const struct near_query *nq, int64_t now,
		  struct near_best *best, bool *bounded);       /* what is entered is held */
void op_drop(struct op *op);                  /* gives a hold back; any thread, without the lock */

void op_end(struct op *op);                   /* the same, when it was the writer's or the link's: with a walk's rows */

/* embedded_writer.c */
void *embedded_write(void *store);
void embedded_failed(struct embedded *s);     /* counts a failure; any thread */

#endif
