/* store_world.h - what the tests of stores stand on: a loop, a store and two links, and calls that wait.
 *
 * Waiting is running the loop until the callback came; a callback that never comes ends the test by alarm(). */
#ifndef TESTS_STORE_WORLD_H
#define TESTS_STORE_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/near.h"
#include "cache/store.h"

enum { LIMIT = 8 << 20, PATIENCE = 180 };

struct world {
	struct loop loop;
	struct store *store;
	struct store_link *link, *other, *third;      /* third: a test's own, flushed with the others */
	_Atomic uint64_t errors;
	char dir[64];
};

static inline void turn(struct world *w)
{
	w->store->ops->flush(w->link);
	w->store->ops->flush(w->other);
	if (w->third)
		w->store->ops->flush(w->third);
	uv_run(&w->loop.uv, UV_RUN_ONCE);
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)st, (void)kind, (void)walk;
	return remove(path);
}

static inline void dir_make(char dir[64])
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, 64, "%.30s/ollacache-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static inline void dir_remove(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* cmocka's: a world with a directory and nothing in it. */
static inline int dir_world_setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	dir_make(w->dir);
	*state = w;
	return 0;
}

static inline int dir_world_teardown(void **state)
{
	struct world *w = *state;

	dir_remove(w->dir);
	free(w);
	return 0;
}

/* The words of a test are numbers; the term of a word is made of it. */
struct words {
	uint64_t term[STORE_WORDS_MAX];
	struct store_word word[STORE_WORDS_MAX];
	size_t n;
};

static inline uint64_t term_of(unsigned number)
{
	uint64_t x = (number + 1) * 0x9e3779b97f4a7c15ull;
	return x ^ x >> 31;
}

static inline void word_add(struct words *w, unsigned number, unsigned weight)
{
	w->term[w->n] = term_of(number);
	w->word[w->n] = (struct store_word){ &w->term[w->n], 1, (uint8_t)weight };
	w->n++;
}

/* Six strong words from first on. */
static inline void words_from(struct words *w, unsigned first)
{
	w->n = 0;
	for (unsigned i = 0; i < 6; i++)
		word_add(w, first + i, 4);
}

static inline void key_of(uint8_t key[KEY_BYTES], unsigned number)
{
	for (int i = 0; i < KEY_BYTES; i += 8) {
		uint64_t x = (number + 1) * 0xbf58476d1ce4e5b9ull + (uint64_t)i * 0x94d049bb133111ebull;
		x ^= x >> 30, x *= 0x9e3779b97f4a7c15ull, x ^= x >> 27;
		memcpy(key + i, &x, 8);
	}
}

struct waited { int times; bool ok; };

static inline void waited_done(void *arg, bool ok)
{
	struct waited *w = arg;
	w->times++;
	w->ok = ok;
}

static inline bool wait_for(struct world *w, const struct waited *done)
{
	while (!done->times)
		turn(w);
	assert_int_equal(done->times, 1);
	return done->ok;
}

static inline struct store_item item_of(unsigned number, struct slice entry, int64_t expires_ms, const struct words *words,
					unsigned scope, struct slice question)
{
	struct store_item item = { .entry = entry, .expires_ms = expires_ms };

	key_of(item.key, number);
	if (words) {
		item.has_question = true;
		key_of(item.scope, 1000000 + scope);
		item.question = question;
		item.words = words->word;
		item.n_words = words->n;
	}
	return item;
}

static inline bool put_item(struct world *w, struct store_link *l, const struct store_item *item)
{
	struct waited done = { 0 };

	w->store->ops->put(l, item, waited_done, &done);
	assert_int_equal(done.times, 0);
	return wait_for(w, &done);
}

/* Where memory may be missing, the news of a put may come before it returns. */
static inline bool put_somehow(struct world *w, const struct store_item *item)
{
	struct waited done = { 0 };

	w->store->ops->put(w->link, item, waited_done, &done);
	return wait_for(w, &done);
}

static inline int64_t in_an_hour(void)
{
	return wall_now() + 3600000;
}

static inline bool put(struct world *w, unsigned number, const char *text)
{
	struct store_item item = item_of(number, slice_text(text), in_an_hour(), NULL, 0, SLICE(""));
	return put_item(w, w->link, &item);
}

static inline bool drop(struct world *w, unsigned number)
{
	struct waited done = { 0 };
	uint8_t key[KEY_BYTES];

	key_of(key, number);
	w->store->ops->drop(w->link, key, waited_done, &done);
	return wait_for(w, &done);
}

struct got { struct store_get g; struct store_proposal proposal[STORE_PROPOSALS]; enum store_news news; int times; };

static inline void got_done(struct store_get *g, enum store_news news)
{
	struct got *got = (struct got *)g;
	got->news = news;
	got->times++;
}

static inline void get_begin(struct world *w, struct store_link *l, struct got *got, unsigned number,
			     const struct store_query *q)
{
	memset(got, 0, sizeof *got);
	key_of(got->g.key, number);
	buf_init(&got->g.entry, LIMIT);
	got->g.query = q;
	got->g.both = true;
	got->g.proposal = got->proposal;
	got->g.done = got_done;
	got->news = w->store->ops->get(l, &got->g);
	if (got->news != STORE_LATER)
		got->times++;
}

static inline enum store_news get_by(struct world *w, struct store_link *l, struct got *got, unsigned number,
				     const struct store_query *q)
{
	get_begin(w, l, got, number, q);
	while (!got->times)
		turn(w);
	assert_int_equal(got->times, 1);
	return got->news;
}

static inline void got_fini(struct got *got)
{
	buf_fini(&got->g.entry);
	buf_fini(&got->g.proposed);
}

static inline enum store_news get_text(struct world *w, struct store_link *l, unsigned number, const char *text)
{
	struct got got;
	enum store_news news = get_by(w, l, &got, number, NULL);

	if (news == STORE_FOUND && text) {
		assert_int_equal(got.g.entry.len, strlen(text));
		assert_memory_equal(got.g.entry.at, text, strlen(text));
	} else if (news != STORE_FOUND) {
		assert_int_equal(got.g.entry.len, 0);
	}
	got_fini(&got);
	return news;
}

/* A query for what is at least t (in hundredths) alike. */
static inline struct store_query query_of(const struct words *words, unsigned scope, unsigned t)
{
	struct store_query q = { .words = words->word, .n_words = words->n };
	unsigned total = 0;

	for (size_t i = 0; i < words->n; i++)
		total += words->word[i].weight;
	key_of(q.scope, 1000000 + scope);
	unsigned least = (total * t + 99) / 100;
	q.unlooked = total - least;
	q.least = least;
	q.most = total * 100 / t;
	return q;
}

static inline bool proposed(const struct got *got, unsigned number)
{
	uint8_t key[KEY_BYTES];

	key_of(key, number);
	for (size_t i = 0; i < got->g.n_proposals; i++)
		if (memcmp(got->g.proposal[i].key, key, KEY_BYTES) == 0)
			return true;
	return false;
}

/* Whether a query by these words proposes the entry. */
static inline bool finds(struct world *w, struct store_link *l, const struct words *words, unsigned scope, unsigned number)
{
	struct store_query q = query_of(words, scope, 70);
	struct got got;

	enum store_news news = get_by(w, l, &got, 999999, &q);
	assert_int_equal(news, STORE_NONE);
	bool found = proposed(&got, number);
	got_fini(&got);
	return found;
}

struct walked { struct store_walk w; size_t rows; uint64_t removed; int times; enum store_news news; uint64_t hits;
		uint8_t keys[2000][KEY_BYTES]; };

static inline void walked_row(struct store_walk *walk, const struct store_row *row)
{
	struct walked *w = (struct walked *)walk;
	assert_true(w->rows < 2000);
	assert_int_equal(w->times, 0);
	assert_true(row->entry_head.len <= row->bytes);
	memcpy(w->keys[w->rows++], row->key, KEY_BYTES);
	w->hits += row->hits;
}

static inline void walked_done(struct store_walk *walk, enum store_news news, uint64_t removed)
{
	struct walked *w = (struct walked *)walk;
	w->times++;
	w->news = news;
	w->removed += removed;
}

/* Goes on walking until the cursor says it is over. */
static inline void walk_all(struct world *w, struct walked *walk, size_t limit,
			    bool (*wants)(struct store_walk *, const struct store_row *), bool remove)
{
	int rounds = 0;

	memset(walk, 0, sizeof *walk);
	do {
		walk->w.limit = limit;
		walk->w.wants = wants;
		walk->w.remove = remove;
		walk->w.row = walked_row;
		walk->w.done = walked_done;
		walk->times = 0;
		w->store->ops->walk(w->link, &walk->w);
		while (!walk->times)
			turn(w);
		assert_int_equal(walk->times, 1);
		assert_int_not_equal(walk->news, STORE_FAILED);
		assert_true(rounds++ < 10000);
	} while (walk->w.after[0]);
}

static inline void world_begin(struct world *w, struct store *store)
{
	alarm(PATIENCE);
	loop_init(&w->loop);
	w->store = store;
	store->errors = &w->errors;
	w->link = store->ops->attach(store, &w->loop);
	w->other = store->ops->attach(store, &w->loop);
	assert_non_null(w->link);
	assert_non_null(w->other);
}

static inline void world_end(struct world *w)
{
	w->store->ops->detach(w->link);
	w->store->ops->detach(w->other);
	uv_run(&w->loop.uv, UV_RUN_NOWAIT);
	w->store->ops->close(w->store);
	loop_fini(&w->loop);
	alarm(0);
}

#endif
