/* uses: cache/store_embedded.c cache/embedded_pending.c cache/embedded_tables.c cache/embedded_file.c cache/embedded_check.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -llmdb -lxxhash -lpthread */
#include "tests/unit/store_world.h"
#include "cache/embedded_writer.c"

#include <fcntl.h>
#include <sys/resource.h>

static char why[256];

static struct store *open_in(struct world *w, uint64_t bytes)
{
	why[0] = 0;
	return store_embedded_open(w->dir, bytes, why, sizeof why);
}

static void begin(struct world *w, uint64_t bytes)
{
	struct store *store = open_in(w, bytes);

	if (!store)
		fail_msg("%s", why);
	world_begin(w, store);
}

static size_t count_of(struct world *w, MDB_dbi table)
{
	struct embedded *s = (struct embedded *)w->store;
	MDB_stat st;
	MDB_txn *txn;

	assert_int_equal(mdb_txn_begin(s->t.env, NULL, MDB_RDONLY, &txn), 0);
	assert_int_equal(mdb_stat(txn, table, &st), 0);
	mdb_txn_abort(txn);
	return st.ms_entries;
}

/* Every posting, every place in an order belongs to a doc, every doc to an entry, and the other way round. */
static void expect_consistent(struct world *w, size_t terms_each)
{
	struct embedded *s = (struct embedded *)w->store;
	size_t n = count_of(w, s->t.entries);

	assert_int_equal(count_of(w, s->t.docs), n);
	assert_int_equal(count_of(w, s->t.order), n);
	assert_int_equal(count_of(w, s->t.expiry), n);
	assert_int_equal(count_of(w, s->t.terms), n * terms_each);
	struct store_state state = w->store->ops->state(w->store);
	assert_int_equal(state.entries, n);
	assert_true((state.bytes == 0) == (n == 0));
}

static char *file_in(struct world *w, const char *name)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	return path;
}

static void survives_a_restart(void **state)
{
	struct world *w = *state;
	struct words words;

	words_from(&words, 10);
	begin(w, 16 << 20);
	assert_true(put(w, 1, "one"));
	struct store_item item = item_of(2, SLICE("two"), in_an_hour(), &words, 0, SLICE("q"));
	w->store->ops->put(w->link, &item, NULL, NULL);        /* not waited for: close commits what is pending */
	world_end(w);
	begin(w, 16 << 20);
	assert_int_equal(w->store->ops->state(w->store).entries, 2);
	assert_int_equal(get_text(w, w->link, 1, "one"), STORE_FOUND);
	assert_int_equal(get_text(w, w->link, 2, "two"), STORE_FOUND);
	assert_true(finds(w, w->link, &words, 0, 2));
	world_end(w);
}

static void belongs_to_one_process(void **state)
{
	struct world *w = *state;
	struct world second = { 0 };

	begin(w, 16 << 20);
	strcpy(second.dir, w->dir);
	assert_null(open_in(&second, 16 << 20));
	assert_non_null(strstr(why, "in use by another process"));
	assert_non_null(strstr(why, w->dir));
	world_end(w);
	begin(w, 16 << 20);
	world_end(w);
}

static void says_why_it_cannot_open(void **state)
{
	struct world *w = *state, x = { 0 };
	FILE *f = fopen(file_in(w, "file"), "w");

	fclose(f);
	strcat(strcpy(x.dir, w->dir), "/file/sub");
	assert_null(open_in(&x, 16 << 20));
	assert_non_null(strstr(why, "cannot be made"));
	strcat(strcpy(x.dir, w->dir), "/a/b/c");
	begin(&x, 16 << 20);
	assert_true(put(&x, 1, "x"));
	world_end(&x);
}

static void fill_and_close(struct world *w, unsigned n)
{
	begin(w, 16 << 20);
	for (unsigned i = 0; i < n; i++) {
		struct store_item item = item_of(i, SLICE("some entry, not a long one"), in_an_hour(), NULL, 0, SLICE(""));
		w->store->ops->put(w->link, &item, NULL, NULL);
	}
	world_end(w);
}

static void starts_anew_from_a_file_cut_short(void **state)
{
	struct world *w = *state;

	for (off_t cut = 0; cut < 300000; cut += cut < 9000 ? 700 : 40000) {
		fill_and_close(w, 5000);
		assert_int_equal(truncate(file_in(w, "data.mdb"), cut), 0);
		begin(w, 16 << 20);
		assert_int_equal(w->store->ops->state(w->store).entries, 0);
		assert_int_equal(access(file_in(w, "data.mdb.bad"), F_OK), cut ? 0 : -1);
		assert_true(put(w, 1, "one"));
		assert_int_equal(get_text(w, w->link, 1, "one"), STORE_FOUND);
		world_end(w);
		unlink(file_in(w, "data.mdb"));
		unlink(file_in(w, "data.mdb.bad"));
	}
}

static void starts_anew_from_what_is_no_store(void **state)
{
	struct world *w = *state;

	for (int kind = 0; kind < 3; kind++) {
		unlink(file_in(w, "data.mdb"));
		unlink(file_in(w, "data.mdb.bad"));
		if (kind == 2)
			fill_and_close(w, 10);
		int fd = open(file_in(w, "data.mdb"), O_RDWR | O_CREAT, 0600);
		for (int i = 0; i < 100 && kind < 2; i++)
			assert_int_equal(write(fd, kind ? "garbage!" : "\0\0\0\0\0\0\0\0", 8), 8);
		if (kind == 2) {                       /* LMDB's, of a version to come */
			assert_int_equal(pwrite(fd, "\2", 1, 20), 1);
			assert_int_equal(pwrite(fd, "\2", 1, 4096 + 20), 1);
		}
		close(fd);
		begin(w, 16 << 20);
		assert_int_equal(access(file_in(w, "data.mdb.bad"), F_OK), 0);
		assert_true(put(w, 1, "one"));
		world_end(w);
	}
}

static void starts_anew_from_tables_of_another_version(void **state)
{
	struct world *w = *state;

	begin(w, 16 << 20);
	assert_true(put(w, 1, "one"));
	((struct embedded *)w->store)->t.now.version = 77;
	assert_true(put(w, 2, "two"));
	world_end(w);
	begin(w, 16 << 20);
	assert_int_equal(get_text(w, w->link, 1, NULL), STORE_NONE);
	assert_int_equal(access(file_in(w, "data.mdb.bad"), F_OK), 0);
	world_end(w);
}

static void takes_a_smaller_limit(void **state)
{
	struct world *w = *state;
	static char kilobyte[1024];
	struct stat st;

	begin(w, 64 << 20);
	for (unsigned i = 0; i < 20000; i++) {
		struct store_item item = item_of(i, slice_of(kilobyte, sizeof kilobyte), in_an_hour(), NULL, 0, SLICE(""));
		w->store->ops->put(w->link, &item, NULL, NULL);
	}
	world_end(w);
	begin(w, 4 << 20);
	assert_int_equal(w->store->ops->state(w->store).entries, 0);
	assert_true(put(w, 1, "one"));
	assert_int_equal(stat(file_in(w, "data.mdb"), &st), 0);
	assert_true(st.st_size <= (4 << 20) + (4 << 20) / 8);
	assert_int_equal(access(file_in(w, "data.mdb.bad"), F_OK), -1);
	world_end(w);
	begin(w, 32 << 20);
	assert_int_equal(get_text(w, w->link, 1, "one"), STORE_FOUND);
	world_end(w);
}

static void leaves_no_postings_behind(void **state)
{
	struct world *w = *state;
	struct words words;

	begin(w, 16 << 20);
	for (unsigned i = 0; i < 200; i++) {
		words_from(&words, i);
		struct store_item item = item_of(i, SLICE("x"), i % 2 ? in_an_hour() : wall_now() - 1, &words, 0, SLICE("q"));
		assert_true(put_item(w, w->link, &item));
	}
	for (unsigned i = 0; i < 50; i++) {            /* the same key with other words */
		words_from(&words, 1000 + i);
		struct store_item item = item_of(i, SLICE("y"), in_an_hour(), &words, 1, SLICE("q"));
		assert_true(put_item(w, w->link, &item));
	}
	expect_consistent(w, 6);
	for (unsigned i = 0; i < 20; i++)
		drop(w, i);
	expect_consistent(w, 6);
	static struct walked walk;
	walk_all(w, &walk, 0, NULL, true);
	world_end(w);                                  /* stops the writer, whose turn it is to remove what has expired */
	begin(w, 16 << 20);
	struct embedded *s = (struct embedded *)w->store;
	assert_true(count_of(w, s->t.entries) <= 75);
	expect_consistent(w, 6);
	world_end(w);
}

static bool none(struct store_walk *walk, const struct store_row *row)
{
	(void)walk, (void)row;
	return false;
}

static void counted(void *waiting, bool ok)
{
	assert_true(ok);
	--*(int *)waiting;
}

/* Many times the limit goes through; the file stays within it, the newest and the used stay in it. */
static void stays_within_its_limit(void **state)
{
	struct world *w = *state;
	enum { BYTES = 4 << 20, TIMES = 8 };
	static char text[64 << 10];
	struct words words;
	struct stat st;
	unsigned n = 0;
	static struct walked walk;
	int waiting = 0;

	begin(w, BYTES);
	for (uint64_t sum = 0; sum < (uint64_t)TIMES * BYTES; n++) {
		size_t len = n % 97 == 0 ? sizeof text : n % 7 == 0 ? 5000 : 100 + n * 37 % 1900;
		words_from(&words, n % 5000);
		struct store_item item = item_of(n, slice_of(text, len), in_an_hour(), &words, n % 3, SLICE("a question"));
		w->store->ops->put(w->link, &item, counted, &waiting);
		waiting++;
		while (waiting > 100)
			turn(w);
		sum += len;
		if (n % 200 == 0)                      /* in use all the time: it must not go */
			assert_int_equal(get_text(w, w->link, 0, NULL), STORE_FOUND);
		if (n % 200 == 0)
			walk_all(w, &walk, 1, none, true);     /* a walk takes in the notes of use first */
	}
	while (waiting)
		turn(w);
	assert_int_equal(get_text(w, w->link, n - 1, NULL), STORE_FOUND);
	assert_int_equal(get_text(w, w->link, 1, NULL), STORE_NONE);
	assert_int_equal(stat(file_in(w, "data.mdb"), &st), 0);
	assert_true(st.st_size <= BYTES + BYTES / 16);
	assert_int_equal(atomic_load(&w->errors), 0);
	expect_consistent(w, 6);
	uint64_t entries = w->store->ops->state(w->store).entries;
	assert_true(entries > n / TIMES / 3 && entries < n / TIMES * 2);
	world_end(w);
}

/* The disk is full (a limit on the size of files stands in for it): puts fail, gets go on, and it recovers. */
static void lives_with_a_full_disk(void **state)
{
	struct world *w = *state;
	static char big[100 << 10];
	struct rlimit before, small;
	int refused = 0;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	begin(w, 64 << 20);
	assert_true(put(w, 1, "one"));
	small = before;
	small.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &small);
	for (unsigned i = 2; i < 40; i++) {
		struct store_item item = item_of(i, slice_of(big, sizeof big), in_an_hour(), NULL, 0, SLICE(""));
		bool ok = put_item(w, w->link, &item);
		assert_int_equal(get_text(w, w->link, i, NULL), ok ? STORE_FOUND : STORE_NONE);
		refused += !ok;
	}
	setrlimit(RLIMIT_FSIZE, &before);
	assert_true(refused > 0);
	assert_int_equal(atomic_load(&w->errors) > 0, 1);
	assert_true(put(w, 1000, "again"));
	assert_true(w->store->ops->state(w->store).up);
	assert_int_equal(get_text(w, w->link, 1000, "again"), STORE_FOUND);
	expect_consistent(w, 0);
	world_end(w);
}

/* A writer is killed at some moment of its work, again and again; what is there afterwards is whole. */
static void survives_being_killed(void **state)
{
	struct world *w = *state;
	size_t most = 0;

	for (int round = 0; round < 6; round++) {
		int gate[2];
		assert_int_equal(pipe(gate), 0);
		pid_t pid = fork();
		if (pid == 0) {
			begin(w, 8 << 20);
			for (unsigned i = 0; ; i++) {
				struct buf b;
				struct words words;
				char text[3000];
				memset(text, (int)i, sizeof text);
				buf_init(&b, LIMIT);
				struct entry_meta m = { .created_ms = 1, .expires_ms = in_an_hour(), .model = SLICE("m") };
				if (entry_pack(&b, &m, slice_of(text, i * 61 % sizeof text)))
					_exit(1);
				words_from(&words, i % 1000);
				struct store_item item = item_of(i % 4000, buf_slice(&b), in_an_hour(), &words, 0, SLICE("q"));
				put_item(w, w->link, &item);
				buf_fini(&b);
				if (write(gate[1], "x", 1) != 1)
					_exit(1);
			}
		}
		close(gate[1]);
		char got[64];
		ssize_t n = 0;
		for (ssize_t sum = 0; sum < 50 + 120 * round; sum += n)
			assert_true((n = read(gate[0], got, sizeof got)) > 0);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		ssize_t acknowledged = 50 + 120 * round;
		close(gate[0]);
		begin(w, 8 << 20);
		size_t found = 0;
		for (unsigned i = 0; i < 4000; i++) {
			struct got g;
			struct entry_meta m;
			struct slice pieces;
			if (get_by(w, w->link, &g, i, NULL) == STORE_FOUND) {
				assert_int_equal(entry_unpack(buf_slice(&g.g.entry), &m, &pieces), ERR_OK);
				found++;
			}
			got_fini(&g);
		}
		assert_true(found >= (size_t)(acknowledged < 1000 ? acknowledged : 1000));
		assert_false(access(file_in(w, "data.mdb.bad"), F_OK) == 0);
		expect_consistent(w, 6);
		if (found > most)
			most = found;
		world_end(w);
	}
	assert_true(most > 500);
}

static void counts_hits_for_listing(void **state)
{
	struct world *w = *state;
	static struct walked walk;

	begin(w, 16 << 20);
	assert_true(put(w, 1, "one"));
	assert_true(put(w, 2, "two"));
	for (int i = 0; i < 5; i++)
		assert_int_equal(get_text(w, i % 2 ? w->link : w->other, 1, "one"), STORE_FOUND);
	walk_all(w, &walk, 100, NULL, false);
	assert_int_equal(walk.rows, 2);
	assert_int_equal(walk.hits, 5);
	world_end(w);
}

static void refuses_what_does_not_fit(void **state)
{
	struct world *w = *state;
	static char big[3 << 20];

	begin(w, 16 << 20);
	struct store_item item = item_of(1, slice_of(big, sizeof big), in_an_hour(), NULL, 0, SLICE(""));
	assert_false(put_item(w, w->link, &item));
	assert_int_equal(get_text(w, w->link, 1, NULL), STORE_NONE);
	assert_int_equal(atomic_load(&w->errors), 1);
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, dir_world_setup, dir_world_teardown)
		CASE(survives_a_restart),
		CASE(belongs_to_one_process),
		CASE(says_why_it_cannot_open),
		CASE(starts_anew_from_a_file_cut_short),
		CASE(starts_anew_from_what_is_no_store),
		CASE(starts_anew_from_tables_of_another_version),
		CASE(takes_a_smaller_limit),
		CASE(leaves_no_postings_behind),
		CASE(stays_within_its_limit),
		CASE(lives_with_a_full_disk),
		CASE(survives_being_killed),
		CASE(counts_hits_for_listing),
		CASE(refuses_what_does_not_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
