/* client.c - see client.h. Reads strictly: an answer is whole only if its framing says so. */
#include "tests/bench/load/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum state { IDLE, HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };
enum { READ_BYTES = 128 << 10, SMALL_RCVBUF = 4096 };

static char input[READ_BYTES];

void client_close(struct client *c, int reset)
{
	struct linger l = { reset, 0 };

	if (c->w.fd <= 0)
		return;
	if (reset)
		setsockopt(c->w.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c->w.fd);
	c->w.fd = 0;
	c->state = IDLE;
}

static void done(struct client *c, enum client_end how)
{
	c->state = IDLE;
	if (how == CLIENT_BROKEN || !c->keep)
		client_close(c, 0);
	if (c->on_done)
		c->on_done(c, how);
}

static void write_more(struct client *c)
{
	while (c->ask_at < c->ask_len) {
		ssize_t n = send(c->w.fd, c->ask + c->ask_at, c->ask_len - c->ask_at, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno != EAGAIN && errno != ENOTCONN)
				done(c, CLIENT_BROKEN);
			return;
		}
		c->ask_at += (size_t)n;
	}
}

void client_header(const struct client *c, const char *name, char *to, size_t room)
{
	size_t len = strlen(name), n = 0;

	for (const char *at = strstr(c->head, "\r\n"); at; at = strstr(at + 2, "\r\n"))
		if (!strncasecmp(at + 2, name, len) && at[2 + len] == ':') {
			at += 3 + len;
			at += strspn(at, " ");
			n = strcspn(at, "\r");
			if (n >= room)
				n = room - 1;
			memcpy(to, at, n);
			break;
		}
	to[n] = 0;
}

/* The few fields that frame an answer, found in one pass over the lines. */
static int read_head(struct client *c)
{
	c->status = c->head_len > 12 ? atoi(c->head + 9) : 0;
	c->left = -1;
	c->keep = 1;
	c->state = UNTIL_CLOSE;
	for (const char *at = strstr(c->head, "\r\n"); at && at[2] != '\r'; at = strstr(at + 2, "\r\n")) {
		if ((at[2] | 32) == 'c' && !strncasecmp(at + 2, "content-length:", 15)) {
			c->left = strtoll(at + 17, NULL, 10);
			c->state = BODY;
		} else if ((at[2] | 32) == 't' && !strncasecmp(at + 2, "transfer-encoding: chunked", 26)) {
			c->state = CHUNK_SIZE;
			c->left = 0;
		} else if ((at[2] | 32) == 'c' && !strncasecmp(at + 2, "connection: close", 17)) {
			c->keep = 0;
		}
	}
	if (c->state == UNTIL_CLOSE)
		c->keep = 0;
	return c->status >= 100;
}

static void body(struct client *c, const char *bytes, size_t len)
{
	if (!c->first_at)
		c->first_at = now_ns();
	if (c->on_body && len)
		c->on_body(c, bytes, len);
}

static size_t take_head(struct client *c, const char *at, size_t len)
{
	size_t old = c->head_len, add = len < HEAD_MAX - old ? len : HEAD_MAX - old;

	memcpy(c->head + old, at, add);
	c->head_len += add;
	c->head[c->head_len] = 0;
	char *end = memmem(c->head + (old < 3 ? 0 : old - 3), c->head_len - (old < 3 ? 0 : old - 3), "\r\n\r\n", 4);
	if (!end) {
		if (c->head_len == HEAD_MAX)
			done(c, CLIENT_BROKEN);
		return add;
	}
	size_t took = (size_t)(end + 4 - c->head) - old;
	c->head_len = (size_t)(end + 4 - c->head);
	c->head[c->head_len] = 0;
	if (!read_head(c))
		done(c, CLIENT_BROKEN);
	else if (c->status == 100)
		c->state = HEAD, c->head_len = 0;
	return took;
}

/* One byte of the lines between chunks. */
static void take_frame_byte(struct client *c, char b)
{
	int digit = b >= '0' && b <= '9' ? b - '0' : (b | 32) >= 'a' && (b | 32) <= 'f' ? (b | 32) - 'a' + 10 : -1;

	if (c->state == CHUNK_SIZE && digit >= 0) {
		c->left = c->left * 16 + digit;
	} else if (c->state == CHUNK_SIZE && b == '\n') {
		c->state = c->left ? CHUNK_DATA : TRAILER;
		c->left = c->left ? c->left : 0;
	} else if (c->state == CHUNK_END && b == '\n') {
		c->state = CHUNK_SIZE;
		c->left = 0;
	} else if (c->state == TRAILER && b == '\n') {
		done(c, CLIENT_WHOLE);
	} else if (b != '\r') {
		done(c, CLIENT_BROKEN);
	}
}

static void take(struct client *c, const char *at, size_t len)
{
	const char *end = at + len;

	while (at < end && c->state != IDLE) {
		size_t n = (size_t)(end - at);
		if (c->state == HEAD) {
			at += take_head(c, at, n);
		} else if (c->state == BODY || c->state == CHUNK_DATA) {
			n = (int64_t)n < c->left ? n : (size_t)c->left;
			c->left -= (int64_t)n;
			body(c, at, n);
			at += n;
			if (!c->left && c->state == CHUNK_DATA)
				c->state = CHUNK_END;
		} else if (c->state == UNTIL_CLOSE) {
			body(c, at, n);
			at = end;
		} else {
			take_frame_byte(c, *at++);
		}
		if (c->state == BODY && !c->left)
			done(c, CLIENT_WHOLE);
	}
}

static void on_ready(struct watch *w, uint32_t events)
{
	struct client *c = container(w, struct client, w);

	if (events & EPOLLOUT && c->ask_at < c->ask_len)
		write_more(c);
	if (c->deaf)
		return;
	while (c->w.fd > 0 && events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		ssize_t n = recv(c->w.fd, input, sizeof input, 0);
		if (n > 0) {
			take(c, input, (size_t)n);
			/* Less than asked for: the socket is empty, and the next byte brings a new event. */
			if ((size_t)n < sizeof input && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
				return;
			continue;
		}
		if (n < 0 && errno == EAGAIN)
			return;
		if (c->state == IDLE)
			client_close(c, 0);
		else if (c->state == UNTIL_CLOSE && n == 0)
			done(c, CLIENT_WHOLE);
		else
			done(c, CLIENT_BROKEN);
		return;
	}
}

void client_ask(struct client *c, const char *ask, size_t len)
{
	int small = SMALL_RCVBUF;

	c->ask = ask;
	c->ask_len = len;
	c->ask_at = 0;
	c->head_len = 0;
	c->first_at = 0;
	c->state = HEAD;
	c->asked_at = now_ns();
	if (c->w.fd > 0) {
		write_more(c);
		return;
	}
	c->w.fd = net_connect(c->target);
	c->w.on = on_ready;
	if (c->deaf)
		setsockopt(c->w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	write_more(c);
	if (c->w.fd > 0)
		net_watch(&c->w);
}
