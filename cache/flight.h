/* flight.h - one answer on its way, and everyone who reads it.
 *
 * The first exchange to miss on a key leads: it gets the answer and adds what comes. Exchanges with the same key
 * that arrive meanwhile follow: they read the same pieces, from the first one, as they grow. Finding the flight and
 * becoming its leader is one act under one lock, so two leaders for one key cannot be (Varnish: the busy object).
 * A flight that has landed stays listed until its answer is in the store, so that no request falls between.
 *
 * Ownership  flight_join() returns one hold, flight_drop() gives it back; the last drop frees. The leader's fetch
 *            has a hold of its own (flight_hold).
 * Threads    join, read and drop: any. open, shut and finish: the leader's only.
 * Callbacks  wake() comes from any thread, under the flight's lock, after a flight_read() that said WAIT, and may
 *            only post to the reader's loop; never after flight_drop() has returned. alone() likewise, to the leader,
 *            when the last reader has dropped; room() when flight_shut() has said more than FLIGHT_WINDOW and readers
 *            have read since, or are others. What they post may arrive when the flight is over: flight_finish(),
 *            flight_behind() and flight_read() then find that, and change nothing.
 * Limits     `limit` bytes of pieces are kept whole. A flight past it is unlisted and never stored; it keeps only
 *            what its slowest reader has not read. The leader is to wait while that is more than FLIGHT_WINDOW; while
 *            all is kept, only if even the fastest reader is that far behind. */
#ifndef CACHE_FLIGHT_H
#define CACHE_FLIGHT_H

#include <pthread.h>

#include "proxy/base/ask.h"

enum { FLIGHT_WINDOW = 16 << 10, FLIGHT_READ_MAX = LINE_TEXT_MAX, FLIGHT_TYPE_MAX = 96, FLIGHT_PASSED_MAX = 512, FLIGHT_NOTE_MAX = 64 };

struct flights;
struct flight;

enum flight_news { FLIGHT_MORE, FLIGHT_WAIT, FLIGHT_END, FLIGHT_FAILED, FLIGHT_OVER };
enum flight_origin { FLIGHT_UPSTREAM, FLIGHT_SEMANTIC, FLIGHT_STORED };

struct flight_reader {               /* embedded in its owner; set wake and arg, zero the rest */
	void (*wake)(void *arg);
	void *arg;
	bool fresh;                  /* wants no answer that had landed before it asked */
	bool landed_only;            /* waits for no answer: joins one that has landed, or has a flight that nobody finds */
	int64_t ttl_ms;              /* how long it wants the answer kept */
	bool whole;                  /* reads only once the flight has landed (a client that wants one object) */
	bool raw;                    /* the leader's own client: gets the upstream's bytes, not pieces, for now */
	bool waiting;
	uint64_t at;                 /* offset of the piece it is in */
	size_t in;                   /* bytes of that piece it has had */
	struct flight_reader *next, **prev;
};

/* What a flight turned out to be, by which each reader decides whether it takes that. Set before the first piece is seen by
 * others, the times of one that lands before it does. */
struct flight_head {
	enum flight_origin origin;
	int status;                          /* the upstream's; 0: not known yet */
	bool stream;                         /* the upstream's reply is a stream of lines */
	bool has_model;                      /* it names its model; filled in by flight_get_head() */
	char content_type[FLIGHT_TYPE_MAX];
	char passed[FLIGHT_PASSED_MAX];      /* NAME:VALUE lines of the head of an error, for all who are given it */
	int64_t created_ms, expires_ms;      /* of a stored or landed answer: when it was made, when it ends; wall clock */
	double similarity;                   /* of a semantic hit */
	bool prompt_cut;                     /* the engine has read only a part of the question */
	char note[FLIGHT_NOTE_MAX];          /* for X-Candidates; empty: none */
};

struct flight_leader {
	void (*alone)(void *arg);
	void (*room)(void *arg);
	void *arg;
};

struct flights *flights_new(void);
void flights_free(struct flights *fs);       /* no flight may be left */
size_t flights_count(struct flights *fs);    /* listed ones */

/* Is there a listed flight for key now? Only good for telling: it may be over in a moment. */
bool flights_have(struct flights *fs, const uint8_t key[KEY_BYTES]);
/* Has one landed that is still listed? Then its answer is at least as new as the store's. Cheap while none is landing. */
bool flights_landing(struct flights *fs, const uint8_t key[KEY_BYTES]);

/* The listed flight for key, or a new one that keeps `limit` bytes: *leads says which. NULL: out of memory.
 * key NULL: a flight of its own that nobody finds. */
struct flight *flight_join(struct flights *fs, const uint8_t key[KEY_BYTES], size_t limit, struct flight_reader *r, bool *leads);
void flight_hold(struct flight *f);
void flight_drop(struct flight *f, struct flight_reader *r);       /* r NULL: a plain hold, as the leader's fetch has */

/* The leader's callbacks; NULL once it has nothing left to be told. */
void flight_lead(struct flight *f, const struct flight_leader *leader);
void flight_set_head(struct flight *f, const struct flight_head *head);
struct flight_head flight_get_head(struct flight *f);

/* Between open and shut: the answer's pieces are somebody else's, who is told when they are read no more. They are not added to. */
void flight_lend(struct flight *f, struct slice pieces, const struct answer_id *id, void (*release)(void *), void *holder);
/* What its pieces are named by: as they were lent, else by a number of its own. */
struct answer_id flight_id(struct flight *f);

/* Between open and shut the leader may add to the answer, until it has finished it; shut wakes the readers. */
struct answer *flight_open(struct flight *f);
/* Bytes the reader is behind for whom the leader may have to wait: the slowest in a flight past its limit, the fastest in
 * any other (0 if somebody wants it whole). */
size_t flight_shut(struct flight *f);

/* What flight_shut() says, without adding anything; 0: it is over. */
size_t flight_behind(struct flight *f);

/* Nothing more will come. e is ERR_OK only for a whole answer. Later joins of a failed flight start a new one. False: it was
 * over before, and stays as it was. */
bool flight_finish(struct flight *f, enum err e);
/* A landed flight is about to be stored under key: if nobody could find it so far, it is listed in the place of another. */
void flight_relist(struct flight *f, const uint8_t key[KEY_BYTES]);
/* The longest that any reader who came before the end wants the answer kept. */
int64_t flight_ttl_ms(struct flight *f);
/* The answer is stored, or never will be: joins from here on start anew. */
void flight_unlist(struct flight *f);

/* An answer on its way into a store that says later when it is there. Two under one key on two connections may come there in either
 * order, and the older would stay: so one is on its way at a time, and of those that wait the last is the next. Embedded in its
 * owner, who sets key and go, zeroes the rest, and keeps it until it has ended. */
struct flight_put {
	uint8_t key[KEY_BYTES];
	void (*go)(struct flight_put *p);    /* it is its turn, or superseded; any thread, under the table's lock: it may only post */
	bool superseded;                     /* a later one has come: this one is not to be put, and has ended */
	struct flight_put *next, *waits;
};
/* True: it is to be put now, and flights_put_end() told when that has ended, whichever way. False: go() will come. */
bool flights_put_begin(struct flights *fs, struct flight_put *p);
void flights_put_end(struct flights *fs, struct flight_put *p);
/* It waits no longer: no go() comes any more. */
void flights_put_leave(struct flights *fs, struct flight_put *p);

/* Answers were removed from the store: whoever joins from here on is given none that had landed. */
void flights_unlist_landed(struct flights *fs);

/* MORE: pieces were added to out, FLIGHT_READ_MAX of text at most. WAIT: wake() will come. END, FAILED: over, all was
 * read. OVER: a whole reader's answer is past the limit and will not be kept. */
enum flight_news flight_read(struct flight *f, struct flight_reader *r, struct buf *out, enum err *why);

/* Landed and still listed: a reader that joins now reads a finished answer. */
bool flight_landed(struct flight *f);

/* The whole answer of a landed flight; lives as long as the hold. The leader may look once it has finished it. */
const struct answer *flight_answer(struct flight *f);

/* The leader's client can no longer be given raw bytes: it goes on as a reader from what has come so far. */
void flight_unraw(struct flight *f, struct flight_reader *r);

#endif
