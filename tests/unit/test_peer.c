/* uses: proxy/curl_loop.c proxy/hosts.c proxy/host_state.c proxy/base/loop.c proxy/base/alarm.c proxy/base/log.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c proxy/base/canonical.c proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -luv -lcurl -licuuc -ljansson -lnettle -lm -lpthread */
/* test_peer.c - plain connections to upstreams over real sockets: made, not made, used, kept, closed at any moment, with every
 * allocation of ours failing once. Those with TLS: test_peer_tls.c. */
#include "proxy/peer.c"

#include <sys/resource.h>

#include "proxy/host_state.h"
#include "tests/unit/peer_world.h"

static int world_up(void **state)
{
	(void)state;
	fds_before = fds_open();
	world_begin(0);
	return 0;
}

static int world_down(void **state)
{
	(void)state;
	world_end();
	return fds_open() != fds_before;
}

/* ---- used and kept ---- */

static void a_connection_is_used_kept_and_used_again(void **state)
{
	struct user u;
	size_t fds = fds_open();

	(void)state;
	dial(&u, PLAIN);
	assert_int_equal(fds_open(), fds + 1);           /* curl's part has ended */
	int fd = server_accept();
	exchange(&u, fd);
	keep(&u);
	turn_for(MOMENT_MS);
	take(&u, NAMED);
	assert_null(u.peer);                             /* it is another's */
	take(&u, PLAIN);
	assert_non_null(u.peer);
	exchange(&u, fd);
	keep(&u);
	take(&u, PLAIN);
	assert_non_null(u.peer);
	exchange(&u, fd);
	assert_false(asked_for(listening, 0));           /* the server has seen one */
	assert_int_equal(u.opened, 0);
	user_close(&u);
	assert_true(left(fd));
	take(&u, PLAIN);
	assert_null(u.peer);
	close(fd);
	assert_int_equal(fds_open(), fds);
}

static void parts_are_written_in_order_and_room_is_told_of(void **state)
{
	static char block[1 << 16];
	const struct iovec parts[3] = { { "one ", 4 }, { "", 0 }, { "two", 3 } };
	const struct iovec many[2] = { { block, sizeof block }, { block, sizeof block } };
	struct user u;
	size_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	assert_int_equal(peer_write(u.peer, parts, 3), 7);
	server_hears(fd, "one two");
	while ((n = peer_write(u.peer, many, 2)) > 0)
		sent += (size_t)n;
	assert_int_equal(n, -1);
	assert_int_equal(errno, EAGAIN);
	peer_watch(u.peer, PEER_READ | PEER_WRITE);
	turn_for(MOMENT_MS);
	assert_int_equal(u.ready, 0);
	while (got < sent && (n = recv(fd, block, sizeof block, 0)) > 0)
		got += (size_t)n;
	assert_int_equal(got, sent);
	UNTIL(u.ready);
	assert_int_equal(u.events, PEER_WRITE);
	user_close(&u);
	close(fd);
}

static void nothing_is_told_that_is_not_watched_for(void **state)
{
	struct user u;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	server_says(fd, "early");
	turn_for(MOMENT_MS);
	assert_int_equal(u.ready, 0);
	u.on_ready = LOOK;
	peer_watch(u.peer, PEER_WRITE);
	UNTIL(u.ready);
	assert_int_equal(u.events, PEER_WRITE);
	peer_watch(u.peer, 0);
	listen_anew(&u);
	turn_for(MOMENT_MS);
	assert_int_equal(u.ready, 0);
	u.on_ready = READ;
	hears(&u, "early");
	close(fd);
	UNTIL(u.ended);
	user_close(&u);
}

static void what_came_before_a_reset_is_read(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct user u;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	server_says(fd, "last words");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(fd);
	u.piece = 4;
	peer_watch(u.peer, PEER_READ);
	UNTIL(u.error);
	assert_int_equal(u.error, ECONNRESET);
	assert_int_equal(u.n, strlen("last words"));
	assert_memory_equal(u.text, "last words", u.n);
	const struct iovec part = { "x", 1 };
	assert_int_equal(peer_write(u.peer, &part, 1), -1);      /* and no signal */
	assert_int_not_equal(errno, EAGAIN);
	user_close(&u);
}

static void a_reset_is_told_to_who_only_writes(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	static char block[1 << 16];
	const struct iovec part = { block, sizeof block };
	struct user u;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	while (peer_write(u.peer, &part, 1) > 0)
		;
	peer_watch(u.peer, PEER_WRITE);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(fd);
	UNTIL(u.ready);
	assert_int_equal(u.events, PEER_WRITE);
	user_close(&u);
}

static void an_unused_one_the_upstream_closes_is_gone(void **state)
{
	struct user u;
	size_t fds = fds_open();

	(void)state;
	int fd = one_kept(&u);
	close(fd);
	UNTIL(fds_open() == fds);
	take(&u, PLAIN);
	assert_null(u.peer);
}

static void an_unused_one_that_gets_unasked_bytes_is_closed(void **state)
{
	struct user u;

	(void)state;
	int fd = one_kept(&u);
	server_says(fd, "408");
	UNTIL(left(fd));
	take(&u, PLAIN);
	assert_null(u.peer);
	close(fd);
}

static void what_the_loop_has_not_told_yet_is_seen_as_well(void **state)
{
	(void)state;
	for (int bytes = 0; bytes < 2; bytes++) {
		struct user u;
		int fd = one_kept(&u);
		if (bytes)
			server_says(fd, "408");
		else
			shutdown(fd, SHUT_WR);
		take(&u, PLAIN);
		assert_null(u.peer);
		assert_true(left(fd));
		close(fd);
	}
}

static void the_latest_is_taken_first_and_any_may_go(void **state)
{
	struct user u[4];
	struct peer *peer[4];
	int fd[4];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		dial(&u[i], PLAIN);
		fd[i] = server_accept();
		exchange(&u[i], fd[i]);
		peer[i] = u[i].peer;
	}
	for (size_t i = 0; i < 4; i++)
		keep(&u[i]);
	shutdown(fd[1], SHUT_WR);                        /* one in the middle, then the oldest */
	UNTIL(left(fd[1]));
	shutdown(fd[0], SHUT_WR);
	UNTIL(left(fd[0]));
	take(&u[3], PLAIN);
	assert_ptr_equal(u[3].peer, peer[3]);
	take(&u[2], PLAIN);
	assert_ptr_equal(u[2].peer, peer[2]);
	take(&u[0], PLAIN);
	assert_null(u[0].peer);
	keep(&u[2]);
	keep(&u[3]);
	shutdown(fd[3], SHUT_WR);                        /* the newest */
	UNTIL(left(fd[3]));
	take(&u[2], PLAIN);
	assert_ptr_equal(u[2].peer, peer[2]);
	user_close(&u[2]);
	for (size_t i = 0; i < 4; i++)
		close(fd[i]);
}

static void so_many_are_kept_and_no_more(void **state)
{
	static struct user u[PEER_IDLE_MOST + 1];
	static int fd[PEER_IDLE_MOST + 1];

	(void)state;
	for (size_t i = 0; i <= PEER_IDLE_MOST; i++) {
		dial(&u[i], PLAIN);
		fd[i] = server_accept();
	}
	for (size_t i = 0; i <= PEER_IDLE_MOST; i++)
		keep(&u[i]);
	assert_true(left(fd[0]));                        /* the oldest has gone for the latest */
	for (size_t i = 1; i <= PEER_IDLE_MOST; i++)
		assert_false(left(fd[i]));
	dial(&u[0], NAMED);                              /* the limit is all hosts' */
	close(fd[0]);
	fd[0] = server_accept();
	keep(&u[0]);
	assert_true(left(fd[1]));
	assert_false(left(fd[2]));
	take(&u[0], NAMED);
	assert_non_null(u[0].peer);
	user_close(&u[0]);
	for (size_t i = 0; i < PEER_IDLE_MOST; i++) {
		take(&u[i], PLAIN);
		assert_true((u[i].peer != NULL) == (i < PEER_IDLE_MOST - 1));
	}
	for (size_t i = 0; i < PEER_IDLE_MOST; i++)
		user_close(&u[i]);
	for (size_t i = 0; i <= PEER_IDLE_MOST; i++)
		close(fd[i]);
	for (size_t i = 0; i < 2; i++) {                 /* there is room again */
		dial(&u[i], PLAIN);
		fd[i] = server_accept();
	}
	keep(&u[0]);
	keep(&u[1]);
	assert_false(left(fd[0]) || left(fd[1]));
	close(fd[0]);
	close(fd[1]);
}

static void one_kept_too_long_is_closed(void **state)
{
	struct user u[3];
	struct peer *peer[3];
	int fd[3];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		dial(&u[i], i == 1 ? NAMED : PLAIN);
		fd[i] = server_accept();
		peer[i] = u[i].peer;
	}
	assert_false(alarm_is_set(&peers->look));
	for (size_t i = 0; i < 3; i++)
		keep(&u[i]);
	assert_true(alarm_is_set(&peers->look));
	for (size_t i = 0; i < 3; i++) {
		for (size_t k = i; k < 3; k++)
			peer[k]->since = loop_now(&loop) - (k == i ? PEER_IDLE_MS - LOOK_MS : PEER_IDLE_MS - 2 * LOOK_MS);
		alarm_set(&alarms, &peers->look, 0, on_look);    /* it is time to look */
		UNTIL(left(fd[i]));
		for (size_t k = i + 1; k < 3; k++)
			assert_false(left(fd[k]));
		assert_int_equal(alarm_is_set(&peers->look), i < 2);
	}
	for (size_t i = 0; i < 3; i++)
		close(fd[i]);
}

/* ---- not made ---- */

static void what_cannot_be_reached_is_down(void **state)
{
	struct user u;

	(void)state;
	assert_in_range(fails(&u, REFUSED, CONNECT_MS), 0, CONNECT_MS / 2);
	assert_in_range(fails(&u, NOWHERE, CONNECT_MS), 0, CONNECT_MS / 2);
	assert_in_range(fails(&u, NO_URL, CONNECT_MS), 0, CONNECT_MS / 2);
}

static void connecting_has_its_time(void **state)
{
	struct user u;

	(void)state;
	assert_in_range(fails(&u, FULL_LINE, SHORT_MS), SHORT_MS - 50, 3 * SHORT_MS);
	assert_in_range(fails(&u, NAMED, LOOKED_UP_MS / 3), 0, SHORT_MS);        /* a look-up counts */
}

static void one_more_of(int host)
{
	struct user u;

	dial(&u, host);
	int fd = server_accept();
	user_close(&u);
	close(fd);
}

/* Its container was made anew: its name has another address by now. */
static void a_name_is_looked_up_again_after_a_failure(void **state)
{
	struct user u;

	(void)state;
	atomic_store(&here, "127.0.0.2");                /* where nobody listens */
	fails(&u, NAMED, CONNECT_MS);
	atomic_store(&here, "127.0.0.1");
	one_more_of(NAMED);
	one_more_of(NAMED);
	int before = atomic_load(&looked_up);
	one_more_of(NAMED);
	assert_int_equal(atomic_load(&looked_up), before);       /* while it is well, its address is kept */
}

static struct rlimit leave_no_descriptor(void)
{
	struct rlimit was, none;
	int next = dup(0);

	assert_false(getrlimit(RLIMIT_NOFILE, &was));
	none = was;
	none.rlim_cur = (rlim_t)next;
	close(next);
	assert_false(setrlimit(RLIMIT_NOFILE, &none));
	return was;
}

/* Neither the address that is known nor the name that is not can be used, and the host is not held to be down for it. */
static void without_a_descriptor_nobody_is_down(void **state)
{
	struct user u;

	(void)state;
	host_up(hosts, PLAIN);
	host_up(hosts, NAMED);
	for (int host = PLAIN; host <= NAMED; host++) {
		struct rlimit was = leave_no_descriptor();
		user_init(&u);
		begin(&u, host, CONNECT_MS);
		UNTIL(u.opened);
		setrlimit(RLIMIT_NOFILE, &was);
		assert_int_equal(u.e, ERR_NO_DESCRIPTORS);
		user_close(&u);
		assert_true(hosts_up(hosts, (size_t)host));
	}
	one_more_of(PLAIN);
	one_more_of(NAMED);
}

/* ---- given up at any moment ---- */

static void one_being_made_is_closed(void **state)
{
	size_t fds = fds_open();

	(void)state;
	for (int host = PLAIN; host < TLS; host++)
		closed_while_it_is_made(host);
	turn_for(MOMENT_MS);
	server_drops_all();
	assert_int_equal(fds_open(), fds);
}

static void it_may_be_closed_or_kept_when_it_opens(void **state)
{
	struct user u;

	(void)state;
	closed_when_it_opens(PLAIN, ERR_OK);
	closed_when_it_opens(NAMED, ERR_OK);
	closed_when_it_opens(REFUSED, ERR_UPSTREAM_DOWN);
	closed_when_it_opens(NOWHERE, ERR_UPSTREAM_DOWN);
	closed_when_it_opens(NO_URL, ERR_UPSTREAM_DOWN);
	user_init(&u);
	u.on_open = KEEP;
	begin(&u, PLAIN, CONNECT_MS);
	UNTIL(u.opened);
	take(&u, PLAIN);
	assert_non_null(u.peer);
	user_close(&u);
	server_drops_all();
}

static void it_may_be_closed_or_kept_when_it_is_ready(void **state)
{
	(void)state;
	for (int kept = 0; kept < 2; kept++) {
		struct user u;
		dial(&u, PLAIN);
		int fd = server_accept();
		u.on_ready = kept ? KEEP : CLOSE;
		peer_watch(u.peer, PEER_READ | PEER_WRITE);
		UNTIL(u.ready);
		turn_for(MOMENT_MS);
		assert_int_equal(u.ready, 1);
		assert_int_equal(left(fd), !kept);
		take(&u, PLAIN);
		assert_int_equal(u.peer != NULL, kept);
		user_close(&u);
		close(fd);
	}
}

static void one_may_close_another_that_is_told_in_the_same_turn(void **state)
{
	(void)state;
	one_closes_the_other(PLAIN);
	server_drops_all();
}

/* ---- its name ---- */

static void a_host_is_written_as_its_requests_want_it(void **state)
{
	static const char *const urls[] = { "http://a.example:80/", "http://a.example", "https://b.example:443", "https://b.example:80",
	                                    "http://[::1]:11434", "https://[2001:db8::2]", "http://user:word@c.example:1/path",
	                                    "http://[broken" };
	static const char *const texts[] = { "a.example", "a.example", "b.example", "b.example:80", "[::1]:11434", "[2001:db8::2]",
	                                     "c.example:1", "" };
	enum { N = sizeof urls / sizeof urls[0] };
	struct hosts *hs = hosts_new(urls, N);
	struct peers *all = peers_new(&loop, &alarms, hs);

	(void)state;
	for (int i = 0; i < N; i++)
		assert_string_equal(peers_authority(all, i), texts[i]);
	peers_free(all);
	turn_for(TICK_MS);
	hosts_free(hs);
}

/* ---- no memory ---- */

static int accept_and_exchange(struct user *u)
{
	int fd = server_accept();

	exchange(u, fd);
	return fd;
}

static void no_memory_fails_one_and_no_other(void **state)
{
	(void)state;
	/* these did: the resolver's socket, the connection, a socket's watch, the table that had to grow for it */
	assert_true(no_memory(NAMED, accept_and_exchange) > 4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(a_connection_is_used_kept_and_used_again),
		TEST(parts_are_written_in_order_and_room_is_told_of),
		TEST(nothing_is_told_that_is_not_watched_for),
		TEST(what_came_before_a_reset_is_read),
		TEST(a_reset_is_told_to_who_only_writes),
		TEST(an_unused_one_the_upstream_closes_is_gone),
		TEST(an_unused_one_that_gets_unasked_bytes_is_closed),
		TEST(what_the_loop_has_not_told_yet_is_seen_as_well),
		TEST(the_latest_is_taken_first_and_any_may_go),
		TEST(so_many_are_kept_and_no_more),
		TEST(one_kept_too_long_is_closed),
		TEST(what_cannot_be_reached_is_down),
		TEST(connecting_has_its_time),
		TEST(a_name_is_looked_up_again_after_a_failure),
		TEST(without_a_descriptor_nobody_is_down),
		TEST(one_being_made_is_closed),
		TEST(it_may_be_closed_or_kept_when_it_opens),
		TEST(it_may_be_closed_or_kept_when_it_is_ready),
		TEST(one_may_close_another_that_is_told_in_the_same_turn),
		TEST(a_host_is_written_as_its_requests_want_it),
		TEST(no_memory_fails_one_and_no_other),
	};
	struct rlimit most;

	if (!getrlimit(RLIMIT_NOFILE, &most) && most.rlim_cur < most.rlim_max) {
		most.rlim_cur = most.rlim_max;           /* more connections than are kept unused, both ends */
		setrlimit(RLIMIT_NOFILE, &most);
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	world_try();
	int failures = cmocka_run_group_tests(tests, NULL, NULL);
	curl_global_cleanup();
	return failures;
}
