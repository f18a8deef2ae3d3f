/* peer_world.h - what the tests of peer.c stand on: upstreams of many kinds, and a user of a connection that does what a test
 * asks of it and notes what it was told.
 *
 * The plain upstream is the test itself, between two turns of the loop. One with TLS is the program's that wants it: its
 * world_up() gives world_begin() the port. */
#ifndef TESTS_PEER_WORLD_H
#define TESTS_PEER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/crowd.h"
#include "tests/unit/torture.h"
#include "proxy/peer.h"

enum { PATIENCE_MS = 8000, TICK_MS = 2, CONNECT_MS = 5000, SHORT_MS = 400, LOOKED_UP_MS = 30, MOMENT_MS = 60 };
enum { FULL = 3, FAILS_MOST = 100, LENT_MOST = PEER_IDLE_MOST + 8, RECORD_MOST = 16384 };
/* The upstreams: the test; a name of the test's; a closed port; a name that is none; a full line; a text that is no URL. With
 * TLS: the program's; that by a name which is not in its certificate; one that takes connections and never says a word of TLS. */
enum { PLAIN, NAMED, REFUSED, NOWHERE, FULL_LINE, NO_URL, TLS, TLS_MISNAMED, TLS_MUTE, HOSTS };

/* Each program's own, for cmocka: a world of world_begin() and world_end(), which leaves no descriptor open. */
static int world_up(void **state);
static int world_down(void **state);

/* A stand-in: every name is at `here`, nowhere's alone is none. */
static const char *_Atomic here = "127.0.0.1";
static atomic_int looked_up;                     /* names, but for none */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
	const struct timespec a_while = { .tv_nsec = LOOKED_UP_MS * 1000000L };

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	nanosleep(&a_while, NULL);
	if (!strncmp(name, "nowhere.", 8))
		return EAI_NONAME;
	atomic_fetch_add(&looked_up, 1);
	return real(atomic_load(&here), service, hints, found);
}

/* ---- the world ---- */

static struct loop loop;
static struct alarms alarms;
static struct hosts *hosts;
static struct peers *peers;
static uv_timer_t tick;
static int listening, closed_port, full[FULL];
static size_t fds_before;
static atomic_int taken;                         /* connections a thread of the test's has taken as an upstream */

/* But for those of connections `taken`. */
static inline size_t fds_open(void)
{
	DIR *all = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(all);
	while (readdir(all))
		n++;
	closedir(all);
	return n - (size_t)atomic_load(&taken);
}

static inline int bound(int *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || getsockname(fd, (struct sockaddr *)&a, &len))
		abort();
	*port = ntohs(a.sin_port);
	return fd;
}

static inline void on_tick(uv_timer_t *t)
{
	(void)t;
}

/* As often as the condition wants, but not for ever. */
#define UNTIL(condition) do { \
	const int64_t late = clock_us() + PATIENCE_MS * INT64_C(1000); \
	while (!(condition) && clock_us() < late) \
		uv_run(&loop.uv, UV_RUN_ONCE); \
	assert_true(condition); \
} while (0)

static inline void turn_for(int64_t ms)
{
	for (int64_t to = clock_us() + ms * 1000; clock_us() < to;)
		uv_run(&loop.uv, UV_RUN_ONCE);
}

static inline void fill(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };

	for (size_t i = 1; i < FULL; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(full[i], (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS)
			abort();
	}
}

/* safe: the port of the upstream with TLS; 0: there is none. */
static inline void world_begin(int safe)
{
	int plain, closed, line;
	char text[HOSTS][48];
	const char *urls[HOSTS];

	loop_init(&loop);
	alarms_init(&alarms, &loop);
	uv_timer_init(&loop.uv, &tick);
	uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
	listening = bound(&plain);
	closed_port = bound(&closed);
	full[0] = bound(&line);
	if (listen(listening, 512) || listen(full[0], 0))
		abort();
	fill(line);
	snprintf(text[PLAIN], sizeof text[0], "http://127.0.0.1:%d/", plain);
	snprintf(text[NAMED], sizeof text[0], "http://named.invalid:%d", plain);
	snprintf(text[REFUSED], sizeof text[0], "http://127.0.0.1:%d", closed);
	snprintf(text[NOWHERE], sizeof text[0], "http://nowhere.invalid:%d", plain);
	snprintf(text[FULL_LINE], sizeof text[0], "http://127.0.0.1:%d", line);
	snprintf(text[NO_URL], sizeof text[0], "http://[127.0.0.1");
	snprintf(text[TLS], sizeof text[0], "https://127.0.0.1:%d", safe);
	snprintf(text[TLS_MISNAMED], sizeof text[0], "https://named.invalid:%d", safe);
	snprintf(text[TLS_MUTE], sizeof text[0], "https://127.0.0.1:%d", plain);
	for (size_t i = 0; i < HOSTS; i++)
		urls[i] = text[i];
	hosts = hosts_new(urls, safe ? HOSTS : TLS);
	peers = peers_new(&loop, &alarms, hosts);
}

/* ---- who uses a connection ---- */

static struct peer *lent[LENT_MOST];              /* by our hands; a test that failed leaves them to world_end() */

static inline void lend(struct peer *from, struct peer *to)
{
	for (size_t i = 0; i < LENT_MOST; i++)
		if (lent[i] == from) {
			lent[i] = to;
			return;
		}
}

static inline void world_end(void)
{
	for (size_t i = 0; i < LENT_MOST; i++) {
		if (lent[i])
			peer_close(lent[i]);
		lent[i] = NULL;
	}
	peers_free(peers);
	alarms_fini(&alarms);
	uv_close((uv_handle_t *)&tick, NULL);
	hosts_free(hosts);
	loop_fini(&loop);                                /* asserts that no handle is left */
	close(listening);
	close(closed_port);
	for (size_t i = 0; i < FULL; i++)
		close(full[i]);
}

static inline char pattern(size_t at)
{
	return (char)('a' + at % 23);
}

enum act { READ, READ_ONCE, LOOK, CLOSE, CLOSE_OTHER, KEEP };

struct user {
	struct peer_user u;
	struct peer *peer;                       /* NULL: given back, or never had */
	enum act on_open, on_ready;
	struct user *other;
	int opened, ready;                       /* how often */
	int events;                              /* all that came */
	enum err e;
	int left_on;                             /* after READ_ONCE this is watched for */
	size_t piece;                            /* reads so much at once */
	char text[64];                           /* the first that came */
	size_t n, n_before;                      /* how much came, and whether it was the pattern so far */
	bool right, ended;
	int error;
	size_t others_n;                         /* the other's n when this one was first told of something */
};

static inline void act(struct user *u, enum act what)
{
	struct user *whose = what == CLOSE_OTHER ? u->other : u;
	struct peer *peer = whose->peer;

	if (what == READ_ONCE && u->n > u->n_before)
		peer_watch(peer, u->left_on);
	if (what <= LOOK || !peer)
		return;
	whose->peer = NULL;
	lend(peer, NULL);
	if (what == KEEP)
		peer_keep(peer);
	else
		peer_close(peer);
}

static inline void user_on_open(struct peer_user *peer_user, enum err e)
{
	struct user *u = (struct user *)peer_user;

	assert_non_null(u->peer);                        /* not inside peer_dial(), not after peer_close() */
	u->opened++;
	u->e = e;
	act(u, u->on_open);
}

static inline void user_read(struct user *u)
{
	char bytes[RECORD_MOST];
	ssize_t n = peer_read(u->peer, bytes, u->piece);

	u->ended = n == 0;
	u->error = n < 0 && errno != EAGAIN ? errno : 0;
	for (ssize_t i = 0; i < n; i++, u->n++) {
		u->right = u->right && bytes[i] == pattern(u->n);
		if (u->n < sizeof u->text)
			u->text[u->n] = bytes[i];
	}
	if (u->ended || u->error)
		peer_watch(u->peer, 0);
}

static inline void user_on_ready(struct peer_user *peer_user, int events)
{
	struct user *u = (struct user *)peer_user;

	assert_non_null(u->peer);
	if (u->ready++ == 0 && u->other)
		u->others_n = u->other->n;
	u->events |= events;
	u->n_before = u->n;
	if (u->on_ready <= READ_ONCE && events & PEER_READ)
		user_read(u);
	act(u, u->on_ready);
}

static inline void user_init(struct user *u)
{
	*u = (struct user){ .u = { user_on_open, user_on_ready }, .piece = RECORD_MOST, .right = true, .on_open = LOOK };
}

static inline void user_close(struct user *u)
{
	act(u, CLOSE);
}

static inline void begin(struct user *u, int host, int64_t ms)
{
	u->opened = 0;
	u->peer = peer_dial(peers, host, ms, &u->u);
	assert_non_null(u->peer);
	lend(NULL, u->peer);
	assert_int_equal(u->opened, 0);
}

static inline void dial(struct user *u, int host)
{
	user_init(u);
	begin(u, host, CONNECT_MS);
	UNTIL(u->opened);
	assert_int_equal(u->e, ERR_OK);
}

static inline void take(struct user *u, int host)
{
	user_init(u);
	u->peer = peer_take(peers, host, &u->u);
	lend(NULL, u->peer);
}

static inline void keep(struct user *u)
{
	act(u, KEEP);
}

static inline void say(struct user *u, const char *text)
{
	const struct iovec part = { (char *)(uintptr_t)text, strlen(text) };

	assert_int_equal(peer_write(u->peer, &part, 1), part.iov_len);
}

static inline void listen_anew(struct user *u)
{
	u->n = 0;
	u->right = true;
	u->ready = u->events = 0;
}

/* What came since listen_anew() is this and no more. */
static inline void hears(struct user *u, const char *text)
{
	peer_watch(u->peer, PEER_READ);
	UNTIL(u->n >= strlen(text) || u->ended || u->error);
	assert_int_equal(u->n, strlen(text));
	assert_memory_equal(u->text, text, u->n);
	listen_anew(u);
}

/* ---- the plain upstream ---- */

static inline bool asked_for(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static inline int server_accept(void)
{
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };

	assert_true(asked_for(listening, PATIENCE_MS));
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return fd;
}

/* Those that were made, but not used. */
static inline void server_drops_all(void)
{
	while (asked_for(listening, 0))
		close(server_accept());
}

static inline void server_says(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static inline void server_hears(int fd, const char *text)
{
	char bytes[64];

	assert_int_equal(recv(fd, bytes, strlen(text), MSG_WAITALL), strlen(text));
	assert_memory_equal(bytes, text, strlen(text));
}

/* The proxy has closed it; a socket closed with bytes unread is reset. */
static inline bool left(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline void exchange(struct user *u, int fd)
{
	say(u, "ask");
	server_hears(fd, "ask");
	server_says(fd, "reply");
	hears(u, "reply");
}

/* One that was used once and is kept: its other end. */
static inline int one_kept(struct user *u)
{
	dial(u, PLAIN);
	int fd = server_accept();
	exchange(u, fd);
	keep(u);
	return fd;
}

/* ---- for upstreams of any kind ---- */

/* It cannot be reached; returns after how many ms that was told. */
static inline int64_t fails(struct user *u, int host, int64_t ms)
{
	size_t fds = fds_open();
	int64_t from = clock_us();

	user_init(u);
	begin(u, host, ms);
	UNTIL(u->opened);
	int64_t took = (clock_us() - from) / 1000;
	assert_int_equal(u->e, ERR_UPSTREAM_DOWN);
	user_close(u);
	turn_for(MOMENT_MS);
	assert_int_equal(u->opened, 1);
	assert_int_equal(fds_open(), fds);
	return took;
}

static inline void closed_while_it_is_made(int host)
{
	static const int64_t after[] = { 0, TICK_MS, LOOKED_UP_MS / 2, LOOKED_UP_MS + TICK_MS, MOMENT_MS };

	for (size_t i = 0; i < sizeof after / sizeof after[0]; i++) {
		struct user u;
		user_init(&u);
		begin(&u, host, CONNECT_MS);
		turn_for(after[i]);
		user_close(&u);
		u.opened = 0;
		turn_for(LOOKED_UP_MS);
		assert_int_equal(u.opened, 0);
	}
}

static inline void closed_when_it_opens(int host, enum err e)
{
	struct user u;

	user_init(&u);
	u.on_open = CLOSE;
	begin(&u, host, CONNECT_MS);
	UNTIL(u.opened);
	assert_null(u.peer);
	assert_int_equal(u.e, e);
	turn_for(MOMENT_MS);
	assert_int_equal(u.opened, 1);
}

/* Two that are told of something in the same turn: the first to be told closes the other. */
static inline void one_closes_the_other(int host)
{
	struct user u[2];

	for (size_t i = 0; i < 2; i++) {
		user_init(&u[i]);
		u[i].on_open = CLOSE_OTHER;
		u[i].other = &u[!i];
		begin(&u[i], host, CONNECT_MS);
	}
	UNTIL(u[0].opened || u[1].opened);
	turn_for(MOMENT_MS);
	assert_int_equal(u[0].opened + u[1].opened, 1);
	user_close(&u[0]);
	user_close(&u[1]);

	for (size_t i = 0; i < 2; i++) {
		dial(&u[i], host);
		u[i].on_ready = CLOSE_OTHER;
		u[i].other = &u[!i];
	}
	for (size_t i = 0; i < 2; i++)
		peer_watch(u[i].peer, PEER_WRITE);
	UNTIL(u[0].ready || u[1].ready);
	turn_for(MOMENT_MS);
	assert_true((u[0].peer == NULL) != (u[1].peer == NULL));
	assert_true(u[0].ready == 0 || u[1].ready == 0);
	user_close(&u[0]);
	user_close(&u[1]);
}

/* One dialled, used, kept and taken again while the nth allocation fails; false: none did. use: asks something of it and returns
 * its other end, or -1 if that is not the test's. */
static inline bool one_fails(int nth, int host, int (*use)(struct user *u))
{
	struct user before, unlucky, after;
	struct crowd crowd;
	int fd = -1;

	user_init(&unlucky);
	crowd_in(&crowd, closed_port);
	torture_begin(nth);
	unlucky.peer = peer_dial(peers, host, SHORT_MS, &unlucky.u);
	if (unlucky.peer)
		UNTIL(unlucky.opened);
	if (unlucky.opened && !unlucky.e) {
		fd = use(&unlucky);
		keep(&unlucky);
		take(&unlucky, host);
		assert_non_null(unlucky.peer);
	}
	bool failed = torture_end();
	if (!failed)
		assert_int_equal(unlucky.e, ERR_OK);
	user_close(&unlucky);
	if (fd >= 0)
		close(fd);
	crowd_out(&crowd);
	server_drops_all();                              /* it was made, but we could not know */

	take(&before, PLAIN);                            /* it was there all the time */
	assert_non_null(before.peer);
	say(&before, "ask");
	keep(&before);
	dial(&after, host);
	fd = use(&after);
	user_close(&after);
	if (fd >= 0)
		close(fd);
	return failed;
}

/* One to the host fails by each allocation in turn, and no other with it; returns the first by which none failed. */
static inline int no_memory(int host, int (*use)(struct user *u))
{
	static const char *nobody_else[] = { NULL };
	struct alarm a = { 0 };
	struct user before;
	int nth = 0;

	assert_true(torture_of(nobody_else) > 0);
	for (bool failed = true; failed;) {
		assert_in_range(++nth, 1, FAILS_MOST);
		world_down(NULL);                        /* the table of sockets is as it was at first */
		world_up(NULL);
		alarm_set(&alarms, &a, 0, NULL);         /* their first room is not to fail */
		alarm_clear(&alarms, &a);
		int fd = one_kept(&before);
		failed = one_fails(nth, host, use);
		server_hears(fd, "ask");
		close(fd);
	}
	return nth;
}

/* Before the tests: what the libraries open once is open from here on. */
static inline void world_try(void)
{
	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	world_up(NULL);
	world_down(NULL);
}

#endif
