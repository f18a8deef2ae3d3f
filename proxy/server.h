/* server.h - the clients' side of a worker: HTTP requests in, replies out, over libmicrohttpd.
 *
 * MHD reads requests, keeps connections alive and writes the head of every reply. A reply that streams is written
 * by us, straight to the client's socket, while MHD's connection sleeps: one line becomes one chunk whatever MHD's
 * buffer holds, and a chunk costs one system call. MHD writes the last chunk when we wake it.
 *
 * Ownership  the server owns its requests; an owner (exchange) is told done() last and forgets its request there.
 * Threads    everything on the worker's loop; the count of connections is shared and atomic.
 * Callbacks  of request_ops come from MHD or from the loop; all calls on the request are allowed inside them.
 * Limits     a request's head: SERVER_HEAD_BYTES with MHD's own data; connections: max_connections; every state of
 *            a connection in which we wait for the client has a deadline. */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include <stdatomic.h>

#include "proxy/base/buf.h"
#include "proxy/base/loop.h"
#include "proxy/metrics.h"

enum { SERVER_HEAD_BYTES = 9 << 10, SERVER_DAEMONS = 16, PEER_TEXT_MAX = 64, CLIENT_BYTES = 16, REPLY_HEADERS_MAX = 64, REPLY_WHOLE_MAX = 64 << 10 };

struct server;
struct request;

struct request_ops {
	/* The head is here. content_length is -1 when chunked, 0 without a body. */
	void (*begin)(struct request *r, void *arg);
	/* Bytes of the body. Returns how many were taken; fewer than len: reading stops until request_more(). */
	size_t (*body)(struct request *r, struct slice bytes);
	/* The body is whole. If no reply is given now, the client is watched until there is one. */
	void (*whole)(struct request *r);
	/* What was written has left, down to the low mark. */
	void (*writable)(struct request *r);
	/* The client has left, or took nothing for idle_timeout. Replying does nothing from here on. */
	void (*gone)(struct request *r, enum err why);
	/* The last call: the reply was sent whole, or not. */
	void (*done)(struct request *r, bool sent);
};

struct request {                     /* read-only for owners, but for `owner` */
	void *owner;
	const char *method;
	struct slice target;         /* as the client wrote it: path and query, escapes and all */
	struct slice path, query;    /* its parts; query without the ? */
	bool http11;
	int64_t content_length;
	bool has_body;
	const char *peer;            /* address as text; "unix" */
	const uint8_t *client;       /* its address without the port, 16 bytes: of IPv6 the network, zeros of a unix socket */
	bool peer_local;             /* loopback or unix */
	bool to_loopback;            /* it came to a loopback address */
	bool is_admin;               /* it came to admin.listen */
	int64_t begun_us;            /* clock_us() */
	uint64_t sent_bytes;         /* of the reply's body */
	int64_t first_byte_us;       /* clock_us() when the first bytes of the body left; 0: none yet */
};

struct header {
	const char *name;
	const char *value;
};

struct budget;

struct server_options {
	struct loop *loop;
	struct metrics *metrics;
	_Atomic int64_t *connections;        /* all workers' together */
	struct budget *budget;               /* what whole replies hold is counted there */
	int64_t max_connections, header_timeout_ms, idle_timeout_ms;
	const struct request_ops *ops;
	void *arg;                           /* for begin() */
};

struct server *server_new(const struct server_options *o);
/* Accepts from a bound, listening socket; the server closes it. */
void server_listen(struct server *s, int fd, bool is_admin);
/* Stops accepting and closes idle connections; what is being answered goes on. */
void server_drain(struct server *s);
/* What this turn has asked for is done; to be called before the loop sleeps. */
void server_turn(struct server *s);
size_t server_connections(const struct server *s);
/* Ends every request, as broken; their owners are told. The loop has to run on until they are gone. */
void server_abort(struct server *s);
/* After server_abort(); what is still left ends here. Calls done() for every request. */
void server_free(struct server *s);

/* NULL if the header is not there. Of several with one name, the first. */
const char *request_header_named(const struct request *r, struct slice name);
static inline const char *request_header(const struct request *r, const char *name)
{
	return request_header_named(r, slice_text(name));        /* here, where the length of a literal is known */
}
void request_each_header(const struct request *r, void (*each)(void *arg, struct slice name, struct slice value), void *arg);
/* How many headers of that name there are. */
size_t request_header_count(const struct request *r, const char *name);

/* Reading goes on after body() took less than all. Not from inside body(). */
void request_more(struct request *r);

/* From now on the client's leaving is to be told at once: what is done for it costs more than watching it. */
void request_watch(struct request *r);

/* Of a reply that streams little is to wait in the kernel: whom a client that does not read would hold up is to know while
 * what waits is small. For the connection's life; not for downloads, which it slows down. */
void request_narrow(struct request *r);

/* Room for a whole reply of so many bytes, until it is over, in server_options.budget; false: there is none. Few bytes need none. */
bool request_claim(struct request *r, size_t len);

/* A whole reply. body comes from malloc and is taken over. stream: sent in chunks, as a stream would be, each
 * of whole lines. */
void request_reply(struct request *r, int status, const struct header *headers, size_t n, char *body, size_t len, bool stream);

/* A whole reply made once, head and all, to be given to many: NULL without memory. Its caller drops it; what is being sent
 * of it then stays until it has left. At most REPLY_WHOLE_MAX bytes. */
struct reply;
struct reply *reply_make(struct server *s, int status, const struct header *headers, size_t n, char *body, size_t len, bool stream);
void reply_drop(struct reply *reply);
void request_reply_made(struct request *r, struct reply *reply);
/* Does MHD send a body of so many bytes as one chunk? It cuts chunks where its buffer ends, in the middle of a line. */
bool request_fits_chunk(const struct request *r, size_t len);
bool request_can_take(const struct request *r, const struct reply *reply);

/* The head of a reply whose body follows by request_write(): chunked (length -1) or of a known length. */
void request_reply_begin(struct request *r, int status, const struct header *headers, size_t n, int64_t length);
/* Queues bytes; one call is one chunk. ERR_NO_MEMORY, ERR_TOO_LARGE: nothing was queued and the reply is broken. */
enum err request_write(struct request *r, struct slice bytes);
enum err request_write_line(struct request *r, struct slice line);       /* with a newline behind it, in the same chunk */
/* Sends now what is queued instead of at the end of the turn. */
void request_flush(struct request *r);
size_t request_queued(const struct request *r);
/* No more bytes. Not whole: the connection is closed without a last chunk. */
void request_end(struct request *r, bool whole);
/* Takes the client's silence or leaving as its own affair no longer: closes the connection without a reply. */
void request_abort(struct request *r);
bool request_replied(const struct request *r);

#endif
