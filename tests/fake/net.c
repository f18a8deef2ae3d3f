/* net.c - sockets, timers and HTTP/1.x framing by hand, so that exact bytes can be sent and lies be told. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fake/fake.h"

enum { HEAD_MAX = 1 << 20, READ_BYTES = 64 << 10, IN_HELD_MAX = 256 << 10, OUT_HELD_MAX = 256 << 10, LISTENERS_MAX = 4 };

struct fake fake = { .log_max = 20000, .keep_bytes = 4 << 20, .version = "0.33.0-rc2", .check_origin = true };

/* ---- timers: a binary heap; slot is the index + 1 ---- */
static struct timer **heap;
static size_t heap_n, heap_room;

static void heap_put(size_t i, struct timer *t)
{
	heap[i] = t;
	t->slot = i + 1;
}

static void heap_mend(size_t i, struct timer *t)
{
	while (i && heap[(i - 1) / 2]->at_us > t->at_us) {
		heap_put(i, heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t k = 2 * i + 1;

		if (k + 1 < heap_n && heap[k + 1]->at_us < heap[k]->at_us)
			k++;
		if (k >= heap_n || heap[k]->at_us >= t->at_us)
			break;
		heap_put(i, heap[k]);
		i = k;
	}
	heap_put(i, t);
}

void timer_stop(struct timer *t)
{
	size_t i = t->slot - 1;
	struct timer *last;

	if (!t->slot)
		return;
	t->slot = 0;
	last = heap[--heap_n];
	if (last != t)
		heap_mend(i, last);
}

void timer_arm(struct timer *t, uint64_t at_us)
{
	timer_stop(t);
	t->at_us = at_us;
	if (heap_n == heap_room) {
		heap_room = heap_room ? heap_room * 2 : 256;
		heap = must(realloc(heap, heap_room * sizeof(struct timer *)));
	}
	heap_mend(heap_n++, t);
}

/* ---- listeners ---- */
struct listener {
	int what, fd;
	bool control;
	struct sockaddr_storage addr;
	socklen_t len;
};
static struct listener listeners[LISTENERS_MAX];
static size_t listeners_n;

static void listener_open(struct listener *l)
{
	int on = 1;
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = l };

	if (l->addr.ss_family == AF_UNIX)
		unlink(((struct sockaddr_un *)&l->addr)->sun_path);
	l->fd = socket(l->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(l->fd, (struct sockaddr *)&l->addr, l->len) || listen(l->fd, 8192)) {
		perror("fake_ollama: listen");
		exit(2);
	}
	l->len = sizeof l->addr;                 /* a free port was asked for: keep the one we got */
	if (l->addr.ss_family != AF_UNIX)
		getsockname(l->fd, (struct sockaddr *)&l->addr, &l->len);
	else
		l->len = sizeof(struct sockaddr_un);
	epoll_ctl(fake.epoll, EPOLL_CTL_ADD, l->fd, &ev);
}

bool listener_add(const char *where, bool control)
{
	struct listener *l = &listeners[listeners_n];

	if (listeners_n == LISTENERS_MAX)
		return false;
	*l = (struct listener){ .what = WHAT_LISTENER, .control = control };
	if (!strncmp(where, "unix:", 5)) {
		struct sockaddr_un *u = (struct sockaddr_un *)&l->addr;

		u->sun_family = AF_UNIX;
		if (strlen(where + 5) >= sizeof u->sun_path)
			return false;
		strcpy(u->sun_path, where + 5);
		l->len = sizeof *u;
	} else {
		const char *colon = strrchr(where, ':');
		char host[256];
		struct addrinfo hints = { .ai_flags = AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *ai;
		size_t n = colon ? (size_t)(colon - where) : 0;

		if (!colon || n >= sizeof host)
			return false;
		memcpy(host, where, n);
		host[n] = 0;
		if (host[0] == '[' && host[n - 1] == ']') {
			host[n - 1] = 0;
			memmove(host, host + 1, n - 1);
		}
		if (getaddrinfo(host, colon + 1, &hints, &ai))
			return false;
		memcpy(&l->addr, ai->ai_addr, ai->ai_addrlen);
		l->len = ai->ai_addrlen;
		freeaddrinfo(ai);
	}
	listeners_n++;
	listener_open(l);
	return true;
}

unsigned short listener_port(bool control)
{
	for (size_t i = 0; i < listeners_n; i++) {
		const struct sockaddr_storage *a = &listeners[i].addr;

		if (listeners[i].control != control)
			continue;
		if (a->ss_family == AF_INET)
			return ntohs(((const struct sockaddr_in *)a)->sin_port);
		if (a->ss_family == AF_INET6)
			return ntohs(((const struct sockaddr_in6 *)a)->sin6_port);
	}
	return 0;
}

void listeners_close(void)
{
	for (size_t i = 0; i < listeners_n; i++)
		if (!listeners[i].control && listeners[i].fd >= 0) {
			close(listeners[i].fd);
			listeners[i].fd = -1;
		}
}

void listeners_open(void)
{
	for (size_t i = 0; i < listeners_n; i++)
		if (listeners[i].fd < 0)
			listener_open(&listeners[i]);
}

/* ---- output ---- */
static void conn_watch(struct conn *c)
{
	uint32_t want = EPOLLRDHUP;
	struct epoll_event ev;

	if (!c->no_read && !c->eof && !(c->step == STEP_BUSY && c->in.n - c->in_at > IN_HELD_MAX))
		want |= EPOLLIN;
	if (c->first && !c->split.slot)
		want |= EPOLLOUT;
	if (c->eof)
		want &= ~(uint32_t)EPOLLRDHUP;
	if (want == c->events || c->dead)
		return;
	c->events = want;
	ev = (struct epoll_event){ .events = want, .data.ptr = c };
	epoll_ctl(fake.epoll, EPOLL_CTL_MOD, c->fd, &ev);
}

void out_bytes(struct conn *c, const void *bytes, size_t n)
{
	struct seg *s;

	if (!n || c->dead)
		return;
	s = must(malloc(sizeof *s + n));
	*s = (struct seg){ .kind = SEG_BYTES, .n = n };
	memcpy(s->bytes, bytes, n);
	*(c->last ? &c->last->next : &c->first) = s;
	c->last = s;
	c->out_bytes += n;
}

void out_fill(struct conn *c, char byte, size_t n)
{
	struct seg *s;

	if (!n || c->dead)
		return;
	s = must(malloc(sizeof *s));
	*s = (struct seg){ .kind = SEG_FILL, .fill = byte, .n = n };
	*(c->last ? &c->last->next : &c->first) = s;
	c->last = s;
	c->out_bytes += n;
}

static void split_fire(struct timer *t)
{
	struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, split));

	conn_flush(c);
}

static void conn_drained(struct conn *c)
{
	if (c->step == STEP_BUSY && c->req && c->req->gen) {
		gen_go_on(c->req->gen);
		return;
	}
	if (c->close_after || (c->eof && c->step != STEP_BUSY))
		conn_kill(c, c->reset_after);
}

void conn_flush(struct conn *c)
{
	static char fill[READ_BYTES];

	while (!c->dead && c->first && !c->split.slot) {
		struct seg *s = c->first;
		size_t left = s->n - s->sent, k = left;
		const char *from = s->bytes + s->sent;
		ssize_t got;

		if (s->kind == SEG_FILL) {
			memset(fill, s->fill, sizeof fill);
			from = fill;
			k = k < sizeof fill ? k : sizeof fill;
		}
		if (c->split_bytes && k > c->split_bytes)
			k = c->split_bytes;
		got = send(c->fd, from, k, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (got < 0) {
			conn_kill(c, false);
			return;
		}
		s->sent += (size_t)got;
		c->out_bytes -= (size_t)got;
		if (c->req) {
			c->req->bytes_out += (uint64_t)got;
			if (!c->req->first_us) {
				c->req->first_us = now_us();
				fake.first += c->req->counted;
				fake.dirty = true;
			}
		}
		if (s->sent == s->n) {
			c->first = s->next;
			if (!c->first)
				c->last = NULL;
			free(s);
		}
		if (c->split_bytes && c->first)
			timer_arm(&c->split, now_us() + c->split_ms * 1000u);
	}
	if (!c->dead && !c->first)
		conn_drained(c);
	if (!c->dead)
		conn_watch(c);
}

/* ---- ends ---- */
void req_ended(struct req *r, enum req_state how)
{
	r->state = how;
	r->ended_us = now_us();
	if (r->counted) {
		fake.done += how == REQ_DONE;
		fake.cancelled += how == REQ_CANCELLED;
		fake.failed += how == REQ_FAILED;
	}
	fake.dropped += how == REQ_BROKEN;
	fake.dirty = true;
	if (fake.record && r->counted) {
		json_t *item = log_item(r);
		FILE *f = fopen(fake.record, "a");

		if (f) {
			json_dumpf(item, f, JSON_COMPACT);
			fputc('\n', f);
			fclose(f);
		}
		json_decref(item);
	}
}

static void req_free(struct req *r)
{
	free(r->method);
	free(r->target);
	free(r->path);
	free(r->query);
	str_free(&r->head);
	str_free(&r->body);
	free(r);
}

/* The request and its connection part; what the log does not keep goes. */
static void req_part(struct req *r)
{
	timer_stop(&r->delay);
	r->conn = NULL;
	if (!r->counted)
		req_free(r);
}

void conn_kill(struct conn *c, bool reset)
{
	struct linger l = { 1, 0 };
	struct req *r = c->req;

	if (c->dead)
		return;
	c->dead = true;
	timer_stop(&c->split);
	control_conn_gone(c);
	if (r) {
		c->req = NULL;
		if (r->gen)
			gen_cancel(r->gen);
		else if (r->state <= REQ_RUNNING)
			req_ended(r, REQ_BROKEN);
		req_part(r);
	}
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c->fd);
	*(c->prev ? &c->prev->next : &fake.conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next_dead = fake.dead;
	fake.dead = c;
	fake.open--;
	fake.dirty = true;
}

static void bury(void)
{
	while (fake.dead) {
		struct conn *c = fake.dead;

		fake.dead = c->next_dead;
		while (c->first) {
			struct seg *s = c->first;

			c->first = s->next;
			free(s);
		}
		str_free(&c->in);
		free(c);
	}
}

void kill_main_conns(const struct conn *but)
{
	for (struct conn *c = fake.conns, *next; c; c = next) {
		next = c->next;
		if (!c->control && c != but)
			conn_kill(c, true);
	}
}

/* ---- replies ---- */
static const char *status_text(int status)
{
	static const struct { int status; const char *text; } texts[] = {
		{ 200, "OK" }, { 201, "Created" }, { 204, "No Content" }, { 301, "Moved Permanently" },
		{ 307, "Temporary Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" },
		{ 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" },
		{ 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
		{ 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (texts[i].status == status)
			return texts[i].text;
	return "Status";
}

static bool head_says_close(const struct req *r)
{
	char *v = req_header(r, "Connection");
	bool close = r->minor == 0 ? !v || strcasecmp(v, "keep-alive") : v && !strcasecmp(v, "close");

	free(v);
	return close;
}

void reply_head(struct req *r, struct str *s, int status, const struct reply_opts *o, long long length)
{
	r->status = status;
	str_fmt(s, "HTTP/1.%d %d %s\r\n", r->minor, status, status_text(status));
	origin_headers(r, s);
	if (o->allow)
		str_fmt(s, "Allow: %s\r\n", o->allow);
	if (o->extra)
		str_puts(s, o->extra);
	if (o->type)
		str_fmt(s, "Content-Type: %s\r\n", o->type);
	if (o->location)
		str_fmt(s, "Location: %s\r\n", o->location);
	if (r->has_origin)
		str_puts(s, "Vary: Origin\r\n");
	str_puts(s, "Date: ");
	put_http_date(s);
	str_puts(s, "\r\n");
	if (length >= 0)
		str_fmt(s, "Content-Length: %lld\r\n", length);
	else if (length == -1 && r->minor == 1)
		str_puts(s, "Transfer-Encoding: chunked\r\n");
	if (r->conn->close_after || head_says_close(r)) {
		r->conn->close_after = true;
		if (r->minor == 1)
			str_puts(s, "Connection: close\r\n");
	}
	str_puts(s, "\r\n");
}

void reply_end(struct req *r)
{
	struct conn *c = r->conn;

	if (r->state <= REQ_RUNNING)
		req_ended(r, REQ_DONE);
	c->step = STEP_HEAD;
	conn_flush(c);
	if (!c->dead) {
		c->req = NULL;
		req_part(r);
		conn_next(c);
	}
}

void req_close(struct req *r, bool reset)
{
	struct conn *c = r->conn;

	if (r->state <= REQ_RUNNING)
		req_ended(r, REQ_DONE);
	c->close_after = true;
	c->reset_after = reset;
	c->no_read = true;
	c->step = STEP_HEAD;
	if (reset && c->first)                   /* what is still queued goes out first if the socket takes it */
		conn_flush(c);
	if (reset)
		conn_kill(c, true);
	else
		conn_flush(c);
}

void reply(struct req *r, int status, const struct reply_opts *o, const char *body, size_t n)
{
	static const struct reply_opts none;
	struct str s = { 0 };
	bool chunked, head = !strcmp(r->method, "HEAD");

	o = o ? o : &none;
	/* Go's server buffers 2,048 bytes: of what does not fit, or is not there, it tells HEAD neither length nor coding */
	chunked = o->chunked || n > 2048;
	reply_head(r, &s, status, o, status == 204 || (head && (chunked || n == 0)) ? -2 : chunked ? -1 : (long long)n);
	chunked &= !head;
	if (chunked && r->minor == 1)
		str_fmt(&s, "%zx\r\n", n);
	if (!head)
		str_add(&s, body, n);
	if (chunked && r->minor == 1)
		str_puts(&s, "\r\n0\r\n\r\n");
	out_bytes(r->conn, s.at, s.n);
	str_free(&s);
	reply_end(r);
}

static const char error_type[] = "application/json; charset=utf-8";

void reply_error(struct req *r, int status, const char *format, ...)
{
	struct reply_opts o = { .type = error_type };
	struct str s = { 0 };
	char text[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	str_puts(&s, "{\"error\":");
	str_json(&s, text, strlen(text));
	str_puts(&s, "}");
	reply(r, status, &o, s.at, s.n);
	str_free(&s);
}

/* ---- requests in ---- */
char *req_header(const struct req *r, const char *name)
{
	size_t k = strlen(name);

	for (const char *p = r->head.at; p && *p;) {
		const char *end = strstr(p, "\r\n");
		size_t n = end ? (size_t)(end - p) : strlen(p);

		if (n > k && p[k] == ':' && !strncasecmp(p, name, k)) {
			const char *v = p + k + 1;

			while (v < p + n && (*v == ' ' || *v == '\t'))
				v++;
			return text_copy(v, (size_t)(p + n - v));
		}
		p = end ? end + 2 : NULL;
	}
	return NULL;
}

static int hex_digit(int ch)
{
	return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
		: ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

char *query_get(const struct req *r, const char *name)
{
	size_t k = strlen(name);

	for (const char *p = r->query; p && *p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL) {
		if (!strncmp(p, name, k) && p[k] == '=') {
			size_t n = strcspn(p + k + 1, "&");
			char *v = text_copy(p + k + 1, n), *to = v;

			for (char *from = v; *from; from++)
				if (*from == '%' && hex_digit(from[1]) >= 0 && hex_digit(from[2]) >= 0) {
					*to++ = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
					from += 2;
				} else {
					*to++ = *from == '+' ? ' ' : *from;
				}
			*to = 0;
			return v;
		}
	}
	return NULL;
}

static void log_trim(void)
{
	while (fake.log_len > fake.log_max && fake.log_first->state >= REQ_DONE && !fake.log_first->conn) {
		struct req *r = fake.log_first;

		fake.log_first = r->next;
		if (!fake.log_first)
			fake.log_last = NULL;
		fake.log_len--;
		req_free(r);
	}
}

static void protocol_error(struct conn *c, const char *status, const char *text)
{
	struct str s = { 0 };

	str_fmt(&s, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%s", status, text);
	out_bytes(c, s.at, s.n);
	str_free(&s);
	c->close_after = true;
	c->no_read = true;
	conn_flush(c);
}

/* Parses the head that ends at `end` (its last CRLF CRLF). False: answered with an error, or closing. */
static bool parse_head(struct conn *c, size_t len)
{
	const char *p = c->in.at + c->in_at, *line_end = memchr(p, '\r', len), *sp1, *sp2;
	struct req *r;
	char *v;

	sp1 = memchr(p, ' ', (size_t)(line_end - p));
	sp2 = sp1 ? memchr(sp1 + 1, ' ', (size_t)(line_end - sp1 - 1)) : NULL;
	if (!sp2 || line_end - sp2 != 9 || memcmp(sp2, " HTTP/1.", 8) || (sp2[8] != '0' && sp2[8] != '1')) {
		protocol_error(c, "400 Bad Request", "400 Bad Request");
		return false;
	}
	r = must(calloc(1, sizeof *r));
	r->id = ++fake.ids;
	r->conn = c;
	r->conn_id = c->id;
	r->method = text_copy(p, (size_t)(sp1 - p));
	r->target = text_copy(sp1 + 1, (size_t)(sp2 - sp1 - 1));
	r->path = text_copy(r->target, strcspn(r->target, "?"));
	if (strchr(r->target, '?'))
		r->query = text_copy(strchr(r->target, '?') + 1, strlen(strchr(r->target, '?') + 1));
	r->minor = sp2[8] - '0';
	str_add(&r->head, line_end + 2, len - (size_t)(line_end - p) - 4);
	r->arrived_us = now_us();
	sha256_start(&r->sha);
	r->counted = strncmp(r->path, "/fake/", 6) != 0;
	if (r->counted) {
		*(fake.log_last ? &fake.log_last->next : &fake.log_first) = r;
		fake.log_last = r;
		fake.log_len++;
		fake.heads++;
	}
	fake.dirty = true;
	log_trim();
	c->req = r;
	c->body_kind = BODY_NONE;
	c->chunk_step = 0;
	c->body_left = 0;
	v = req_header(r, "Content-Length");
	if (v) {
		c->body_kind = BODY_LENGTH;
		c->body_left = strtoull(v, NULL, 10);
		free(v);
	}
	v = req_header(r, "Transfer-Encoding");
	if (v && !strcasecmp(v, "chunked")) {
		c->body_kind = BODY_CHUNKED;
		c->body_left = 0;
	}
	free(v);
	v = req_header(r, "Host");
	if (!v && r->minor == 1) {
		c->req = NULL;
		req_ended(r, REQ_DONE);
		req_part(r);
		protocol_error(c, "400 Bad Request: missing required Host header", "400 Bad Request: missing required Host header");
		return false;
	}
	free(v);
	v = req_header(r, "Expect");
	if (v && !strcasecmp(v, "100-continue") && r->minor == 1)
		out_bytes(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	free(v);
	return true;
}

static void body_take(struct req *r, const char *p, size_t n)
{
	size_t keep = r->body.n < fake.keep_bytes ? fake.keep_bytes - r->body.n : 0;

	sha256_add(&r->sha, p, n);
	r->body_bytes += n;
	fake.body_bytes += r->counted ? (int64_t)n : 0;
	fake.dirty = true;                       /* somebody may wait for them */
	str_add(&r->body, p, n < keep ? n : keep);
}

/* Takes what there is of the body. 1: whole, 0: more must come, -1: nonsense. */
static int parse_body(struct conn *c)
{
	for (;;) {
		char *p = c->in.at + c->in_at;
		size_t have = c->in.n - c->in_at, n;
		const char *nl;

		if (c->body_kind == BODY_NONE || (c->body_kind == BODY_LENGTH && !c->body_left))
			return 1;
		if (c->body_kind == BODY_LENGTH || c->chunk_step == 1) {
			n = have < c->body_left ? have : (size_t)c->body_left;
			body_take(c->req, p, n);
			c->in_at += n;
			c->body_left -= n;
			if (c->body_left)
				return 0;
			c->chunk_step = 2;
			continue;
		}
		nl = memchr(p, '\n', have);
		if (!nl)
			return have > 4096 ? -1 : 0;
		c->in_at += (size_t)(nl - p) + 1;
		if (c->chunk_step == 0) {
			char *end;

			c->body_left = strtoull(p, &end, 16);
			if (end == p || hex_digit(*p) < 0)
				return -1;
			c->chunk_step = c->body_left ? 1 : 3;
		} else if (c->chunk_step == 2) {
			c->chunk_step = 0;
		} else if (nl - p <= 1) {
			return 1;
		}
	}
}

static void conn_compact(struct conn *c)
{
	if (c->in_at == c->in.n) {
		c->in.n = c->in_at = 0;
		if (c->in.room > READ_BYTES * 4)
			str_free(&c->in);
	} else if (c->in_at > READ_BYTES) {
		memmove(c->in.at, c->in.at + c->in_at, c->in.n - c->in_at);
		c->in.n -= c->in_at;
		c->in_at = 0;
	}
}

/* Goes on with what has been read: one request at a time, in order. */
void conn_next(struct conn *c)
{
	while (!c->dead && c->step != STEP_BUSY && !c->close_after) {
		if (c->step == STEP_HEAD) {
			const char *p, *end;

			while (c->in_at < c->in.n && (c->in.at[c->in_at] == '\r' || c->in.at[c->in_at] == '\n'))
				c->in_at++;
			p = c->in.at ? c->in.at + c->in_at : "";
			end = c->in.n > c->in_at ? memmem(p, c->in.n - c->in_at, "\r\n\r\n", 4) : NULL;
			if (!end) {
				if (c->in.n - c->in_at > HEAD_MAX)
					protocol_error(c, "431 Request Header Fields Too Large", "431 Request Header Fields Too Large");
				break;
			}
			if (!parse_head(c, (size_t)(end - p) + 4))
				return;
			c->in_at += (size_t)(end - p) + 4;
			c->step = STEP_BODY;
			if (c->first)
				conn_flush(c);
		} else {
			int k = parse_body(c);
			struct req *r = c->req;

			if (k < 0) {
				protocol_error(c, "400 Bad Request", "400 Bad Request");
				return;
			}
			if (!k)
				break;
			c->step = STEP_BUSY;
			sha256_hex(&r->sha, r->sha_hex);
			r->state = REQ_RUNNING;
			r->started_us = now_us();
			if (r->counted) {
				fake.requests++;
				count_path(r->path);
			}
			fake.dirty = true;
			dispatch(r);
		}
	}
	if (!c->dead) {
		conn_compact(c);
		if (c->eof && !c->first && c->step != STEP_BUSY)
			conn_kill(c, false);
		else
			conn_watch(c);
	}
}

static void conn_read(struct conn *c)
{
	static char buf[READ_BYTES];

	for (int i = 0; i < 16 && !c->dead; i++) {
		ssize_t n = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			conn_kill(c, false);
			return;
		}
		if (n == 0) {
			c->eof = true;
			break;
		}
		if (c->no_read)
			continue;
		str_add(&c->in, buf, (size_t)n);
		if (c->step == STEP_BUSY && c->in.n - c->in_at > IN_HELD_MAX)
			break;
		if (c->step != STEP_BUSY)
			conn_next(c);
	}
	if (!c->dead && c->eof) {
		/* What is not answered yet does not outlive its client's side of the connection, as in Ollama. */
		if (c->step == STEP_BUSY || !c->first)
			conn_kill(c, false);
		else
			conn_watch(c);
	}
}

static void listener_accept(struct listener *l)
{
	for (int i = 0; i < 256; i++) {
		int on = 1, fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;
		struct epoll_event ev;

		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		c = must(calloc(1, sizeof *c));
		*c = (struct conn){ .what = WHAT_CONN, .fd = fd, .id = ++fake.conn_ids, .control = l->control,
				    .next = fake.conns, .events = EPOLLIN | EPOLLRDHUP, .split.fire = split_fire };
		if (fake.conns)
			fake.conns->prev = c;
		fake.conns = c;
		fake.connections += !l->control;
		fake.open++;
		fake.dirty = true;
		ev = (struct epoll_event){ .events = c->events, .data.ptr = c };
		epoll_ctl(fake.epoll, EPOLL_CTL_ADD, fd, &ev);
		if (fake.down && !l->control && !strcmp(fake.down, "reset"))
			conn_kill(c, true);
	}
}

void fake_loop(void)
{
	struct epoll_event ev[512];

	while (!fake.stop) {
		int wait = -1, n;

		if (heap_n) {
			uint64_t now = now_us();

			wait = heap[0]->at_us <= now ? 0 : (int)((heap[0]->at_us - now + 999) / 1000);
		}
		n = epoll_wait(fake.epoll, ev, 512, wait);
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (*(int *)ev[i].data.ptr == WHAT_LISTENER) {
				listener_accept(ev[i].data.ptr);
				continue;
			}
			if (!c->dead && ev[i].events & EPOLLERR)
				conn_kill(c, false);
			if (!c->dead && ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
				conn_read(c);
			if (!c->dead && ev[i].events & EPOLLOUT)
				conn_flush(c);
		}
		for (uint64_t now = now_us(); heap_n && heap[0]->at_us <= now;) {
			struct timer *t = heap[0];

			timer_stop(t);
			t->fire(t);
		}
		control_turn();
		bury();
	}
}
