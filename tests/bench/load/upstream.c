/* upstream.c - the benchmark's upstream: speaks as Ollama does, costs next to nothing.
 *
 * What for   The general fake (tests/fake_ollama.c) is made to misbehave; this one is made to be cheap and exact in
 *            time. What it answers is asked for inside `options`, which every proxy forwards as it came:
 *              bench_id     who asks; comes back in every piece of text
 *              bench_n      pieces of text            bench_gap    µs between two of them (0: as fast as they go)
 *              bench_first  µs before the first one   bench_size   0: a piece is "#ID.SEQ@STAMP " with the ns it was
 *                                                                  written at; else this many letters
 * Shape      Headers and first line leave in one packet, then one HTTP chunk a line, as Ollama flushes them.
 * Threads    one. Ownership: a connection frees itself when it closes.
 * Limits     ASK_MAX bytes a request; OUT_BYTES of answer are made at a time, the rest waits for the socket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "tests/bench/load/board.h"
#include "tests/bench/load/commands.h"
#include "tests/bench/load/net.h"

enum { ASK_MAX = 8 << 20, OUT_BYTES = 32 << 10, PIECE_MAX = 4 << 10, PIECE_ROOM = 64, NAME_BYTES = 64 };

enum kind { KIND_GENERATE, KIND_CHAT, KIND_PASS };

struct conn {
	struct watch w;
	struct timer t;                         /* t.due: when the next piece is due */
	char *in, *out;
	size_t in_len, in_room;
	size_t out_at, out_len, out_room;
	enum kind kind;
	int dead, answering, stream, size;
	uint32_t id;
	int64_t n, seq, gap;                    /* pieces in all, pieces written, µs */
	char model[NAME_BYTES];
};

static struct board *board;
static const char generate_open[] = "\"response\":\"";
static const char chat_open[] = "\"message\":{\"role\":\"assistant\",\"content\":\"";
static const char tags[] = "{\"models\":[{\"name\":\"bench:latest\",\"model\":\"bench:latest\","
	"\"modified_at\":\"2026-01-01T00:00:00.1Z\",\"size\":1898197,"
	"\"digest\":\"8767c78d812539bd5669fc755e4eeaf26b2ce4bab09aab40ca3356c0f944c08f\",\"details\":{"
	"\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"llama\",\"families\":[\"llama\"],"
	"\"parameter_size\":\"935K\",\"quantization_level\":\"F16\"}}]}";
static const char when[] = "2026-01-01T00:00:00.123456789Z";
static const char statistics[] = "\"done\":true,\"done_reason\":\"stop\",\"total_duration\":900000000,"
	"\"load_duration\":1000000,\"prompt_eval_count\":20,\"prompt_eval_duration\":50000000,"
	"\"eval_count\":20,\"eval_duration\":800000000}";

static void add(_Atomic int64_t *counter, int64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Both return how much they wrote. */
static size_t piece(char *to, size_t room, const struct conn *c)
{
	if (!c->size)
		return (size_t)snprintf(to, room, "#%u.%lld@%lld ", c->id, (long long)c->seq, (long long)now_ns());
	memset(to, 'a', (size_t)c->size);
	return (size_t)c->size;
}

static size_t line(char *to, size_t room, const struct conn *c)
{
	char text[PIECE_MAX + PIECE_ROOM];
	int last = c->seq >= c->n, chat = c->kind == KIND_CHAT;
	int len = last ? 0 : (int)piece(text, sizeof text, c);

	if (c->kind == KIND_PASS)
		return (size_t)snprintf(to, room, "{\"status\":\"pulling\",\"digest\":\"%.*s\",\"completed\":%lld}\n",
					len, text, (long long)c->seq);
	return (size_t)snprintf(to, room, "{\"model\":\"%s\",\"created_at\":\"%s\",%s%.*s\"%s,%s\n", c->model, when,
				chat ? chat_open : generate_open, len, text, chat ? "}" : "",
				last ? statistics : "\"done\":false}");
}

static void room_for(struct conn *c, size_t bytes)
{
	if (bytes <= c->out_room)
		return;
	c->out = realloc(c->out, bytes);
	if (!c->out)
		die("out of memory");
	c->out_room = bytes;
}

static void put(struct conn *c, const char *bytes, size_t len)
{
	room_for(c, c->out_len + len);
	memcpy(c->out + c->out_len, bytes, len);
	c->out_len += len;
}

static void put_head(struct conn *c, const char *type, const char *framing)
{
	char head[256];
	int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
			 "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n%s\r\n\r\n", type, framing);

	put(c, head, (size_t)n);
}

static void put_chunk(struct conn *c)
{
	char text[PIECE_MAX + 1024], size[16];
	size_t len = line(text, sizeof text, c);

	put(c, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", len));
	put(c, text, len);
	put(c, "\r\n", 2);
	if (c->seq++ >= c->n)
		put(c, "0\r\n\r\n", 5);
}

static void put_json(struct conn *c, const char *body, size_t len)
{
	char framing[64];

	snprintf(framing, sizeof framing, "Content-Length: %zu", len);
	put_head(c, "application/json; charset=utf-8", framing);
	put(c, body, len);
}

static void put_whole(struct conn *c)
{
	int chat = c->kind == KIND_CHAT;
	size_t room = (size_t)c->n * (size_t)(c->size + PIECE_ROOM) + 1024, len = 0;
	char *body = malloc(room);

	if (!body)
		die("out of memory");
	len = (size_t)snprintf(body, room, "{\"model\":\"%s\",\"created_at\":\"%s\",%s", c->model, when,
			       chat ? chat_open : generate_open);
	for (c->seq = 0; c->seq < c->n; c->seq++)
		len += piece(body + len, room - len, c);
	len += (size_t)snprintf(body + len, room - len, "\"%s,%s", chat ? "}" : "", statistics);
	put_json(c, body, len);
	free(body);
	c->seq = c->n + 1;
}

/* Write what waits. 1: all is written. 0: the socket is full, or the connection is dead. */
static int push(struct conn *c)
{
	while (c->out_at < c->out_len) {
		ssize_t n = send(c->w.fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
		if (n < 0) {
			c->dead = errno != EAGAIN;
			return 0;
		}
		c->out_at += (size_t)n;
		add(&board->written, n);
	}
	c->out_at = c->out_len = 0;
	return 1;
}

/* Go on with the answer as far as the socket and the clock allow. */
static void resume(struct conn *c)
{
	while (push(c) && c->answering) {
		if (c->seq > c->n) {
			c->answering = 0;
			add(&board->open, -1);
			return;
		}
		if (c->t.due > now_ns()) {
			timer_set(&c->t, c->t.due);
			return;
		}
		if (!c->stream) {
			put_whole(c);
			continue;
		}
		if (c->seq == 0)
			put_head(c, "application/x-ndjson", "Transfer-Encoding: chunked");
		do
			put_chunk(c);
		while (!c->gap && c->seq <= c->n && c->out_len < OUT_BYTES);
		c->t.due += c->gap * 1000;
	}
}

/* The number after "name": anywhere in the body; the generator's bodies have it once. */
static int64_t number(const char *body, const char *name, int64_t otherwise)
{
	const char *at = strstr(body, name);

	if (!at)
		return otherwise;
	at += strlen(name);
	return strtoll(at + strspn(at, " \t\r\n:"), NULL, 10);
}

static void read_model(struct conn *c, const char *body)
{
	const char *at = strstr(body, "\"model\"");
	size_t n = 0;

	if (at) {
		at += 7;
		at += strspn(at, " \t\r\n:\"");
		n = strcspn(at, "\"");
	}
	snprintf(c->model, sizeof c->model, "%.*s", (int)n, at ? at : "");
}

static void answer(struct conn *c, const char *head, const char *body)
{
	const char *s = strstr(body, "\"stream\"");

	if (!strncmp(head, "POST /api/generate ", 19))
		c->kind = KIND_GENERATE;
	else if (!strncmp(head, "POST /api/chat ", 15))
		c->kind = KIND_CHAT;
	else if (!strncmp(head, "POST /api/pull ", 15))
		c->kind = KIND_PASS;
	else {
		const char *json = strstr(head, " /api/tags ") ? tags : strstr(head, " /api/ps ") ? "{\"models\":[]}"
										: "{\"version\":\"0.12.6\"}";
		put_json(c, json, strlen(json));
		return;
	}
	if (c->kind != KIND_PASS)
		add(&board->asked, 1);
	read_model(c, body);
	c->id = (uint32_t)number(body, "\"bench_id\"", 0);
	c->n = number(body, "\"bench_n\"", 8);
	c->gap = number(body, "\"bench_gap\"", 0);
	c->size = (int)number(body, "\"bench_size\"", 0);
	if (c->size > PIECE_MAX)
		c->size = PIECE_MAX;
	c->stream = !(s && !strncmp(s + 8 + strspn(s + 8, " \t\r\n:"), "false", 5));
	c->seq = 0;
	c->answering = 1;
	add(&board->open, 1);
	c->t.due = now_ns() + number(body, "\"bench_first\"", 0) * 1000 + (c->stream ? 0 : c->n * c->gap * 1000);
}

/* Where the request in the buffer ends; 0: not all there yet. *body is where its body begins. */
static size_t request_end(struct conn *c, size_t *body)
{
	char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4), *field;
	size_t len = 0;

	if (!end)
		return 0;
	*body = (size_t)(end - c->in) + 4;
	*end = 0;                               /* the fields alone, as one string */
	if (strcasestr(c->in, "\r\ntransfer-encoding: chunked")) {
		char *last = memmem(c->in + *body, c->in_len - *body, "0\r\n\r\n", 5);
		len = last ? (size_t)(last + 5 - c->in) - *body : ASK_MAX;
	} else if ((field = strcasestr(c->in, "\r\ncontent-length:"))) {
		len = strtoul(field + 17, NULL, 10);
	}
	if (strcasestr(c->in, "\r\nexpect: 100-continue") && c->in_len == *body && len)
		put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	*end = '\r';
	return c->in_len - *body >= len ? *body + len : 0;
}

static void take_requests(struct conn *c)
{
	size_t body, end;

	while (!c->dead && !c->answering && c->in_len && (end = request_end(c, &body))) {
		char after = c->in[end];

		c->in[end] = 0;
		answer(c, c->in, c->in + body);
		c->in[end] = after;
		memmove(c->in, c->in + end, c->in_len - end);
		c->in_len -= end;
		resume(c);
	}
	push(c);
}

static void read_all(struct conn *c)
{
	for (;;) {
		if (c->in_room - c->in_len < 4096) {
			size_t room = c->in_room ? c->in_room * 2 : 8192;
			char *bigger = room > ASK_MAX ? NULL : realloc(c->in, room + 1);
			if (!bigger) {
				c->dead = 1;
				return;
			}
			c->in = bigger;
			c->in_room = room;
		}
		ssize_t n = recv(c->w.fd, c->in + c->in_len, c->in_room - c->in_len, 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			c->dead = 1;
			return;
		}
		c->in_len += (size_t)n;
	}
}

static void bury_if_dead(struct conn *c)
{
	if (!c->dead)
		return;
	if (c->answering) {
		atomic_store_explicit(&board->gone[c->id % GONE_SLOTS], now_ns(), memory_order_relaxed);
		add(&board->open, -1);
	}
	timer_clear(&c->t);
	close(c->w.fd);
	free(c->in);
	free(c->out);
	free(c);
}

static void on_ready(struct watch *w, uint32_t events)
{
	struct conn *c = container(w, struct conn, w);

	if (events & EPOLLIN)
		read_all(c);
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->dead = 1;
	if (!c->dead && events & EPOLLOUT)
		resume(c);
	take_requests(c);
	bury_if_dead(c);
}

static void on_time(struct timer *t)
{
	struct conn *c = container(t, struct conn, t);

	resume(c);
	take_requests(c);
	bury_if_dead(c);
}

static void on_listener(struct watch *w, uint32_t events)
{
	int fd, on = 1;

	(void)events;
	while ((fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = calloc(1, sizeof *c);
		if (!c)
			die("out of memory");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		c->w = (struct watch){ fd, on_ready };
		c->t.on = on_time;
		net_watch(&c->w);
	}
}

int command_upstream(const struct options *o)
{
	static struct watch listener = { .on = on_listener };
	static const int never;

	board = board_open(o->board);
	listener.fd = net_listen(o->target);
	net_watch_listener(&listener);
	net_run(&never, INT64_MAX);
	return 0;
}
