/* exchange.h - one request and all that is done for it: the steps from its first byte to its last.
 *
 *   route → parse → lookup → join → seek → (queue →) forward → stream → finish
 *
 * Each step either goes on to the next, or parks until something calls back: a body that is read, a digest, the
 * store, a flight's pieces, an upstream. An exchange whose client has left finishes at once, unless it leads a
 * flight others read: then it goes on without a client until the flight has landed or nobody reads it any more.
 *
 * Ownership  counted: the request holds it, and so does whatever will call it back. The last hold buries it.
 * Threads    its worker's. Flights wake it by mail.
 * Limits     body: server.max_body and the shared budget; its arena: EXCHANGE_ARENA times the body; what waits for a
 *            slow client: STREAM_WINDOW before the head has left, then READER_WINDOW and what one flight_read() gives. */
#ifndef PROXY_EXCHANGE_H
#define PROXY_EXCHANGE_H

#include "cache/entry.h"
#include "cache/policy.h"
#include "proxy/copies.h"
#include "proxy/dialect.h"
#include "proxy/ndjson.h"
#include "proxy/origin.h"
#include "proxy/prompt_cut.h"
#include "proxy/seen.h"
#include "proxy/worker.h"

/* What a store may hold of one answer: its pieces, and the entry's head before them. */
#define CACHE_PIECES_BYTES(config) ((size_t)(config)->cache_max_entry)
#define CACHE_ENTRY_BYTES(config) (CACHE_PIECES_BYTES(config) + ENTRY_PEEK_BYTES)

enum {
	EXCHANGE_ARENA = 16,             /* times the body, and EXCHANGE_ARENA_LEAST: parsing may write it several times */
	EXCHANGE_ARENA_LEAST = 256 << 10,
	/* of a long body: its canonical form, the form of the ask, question and scope, the body for upstream */
	PARSE_COST = 4,
};
enum { STORED_PACED = 16 << 10 };
enum { STREAM_WINDOW = 48 << 10, READER_WINDOW = 20 << 10, REPLY_HEADERS = 64, STATUS_TEXT_MAX = 160, DIGEST_WAIT_MS = 1000 };
enum { REFUSALS_MAX = 2 };                      /* of flights that turned out to be what a request may not be given */
enum { REPLY_HEAD_COST = 2 << 10 };             /* of a kept reply's head, in libmicrohttpd's many small pieces: about that */

enum step {
	STEP_ROUTE, STEP_BODY, STEP_PARSE, STEP_DIGEST, STEP_LOOKUP, STEP_JOIN, STEP_SEEK, STEP_QUEUE, STEP_FORWARD, STEP_STREAM, STEP_PASS,
	STEP_ADMIN, STEP_FINISH, STEPS
};
extern const char *const step_name[STEPS];
extern const char *const result_name[];          /* by enum metric_result */

/* The answers a request is given are counted and logged by these. */
enum { RESULT_NONE = -1 };

struct candidates;
void candidates_free(struct exchange *x);        /* what candidates_stop() left */

/* The leader's side of a flight: where its answer comes from. */
struct fetch {
	struct transfer *transfer;
	struct ndjson lines;
	bool streams;                /* the upstream sends lines; else one object */
	bool blind;                  /* what comes is not understood or too large: passed on, never stored, not shared */
	bool ended, started;
	bool ages;                   /* the answer will, sooner than others */
	struct alarm last_chunk;     /* the answer has landed: the upstream is to end its reply */
	enum err last_error;         /* of a line that was not understood */
	struct buf whole;            /* a reply that is not a stream */
	struct candidates *candidates;
	struct candidates *spent;    /* ended ones, inside whose calls we may still be */
};

/* A large answer that is whole, on its way to this client. */
struct stored {
	struct copy *copy;           /* held; NULL: there is none */
	struct slice rest;           /* in it: pieces, or what is left of one object */
	size_t at, in;               /* how far it has been given */
};

struct exchange {
	unsigned magic, refs;
	struct worker *worker;
	const struct config *config;         /* held */
	struct request *request;             /* NULL once done or the client has left */
	struct exchange *next, **prev;       /* among the worker's */
	struct burial burial;
	uint64_t number;
	enum step step;
	int64_t begun_us;                    /* clock_us() */
	int64_t step_us[STEPS], entered_us;  /* time spent in each */
	bool client_gone;

	/* the request */
	const char *route_name;              /* for the log: the family, "pass", "own" */
	bool is_ask;
	bool counted;                        /* in the request counters */
	enum family family;
	const struct dialect *dialect;
	enum origin origin;
	struct arena arena;
	struct buf body;                     /* light: what is still wanted of the ask */
	bool light;
	bool peeks;                          /* a pass whose body is looked into for its model */
	bool shows, lists;                   /* a pass whose body, or whose reply, names virtual models */
	int64_t upload_length;               /* of a body that passes; -1: chunked */
	size_t body_bytes;                   /* read so far, also of bodies that are not kept */
	struct budget_share share;
	bool parsing;                        /* in libuv's pool: body, arena and ask are not ours to touch */
	bool shares;                         /* it has asked for a share */
	size_t progress_from;                /* body_bytes when somebody last looked whether the body comes on */
	struct alarm share_alarm;            /* for the next look, or the end of waiting for more of the budget */
	struct ask ask;
	struct prompt_size prompt;           /* of a chat or a generation */
	const char *doubt;                   /* why the body was not understood; NULL: it was */
	struct wishes wishes;
	enum bypass bypass;
	unsigned candidates;                 /* 1: a plain request; 0: a bad number was asked for */
	uint8_t seen_mark[SEEN_MARK];        /* of the raw request, for worker->seen */
	bool marked;
	struct seen_reply *keep;             /* while a reply is made that can be given again: where it goes */
	uint64_t store_version;              /* when the store was asked */

	/* looking up */
	struct models_waiter digest_wait;
	struct alarm wait;                   /* for digests */
	char digest[DIGEST_MAX];
	host_set hosts;
	uint8_t key[KEY_BYTES];
	bool keyed;
	bool getting;
	int64_t get_began_us;
	struct semantic *near;                   /* the semantic side; NULL: not tried */

	/* the flight */
	struct flight *flight;
	struct flight_reader reader;
	struct mail wake, alone, room;
	struct flight *lead_flight;          /* the leader's own hold; NULL when it does not lead (any more) */
	bool led;                            /* it has led a flight: what failed then fails for good */
	bool restarted;
	bool takes;                          /* what its flight turned out to be is what it may be given */
	unsigned refusals;                   /* how many flights turned out to be what it may not be given */
	struct fetch fetch;
	struct transfer_request rq;          /* for the upstream; made while the client was there */

	/* the reply */
	int result;                          /* enum metric_result, or RESULT_NONE */
	struct reply_style style;
	bool head_sent;
	int status;
	const char *passed;                  /* while an error of the upstream's is passed on: lines of its head (flight.h) */
	int64_t stored_ms, expires_ms;       /* of the answer served; 0: it is new */
	double similarity;
	bool prompt_cut;                     /* the engine has read only a part of the question */
	int host;                            /* the upstream that answered, or failed; -1: none was asked */
	uint64_t saved_tokens, saved_ns;     /* what did not have to be generated again */
	struct buf explained;                /* X-Complex-Explain, NUL-ended */
	bool streamed;                       /* the answer went out as a stream, though all at once */
	struct stored stored;
	struct buf lines_out;                /* scratch for lines, given back after each use */
	struct pass *pass;
	struct model_lists *model_lists;     /* being put together of several hosts' */
	struct own *own;                     /* an endpoint of ours at work: admin.h; NULL: none */
	struct alarm heartbeat;
	const char *why;                     /* in the arena: what failed upstream, for its client; NULL: the error says it all */
	const char *end;                     /* for the log: how it ended, "" when well */

	/* large and set before they are read: not zeroed for every request */
	struct store_get get;
	char status_text[STATUS_TEXT_MAX];   /* Cache-Status */
	char note[FLIGHT_NOTE_MAX];          /* X-Candidates; "" */
	char model_room[SEEN_MODEL_MAX];     /* of a request that needed no parsing */
};

extern const struct request_ops exchange_ops;

void exchanges_forget(struct worker *w);     /* frees what was kept to be used again */
void exchange_hold(struct exchange *x);
void exchange_drop(struct exchange *x);
void exchange_step(struct exchange *x, enum step step);      /* enters a step; only names and times it */

/* The exchange a member belongs to, in callbacks that are given the member. */
#define EXCHANGE_OF(at, member) ((struct exchange *)((char *)(at) - offsetof(struct exchange, member)))

/* Called under a flight's lock, from any thread: they post the mail that pumps, stops or resumes. */
void exchange_post_wake(void *arg);
void exchange_post_alone(void *arg);
void exchange_post_room(void *arg);

/* exchange_body.c: a body to keep. Returns how many bytes were taken, as request_ops.body. */
void exchange_body_begin(struct exchange *x);
size_t exchange_body(struct exchange *x, struct slice bytes);
/* More of server.max_buffered. False: who is patient gets it by mail, or x->share_alarm rings; x->step says who is meant. */
bool exchange_share_take(struct exchange *x, uint64_t bytes, bool patient);
void exchange_share_back(struct exchange *x);

/* A body is whole: the short way, if just these bytes were asked before (false: not), else the long one. */
bool exchange_short_way(struct exchange *x);
/* exchange_parse.c: the ask, and on with exchange_parsed(), now or later. */
void exchange_parse(struct exchange *x);
/* The ask of its body, or x->doubt: then() is called with it, now or later; not any more if the client has left meanwhile. */
void exchange_read(struct exchange *x, void (*then)(struct exchange *));
void exchange_parse_now(struct exchange *x);     /* its share of the budget is there */
void exchange_parsed(struct exchange *x);
void exchange_start_lookup(struct exchange *x);
void exchange_leave_flight(struct exchange *x);
void exchange_keep_alive(struct exchange *x);    /* it is a hit: hands on what it says of the model (keep_alive.h) */

/* Its request went upstream for good: gives back what was only needed for that, and its share of the budget. */
void exchange_lighten(struct exchange *x);

/* Goes on with a parsed ask at a step (called by the modules that park). */
void exchange_lookup(struct exchange *x);
void exchange_join(struct exchange *x);
void exchange_pump(struct exchange *x);                      /* gives the client what its flight has */
bool exchange_write_lines(struct exchange *x, struct slice pieces);      /* true while the client has room */

/* What is made of a parsed ask; also for explain. How many answers it is to be chosen from (0: a bad number was asked for, which
 * text can be told); why the cache keeps out of it; its key, once its digest is known. */
unsigned exchange_candidates(const struct exchange *x);
void exchange_candidates_bad(const struct exchange *x, char *text, size_t len);
enum bypass exchange_bypass(const struct exchange *x);
void exchange_make_key(struct exchange *x);
/* Was it made so lately, and does it last still, that this request may be given it? */
bool exchange_fresh_enough(const struct exchange *x, int64_t created_ms, int64_t expires_ms);

/* exchange_reply.c */
void reply_begin(struct exchange *x, int status, const char *content_type, int64_t length);
void reply_whole(struct exchange *x, int status, const char *content_type, char *body, size_t len, bool stream);
void reply_error(struct exchange *x, enum err e, const char *text);     /* text NULL: the error's own */
/* A stored or landed answer as this client wants it; id names it. owner: the buf the pieces are in, which may be taken over; NULL:
 * they are a flight's, and this client wants one object. */
void reply_answer(struct exchange *x, struct slice pieces, const char *content_type, const struct answer_id *id, struct buf *owner);
void reply_saved(struct exchange *x, uint64_t tokens, uint64_t ns);
const char *reply_stream_type(const struct exchange *x);
void exchange_account(struct exchange *x, bool sent);

/* exchange_stored.c: answers of more than STORED_PACED bytes of pieces. bytes becomes everybody's copy, and part of it is looked
 * for there; NULL: there is no room, and bytes stays. */
struct copy *stored_share(struct exchange *x, const struct answer_id *id, struct buf *bytes, struct slice *part);
void stored_reply(struct exchange *x, struct slice pieces, const char *content_type, const struct answer_id *id, struct buf *owner);
void stored_pump(struct exchange *x);
void stored_drop(struct exchange *x);

/* wishes.c: false: a header of ours has a bad value, text says which */
bool wishes_read(struct exchange *x, char *text, size_t len);

/* fetch.c */
enum err fetch_prepare(struct exchange *x);
void fetch_start(struct exchange *x);
void fetch_stop(struct exchange *x);             /* nobody reads any more */
void fetch_room(struct exchange *x);             /* a slow reader has caught up */
void fetch_writable(struct exchange *x);
void fetch_land(struct exchange *x, int status, int host);       /* the flight's answer, by that upstream, is whole: store it, finish it */
void fetch_fail(struct exchange *x, enum err e);
void fetch_queued(struct exchange *x, bool waits);       /* it waits for a place at an upstream, or no longer */
void fetch_stop_landings(struct worker *w);      /* the worker ends: those that wait are not stored */
void fetch_done(struct exchange *x);             /* the leader's part is over, whatever became of it */

/* pass.c: everything that is not asked */
void pass_begin(struct exchange *x, bool whole); /* with what was read of the body so far, or the whole of it */
size_t pass_body(struct exchange *x, struct slice bytes);
void pass_body_whole(struct exchange *x);
void pass_writable(struct exchange *x);
void pass_stop(struct exchange *x);

/* admin.c */
bool admin_is_own(const struct request *r);
void admin_begin(struct exchange *x);
size_t admin_body(struct exchange *x, struct slice bytes);
void admin_whole(struct exchange *x);
void admin_free(struct exchange *x);

#endif
