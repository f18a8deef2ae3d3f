/* log_writer.c - see log_writer.h.
 *
 * A ring has one thread that puts lines in (the common one has many, under a lock) and one that takes them out, so two
 * counters are all they share. A line lies in it behind a head with its time; heads are aligned, so only text is ever
 * split by the ring's end. The writer is woken by a semaphore, which may be posted without waiting, and which is left
 * alone when the writer knows already that there is something. */
#include "proxy/base/log_writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/base/log.h"

/* A pipe or a socket that poll() calls writable takes this many bytes without blocking, and a pipe takes them as one. */
enum { BATCH_BYTES = PIPE_BUF, LOOK_AGAIN_MS = 100, CRASH_WAIT_MS = 50, MS_NS = 1000000 };
_Static_assert((int)LOG_LINE_MAX <= (int)BATCH_BYTES, "every line fits into a batch");

struct head { int64_t us; uint32_t len, unused; };
enum { ALIGN = sizeof(struct head) };
_Static_assert(LOG_RING_BYTES % ALIGN == 0, "a head is never split");

struct ring {
	_Alignas(64) _Atomic uint64_t put;       /* bytes ever put in: the logging thread's */
	_Atomic uint64_t lost;                   /* lines that did not fit */
	_Alignas(64) _Atomic uint64_t taken;     /* bytes ever taken out: the writer's */
	uint64_t end;                            /* the writer's: where put was when this turn began */
	char bytes[LOG_RING_BYTES];
};

static struct ring common;
static pthread_mutex_t common_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ring *_Atomic rings[LOG_RINGS_MAX];
static _Atomic unsigned n_rings;
static _Thread_local struct ring *own;

static int out_fd = -1;
static pthread_t thread;
static sem_t bell, ended;
static _Atomic bool rung, hurry, stopping;       /* something lies there; it must not wait; the last turn */
static atomic_flag taking = ATOMIC_FLAG_INIT;    /* held by who takes lines out: the writer, or a crash */
static _Atomic uint64_t unwritten;               /* lines taken out that could not be written */
static uint64_t told;                            /* lost lines a line has spoken of; the taker's */
static bool torn;                                /* the last write ended inside a line; the taker's */

static const int fatal[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
static struct sigaction before[sizeof fatal / sizeof *fatal];

/* ---- handing over ---- */

static void copy_in(struct ring *r, uint64_t at, const char *bytes, size_t len)
{
	size_t from = at % LOG_RING_BYTES, room = LOG_RING_BYTES - from, first = len < room ? len : room;

	memcpy(r->bytes + from, bytes, first);
	memcpy(r->bytes, bytes + first, len - first);
}

static void copy_out(const struct ring *r, uint64_t at, char *bytes, size_t len)
{
	size_t from = at % LOG_RING_BYTES, room = LOG_RING_BYTES - from, first = len < room ? len : room;

	memcpy(bytes, r->bytes + from, first);
	memcpy(bytes + first, r->bytes, len - first);
}

/* How much of the ring a line of this length takes. */
static uint64_t room_for(size_t len)
{
	return (sizeof(struct head) + len + ALIGN - 1) / ALIGN * ALIGN;
}

/* False: it was lost. *fill: bytes that now wait. */
static bool put_in(struct ring *r, const char *line, size_t len, int64_t us, uint64_t *fill)
{
	const struct head h = { .us = us, .len = (uint32_t)len };
	uint64_t put = atomic_load_explicit(&r->put, memory_order_relaxed);

	*fill = put - atomic_load_explicit(&r->taken, memory_order_acquire) + room_for(len);
	if (*fill > LOG_RING_BYTES) {
		atomic_fetch_add_explicit(&r->lost, 1, memory_order_relaxed);
		return false;
	}
	copy_in(r, put, (const char *)&h, sizeof h);
	copy_in(r, put + sizeof h, line, len);
	/* not just released: it must be seen before `rung` is looked at, or both sides may think the other one knows */
	atomic_store(&r->put, put + room_for(len));
	return true;
}

static void hand_over(const char *line, size_t len, int64_t us, bool at_once)
{
	uint64_t fill;

	if (own) {
		put_in(own, line, len, us, &fill);
	} else {
		pthread_mutex_lock(&common_lock);
		put_in(&common, line, len, us, &fill);
		pthread_mutex_unlock(&common_lock);
	}
	if (at_once || fill > LOG_RING_BYTES / 4) {
		if (!atomic_load(&hurry) && !atomic_exchange(&hurry, true)) {
			atomic_store(&rung, true);
			sem_post(&bell);
		}
	} else if (!atomic_load(&rung) && !atomic_exchange(&rung, true)) {
		sem_post(&bell);
	}
}

/* ---- writing ---- */

static uint64_t lines_in(const char *bytes, size_t len)
{
	uint64_t n = 0;

	for (const char *at = bytes; (at = memchr(at, '\n', len - (size_t)(at - bytes))); at++)
		n++;
	return n;
}

/* Writes whole lines. Waits for room only while `patient` allows it and nothing ends; what is not written is counted.
 * False: it was not, for now. */
static bool write_out(const char *bytes, size_t len, bool patient)
{
	static const char newline = '\n';

	while (len) {
		struct pollfd p = { .fd = out_fd, .events = POLLOUT };
		int ready = poll(&p, 1, patient ? LOOK_AGAIN_MS : 0);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0 && patient && !atomic_load(&stopping))
			continue;
		if (ready == 0)
			break;
		if (torn && write(out_fd, &newline, 1) == 1)
			torn = false;
		ssize_t n = write(out_fd, bytes, len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			break;
		bytes += n;
		len -= (size_t)n;
		torn = bytes[-1] != '\n';
	}
	atomic_fetch_add_explicit(&unwritten, lines_in(bytes, len), memory_order_relaxed);
	return len == 0;
}

/* The ring whose next line is the oldest; NULL: this turn's lines are all taken. */
static struct ring *oldest(struct head *h)
{
	struct ring *best = NULL;

	for (unsigned i = 0; i < atomic_load(&n_rings); i++) {
		struct ring *r = atomic_load(&rings[i]);
		uint64_t taken = r ? atomic_load_explicit(&r->taken, memory_order_relaxed) : 0;
		struct head next;

		if (!r || taken == r->end)
			continue;
		copy_out(r, taken, (char *)&next, sizeof next);
		if (best && next.us >= h->us)
			continue;
		best = r;
		*h = next;
	}
	return best;
}

uint64_t log_writer_lost(void)
{
	uint64_t n = atomic_load_explicit(&unwritten, memory_order_relaxed);

	for (unsigned i = 0; i < atomic_load(&n_rings); i++) {
		struct ring *r = atomic_load(&rings[i]);
		n += r ? atomic_load_explicit(&r->lost, memory_order_relaxed) : 0;
	}
	return n;
}

/* Takes out and writes what has been put in by now. */
static void take_out(bool patient)
{
	char batch[BATCH_BYTES];
	size_t len = 0;
	struct head h;
	struct ring *r;
	bool written = true;

	for (unsigned i = 0; i < atomic_load(&n_rings); i++)
		if ((r = atomic_load(&rings[i])))
			r->end = atomic_load(&r->put);
	while ((r = oldest(&h))) {
		uint64_t taken = atomic_load_explicit(&r->taken, memory_order_relaxed);

		if (len + h.len > sizeof batch) {
			written = write_out(batch, len, patient);
			len = 0;
		}
		copy_out(r, taken + sizeof h, batch + len, h.len);
		len += h.len;
		atomic_store_explicit(&r->taken, taken + room_for(h.len), memory_order_release);
	}
	written = write_out(batch, len, patient) && written;

	uint64_t lost = log_writer_lost();
	struct log_entry e;
	if (!patient || !written || lost == told)
		return;
	log_compose(&e, LOG_WARN, "log", "%llu log line%s lost: they could not be written as fast as they came, or not at all",
	            (unsigned long long)(lost - told), lost - told == 1 ? " was" : "s were");
	if (!write_out(e.line, e.len, true))
		atomic_fetch_sub_explicit(&unwritten, 1, memory_order_relaxed);      /* this line is no loss: it is said again */
	else
		told = lost;
}

static void turn(void)
{
	while (atomic_flag_test_and_set(&taking))
		sched_yield();                       /* a crash of another thread has it, and the process ends */
	take_out(true);
	atomic_flag_clear(&taking);
}

static void *run(void *arg)
{
	(void)arg;
	while (!atomic_load(&stopping)) {
		while (!atomic_load(&rung))
			sem_wait(&bell);
		atomic_store(&rung, false);
		atomic_store(&hurry, false);
		turn();

		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOG_BATCH_MS * MS_NS;
		until.tv_sec += until.tv_nsec / (1000 * MS_NS);
		until.tv_nsec %= 1000 * MS_NS;
		while (!atomic_load(&hurry) && !sem_clockwait(&bell, CLOCK_MONOTONIC, &until))
			;                            /* rung for a line that can wait for others */
	}
	turn();
	sem_post(&ended);
	return NULL;
}

/* ---- crashes ---- */

/* Calls nothing that a signal handler may not call. Then the signal does what it did before we came: a fault happens
 * again as soon as this returns. */
static void on_fatal(int s, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
		sigaction(fatal[i], &before[i], NULL);
	for (int ms = 0; ms < CRASH_WAIT_MS; ms++) {
		const struct timespec wait = { .tv_nsec = MS_NS };

		if (!atomic_flag_test_and_set(&taking)) {
			take_out(false);
			break;
		}
		nanosleep(&wait, NULL);
	}
	errno = saved;
	if (info->si_code <= 0)
		raise(s);                            /* it was sent, so it does not happen again by itself */
}

static void watch_crashes(void)
{
	struct sigaction a = { .sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO };

	sigemptyset(&a.sa_mask);
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
		sigaction(fatal[i], &a, &before[i]);
}

/* ---- start and end ---- */

static bool add_ring(struct ring *r)
{
	unsigned i = atomic_fetch_add(&n_rings, 1);

	if (i >= LOG_RINGS_MAX) {
		atomic_fetch_sub(&n_rings, 1);
		return false;
	}
	atomic_store(&rings[i], r);
	return true;
}

void log_writer_join(void)
{
	struct ring *r = out_fd >= 0 && !own ? calloc(1, sizeof *r) : NULL;

	if (r && add_ring(r))
		own = r;
	else
		free(r);
}

bool log_writer_start(int fd)
{
	out_fd = fd;
	told = 0;
	torn = false;
	atomic_store(&unwritten, 0);
	atomic_store(&common.lost, 0);
	atomic_store(&stopping, false);
	sem_init(&bell, 0, 0);
	sem_init(&ended, 0, 0);
	if (atomic_load(&n_rings) == 0)
		add_ring(&common);
	if (pthread_create(&thread, NULL, run, NULL)) {
		out_fd = -1;
		return false;
	}
	watch_crashes();
	log_redirect(hand_over);
	return true;
}

void log_writer_stop(void)
{
	struct timespec until;

	/* whoever is second must not look at what the first is taking down */
	if (atomic_exchange(&stopping, true) || out_fd < 0)
		return;
	log_redirect(NULL);
	atomic_store(&rung, true);
	atomic_store(&hurry, true);
	sem_post(&bell);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (LOG_LAST_MS + LOOK_AGAIN_MS) * MS_NS;
	until.tv_sec += until.tv_nsec / (1000 * MS_NS);
	until.tv_nsec %= 1000 * MS_NS;
	/* a thread that hangs in a write() goes with the process; its rings must stay */
	if (sem_clockwait(&ended, CLOCK_MONOTONIC, &until)) {
		pthread_detach(thread);
		return;
	}
	pthread_join(thread, NULL);
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
		sigaction(fatal[i], &before[i], NULL);
	sem_destroy(&bell);
	sem_destroy(&ended);
	for (unsigned i = 0; i < atomic_load(&n_rings); i++) {
		struct ring *r = atomic_exchange(&rings[i], NULL);
		if (r != &common)
			free(r);
	}
	atomic_store(&n_rings, 0);
	own = NULL;
	out_fd = -1;
}
