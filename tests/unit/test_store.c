/* uses: cache/store_embedded.c cache/embedded_writer.c cache/embedded_pending.c cache/embedded_tables.c cache/embedded_file.c cache/embedded_check.c cache/store_redis.c cache/redis_walk.c cache/redis_near.c cache/redis_health.c cache/redis_count.c cache/redis_ear.c cache/redis_link.c cache/redis_url.c cache/redis_function.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -llmdb -lhiredis -lxxhash -lpthread */
/* The store's interface: every case on the embedded store and on a real redis-server. */
#include "tests/unit/redis_world.h"

static bool on_redis;
static struct server server;

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	char why[256] = "";

	dir_make(w->dir);
	if (on_redis) {
		server_tell(&server, "FLUSHALL");
		world_begin(w, server_open(&server, 5000));
		until_up(w);
	} else {
		struct store *store = store_embedded_open(w->dir, 64 << 20, why, sizeof why);
		if (!store)
			fail_msg("%s", why);
		world_begin(w, store);
	}
	atomic_store(&w->errors, 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	world_end(w);
	dir_remove(w->dir);
	free(w);
	return 0;
}

static void puts_and_gets(void **state)
{
	struct world *w = *state;

	assert_int_equal(get_text(w, w->link, 1, NULL), STORE_NONE);
	assert_true(put(w, 1, "one"));
	assert_true(put(w, 2, ""));
	assert_int_equal(get_text(w, w->link, 1, "one"), STORE_FOUND);
	assert_int_equal(get_text(w, w->other, 1, "one"), STORE_FOUND);
	assert_int_equal(get_text(w, w->link, 2, ""), STORE_FOUND);
	assert_true(put(w, 1, "another"));
	assert_int_equal(get_text(w, w->other, 1, "another"), STORE_FOUND);
	assert_int_equal(get_text(w, w->link, 3, NULL), STORE_NONE);
	assert_int_equal(atomic_load(&w->errors), 0);
}

static void keeps_any_bytes_of_any_size(void **state)
{
	struct world *w = *state;
	static const size_t sizes[] = { 1, 100, 1899, 1900, 1901, 2000, 4079, 4080, 4081, 8160, 8161, 70000, 4 << 20 };
	char *bytes = malloc(4 << 20);

	for (size_t i = 0; i < 4 << 20; i++)
		bytes[i] = (char)(i * 2654435761u >> 13);
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct store_item item = item_of(i, slice_of(bytes, sizes[i]), in_an_hour(), NULL, 0, SLICE(""));
		assert_true(put_item(w, w->link, &item));
	}
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct got got;
		assert_int_equal(get_by(w, w->other, &got, i, NULL), STORE_FOUND);
		assert_int_equal(got.g.entry.len, sizes[i]);
		assert_memory_equal(got.g.entry.at, bytes, sizes[i]);
		got_fini(&got);
	}
	free(bytes);
}

/* A put is seen by the other link before it is known to be stored. */
static void shows_a_put_to_all_at_once(void **state)
{
	struct world *w = *state;
	struct words words;

	for (unsigned i = 0; i < 100; i++) {
		words_from(&words, i * 10);
		struct store_item item = item_of(i, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
		w->store->ops->put(w->link, &item, NULL, NULL);
		w->store->ops->flush(w->link);
		if (on_redis)                          /* on the same connection order is certain; on another it is the server's */
			assert_int_equal(get_text(w, w->link, i, "x"), STORE_FOUND);
		assert_int_equal(get_text(w, w->other, i, "x"), STORE_FOUND);
		assert_true(finds(w, w->other, &words, 0, i));
	}
}

static void forgets_what_has_expired(void **state)
{
	struct world *w = *state;
	struct words words;
	static struct walked walk;

	words_from(&words, 0);
	int64_t end = wall_now() + 400;
	struct store_item item = item_of(1, SLICE("soon gone"), end, &words, 0, SLICE("q"));
	assert_true(put_item(w, w->link, &item));
	item = item_of(2, SLICE("stays"), in_an_hour(), &words, 0, SLICE("q"));
	assert_true(put_item(w, w->link, &item));
	if (wall_now() < end - 200) {                  /* else this machine is too slow to see it alive */
		assert_int_equal(get_text(w, w->link, 1, "soon gone"), STORE_FOUND);
		assert_true(finds(w, w->link, &words, 0, 1));
	}
	while (wall_now() <= end + 2)
		assert_int_not_equal(get_text(w, w->link, 2, "stays"), STORE_NONE);
	assert_int_equal(get_text(w, w->link, 1, NULL), STORE_NONE);
	assert_false(finds(w, w->link, &words, 0, 1));
	assert_true(finds(w, w->link, &words, 0, 2));
	walk_all(w, &walk, 10, NULL, false);
	assert_int_equal(walk.rows, 1);
}

static void drops(void **state)
{
	struct world *w = *state;
	struct words words;

	words_from(&words, 0);
	struct store_item item = item_of(1, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
	assert_true(put_item(w, w->link, &item));
	assert_true(finds(w, w->link, &words, 0, 1));
	assert_true(drop(w, 1));
	assert_int_equal(get_text(w, w->other, 1, NULL), STORE_NONE);
	assert_false(finds(w, w->other, &words, 0, 1));
	assert_false(drop(w, 1));
	assert_false(drop(w, 2));
	assert_true(put_item(w, w->link, &item));
	assert_true(finds(w, w->link, &words, 0, 1));
}

static void follows_an_entry_to_other_words(void **state)
{
	struct world *w = *state;
	struct words old, new;

	words_from(&old, 0);
	words_from(&new, 100);
	struct store_item item = item_of(1, SLICE("x"), in_an_hour(), &old, 0, SLICE("q"));
	assert_true(put_item(w, w->link, &item));
	item = item_of(1, SLICE("y"), in_an_hour(), &new, 0, SLICE("q2"));
	assert_true(put_item(w, w->link, &item));
	assert_false(finds(w, w->link, &old, 0, 1));
	assert_true(finds(w, w->link, &new, 0, 1));
}

static void keeps_scopes_apart(void **state)
{
	struct world *w = *state;
	struct words words;

	words_from(&words, 0);
	for (unsigned scope = 0; scope < 5; scope++) {
		struct store_item item = item_of(scope, SLICE("x"), in_an_hour(), &words, scope, SLICE("q"));
		assert_true(put_item(w, w->link, &item));
	}
	for (unsigned scope = 0; scope < 7; scope++)
		for (unsigned n = 0; n < 5; n++)
			assert_int_equal(finds(w, w->link, &words, scope, n), scope == n);
	/* an entry without words is proposed to nobody */
	assert_true(put(w, 50, "plain"));
	assert_false(finds(w, w->link, &words, 0, 50));
}

static void finds_key_and_proposals_at_once(void **state)
{
	struct world *w = *state;
	struct words words, near;
	struct got got;

	words_from(&words, 0);
	near = words;
	for (size_t i = 0; i < near.n; i++)
		near.word[i].terms = &near.term[i];
	word_add(&near, 77, 4);
	struct store_item item = item_of(1, SLICE("x"), in_an_hour(), &words, 0, SLICE("the\0first"));
	assert_true(put_item(w, w->link, &item));
	item = item_of(2, SLICE("y"), in_an_hour(), &near, 0, SLICE("second"));
	assert_true(put_item(w, w->link, &item));
	struct store_query q = query_of(&words, 0, 70);
	assert_int_equal(get_by(w, w->link, &got, 2, &q), STORE_FOUND);
	assert_int_equal(got.g.entry.len, 1);
	assert_int_equal(got.g.n_proposals, 2);
	uint8_t key[KEY_BYTES];
	key_of(key, 1);
	assert_memory_equal(got.g.proposal[0].key, key, KEY_BYTES);      /* 1.0 before 6/7 */
	assert_true(slice_is(got.g.proposal[0].question, SLICE("the\0first")));
	assert_true(slice_is(got.g.proposal[1].question, SLICE("second")));
	got_fini(&got);
}

/* Random sets, with weights and several terms a word, against a look at every one. */
static uint32_t seed;
static unsigned dice(unsigned n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

enum { SETS = 600, TERMS = 2 };
struct set { uint64_t term[16][TERMS]; struct store_word word[16]; size_t n; unsigned total; };

static void set_make(struct set *s)
{
	s->n = 1 + dice(9);
	s->total = 0;
	for (size_t i = 0; i < s->n; i++) {
		unsigned number = dice(16) * dice(16) / 6 * 20;        /* small numbers come often */
		s->word[i] = (struct store_word){ s->term[i], (uint8_t)(1 + dice(TERMS)), dice(4) ? 4 : 1 };
		for (int t = 0; t < TERMS; t++)
			s->term[i][t] = term_of(number / 20 * 2 + (unsigned)t * (1 + dice(2) * 500));
		s->total += s->word[i].weight;
	}
}

static double alike(const struct set *q, const struct set *e)
{
	uint8_t packed[NEAR_PACKED_MAX];
	struct store_query query = { .words = q->word, .n_words = q->n };
	struct near_query nq;
	unsigned total;

	near_query_init(&nq, &query);
	return near_score(&nq, packed, near_pack(packed, e->word, e->n, &total));
}

static void misses_nothing_a_scan_would_find(void **state)
{
	struct world *w = *state;
	static struct set sets[SETS];
	unsigned hits = 0, bounded = 0;

	seed = 12345;
	for (unsigned i = 0; i < SETS; i++) {
		set_make(&sets[i]);
		struct store_item item = { .entry = SLICE("x"), .expires_ms = in_an_hour(), .has_question = true,
					   .question = SLICE("q"), .words = sets[i].word, .n_words = sets[i].n };
		key_of(item.key, i);
		key_of(item.scope, 1000000);
		w->store->ops->put(w->link, &item, NULL, NULL);
	}
	assert_true(put(w, 5000000, "all before this is stored, too"));
	for (unsigned n = 0; n < 300; n++) {
		struct set asked;
		if (n % 3) {
			asked = sets[dice(SETS)];
			for (size_t i = 0; i < asked.n; i++)
				asked.word[i].terms = asked.term[i];
			if (asked.n > 3 && n % 3 == 2)
				asked.total -= asked.word[--asked.n].weight;
		} else {
			set_make(&asked);
		}
		unsigned t = 50 + dice(50), should = 0, least = (asked.total * t + 99) / 100;
		struct store_query q = { .words = asked.word, .n_words = asked.n, .unlooked = asked.total - least,
					 .least = least, .most = asked.total * 100 / t };
		key_of(q.scope, 1000000);
		struct got got;
		assert_int_equal(get_by(w, w->link, &got, 6000000, &q), STORE_NONE);
		double worst = 1;
		for (size_t i = 0; i < got.g.n_proposals; i++) {
			unsigned number = 0;
			uint8_t key[KEY_BYTES];
			do
				key_of(key, number++);
			while (memcmp(key, got.g.proposal[i].key, KEY_BYTES) != 0 && number < SETS + 1);
			assert_true(number <= SETS);
			double is = alike(&asked, &sets[number - 1]);
			assert_true(is <= worst + 1e-9);
			worst = is;
		}
		for (unsigned i = 0; i < SETS; i++)
			if (alike(&asked, &sets[i]) * 100 >= t + 1e-6) {
				should++;
				hits++;
				if (!proposed(&got, i) && !got.g.bounded) {      /* only for something at least as good */
					assert_int_equal(got.g.n_proposals, STORE_PROPOSALS);
					assert_true(alike(&asked, &sets[i]) <= worst + 1e-9);
				}
			}
		bounded += got.g.bounded;          /* by the clock, where this machine has much else to do */
		if (should == 0)
			assert_true(worst * 100 <= t + 1 || got.g.n_proposals == 0 || worst == 1);
		got_fini(&got);
	}
	assert_true(hits > 250);
	assert_true(bounded < 30);
	assert_int_equal(atomic_load(&w->errors), 0);
}

static bool is_even(struct store_walk *walk, const struct store_row *row)
{
	(void)walk;
	return row->entry_head.len == 4 && (row->entry_head.at[3] - '0') % 2 == 0;
}

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, KEY_BYTES);
}

static size_t distinct(struct walked *walk)
{
	size_t n = walk->rows > 0;

	qsort(walk->keys, walk->rows, KEY_BYTES, by_key);
	for (size_t i = 1; i < walk->rows; i++)
		n += by_key(walk->keys[i - 1], walk->keys[i]) != 0;
	return n;
}

static void walks_and_purges(void **state)
{
	struct world *w = *state;
	static struct walked walk;
	char text[8];

	walk_all(w, &walk, 10, NULL, false);
	assert_int_equal(walk.rows, 0);
	for (unsigned i = 0; i < 500; i++) {
		snprintf(text, sizeof text, "%04u", i);
		struct store_item item = item_of(i, slice_of(text, 4), in_an_hour(), NULL, 0, SLICE(""));
		w->store->ops->put(w->link, &item, NULL, NULL);
	}
	assert_true(put(w, 500, "0500"));
	static const size_t limits[] = { 7, 100, 1000 };
	for (size_t n = 0; n < 3; n++) {
		walk_all(w, &walk, limits[n], NULL, false);
		assert_int_equal(distinct(&walk), 501);
		if (!on_redis)                         /* SCAN may name a key twice while the server's table grows */
			assert_int_equal(walk.rows, 501);
	}
	memset(&walk, 0, sizeof walk);
	walk.w = (struct store_walk){ .limit = 7, .row = walked_row, .done = walked_done };
	w->store->ops->walk(w->link, &walk.w);
	while (!walk.times)
		turn(w);
	assert_int_equal(walk.rows, 7);
	assert_true(walk.w.after[0]);
	walk_all(w, &walk, 60, is_even, false);
	assert_int_equal(distinct(&walk), 251);
	walk_all(w, &walk, 60, is_even, true);
	assert_int_equal(walk.rows, 0);
	assert_int_equal(walk.removed, 251);
	walk_all(w, &walk, 1000, NULL, false);
	assert_int_equal(distinct(&walk), 250);
	assert_int_equal(get_text(w, w->link, 2, NULL), STORE_NONE);
	assert_int_equal(get_text(w, w->link, 3, "0003"), STORE_FOUND);
	walk_all(w, &walk, 0, NULL, true);
	assert_int_equal(walk.removed, 250);
	walk_all(w, &walk, 1000, NULL, false);
	assert_int_equal(walk.rows, 0);
}

static void takes_any_cursor(void **state)
{
	struct world *w = *state;
	static const char *const cursors[] = { "x", "99999999999999999999999999999999999999", "0+999999999", "+", "zz+zz",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff" };
	static struct walked walk;

	assert_true(put(w, 1, "one"));
	for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
		memset(&walk, 0, sizeof walk);
		walk.w = (struct store_walk){ .limit = 7, .row = walked_row, .done = walked_done };
		strcpy(walk.w.after, cursors[i]);
		w->store->ops->walk(w->link, &walk.w);
		while (!walk.times)
			turn(w);
		assert_int_equal(walk.times, 1);
	}
	/* what a longer cursor left behind the end of a shorter one means nothing */
	memset(&walk, 0, sizeof walk);
	walk.w = (struct store_walk){ .limit = 7, .row = walked_row, .done = walked_done };
	memcpy(walk.w.after + 1, "+ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", 66);
	w->store->ops->walk(w->link, &walk.w);
	while (!walk.times)
		turn(w);
	assert_int_equal(walk.rows, 1);
}

static void told(void *arg, bool ok)
{
	(void)ok;
	++*(int *)arg;
}

static bool any(struct store_walk *walk, const struct store_row *row)
{
	(void)walk, (void)row;
	return true;
}

/* Whatever is under way when a link goes is not heard of again, and what it looked at may be freed. */
static void detaches_in_the_middle(void **state)
{
	struct world *w = *state;
	int times = 0;

	for (int round = 0; round < 30; round++) {
		struct store_link *l = w->store->ops->attach(w->store, &w->loop);
		struct walked *walk = calloc(1, sizeof *walk);
		struct got *got = calloc(1, sizeof *got);
		struct words *words = calloc(1, sizeof *words);
		words_from(words, 0);
		struct store_query q = query_of(words, 0, 70);
		for (unsigned i = 0; i < 20; i++) {
			struct store_item item = item_of(i, SLICE("x"), in_an_hour(), words, 0, SLICE("q"));
			w->store->ops->put(round % 2 ? w->link : l, &item, round % 2 ? NULL : told, &times);
		}
		times = 0;
		walk->w = (struct store_walk){ .limit = 100, .row = walked_row, .done = walked_done, .wants = any };
		struct store_link *with = round % 2 ? w->link : l;
		get_begin(w, with, got, 1, &q);
		if (got->news == STORE_LATER)
			w->store->ops->cancel(with, &got->g);
		if (round % 2 == 0)
			w->store->ops->walk(l, &walk->w);
		w->store->ops->flush(l);
		for (int i = 0; i < round % 4; i++)
			uv_run(&w->loop.uv, UV_RUN_NOWAIT);
		int seen = got->times;
		w->store->ops->detach(l);
		times = 0;
		got_fini(got);
		free(got);
		free(walk);
		free(words);
		assert_true(seen <= 1);
		assert_true(put(w, 100, "go on"));
		assert_int_equal(times, 0);
	}
	assert_int_equal(get_text(w, w->other, 100, "go on"), STORE_FOUND);
}

/* Each is given up at another moment; none of them is heard of again, and the others on the link all get their answer. */
static void gives_up_some_of_many(void **state)
{
	enum { N = 40 };
	struct world *w = *state;
	struct words words;

	words_from(&words, 0);
	struct store_item item = item_of(1, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
	assert_true(put_item(w, w->link, &item));
	struct store_query q = query_of(&words, 0, 70);
	for (unsigned turns = 0; turns < 8; turns++) {
		struct got *got[N];
		bool given_up[N] = { false };
		for (unsigned i = 0; i < N; i++) {
			got[i] = calloc(1, sizeof *got[i]);
			get_begin(w, w->link, got[i], i % 4 < 2 ? 1 : 999999, &q);
		}
		for (unsigned i = 0; i < turns; i++) {         /* the embedded store may have answered all: no turn may wait */
			w->store->ops->flush(w->link);
			uv_run(&w->loop.uv, UV_RUN_NOWAIT);
			usleep(50);
		}
		for (unsigned i = 0; i < N; i += 2)
			if (!got[i]->times) {
				w->store->ops->cancel(w->link, &got[i]->g);
				given_up[i] = true;
				got_fini(got[i]);
				free(got[i]);          /* a sanitizer sees to it that nobody looks there again */
			}
		for (unsigned i = 0; i < N; i++) {
			if (given_up[i])
				continue;
			while (!got[i]->times)
				turn(w);
			assert_int_equal(got[i]->times, 1);
			assert_int_equal(got[i]->news, i % 4 < 2 ? STORE_FOUND : STORE_NONE);
			assert_true(got[i]->g.bounded || proposed(got[i], 1));
			got_fini(got[i]);
			free(got[i]);
		}
	}
	assert_int_equal(atomic_load(&w->errors), 0);
}

static struct world *the_world;
static struct store_link *leaving;
static int ends;
static void leave(void *arg, bool ok)
{
	(void)arg, (void)ok;
	ends++;
	if (leaving)
		the_world->store->ops->detach(leaving);
	leaving = the_world->third = NULL;
}

static void detaches_inside_a_callback(void **state)
{
	struct world *w = *state;

	the_world = w;
	leaving = w->store->ops->attach(w->store, &w->loop);
	struct store_link *l = w->third = leaving;
	while (get_text(w, l, 1, NULL) != STORE_NONE)  /* until it is up */
		turn(w);
	ends = 0;
	for (unsigned i = 0; i < 50; i++) {
		struct store_item item = item_of(i, SLICE("x"), in_an_hour(), NULL, 0, SLICE(""));
		w->store->ops->put(l, &item, leave, NULL);
	}
	w->store->ops->flush(l);
	while (leaving)
		turn(w);
	assert_true(put(w, 100, "go on"));
	assert_int_equal(ends, 1);
}

static void tells_how_much_there_is(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 20; i++) {
		char text[16];
		snprintf(text, sizeof text, "entry %u", i);
		assert_true(put(w, i, text));
	}
	while (w->store->ops->state(w->store).entries != 20) {
		turn(w);
		assert_true(w->store->ops->state(w->store).up);
	}
	assert_true(w->store->ops->state(w->store).bytes > 20);
}

static void refuses_words_without_end(void **state)
{
	struct world *w = *state;
	static uint64_t terms[255];
	struct store_word many[STORE_WORDS_MAX + 1];
	struct words words;

	for (size_t i = 0; i < 255; i++)
		terms[i] = i;
	for (size_t i = 0; i < STORE_WORDS_MAX + 1; i++)
		many[i] = (struct store_word){ terms, 255, 4 };
	words_from(&words, 0);
	static const size_t counts[] = { 0, 2, STORE_WORDS_MAX, STORE_WORDS_MAX + 1 };
	for (unsigned i = 0; i < 4; i++) {
		struct store_item item = item_of(i, SLICE("x"), in_an_hour(), &words, 0, SLICE("q"));
		struct got got;
		item.words = many;
		item.n_words = counts[i];
		assert_true(put_item(w, w->link, &item));
		struct store_query q = { .words = many, .n_words = counts[i], .most = 1000 };
		key_of(q.scope, 1000000);
		assert_int_equal(get_by(w, w->link, &got, i, &q), STORE_FOUND);
		assert_int_equal(got.g.n_proposals, 0);
		got_fini(&got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		CASE(puts_and_gets),
		CASE(keeps_any_bytes_of_any_size),
		CASE(shows_a_put_to_all_at_once),
		CASE(forgets_what_has_expired),
		CASE(drops),
		CASE(follows_an_entry_to_other_words),
		CASE(keeps_scopes_apart),
		CASE(finds_key_and_proposals_at_once),
		CASE(misses_nothing_a_scan_would_find),
		CASE(walks_and_purges),
		CASE(takes_any_cursor),
		CASE(gives_up_some_of_many),
		CASE(detaches_in_the_middle),
		CASE(detaches_inside_a_callback),
		CASE(tells_how_much_there_is),
		CASE(refuses_words_without_end),
	};
	char dir[64];

	signal(SIGPIPE, SIG_IGN);
	int failures = cmocka_run_group_tests_name("embedded", tests, NULL, NULL);
	on_redis = true;
	dir_make(dir);
	server_start(&server, dir);
	failures += cmocka_run_group_tests_name("redis", tests, NULL, NULL);
	server_stop(&server);
	dir_remove(dir);
	return failures;
}
