/* http.c - see http.h. */
#include "proxy/http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "proxy/base/log.h"
#include "proxy/hop.h"

enum { REQUEST_HEAD_FIRST = 1024, REQUEST_HEAD_MOST = 1 << 20, STREAM_READ = 4096, BULK_READ = 32 << 10, UPLOAD_PIECE = 16 << 10 };
enum { WRITE_MOST = 256 << 10 };         /* of a body at once: a socket may take MiB, and others wait meanwhile */
enum { NO_BODY = 1 };                    /* what on_head_whole() tells the parser when no body follows */
enum { CHUNK_HEAD = 8, CHUNK_TAIL = 2 };         /* around an UPLOAD_PIECE: its length in hexadecimal, line ends */

static struct http *http_of(const http_parser *p)
{
	return p->data;
}

static void end(struct http *h, enum err e)
{
	http_stop(h);
	h->ops->on_end(h, e);
}

/* ---- the request ---- */

static enum err put_texts(struct buf *b, const char *one, const char *two, const char *three, const char *four)
{
	enum err e = buf_add(b, one, strlen(one));

	e = e ? e : buf_add(b, two, strlen(two));
	e = e ? e : buf_add(b, three, strlen(three));
	return e ? e : buf_add(b, four, strlen(four));
}

static enum err put_head(struct http *h)
{
	const struct transfer_request *rq = h->rq;
	uint64_t length = rq->upload ? (uint64_t)rq->upload_length : rq->body.len + rq->rest.len;
	enum err e;

	h->out.len = h->out_at = h->body_at = 0;
	e = buf_reserve(&h->out, REQUEST_HEAD_FIRST);
	e = e ? e : put_texts(&h->out, rq->method, " ", *rq->target == '/' ? peers_base(h->peers, h->host) : "", rq->target);
	e = e ? e : put_texts(&h->out, " HTTP/1.1\r\nHost: ", peers_authority(h->peers, h->host), "\r\n" HOP_HEADER ": ", hop_mark());
	e = e ? e : buf_put(&h->out, SLICE("\r\n"));
	for (size_t i = 0; i < rq->n_headers && !e; i++)
		e = put_texts(&h->out, rq->headers[i].name, ": ", rq->headers[i].value, "\r\n");
	if (!e && rq->upload && rq->upload_length < 0)
		e = buf_put(&h->out, SLICE("Transfer-Encoding: chunked\r\n"));
	else if (!e && (rq->upload || rq->body.at || !strcmp(rq->method, "POST")))
		e = buf_addf(&h->out, "Content-Length: %" PRIu64 "\r\n", length);
	return e ? e : buf_put(&h->out, SLICE("\r\n"));
}

/* The next piece of a streamed body into `out`, of which all has left; false: there is none now, or none any more. */
static bool put_upload(struct http *h)
{
	const struct transfer_request *rq = h->rq;
	bool chunked = rq->upload_length < 0;
	size_t most = chunked || h->upload_left > UPLOAD_PIECE ? UPLOAD_PIECE : (size_t)h->upload_left;
	char head[CHUNK_HEAD + 1];

	if (!rq->upload || h->upload_whole || h->upload_paused)
		return false;
	h->out.len = h->out_at = 0;
	if (buf_reserve(&h->out, CHUNK_HEAD + UPLOAD_PIECE + CHUNK_TAIL)) {
		end(h, ERR_NO_MEMORY);
		return false;
	}
	size_t n = most ? h->ops->on_upload(h, h->out.at + CHUNK_HEAD, most) : 0;
	if (!h->peer)
		return false;
	h->upload_paused = n == UPLOAD_PAUSE;
	if (h->upload_paused)
		return false;
	h->upload_begun = true;
	h->upload_whole = n == 0;
	if (n == 0 && !chunked) {
		if (most)                        /* shorter than it was said to be */
			end(h, ERR_UPSTREAM_BROKE);
		return false;
	}
	h->out_at = CHUNK_HEAD;
	h->out.len = CHUNK_HEAD + n;
	if (!chunked) {
		h->upload_left -= n;
		return true;
	}
	size_t len = (size_t)snprintf(head, sizeof head, "%zx\r\n", n);
	h->out_at -= len;
	memcpy(h->out.at + h->out_at, head, len);
	memcpy(h->out.at + h->out.len, "\r\n", CHUNK_TAIL);
	h->out.len += CHUNK_TAIL;
	return true;
}

static void watch(struct http *h)
{
	if (h->open)
		peer_watch(h->peer, (h->paused ? 0 : PEER_READ) | (h->blocked ? PEER_WRITE : 0));
}

static size_t unsent(const struct http *h)
{
	return h->out.len - h->out_at + h->rq->body.len + h->rq->rest.len - h->body_at;
}

bool http_sent(const struct http *h)
{
	return h->heard && unsent(h) == 0 && (!h->rq->upload || h->upload_whole);
}

/* One write of what there is; false when it was not all taken. */
static bool push_once(struct http *h)
{
	const struct slice lies[] = { h->rq->body, h->rq->rest };
	struct iovec parts[1 + sizeof lies / sizeof *lies] = { { h->out.at + h->out_at, h->out.len - h->out_at } };
	size_t n = parts[0].iov_len > 0, at = h->body_at, room = WRITE_MOST, all = unsent(h);
	size_t first = 1 - n, of_head = parts[0].iov_len;

	for (size_t i = 0; i < sizeof lies / sizeof *lies && room; i++) {
		size_t skip = at < lies[i].len ? at : lies[i].len, left = lies[i].len - skip;
		at -= skip;
		left = left < room ? left : room;
		room -= left;
		if (left)
			parts[first + n++] = (struct iovec){ (char *)(uintptr_t)lies[i].at + skip, left };
	}
	ssize_t got = peer_write(h->peer, parts + first, n);

	if (got < 0) {
		/* a connection that takes no more may yet have told why: what comes from it decides */
		h->mute = errno != EAGAIN && errno != EINTR;
		return false;
	}
	h->last_sign = loop_now(h->loop);
	size_t of_out = (size_t)got < of_head ? (size_t)got : of_head;
	h->out_at += of_out;
	h->body_at += (size_t)got - of_out;
	return (size_t)got == all;
}

static void push(struct http *h)
{
	bool taken = true;

	while (taken && (unsent(h) || put_upload(h)))
		taken = push_once(h);
	if (!h->peer)
		return;
	if (taken && (!h->rq->upload || h->upload_whole)) {
		buf_fini(&h->out);
		h->out_at = 0;
	}
	h->blocked = !taken && !h->mute;
	watch(h);
}

void http_upload_more(struct http *h)
{
	if (!h->upload_paused || !h->peer)
		return;
	h->upload_paused = false;
	h->blocked = true;                       /* it is asked for from the loop */
	h->last_sign = loop_now(h->loop);
	watch(h);
}

/* ---- the reply ---- */

static int on_field(http_parser *p, const char *at, size_t len)
{
	struct http *h = http_of(p);
	enum err e = ERR_OK;

	if (p->flags & F_TRAILING)
		return 0;
	if ((h->in_value || h->head.len == 0) && ++h->n_fields > UPSTREAM_FIELDS_MOST)
		return -1;
	if (h->in_value)
		e = buf_add(&h->head, "\n", 1);
	h->in_value = false;
	return e || buf_add(&h->head, at, len) ? -1 : 0;
}

static int on_value(http_parser *p, const char *at, size_t len)
{
	struct http *h = http_of(p);
	enum err e = ERR_OK;

	if (p->flags & F_TRAILING)
		return 0;
	if (len && memchr(at, 0, len))           /* the parser looks at all but the first byte of a value */
		return -1;
	if (!h->in_value)
		e = buf_add(&h->head, ":", 1);
	h->in_value = true;
	return e || buf_add(&h->head, at, len) ? -1 : 0;
}

/* Another coding than chunked was not asked for, and would go to the client without its name. */
static bool coding_is_known(const http_parser *p)
{
	return !p->uses_transfer_encoding ||
	       (p->flags & F_CHUNKED && slice_is_nocase(http_header(http_of(p), "Transfer-Encoding"), SLICE("chunked")));
}

static int on_head_whole(http_parser *p)
{
	struct http *h = http_of(p);

	h->in_value = false;
	if (p->http_major != 1 || p->status_code < 100 || p->status_code == 101 || !coding_is_known(p) ||
	    http_header(h, "Connection").len > CONNECTION_VALUE_MOST)
		return -1;                       /* 101: nobody asked for another protocol */
	if (p->status_code < 200)
		return NO_BODY;                  /* whatever its head says (RFC 9112, 6.3) */
	h->begun = true;
	h->ops->on_head(h, (int)p->status_code);
	if (!h->peer)
		return -1;
	return p->status_code == 204 || p->status_code == 304 || !strcmp(h->rq->method, "HEAD") ? NO_BODY : 0;
}

static int on_body(http_parser *p, const char *at, size_t len)
{
	struct http *h = http_of(p);

	h->ops->on_bytes(h, slice_of(at, len));
	return h->peer ? 0 : -1;
}

static int on_whole(http_parser *p)
{
	struct http *h = http_of(p);

	if (p->status_code < 200) {              /* an interim reply: the real one follows */
		h->head.len = 0;
		h->n_fields = 0;
		return 0;
	}
	h->whole = true;
	h->keep = http_should_keep_alive(p);
	http_parser_pause(p, 1);
	return 0;
}

void http_each_header(const struct http *h, void (*each)(void *arg, struct slice name, struct slice value), void *arg)
{
	struct slice rest = buf_slice(&h->head), line, name;

	while (slice_next(&rest, '\n', &line))
		if (slice_next(&line, ':', &name))
			each(arg, name, slice_trim(line));
}

struct wanted { struct slice name, value; };

static void look(void *arg, struct slice name, struct slice value)
{
	struct wanted *w = arg;

	if (!w->value.at && slice_is_nocase(name, w->name))
		w->value = value;
}

struct slice http_header(const struct http *h, const char *name)
{
	struct wanted w = { .name = slice_text(name) };

	http_each_header(h, look, &w);
	return w.value;
}

static const http_parser_settings settings = {
	.on_header_field = on_field, .on_header_value = on_value, .on_headers_complete = on_head_whole, .on_body = on_body,
	.on_message_complete = on_whole,
};

static void finish(struct http *h, bool all_used)
{
	struct peer *peer = h->peer;

	if (all_used && h->keep && http_sent(h)) {
		h->peer = NULL;
		peer_keep(peer);
	}
	end(h, ERR_OK);
}

static enum err dial(struct http *h)
{
	h->open = h->used = h->mute = false;
	h->peer = peer_dial(h->peers, h->host, h->rq->connect_ms, &h->user);
	return h->peer ? ERR_OK : ERR_NO_MEMORY;
}

static uint64_t length_announced(const struct transfer_request *rq)
{
	return rq->upload_length < 0 ? 0 : (uint64_t)rq->upload_length;
}

static bool rewind_upload(struct http *h)
{
	if (!h->upload_begun)
		return true;
	if (!h->ops->on_rewind || !h->ops->on_rewind(h))
		return false;
	h->upload_begun = h->upload_whole = h->upload_paused = false;
	h->upload_left = length_announced(h->rq);
	return true;
}

/* The upstream had closed what it had long had open, and the request crossed that: nothing was done of it, most likely. What
 * must not be done twice is not sent again. */
static bool try_afresh(struct http *h)
{
	if (!h->used || h->heard || h->rq->kind == TRANSFER_CHANGE || !rewind_upload(h))
		return false;
	http_stop(h);
	enum err e = put_head(h);
	e = e ? e : dial(h);
	if (e)
		end(h, e);
	return true;
}

static void pull(struct http *h)
{
	char bytes[BULK_READ];
	size_t most = h->rq->bulk ? BULK_READ : STREAM_READ;
	ssize_t n = peer_read(h->peer, bytes, most);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	h->last_sign = loop_now(h->loop);
	if (n <= 0 && try_afresh(h))
		return;
	if (n < 0) {
		end(h, ERR_UPSTREAM_BROKE);
		return;
	}
	if (n > 0 && !h->heard) {
		h->heard = true;
		h->heard_at = h->last_sign;
	}
	size_t used = http_parser_execute(&h->parser, &settings, bytes, (size_t)n);
	if (!h->peer)
		return;
	if (h->whole) {
		finish(h, n > 0 && used == (size_t)n);
	} else if (n == 0) {
		end(h, ERR_UPSTREAM_BROKE);
	} else if (HTTP_PARSER_ERRNO(&h->parser) != HPE_OK) {
		log_line(LOG_DEBUG, "upstream", "%s: %s", peers_authority(h->peers, h->host),
		         http_errno_description(HTTP_PARSER_ERRNO(&h->parser)));
		end(h, h->begun ? ERR_UPSTREAM_BROKE : ERR_UPSTREAM_BABBLE);
	}
}

/* ---- life ---- */

static void on_ready(struct peer_user *user, int events)
{
	struct http *h = (struct http *)user;

	if (events & PEER_READ)
		pull(h);
	if (h->peer && h->open && events & PEER_WRITE)
		push(h);
}

static void on_open(struct peer_user *user, enum err e)
{
	struct http *h = (struct http *)user;

	h->open = !e;
	if (e)
		end(h, e);
	else
		push(h);
}

enum err http_start(struct http *h, struct peers *peers, struct loop *loop, int host, const struct transfer_request *rq,
                    const struct http_ops *ops)
{
	buf_fini(&h->head);
	*h = (struct http){ .user = { on_open, on_ready }, .peers = peers, .loop = loop, .ops = ops, .rq = rq, .host = host,
	                    .last_sign = loop_now(loop), .upload_left = length_announced(rq) };
	buf_init(&h->out, REQUEST_HEAD_MOST);
	buf_init(&h->head, UPSTREAM_HEAD_BYTES);
	http_parser_init(&h->parser, HTTP_RESPONSE);
	h->parser.data = h;
	enum err e = put_head(h);
	if (e)
		return e;
	h->peer = peer_take(peers, host, &h->user);
	if (!h->peer)
		return dial(h);
	h->used = h->open = true;
	h->blocked = rq->upload;                 /* a streamed body is asked for from the loop */
	if (rq->upload)
		watch(h);
	else
		push(h);
	return ERR_OK;
}

void http_stop(struct http *h)
{
	if (h->peer)
		peer_close(h->peer);
	h->peer = NULL;
	buf_fini(&h->out);
	h->out_at = 0;
}

void http_fini(struct http *h)
{
	http_stop(h);
	buf_fini(&h->head);
}

void http_pause(struct http *h)
{
	h->paused = true;
	if (h->peer)
		watch(h);
}

void http_resume(struct http *h)
{
	if (!h->paused || !h->peer)
		return;
	h->paused = false;
	h->last_sign = loop_now(h->loop);
	watch(h);
}
