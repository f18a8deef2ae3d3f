/* uses: cache/store_redis.c cache/redis_walk.c cache/redis_near.c cache/redis_health.c cache/redis_count.c cache/redis_ear.c cache/redis_link.c cache/redis_url.c cache/redis_function.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -lhiredis -lxxhash -lpthread */
/* What can go wrong with Redis goes wrong here, with a real server. */
#include "tests/unit/redis_world.h"
#include "cache/redis_url.h"

struct redis_world { struct world w; struct server server; };

enum { TIMEOUT_MS = 300 };

static int setup(void **state)
{
	struct redis_world *r = calloc(1, sizeof *r);

	dir_make(r->w.dir);
	server_start(&r->server, r->w.dir);
	world_begin(&r->w, server_open(&r->server, TIMEOUT_MS));
	until_up(&r->w);
	atomic_store(&r->w.errors, 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct redis_world *r = *state;

	world_end(&r->w);
	server_stop(&r->server);
	dir_remove(r->w.dir);
	free(r);
	return 0;
}

static void restart(struct redis_world *r)
{
	server_stop(&r->server);
	unlink(r->server.socket);
	server_start(&r->server, r->w.dir);
}

static void is_down_at_once_when_the_server_is_gone(void **state)
{
	struct redis_world *r = *state;
	struct got got;

	assert_true(put(&r->w, 1, "one"));
	server_stop(&r->server);
	enum store_news news;
	do {                                           /* the first ones may still be on their way */
		news = get_text(&r->w, r->w.link, 1, NULL);
		assert_int_not_equal(news, STORE_NONE);
	} while (news != STORE_FAILED);
	get_begin(&r->w, r->w.link, &got, 1, NULL);
	assert_int_equal(got.news, STORE_FAILED);      /* not LATER: nothing is waited for any more */
	got_fini(&got);
	assert_false(put(&r->w, 2, "two"));
	assert_false(drop(&r->w, 2));
	assert_true(atomic_load(&r->w.errors) > 0);
	while (r->w.store->ops->state(r->w.store).up)
		turn(&r->w);
	unlink(r->server.socket);
	server_start(&r->server, r->w.dir);
	until_up(&r->w);
	assert_true(put(&r->w, 3, "three"));
	assert_int_equal(get_text(&r->w, r->w.other, 3, "three"), STORE_FOUND);
}

static uint64_t version_of(struct world *w, struct store_link *l)
{
	return w->store->ops->version(l);
}

/* Turns until what both links know as the version is not that; a link that does not hear has none. */
static void until_version_is_not(struct world *w, uint64_t a, uint64_t b)
{
	while (version_of(w, w->link) == a || version_of(w, w->other) == b || !version_of(w, w->link) || !version_of(w, w->other))
		turn(w);
}

static void turn_for(struct world *w, int64_t ms)
{
	for (int64_t end = clock_us() + ms * 1000; clock_us() < end; )
		turn(w);
}

static void hears_whatever_changes_under_its_prefix(void **state)
{
	static const char *const changes[] = { "SET oc:anything 1", "DEL oc:anything", "FLUSHALL", "SET oc:again 1", "PEXPIRE oc:again 1",
	                                       "SET oc:last 1", "FLUSHDB" };
	struct redis_world *r = *state;
	struct world *w = &r->w;

	until_version_is_not(w, 0, 0);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		uint64_t a = version_of(w, w->link), b = version_of(w, w->other);
		server_tell(&r->server, changes[i]);
		usleep(20000);                   /* it has been said: that counts before the loop has turned */
		assert_int_equal(version_of(w, w->link), 0);
		assert_int_equal(version_of(w, w->other), 0);
		until_version_is_not(w, a, b);
		turn_for(w, 20);
	}
	uint64_t a = version_of(w, w->link), b = version_of(w, w->other);
	server_tell(&r->server, "SET elsewhere 1");
	get_text(w, w->link, 1, NULL);
	turn_for(w, 100);
	assert_int_equal(version_of(w, w->link), a);
	assert_int_equal(version_of(w, w->other), b);
	/* what one link has been told is done, the other knows at once, whatever the server has said so far */
	assert_true(put(w, 1, "one"));
	assert_true(version_of(w, w->other) != b);
	b = version_of(w, w->other);
	assert_true(drop(w, 1));
	assert_true(version_of(w, w->other) != b);
}

static void is_deaf_until_it_hears_again(void **state)
{
	struct redis_world *r = *state;
	struct world *w = &r->w;

	until_version_is_not(w, 0, 0);
	uint64_t a = version_of(w, w->link), b = version_of(w, w->other);
	server_tell(&r->server, "CLIENT KILL TYPE pubsub");
	while (version_of(w, w->link) || version_of(w, w->other))
		turn(w);
	until_version_is_not(w, a, b);           /* some seconds later, and not as if nothing could have happened */
	assert_int_equal(get_text(w, w->link, 1, NULL), STORE_NONE);
	server_stop(&r->server);
	while (version_of(w, w->link) || version_of(w, w->other))
		turn(w);
	unlink(r->server.socket);
	server_start(&r->server, r->w.dir);
	a = b = 0;
	until_version_is_not(w, a, b);
}

static void goes_without_where_tracking_is_forbidden(void **state)
{
	static const char *const rules[] = { "ACL SETUSER default -client|tracking", "ACL SETUSER default +@all -subscribe",
	                                     "ACL SETUSER default +@all resetchannels" };
	struct redis_world *r = *state;
	struct world *w = &r->w;

	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		server_tell(&r->server, rules[i]);
		world_end(w);
		world_begin(w, server_open(&r->server, TIMEOUT_MS));
		until_up(w);
		assert_true(put(w, 1, "one"));
		turn_for(w, 100);
		assert_int_equal(version_of(w, w->link), 0);
		assert_int_equal(get_text(w, w->link, 1, "one"), STORE_FOUND);
	}
}

static void waits_once_for_a_frozen_server(void **state)
{
	struct redis_world *r = *state;
	struct got got[5], late;

	assert_true(put(&r->w, 1, "one"));
	kill(r->server.pid, SIGSTOP);
	for (int i = 0; i < 5; i++) {
		get_begin(&r->w, r->w.link, &got[i], 1, NULL);
		assert_int_equal(got[i].news, STORE_LATER);
	}
	while (!got[0].times)
		turn(&r->w);
	for (int i = 0; i < 5; i++) {                  /* all that were under way end together */
		assert_int_equal(got[i].times, 1);
		assert_int_equal(got[i].news, STORE_FAILED);
		got_fini(&got[i]);
	}
	for (int i = 0; i < 50; i++) {                 /* and from now on nobody waits, also while it tries to connect */
		get_begin(&r->w, r->w.link, &late, 1, NULL);
		assert_int_equal(late.news, STORE_FAILED);
		got_fini(&late);
		turn(&r->w);
	}
	kill(r->server.pid, SIGCONT);
	until_up(&r->w);
	assert_int_equal(get_text(&r->w, r->w.link, 1, "one"), STORE_FOUND);
}

static void loads_its_function_again(void **state)
{
	struct redis_world *r = *state;
	struct words words;

	words_from(&words, 0);
	struct store_item item = item_of(1, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
	assert_true(put_item(&r->w, r->w.link, &item));
	assert_true(finds(&r->w, r->w.link, &words, 0, 1));
	server_tell(&r->server, "FLUSHALL");
	server_tell(&r->server, "FUNCTION FLUSH");
	assert_false(finds(&r->w, r->w.link, &words, 0, 1));   /* asks for it, finds it gone, loads it */
	do
		assert_true(put_item(&r->w, r->w.link, &item));
	while (!finds(&r->w, r->w.link, &words, 0, 1));
	assert_int_equal(atomic_load(&r->w.errors), 0);
	restart(r);
	until_up(&r->w);
	assert_true(put_item(&r->w, r->w.link, &item));
	assert_true(finds(&r->w, r->w.other, &words, 0, 1));
}

static void goes_on_when_memory_is_full(void **state)
{
	struct redis_world *r = *state;
	struct words words;

	words_from(&words, 0);
	struct store_item item = item_of(1, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
	assert_true(put_item(&r->w, r->w.link, &item));
	server_tell(&r->server, "CONFIG SET maxmemory 1");
	assert_false(put(&r->w, 2, "two"));
	assert_true(atomic_load(&r->w.errors) > 0);
	assert_int_equal(get_text(&r->w, r->w.link, 1, "x"), STORE_FOUND);
	assert_true(finds(&r->w, r->w.link, &words, 0, 1));
	server_tell(&r->server, "CONFIG SET maxmemory 0");
	assert_true(put(&r->w, 2, "two"));
}

static void lives_with_eviction(void **state)
{
	struct redis_world *r = *state;
	static char text[2000];
	struct words words;
	unsigned found = 0, near = 0;

	server_tell(&r->server, "CONFIG SET maxmemory-policy allkeys-lru");
	server_tell(&r->server, "CONFIG SET maxmemory 4mb");
	for (unsigned i = 0; i < 3000; i++) {
		words_from(&words, i * 3);
		struct store_item item = item_of(i, slice_of(text, sizeof text), in_an_hour(), &words, 0, SLICE("q"));
		assert_true(put_item(&r->w, r->w.link, &item));
	}
	for (unsigned i = 0; i < 3000; i++) {
		struct got got;
		words_from(&words, i * 3);
		struct store_query q = query_of(&words, 0, 70);
		enum store_news news = get_by(&r->w, r->w.link, &got, i, &q);
		assert_true(news == STORE_FOUND || news == STORE_NONE);
		if (news == STORE_NONE)
			assert_false(proposed(&got, i));       /* gone: not proposed either */
		found += news == STORE_FOUND;
		near += proposed(&got, i);
		got_fini(&got);
	}
	assert_true(found > 10 && found < 2900);
	assert_true(near > 0 && near <= found);
	assert_int_equal(atomic_load(&r->w.errors), 0);
}

static void reads_from_a_read_only_server(void **state)
{
	struct redis_world *r = *state;

	assert_true(put(&r->w, 1, "one"));
	server_tell(&r->server, "REPLICAOF 127.0.0.1 1");
	assert_false(put(&r->w, 2, "two"));
	assert_int_equal(get_text(&r->w, r->w.link, 1, "one"), STORE_FOUND);
	assert_true(atomic_load(&r->w.errors) > 0);
	server_tell(&r->server, "REPLICAOF NO ONE");
	assert_true(put(&r->w, 2, "two"));
}

static void takes_garbage_for_a_miss(void **state)
{
	struct redis_world *r = *state;
	char command[256], hex[65], base[128];
	uint8_t key[KEY_BYTES], scope[KEY_BYTES];
	struct words words;

	words_from(&words, 0);
	key_of(key, 1);
	for (int i = 0; i < KEY_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	snprintf(command, sizeof command, "LPUSH oc:%s a b", hex);
	server_tell(&r->server, command);
	assert_int_equal(get_text(&r->w, r->w.link, 1, NULL), STORE_FAILED);
	static struct walked walk;
	walk_all(&r->w, &walk, 10, NULL, false);
	assert_int_equal(walk.rows, 0);
	assert_true(put(&r->w, 1, "one"));
	assert_int_equal(get_text(&r->w, r->w.link, 1, "one"), STORE_FOUND);

	struct store_item item = item_of(2, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
	assert_true(put_item(&r->w, r->w.link, &item));
	key_of(scope, 1000000);
	int n = snprintf(base, sizeof base, "oc:near:{");
	for (int i = 0; i < 16; i++)
		n += snprintf(base + n, sizeof base - (size_t)n, "%02x", scope[i]);
	key_of(key, 2);
	for (int i = 0; i < KEY_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	snprintf(command, sizeof command, "SET %s}d%s rubbish", base, hex);
	server_tell(&r->server, command);
	struct store_query q = query_of(&words, 0, 70);
	struct got got;
	assert_int_equal(get_by(&r->w, r->w.link, &got, 2, &q), STORE_FOUND);   /* the exact entry is there all the same */
	assert_int_equal(got.g.n_proposals, 0);
	got_fini(&got);
	assert_true(put_item(&r->w, r->w.link, &item));
}

static void cancels(void **state)
{
	struct redis_world *r = *state;
	struct got got;

	assert_true(put(&r->w, 1, "one"));
	get_begin(&r->w, r->w.link, &got, 1, NULL);
	assert_int_equal(got.news, STORE_LATER);
	r->w.store->ops->cancel(r->w.link, &got.g);
	assert_int_equal(get_text(&r->w, r->w.link, 1, "one"), STORE_FOUND);    /* behind it on the same link */
	assert_int_equal(got.times, 0);
	got_fini(&got);
}

static void asks_for_a_password(void **state)
{
	struct redis_world *r = *state;
	struct world w = { 0 };
	struct server with = r->server;

	server_tell(&r->server, "CONFIG SET requirepass s3cr@t");
	snprintf(with.url, sizeof with.url, "unix://:s3cr%%40t@%s?db=3", r->server.socket);
	world_begin(&w, server_open(&with, TIMEOUT_MS));
	until_up(&w);
	assert_true(put(&w, 1, "one"));
	assert_int_equal(get_text(&w, w.other, 1, "one"), STORE_FOUND);
	until_version_is_not(&w, 0, 0);
	world_end(&w);
	world_begin(&w, server_open(&r->server, TIMEOUT_MS));  /* without it: down, and no more than that */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(get_text(&w, w.link, 1, NULL), STORE_FAILED);
		turn(&w);
	}
	world_end(&w);
	alarm(PATIENCE);
}

static void refuses_a_cluster(void **state)
{
	struct world w = { 0 };
	struct server s = { 0 };
	char why[256] = "", port[16];

	(void)state;
	dir_make(w.dir);
	snprintf(s.socket, sizeof s.socket, "%.60s/c.sock", w.dir);
	snprintf(s.url, sizeof s.url, "unix://%s", s.socket);
	redisReply *r = NULL;
	/* its port, or its bus 10000 above, may be somebody else's: then it ends, and the next one is tried */
	for (int try = 0; !r && try < 20; try++) {
		snprintf(port, sizeof port, "%d", 20000 + (getpid() + try * 97) % 20000);
		s.pid = fork();
		if (s.pid == 0) {
			int null = open("/dev/null", O_WRONLY);
			dup2(null, 1);
			execlp("redis-server", "redis-server", "--bind", "127.0.0.1", "--port", port, "--unixsocket", s.socket,
			       "--cluster-enabled", "yes", "--save", "", "--dir", w.dir, (char *)NULL);
			_exit(127);
		}
		while (!(r = server_ask(&s, "PING")) && waitpid(s.pid, NULL, WNOHANG) == 0)
			sched_yield();
	}
	assert_non_null(r);
	freeReplyObject(r);
	struct store_redis_options o = { .url = s.url, .prefix = "oc:", .timeout_ms = 50, .retry_ms = 100 };
	assert_null(store_redis_open(&o, why, sizeof why));
	assert_non_null(strstr(why, "Cluster"));
	server_stop(&s);
	dir_remove(w.dir);
}

static int spawn(char *const argv[])
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void asks_sentinel_for_the_master(void **state)
{
	struct world w = { 0 };
	char master[16], guard[16], path[128], why[256];
	struct server s = { 0 };

	(void)state;
	alarm(PATIENCE);
	dir_make(w.dir);
	snprintf(master, sizeof master, "%d", 20001 + getpid() % 20000);
	snprintf(guard, sizeof guard, "%d", 20002 + getpid() % 20000);
	snprintf(path, sizeof path, "%.60s/sentinel.conf", w.dir);
	FILE *f = fopen(path, "w");
	fprintf(f, "bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor cache 127.0.0.1 %s 1\n", guard, w.dir, master);
	fclose(f);
	pid_t server = spawn((char *[]){ "redis-server", "--bind", "127.0.0.1", "--port", master, "--save", "", "--dir", w.dir, NULL });
	pid_t sentinel = spawn((char *[]){ "redis-server", path, "--sentinel", NULL });
	/* the first host is nobody: the link goes on to the next */
	snprintf(s.url, sizeof s.url, "redis+sentinel://127.0.0.1:1,localhost:%s/cache/2", guard);
	struct store_redis_options o = { .url = s.url, .prefix = "oc:", .timeout_ms = 1000, .retry_ms = 50 };
	struct store *store = store_redis_open(&o, why, sizeof why);
	assert_non_null(store);
	world_begin(&w, store);
	until_up(&w);
	assert_true(put(&w, 1, "one"));
	assert_int_equal(get_text(&w, w.other, 1, "one"), STORE_FOUND);
	until_version_is_not(&w, 0, 0);          /* from the master */
	world_end(&w);
	kill(sentinel, SIGKILL);
	kill(server, SIGKILL);
	waitpid(sentinel, NULL, 0);
	waitpid(server, NULL, 0);
	dir_remove(w.dir);
}

static const struct { const char *url; bool ok; const char *host; unsigned port, db; const char *user, *password; size_t n; } urls[] = {
	{ "redis://localhost", true, "localhost", 6379, 0, NULL, NULL, 1 },
	{ "redis://127.0.0.1:7000/3", true, "127.0.0.1", 7000, 3, NULL, NULL, 1 },
	{ "redis://[::1]:7000", true, "::1", 7000, 0, NULL, NULL, 1 },
	{ "redis://me:pa%3Ass@h:1/0", true, "h", 1, 0, "me", "pa:ss", 1 },
	{ "redis://:p@h", true, "h", 6379, 0, NULL, "p", 1 },
	{ "unix:///run/r.sock", true, "/run/r.sock", 0, 0, NULL, NULL, 1 },
	{ "unix:///run/r.sock?db=9", true, "/run/r.sock", 0, 9, NULL, NULL, 1 },
	{ "redis+sentinel://a:1,b/mine/4", true, "a", 1, 4, NULL, NULL, 2 },
	{ "redis://a:1,redis://b:2", true, "a", 1, 0, NULL, NULL, 2 },
	{ "redis://a,b,c/5", true, "a", 26379, 5, NULL, NULL, 3 },
	{ "rediss://h", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "http://h", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "redis://", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "redis://h:99999", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "redis://h/x", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "redis://[::1", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "redis://a,,b", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "unix://relative", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "unix:///s?db=x", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "redis://u:secret@h:x", false, NULL, 0, 0, NULL, NULL, 0 },
	{ "", false, NULL, 0, 0, NULL, NULL, 0 },
};

static void same_text(const char *a, const char *b)
{
	assert_int_equal(a != NULL, b != NULL);
	if (a)
		assert_string_equal(a, b);
}

static void reads_urls(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
		struct redis_url u;
		char why[256] = "";
		assert_int_equal(redis_url_read(&u, urls[i].url, why, sizeof why), urls[i].ok);
		if (!urls[i].ok) {
			assert_non_null(strstr(why, "redis://") ? why : strstr(why, "TLS"));
			assert_null(strstr(why, "secret"));
			continue;
		}
		assert_string_equal(u.hosts[0].name, urls[i].host);
		assert_int_equal(u.hosts[0].port, urls[i].port);
		assert_int_equal(u.db, urls[i].db);
		assert_int_equal(u.n_hosts, urls[i].n);
		assert_int_equal(u.sentinels, urls[i].n > 1);
		same_text(u.user, urls[i].user);
		same_text(u.password, urls[i].password);
		if (u.sentinels)
			assert_string_equal(u.master, strstr(urls[i].url, "mine") ? "mine" : "mymaster");
		redis_url_fini(&u);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		CASE(hears_whatever_changes_under_its_prefix),
		CASE(is_deaf_until_it_hears_again),
		CASE(goes_without_where_tracking_is_forbidden),
		cmocka_unit_test(reads_urls),
		CASE(is_down_at_once_when_the_server_is_gone),
		CASE(waits_once_for_a_frozen_server),
		CASE(loads_its_function_again),
		CASE(goes_on_when_memory_is_full),
		CASE(lives_with_eviction),
		CASE(reads_from_a_read_only_server),
		CASE(takes_garbage_for_a_miss),
		CASE(cancels),
		CASE(asks_for_a_password),
		cmocka_unit_test(refuses_a_cluster),
		cmocka_unit_test(asks_sentinel_for_the_master),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
