/* http_world.h - what the tests of http.c stand on: scripted connections, and an owner that does what a test asks of it and
 * notes what it was told.
 *
 * prepare() makes the world anew; what a test writes into `it` and `peers` comes after it and before start() or run(). */
#ifndef TESTS_HTTP_WORLD_H
#define TESTS_HTTP_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/peer_script.h"
#include "proxy/http.h"

enum { BODY_MOST = 128 << 10, HEAD_MOST = UPSTREAM_HEAD_BYTES, CONNECT_MS = 700 };

/* What was told of a reply. */
struct heard {
	int heads, ends, status;
	enum err end;
	size_t head_len, body_len;
	char head[HEAD_MOST], body[BODY_MOST];
};

struct owner {
	struct http http;                /* first */
	struct transfer_request rq;
	/* what it does */
	bool stop_at_head, pause_at_head, again;
	size_t stop_at_bytes, pause_at_bytes, stop_at_upload, pause_at_upload;     /* the nth time, from 1; 0: never */
	struct slice upload;
	size_t upload_piece;             /* at most so much at once; 0: all there is room for */
	/* what became of it */
	size_t n_bytes, n_uploads, uploaded;
	bool over;                       /* nothing may follow */
	const char *wrong;
	struct heard heard;              /* last: its texts are not cleared */
};

static struct peers peers;
static struct owner it;

static const struct http_ops ops;

static inline void call(struct owner *o)
{
	if (o->over && !o->wrong)
		o->wrong = "called after its end";
}

static inline void stop(struct owner *o)
{
	http_stop(&o->http);
	o->over = true;
}

static inline void on_head(struct http *h, int status)
{
	struct owner *o = (struct owner *)h;

	call(o);
	if ((o->heard.heads++ || o->n_bytes) && !o->wrong)
		o->wrong = "a head that is not the first";
	o->heard.status = status;
	o->heard.head_len = h->head.len;
	if (h->head.len)
		memcpy(o->heard.head, h->head.at, h->head.len);
	if (o->stop_at_head)
		stop(o);
	else if (o->pause_at_head)
		http_pause(h);
}

static inline void on_bytes(struct http *h, struct slice bytes)
{
	struct owner *o = (struct owner *)h;

	call(o);
	if (!o->heard.heads && !o->wrong)
		o->wrong = "bytes before the head";
	if (o->heard.body_len + bytes.len > BODY_MOST) {
		o->wrong = "too many bytes";
		return;
	}
	memcpy(o->heard.body + o->heard.body_len, bytes.at, bytes.len);
	o->heard.body_len += bytes.len;
	o->n_bytes++;
	if (o->n_bytes == o->stop_at_bytes)
		stop(o);
	else if (o->n_bytes == o->pause_at_bytes)
		http_pause(h);
}

static inline size_t on_upload(struct http *h, char *to, size_t max)
{
	struct owner *o = (struct owner *)h;
	size_t n = o->upload.len - o->uploaded;

	call(o);
	if (++o->n_uploads == o->stop_at_upload) {
		stop(o);
		return 0;
	}
	if (o->n_uploads == o->pause_at_upload)
		return UPLOAD_PAUSE;
	if (o->rq.upload_length >= 0 && max > (size_t)o->rq.upload_length - o->uploaded && !o->wrong)
		o->wrong = "asked for more than was announced";
	n = o->upload_piece && n > o->upload_piece ? o->upload_piece : n;
	n = n < max ? n : max;
	if (n)
		memcpy(to, o->upload.at + o->uploaded, n);
	o->uploaded += n;
	return n;
}

static inline void on_end(struct http *h, enum err e)
{
	struct owner *o = (struct owner *)h;

	call(o);
	if (o->again) {                  /* as upstream.c does, with another upstream */
		o->again = false;
		assert_int_equal(http_start(h, &peers, &peers.loop, 1, &o->rq, &ops), ERR_OK);
		return;
	}
	o->heard.ends++;
	o->heard.end = e;
	o->over = true;
	http_stop(h);
}

static const struct http_ops ops = { .on_head = on_head, .on_bytes = on_bytes, .on_upload = on_upload, .on_end = on_end };

/* A world with nothing in it yet but one request. */
static inline void prepare(const char *method)
{
	http_fini(&it.http);
	script_reset(&peers);
	memset(&it, 0, offsetof(struct owner, heard));
	memset(&it.heard, 0, offsetof(struct heard, head));
	it.rq = (struct transfer_request){ .method = method, .target = "/api/x", .connect_ms = CONNECT_MS };
}

static inline void start(void)
{
	assert_int_equal(http_start(&it.http, &peers, &peers.loop, 0, &it.rq, &ops), ERR_OK);
	assert_true(it.heard.heads + it.heard.ends == 0 && it.n_uploads == 0);     /* it never calls back at once */
}

static inline void expect_clean(void)
{
	if (it.wrong || peers.wrong)
		fail_msg("%s", it.wrong ? it.wrong : peers.wrong);
	if (it.over) {
		assert_null(peers.lent);
		assert_int_equal(peers.kept + peers.closed, peers.taken + peers.dialled);
	}
}

static inline void run(void)
{
	start();
	script_run(&peers);
	expect_clean();
}

static inline void expect_end(enum err e)
{
	expect_clean();
	assert_int_equal(it.heard.ends, 1);
	assert_string_equal(err_info[it.heard.end].name, err_info[e].name);
}

static inline struct slice body(void)
{
	return slice_of(it.heard.body, it.heard.body_len);
}

static inline void expect_text(const char *what, struct slice got, struct slice want)
{
	if (!slice_is(got, want))
		fail_msg("%s: '%.*s' where '%.*s' was due", what, (int)got.len, got.at, (int)want.len, want.at);
}

static inline void in_pieces(size_t n, const size_t *pieces)
{
	memcpy(peers.peer[0].piece, pieces, n * sizeof *pieces);
	peers.peer[0].n_pieces = n;
}
#define IN_PIECES(...) in_pieces(sizeof (size_t[]){ __VA_ARGS__ } / sizeof(size_t), (size_t[]){ __VA_ARGS__ })

/* cmocka's: leaves nothing behind. */
static inline int finish(void **state)
{
	(void)state;
	prepare("GET");
	return 0;
}

#endif
