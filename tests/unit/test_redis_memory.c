/* uses: cache/redis_walk.c cache/redis_near.c cache/redis_health.c cache/redis_count.c cache/redis_ear.c cache/redis_link.c cache/redis_url.c cache/redis_function.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -lhiredis -lxxhash -lpthread */
/* The Redis store with every allocation failing once, its own and hiredis', against a real server. */
#include <dlfcn.h>
#include <unwind.h>

#include "tests/unit/redis_world.h"
#include "tests/unit/torture.h"
#include "proxy/base/log.h"
#include "cache/store_redis.c"

enum { TIMEOUT_MS = 2000, ALWAYS = 1, OTHER = 2, COMES = 3, OFTEN = 5000 };
enum { WORKS_AGAIN_MS = 5000 };                        /* a pause before the next try, a connection and its greeting, many times over */

static const char *libraries[] = { "libhiredis", NULL };
static struct server server;
static char dir[64];
static struct words near_words, own_words;
static char text[20000];

/* What hiredis 0.14 cannot do without: the asking function of its, in which other of its. Later versions have none of
 * these faults, and are spared there for nothing. */
static const struct { const char *asks, *within; } blind[] = {
	{ "sdsnewlen", "redisBufferWrite" },           /* the new buffer when the old one is written is used unlooked at */
	{ "sdsMakeRoomFor", "redisFormatSdsCommandArgv" },     /* the empty text it should have grown is left unfreed */
	{ "hi_malloc", NULL }, { "hi_calloc", NULL }, { "hi_realloc", NULL }, { "hi_strdup", NULL },    /* end the process */
};
enum { FRAMES = 6 };
struct frames { const char *name[FRAMES]; size_t n; };

static _Unwind_Reason_Code add_frame(struct _Unwind_Context *context, void *arg)
{
	struct frames *f = arg;
	Dl_info info = { .dli_sname = NULL };

	if (f->n == FRAMES)
		return _URC_END_OF_STACK;
	dladdr((void *)_Unwind_GetIP(context), &info);
	f->name[f->n++] = info.dli_sname ? info.dli_sname : "";
	return _URC_NO_REASON;
}

static bool is_blind(void)
{
	struct frames f = { .n = 0 };

	_Unwind_Backtrace(add_frame, &f);
	for (size_t i = 0; i + 1 < f.n; i++)
		for (size_t k = 0; k < sizeof blind / sizeof *blind; k++)
			if (!strcmp(f.name[i], blind[k].asks) && (!blind[k].within || !strcmp(f.name[i + 1], blind[k].within)))
				return true;
	return false;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	server_tell(&server, "FLUSHALL");
	server_tell(&server, "FUNCTION FLUSH");
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

/* A turn of the loop may wait for what has come already: this ends it. */
static uv_timer_t tick;

static void on_tick(uv_timer_t *t)
{
	(void)t;
}

static void tick_in(struct world *w)
{
	uv_timer_init(&w->loop.uv, &tick);
	uv_timer_start(&tick, on_tick, 5, 5);
}

/* Whatever ended is found again by itself, and near questions with it. Those have a connection of their own, which pauses
 * before the next try while the other goes on answering: so it is time that is bounded here and not how often one asks. */
static void expect_works(struct world *w)
{
	struct store_item always = item_of(ALWAYS, SLICE("always"), in_an_hour(), &near_words, 0, SLICE("near"));

	until_up(w);
	int64_t late = clock_us() + WORKS_AGAIN_MS * 1000;
	do {
		assert_true(clock_us() < late);
		assert_true(put_item(w, w->link, &always));
	} while (!finds(w, w->other, &near_words, 0, ALWAYS) || !finds(w, w->link, &near_words, 0, ALWAYS));
	assert_int_equal(get_text(w, w->other, ALWAYS, "always"), STORE_FOUND);
	assert_int_equal(get_text(w, w->link, ALWAYS, "always"), STORE_FOUND);
	assert_true(w->store->ops->state(w->store).up);
}

static void put_with_words(struct world *w, bool *ok)
{
	struct store_item item = item_of(COMES, slice_of(text, sizeof text), in_an_hour(), &own_words, 0, SLICE("what?"));

	*ok = put_somehow(w, &item);
}

static void drop_one(struct world *w, bool *ok)
{
	*ok = drop(w, OTHER);
}

/* Several on one connection: whatever fails, none may be given another's answer. */
static void get_several(struct world *w, bool *ok)
{
	static const struct { unsigned number; const char *text; } ask[] = {
		{ ALWAYS, "always" }, { 99, NULL }, { OTHER, "other" }, { ALWAYS, "always" }, { OTHER, "other" },
	};
	enum { N = sizeof ask / sizeof *ask };
	struct store_query q = query_of(&near_words, 0, 70);
	struct got got[N];

	*ok = true;
	for (int i = 0; i < N; i++)
		get_begin(w, w->link, &got[i], ask[i].number, i % 2 ? NULL : &q);
	for (int i = 0; i < N; i++) {
		while (!got[i].times)
			turn(w);
		assert_int_equal(got[i].times, 1);
		if (got[i].news == STORE_FOUND) {
			assert_non_null(ask[i].text);
			assert_true(slice_is(buf_slice(&got[i].g.entry), slice_text(ask[i].text)));
		} else {
			assert_true(got[i].news == STORE_FAILED || (got[i].news == STORE_NONE && !ask[i].text));
			*ok = *ok && got[i].news == STORE_NONE;
		}
		for (size_t k = 0; k < got[i].g.n_proposals; k++)
			assert_true(slice_is(got[i].g.proposal[k].question, SLICE("near")));
		*ok = *ok && (i % 2 || proposed(&got[i], ALWAYS));
		got_fini(&got[i]);
	}
}

static void walk_once(struct world *w, bool remove, bool *ok)
{
	static struct walked walk;

	memset(&walk, 0, sizeof walk);
	walk.w.limit = 100;
	walk.w.row = walked_row;
	walk.w.done = walked_done;
	walk.w.remove = remove;
	w->store->ops->walk(w->link, &walk.w);
	while (!walk.times)
		turn(w);
	assert_int_equal(walk.times, 1);
	*ok = walk.news == STORE_FOUND;
}

static void walk_to_list(struct world *w, bool *ok) { walk_once(w, false, ok); }
static void walk_to_remove(struct world *w, bool *ok) { walk_once(w, true, ok); }

/* The function is gone: it is found out, and loaded again. */
static void find_without_function(struct world *w, bool *ok)
{
	struct store_query q = query_of(&near_words, 0, 70);
	struct got got;

	get_by(w, w->link, &got, ALWAYS, &q);
	*ok = got.news == STORE_FOUND;
	got_fini(&got);
	get_by(w, w->link, &got, ALWAYS, &q);
	*ok = *ok && got.news == STORE_FOUND;
	got_fini(&got);
}

static void each_fails_once(void **state, void (*act)(struct world *, bool *ok))
{
	struct world *w = *state;
	struct store_item other = item_of(OTHER, SLICE("other"), in_an_hour(), NULL, 0, SLICE(""));
	bool failed = true, ok;
	int n, fails = 0;

	world_begin(w, server_open(&server, TIMEOUT_MS));
	tick_in(w);
	expect_works(w);
	for (n = 1; failed && n < OFTEN; n++) {
		assert_true(put_item(w, w->link, &other));
		if (act == find_without_function)
			server_tell(&server, "FUNCTION FLUSH");
		atomic_store(&w->errors, 0);
		torture_begin(n);
		act(w, &ok);
		failed = torture_end();
		assert_true(ok || failed);
		assert_true(ok || atomic_load(&w->errors));    /* it is counted */
		fails += failed;
		expect_works(w);
	}
	assert_true(fails > 2 && n < OFTEN);
	uv_close((uv_handle_t *)&tick, NULL);
	world_end(w);
}

static void a_put(void **state) { each_fails_once(state, put_with_words); }
static void a_drop(void **state) { each_fails_once(state, drop_one); }
static void gets_on_one_connection(void **state) { each_fails_once(state, get_several); }
static void a_walk(void **state) { each_fails_once(state, walk_to_list); }
static void a_purge(void **state) { each_fails_once(state, walk_to_remove); }
static void a_function_to_load_again(void **state) { each_fails_once(state, find_without_function); }

static bool count_again(struct world *w)
{
	atomic_store(&w->link->store->counted_at, 0);  /* as if it were long ago */
	redis_count(w->link);
	return w->link->counting;
}

/* The numbers for state() are asked for by calls the link has once: never again while one of them is under way, or what
 * follows on the connection is given the answers of others. */
static void numbers_once_at_a_time(void **state)
{
	struct world *w = *state;
	bool failed = true;
	int n;

	world_begin(w, server_open(&server, TIMEOUT_MS));
	tick_in(w);
	for (n = 1; failed && n < OFTEN; n++) {
		expect_works(w);                       /* and with that last get all before it is answered */
		torture_begin(n);
		bool asked = count_again(w);
		failed = torture_end();
		assert_true(asked || failed);
		count_again(w);
		enum store_news news = get_text(w, w->link, ALWAYS, "always");
		assert_true(news == STORE_FOUND || (news == STORE_FAILED && failed));
	}
	assert_true(n > 3 && n < OFTEN);
	expect_works(w);
	uv_close((uv_handle_t *)&tick, NULL);
	world_end(w);
}

/* Opening it, connecting and greeting: up in the end, by itself. */
static void open_once(const struct store_redis_options *o, int n, bool *failed)
{
	struct world w = { .errors = 0 };
	char why[256] = "";

	alarm(PATIENCE);
	loop_init(&w.loop);
	tick_in(&w);
	torture_begin(n);
	w.store = store_redis_open(o, why, sizeof why);
	if (w.store)
		w.link = w.store->ops->attach(w.store, &w.loop);
	*failed = !w.link && torture_end();
	if (w.link) {
		w.other = w.link;
		until_up(&w);
		*failed = torture_end();
		w.store->ops->detach(w.link);
	} else {
		assert_true(*failed);
		assert_true(w.store || *why);
	}
	uv_close((uv_handle_t *)&tick, NULL);
	uv_run(&w.loop.uv, UV_RUN_NOWAIT);
	if (w.store)
		w.store->ops->close(w.store);
	loop_fini(&w.loop);
	alarm(0);
}

static void each_start_fails_once(const char *url)
{
	const struct store_redis_options o = { .url = url, .prefix = "oc:", .timeout_ms = TIMEOUT_MS, .retry_ms = 50 };
	bool failed = true;
	int n, fails = 0;

	for (n = 1; failed && n < OFTEN; n++) {
		open_once(&o, n, &failed);
		fails += failed;
	}
	assert_true(fails > 10 && n < OFTEN);
}

static void opens_and_connects(void **state)
{
	(void)state;
	each_start_fails_once(server.url);
}

/* The first port from here on that the server found free; it listens there. */
static int listen_from(int port)
{
	char command[64];
	bool has = false;

	server_tell(&server, "CONFIG SET bind 127.0.0.1");
	for (int i = 0; !has && i < 100; i++) {
		snprintf(command, sizeof command, "CONFIG SET port %d", ++port);
		redisReply *r = server_ask(&server, command);
		has = r && r->type == REDIS_REPLY_STATUS;
		freeReplyObject(r);
	}
	assert_true(has);
	return port;
}

static int my_port(void)
{
	return 20000 + (int)getpid() % 20000;
}

static void opens_by_network(void **state)
{
	char url[64];

	(void)state;
	snprintf(url, sizeof url, "redis://localhost:%d/1", listen_from(my_port()));
	each_start_fails_once(url);
	server_tell(&server, "CONFIG SET port 0");
}

/* 0: it could not have that port. */
static pid_t sentinel_start(int port, int master)
{
	char path[128], line[512];
	bool up = false;
	int said[2];

	snprintf(path, sizeof path, "%s/sentinel.conf", dir);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor cache 127.0.0.1 %d 1\n", port, dir, master);
	fclose(f);
	assert_int_equal(pipe(said), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(said[1], 1);
		close(said[0]);
		alarm(0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("redis-server", "redis-server", path, "--sentinel", (char *)NULL);
		_exit(127);
	}
	close(said[1]);
	f = fdopen(said[0], "r");
	assert_non_null(f);
	while (!up && fgets(line, sizeof line, f))
		up = strstr(line, "Sentinel ID");
	fclose(f);
	if (!up)
		waitpid(pid, NULL, 0);
	return up ? pid : 0;
}

/* Two connections then, the first of which is asked for the second's address. */
static void opens_by_sentinel(void **state)
{
	int master = listen_from(my_port() + 100), port = master + 100;
	char url[96];
	pid_t sentinel = 0;

	(void)state;
	alarm(PATIENCE);
	for (int i = 0; !sentinel && i < 100; i++)
		sentinel = sentinel_start(++port, master);
	assert_true(sentinel > 0);
	snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/cache", port);
	each_start_fails_once(url);
	kill(sentinel, SIGKILL);
	waitpid(sentinel, NULL, 0);
	server_tell(&server, "CONFIG SET port 0");
}

static void opens_with_a_login(void **state)
{
	struct timeval wait = { 10, 0 };
	char url[256];

	(void)state;
	snprintf(url, sizeof url, "unix://default:secret@%s?db=1", server.socket);
	server_tell(&server, "CONFIG SET requirepass secret");
	each_start_fails_once(url);
	redisContext *c = redisConnectUnixWithTimeout(server.socket, wait);
	assert_non_null(c);
	freeReplyObject(redisCommand(c, "AUTH secret"));
	redisReply *r = redisCommand(c, "CONFIG SET requirepass %s", "");
	assert_non_null(r);
	assert_int_equal(r->type, REDIS_REPLY_STATUS);
	freeReplyObject(r);
	redisFree(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		CASE(a_put),
		CASE(a_drop),
		CASE(gets_on_one_connection),
		CASE(a_walk),
		CASE(a_purge),
		CASE(a_function_to_load_again),
		CASE(numbers_once_at_a_time),
		CASE(opens_and_connects),
		CASE(opens_by_network),
		CASE(opens_by_sentinel),
		CASE(opens_with_a_login),
	};
	log_setup((enum log_level)-1, false);          /* hundreds of lines that say what is meant to happen */
	words_from(&near_words, 0);
	words_from(&own_words, 50);
	memset(text, 'x', sizeof text);
	dir_make(dir);
	server_start(&server, dir);
	torture_of(libraries);
	torture.spares = is_blind;
	int failures = torture.n_parts < 2 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
	server_stop(&server);
	dir_remove(dir);
	return failures;
}
