/* fake.h - the pieces of fake_ollama, an upstream for tests that behaves as a recorded Ollama does, or
 * misbehaves as the request asks it to.
 *
 * One thread, one epoll, a heap of timers. It is a tool: it aborts where a server would have to recover.
 *
 * Ownership  a connection owns its output; a request (struct req) is owned by the log, which outlives the
 *            connection; a generation (struct gen) is owned by its request while it runs.
 * Limits     bodies are hashed and counted whole, kept up to `keep_bytes`; the log keeps `log_max` requests. */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- text ---- */
struct str { char *at; size_t n, room; };
void str_add(struct str *s, const void *bytes, size_t n);
void str_puts(struct str *s, const char *text);
void str_fmt(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void str_json(struct str *s, const char *bytes, size_t n);        /* quoted, escaped as Go's encoder does */
void str_free(struct str *s);
void *must(void *p);                                              /* p, or abort */
char *text_copy(const char *bytes, size_t n);
void put_created_at(struct str *s);                               /* now, nanoseconds, zeros cut */
void put_http_date(struct str *s);
uint64_t hash_text(uint64_t h, const char *bytes, size_t n);
uint64_t hash_mix(uint64_t h);
uint64_t now_us(void);
void utf8_mend(struct str *out, const char *bytes, size_t n);     /* bad sequences become U+FFFD */

struct sha256 { uint32_t h[8]; uint64_t bytes; unsigned char block[64]; };
void sha256_start(struct sha256 *c);
void sha256_add(struct sha256 *c, const void *bytes, size_t n);
void sha256_hex(struct sha256 *c, char hex[static 65]);           /* ends c */

/* ---- timers ---- */
struct timer { uint64_t at_us; size_t slot; void (*fire)(struct timer *); };   /* slot 0: not armed */
void timer_arm(struct timer *t, uint64_t at_us);
void timer_stop(struct timer *t);

/* ---- connections and requests ---- */
enum req_state { REQ_RECEIVING, REQ_QUEUED, REQ_RUNNING, REQ_DONE, REQ_CANCELLED, REQ_FAILED, REQ_BROKEN };

struct gen;
struct conn;
struct req {
	uint64_t id;
	struct req *next;
	struct conn *conn;                     /* NULL once answered or gone */
	struct gen *gen;
	char *method, *target, *path, *query;
	int minor;                             /* HTTP/1.minor */
	struct str head;                       /* the header lines */
	struct str body;                       /* the first keep_bytes */
	uint64_t body_bytes, bytes_out;
	struct sha256 sha;
	char sha_hex[65];
	enum req_state state;
	struct timer delay;
	bool counted, has_origin;
	uint64_t arrived_us, started_us, first_us, ended_us;
	uint64_t conn_id;
	int status;
};

enum seg_kind { SEG_BYTES, SEG_FILL };
struct seg {
	struct seg *next;
	enum seg_kind kind;
	char fill;
	size_t n, sent;
	char bytes[];
};

enum conn_step { STEP_HEAD, STEP_BODY, STEP_BUSY };
enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED };
struct conn {
	int what;                              /* WHAT_CONN; the first field of everything epoll points to */
	int fd;
	uint32_t events;
	struct conn *next, *prev, *next_dead;
	uint64_t id;
	bool dead, control, eof, close_after, reset_after, no_read;
	enum conn_step step;
	struct str in;
	size_t in_at;
	enum body_kind body_kind;
	uint64_t body_left;                    /* of the body, or of this chunk */
	int chunk_step;                        /* 0 size line, 1 data, 2 CRLF after it, 3 trailers */
	struct req *req;
	struct seg *first, *last;
	size_t out_bytes;
	size_t split_bytes;                    /* 0: whole segments */
	unsigned split_ms;
	struct timer split;
};
enum { WHAT_LISTENER = 1, WHAT_CONN };

/* The fake as a whole. */
struct model {
	struct model *next;
	char *name;
	char digest[72];
	char *caps;
	uint64_t made_us;
	long context;                          /* that it is loaded with where a request sets no num_ctx; it was trained with as much */
	long loaded;                           /* the context it is loaded with; 0: it is not loaded */
};
struct blob { struct blob *next; char digest[72]; };
struct barrier { struct barrier *next; char *name; bool open; long passes; struct gen *waiting; };
struct rule { struct rule *next; char *path; long ms; int status; char *mode; };
struct path_count { struct path_count *next; char *path; uint64_t n; };
struct fake {
	int epoll;
	bool stop, dirty;
	struct conn *conns, *dead;
	struct req *log_first, *log_last;
	size_t log_len, log_max, keep_bytes;
	uint64_t ids, conn_ids;
	/* counters, and the gauges running, queued, waiting, open */
	int64_t connections, heads, requests, started, first, done, cancelled, failed, dropped, body_bytes;
	int64_t running, queued, waiting, open;
	struct path_count *paths;
	long slots;
	struct gen *queue_first, *queue_last;
	struct model *models;
	struct blob *blobs;
	struct barrier *barriers;
	struct rule *rules;
	const char *down;                      /* NULL up; "refuse", "reset", "hang", "503" */
	const char *version;
	bool check_origin;
	const char *always;                    /* directives of every request, weaker than its own; or NULL */
	const char *record;
};
extern struct fake fake;

struct reply_opts { const char *type; const char *allow; const char *location; const char *extra; bool chunked; };
void out_bytes(struct conn *c, const void *bytes, size_t n);       /* one segment: one write */
void out_fill(struct conn *c, char byte, size_t n);
void reply(struct req *r, int status, const struct reply_opts *o, const char *body, size_t n);
void reply_error(struct req *r, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void reply_head(struct req *r, struct str *s, int status, const struct reply_opts *o, long long length);   /* length -1: stream */
void reply_end(struct req *r);             /* the answer is all in the output; the connection goes on */
void req_close(struct req *r, bool reset); /* end the connection once the output is out; reset: at once, by RST */
void req_ended(struct req *r, enum req_state how);
char *req_header(const struct req *r, const char *name);           /* malloced, or NULL; the first */
char *query_get(const struct req *r, const char *name);            /* malloced, unescaped, or NULL */
void conn_kill(struct conn *c, bool reset);
void conn_flush(struct conn *c);
void dispatch(struct req *r);
void conn_next(struct conn *c);
void listeners_close(void);
void listeners_open(void);
bool listener_add(const char *where, bool control);
unsigned short listener_port(bool control);
void fake_loop(void);
void kill_main_conns(const struct conn *but);

/* ---- generations ---- */
enum gen_kind { GEN_GENERATE, GEN_CHAT, GEN_V1_CHAT, GEN_V1_TEXT, GEN_BODY, GEN_LINES };
void gen_start(struct req *r, enum gen_kind kind, json_t *body, const struct model *m);   /* borrows body */
void gen_start_body(struct req *r, json_t *directives, int status, const char *type, struct str *body); /* takes body */
void gen_start_lines(struct req *r, json_t *directives, struct str *lines, size_t n, bool raw, bool close);
void gen_cancel(struct gen *g);
void gen_go_on(struct gen *g);             /* the output has drained */
void barrier_release(const char *name, long passes, bool all);
void barriers_reset(void);
json_t *directives_of(const struct req *r, const json_t *body, const char *prompt);   /* new reference */
void gens_from_queue(void);

/* ---- endpoints ---- */
bool control_dispatch(struct req *r);      /* false: not one of ours */
void control_turn(void);                   /* end of a loop turn: answer waiters */
void control_conn_gone(struct conn *c);
bool play_load(const char *dir);
bool play_dispatch(struct req *r);
void api_dispatch(struct req *r);
void v1_dispatch(struct req *r);
bool origin_check(struct req *r);          /* false: answered 403 */
void origin_headers(const struct req *r, struct str *s);
void models_default(void);
struct model *model_find(const char *name);
struct model *model_add(const char *name, const char *caps);
bool model_can(const struct model *m, const char *cap);
void model_used(struct model *m, const json_t *body);      /* a request asks it: it is loaded then, or unloaded by keep_alive 0 */
json_t *body_json(struct req *r, const char *type, const char **error);
json_t *get_field(const json_t *o, const char *name);   /* without regard to case, the last one wins */
const char *get_text(const json_t *o, const char *name);
bool get_bool(const json_t *o, const char *name, bool otherwise);
void embed_vector(struct str *s, const char *text, size_t n, long dims, bool wide);
void count_path(const char *path);
json_t *log_item(const struct req *r);

#endif
