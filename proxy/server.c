/* server.c - connections and requests; see server.h. Replies are in server_reply.c, deadlines in server_clock.c. */
#include "proxy/server_private.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/base/log.h"

enum { ACCEPTS_A_TURN = 64, EVENTS_A_TURN = 128, RUNS_A_TURN = 8, IDLE_RUNS_MAX = 64, ROUNDS_A_TURN = 16, DAEMON_FILL = 32 };
enum { SPARE_REQUESTS = 256, SMALL_TARGET = 128 };

/* ---- running MHD ---- */

void server_kick(struct server *s, unsigned daemon)
{
	s->dirty |= 1u << daemon;
}

/* From 1.0 on MHD queues what is added to a daemon that other threads might use, and tells of it later, when
 * s->accepting is gone; ours are used by one thread alone. */
#if MHD_VERSION >= 0x01000000
#define ADD_AT_ONCE MHD_USE_NO_THREAD_SAFETY
#else
#define ADD_AT_ONCE 0
#endif

static void run_daemon(struct server *s, unsigned i)
{
	MHD_UNSIGNED_LONG_LONG wait;

	for (int n = 0; n < RUNS_A_TURN; n++) {
		uint64_t calls = s->calls;
		MHD_run(s->daemon[i]);
		if (MHD_get_timeout(s->daemon[i], &wait) != MHD_YES || wait > 0)
			return;
		/* what is parked is always ready; what else might be is a body under way, or a reply */
		if (s->parked[i] && (s->calls == calls || (!s->list[CONN_BODY].first && !s->list[CONN_SENDING].first)))
			return;
	}
	if (s->calls != s->calls_seen[i]) {
		s->calls_seen[i] = s->calls;
		s->idle_runs[i] = 0;
	} else if (++s->idle_runs[i] > IDLE_RUNS_MAX) {
		/* MHD turns in circles over a chunk's head that is larger than its buffer: who sends such ends by a timer */
		server_clock_unstick(s, i);
		return;
	}
	server_kick(s, i);                   /* it has more to do: once the others have had their turn */
}

static void watch_bodies(struct server *s);

static void on_more(uv_idle_t *idle)
{
	(void)idle;                          /* it only keeps the loop from sleeping: the work is done before it would */
}

/* Everything this turn has asked for: daemons to run, bytes to send, owners to tell. Callbacks may ask for more. */
void server_turn(struct server *s)
{
	for (int round = 0; round < ROUNDS_A_TURN && (s->dirty || s->to_flush || s->to_tell); round++) {
		unsigned dirty = s->dirty;
		s->dirty = 0;
		for (unsigned i = 0; dirty; i++, dirty >>= 1)
			if (dirty & 1)
				run_daemon(s, i);
		server_flush_all(s);
		server_tell_all(s);
	}
	if (s->new_bodies)
		watch_bodies(s);
	server_watch_now(s);
	if (s->dirty || s->to_flush || s->to_tell)
		uv_idle_start(&s->more, on_more);        /* no socket will tell of it: MHD's are edge-triggered */
	else
		uv_idle_stop(&s->more);
}

static void on_daemon_ready(uv_poll_t *poll, int status, int events)
{
	struct server *s = poll->data;

	(void)status, (void)events;
	run_daemon(s, (unsigned)(poll - s->poll));
	server_turn(s);
}

/* ---- the client's socket, while MHD sleeps ---- */

void conn_watch(struct conn *c, uint32_t events)
{
	struct epoll_event e = { .events = events | EPOLLRDHUP | EPOLLET, .data.ptr = c };

	if (c->watched == events + 1)
		return;
	epoll_ctl(c->server->watch_fd, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e);
	c->watched = events + 1;
}

void conn_unwatch(struct conn *c)
{
	if (c->watched)
		epoll_ctl(c->server->watch_fd, EPOLL_CTL_DEL, c->fd, NULL);
	c->watched = 0;
}

/* The client's end came in the packet of its last bytes: MHD has seen one edge for both, has read the bytes, and would wait
 * for another. Ending our own reading side makes one; what is still unread can be read as before. */
static void hasten_end(struct conn *c)
{
	conn_unwatch(c);
	shutdown(c->fd, SHUT_RD);
}

/* Whoever is still sending a body at the end of a turn is watched for its end. */
static void watch_bodies(struct server *s)
{
	s->new_bodies = false;
	for (struct conn *c = s->list[CONN_BODY].first; c; c = c->next)
		if (!c->watched && c->request)
			conn_watch(c, 0);
}

static void on_watched(uv_poll_t *poll, int status, int events)
{
	struct server *s = poll->data;
	struct epoll_event e[EVENTS_A_TURN];

	(void)status, (void)events;
	int n = epoll_wait(s->watch_fd, e, EVENTS_A_TURN, 0);
	for (int i = 0; i < n; i++) {
		struct conn *c = e[i].data.ptr;
		struct request_private *r = c->request;
		if (!r)
			continue;
		if (e[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) && !r->whole)
			hasten_end(c);
		else if (e[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			request_gone(r, ERR_CLIENT_GONE);
		else if (e[i].events & EPOLLOUT)
			request_flush_now(r);
	}
	server_turn(s);
}

/* ---- a connection's life ---- */

static void peer_text(const struct sockaddr_storage *a, char text[PEER_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "";

	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)a;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
		snprintf(text, PEER_TEXT_MAX, "%s:%u", host, ntohs(in->sin_port));
	} else if (a->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)a;
		inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
		snprintf(text, PEER_TEXT_MAX, "[%s]:%u", host, ntohs(in->sin6_port));
	} else {
		snprintf(text, PEER_TEXT_MAX, "unix");
	}
}

static bool is_loopback(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
	if (a->ss_family != AF_INET6)
		return false;
	const struct in6_addr *in = &((const struct sockaddr_in6 *)a)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(in) || (IN6_IS_ADDR_V4MAPPED(in) && in->s6_addr[12] == 127);
}

/* Closing with its request unread would reset the connection before the client has read the reply: it is kept a moment. */
static void server_linger(struct server *s, int fd)
{
	if (s->lingering[s->linger_at])
		close(s->lingering[s->linger_at]);
	s->lingering[s->linger_at] = fd;
	s->linger_at = (s->linger_at + 1) % SERVER_LINGER;
	server_clock_linger(s);
}

/* One connection more than allowed: it is told so in its own language and closed, without going through MHD. */
static void refuse(struct server *s, int fd)
{
	static const char reply[] =
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 1\r\n"
		"Connection: close\r\nContent-Length: %zu\r\n\r\n{\"error\":\"%s\"}";
	char text[512];
	int len = snprintf(text, sizeof text, reply, strlen(err_info[ERR_FULL].text) + 12, err_info[ERR_FULL].text);

	if (send(fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_line(LOG_DEBUG, "server", "a refused client did not take its 503");
	shutdown(fd, SHUT_WR);
	server_linger(s, fd);
}

/* What is ready in one daemon is done in one run of it, so they are filled one after the other; a resume walks all of a
 * daemon's sleepers, so none is filled beyond need. */
static unsigned daemon_for_next(const struct server *s)
{
	unsigned least = 0;

	for (unsigned i = 0; i < SERVER_DAEMONS; i++) {
		if (s->daemon_conns[i] < DAEMON_FILL)
			return i;
		if (s->daemon_conns[i] < s->daemon_conns[least])
			least = i;
	}
	return least;
}

static void accept_one(struct server *s, int fd, const struct sockaddr_storage *peer, socklen_t len, bool is_admin)
{
	struct sockaddr_storage own = { 0 };
	socklen_t own_len = sizeof own;
	unsigned i = daemon_for_next(s);

	if (atomic_fetch_add(s->o.connections, 1) >= s->o.max_connections) {
		atomic_fetch_sub(s->o.connections, 1);
		refuse(s, fd);
		return;
	}
	getsockname(fd, (struct sockaddr *)&own, &own_len);
	if (peer->ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	s->accepting = &(struct accepting){ .fd = fd, .peer = peer, .to_loopback = is_loopback(&own), .is_admin = is_admin,
	                                    .daemon = i };
	if (MHD_add_connection(s->daemon[i], fd, (const struct sockaddr *)peer, len) != MHD_YES) {
		/* MHD has closed the socket; if it never told us of the connection, the count is ours to mend */
		if (s->accepting)
			atomic_fetch_sub(s->o.connections, 1);
	}
	s->accepting = NULL;
	server_kick(s, i);
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
	struct listener *l = poll->data;
	struct server *s = l->server;

	(void)status, (void)events;
	for (int n = 0; n < ACCEPTS_A_TURN && !s->draining; n++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t len = sizeof peer;
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				server_clock_rest(s);      /* look again a little later instead of spinning */
			break;
		}
		if (peer.ss_family == AF_UNSPEC)
			peer.ss_family = AF_UNIX;
		accept_one(s, fd, &peer, len ? len : sizeof(sa_family_t), l->is_admin);
	}
	server_turn(s);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
	struct server *s = cls;
	struct conn *c = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const struct accepting *a = s->accepting;
		c = calloc(1, sizeof *c);
		*context = c;
		s->accepting = NULL;
		if (!c)
			return;                  /* its first request is refused: see on_uri() */
		c->server = s;
		c->mhd = mhd;
		c->fd = a->fd;
		c->daemon = a->daemon;
		c->to_loopback = a->to_loopback;
		c->is_admin = a->is_admin;
		c->is_tcp = a->peer->ss_family != AF_UNIX;
		c->peer_local = a->peer->ss_family == AF_UNIX || is_loopback(a->peer);
		peer_text(a->peer, c->peer);
		s->n_conns++;
		s->daemon_conns[c->daemon]++;
		metric_add(s->o.metrics, connections_open, 1);
		conn_link(c, CONN_HEADERS);
		return;
	}
	atomic_fetch_sub(s->o.connections, 1);
	if (!c)
		return;
	conn_unwatch(c);
	if (c->request)
		request_finish(c->request, false);
	conn_unlink(c);
	server_clock_forget(c);
	s->n_conns--;
	s->daemon_conns[c->daemon]--;
	metric_add(s->o.metrics, connections_open, -1);
	free(c);
}

/* ---- a request's way in ---- */

static void split_target(struct request_private *r)
{
	static const struct slice schemes[] = { { "http://", 7 }, { "https://", 8 } };
	struct slice t = r->pub.target;

	/* absolute form (RFC 9112, 3.2.2): the path begins behind the authority */
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		struct slice scheme = schemes[i];
		if (t.len < scheme.len || !slice_is_nocase(slice_of(t.at, scheme.len), scheme))
			continue;
		struct slice rest = slice_of(t.at + scheme.len, t.len - scheme.len);
		const char *slash = memchr(rest.at, '/', rest.len);
		r->authority = slice_of(rest.at, slash ? (size_t)(slash - rest.at) : rest.len);
		t = slash ? slice_of(slash, rest.len - r->authority.len) : SLICE("/");
		r->pub.target = t;
		break;
	}
	const char *mark = memchr(t.at, '?', t.len);
	r->pub.path = slice_of(t.at, mark ? (size_t)(mark - t.at) : t.len);
	r->pub.query = mark ? slice_of(mark + 1, t.len - r->pub.path.len - 1) : (struct slice){ 0 };
}

/* A few requests are kept: they are too large for malloc's quick lists. Under a sanitizer none is, so that it sees each. */
static struct request_private *request_new(struct server *s, size_t target_len)
{
	struct request_private *r = s->spare;
	bool small = target_len < SMALL_TARGET;

	if (small && r) {
		s->spare = r->flush_next;
		s->n_spare--;
	} else if (!(r = malloc(sizeof *r + (small ? SMALL_TARGET : target_len + 1)))) {
		return NULL;
	}
	memset(r, 0, offsetof(struct request_private, field));
	r->small = small;
	return r;
}

static void request_free(struct server *s, struct request_private *r)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)s;
	free(r);
#else
	if (!r->small || s->n_spare >= SPARE_REQUESTS) {
		free(r);
		return;
	}
	r->flush_next = s->spare;
	s->spare = r;
	s->n_spare++;
#endif
}

/* The first MHD says of a request: its raw target. What is returned becomes *con_cls. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *c = info->socket_context;
	size_t len = strlen(uri);
	struct request_private *r = c ? request_new(c->server, len) : NULL;

	(void)cls;
	if (!r)
		return NULL;
	memcpy(r->target, uri, len + 1);
	r->pub.target = slice_of(r->target, len);
	split_target(r);
	r->conn = c;
	r->server = c->server;
	r->mhd = mhd;
	r->pub.peer = c->peer;
	r->pub.peer_local = c->peer_local;
	r->pub.to_loopback = c->to_loopback;
	r->pub.is_admin = c->is_admin;
	r->pub.begun_us = clock_us();
	buf_init(&r->out, OUT_LIMIT);
	c->request = r;
	return r;
}

/* A letter, a digit or one of these: RFC 9110, 5.6.2. Anything else in a name is a way to hide a header from one side. */
static const bool token_byte[256] = {
	['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true,
	['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true,
	['`'] = true, ['|'] = true, ['~'] = true,
};

static bool is_token(struct slice s)
{
	bool good = s.len > 0;

	for (size_t i = 0; i < s.len; i++)
		good &= token_byte[(unsigned char)s.at[i]];
	return good;
}

/* No control byte but the tab. */
static bool is_field_value(struct slice s)
{
	unsigned char bad = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];
		bad |= (c < ' ') & (c != '\t');
		bad |= c == 0x7f;
	}
	return !bad;
}

static bool begins_with(struct slice s, struct slice begin)
{
	return s.len >= begin.len && slice_is_nocase(slice_of(s.at, begin.len), begin);
}

struct head_check {
	const char *length, *coding, *host;
	bool bad;
};

static void once(struct head_check *h, const char **header, struct slice value)
{
	h->bad |= *header != NULL;
	*header = value.at;
}

static void check_header(void *arg, struct slice name, struct slice value)
{
	struct head_check *h = arg;

	h->bad |= !is_token(name) || !is_field_value(value);
	switch (name.len ? name.at[0] | 0x20 : 0) {
	case 'c':
		if (slice_is_nocase(name, SLICE("Content-Length")))
			once(h, &h->length, value);
		else
			h->bad |= begins_with(name, SLICE("Content-Length"));
		break;
	case 't':
		if (slice_is_nocase(name, SLICE("Transfer-Encoding")))
			once(h, &h->coding, value);
		else
			h->bad |= begins_with(name, SLICE("Transfer-Encoding"));
		break;
	case 'h':
		if (slice_is_nocase(name, SLICE("Host")))
			once(h, &h->host, value);
		break;
	}
}

/* Nothing in a head may leave the line it is written in, here or upstream, and its length must be read alike by everyone
 * (RFC 9112, 11.1 and 11.2). MHD glues a folded line to the header's name: so a name that only begins like a length is one
 * that somebody in front may have read as one. */
static bool head_is_good(struct request_private *r)
{
	struct slice t = r->pub.target;
	struct head_check h = { 0 };
	uint64_t n = 0;

	for (size_t i = 0; i < t.len; i++)
		if ((unsigned char)t.at[i] <= ' ' || t.at[i] == 0x7f)
			return false;
	if (t.len == 0 || (t.at[0] != '/' && !slice_is(t, SLICE("*"))))
		return false;
	request_find_fields(r);
	for (const char *p = r->pub.method; *p; p++)
		if ((*p < 'A' || *p > 'Z') && (*p < 'a' || *p > 'z') && *p != '-' && *p != '_')
			return false;
	request_each_header(&r->pub, check_header, &h);
	if (h.bad || (h.length && h.coding) || (!h.host && r->pub.http11))
		return false;
	if (r->authority.at && (!h.host || !slice_is_nocase(r->authority, slice_text(h.host))))
		return false;
	if (h.coding && (!r->pub.http11 || !slice_is_nocase(slice_text(h.coding), SLICE("chunked"))))
		return false;
	if (h.length && !slice_number(slice_text(h.length), INT64_MAX, &n))
		return false;
	r->pub.content_length = h.coding ? -1 : (int64_t)n;
	r->pub.has_body = h.coding || n > 0;
	return true;
}

/* Where such a request ends nobody can tell: it is answered past MHD, which would wait for its body first, and the
 * connection ends here. */
static enum MHD_Result refuse_head(struct request_private *r)
{
	static const char reply[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
	                            "Connection: close\r\nContent-Length: 15\r\n\r\n400 Bad Request";
	int fd = r->conn->fd, kept = dup(fd);

	r->refused = true;
	if (send(fd, reply, sizeof reply - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_line(LOG_DEBUG, "server", "a client did not take its 400");
	shutdown(fd, SHUT_WR);
	if (kept >= 0)
		server_linger(r->server, kept);
	return MHD_NO;
}

static enum MHD_Result first_call(struct request_private *r, const char *method, const char *version)
{
	struct server *s = r->server;

	r->pub.method = method;
	r->pub.http11 = strcmp(version, "HTTP/1.0") != 0;
	r->begun = true;
	if (!head_is_good(r))
		return refuse_head(r);
	conn_state(r->conn, r->pub.has_body ? CONN_BODY : CONN_BUSY);
	s->new_bodies |= r->pub.has_body;
	s->o.ops->begin(&r->pub, s->o.arg);
	return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                                 const char *data, size_t *len, void **con_cls)
{
	struct request_private *r = *con_cls;

	(void)mhd, (void)url;
	if (r && r->parked && !r->gone && !r->later) {
		request_park(r);
		return MHD_YES;
	}
	((struct server *)cls)->calls++;
	if (!r || r->gone)
		return MHD_NO;
	if (!r->begun)
		return first_call(r, method, version);
	if (*len) {
		conn_state(r->conn, CONN_BODY);
		size_t taken = r->discard ? *len : r->server->o.ops->body(&r->pub, slice_of(data, *len));
		if (r->discard)
			taken = *len;
		if (taken < *len) {
			conn_state(r->conn, CONN_BUSY);
			request_suspend(r);
		}
		*len -= taken;
		return MHD_YES;
	}
	if (!r->whole) {
		r->whole = true;
		conn_state(r->conn, CONN_BUSY);
		if (!r->replied)
			r->server->o.ops->whole(&r->pub);
	}
	request_queue_later(r);
	if (!r->queued && !r->gone)
		request_park(r);
	return r->gone && !r->queued ? MHD_NO : MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code)
{
	struct request_private *r = *con_cls;

	(void)mhd;
	((struct server *)cls)->calls++;
	*con_cls = NULL;
	if (!r)
		return;
	struct conn *c = r->conn;
	request_uncork(r);
	request_finish(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	conn_unwatch(c);
	server_clock_forget(c);
	conn_state(c, CONN_IDLE);
	if (c->server->draining)
		shutdown(c->fd, SHUT_RDWR);
}

void request_finish(struct request_private *r, bool sent)
{
	struct server *s = r->server;

	r->conn->request = NULL;
	request_unpark(r);
	server_forget(s, r);
	if (r->begun && !r->refused)
		s->o.ops->done(&r->pub, sent && !r->gone && !r->broken);
	request_drop_later(r);
	if (r->streams)
		metric_add(s->o.metrics, streams_open, -1);
	buf_fini(&r->out);
	request_free(s, r);
}

/* The owner hears of it once; MHD, when it wakes, finds an error and closes. */
void request_gone(struct request_private *r, enum err why)
{
	if (r->gone)
		return;
	r->gone = true;
	conn_unwatch(r->conn);
	if (r->begun && !r->refused)
		r->server->o.ops->gone(&r->pub, why);
	request_resume(r);
}

/* ---- start and end ---- */

static void on_mhd_log(void *cls, const char *format, va_list args)
{
	char text[512];

	(void)cls;
	vsnprintf(text, sizeof text, format, args);
	text[strcspn(text, "\n")] = '\0';
	log_line(LOG_DEBUG, "http", "%s", text);
}

static void poll_start(struct server *s, uv_poll_t *poll, int fd, uv_poll_cb cb)
{
	if (uv_poll_init(&s->o.loop->uv, poll, fd))
		abort();                     /* at start, out of descriptors */
	poll->data = s;
	uv_poll_start(poll, UV_READABLE, cb);
}

/* MHD is told not to be strict: what its strictness refuses we refuse ourselves, in better words (0.9.75 sends the head of
 * its own 400 twice). */
struct server *server_new(const struct server_options *o)
{
	struct server *s = calloc(1, sizeof *s);

	if (!s)
		abort();
	s->o = *o;
	s->watch_fd = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < SERVER_DAEMONS; i++) {
		s->daemon[i] = MHD_start_daemon(
			ADD_AT_ONCE | MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
			on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
			MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
			MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVER_HEAD_BYTES, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned)o->max_connections + 1, MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
			MHD_OPTION_END);
		if (!s->daemon[i])
			abort();
		poll_start(s, &s->poll[i], MHD_get_daemon_info(s->daemon[i], MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, on_daemon_ready);
	}
	poll_start(s, &s->watch_poll, s->watch_fd, on_watched);
	uv_idle_init(&o->loop->uv, &s->more);
	s->more.data = s;
	server_clock_init(s);
	return s;
}

void server_listen(struct server *s, int fd, bool is_admin)
{
	assert(s->n_listeners < SERVER_LISTENERS);
	struct listener *l = &s->listener[s->n_listeners++];

	*l = (struct listener){ .server = s, .fd = fd, .is_admin = is_admin };
	poll_start(s, &l->poll, fd, on_acceptable);
	l->poll.data = l;
}

static void on_listener_closed(uv_handle_t *h)
{
	struct listener *l = h->data;

	close(l->fd);
}

void server_drain(struct server *s)
{
	if (s->draining)
		return;
	s->draining = true;
	for (size_t i = 0; i < s->n_listeners; i++)
		uv_close((uv_handle_t *)&s->listener[i].poll, on_listener_closed);
	server_clock_close_idle(s);
}

size_t server_connections(const struct server *s)
{
	return s->n_conns;
}

static void on_closed(uv_handle_t *h)
{
	struct server *s = h->data;

	if (--s->closing == 0)
		free(s);
}

void server_abort(struct server *s)
{
	server_drain(s);
	server_clock_abort_all(s);
	for (unsigned i = 0; i < SERVER_DAEMONS; i++)
		server_kick(s, i);
	server_turn(s);
}

void server_free(struct server *s)
{
	server_abort(s);
	for (unsigned i = 0; i < SERVER_DAEMONS; i++) {
		uv_poll_stop(&s->poll[i]);
		MHD_stop_daemon(s->daemon[i]);
	}
	for (size_t i = 0; i < SERVER_LINGER; i++)
		if (s->lingering[i])
			close(s->lingering[i]);
	while (s->spare) {
		struct request_private *r = s->spare;
		s->spare = r->flush_next;
		free(r);
	}
	uv_poll_stop(&s->watch_poll);
	close(s->watch_fd);
	s->closing = SERVER_DAEMONS + 3;
	uv_close((uv_handle_t *)&s->more, on_closed);
	for (unsigned i = 0; i < SERVER_DAEMONS; i++)
		uv_close((uv_handle_t *)&s->poll[i], on_closed);
	uv_close((uv_handle_t *)&s->watch_poll, on_closed);
	server_clock_fini(s, on_closed);
}
