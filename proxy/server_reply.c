/* server_reply.c - replies: whole ones through MHD, streams of unknown length straight to the socket, bodies of a
 * known length through MHD's reader (it counts them). See server.h. */
#include "proxy/server_private.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

/* a stream's body never goes through MHD's block */
/* CLAIM_FREE: replies so small are bounded by server.max_connections. HEAD_COST, FIELD_COST: what MHD keeps in the same memory of
 * a reply's head, and of each header of the request beside its text. */
enum { CLAIM_FREE = 4 << 10, HEAD_COST = 2 << 10, FIELD_COST = 64 };
enum { READER_BLOCK = 16 << 10, STREAM_BLOCK = 64, NARROW_UNSENT = 16 << 10 };

/* ---- sleeping and waking ---- */

void request_suspend(struct request_private *r)
{
	if (r->suspended)
		return;
	r->suspended = true;
	MHD_suspend_connection(r->mhd);
}

/* Most replies that do not come at once come from a store over the network, a fraction of a millisecond later. To put
 * MHD's connection to sleep and wake it costs three system calls: so at first it stays awake, and MHD, when it runs, asks
 * for the reply again. */
void request_park(struct request_private *r)
{
	struct server *s = r->server;
	int64_t now = loop_now(s->o.loop);

	if (!r->parked) {
		r->parked = true;
		r->parked_at = now;
		s->parked[r->conn->daemon]++;
		server_clock_park(s);
		server_clock_watch(r->conn);
	} else if (now - r->parked_at >= PARK_MS) {
		request_unpark(r);
		request_suspend(r);
		if (r->wants_watch)
			server_watch_soon(r->conn);
	}
}

void request_unpark(struct request_private *r)
{
	if (r->parked)
		r->server->parked[r->conn->daemon]--;
	r->parked = false;
}

void request_resume(struct request_private *r)
{
	if (r->parked)
		server_kick(r->server, r->conn->daemon);
	if (!r->suspended)
		return;
	r->suspended = false;
	MHD_resume_connection(r->mhd);
	server_kick(r->server, r->conn->daemon);
}

void request_more(struct request *pub)
{
	struct request_private *r = private_of(pub);

	if (!r->whole && !r->gone && r->suspended) {
		conn_state(r->conn, CONN_BODY);
		request_resume(r);
	}
}

void request_abort(struct request *pub)
{
	struct request_private *r = private_of(pub);

	if (r->gone)
		return;
	r->gone = true;
	conn_unwatch(r->conn);
	shutdown(r->conn->fd, SHUT_RDWR);
	request_resume(r);
}

void request_narrow(struct request *pub)
{
	struct conn *c = private_of(pub)->conn;

	if (c->narrow || !c->is_tcp)
		return;
	c->narrow = true;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){ NARROW_UNSENT }, sizeof(int));
}

void request_watch(struct request *pub)
{
	struct request_private *r = private_of(pub);

	r->wants_watch = true;
	if (r->suspended && r->whole && !r->gone)
		server_watch_soon(r->conn);
}

bool request_replied(const struct request *pub)
{
	return private_of(pub)->replied;
}

/* ---- heads ---- */

/* A packet of its own for a head costs the client a wake-up before there is anything to read: it waits for the first bytes
 * of the body, which MHD asks for right after it, and for no longer. MHD writes a whole reply in chunks as three parts. */
void request_cork(struct request_private *r, bool on)
{
	if (r->corked == on || !r->conn->is_tcp)
		return;
	r->corked = on;
	setsockopt(r->conn->fd, IPPROTO_TCP, TCP_CORK, &(int){ on }, sizeof(int));
}

/* MHD holds the response until it is sent. */
static void queue(struct request_private *r, int status, struct MHD_Response *response)
{
	r->queued = true;
	if (!r->streams)
		conn_unwatch(r->conn);
	conn_state(r->conn, CONN_SENDING);
	if (r->chunked || (r->streams && !r->known))
		request_cork(r, true);
	if (r->bare)
		status = reply_bare_status(r, status);
	if (!status || MHD_queue_response(r->mhd, (unsigned)status, response) != MHD_YES) {
		r->broken = true;
		shutdown(r->conn->fd, SHUT_RDWR);
	}
	request_resume(r);
}

void request_drop_later(struct request_private *r)
{
	if (r->later_reply)
		reply_drop(r->later_reply);
	else if (r->later)
		MHD_destroy_response(r->later);
	r->later = NULL;
	r->later_reply = NULL;
}

void request_queue_later(struct request_private *r)
{
	if (!r->later || r->queued || r->gone)
		return;
	request_unpark(r);
	queue(r, r->later_status, r->later);
	request_drop_later(r);
}

/* IMF-fixdate (RFC 9110, 5.6.7), made once a second. */
static const char *date_text(struct server *s)
{
	time_t now = time(NULL);

	if (now != s->date_of) {
		struct tm t;
		gmtime_r(&now, &t);
		strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &t);
		s->date_of = now;
	}
	return s->date;
}

static void dress(struct server *s, struct MHD_Response *response, const struct header *headers, size_t n)
{
	bool dated = false;

	for (size_t i = 0; i < n; i++) {
		MHD_add_response_header(response, headers[i].name, headers[i].value);
		dated |= !strcmp(headers[i].name, "Date");
	}
	if (!dated)                              /* MHD would make the text anew for every reply */
		MHD_add_response_header(response, "Date", date_text(s));
	if (s->draining)
		MHD_add_response_header(response, "Connection", "close");
}

/* MHD takes a reply once the request's body was read to its end: before that it waits, and the body is dropped. From who
 * is parked MHD takes it when it asks. */
static void give(struct request_private *r, int status, struct MHD_Response *response)
{
	r->replied = true;
	r->later = response;
	r->later_status = status;
	r->discard = !r->whole;
	if (r->parked)
		request_resume(r);
	else if (r->whole)
		request_queue_later(r);
	else
		request_more(&r->pub);
}

static void answer(struct request_private *r, int status, struct MHD_Response *response, const struct header *headers, size_t n)
{
	if (!response) {
		r->replied = true;
		request_abort(&r->pub);
		return;
	}
	reply_fit(r, response);
	dress(r->server, response, headers, n);
	give(r, status, response);
}

/* Of a reply that ends at its head and whose length, if it had a body, nobody knows. */
static void answer_bare(struct request_private *r, int status, const struct header *headers, size_t n)
{
	r->bare = r->ended = true;
	answer(r, status, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), headers, n);
}

/* What is below the low mark is told once, when MHD is not on the stack. */
static void tell_writable(struct request_private *r)
{
	if (!r->high || r->out.len - r->out_at > OUT_LOW || r->ended)
		return;
	r->high = false;
	if (r->in_tell)
		return;
	r->in_tell = true;
	r->tell_next = r->server->to_tell;
	r->server->to_tell = r;
}

static void drained(struct request_private *r)
{
	r->out.len = r->out_at = 0;
	buf_fini(&r->out);
}

/* Ends a reply in the middle. MHD closes such a connection, but lets go of it only when it next looks at it; no socket
 * tells it to, and it looks at the oldest of its connections alone. Of those with a timeout of their own it looks at all. */
static ssize_t break_off(struct request_private *r)
{
	MHD_set_connection_option(r->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
	server_kick(r->server, r->conn->daemon);
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static ssize_t read_known(struct request_private *r, char *to, size_t max)
{
	size_t n = r->out.len - r->out_at;

	if (n == 0 && r->ended)
		return r->broken ? break_off(r) : MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0) {
		conn_state(r->conn, CONN_BUSY);
		conn_watch(r->conn, 0);
		request_suspend(r);
		return 0;
	}
	n = n < max ? n : max;
	memcpy(to, r->out.at + r->out_at, n);
	r->out_at += n;
	conn_state(r->conn, CONN_SENDING);
	if (!r->pub.first_byte_us)
		r->pub.first_byte_us = clock_us();
	if (r->out_at == r->out.len)
		drained(r);
	tell_writable(r);
	return (ssize_t)n;
}

static void add_flush(struct request_private *r)
{
	if (r->in_flush)
		return;
	r->in_flush = true;
	r->flush_next = r->server->to_flush;
	r->server->to_flush = r;
}

/* MHD asks for a body's bytes: for a stream that is our sign that the head has left. */
static ssize_t on_read(void *cls, uint64_t pos, char *to, size_t max)
{
	struct request_private *r = cls;

	(void)pos;
	r->server->calls++;
	if (r->gone)
		return break_off(r);
	if (r->known)
		return read_known(r, to, max);
	if (r->ended && r->out.len == r->out_at)
		return r->broken ? break_off(r) : MHD_CONTENT_READER_END_OF_STREAM;
	/* what there is goes out in the same breath; if that was all, MHD need not sleep */
	r->direct = true;
	conn_state(r->conn, CONN_BUSY);
	request_flush_now(r);
	if (r->gone)
		return break_off(r);
	if (r->ended && r->out.len == r->out_at)
		return r->broken ? break_off(r) : MHD_CONTENT_READER_END_OF_STREAM;
	request_cork(r, false);
	request_suspend(r);
	server_watch_soon(r->conn);
	return 0;
}

void request_reply_begin(struct request *pub, int status, const struct header *headers, size_t n, int64_t length)
{
	struct request_private *r = private_of(pub);

	if (r->gone || r->replied)
		return;
	if (length < 0 && reply_ends_at_head(r, status)) {
		answer_bare(r, status, headers, n);
		return;
	}
	r->streams = true;
	r->known = length >= 0;
	r->chunked = !r->known && pub->http11;
	metric_add(r->server->o.metrics, streams_open, 1);
	struct MHD_Response *response =
		MHD_create_response_from_callback(r->known ? (uint64_t)length : MHD_SIZE_UNKNOWN, r->known ? READER_BLOCK : STREAM_BLOCK, on_read, r, NULL);
	answer(r, status, response, headers, n);
}

/* Takes the body, also when there is no memory. */
static struct MHD_Response *whole_response(char *body, size_t len, bool chunked)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);

	if (!response)
		free(body);
	else if (chunked)
		MHD_add_response_header(response, "Transfer-Encoding", "chunked");
	return response;
}

/* A chunk to each line: many clients take each piece they read for whole lines. */
static void write_by_line(struct request *pub, struct slice bytes)
{
	while (bytes.len) {
		const char *end = memchr(bytes.at, '\n', bytes.len);
		size_t len = end ? (size_t)(end + 1 - bytes.at) : bytes.len;
		if (request_write(pub, slice_of(bytes.at, len)))
			return;              /* the reply is broken */
		bytes = slice_of(bytes.at + len, bytes.len - len);
	}
}

bool request_claim(struct request *pub, size_t len)
{
	struct request_private *r = private_of(pub);

	if (len <= CLAIM_FREE)
		return true;
	if (r->gone || r->replied || !budget_take_reply(r->server->o.budget, len))
		return r->gone || r->replied;
	r->claimed += len;
	return true;
}

bool request_fits_chunk(const struct request *pub, size_t len)
{
	const struct request_private *r = private_of(pub);
	size_t head = r->pub.target.len + HEAD_COST;

	for (size_t i = 0; i < r->n_fields; i++)
		head += r->field[i].name_len + r->field[i].value_len + FIELD_COST;
	return r->fields_known && head + len <= SERVER_HEAD_BYTES;
}

void request_reply(struct request *pub, int status, const struct header *headers, size_t n, char *body, size_t len, bool stream)
{
	struct request_private *r = private_of(pub);

	if (r->gone || r->replied) {
		free(body);
		return;
	}
	bool bodiless = reply_ends_at_head(r, status);
	if (bodiless && stream) {
		free(body);
		answer_bare(r, status, headers, n);
		return;
	}
	if (len > REPLY_WHOLE_MAX || (stream && !request_fits_chunk(pub, len))) {
		/* in pieces, so that a slow reader's progress is seen */
		request_reply_begin(pub, status, headers, n, stream ? -1 : (int64_t)len);
		if (stream) {
			write_by_line(pub, slice_of(body, len));
			free(body);
		} else {
			pub->sent_bytes = bodiless ? 0 : len;
			r->out = (struct buf){ .at = body, .len = len, .room = len, .limit = len };
		}
		request_end(pub, true);
		return;
	}
	pub->sent_bytes = bodiless ? 0 : len;
	pub->first_byte_us = clock_us();
	r->chunked = stream && pub->http11;
	answer(r, status, whole_response(body, len, r->chunked), headers, n);
}

/* ---- replies to be given again ---- */

struct reply {
	struct MHD_Response *response;
	unsigned holds;
	int status;
	size_t len;
	bool chunked;
};

struct reply *reply_make(struct server *s, int status, const struct header *headers, size_t n, char *body, size_t len, bool stream)
{
	struct reply *reply = malloc(sizeof *reply);

	assert(len <= REPLY_WHOLE_MAX);
	if (!reply) {
		free(body);
		return NULL;
	}
	*reply = (struct reply){ whole_response(body, len, stream), 1, status, len, stream };
	if (!reply->response) {
		free(reply);
		return NULL;
	}
	dress(s, reply->response, headers, n);
	return reply;
}

void reply_drop(struct reply *reply)
{
	if (!reply || --reply->holds)
		return;
	MHD_destroy_response(reply->response);
	free(reply);
}

bool request_can_take(const struct request *r, const struct reply *reply)
{
	return !reply->chunked || request_fits_chunk(r, reply->len);
}

void request_reply_made(struct request *pub, struct reply *reply)
{
	struct request_private *r = private_of(pub);

	if (r->gone || r->replied)
		return;
	pub->sent_bytes = reply->len;
	pub->first_byte_us = clock_us();
	r->chunked = reply->chunked;
	reply->holds++;
	r->later_reply = reply;
	give(r, reply->status, reply->response);
}

/* ---- bodies that follow ---- */

/* A chunk's first line (RFC 9112, 7.1). */
static size_t put_size(char *to, size_t n)
{
	size_t digits = 1;

	while (digits < 2 * sizeof n && n >> 4 * digits)
		digits++;
	for (size_t i = 0; i < digits; i++)
		to[i] = "0123456789abcdef"[n >> 4 * (digits - 1 - i) & 15];
	memcpy(to + digits, "\r\n", 2);
	return digits + 2;
}

static enum err write_chunk(struct request *pub, struct slice bytes, struct slice end)
{
	struct request_private *r = private_of(pub);
	size_t len = bytes.len + end.len;
	char size[24];

	if (r->gone || r->ended || len == 0)
		return ERR_OK;
	assert(r->streams);
	if (r->out_at && r->out_at == r->out.len)
		drained(r);
	else if (r->out_at > r->out.len / 2) {
		buf_cut(&r->out, r->out_at);
		r->out_at = 0;
	}
	enum err e = buf_reserve(&r->out, len + sizeof size + 2);
	if (e) {
		request_end(pub, false);
		return e;
	}
	if (r->chunked)
		e = buf_add(&r->out, size, put_size(size, len));
	e = e ? e : buf_put(&r->out, bytes);
	e = e ? e : buf_put(&r->out, end);
	if (r->chunked)
		e = e ? e : buf_add(&r->out, "\r\n", 2);
	assert(!e);                          /* the room was reserved */
	pub->sent_bytes += len;
	if (r->out.len - r->out_at > OUT_LOW)
		r->high = true;
	if (r->direct)
		add_flush(r);
	else if (r->known && r->queued && r->suspended)
		request_resume(r);
	return ERR_OK;
}

enum err request_write(struct request *pub, struct slice bytes)
{
	return write_chunk(pub, bytes, SLICE(""));
}

enum err request_write_line(struct request *pub, struct slice line)
{
	return write_chunk(pub, line, SLICE("\n"));
}

size_t request_queued(const struct request *pub)
{
	const struct request_private *r = private_of(pub);

	return r->out.len - r->out_at;
}

void request_flush_now(struct request_private *r)
{
	if (!r->direct || r->gone)
		return;
	while (r->out_at < r->out.len) {
		/* MHD's last chunk follows at once: it goes into the same packet */
		ssize_t n = send(r->conn->fd, r->out.at + r->out_at, r->out.len - r->out_at,
		                 MSG_DONTWAIT | MSG_NOSIGNAL | (r->ended ? MSG_MORE : 0));
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			conn_watch(r->conn, EPOLLOUT);
			if (r->conn->state != CONN_SENDING)
				conn_state(r->conn, CONN_SENDING);
			tell_writable(r);
			return;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			request_gone(r, ERR_CLIENT_GONE);
			return;
		}
		r->out_at += (size_t)n;
		if (!r->pub.first_byte_us)
			r->pub.first_byte_us = clock_us();
		if (r->conn->state == CONN_SENDING)
			conn_state(r->conn, CONN_SENDING);           /* progress: a new deadline */
	}
	drained(r);
	if (r->conn->watched)
		conn_watch(r->conn, 0);
	conn_state(r->conn, CONN_BUSY);
	if (r->ended)
		request_resume(r);
	else
		tell_writable(r);
}

void request_flush(struct request *pub)
{
	request_flush_now(private_of(pub));
}

void request_end(struct request *pub, bool whole)
{
	struct request_private *r = private_of(pub);

	if (r->ended || r->gone)
		return;
	r->ended = true;
	r->broken = !whole;
	if (r->direct)
		add_flush(r);                /* what is queued first; then MHD is woken to end it */
	else if (r->queued)
		request_resume(r);
}

/* ---- the end of a turn ---- */

void server_flush_all(struct server *s)
{
	while (s->to_flush) {
		struct request_private *r = s->to_flush;
		s->to_flush = r->flush_next;
		r->in_flush = false;
		request_flush_now(r);
	}
}

void server_tell_all(struct server *s)
{
	while (s->to_tell) {
		struct request_private *r = s->to_tell;
		s->to_tell = r->tell_next;
		r->in_tell = false;
		if (!r->gone && !r->refused)
			s->o.ops->writable(&r->pub);
	}
}

void server_forget(struct server *s, struct request_private *r)
{
	struct request_private **at;

	for (at = &s->to_flush; r->in_flush && *at; at = &(*at)->flush_next)
		if (*at == r) {
			*at = r->flush_next;
			r->in_flush = false;
			break;
		}
	for (at = &s->to_tell; r->in_tell && *at; at = &(*at)->tell_next)
		if (*at == r) {
			*at = r->tell_next;
			r->in_tell = false;
			break;
		}
}
