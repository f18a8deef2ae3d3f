/* store.h - what the cache asks of a place that keeps entries: two implementations, one set of tests.
 *
 * A store is opened once; every worker has a link of its own to it. A link's calls never wait: what cannot
 * be answered at once is answered by callback, on the link's loop, never before the call has returned, and
 * never after store_cancel() or the link's detach. A store that is down answers STORE_FAILED at once.
 *
 * Entries are opaque but for entry_peek() (entry.h), which listing and purging use.
 *
 * Look-up of near questions. An entry may carry a question: a set of words, each with a weight in quarters
 * (4 strong, 1 weak) and one or more terms (64-bit hashes of its lemmas). Two words match when they share a
 * term. An entry is posted under every term of every word. A query names its words and how much of their weight
 * may go unlooked: if similarity ≥ t needs matched weight > total − unlooked, then looking under words of
 * more than `unlooked` weight cannot miss (pigeonhole; Chaudhuri et al., "A primitive operator for similarity
 * joins", 2006). Which words is the store's choice: the rarest. Entries whose total weight lies
 * outside least…most cannot pass either. Of what is found, the store returns the few best by weighted Jaccard
 * over words; the caller decides. The search is bounded in what it looks at and in time: what lies beyond is not
 * proposed, and the look-up is said to be bounded. It never holds up the look-up of the key itself.
 *
 * Visibility  embedded: a put is visible to every link, get and query alike, when put() returns. Redis: the command
 *             is on its way to the server before put() returns to the loop (flushed at the end of the turn at the latest). */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include "proxy/base/ask.h"
#include "proxy/base/loop.h"

enum { STORE_PROPOSALS = 16, STORE_WORDS_MAX = 64, STORE_TERMS_MAX = 256, STORE_CAUSE_MAX = 256 };
enum store_news { STORE_FOUND, STORE_NONE, STORE_FAILED, STORE_LATER };

struct store_word {
	const uint64_t *terms;
	uint8_t n_terms;
	uint8_t weight;                       /* quarters */
};

struct store_query {
	uint8_t scope[KEY_BYTES];
	const struct store_word *words;       /* at most STORE_WORDS_MAX */
	size_t n_words;
	unsigned unlooked;                    /* quarters */
	unsigned least, most;                 /* total weight of an entry that can pass, quarters */
};

struct store_proposal {
	uint8_t key[KEY_BYTES];
	struct slice question;                /* as put: packed words, opaque here; lives in store_get.proposed */
};

/* One look-up; embedded in its owner, which sets key, entry's limit, query and done, and zeroes the rest. */
struct store_get {
	uint8_t key[KEY_BYTES];
	struct buf entry;                     /* FOUND: the entry. The owner frees it */
	uint64_t place;                       /* FOUND: where it lies, for used(); 0: there is none */
	const struct store_query *query;      /* NULL: exact only. Must live until done */
	bool both;                            /* the proposals are wanted even if the key itself is found; else it may come without */
	struct store_proposal *proposal;      /* with a query: room for STORE_PROPOSALS. Best first */
	size_t n_proposals;
	bool bounded;                         /* the search for proposals was ended by its bound: there may be better ones */
	struct buf proposed;                  /* what the proposals point into. The owner frees it */
	void (*done)(struct store_get *, enum store_news);
	void *link_private;                   /* the link's, while STORE_LATER */
};

struct store_item {
	uint8_t key[KEY_BYTES];
	struct slice entry;
	int64_t expires_ms;                   /* wall clock */
	bool has_question;                    /* the rest only if so */
	uint8_t scope[KEY_BYTES];
	struct slice question;                /* packed words, returned in proposals */
	const struct store_word *words;
	size_t n_words;
};

struct store_row {                            /* one stored entry, for listing; slices live until the callback returns */
	uint8_t key[KEY_BYTES];
	struct slice entry_head;              /* at least the part entry_peek() reads */
	uint64_t bytes, hits;
};

/* Walks stored entries in a fixed order, a bounded piece at a time, without holding up the loop. */
struct store_walk {
	char after[128];                      /* in: cursor, "" from the start; out: cursor to go on from, "" at the end */
	size_t limit;                         /* rows wanted, or removed, at most; 0: as many as the store gives at once */
	/* Any thread; NULL: all. It may set limit to 0, which ends the walk with this entry. */
	bool (*wants)(struct store_walk *, const struct store_row *);
	bool remove;                          /* drop what is wanted; row() is not called then */
	void (*row)(struct store_walk *, const struct store_row *);     /* on the loop */
	void (*done)(struct store_walk *, enum store_news, uint64_t removed);   /* on the loop; once */
	void *link_private;
};

struct store_state {
	bool up;                              /* it gives and takes answers */
	uint64_t entries, bytes;              /* as known, may lag by seconds */
	char cause[STORE_CAUSE_MAX];          /* of what does not work, also if it is up all the same; "": all does */
	int64_t since_ms;                     /* wall clock */
};

struct store;
struct store_link;
struct store_ops {
	const char *name;
	bool counts_hits;                     /* store_row.hits says something */
	bool puts_late;                       /* another link may not get what was put until done() has said it is stored */
	struct store_link *(*attach)(struct store *, struct loop *);   /* a worker's link; on the worker's thread */
	void (*detach)(struct store_link *);
	enum store_news (*get)(struct store_link *, struct store_get *);
	void (*cancel)(struct store_link *, struct store_get *);
	/* Whoever keeps what a get has said may say it again while version() has not changed, but for what expires: it
	 * changes when anything that was put, dropped or evicted is seen by gets. used() then tells that an entry served
	 * once more. Both NULL: the store cannot know. */
	uint64_t (*version)(struct store_link *);
	void (*used)(struct store_link *, uint64_t place);
	/* Copies what it needs. done may be NULL; stored false: it will not be there. (Only when there is no memory
	 * even for that news, done(false) comes before put, drop or walk returns.) */
	void (*put)(struct store_link *, const struct store_item *, void (*done)(void *arg, bool stored), void *arg);
	void (*drop)(struct store_link *, const uint8_t key[KEY_BYTES], void (*done)(void *arg, bool was_there), void *arg);
	void (*walk)(struct store_link *, struct store_walk *);
	struct store_state (*state)(struct store *);                   /* any thread */
	void (*flush)(struct store_link *);                            /* end of a turn: send what was gathered */
	/* The end is near, and nobody waits any longer: gets and walks under way fail, puts and drops are said not to be done
	 * (they may be, all the same). Before detach(); their callbacks come from within. */
	void (*stop)(struct store_link *);
	void (*close)(struct store *);                                 /* after every detach; commits what is pending */
};
struct store {
	const struct store_ops *ops;
	_Atomic uint64_t *errors;             /* where to count failures and time-outs; may be NULL */
};

/* Opens cache.path. Errors are told in why (at most len bytes): in use by another process, not writable, … */
struct store *store_embedded_open(const char *path, uint64_t max_bytes, char *why, size_t len);

struct store_redis_options {
	const char *url;                      /* redis://[user:password@]host[:port][/db], unix:///path[?db=N],
	                                       * redis+sentinel://h1:p1,h2:p2/name[/db] or a comma list of redis:// hosts of Sentinels */
	const char *prefix;
	int64_t timeout_ms, retry_ms;         /* an operation; the cap of the backoff */
};
/* Only a URL that cannot be understood, or a cluster found at start, is an error; a server that is down is not. */
struct store *store_redis_open(const struct store_redis_options *o, char *why, size_t len);

#endif
