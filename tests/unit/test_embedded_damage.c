/* uses: cache/store_embedded.c cache/embedded_writer.c cache/embedded_pending.c cache/embedded_tables.c cache/embedded_file.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -llmdb -lxxhash -lpthread */
/* The embedded store's file damaged anywhere: what would lead LMDB astray is noticed before LMDB sees it, and a file
 * that is sound is never thrown away. */
#include "tests/unit/store_world.h"
#include "cache/embedded_check.c"
#include "proxy/base/log.h"

#include <fcntl.h>

enum { BYTES = 8 << 20, ITEMS = 900, AIMED = 200, RANDOM = 40 };

static int setup(void **state)
{
	log_setup((enum log_level)-1, false);          /* hundreds of lines that say what is meant to happen */
	return dir_world_setup(state);
}

static char *file_in(struct world *w, const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	return path;
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
	return access(file_in(w, "data.mdb.bad"), F_OK) == 0;
}

static void wait_one(void *waiting, bool ok)
{
	(void)ok;
	--*(int *)waiting;
}

static void put_many(struct world *w, unsigned from, unsigned n)
{
	static char text[20000];
	struct words words;
	int waiting = 0;

	for (unsigned i = from; i < from + n; i++) {
		size_t len = i % 31 == 0 ? sizeof text : i % 7 == 0 ? 5000 : 100 + i * 37 % 1900;
		memset(text, (int)i, sizeof text);
		words_from(&words, i % 5 == 0 ? i : 0);        /* many have the same words: their postings are trees */
		struct store_item item = item_of(i, slice_of(text, len), in_an_hour(), i % 3 ? &words : NULL, i % 2,
						 slice_of(text, i % 50 == 1 ? 9000 : 40));
		w->store->ops->put(w->link, &item, wait_one, &waiting);
		waiting++;
		while (waiting > 100)
			turn(w);
	}
	while (waiting)
		turn(w);
}

static void drop_many(struct world *w, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i += 3)
		drop(w, i);
}

/* Every kind of page there is: branches, long values, postings inside a record and in trees, lists of free pages. */
static void build(struct world *w)
{
	begin(w);
	put_many(w, 0, ITEMS);
	drop_many(w, 0, ITEMS / 2);
	put_many(w, ITEMS, ITEMS / 4);
	world_end(w);
}

struct copy { unsigned char *bytes; size_t len; };

static struct copy file_read(struct world *w)
{
	struct copy c = { malloc(BYTES), 0 };
	FILE *f = fopen(file_in(w, "data.mdb"), "r");

	assert_non_null(f);
	c.len = fread(c.bytes, 1, BYTES, f);
	fclose(f);
	while (c.len > 4096 && c.bytes[c.len - 1] == 0)
		c.len--;
	c.len = (c.len + 4095) / 4096 * 4096;
	return c;
}

static void file_write(struct world *w, const struct copy *c)
{
	unlink(file_in(w, "data.mdb.bad"));
	unlink(file_in(w, "data.mdb"));
	FILE *f = fopen(file_in(w, "data.mdb"), "w");
	assert_int_equal(fwrite(c->bytes, 1, c->len, f), c->len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(truncate(file_in(w, "data.mdb"), BYTES + BYTES / 32), 0);
}

static void a_sound_file_is_kept(void **state)
{
	struct world *w = *state;

	for (unsigned turn_of = 0; turn_of < 12; turn_of++) {
		begin(w);
		put_many(w, turn_of * 400, 900);       /* the limit is passed: old ones go */
		drop_many(w, turn_of * 400, 300 + 100 * turn_of);
		uint64_t entries = w->store->ops->state(w->store).entries;
		assert_true(entries > 100);
		world_end(w);
		unlink(file_in(w, "lock"));            /* as if it had been killed */
		begin(w);
		assert_false(was_moved_aside(w));
		assert_int_equal(w->store->ops->state(w->store).entries, entries);
		world_end(w);
	}
}

static uint16_t number_at(const unsigned char *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

/* One byte of what LMDB steers by: a page's head, where its records begin, a record's head, or a head's record of trees. */
static size_t aim(const struct copy *c, unsigned *seed)
{
	size_t page = (size_t)rand_r(seed) % (c->len / 4096) * 4096;
	unsigned lower = number_at(c->bytes + page + 12), n = lower >= 16 && lower < 4096 ? (lower - 16) / 2 : 0;

	if (page < 8192)
		return page + 10 + (size_t)rand_r(seed) % 142;
	switch (n ? rand_r(seed) % 3 : 0) {
	case 0:
		return page + (size_t)rand_r(seed) % 16;
	case 1:
		return page + 16 + (size_t)rand_r(seed) % (2 * n);
	default:
		return page + number_at(c->bytes + page + 16 + 2 * ((unsigned)rand_r(seed) % n)) % 4088 + (size_t)rand_r(seed) % 8;
	}
}

static bool use_it(struct world *w)
{
	char why[256];
	struct store *store = store_embedded_open(w->dir, BYTES, why, sizeof why);

	if (!store)
		return false;
	world_begin(w, store);
	for (unsigned i = 0; i < ITEMS; i += 9)
		get_text(w, w->link, i, NULL);
	drop_many(w, 400, 30);
	put_many(w, 5000, 20);
	struct words words;
	words_from(&words, 0);
	finds(w, w->link, &words, 0, 1);
	world_end(w);
	return was_moved_aside(w);
}

static void nothing_that_is_wrong_in_it_ends_the_process(void **state)
{
	static const unsigned char values[] = { 0, 1, 2, 0x10, 0x20, 0x7f, 0x80, 0xff };
	struct world *w = *state;
	unsigned seed = 11, aside = 0;

	build(w);
	struct copy good = file_read(w), bad = { malloc(BYTES), good.len };
	for (unsigned i = 0; i < AIMED + RANDOM; i++) {
		memcpy(bad.bytes, good.bytes, good.len);
		for (unsigned n = 0; n < (i < AIMED ? 1 + i % 3 : 40); n++) {
			size_t at = i < AIMED ? aim(&good, &seed) : (size_t)rand_r(&seed) % good.len;
			bad.bytes[at] = rand_r(&seed) % 2 ? (unsigned char)rand_r(&seed) : values[rand_r(&seed) % sizeof values];
		}
		file_write(w, &bad);
		aside += use_it(w);
	}
	assert_in_range(aside, AIMED / 3, AIMED + RANDOM);     /* the rest struck free pages, or what does no harm */
	free(good.bytes);
	free(bad.bytes);
}

/* What we closed ourselves and nobody has touched since is not gone through again. */
static void only_a_file_that_was_touched_is_looked_through(void **state)
{
	enum { ENTRIES_AT = 40 + 48 + 32 };            /* of the tree of tables: LMDB opens such a file */
	struct world *w = *state;
	struct stat st;

	build(w);
	assert_int_equal(stat(file_in(w, "data.mdb"), &st), 0);
	int fd = open(file_in(w, "data.mdb"), O_WRONLY);
	assert_int_equal(pwrite(fd, "\11", 1, ENTRIES_AT), 1);
	assert_int_equal(pwrite(fd, "\11", 1, 4096 + ENTRIES_AT), 1);
	assert_int_equal(futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim }), 0);
	close(fd);
	begin(w);
	assert_false(was_moved_aside(w));
	world_end(w);
	assert_int_equal(utimensat(AT_FDCWD, file_in(w, "data.mdb"), NULL, 0), 0);
	begin(w);
	assert_true(was_moved_aside(w));
	assert_int_equal(w->store->ops->state(w->store).entries, 0);
	world_end(w);
}

static void no_time_is_no_verdict(void **state)
{
	struct world *w = *state;

	build(w);
	struct copy c = file_read(w);
	int fd = open(file_in(w, "data.mdb"), O_RDONLY);
	assert_int_equal(embedded_check(fd, c.len, 4096, 60000), CHECK_SOUND);
	free(c.bytes);
	close(fd);
	struct look l = { .looked = LOOK_AT_CLOCK - 1 };
	assert_true(is_late(&l));                      /* its end was in 1970 */
	assert_true(is_late(&l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, dir_world_teardown)
		CASE(a_sound_file_is_kept),
		CASE(nothing_that_is_wrong_in_it_ends_the_process),
		CASE(only_a_file_that_was_touched_is_looked_through),
		CASE(no_time_is_no_verdict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
