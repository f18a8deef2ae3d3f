/* server_private.h - what the server's files share; nobody else includes it. */
#ifndef PROXY_SERVER_PRIVATE_H
#define PROXY_SERVER_PRIVATE_H

#include <microhttpd.h>
#include <sys/socket.h>

#include "proxy/budget.h"
#include "proxy/server.h"

#if MHD_VERSION < 0x00097002
#error "libmicrohttpd 0.9.75 or newer is needed"
#endif

/* OUT_LIMIT bounds what an owner may queue by mistake; owners stop long before (their own windows). */
enum { OUT_LIMIT = 16 << 20, OUT_LOW = 16 << 10, SERVER_LISTENERS = 32, PARK_MS = 10, SERVER_LINGER = 64, FIELDS_KEPT = 12 };

/* What we wait for from a client; each state but BUSY has a deadline. */
enum conn_state {
	CONN_BUSY,           /* nothing: the answer is ours or the upstream's to give */
	CONN_HEADERS,        /* a new connection's first head */
	CONN_IDLE,           /* the next request's head */
	CONN_BODY,           /* more of a body */
	CONN_SENDING,        /* that it takes what we have for it */
	CONN_STATES
};

struct conn {
	struct server *server;
	struct MHD_Connection *mhd;
	struct request_private *request;     /* the one being read or answered; NULL between two */
	int fd;
	uint8_t daemon;
	bool to_loopback, peer_local, is_admin, is_tcp, narrow;
	bool ending;                         /* the client has said its last word, in the middle of a body */
	uint32_t watched;                    /* 0: not in watch_fd; else the events asked for + 1 */
	enum conn_state state;
	int64_t deadline;
	struct conn *next, *prev;            /* in the list of its state */
	struct conn *watch_next, **watch_prev;       /* in the list of those to be watched soon; NULL: not in it */
	char peer[PEER_TEXT_MAX];
	uint8_t client[CLIENT_BYTES];
};

/* A header as MHD holds it: found once, so that a dozen look-ups are a dozen comparisons of lengths. */
struct field {
	const char *name, *value;
	size_t name_len, value_len;
};

struct request_private {
	struct request pub;                  /* first: a struct request is one of these */
	struct server *server;
	struct conn *conn;
	struct MHD_Connection *mhd;
	bool begun, whole, replied, queued, suspended, gone, discard;
	bool wants_watch;                    /* its owner wants to know at once when the client leaves */
	bool parked;                         /* MHD is awake and asks for the reply again whenever it runs */
	int64_t parked_at;
	bool small;                          /* its room for a target is SMALL_TARGET: it can be used again */
	bool refused;                        /* its head was not well-formed: the owner never hears of it */
	bool streams;                        /* the body follows by request_write() */
	bool direct;                         /* MHD has sent the head and sleeps: the socket is ours */
	bool known;                          /* the length of that body is: MHD counts and writes it */
	bool bare;                           /* the reply is its head, which says nothing of a body */
	bool chunked, ended, broken;
	bool corked;
	bool in_flush, in_tell, high;        /* high: more than OUT_LOW was queued, the owner waits for writable() */
	struct MHD_Response *later;          /* waits for the body to be read to its end, or for MHD to ask */
	struct reply *later_reply;           /* whose response `later` is; NULL: it is the request's own */
	int later_status;
	struct slice authority;              /* of a target in absolute form: has to be what Host says */
	struct buf out;                      /* framed bytes from out_at on */
	size_t out_at;
	size_t claimed;                      /* in the budget */
	struct request_private *flush_next, *tell_next;
	size_t n_fields;
	bool fields_known;                   /* all headers are in field[] */
	uint64_t name_lens;                  /* bit n: there is one whose name has n bytes, or n + 64, … */
	struct field field[FIELDS_KEPT];     /* not zeroed: n_fields of them are */
	char target[];
};

static inline struct request_private *private_of(const struct request *r)
{
	return (struct request_private *)(uintptr_t)r;       /* pub is the first member */
}

struct listener {
	uv_poll_t poll;
	struct server *server;
	int fd;
	bool is_admin;
};

struct accepting {
	int fd;
	const struct sockaddr_storage *peer;
	bool to_loopback, is_admin;
	unsigned daemon;
};

struct conn_list { struct conn *first, *last; };

struct server {
	struct server_options o;
	struct MHD_Daemon *daemon[SERVER_DAEMONS];
	uv_poll_t poll[SERVER_DAEMONS];
	int watch_fd;                        /* epoll set of the sockets of sleeping connections */
	uv_poll_t watch_poll;
	uv_idle_t more;                      /* runs while a turn has left work for the next */
	uv_timer_t clock;
	int64_t clock_due;                   /* 0: not running */
	struct conn_list list[CONN_STATES];
	struct conn *to_watch;               /* if they sleep at watch_at */
	struct conn *watch_soon;             /* if they sleep at the end of the turn: most replies do not last that long */
	int64_t watch_at;                    /* 0: nobody waits for it */
	int64_t park_until;                  /* when who is parked goes to sleep; 0: nobody is */
	int64_t end_at;                      /* when those that are ending are told so again; 0: nobody is */
	struct listener listener[SERVER_LISTENERS];
	size_t n_listeners, n_conns;
	unsigned daemon_conns[SERVER_DAEMONS], parked[SERVER_DAEMONS];
	unsigned dirty;
	uint64_t calls, calls_seen[SERVER_DAEMONS];      /* of MHD's into us: a daemon that runs without any is stuck */
	unsigned idle_runs[SERVER_DAEMONS], stuck;
	struct accepting *accepting;
	struct request_private *to_flush, *to_tell;
	struct request_private *spare;       /* by flush_next */
	size_t n_spare;
	time_t date_of;                      /* the second `date` says */
	char date[40];
	int lingering[SERVER_LINGER];
	unsigned linger_at;
	int64_t linger_until;
	bool draining, resting, new_bodies;
	int64_t rest_until;
	int closing;
};

void server_kick(struct server *s, unsigned daemon);
void server_flush_all(struct server *s);
void server_tell_all(struct server *s);
void server_forget(struct server *s, struct request_private *r);

void conn_watch(struct conn *c, uint32_t events);
void conn_unwatch(struct conn *c);
void conn_link(struct conn *c, enum conn_state state);
void conn_unlink(struct conn *c);
void conn_state(struct conn *c, enum conn_state state);

/* What MHD calls: a head has begun, more of a request is there (or it asks for the reply), it is over. */
void *request_begun(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result request_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *data, size_t *len, void **con_cls);
void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code);

void server_linger(struct server *s, int fd);    /* closes it a moment later */
void request_find_fields(struct request_private *r);
void request_suspend(struct request_private *r);
void request_park(struct request_private *r);
void request_unpark(struct request_private *r);
void request_resume(struct request_private *r);
void request_queue_later(struct request_private *r);
bool reply_ends_at_head(const struct request_private *r, int status);
void reply_fit(const struct request_private *r, struct MHD_Response *response);
int reply_bare_status(struct request_private *r, int status);
void request_cork(struct request_private *r, bool on);
void request_drop_later(struct request_private *r);
void request_flush_now(struct request_private *r);
void request_gone(struct request_private *r, enum err why);
void request_finish(struct request_private *r, bool sent);

void server_clock_init(struct server *s);
void server_clock_fini(struct server *s, uv_close_cb closed);
void server_clock_linger(struct server *s);
void server_clock_unstick(struct server *s, unsigned daemon);   /* it runs without getting anywhere */
void server_clock_rest(struct server *s);
void server_clock_watch(struct conn *c);         /* if it still sleeps in a moment */
void server_clock_park(struct server *s);
void server_clock_end(struct server *s);
void server_watch_soon(struct conn *c);          /* if it still sleeps at the end of the turn */
void server_watch_now(struct server *s);         /* the end of the turn */
void server_clock_forget(struct conn *c);
void server_clock_close_idle(struct server *s);
void server_clock_abort_all(struct server *s);

#endif
