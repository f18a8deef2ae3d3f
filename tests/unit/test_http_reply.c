/* uses: proxy/http.c proxy/base/buf.c proxy/base/err.c proxy/base/log.c proxy/base/loop.c */
/* libs: -luv -lhttp_parser -lpthread */
/* Replies told by http.c over scripted connections: whole, cut, broken off and damaged at every byte; and an owner that stops
 * or pauses. */
#include "tests/unit/http_world.h"

#include <stdio.h>

static bool same(const struct heard *a, const struct heard *b)
{
	return a->heads == b->heads && a->ends == b->ends && a->status == b->status && a->end == b->end &&
	       slice_is(slice_of(a->head, a->head_len), slice_of(b->head, b->head_len)) &&
	       slice_is(slice_of(a->body, a->body_len), slice_of(b->body, b->body_len));
}

static void keep_heard(struct heard *kept)
{
	memcpy(kept, &it.heard, offsetof(struct heard, head));
	memcpy(kept->head, it.heard.head, it.heard.head_len);
	memcpy(kept->body, it.heard.body, it.heard.body_len);
}

/* ---- replies ---- */

static const struct reply {
	const char *name, *method, *bytes;
	int status;
	const char *head, *body;         /* head NULL: not looked at */
	bool closes, until_close;
} replies[] = {
	{ "length", "GET", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
	  200, "Content-Type:application/json\nContent-Length:5", "hello", false, false },
	{ "length 0", "POST", "HTTP/1.1 500 Oh no\r\ncontent-length:0\r\n\r\n", 500, "content-length:0", "", false, false },
	{ "chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n",
	  200, "Transfer-Encoding:chunked\nX-A:1", "abc0123456789", false, false },
	{ "chunked, extensions and trailers", "POST",
	  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c=\"d\"\r\nabc\r\n2 ; x\r\nde\r\n0;last\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
	  200, "Transfer-Encoding:chunked", "abcde", false, false },
	{ "chunked, empty", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "Transfer-Encoding:chunked", "",
	  false, false },
	{ "chunked, to be closed", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n",
	  200, "Transfer-Encoding:chunked\nConnection:close", "a", true, false },
	{ "until close", "GET", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nas it comes", 200, "Content-Type:text/plain",
	  "as it comes", true, true },
	{ "until close, empty", "GET", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", 200, "A:b", "", true, true },
	{ "1.0 until close", "GET", "HTTP/1.0 200 OK\r\nA: b\r\n\r\nold", 200, "A:b", "old", true, true },
	{ "1.0 with a length", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", 200, "Content-Length:3", "old", true, false },
	{ "1.0 kept", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold", 200,
	  "Connection:keep-alive\nContent-Length:3", "old", false, false },
	{ "204", "DELETE", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", 204, "X-A:1", "", false, false },
	{ "304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304, "ETag:\"x\"", "", false, false },
	{ "HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", 200, "Content-Length:12345", "", false, false },
	{ "HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "Transfer-Encoding:chunked", "", false, false },
	{ "HEAD, no length", "HEAD", "HTTP/1.1 404 Not Found\r\n\r\n", 404, "", "", false, false },
	{ "interim replies", "POST",
	  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Early: 1\r\n\r\n"
	  "HTTP/1.1 200 OK\r\nX-Late: 1\r\nContent-Length: 2\r\n\r\nok", 200, "X-Late:1\nContent-Length:2", "ok", false, false },
	{ "empty value", "GET", "HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Blank:   \r\nX-A: b  c\r\nContent-Length: 1\r\n\r\nx", 200, NULL, "x",
	  false, false },
	{ "folded", "GET", "HTTP/1.1 200 OK\r\nX-Fold: a\r\n b\r\n\tc\r\nContent-Length: 1\r\n\r\nx", 200, NULL, "x", false, false },
	{ "bare LF", "GET", "HTTP/1.1 200 OK\nX-A: 1\nContent-Length: 3\n\nabc", 200, "X-A:1\nContent-Length:3", "abc", false, false },
	{ "no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, "Content-Length:1", "x", false, false },
	{ "empty lines before it", "GET", "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "Content-Length:1", "x", false, false },
};
enum { REPLIES = sizeof replies / sizeof *replies };

static void prepare_reply(const struct reply *r, size_t len, int then)
{
	prepare(r->method);
	peers.peer[0].reply = slice_of(r->bytes, len);
	peers.peer[0].then = then;
}

static void replies_are_told_whole(void **state)
{
	(void)state;
	for (const struct reply *r = replies; r < replies + REPLIES; r++) {
		prepare_reply(r, strlen(r->bytes), r->until_close ? SCRIPT_EOF : SCRIPT_STAYS);
		run();
		if (it.heard.heads != 1 || it.heard.ends != 1 || it.heard.end || it.heard.status != r->status)
			fail_msg("%s: %d heads, %d ends, status %d, %s", r->name, it.heard.heads, it.heard.ends, it.heard.status,
			         err_info[it.heard.end].name);
		if (r->head)
			expect_text(r->name, slice_of(it.heard.head, it.heard.head_len), slice_text(r->head));
		expect_text(r->name, body(), slice_text(r->body));
		expect_text("the head at the end", buf_slice(&it.http.head), slice_of(it.heard.head, it.heard.head_len));
		if (peers.peer[0].kept == (r->closes || r->until_close))
			fail_msg("%s: %s", r->name, peers.peer[0].kept ? "kept" : "closed");
	}
}

/* Every two cuts, every byte by itself, and a wakening with nothing to read in between. */
static void cut_anywhere_a_reply_is_the_same(void **state)
{
	static struct heard whole;

	(void)state;
	for (const struct reply *r = replies; r < replies + REPLIES; r++) {
		size_t len = strlen(r->bytes);
		int then = r->until_close ? SCRIPT_EOF : SCRIPT_STAYS;
		prepare_reply(r, len, then);
		run();
		bool kept = peers.peer[0].kept;
		keep_heard(&whole);
		for (size_t first = 1; first <= len; first++) {
			for (size_t second = 0; second <= len - first; second++) {
				prepare_reply(r, len, then);
				IN_PIECES(first, second, SIZE_MAX);
				run();
				if (!same(&it.heard, &whole) || peers.peer[0].kept != kept)
					fail_msg("%s: cut at %zu and %zu", r->name, first, first + second);
			}
		}
		prepare_reply(r, len, then);
		IN_PIECES(1, 0);
		run();
		if (!same(&it.heard, &whole) || peers.peer[0].kept != kept)
			fail_msg("%s: byte by byte", r->name);
	}
}

static size_t head_of(const char *bytes)
{
	const char *end = strstr(bytes, "\r\n\r\n");

	return end ? (size_t)(end - bytes) + 4 : 0;
}

static void broken_off_anywhere_a_reply_ends_once(void **state)
{
	static const int thens[] = { SCRIPT_EOF, ECONNRESET, EPROTO };

	(void)state;
	for (const struct reply *r = replies; r < replies + REPLIES; r++) {
		size_t len = strlen(r->bytes);
		for (size_t at = 0; at <= len; at++) {
			for (size_t t = 0; t < sizeof thens / sizeof *thens; t++) {
				prepare_reply(r, at, thens[t]);
				if (at % 2)
					IN_PIECES(1);
				run();
				bool whole = r->until_close ? at >= head_of(r->bytes) && thens[t] == SCRIPT_EOF : at == len;
				if (it.heard.ends != 1 || it.heard.end != (whole ? ERR_OK : ERR_UPSTREAM_BROKE))
					fail_msg("%s: of %zu bytes %zu, then %d: %d ends, %s", r->name, len, at, thens[t], it.heard.ends,
					         err_info[it.heard.end].name);
				assert_int_equal(peers.dialled, 1);
			}
		}
	}
}

static void damaged_anywhere_a_reply_ends_once(void **state)
{
	static const unsigned char hostile[] = { 0, '\t', '\n', '\r', ' ', ':', ';', ',', '-', '0', '1', '9', 'f', 'H', 0x7f, 0x80, 0xff };
	static char bytes[1024];
	static struct heard whole;

	(void)state;
	for (const struct reply *r = replies; r < replies + REPLIES; r++) {
		size_t len = strlen(r->bytes);
		memcpy(bytes, r->bytes, len);
		for (size_t at = 0; at < len; at++) {
			for (size_t k = 0; k < sizeof hostile; k++) {
				bytes[at] = (char)hostile[k];
				for (size_t pieces = 0; pieces < 2; pieces++) {
					prepare_reply(r, len, SCRIPT_EOF);
					peers.peer[0].reply.at = bytes;
					if (pieces)
						IN_PIECES(1);
					run();
					if (it.heard.ends != 1 || (it.heard.end && it.heard.end != ERR_UPSTREAM_BROKE && it.heard.heads))
						fail_msg("%s: byte %zu as %#x: %d ends, %s", r->name, at, hostile[k], it.heard.ends,
						         err_info[it.heard.end].name);
					if (!pieces)
						keep_heard(&whole);
					else if (!same(&whole, &it.heard))
						fail_msg("%s: byte %zu as %#x: another thing byte by byte", r->name, at, hostile[k]);
				}
			}
			bytes[at] = r->bytes[at];
		}
	}
}

/* RFC 9112, 6.3: no interim reply, no 204 and no 304 has a body, whatever its head says. */
static void replies_without_a_body_have_none(void **state)
{
	static const struct { const char *bytes; int status; const char *body; bool kept; } cases[] = {
		{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "", true },
		{ "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, "", true },
		{ "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, "", true },
		{ "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, "", true },
		{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", 304, "", false },
		{ "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true },
		{ "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true },
	};
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		prepare("GET");
		peers.peer[0].reply = slice_text(cases[i].bytes);
		start();
		script_run(&peers);
		if (it.wrong || peers.wrong || it.heard.ends != 1 || it.heard.end || it.heard.status != cases[i].status ||
		    !slice_is(body(), slice_text(cases[i].body)) || peers.peer[0].kept != cases[i].kept) {
			print_message("case %zu: %d ends (%s), status %d, body '%.*s', %s\n", i, it.heard.ends, err_info[it.heard.end].name,
			              it.heard.status, (int)it.heard.body_len, it.heard.body, it.wrong ? it.wrong : "");
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

/* RFC 9112, 5.2: who reads a folded line puts a space where it was folded. */
static void folded_values_keep_their_words_apart(void **state)
{
	const struct slice bytes = SLICE("HTTP/1.1 200 OK\r\nX-Fold: a\r\n b\r\nX-Next: c\r\nContent-Length: 0\r\n\r\n");

	(void)state;
	for (size_t at = 0; at < bytes.len; at++) {
		prepare("GET");
		peers.peer[0].reply = bytes;
		if (at)
			IN_PIECES(at, SIZE_MAX);
		run();
		expect_end(ERR_OK);
		expect_text("head", slice_of(it.heard.head, it.heard.head_len), SLICE("X-Fold:a b\nX-Next:c\nContent-Length:0"));
	}
}

static void what_is_no_reply_is_babble(void **state)
{
	static const struct { const char *bytes; enum err end; } bad[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5a\r\n\r\nhello", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 101 Switching Protocols\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 0 Low\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 2000 High\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 OK\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "SSH-2.0-OpenSSH_9\r\n", ERR_UPSTREAM_BABBLE },
		{ "GET / HTTP/1.1\r\n\r\n", ERR_UPSTREAM_BABBLE },
		{ "\x16\x03\x01", ERR_UPSTREAM_BABBLE },
		{ "<html>", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 100 Continue\r\n\r\ngarbage", ERR_UPSTREAM_BABBLE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ERR_UPSTREAM_BROKE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n\r\n", ERR_UPSTREAM_BROKE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", ERR_UPSTREAM_BROKE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\na", ERR_UPSTREAM_BROKE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n", ERR_UPSTREAM_BROKE },
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		for (int pieces = 0; pieces < 2; pieces++) {
			prepare("GET");
			peers.peer[0].reply = slice_text(bad[i].bytes);
			if (pieces)
				IN_PIECES(1);
			run();
			if (it.heard.ends != 1 || it.heard.end != bad[i].end || it.heard.heads != (bad[i].end == ERR_UPSTREAM_BROKE))
				fail_msg("%s: %d heads, %d ends, %s", bad[i].bytes, it.heard.heads, it.heard.ends, err_info[it.heard.end].name);
			assert_true(peers.peer[0].closed && peers.dialled == 1);
		}
	}
}

/* RFC 9110, 5.5: dangerous, for whoever takes it for the end of a text. */
static void no_nul_is_passed_on(void **state)
{
	static const char first[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: ", value[] = "bcd";
	char bytes[128];

	(void)state;
	for (size_t at = 0; at < sizeof value; at++) {
		for (int pieces = 0; pieces < 2; pieces++) {
			size_t len = (size_t)snprintf(bytes, sizeof bytes, "%s%s\r\n\r\n", first, value);
			if (at < sizeof value - 1)
				bytes[sizeof first - 1 + at] = 0;
			prepare("GET");
			peers.peer[0].reply = slice_of(bytes, len);
			if (pieces)
				IN_PIECES(1);
			run();
			expect_end(at < sizeof value - 1 ? ERR_UPSTREAM_BABBLE : ERR_OK);
		}
	}
}

static void a_head_has_a_limit(void **state)
{
	static const char first[] = "HTTP/1.1 200 OK\r\nX:", last[] = "\r\n\r\n";
	static char bytes[UPSTREAM_HEAD_BYTES + 64];
	static const struct { size_t value; bool fits; } cases[] = {
		{ UPSTREAM_HEAD_BYTES - 2, true }, { UPSTREAM_HEAD_BYTES - 1, false }, { UPSTREAM_HEAD_BYTES, false },
	};
	(void)state;
	for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		size_t value = cases[i / 2].value, len = sizeof first - 1 + value + sizeof last - 1;
		prepare("HEAD");
		it.rq.bulk = i % 2;
		memcpy(bytes, first, sizeof first - 1);
		memset(bytes + sizeof first - 1, 'v', value);
		memcpy(bytes + sizeof first - 1 + value, last, sizeof last - 1);
		peers.peer[0].reply = slice_of(bytes, len);
		run();
		expect_end(cases[i / 2].fits ? ERR_OK : ERR_UPSTREAM_BABBLE);
		if (cases[i / 2].fits)
			assert_int_equal(it.heard.head_len, UPSTREAM_HEAD_BYTES);
	}
	/* many small ones; and those of a head that is not meant to be kept count for themselves alone */
	struct buf many;
	buf_init(&many, 1 << 20);
	for (int interim = 1; interim >= 0; interim--) {
		many.len = 0;
		for (int n = 0; n < (interim ? 40 : 1); n++) {
			assert_int_equal(buf_put(&many, interim ? SLICE("HTTP/1.1 103 E\r\n") : SLICE("HTTP/1.1 200 OK\r\n")), ERR_OK);
			for (int i = 0; i < (interim ? 400 : 10000); i++)
				assert_int_equal(buf_put(&many, SLICE("A-Name: v\r\n")), ERR_OK);
			assert_int_equal(buf_put(&many, SLICE("\r\n")), ERR_OK);
		}
		assert_int_equal(buf_put(&many, SLICE("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), ERR_OK);
		prepare("GET");
		peers.peer[0].reply = buf_slice(&many);
		run();
		expect_end(interim ? ERR_OK : ERR_UPSTREAM_BABBLE);
	}
	buf_fini(&many);
}

/* What is looked for among all of a head's headers, or among the names in Connection, costs their product. */
static void a_head_has_few_headers_and_names(void **state)
{
	static const struct { int headers, names; bool fits; } cases[] = {
		{ UPSTREAM_FIELDS_MOST - 2, 1, true }, { UPSTREAM_FIELDS_MOST - 1, 1, false },
		{ 1, CONNECTION_VALUE_MOST / 2, true }, { 1, CONNECTION_VALUE_MOST / 2 + 1, false },
	};
	struct buf head;

	(void)state;
	buf_init(&head, 1 << 20);
	for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
		head.len = 0;
		assert_int_equal(buf_put(&head, SLICE("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection:")), ERR_OK);
		for (int i = 0; i < cases[c].names; i++)
			assert_int_equal(buf_put(&head, i ? SLICE(",x") : SLICE("ab")), ERR_OK);
		assert_int_equal(buf_put(&head, SLICE("\r\n")), ERR_OK);
		for (int i = 0; i < cases[c].headers; i++)
			assert_int_equal(buf_put(&head, SLICE("b:\r\n")), ERR_OK);
		assert_int_equal(buf_put(&head, SLICE("\r\n")), ERR_OK);
		prepare("GET");
		peers.peer[0].reply = buf_slice(&head);
		run();
		expect_end(cases[c].fits ? ERR_OK : ERR_UPSTREAM_BABBLE);
	}
	buf_fini(&head);
}

static void a_download_comes_in_large_pieces(void **state)
{
	static char bytes[100000];
	int head = snprintf(bytes, sizeof bytes, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof bytes - 100);
	size_t n_bytes[2];

	(void)state;
	memset(bytes + head, 'd', sizeof bytes - (size_t)head);
	for (int bulk = 0; bulk < 2; bulk++) {
		prepare("GET");
		it.rq.bulk = bulk;
		peers.peer[0].reply = slice_of(bytes, (size_t)head + sizeof bytes - 100);
		run();
		expect_end(ERR_OK);
		assert_int_equal(it.heard.body_len, sizeof bytes - 100);
		n_bytes[bulk] = it.n_bytes;
	}
	assert_true(n_bytes[1] < n_bytes[0]);
}

/* ---- stopping and pausing ---- */

#define FIVE "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n"

static void stopped_inside_a_call_nothing_follows(void **state)
{
	(void)state;
	for (size_t at = 0; at <= 5; at++) {
		for (size_t piece = 0; piece < sizeof FIVE; piece++) {
			prepare("GET");
			it.stop_at_head = at == 0;
			it.stop_at_bytes = at;
			peers.peer[0].reply = SLICE(FIVE);
			peers.peer[0].then = SCRIPT_EOF;
			if (piece)
				IN_PIECES(piece);
			run();
			assert_true(it.over && peers.peer[0].closed);
			assert_int_equal(it.heard.ends, 0);
			assert_int_equal(it.heard.heads, 1);
			expect_text("body", body(), slice_of("abcde", at));
			expect_text("head", buf_slice(&it.http.head), SLICE("Transfer-Encoding:chunked"));      /* it stays */
			http_stop(&it.http);     /* once more is nothing */
			http_pause(&it.http);
			http_resume(&it.http);
			http_upload_more(&it.http);
			expect_clean();
		}
	}
	/* while it is made, and while it asks for a body */
	prepare("GET");
	start();
	stop(&it);
	assert_false(script_turn(&peers));
	expect_clean();
	for (size_t at = 1; at <= 4; at++) {
		for (int chunked = 0; chunked < 2; chunked++) {
			prepare("PUT");
			it.rq.upload = true;
			it.upload = SLICE("abcd");
			it.upload_piece = 1;
			it.rq.upload_length = chunked ? -1 : 4;
			it.stop_at_upload = at;
			run();
			assert_true(it.over && peers.peer[0].closed && it.heard.ends == 0 && it.n_uploads == at);
		}
	}
}

static void paused_it_is_not_read(void **state)
{
	(void)state;
	for (size_t at = 0; at <= 5; at++) {
		prepare("GET");
		it.pause_at_head = at == 0;
		it.pause_at_bytes = at;
		peers.peer[0].reply = SLICE(FIVE);
		IN_PIECES(1);
		run();
		if (at == 0)
			assert_int_equal(it.n_bytes, 0);
		assert_int_equal(it.n_bytes, at);
		assert_int_equal(it.heard.ends, 0);
		assert_int_equal(peers.peer[0].watched, 0);
		peers.loop.uv.time += 5000;
		http_resume(&it.http);
		assert_int_equal(peers.peer[0].watched, PEER_READ);
		assert_int_equal(it.http.last_sign, loop_now(&peers.loop));
		script_run(&peers);
		expect_end(ERR_OK);
		expect_text("body", body(), SLICE("abcde"));
		assert_true(peers.peer[0].kept);
	}
	/* what was read already still comes, its end too */
	prepare("GET");
	it.pause_at_bytes = 2;
	peers.peer[0].reply = SLICE(FIVE);
	run();
	expect_end(ERR_OK);
	expect_text("body", body(), SLICE("abcde"));
	/* before it is made */
	prepare("GET");
	peers.peer[0].reply = SLICE(FIVE);
	start();
	http_pause(&it.http);
	script_run(&peers);
	expect_clean();
	assert_true(peers.peer[0].n_written > 0 && peers.peer[0].reply_at == 0 && peers.peer[0].watched == 0);
	http_resume(&it.http);
	script_run(&peers);
	expect_end(ERR_OK);
}

static void paused_it_still_writes(void **state)
{
	(void)state;
	for (int chunked = 0; chunked < 2; chunked++) {
		prepare("POST");
		it.rq.upload = true;
		it.rq.upload_length = chunked ? -1 : 10;
		it.upload = SLICE("0123456789");
		it.upload_piece = 3;
		it.pause_at_head = true;
		peers.peer[0].take = 1;
		peers.peer[0].waits = 20;
		peers.peer[0].reply = SLICE("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
		IN_PIECES(1);
		start();
		while (script_turn(&peers) && !it.heard.heads)
			;
		assert_int_equal(it.heard.heads, 1);
		assert_int_equal(peers.peer[0].watched, PEER_WRITE);
		assert_false(http_sent(&it.http));
		script_run(&peers);
		assert_int_equal(it.uploaded, 10);
		assert_int_equal(peers.peer[0].watched, 0);
		assert_true(http_sent(&it.http));
		assert_int_equal(it.heard.ends, 0);
		http_resume(&it.http);
		script_run(&peers);
		expect_end(ERR_OK);
		assert_true(peers.peer[0].kept);
	}
}

static void signs_of_life_are_noted(void **state)
{
	(void)state;
	prepare("POST");
	it.rq.upload = true;
	it.rq.upload_length = -1;
	it.upload = SLICE("ab");
	it.upload_piece = 1;
	it.pause_at_upload = 2;
	peers.peer[0].reply = SLICE("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	peers.peer[0].waits = SIZE_MAX;
	IN_PIECES(1);
	start();
	assert_int_equal(it.http.last_sign, loop_now(&peers.loop));
	peers.loop.uv.time += 10;
	script_run(&peers);                      /* it asks for a body */
	assert_int_equal(it.http.last_sign, loop_now(&peers.loop));
	peers.loop.uv.time += 10;
	http_upload_more(&it.http);
	assert_int_equal(it.http.last_sign, loop_now(&peers.loop));
	script_run(&peers);
	for (peers.peer[0].waits = 0; !it.heard.ends;) {
		peers.loop.uv.time += 10;
		assert_true(script_turn(&peers));
		assert_int_equal(it.http.last_sign, loop_now(&peers.loop));
	}
	expect_end(ERR_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(replies_are_told_whole, finish),
		cmocka_unit_test_teardown(cut_anywhere_a_reply_is_the_same, finish),
		cmocka_unit_test_teardown(broken_off_anywhere_a_reply_ends_once, finish),
		cmocka_unit_test_teardown(damaged_anywhere_a_reply_ends_once, finish),
		cmocka_unit_test_teardown(replies_without_a_body_have_none, finish),
		cmocka_unit_test_teardown(folded_values_keep_their_words_apart, finish),
		cmocka_unit_test_teardown(what_is_no_reply_is_babble, finish),
		cmocka_unit_test_teardown(no_nul_is_passed_on, finish),
		cmocka_unit_test_teardown(a_head_has_a_limit, finish), cmocka_unit_test_teardown(a_head_has_few_headers_and_names, finish),
		cmocka_unit_test_teardown(a_download_comes_in_large_pieces, finish),
		cmocka_unit_test_teardown(stopped_inside_a_call_nothing_follows, finish),
		cmocka_unit_test_teardown(paused_it_is_not_read, finish),
		cmocka_unit_test_teardown(paused_it_still_writes, finish),
		cmocka_unit_test_teardown(signs_of_life_are_noted, finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
