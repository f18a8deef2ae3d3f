/* net.h - the small event loop under the benchmark's upstream and load generator.
 *
 * What for   Measuring a proxy needs tools that cost less than it and are the same for every rival: one thread,
 *            one epoll, one heap of timers, nothing else.
 * Ownership  watches and timers are embedded in their owners; the loop only points at them.
 * Threads    one.
 * Limits     EVENTS at a time; the heap grows by one slot a timer. Out of memory ends the program: it is a tool. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <stddef.h>
#include <stdint.h>

struct watch {
	int fd;
	void (*on)(struct watch *w, uint32_t events);
};

struct timer {
	int64_t due;                            /* ns of now_ns() */
	size_t slot;                            /* place in the heap + 1; 0: not armed */
	void (*on)(struct timer *t);
};

#define container(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* CLOCK_MONOTONIC in ns: the same clock in every process, so that stamps can travel inside answers. */
int64_t now_ns(void);

/* Say why on stderr and exit 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Open descriptors as far as the hard limit goes. */
void net_raise_limits(void);

/* Watch w->fd for reading, writing and leaving, edge-triggered. Closing the fd ends it. */
void net_watch(struct watch *w);
/* Watch a listening socket, level-triggered. */
void net_watch_listener(struct watch *w);

void timer_set(struct timer *t, int64_t due);
void timer_clear(struct timer *t);

/* One turn: waits for events or the next timer, at most max_wait ns. */
void net_turn(int64_t max_wait);
/* Turns until *stop is not 0 or the time is past `until`. */
void net_run(const int *stop, int64_t until);

/* "HOST:PORT" (IPv4) or "unix:/path". Both die on failure. */
int net_listen(const char *where);
int net_connect(const char *where);

#endif
