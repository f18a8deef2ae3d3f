/* http.h - one request and its reply, HTTP/1.1 (RFC 9112), over a connection to an upstream. The reply is parsed by libhttp-parser.
 *
 * Ownership  embedded in its owner; http_stop() before that goes, at any moment, in callbacks too.
 * Callbacks  on_head once, on_bytes any number of times, on_end once and last; from the loop, none after http_stop().
 * Limits     a reply's head: UPSTREAM_HEAD_BYTES, UPSTREAM_FIELDS_MOST headers; CONNECTION_VALUE_MOST bytes of names in Connection,
 *            for each header is looked for among them. Time is the owner's to watch. */
#ifndef PROXY_HTTP_H
#define PROXY_HTTP_H

#include <http_parser.h>

#include "proxy/peer.h"
#include "proxy/server.h"

enum { UPSTREAM_HEAD_BYTES = 64 << 10, UPSTREAM_FIELDS_MOST = 512, CONNECTION_VALUE_MOST = 512 };

struct http;

/* What a request is to the upstreams: whether it takes a place, where it goes, and how often it may be sent. */
enum transfer_kind {
	TRANSFER_GENERATION,                 /* takes a place; says how well a host is; may be sent again to another */
	TRANSFER_GENERATION_PASSED,          /* the same without a place */
	TRANSFER_PASS,                       /* no place, and no word on how well a host is; may be sent again to another */
	TRANSFER_CHANGE,                     /* no place; to the first host of the list that may have it, once */
};

/* What upstream.h is asked for, too: all but connect_ms, and what is sent, is for it alone. */
struct transfer_request {
	const char *method;
	const char *target;                  /* path and query, raw */
	const struct header *headers;        /* without Host, Content-Length and hop-by-hop ones */
	size_t n_headers;
	struct slice body;                   /* a whole body; at NULL: none, or streamed */
	struct slice rest;                   /* its end, where that lies elsewhere */
	bool upload;                         /* streamed by on_upload */
	int64_t upload_length;               /* -1: chunked */
	bool uncounted;                      /* the proxy's own question, not a client's: left out of the metrics */
	bool bulk;                           /* a download in large pieces rather than a stream of small ones */
	enum transfer_kind kind;
	host_set may;                        /* which upstreams; 0: all */
	bool seeks;                          /* a 404 sends it on to the next, which may have what it names */
	int64_t connect_ms, first_byte_ms, idle_ms, queue_ms;
	int64_t answer_ms;                   /* for the whole of a plain answer, in place of first_byte_ms; 0: it is a stream */
};

struct http_ops {
	void (*on_head)(struct http *h, int status);
	void (*on_bytes)(struct http *h, struct slice bytes);
	/* Streamed bodies: fills to, returns how much; 0 is the end, UPLOAD_PAUSE waits for http_upload_more(). */
	size_t (*on_upload)(struct http *h, char *to, size_t max);
	/* It is wanted from its beginning once more; false: that is gone. NULL: it never can be. */
	bool (*on_rewind)(struct http *h);
	void (*on_end)(struct http *h, enum err e);
};
#define UPLOAD_PAUSE SIZE_MAX

struct http {
	struct peer_user user;               /* first */
	const struct http_ops *ops;
	const struct transfer_request *rq;
	struct peers *peers;
	struct loop *loop;
	int host;
	struct peer *peer;                   /* NULL: over, or not begun */
	bool open;                           /* it is made */
	bool used;                           /* it was used before: it may have ended without a word */
	bool paused;                         /* its reply is not read */
	bool blocked;                        /* it waits for room to write */
	bool mute;                           /* it takes no more */
	int64_t last_sign;                   /* loop_now() of the last sign of life, either way */
	/* the request */
	struct buf out;                      /* from out_at on still to be written: its head, then pieces of a streamed body */
	size_t out_at, body_at;
	uint64_t upload_left;                /* of the length announced */
	bool upload_paused, upload_begun, upload_whole;
	/* the reply */
	http_parser parser;
	struct buf head;                     /* NAME:VALUE lines */
	unsigned n_fields;
	bool heard, in_value, begun, whole, keep;
	int64_t heard_at;                    /* loop_now() of the reply's first byte */
};

/* Sends rq, which must live until http_sent(), to the host; a body that can be sent again is, once, when a connection that
 * was used before ended without a reply. h: zeroed, or ended before. ERR_NO_MEMORY: nothing follows. */
must_use enum err http_start(struct http *h, struct peers *peers, struct loop *loop, int host, const struct transfer_request *rq,
                             const struct http_ops *ops);
void http_stop(struct http *h);                  /* the reply's head stays */
void http_fini(struct http *h);
void http_pause(struct http *h);                 /* what was read already still comes */
void http_resume(struct http *h);
void http_upload_more(struct http *h);
/* The request has left whole and is not sent again. */
bool http_sent(const struct http *h);

/* A header of the reply's head, which has come whole; {NULL, 0}: it is not there. Until http_start() or http_fini(). */
struct slice http_header(const struct http *h, const char *name);
void http_each_header(const struct http *h, void (*each)(void *arg, struct slice name, struct slice value), void *arg);

#endif
