/* net.c - epoll and a binary heap of timers; see net.h. */
#include "tests/bench/load/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, BACKLOG = 8192 };

static int ep = -1;
static struct timer **heap;
static size_t heap_len, heap_room;

int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("ollabench: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

void net_raise_limits(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void add(struct watch *w, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = w };

	if (ep < 0)
		ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, w->fd, &e))
		die("epoll: %s", strerror(errno));
}

void net_watch(struct watch *w)
{
	add(w, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void net_watch_listener(struct watch *w)
{
	add(w, EPOLLIN);
}

static void place(struct timer *t, size_t i)
{
	heap[i] = t;
	t->slot = i + 1;
}

static void sift_up(struct timer *t, size_t i)
{
	while (i > 0 && heap[(i - 1) / 2]->due > t->due) {
		place(heap[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	place(t, i);
}

static void sift_down(struct timer *t, size_t i)
{
	for (size_t c; (c = 2 * i + 1) < heap_len; i = c) {
		if (c + 1 < heap_len && heap[c + 1]->due < heap[c]->due)
			c++;
		if (heap[c]->due >= t->due)
			break;
		place(heap[c], i);
	}
	place(t, i);
}

void timer_clear(struct timer *t)
{
	size_t i = t->slot - 1;

	if (!t->slot)
		return;
	t->slot = 0;
	struct timer *last = heap[--heap_len];
	if (last == t)
		return;
	if (i > 0 && heap[(i - 1) / 2]->due > last->due)
		sift_up(last, i);
	else
		sift_down(last, i);
}

void timer_set(struct timer *t, int64_t due)
{
	timer_clear(t);
	if (heap_len == heap_room) {
		heap_room = heap_room ? heap_room * 2 : 1024;
		heap = realloc(heap, heap_room * sizeof *heap);
		if (!heap)
			die("out of memory");
	}
	t->due = due;
	sift_up(t, heap_len++);
}

void net_turn(int64_t max_wait)
{
	static struct epoll_event got[EVENTS];
	int64_t now = now_ns(), wait = max_wait;

	if (ep < 0)
		ep = epoll_create1(EPOLL_CLOEXEC);
	if (heap_len && heap[0]->due - now < wait)
		wait = heap[0]->due - now;
	if (wait < 0)
		wait = 0;
	struct timespec t = { wait / 1000000000, wait % 1000000000 };
	int n = epoll_pwait2(ep, got, EVENTS, &t, NULL);
	for (int i = 0; i < n; i++) {
		struct watch *w = got[i].data.ptr;
		w->on(w, got[i].events);
	}
	if (!heap_len)
		return;
	now = now_ns();
	while (heap_len && heap[0]->due <= now) {
		struct timer *due = heap[0];
		timer_clear(due);
		due->on(due);
	}
}

void net_run(const int *stop, int64_t until)
{
	for (int64_t now; !*stop && (now = now_ns()) < until;)
		net_turn(until - now);
}

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

static socklen_t resolve(const char *where, union address *a)
{
	const char *colon = strrchr(where, ':');
	char host[64];

	memset(a, 0, sizeof *a);
	if (!strncmp(where, "unix:", 5)) {
		a->un.sun_family = AF_UNIX;
		if (strlen(where + 5) >= sizeof a->un.sun_path)
			die("%s: too long a path", where);
		memcpy(a->un.sun_path, where + 5, strlen(where + 5));
		return sizeof a->un;
	}
	if (!colon || (size_t)(colon - where) >= sizeof host)
		die("%s: expected HOST:PORT or unix:/path", where);
	memcpy(host, where, (size_t)(colon - where));
	host[colon - where] = 0;
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &a->in.sin_addr) != 1)
		die("%s: not an IPv4 address", where);
	return sizeof a->in;
}

int net_listen(const char *where)
{
	union address a;
	socklen_t len = resolve(where, &a);
	int on = 1, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (fd < 0 || bind(fd, &a.any, len) || listen(fd, BACKLOG))
		die("%s: %s", where, strerror(errno));
	return fd;
}

int net_connect(const char *where)
{
	union address a;
	socklen_t len = resolve(where, &a);
	int on = 1, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	if (connect(fd, &a.any, len) && errno != EINPROGRESS)
		die("connect %s: %s", where, strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}
