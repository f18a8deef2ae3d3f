/* uses: proxy/http.c proxy/base/buf.c proxy/base/err.c proxy/base/log.c proxy/base/loop.c */
/* libs: -luv -lhttp_parser -lpthread */
/* Requests written by http.c over scripted connections: in pieces of every size, on connections tried afresh, kept and closed,
 * and with every allocation failing once. */
#include "tests/unit/http_world.h"
#include "tests/unit/torture.h"

#include <stdio.h>

#define HOP "X-Ollacache-Hop: 0011223344556677\r\n"
#define UP "Host: up.example:11434\r\n" HOP

/* ---- requests ---- */

static const struct header two[] = { { .name = "Accept", .value = "*/*" }, { .name = "X-Empty", .value = "" } };

static const struct sending {
	const char *method, *target;
	size_t n_headers;
	const char *body;
	bool upload;
	int64_t length;
	size_t piece;
	const char *want;
} requests[] = {
	{ "OPTIONS", "*", 0, NULL, false, 0, 0, "OPTIONS * HTTP/1.1\r\n" UP "\r\n" },
	{ "GET", "/", 0, NULL, false, 0, 0, "GET / HTTP/1.1\r\n" UP "\r\n" },
	{ "GET", "/api/tags?a=%20b&c", 2, NULL, false, 0, 0, "GET /api/tags?a=%20b&c HTTP/1.1\r\n" UP "Accept: */*\r\nX-Empty: \r\n\r\n" },
	{ "HEAD", "/x", 0, NULL, false, 0, 0, "HEAD /x HTTP/1.1\r\n" UP "\r\n" },
	{ "DELETE", "/x", 0, NULL, false, 0, 0, "DELETE /x HTTP/1.1\r\n" UP "\r\n" },
	{ "DELETE", "/x", 0, "", false, 0, 0, "DELETE /x HTTP/1.1\r\n" UP "Content-Length: 0\r\n\r\n" },
	{ "DELETE", "/x", 0, "{}", false, 0, 0, "DELETE /x HTTP/1.1\r\n" UP "Content-Length: 2\r\n\r\n{}" },
	{ "POST", "/x", 0, NULL, false, 0, 0, "POST /x HTTP/1.1\r\n" UP "Content-Length: 0\r\n\r\n" },
	{ "POST", "/x", 1, "", false, 0, 0, "POST /x HTTP/1.1\r\n" UP "Accept: */*\r\nContent-Length: 0\r\n\r\n" },
	{ "POST", "/x", 1, "hello", false, 0, 0, "POST /x HTTP/1.1\r\n" UP "Accept: */*\r\nContent-Length: 5\r\n\r\nhello" },
	{ "PUT", "/x", 0, "0123456789", true, 10, 0, "PUT /x HTTP/1.1\r\n" UP "Content-Length: 10\r\n\r\n0123456789" },
	{ "PUT", "/x", 0, "0123456789", true, 10, 3, "PUT /x HTTP/1.1\r\n" UP "Content-Length: 10\r\n\r\n0123456789" },
	{ "PUT", "/x", 0, "0123456789", true, 4, 3, "PUT /x HTTP/1.1\r\n" UP "Content-Length: 4\r\n\r\n0123" },
	{ "PUT", "/x", 0, "", true, 0, 0, "PUT /x HTTP/1.1\r\n" UP "Content-Length: 0\r\n\r\n" },
	{ "POST", "/x", 2, "0123456789abcdefXYZ", true, -1, 0,
	  "POST /x HTTP/1.1\r\n" UP "Accept: */*\r\nX-Empty: \r\nTransfer-Encoding: chunked\r\n\r\n13\r\n0123456789abcdefXYZ\r\n0\r\n\r\n" },
	{ "POST", "/x", 0, "0123456789", true, -1, 4,
	  "POST /x HTTP/1.1\r\n" UP "Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n4\r\n4567\r\n2\r\n89\r\n0\r\n\r\n" },
	{ "POST", "/x", 0, "", true, -1, 0, "POST /x HTTP/1.1\r\n" UP "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
};
enum { REQUESTS = sizeof requests / sizeof *requests };
#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define NO_CONTENT "HTTP/1.1 204 No Content\r\n\r\n"

static void prepare_request(const struct sending *r)
{
	prepare(r->method);
	it.rq.target = r->target;
	it.rq.headers = two;
	it.rq.n_headers = r->n_headers;
	it.rq.upload = r->upload;
	it.rq.upload_length = r->length;
	if (r->upload)
		it.upload = slice_text(r->body);
	else
		it.rq.body = slice_text(r->body);
	it.upload_piece = r->piece;
	for (size_t i = 0; i < SCRIPT_PEERS; i++) {
		peers.peer[i].reply = SLICE(NO_CONTENT);
		peers.peer[i].waits = strlen(r->want);
	}
}

static void expect_sent(const struct sending *r, size_t i)
{
	expect_end(ERR_OK);
	expect_text("request", script_written(&peers, i), slice_text(r->want));
	assert_true(http_sent(&it.http) || it.over);
	assert_true(peers.peer[i].kept);
}

static void requests_are_written_to_the_byte(void **state)
{
	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t take = 0; take <= strlen(r->want); take++) {
			for (int used = 0; used < 2; used++) {
				for (int stutters = 0; stutters < 2; stutters++) {
					prepare_request(r);
					peers.idle = (size_t)used;
					peers.peer[0].take = take;
					peers.peer[0].stutters = stutters;
					run();
					expect_sent(r, 0);
					assert_int_equal(peers.taken, used);
					assert_int_equal(peers.dialled, !used);
					if (!used)
						assert_int_equal(peers.dial_ms, CONNECT_MS);
				}
			}
		}
	}
}

/* Refused for a while at every byte, it goes on when there is room again. */
static void waits_for_room(void **state)
{
	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t room = 0; room < strlen(r->want); room++) {
			prepare_request(r);
			peers.peer[0].room = room;
			run();
			assert_int_equal(it.heard.ends, 0);
			assert_int_equal(peers.peer[0].n_written, room);
			assert_int_equal(peers.peer[0].watched, PEER_READ | PEER_WRITE);
			assert_false(http_sent(&it.http));
			peers.peer[0].room = SIZE_MAX;
			script_run(&peers);
			expect_sent(r, 0);
		}
	}
}

/* One that takes no more may yet tell why: it is not asked again and again, what comes from it decides. */
static void refused_for_good_it_waits_for_a_word(void **state)
{
	static const int refusals[] = { EPIPE, ECONNRESET, EPROTO };

	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t room = 0; room < strlen(r->want); room++) {
			for (int then = SCRIPT_EOF; then <= SCRIPT_STAYS; then++) {
				prepare_request(r);
				peers.peer[0].room = room;
				peers.peer[0].refusal = refusals[room % 3];
				run();
				assert_int_equal(it.heard.ends, 0);
				assert_int_equal(peers.peer[0].watched, PEER_READ);
				peers.peer[0].waits = 0;
				if (then == SCRIPT_EOF)
					peers.peer[0].reply.len = 0;
				peers.peer[0].then = then;
				script_run(&peers);
				expect_end(then == SCRIPT_EOF ? ERR_UPSTREAM_BROKE : ERR_OK);
				assert_true(peers.peer[0].closed);
			}
		}
	}
}

static void sent_is_told_when_it_has_left_and_an_answer_began(void **state)
{
	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		prepare_request(r);
		peers.peer[0].take = 1;
		IN_PIECES(1);
		start();
		assert_false(http_sent(&it.http));
		while (peers.peer[0].reply_at == 0 && script_turn(&peers))
			assert_true(!http_sent(&it.http) || peers.peer[0].reply_at);
		assert_true(http_sent(&it.http));
		script_run(&peers);
		expect_sent(r, 0);
	}
}

static void a_streamed_body_may_pause(void **state)
{
	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t at = 1; r->upload && at <= 4; at++) {
			for (size_t take = 0; take < 3; take++) {
				prepare_request(r);
				it.pause_at_upload = at;
				peers.peer[0].take = take;
				run();
				if (!it.heard.ends) {
					size_t written = peers.peer[0].n_written;
					assert_int_equal(it.n_uploads, at);
					assert_true(it.http.upload_paused && !http_sent(&it.http));
					assert_int_equal(peers.peer[0].watched, PEER_READ);
					http_upload_more(&it.http);
					http_upload_more(&it.http);
					assert_int_equal(peers.peer[0].n_written, written);      /* from the loop */
					assert_int_equal(it.n_uploads, at);
					assert_int_equal(peers.peer[0].watched, PEER_READ | PEER_WRITE);
					script_run(&peers);
				}
				expect_sent(r, 0);
			}
		}
	}
}

static void a_large_body_goes_in_pieces(void **state)
{
	static char bytes[40000], want[41000];
	size_t head;

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)('a' + i % 26);
	for (int64_t length = -1; length <= 40000; length += 40001) {
		for (size_t take = 0; take < 20000; take += 7777) {
			prepare("PUT");
			it.rq.upload = true;
			it.rq.upload_length = length;
			it.upload = slice_of(bytes, sizeof bytes);
			head = (size_t)snprintf(want, sizeof want, "PUT /api/x HTTP/1.1\r\n" UP "%s\r\n\r\n",
			                        length < 0 ? "Transfer-Encoding: chunked" : "Content-Length: 40000");
			for (size_t at = 0, n; length < 0 && at < sizeof bytes; at += n) {
				n = sizeof bytes - at < 0x4000 ? sizeof bytes - at : 0x4000;
				head += (size_t)snprintf(want + head, sizeof want - head, "%zx\r\n", n);
				memcpy(want + head, bytes + at, n);
				head += n;
				head += (size_t)snprintf(want + head, sizeof want - head, "\r\n");
			}
			if (length < 0)
				head += (size_t)snprintf(want + head, sizeof want - head, "0\r\n\r\n");
			else
				memcpy(want + head, bytes, sizeof bytes), head += sizeof bytes;
			peers.peer[0].take = take;
			peers.peer[0].reply = SLICE(OK_REPLY);
			peers.peer[0].waits = head;
			run();
			expect_end(ERR_OK);
			assert_true(slice_is(script_written(&peers, 0), slice_of(want, head)));
			assert_true(peers.peer[0].kept);
		}
	}
	/* one that is there whole is taken from where it lies */
	prepare("POST");
	it.rq.body = slice_of(bytes, sizeof bytes);
	peers.peer[0].take = 7777;
	peers.peer[0].stutters = true;
	peers.peer[0].reply = SLICE(OK_REPLY);
	peers.peer[0].waits = sizeof bytes;
	run();
	struct slice sent = script_written(&peers, 0);
	assert_true(sent.len > sizeof bytes && slice_is(slice_of(sent.at + sent.len - sizeof bytes, sizeof bytes), it.rq.body));
}

static void a_body_shorter_than_said_breaks(void **state)
{
	(void)state;
	for (int64_t length = 1; length <= 20; length++) {
		for (size_t piece = 0; piece < 4; piece++) {
			for (int used = 0; used < 2; used++) {
				prepare("PUT");
				it.rq.upload = true;
				it.rq.upload_length = length;
				it.upload = slice_of("01234567890123456789", (size_t)length - 1);
				it.upload_piece = piece;
				peers.idle = (size_t)used;
				peers.peer[0].reply = SLICE(OK_REPLY);
				peers.peer[0].waits = SIZE_MAX;
				run();
				expect_end(ERR_UPSTREAM_BROKE);
				assert_true(peers.peer[0].closed);
				assert_int_equal(peers.n, 1);
			}
		}
	}
}

/* ---- once more, on a fresh connection ---- */

static void prepare_used(const struct sending *r, int then)
{
	prepare_request(r);
	peers.idle = 1;
	peers.peer[0].reply = (struct slice){ 0 };
	peers.peer[0].waits = 0;
	peers.peer[0].then = then;
}

static void a_used_one_that_ends_without_a_word_is_dialled_afresh(void **state)
{
	static const int thens[] = { SCRIPT_EOF, ECONNRESET };

	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t t = 0; t < 2; t++) {
			for (size_t room = 0; room <= strlen(r->want); room++) {
				for (int refusal = 0; refusal < 2; refusal++) {
					/* a streamed body: it ends before any of it was asked for */
					prepare_used(r, thens[t]);
					peers.peer[0].room = room;
					peers.peer[0].refusal = refusal ? EPIPE : EAGAIN;
					peers.peer[1].take = (room + 1) % 4;
					run();
					assert_true(peers.peer[0].closed);
					assert_int_equal(peers.dialled, 1);
					expect_sent(r, 1);
				}
			}
		}
	}
}

static void it_is_dialled_afresh_once(void **state)
{
	static const int thens[] = { SCRIPT_EOF, ECONNRESET };
	static const struct { enum err open; bool no_dial; enum err end; } fails[] = {
		{ ERR_UPSTREAM_DOWN, false, ERR_UPSTREAM_DOWN }, { ERR_NO_MEMORY, false, ERR_NO_MEMORY }, { ERR_OK, true, ERR_NO_MEMORY },
	};
	(void)state;
	for (size_t t = 0; t < 2; t++) {
		prepare_used(&requests[0], thens[t]);
		peers.idle = 3;          /* only a fresh one will do */
		peers.peer[1].reply = (struct slice){ 0 };
		peers.peer[1].waits = 0;
		peers.peer[1].then = thens[t];
		run();
		expect_end(ERR_UPSTREAM_BROKE);
		assert_int_equal(peers.taken, 1);
		assert_int_equal(peers.dialled, 1);
	}
	for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
		prepare_used(&requests[0], SCRIPT_EOF);
		peers.peer[1].open = fails[i].open;
		peers.no_dial = fails[i].no_dial;
		run();
		expect_end(fails[i].end);
		assert_int_equal(peers.taken, 1);
		assert_int_equal(peers.dialled, !fails[i].no_dial);
	}
	/* a fresh one is not */
	prepare_used(&requests[0], SCRIPT_EOF);
	peers.idle = 0;
	run();
	expect_end(ERR_UPSTREAM_BROKE);
	assert_int_equal(peers.dialled, 1);
}

static void not_afresh_once_a_word_has_come(void **state)
{
	static const int thens[] = { SCRIPT_EOF, ECONNRESET };
	static const char *const words[] = { "H", "\r", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nh" };

	(void)state;
	for (size_t i = 0; i < 2 * sizeof words / sizeof *words; i++) {
		prepare_used(&requests[0], thens[i % 2]);
		peers.peer[0].reply = slice_text(words[i / 2]);
		run();
		expect_end(ERR_UPSTREAM_BROKE);
		assert_int_equal(peers.dialled, 0);
	}
}

static void not_afresh_once_a_streamed_body_has_begun(void **state)
{
	static const int thens[] = { SCRIPT_EOF, ECONNRESET };

	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t i = 0; r->upload && i < 2; i++) {
			prepare_used(r, thens[i]);
			peers.peer[0].waits = (size_t)(strstr(r->want, "\r\n\r\n") + 4 - r->want);
			run();
			if (it.n_uploads || r->length == 0) {
				expect_end(ERR_UPSTREAM_BROKE);
				assert_int_equal(peers.dialled, 0);
			}
			assert_true(it.n_uploads || r->length == 0);
		}
	}
}

/* Nobody touches a connection that is not made. */
static void a_paused_body_is_asked_for_while_it_is_dialled_afresh(void **state)
{
	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (int early = 0; early < 3; early++) {
			if (!r->upload || r->length == 0)
				continue;
			prepare_used(r, SCRIPT_EOF);
			it.pause_at_upload = 1;
			peers.peer[0].waits = SIZE_MAX;
			run();
			assert_int_equal(it.n_uploads, 1);
			assert_true(it.http.upload_paused);
			peers.peer[0].waits = 0;
			if (early == 2)
				http_upload_more(&it.http);      /* both in one turn: its end comes first */
			assert_true(script_turn(&peers));
			assert_int_equal(peers.dialled, 1);
			if (early == 1) {
				http_upload_more(&it.http);
				http_pause(&it.http);
				http_resume(&it.http);
			}
			expect_clean();
			assert_int_equal(peers.peer[1].n_written, 0);
			if (early == 0) {
				script_run(&peers);
				assert_int_equal(it.n_uploads, 1);
				assert_int_equal(it.heard.ends, 0);
				http_upload_more(&it.http);
			}
			script_run(&peers);
			expect_sent(r, 1);
		}
	}
}

static void failing_to_dial_ends_it(void **state)
{
	static const enum err errs[] = { ERR_UPSTREAM_DOWN, ERR_NO_MEMORY };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		prepare("GET");
		peers.peer[0].open = errs[i];
		run();
		expect_end(errs[i]);
		assert_true(peers.peer[0].closed);
	}
	prepare("GET");
	peers.no_dial = true;
	assert_int_equal(http_start(&it.http, &peers, &peers.loop, 0, &it.rq, &ops), ERR_NO_MEMORY);
	script_run(&peers);
	assert_true(it.heard.ends == 0 && it.heard.heads == 0);
	expect_clean();
}

/* upstream.c asks another one from inside on_end(). */
static void begins_anew_inside_its_end(void **state)
{
	const struct slice want = SLICE("POST /base/api/x HTTP/1.1\r\nHost: other.example\r\n" HOP "Content-Length: 4\r\n\r\nbody");

	(void)state;
	for (int how = 0; how < 6; how++) {
		for (int used = 0; used < 2; used++) {
			for (size_t take = 0; take < 2; take++) {
				prepare("POST");
				it.again = true;
				it.rq.body = SLICE("body");
				peers.idle = (size_t)used;
				peers.peer[0].open = how == 0 ? ERR_UPSTREAM_DOWN : ERR_OK;
				peers.peer[0].then = how == 1 ? SCRIPT_EOF : how == 2 ? ECONNRESET : SCRIPT_STAYS;
				peers.peer[0].reply = slice_text(how == 3 ? "HTTP/1.1 10" : how == 4 ? "garbage" :
				                                      how == 5 ? "HTTP/1.1 200 OK\r\nA: b\r\nC: d" : "");
				if (how == 3 || how == 5)
					peers.peer[0].then = SCRIPT_EOF;
				peers.peer[0].take = take;
				for (size_t i = 1; i < SCRIPT_PEERS; i++) {
					peers.peer[i].reply = SLICE(OK_REPLY);
					peers.peer[i].waits = want.len;
					peers.peer[i].take = take;
				}
				if (used && how == 0)
					continue;
				if (used && how < 3)
					peers.peer[1].waits = 0, peers.peer[1].reply.len = 0, peers.peer[1].then = SCRIPT_EOF;
				run();
				expect_end(ERR_OK);
				assert_int_equal(it.heard.status, 200);
				expect_text("request", script_written(&peers, peers.n - 1), want);
				expect_text("body", body(), SLICE("ok"));
			}
		}
	}
}

/* ---- kept or closed ---- */

static void a_connection_is_kept_when_nothing_is_left_on_it(void **state)
{
	static const struct { const char *method, *bytes; int then; bool kept; } cases[] = {
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", SCRIPT_STAYS, true },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", SCRIPT_STAYS, true },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", SCRIPT_EOF, true },      /* not known yet: it is watched */
		{ "GET", "HTTP/1.1 204 No Content\r\n\r\n", SCRIPT_STAYS, true },
		{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", SCRIPT_STAYS, true },
		{ "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", SCRIPT_STAYS, true },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nok", SCRIPT_STAYS, false },
		{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.1 200 OK\r\n\r\nok", SCRIPT_EOF, false },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", SCRIPT_STAYS, false },
		{ "GET", "HTTP/1.1 204 No Content\r\n\r\nx", SCRIPT_STAYS, false },
		{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", SCRIPT_STAYS, false },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		prepare(cases[i].method);
		peers.peer[0].reply = slice_text(cases[i].bytes);
		peers.peer[0].then = cases[i].then;
		run();
		expect_end(ERR_OK);
		assert_int_equal(it.heard.heads, 1);
		if (peers.peer[0].kept != cases[i].kept)
			fail_msg("%s: %s", cases[i].bytes, peers.peer[0].kept ? "kept" : "closed");
	}
}

/* An answer that comes before the request has left whole is told, and the connection is no good any more. */
static void an_early_reply_closes(void **state)
{
	static const int refusals[] = { EAGAIN, EPIPE, ECONNRESET };

	(void)state;
	for (const struct sending *r = requests; r < requests + REQUESTS; r++) {
		for (size_t room = 0; room <= strlen(r->want); room++) {
			for (size_t i = 0; i < 3; i++) {
				prepare_request(r);
				peers.peer[0].waits = room;
				peers.peer[0].room = room;
				peers.peer[0].refusal = refusals[i];
				peers.peer[0].then = SCRIPT_EOF;
				run();
				expect_end(ERR_OK);
				assert_int_equal(it.heard.status, 204);
				assert_int_equal(peers.peer[0].kept, room == strlen(r->want));
			}
		}
	}
	prepare_request(&requests[REQUESTS - 2]);        /* chunked; the body pauses */
	it.pause_at_upload = 2;
	peers.peer[0].waits = 0;
	run();
	expect_end(ERR_OK);
	assert_true(peers.peer[0].closed);
}

/* ---- memory ---- */

static void scene_plain(void)
{
	prepare("GET");
	it.rq.headers = two;
	it.rq.n_headers = 2;
	peers.peer[0].reply = SLICE("HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nok");
}

static void scene_afresh(void)
{
	prepare("POST");
	it.rq.body = SLICE("body");
	peers.idle = 1;
	peers.peer[0].then = SCRIPT_EOF;
	peers.peer[1].reply = SLICE(OK_REPLY);
	peers.peer[1].take = 7;
	peers.peer[1].waits = 60;
}

static void scene_streamed(void)
{
	prepare("PUT");
	it.rq.upload = true;
	it.rq.upload_length = -1;
	it.upload = SLICE("0123456789");
	it.upload_piece = 3;
	peers.peer[0].waits = 100;
	peers.peer[0].reply = SLICE(OK_REPLY);
	peers.peer[0].take = 5;
}

static void scene_streamed_of_known_length(void)
{
	scene_streamed();
	it.rq.upload_length = 10;
	peers.peer[0].waits = 70;
	peers.idle = 1;
}

static char long_target[5000], long_reply[10000];

static void scene_long(void)
{
	prepare("GET");
	memset(long_target, 'x', sizeof long_target - 1);
	it.rq.target = long_target;
	if (!long_reply[0]) {
		int at = snprintf(long_reply, sizeof long_reply, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
		for (int i = 0; i < 500; i++)
			at += snprintf(long_reply + at, sizeof long_reply - (size_t)at, "X-%d: value\r\n", i);
		snprintf(long_reply + at, sizeof long_reply - (size_t)at, "\r\nok");
	}
	peers.peer[0].reply = slice_text(long_reply);
}

static void (*const scenes[])(void) = { scene_plain, scene_afresh, scene_streamed, scene_streamed_of_known_length, scene_long };

static void lives_through_failing_allocations(void **state)
{
	static const char *libraries[] = { "libhttp_parser", NULL };

	(void)state;
	assert_true(torture_of(libraries) > 1);
	for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
		for (int n = 1;; n++) {
			scenes[i]();
			torture_begin(n);
			enum err e = http_start(&it.http, &peers, &peers.loop, 0, &it.rq, &ops);
			if (!e)
				script_run(&peers);
			bool failed = torture_end();
			expect_clean();
			if (e) {
				assert_true(failed && e == ERR_NO_MEMORY);
				assert_true(it.heard.ends == 0 && it.heard.heads == 0);
				assert_false(script_turn(&peers));
				assert_null(peers.lent);
			} else {
				assert_int_equal(it.heard.ends, 1);
				/* what is lost of a reply's head is told as one that cannot be read */
				assert_true(failed ? it.heard.end == ERR_NO_MEMORY || it.heard.end == ERR_UPSTREAM_BABBLE : !it.heard.end);
			}
			scenes[i]();
			run();
			expect_end(ERR_OK);
			expect_text("body", body(), SLICE("ok"));
			if (!failed) {
				assert_true(n > 2);
				break;
			}
		}
	}
}

/* Begun again on what is left of one that did not begin, nothing is lost. */
static void begins_after_it_could_not(void **state)
{
	(void)state;
	prepare("GET");
	peers.no_dial = true;
	assert_int_equal(http_start(&it.http, &peers, &peers.loop, 0, &it.rq, &ops), ERR_NO_MEMORY);
	http_stop(&it.http);
	peers.no_dial = false;
	peers.peer[0].reply = SLICE(OK_REPLY);
	run();
	expect_end(ERR_OK);
	expect_text("body", body(), SLICE("ok"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(requests_are_written_to_the_byte, finish),
		cmocka_unit_test_teardown(waits_for_room, finish),
		cmocka_unit_test_teardown(refused_for_good_it_waits_for_a_word, finish),
		cmocka_unit_test_teardown(sent_is_told_when_it_has_left_and_an_answer_began, finish),
		cmocka_unit_test_teardown(a_streamed_body_may_pause, finish),
		cmocka_unit_test_teardown(a_large_body_goes_in_pieces, finish),
		cmocka_unit_test_teardown(a_body_shorter_than_said_breaks, finish),
		cmocka_unit_test_teardown(a_used_one_that_ends_without_a_word_is_dialled_afresh, finish),
		cmocka_unit_test_teardown(it_is_dialled_afresh_once, finish),
		cmocka_unit_test_teardown(not_afresh_once_a_word_has_come, finish),
		cmocka_unit_test_teardown(not_afresh_once_a_streamed_body_has_begun, finish),
		cmocka_unit_test_teardown(a_paused_body_is_asked_for_while_it_is_dialled_afresh, finish),
		cmocka_unit_test_teardown(failing_to_dial_ends_it, finish),
		cmocka_unit_test_teardown(begins_anew_inside_its_end, finish),
		cmocka_unit_test_teardown(a_connection_is_kept_when_nothing_is_left_on_it, finish),
		cmocka_unit_test_teardown(an_early_reply_closes, finish),
		cmocka_unit_test_teardown(lives_through_failing_allocations, finish),
		cmocka_unit_test_teardown(begins_after_it_could_not, finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
