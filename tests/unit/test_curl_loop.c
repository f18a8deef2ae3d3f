/* uses: proxy/base/loop.c */
/* libs: -luv -lcurl -lpthread */
/* test_curl_loop.c - curl's transfers and connections (peer.c asks for no more) on a loop with every allocation of ours failing
 * once: one may fail by it, those under way and the next may not. The server's name is looked up each time, so that sockets of
 * the resolver's come by as well. And a name with two addresses, the first of which does not answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/crowd.h"
#include "tests/unit/torture.h"

enum { NUMBERS_MOST = 16 };

static int number[NUMBERS_MOST], n_numbers;      /* of the sockets that curl_loop.c has opened */

static int noted_socket(int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);

	if (n_numbers < NUMBERS_MOST)
		number[n_numbers++] = fd;
	return fd;
}

#define socket noted_socket
#include "proxy/curl_loop.c"
#undef socket

enum { PATIENCE_MS = 5000, TRANSFERS_MOST = 200, LOOKED_UP_MS = 30, CONNECT_MS = 2000, SOON_MS = CONNECT_MS * 4 / 5 };
enum { FULL = 3, BUSY_MS = 300 };
_Static_assert((int)CROWD_MOST == (int)SOCKETS_LEAST, "a crowd is as many as the first table has room for");

struct one { CURL *easy; struct curl_owned owned; bool began, ended; CURLcode result; };

static const char *nobody_else[] = { NULL };
static int listening;
static _Atomic int kept = -1;                    /* the connection of who asked for /slow: half answered */
static int port;
static struct loop loop;
static struct curl_loop curl;

static atomic_bool look_up_waits;                /* "slow." is not found before this is false */

/* Stands before the C library's: whatever curl's resolver is asked for is here, but not found before curl waits for it.
 * "more." is found at 127.0.0.2 first, then here, both as IPv6 writes them, and at 127.0.0.2 as it is. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
	struct addrinfo *before[2] = { NULL };

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	usleep(LOOKED_UP_MS * 1000);
	while (!strncmp(name, "slow.", 5) && atomic_load(&look_up_waits))
		usleep(1000);
	if (strncmp(name, "more.", 5) || real("::ffff:127.0.0.2", service, hints, &before[0]))
		return real("127.0.0.1", service, hints, found);
	if (real("::ffff:127.0.0.1", service, hints, &before[1]) || real("127.0.0.2", service, hints, found))
		abort();
	before[0]->ai_next = before[1];
	before[1]->ai_next = *found;
	*found = before[0];
	return 0;
}

/* One reply a connection, which ends with it; of /slow the other half comes from who keeps it waiting. */
static void *serve(void *arg)
{
	static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	char request[4096];
	int fd;

	(void)arg;
	while ((fd = accept(listening, NULL, NULL)) >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);      /* for a test that failed */
		ssize_t n = recv(fd, request, sizeof request, 0);
		bool slow = n > 9 && !memcmp(request, "GET /slow", 9);
		if (n > 0 && send(fd, reply, sizeof reply - 1 - slow, MSG_NOSIGNAL) < 0)
			fprintf(stderr, "a reply was not taken\n");
		if (slow)
			atomic_store(&kept, fd);
		else
			close(fd);
	}
	return NULL;
}

static void on_moved(void *arg)
{
	CURLMsg *m;
	int left;

	(void)arg;
	while ((m = curl_multi_info_read(curl.multi, &left))) {
		struct one *t;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
		t->ended = true;
		t->result = m->data.result;
		loop_stop(&loop);
	}
}

static void on_late(uv_timer_t *t)
{
	(void)t;
	loop_stop(&loop);
}

static size_t swallow(char *bytes, size_t size, size_t n, void *arg)
{
	struct one *t = arg;

	(void)bytes;
	t->began = true;
	loop_stop(&loop);
	return size * n;
}

static void start(struct one *t, const char *name, const char *path, bool connect_only)
{
	char url[64];

	*t = (struct one){ .easy = curl_easy_init() };
	assert_non_null(t->easy);
	snprintf(url, sizeof url, "http://%s:%d%s", name, port, path);
	curl_easy_setopt(t->easy, CURLOPT_URL, url);
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
	curl_easy_setopt(t->easy, CURLOPT_CONNECT_ONLY, (long)connect_only);
	curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, swallow);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
	curl_loop_own(&curl, t->easy, &t->owned);
	curl_multi_add_handle(curl.multi, t->easy);
}

static void run_until(const bool *said)
{
	uv_timer_t timer;

	uv_timer_init(&loop.uv, &timer);
	uv_timer_start(&timer, on_late, PATIENCE_MS, 0);
	while (!*said && uv_is_active((uv_handle_t *)&timer))
		loop_run(&loop);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(&loop.uv, UV_RUN_NOWAIT);                 /* the timer is ours */
}

static void stop(struct one *t)
{
	curl_multi_remove_handle(curl.multi, t->easy);
	curl_easy_cleanup(t->easy);
}

static void on_closed_all(void *arg)
{
	(void)arg;
	loop_stop(&loop);
}

/* The nth allocation fails while `before` is half answered and `held` half connected. */
static void one_fails(int fails, bool connect_only, bool *failed)
{
	struct one before, held, unlucky, after;
	struct crowd crowd;

	atomic_store(&look_up_waits, true);
	start(&before, "upstream.invalid", "/slow", false);
	run_until(&before.began);
	assert_true(before.began);
	start(&held, "slow.invalid", "/", true);
	crowd_in(&crowd, listening);

	torture_begin(fails);
	start(&unlucky, "upstream.invalid", "/", connect_only);
	run_until(&unlucky.ended);
	*failed = torture_end();
	assert_true(unlucky.ended);              /* well or not */
	if (!*failed)
		assert_int_equal(unlucky.result, CURLE_OK);
	stop(&unlucky);
	crowd_out(&crowd);

	assert_int_equal(send(kept, "k", 1, MSG_NOSIGNAL), 1);
	run_until(&before.ended);
	assert_true(before.ended);
	assert_int_equal(before.result, CURLE_OK);
	stop(&before);
	close(kept);
	assert_false(held.ended);
	atomic_store(&look_up_waits, false);
	run_until(&held.ended);
	assert_true(held.ended);
	assert_int_equal(held.result, CURLE_OK);
	stop(&held);

	start(&after, "upstream.invalid", "/", connect_only);
	run_until(&after.ended);
	assert_true(after.ended);
	assert_int_equal(after.result, CURLE_OK);
	stop(&after);
}

static void every_failure(bool connect_only)
{
	int fails = 1;

	assert_true(torture_of(nobody_else) > 0);
	for (bool failed = true; failed; fails++) {
		assert_in_range(fails, 1, TRANSFERS_MOST);
		loop_init(&loop);
		curl_loop_init(&curl, &loop, on_moved, NULL);
		one_fails(fails, connect_only, &failed);
		curl_loop_fini(&curl, on_closed_all);
		loop_run(&loop);
		loop_fini(&loop);
	}
	/* three did fail: the resolver's socket, the table that had to grow for it, the connection's socket; the last one not */
	assert_true(fails > 4);
}

static void a_transfer_that_found_no_memory_hurts_no_other(void **state)
{
	(void)state;
	every_failure(false);
}

static void a_connection_that_found_no_memory_hurts_no_other(void **state)
{
	(void)state;
	every_failure(true);
}

/* ---- more than one address ---- */

/* A socket at the server's port of 127.0.0.2 which, once its line is full, neither takes nor refuses another. */
static void fill(int full[FULL])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1), .sin_port = htons((uint16_t)port) };

	full[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(full[0], (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(full[0], 0), 0);
	for (size_t i = 1; i < FULL; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		assert_true(connect(full[i], (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS);
	}
}

static void on_busy(uv_timer_t *t)
{
	(void)t;
	usleep(BUSY_MS * 1000);
}

/* curl 7.88 gives up the first of several addresses after its part of the time, and closes its socket without a word until it has
 * gone through what else is due. When just then, as after a pause of the loop's, the other family's are due as well, it goes
 * through it all and opens the second's socket, which has the first one's number and is taken for told. */
static void a_second_address_connects_though_its_socket_has_the_number_of_the_first(void **state)
{
	const unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;
	uv_timer_t busy;
	struct one t;
	int full[FULL];

	(void)state;
	loop_init(&loop);
	curl_loop_init(&curl, &loop, on_moved, NULL);
	fill(full);
	n_numbers = 0;
	start(&t, "more.invalid", "/", true);
	curl_easy_setopt(t.easy, CURLOPT_HAPPY_EYEBALLS_TIMEOUT_MS, (long)(CONNECT_MS / 2));
	uv_timer_init(&loop.uv, &busy);
	uv_timer_start(&busy, on_busy, CONNECT_MS / 2 - BUSY_MS / 2, 0);
	int64_t from = clock_us();
	run_until(&t.ended);
	int64_t ms = (clock_us() - from) / 1000;
	assert_true(t.ended);
	assert_int_equal(t.result, CURLE_OK);
	assert_in_range(ms, LOOKED_UP_MS, SOON_MS);
	stop(&t);
	uv_close((uv_handle_t *)&busy, NULL);
	for (size_t i = 0; i < FULL; i++)
		close(full[i]);
	curl_loop_fini(&curl, on_closed_all);
	loop_run(&loop);
	loop_fini(&loop);
	if (n_numbers < 2 || number[0] < 0) {
		print_message("there are no sockets of IPv6 here: the second address was the only one\n");
		skip();
	}
	if (version >> 8 == 0x0758)                      /* what other versions do is theirs */
		assert_int_equal(number[0], number[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_transfer_that_found_no_memory_hurts_no_other),
		cmocka_unit_test(a_connection_that_found_no_memory_hurts_no_other),
		cmocka_unit_test(a_second_address_connects_though_its_socket_has_the_number_of_the_first),
	};
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	pthread_t server;

	curl_global_init(CURL_GLOBAL_DEFAULT);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listening < 0 || bind(listening, (struct sockaddr *)&a, sizeof a) || listen(listening, 16) ||
	    getsockname(listening, (struct sockaddr *)&a, &len) || pthread_create(&server, NULL, serve, NULL))
		return 1;
	port = ntohs(a.sin_port);
	int failures = cmocka_run_group_tests(tests, NULL, NULL);
	shutdown(listening, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listening);
	curl_global_cleanup();
	return failures;
}
