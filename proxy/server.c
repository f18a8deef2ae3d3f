/* server.c - libmicrohttpd's daemons on the loop, and connections; see server.h. Requests are in server_request.c, replies in
 * server_reply.c, deadlines in server_clock.c. */
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

enum { ACCEPTS_A_TURN = 64, EVENTS_A_TURN = 128, RUNS_A_TURN = 8, IDLE_RUNS_MAX = 64, ROUNDS_A_TURN = 16, TURN_US = 1000, DAEMON_FILL = 32 };

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

/* A turn that began then has lasted long enough: what is left to do waits for the next. */
static bool is_long(int64_t began_us)
{
	return clock_us() - began_us > TURN_US;
}

static void run_daemon(struct server *s, unsigned i, int64_t began_us)
{
	MHD_UNSIGNED_LONG_LONG wait;

	for (int n = 0; n < RUNS_A_TURN && !(n && is_long(began_us)); n++) {
		uint64_t calls = s->calls;
		MHD_run(s->daemon[i]);
		if (MHD_get_timeout(s->daemon[i], &wait) != MHD_YES || wait > 0)
			return;
		if (!s->parked[i])
			continue;
		/* what is parked is always ready; what else might be is a body under way, or a reply */
		if (s->calls == calls || (!s->list[CONN_BODY].first && !s->list[CONN_SENDING].first))
			return;
		break;                       /* what it waits for comes by the loop */
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

static bool anyone_parked(const struct server *s)
{
	for (unsigned i = 0; i < SERVER_DAEMONS; i++)
		if (s->parked[i])
			return true;
	return false;
}

/* Everything this turn has asked for: daemons to run, bytes to send, owners to tell. Callbacks may ask for more. Clients that
 * ask without a pause could make that last for long: those who wait for the store must not, its answers come by the loop. */
void server_turn(struct server *s)
{
	int64_t began_us = clock_us();

	for (int round = 0; round < ROUNDS_A_TURN && (s->dirty || s->to_flush || s->to_tell); round++) {
		if (round && (anyone_parked(s) || is_long(began_us)))
			break;
		unsigned dirty = s->dirty;
		s->dirty = 0;
		for (unsigned i = 0; dirty; i++, dirty >>= 1)
			if (dirty & 1)
				run_daemon(s, i, began_us);
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
	server_kick(s, (unsigned)(poll - s->poll));      /* it is run at the end of this turn: once, whatever the others' clients do */
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

/* The client's end came behind its last bytes, but MHD takes a read that fills less than its buffer for the last there is,
 * and would wait for another edge. Ending our own reading side makes one, each time it is done; what is still unread can be
 * read as before. Once is not enough: MHD may have slept, or read the bytes only after it. */
static void hasten_end(struct conn *c)
{
	conn_unwatch(c);
	c->ending = true;
	shutdown(c->fd, SHUT_RD);
	server_clock_end(c->server);
}

/* Whoever is still sending a body at the end of a turn is watched for its end. */
static void watch_bodies(struct server *s)
{
	s->new_bodies = false;
	for (struct conn *c = s->list[CONN_BODY].first; c; c = c->next)
		if (c->ending)                   /* in the body of an earlier request: of this one too, then */
			server_clock_end(s);
		else if (!c->watched && c->request)
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

/* Who has one IPv6 address has all of its network's (RFC 4291, 2.5.4): they are one client. */
static void client_address(const struct sockaddr_storage *a, uint8_t client[CLIENT_BYTES])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->ss_family == AF_INET) {
		memcpy(client, mapped, sizeof mapped);
		memcpy(client + sizeof mapped, &((const struct sockaddr_in *)a)->sin_addr, 4);
	} else if (a->ss_family == AF_INET6) {
		const struct in6_addr *in = &((const struct sockaddr_in6 *)a)->sin6_addr;
		memcpy(client, in, IN6_IS_ADDR_V4MAPPED(in) ? CLIENT_BYTES : CLIENT_BYTES / 2);
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
void server_linger(struct server *s, int fd)
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
			return;                  /* its first request is refused: see request_begun() */
		c->server = s;
		c->mhd = mhd;
		c->fd = a->fd;
		c->daemon = a->daemon;
		c->to_loopback = a->to_loopback;
		c->is_admin = a->is_admin;
		c->is_tcp = a->peer->ss_family != AF_UNIX;
		c->peer_local = a->peer->ss_family == AF_UNIX || is_loopback(a->peer);
		peer_text(a->peer, c->peer);
		client_address(a->peer, c->client);
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

/* ---- start and end ---- */

/* MHD says these of every reply over a unix socket, which has none of TCP's options. */
static bool is_of_unix_sockets(const char *text)
{
	return !strncmp(text, "Setting TCP_", 12) || !strncmp(text, "Failed to push the data", 23);
}

static void on_mhd_log(void *cls, const char *format, va_list args)
{
	char text[512];

	(void)cls;
	vsnprintf(text, sizeof text, format, args);
	text[strcspn(text, "\n")] = '\0';
	if (!is_of_unix_sockets(text))
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
		/* strict: MHD 1.0 would unfold folded lines otherwise, which somebody in front may have read as lines */
		s->daemon[i] = MHD_start_daemon(
			ADD_AT_ONCE | MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
			request_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
			MHD_OPTION_NOTIFY_COMPLETED, request_completed, s, MHD_OPTION_URI_LOG_CALLBACK, request_begun, s,
			MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVER_HEAD_BYTES, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned)o->max_connections + 1, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
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
