/* uses: proxy/base/loop.c */
/* libs: -luv -lcurl -lpthread */
/* test_curl_loop.c - curl's transfers on a loop with every allocation of ours failing once: one transfer may fail by it, the
 * next one may not. The server's name is looked up each time, so that sockets of the resolver's come by as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/torture.h"
#include "proxy/curl_loop.c"

enum { PATIENCE_MS = 5000, TRANSFERS_MOST = 200, LOOKED_UP_MS = 30 };

struct one { CURL *easy; bool began, ended; CURLcode result; };

static const char *nobody_else[] = { NULL };
static int listening;
static _Atomic int kept = -1;                    /* the connection of who asked for /slow: half answered */
static int port;
static struct loop loop;
static struct curl_loop curl;

/* Stands before the C library's: whatever curl's resolver is asked for is here, but not found before curl waits for it. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;

	(void)name;
	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	usleep(LOOKED_UP_MS * 1000);
	return real("127.0.0.1", service, hints, found);
}

/* One reply a connection, which ends with it; of /slow the other half comes from who keeps it waiting. */
static void *serve(void *arg)
{
	static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
	char request[4096];
	int fd;

	(void)arg;
	while ((fd = accept(listening, NULL, NULL)) >= 0) {
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

static void start(struct one *t, const char *path)
{
	char url[64];

	*t = (struct one){ .easy = curl_easy_init() };
	assert_non_null(t->easy);
	snprintf(url, sizeof url, "http://upstream.invalid:%d%s", port, path);
	curl_easy_setopt(t->easy, CURLOPT_URL, url);
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, swallow);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
	curl_loop_own(&curl, t->easy);
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

static void a_transfer_that_found_no_memory_hurts_no_other(void **state)
{
	int fails = 1;

	(void)state;
	assert_true(torture_of(nobody_else) > 0);
	for (bool failed = true; failed; fails++) {
		struct one before, unlucky, after;
		assert_in_range(fails, 1, TRANSFERS_MOST);
		loop_init(&loop);
		curl_loop_init(&curl, &loop, on_moved, NULL);
		start(&before, "/slow");
		run_until(&before.began);
		assert_true(before.began);

		torture_begin(fails);
		start(&unlucky, "/");
		run_until(&unlucky.ended);
		failed = torture_end();
		assert_true(unlucky.ended);              /* well or not */
		if (!failed)
			assert_int_equal(unlucky.result, CURLE_OK);
		stop(&unlucky);

		assert_int_equal(send(kept, "k", 1, MSG_NOSIGNAL), 1);
		run_until(&before.ended);
		assert_true(before.ended);
		assert_int_equal(before.result, CURLE_OK);
		stop(&before);
		close(kept);

		start(&after, "/");
		run_until(&after.ended);
		assert_true(after.ended);
		assert_int_equal(after.result, CURLE_OK);
		stop(&after);
		curl_loop_fini(&curl, on_closed_all);
		loop_run(&loop);
		loop_fini(&loop);
	}
	assert_true(fails > 3);                          /* something did fail: the resolver's socket, and ours */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_transfer_that_found_no_memory_hurts_no_other) };
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
