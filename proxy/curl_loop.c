/* curl_loop.c - see curl_loop.h. */
#include "proxy/curl_loop.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKETS_LEAST = 256, IDLE_CONNECTIONS = 256 };

/* Of sockets curl opens by other ways than ours (its resolver's) we are not told when they close, nor always of one that is
 * given up while it connects: these are watched no longer than curl asks for. */
struct curl_socket {
	uv_poll_t poll;
	struct curl_loop *loop;
	int fd;
	int events;                          /* it is watched for; 0: it is not */
	bool ours;                           /* opened, and to be closed, by on_open() and on_close() */
	bool idle;
};

static void on_closed(struct curl_loop *l)
{
	if (--l->open)
		return;
	free(l->sockets);
	l->closed(l->arg);
}

static void on_socket_closed(uv_handle_t *h)
{
	struct curl_socket *s = h->data;
	struct curl_loop *l = s->loop;

	free(s);
	on_closed(l);
}

static void socket_drop(struct curl_socket *s)
{
	s->loop->sockets[s->fd] = NULL;
	uv_close((uv_handle_t *)&s->poll, on_socket_closed);
}

static struct curl_socket *socket_of(const struct curl_loop *l, int fd)
{
	return (size_t)fd < l->n_sockets ? l->sockets[fd] : NULL;
}

static struct curl_socket *socket_add(struct curl_loop *l, int fd, bool ours)
{
	size_t n = l->n_sockets ? l->n_sockets : SOCKETS_LEAST;
	struct curl_socket *s = calloc(1, sizeof *s);

	while (n <= (size_t)fd)
		n *= 2;
	if (s && n > l->n_sockets) {
		struct curl_socket **more = realloc(l->sockets, n * sizeof *more);
		if (!more)
			goto fail;
		memset(more + l->n_sockets, 0, (n - l->n_sockets) * sizeof *more);
		l->sockets = more;
		l->n_sockets = n;
	}
	if (s && l->sockets[fd])
		socket_drop(l->sockets[fd]);     /* it was closed without a word, and its number is another's now */
	if (!s || uv_poll_init(&l->loop->uv, &s->poll, fd))
		goto fail;
	s->poll.data = s;
	s->loop = l;
	s->fd = fd;
	s->ours = ours;
	l->sockets[fd] = s;
	l->open++;
	return s;
fail:
	free(s);
	return NULL;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct curl_loop *l = arg;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);

	(void)purpose;
	if (fd >= 0 && !socket_add(l, fd, true)) {
		close(fd);
		return CURL_SOCKET_BAD;
	}
	return fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct curl_socket *s = socket_of(arg, fd);

	if (s)
		socket_drop(s);
	return close(fd);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct curl_socket *s = poll->data;
	struct curl_loop *l = s->loop;
	int running, flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);

	if (s->idle) {
		uv_poll_stop(poll);
		s->events = 0;
	} else {
		if (status) {
			/* libuv looks away from a socket with an error; what came before it is still to be read */
			flags = CURL_CSELECT_IN | CURL_CSELECT_ERR;
			uv_poll_start(poll, s->events, on_ready);
		}
		curl_multi_socket_action(l->multi, s->fd, flags, &running);
	}
	l->moved(l->arg);
	loop_settle(l->loop);            /* what this one brought leaves before the next is looked at */
}

/* -1 would end every transfer there is. A socket that cannot be watched ends at most its own, by the owner's timer: curl asks
 * for what its resolver has found by a timer as well. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct curl_loop *l = arg;
	struct curl_socket *s = socket_of(l, fd);
	int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);

	(void)easy, (void)known;
	if (what == CURL_POLL_REMOVE) {
		if (s && s->ours && s->events == UV_READABLE)
			s->idle = true;
		else if (s)
			socket_drop(s);
		return 0;
	}
	if (!s && !(s = socket_add(l, fd, false)))
		return 0;
	s->idle = false;
	if (s->events != events && !uv_poll_start(&s->poll, events, on_ready))
		s->events = events;
	return 0;
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

void curl_loop_own(struct curl_loop *l, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, l);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, l);
}

void curl_loop_init(struct curl_loop *l, struct loop *loop, void (*moved)(void *arg), void *arg)
{
	*l = (struct curl_loop){ .loop = loop, .multi = curl_multi_init(), .moved = moved, .arg = arg, .open = 1 };
	if (!l->multi)
		abort();
	uv_timer_init(&loop->uv, &l->timer);
	l->timer.data = l;
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS);
}

static void on_timer_closed(uv_handle_t *h)
{
	on_closed(h->data);
}

void curl_loop_fini(struct curl_loop *l, void (*closed)(void *arg))
{
	l->closed = closed;
	curl_multi_cleanup(l->multi);            /* closes what is idle */
	for (size_t fd = 0; fd < l->n_sockets; fd++)
		if (l->sockets[fd])
			socket_drop(l->sockets[fd]);
	uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}
