/* uses: proxy/http.c proxy/base/buf.c proxy/base/err.c proxy/base/log.c proxy/base/loop.c */
/* libs: -luv -lhttp_parser -lpthread */
/* fuzz_reply.c - bytes as an upstream's reply, whole, byte by byte and in pieces the bytes themselves choose: each time the
 * same is told of it, its end once and last. To a GET and to a HEAD; ended by the upstream, broken off, and staying. */
#include <stdio.h>

#include "tests/unit/peer_script.h"
#include "proxy/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MOST = 64 << 10 };
enum way { WHOLE, BYTES, PIECES, USED, WAYS };

struct told {
	struct http http;                /* first */
	int heads, ends, status;
	enum err end;
	bool kept;
	struct buf head, body;
};

static struct peers peers;

static void check(int ok)
{
	if (!ok)
		abort();
}

static void on_head(struct http *h, int status)
{
	struct told *t = (struct told *)h;

	check(t->heads++ == 0 && t->ends == 0 && t->body.len == 0 && status >= 200);
	t->status = status;
	check(!buf_put(&t->head, buf_slice(&h->head)));
}

static void on_bytes(struct http *h, struct slice bytes)
{
	struct told *t = (struct told *)h;

	check(t->heads == 1 && t->ends == 0 && bytes.len);
	check(!buf_put(&t->body, bytes));
}

static size_t on_upload(struct http *h, char *to, size_t max)
{
	(void)h;
	(void)to;
	(void)max;
	abort();                         /* nothing is streamed */
}

static void on_end(struct http *h, enum err e)
{
	struct told *t = (struct told *)h;

	check(t->ends++ == 0);
	check(e == ERR_OK || e == ERR_UPSTREAM_BROKE || e == ERR_UPSTREAM_BABBLE);
	check(e != ERR_OK || t->heads);
	check(e != ERR_UPSTREAM_BABBLE || !t->heads);
	t->end = e;
}

static void ask(struct told *t, const char *method, struct slice reply, int then, enum way way)
{
	static const struct http_ops ops = { .on_head = on_head, .on_bytes = on_bytes, .on_upload = on_upload, .on_end = on_end };
	const struct transfer_request rq = { .method = method, .target = "/", .bulk = way == WHOLE };
	struct peer *peer = &peers.peer[way == USED];    /* the used one ends without a word first */

	script_reset(&peers);
	memset(t, 0, sizeof *t);
	buf_init(&t->head, BODY_MOST);
	buf_init(&t->body, BODY_MOST);
	peers.idle = way == USED;
	peers.peer[0].then = SCRIPT_EOF;
	peer->reply = reply;
	peer->then = then;
	peer->n_pieces = way == BYTES ? 1 : way == PIECES ? SCRIPT_PIECES : 0;
	for (size_t i = 0; i < peer->n_pieces; i++)      /* some are 0: a wakening for nothing */
		peer->piece[i] = way == BYTES || i == 0 ? 1 : (unsigned char)reply.at[i * 31 % reply.len] % 23;
	check(!http_start(&t->http, &peers, &peers.loop, 0, &rq, &ops));
	script_run(&peers);
	if (!t->ends)
		check(then == SCRIPT_STAYS);
	t->kept = peer->kept;
	http_stop(&t->http);
	check(!peers.lent && !peers.wrong && peers.kept + peers.closed == peers.taken + peers.dialled);
	check(peers.dialled == 1);
}

static void done(struct told *t)
{
	http_fini(&t->http);
	buf_fini(&t->head);
	buf_fini(&t->body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const methods[] = { "GET", "HEAD" };
	static const int thens[] = { SCRIPT_EOF, ECONNRESET, SCRIPT_STAYS };
	struct told whole, other;

	if (!size)
		return 0;
	char *copy = malloc(size);       /* just that long, so that ASan sees a look past the end */
	memcpy(copy, data, size);
	for (size_t m = 0; m < 2; m++) {
		for (size_t i = 0; i < sizeof thens / sizeof *thens; i++) {
			ask(&whole, methods[m], slice_of(copy, size), thens[i], WHOLE);
			for (enum way way = BYTES; way < WAYS; way++) {
				ask(&other, methods[m], slice_of(copy, size), thens[i], way);
				check(other.heads == whole.heads && other.status == whole.status);
				check(other.ends == whole.ends && other.end == whole.end);
				check(slice_is(buf_slice(&other.head), buf_slice(&whole.head)));
				check(slice_is(buf_slice(&other.body), buf_slice(&whole.body)));
				/* bytes after a reply are not seen when they come later */
				check(other.kept || !whole.kept);
				done(&other);
			}
			check(m == 0 || whole.body.len == 0);
			check((whole.status != 204 && whole.status != 304) || whole.body.len == 0);
			done(&whole);
		}
	}
	free(copy);
	script_reset(&peers);
	return 0;
}
