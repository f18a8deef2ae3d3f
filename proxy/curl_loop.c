/* curl_loop.c - see curl_loop.h. */
#include "proxy/curl_loop.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_A_TURN = 128, SOCKETS_LEAST = 256, IDLE_CONNECTIONS = 256 };

/* What is known of a descriptor. Of sockets curl opens by other ways than ours (its resolver's) we are not told when they
 * close, so they do not stay in the set. */
struct curl_socket {
	uint32_t events;                     /* it is in the set with; 0: it is not */
	bool ours;                           /* opened, and to be closed, by the two functions below */
	bool idle;
};

static struct curl_socket *socket_of(struct curl_loop *l, int fd)
{
	size_t n = l->n_sockets ? l->n_sockets : SOCKETS_LEAST;

	if ((size_t)fd < l->n_sockets)
		return &l->sockets[fd];
	while (n <= (size_t)fd)
		n *= 2;
	struct curl_socket *more = realloc(l->sockets, n * sizeof *more);
	if (!more)
		return NULL;
	memset(more + l->n_sockets, 0, (n - l->n_sockets) * sizeof *more);
	l->sockets = more;
	l->n_sockets = n;
	return &more[fd];
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct curl_loop *l = arg;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	struct curl_socket *s = fd >= 0 ? socket_of(l, fd) : NULL;

	(void)purpose;
	if (s)
		*s = (struct curl_socket){ .ours = true };
	return fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct curl_loop *l = arg;

	if ((size_t)fd < l->n_sockets)
		l->sockets[fd] = (struct curl_socket){ 0 };
	return close(fd);                        /* which takes it out of the set */
}

static void take_out(struct curl_loop *l, int fd)
{
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	l->sockets[fd].events = 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct curl_loop *l = arg;
	struct curl_socket *s = socket_of(l, fd);
	struct epoll_event e = { .events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0), .data.fd = fd };

	(void)easy, (void)known;
	if (!s)
		return -1;
	s->idle = what == CURL_POLL_REMOVE;
	if (s->idle) {
		if (!s->ours || s->events != EPOLLIN)
			take_out(l, fd);
		return 0;
	}
	if (s->events == e.events)
		return 0;
	if (epoll_ctl(l->epoll_fd, s->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e))
		return -1;
	s->events = e.events;
	return 0;
}

static void on_sockets_ready(uv_poll_t *poll, int status, int events)
{
	struct curl_loop *l = poll->data;
	struct epoll_event e[EVENTS_A_TURN];
	int running, n = epoll_wait(l->epoll_fd, e, EVENTS_A_TURN, 0);

	(void)status, (void)events;
	for (int i = 0; i < n; i++) {
		int fd = e[i].data.fd;
		int flags = (e[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (e[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		            (e[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
		if (l->sockets[fd].idle && l->sockets[fd].events)
			take_out(l, fd);
		else     /* a socket an earlier event has closed is none of curl's any more, and it says so */
			curl_multi_socket_action(l->multi, fd, flags, &running);
		l->moved(l->arg);
		loop_settle(l->loop);        /* what this one brought leaves before the next is looked at */
	}
}

void curl_loop_act(struct curl_loop *l)
{
	int running;

	curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	l->moved(l->arg);
}

static void on_timer(uv_timer_t *timer)
{
	curl_loop_act(timer->data);
}

static int on_curl_timer(CURLM *multi, long ms, void *arg)
{
	struct curl_loop *l = arg;

	(void)multi;
	if (ms < 0)
		uv_timer_stop(&l->timer);
	else
		uv_timer_start(&l->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

/* Still before the loop sleeps; by curl's own timer it would be a turn later. */
static void on_fresh(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	curl_loop_act(idle->data);
}

void curl_loop_set_off(struct curl_loop *l)
{
	uv_idle_start(&l->fresh, on_fresh);
}

void curl_loop_own(struct curl_loop *l, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, l);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, l);
}

void curl_loop_init(struct curl_loop *l, struct loop *loop, void (*moved)(void *arg), void *arg)
{
	*l = (struct curl_loop){ .loop = loop, .multi = curl_multi_init(), .moved = moved, .arg = arg, .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
	if (!l->multi || l->epoll_fd < 0 || uv_poll_init(&loop->uv, &l->poll, l->epoll_fd))
		abort();
	l->poll.data = l->timer.data = l->fresh.data = l;
	uv_poll_start(&l->poll, UV_READABLE, on_sockets_ready);
	uv_timer_init(&loop->uv, &l->timer);
	uv_idle_init(&loop->uv, &l->fresh);
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS);
}

static void on_closed(uv_handle_t *h)
{
	struct curl_loop *l = h->data;

	if (--l->closing)
		return;
	close(l->epoll_fd);
	free(l->sockets);
	l->closed(l->arg);
}

void curl_loop_fini(struct curl_loop *l, void (*closed)(void *arg))
{
	curl_multi_cleanup(l->multi);
	l->closed = closed;
	l->closing = 3;
	uv_close((uv_handle_t *)&l->poll, on_closed);
	uv_close((uv_handle_t *)&l->timer, on_closed);
	uv_close((uv_handle_t *)&l->fresh, on_closed);
}
