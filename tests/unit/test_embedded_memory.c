/* uses: cache/store_embedded.c cache/embedded_writer.c cache/embedded_pending.c cache/embedded_tables.c cache/embedded_file.c cache/embedded_check.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -llmdb -lxxhash -lpthread */
/* The embedded store with every allocation failing once, its own and LMDB's, on the links' thread and on the writer's. */
#include "tests/unit/store_world.h"
#include "tests/unit/torture.h"
#include "proxy/base/log.h"

enum { BYTES = 16 << 20, ALWAYS = 1, COMES = 2, OFTEN = 5000 };

static const char *libraries[] = { "liblmdb", NULL };

static int setup(void **state)
{
	assert_true(torture_of(libraries) >= 2);
	log_setup((enum log_level)-1, false);          /* hundreds of lines that say what is meant to happen */
	return dir_world_setup(state);
}

static void begin(struct world *w)
{
	char why[256] = "";
	struct store *store = store_embedded_open(w->dir, BYTES, why, sizeof why);

	if (!store)
		fail_msg("%s", why);
	world_begin(w, store);
}

static bool was_moved_aside(struct world *w)
{
	char bad[128];

	snprintf(bad, sizeof bad, "%s/data.mdb.bad", w->dir);
	return access(bad, F_OK) == 0;
}

/* ---- what a link does ---- */

static char text[100000];
static struct words near_words, own_words;

static void put_short(struct world *w, bool *ok)
{
	struct store_item item = item_of(COMES, slice_of(text, 300), in_an_hour(), NULL, 0, SLICE(""));

	*ok = put_somehow(w, &item);
}

static void put_long_with_words(struct world *w, bool *ok)
{
	struct store_item item = item_of(COMES, slice_of(text, sizeof text), in_an_hour(), &own_words, 0, SLICE("what?"));

	*ok = put_somehow(w, &item);
}

static void put_and_drop(struct world *w, bool *ok)
{
	struct waited o[2] = { { 0 } };
	uint8_t key[KEY_BYTES];
	struct store_item item = item_of(COMES, slice_of(text, 3000), in_an_hour(), &own_words, 0, SLICE("what?"));

	key_of(key, COMES);
	w->store->ops->put(w->link, &item, waited_done, &o[0]);
	w->store->ops->drop(w->link, key, waited_done, &o[1]);
	while (!o[0].times || !o[1].times)
		turn(w);
	*ok = o[0].ok && o[1].ok;
}

/* The entry that is there and a near one, the latter still to be written. */
static void get_with_words(struct world *w, bool *ok)
{
	struct store_query q = query_of(&near_words, 0, 70);
	struct store_item item = item_of(COMES, slice_of(text, 3000), in_an_hour(), &near_words, 0, SLICE("near"));
	struct waited o = { 0 };
	struct got got, pending;

	w->store->ops->put(w->other, &item, waited_done, &o);
	get_begin(w, w->link, &pending, COMES, NULL);
	get_by(w, w->link, &got, ALWAYS, &q);
	assert_true(pending.news == STORE_FOUND || pending.news == STORE_NONE || pending.news == STORE_FAILED);
	if (pending.news == STORE_FOUND)
		assert_memory_equal(pending.g.entry.at, text, 3000);
	if (got.news == STORE_FOUND)
		assert_true(slice_is(buf_slice(&got.g.entry), SLICE("always")));
	else
		assert_int_equal(got.news, STORE_FAILED);
	*ok = got.news == STORE_FOUND && pending.news == STORE_FOUND && proposed(&got, COMES) && proposed(&got, ALWAYS);
	got_fini(&got);
	got_fini(&pending);
	while (!o.times)
		turn(w);
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
	if (remove && *ok)
		assert_true(walk.removed > 0);
}

/* Which adds up the uses first: something is written, and so it is known to work again. */
static void expect_up(struct world *w)
{
	bool ok;

	assert_int_equal(get_text(w, w->link, ALWAYS, "always"), STORE_FOUND);
	walk_once(w, false, &ok);
	assert_true(ok);
	assert_true(w->store->ops->state(w->store).up);
}

static void walk_to_list(struct world *w, bool *ok) { walk_once(w, false, ok); }
static void walk_to_remove(struct world *w, bool *ok) { walk_once(w, true, ok); }

static void open_once(struct world *w, int n, bool *failed)
{
	char why[256] = "";
	struct store_link *l = NULL;
	bool ok = false;

	loop_init(&w->loop);
	torture_begin(n);
	struct store *store = store_embedded_open(w->dir, BYTES, why, sizeof why);
	if (store)
		l = store->ops->attach(store, &w->loop);
	if (l) {                                       /* the first put makes LMDB ask for all it will ever need */
		w->store = store;
		w->link = w->other = l;
		put_long_with_words(w, &ok);
	}
	*failed = torture_end();
	if (!store)
		assert_non_null(strstr(why, "memory"));
	assert_true(*failed || ok);
	if (l)
		store->ops->detach(l);
	uv_run(&w->loop.uv, UV_RUN_NOWAIT);
	if (store)
		store->ops->close(store);
	loop_fini(&w->loop);
}

static void opens_or_says_why_not(void **state)
{
	struct world *w = *state;
	bool failed = true;
	int n, fails = 0;

	words_from(&own_words, 50);
	alarm(PATIENCE);
	for (n = 1; failed && n < OFTEN; n++) {        /* first in a directory without a store, each time */
		open_once(w, n, &failed);
		fails += failed;
		dir_remove(w->dir);
		assert_int_equal(mkdir(w->dir, 0700), 0);
	}
	assert_true(fails > 10);
	begin(w);
	assert_true(put(w, ALWAYS, "always"));
	world_end(w);
	alarm(PATIENCE);
	for (failed = true, n = 1; failed && n < OFTEN; n++)
		open_once(w, n, &failed);
	assert_true(n > 10 && n < OFTEN);
	assert_false(was_moved_aside(w));              /* no memory is not the file's fault */
	begin(w);
	assert_int_equal(get_text(w, w->link, ALWAYS, "always"), STORE_FOUND);
	world_end(w);
}

/* Once with memory enough, then with one allocation failing at a time, until none of what it does is left to fail. */
static void each_fails_once(void **state, void (*act)(struct world *, bool *ok))
{
	struct world *w = *state;
	bool failed = true, ok;
	int n, fails = 0;

	words_from(&near_words, 0);
	words_from(&own_words, 50);
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (char)(i * 2654435761u >> 11);
	begin(w);
	struct store_item always = item_of(ALWAYS, SLICE("always"), in_an_hour(), &near_words, 0, SLICE("near"));
	assert_true(put_item(w, w->link, &always));
	act(w, &ok);
	assert_true(ok);
	for (n = 1; failed && n < OFTEN; n++) {
		assert_true(put_item(w, w->link, &always));    /* also that it works again */
		drop(w, COMES);
		atomic_store(&w->errors, 0);
		torture_begin(n);
		act(w, &ok);
		failed = torture_end();
		assert_true(ok || failed);
		assert_true(ok || atomic_load(&w->errors));    /* it is counted */
		if (act != walk_to_remove)             /* no answer goes for want of memory */
			expect_up(w);
		fails += failed;
		assert_true(put_item(w, w->link, &always));
		act(w, &ok);
		assert_true(ok);
		assert_true(put_item(w, w->link, &always));
		assert_int_equal(get_text(w, w->other, ALWAYS, "always"), STORE_FOUND);
		assert_true(finds(w, w->other, &near_words, 0, ALWAYS));
	}
	assert_true(fails > 0 && n < OFTEN);
	world_end(w);
	begin(w);
	assert_int_equal(get_text(w, w->other, ALWAYS, "always"), STORE_FOUND);
	assert_false(was_moved_aside(w));
	static struct walked walk;
	walk_all(w, &walk, 100, NULL, false);
	assert_in_range(walk.rows, 1, 2);
	world_end(w);
}

static void a_short_put(void **state) { each_fails_once(state, put_short); }
static void a_long_put_with_words(void **state) { each_fails_once(state, put_long_with_words); }
static void a_put_and_its_drop(void **state) { each_fails_once(state, put_and_drop); }
static void a_get_of_what_is_there_and_what_waits(void **state) { each_fails_once(state, get_with_words); }
static void a_walk(void **state) { each_fails_once(state, walk_to_list); }
static void a_purge(void **state) { each_fails_once(state, walk_to_remove); }

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, dir_world_teardown)
		CASE(opens_or_says_why_not),
		CASE(a_short_put),
		CASE(a_long_put_with_words),
		CASE(a_put_and_its_drop),
		CASE(a_get_of_what_is_there_and_what_waits),
		CASE(a_walk),
		CASE(a_purge),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
