/* curl_loop.c - see curl_loop.h. */
#include "proxy/curl_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKETS_LEAST = 256 };

struct curl_socket {
	uv_poll_t poll;
	struct curl_loop *loop;
	int fd;
	int events;                          /* it is watched for; 0: it is not */
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

static struct curl_socket *socket_add(struct curl_loop *l, int fd)
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
	if (!s || uv_poll_init(&l->loop->uv, &s->poll, fd))
		goto fail;
	s->poll.data = s;
	s->loop = l;
	s->fd = fd;
	l->sockets[fd] = s;
	l->open++;
	return s;
fail:
	free(s);
	return NULL;
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void socket_watch(struct curl_socket *s, int events)
{
	if (s->events != events && !uv_poll_start(&s->poll, events, on_ready))
		s->events = events;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct curl_socket *s = poll->data;
	struct curl_loop *l = s->loop;
	int running, flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);

	if (status) {                            /* libuv looks away from a socket with an error */
		int wanted = s->events;
		s->events = 0;
		socket_watch(s, wanted);
		flags = CURL_CSELECT_IN | CURL_CSELECT_ERR;
	}
	curl_multi_socket_action(l->multi, s->fd, flags, &running);
	l->moved(l->arg);
}

/* curl 7.88 closes a socket that did not connect without a word; when its number comes again for the next address, curl takes
 * that for watched already. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct curl_owned *owned = arg;
	struct curl_loop *l = owned->loop;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
	struct curl_socket *closed = fd >= 0 ? socket_of(l, fd) : NULL, *s;

	(void)purpose;
	owned->error = fd < 0 ? errno : 0;
	if (!closed)
		return fd;
	int events = closed->events;
	socket_drop(closed);
	if (!(s = socket_add(l, fd))) {
		close(fd);
		return CURL_SOCKET_BAD;
	}
	socket_watch(s, events);
	return fd;
}

/* -1 would end every transfer there is. A socket that cannot be watched ends at most its own, by the timer of its connecting:
 * curl asks for what its resolver has found by a timer as well. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct curl_loop *l = arg;
	struct curl_socket *s = socket_of(l, fd);

	(void)easy, (void)known;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			socket_drop(s);
		return 0;
	}
	if (s || (s = socket_add(l, fd)))
		socket_watch(s, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
	return 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct curl_loop *l = timer->data;
	int running;

	curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	l->moved(l->arg);
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

void curl_loop_own(struct curl_loop *l, CURL *easy, struct curl_owned *owned)
{
	*owned = (struct curl_owned){ .loop = l };
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, owned);
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
}

static void on_timer_closed(uv_handle_t *h)
{
	on_closed(h->data);
}

void curl_loop_fini(struct curl_loop *l, void (*closed)(void *arg))
{
	l->closed = closed;
	curl_multi_cleanup(l->multi);
	for (size_t fd = 0; fd < l->n_sockets; fd++)
		if (l->sockets[fd])
			socket_drop(l->sockets[fd]);
	uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}
