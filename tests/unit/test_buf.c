/* uses: proxy/base/err.c */
/* test_buf.c - slices, growing buffers and arenas: what they keep, where they stop, what a failed allocation leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/base/buf.c"
#include "proxy/base/arena.c"
#include "tests/unit/torture.h"

#define assert_slice(s, text) (assert_int_equal((s).len, strlen(text)), assert_memory_equal((s).at, text, (s).len))

/* ---- slices ---- */

static void slices_compare_by_their_bytes(void **state)
{
	(void)state;
	assert_true(slice_is(SLICE("a\0b"), slice_of("a\0b", 3)));
	assert_false(slice_is(SLICE("a\0b"), slice_of("a\0c", 3)));
	assert_false(slice_is(SLICE("ab"), SLICE("a")));
	assert_true(slice_is(slice_text(NULL), SLICE("")));
	assert_true(slice_is_nocase(SLICE("Content-TYPE"), SLICE("content-type")));
	assert_false(slice_is_nocase(SLICE("content-type"), SLICE("content-typ")));
	assert_false(slice_is_nocase(SLICE("[@"), SLICE("{`")));       /* 32 apart as well, but no letters */
}

static void slices_are_trimmed_of_blanks_alone(void **state)
{
	(void)state;
	assert_slice(slice_trim(SLICE(" \t a b\t ")), "a b");
	assert_slice(slice_trim(SLICE("\na\n")), "\na\n");
	assert_int_equal(slice_trim(SLICE(" \t ")).len, 0);
	assert_int_equal(slice_trim(SLICE("")).len, 0);
}

static void a_list_has_its_empty_parts_too(void **state)
{
	struct slice rest = SLICE("a, b ,,c,"), part;
	const char *const expected[] = { "a", "b", "", "c", "" };
	size_t n = 0;

	(void)state;
	for (; slice_next(&rest, ',', &part); n++) {
		assert_in_range(n, 0, 4);
		assert_slice(part, expected[n]);
	}
	assert_int_equal(n, 5);
	assert_false(slice_next(&rest, ',', &part));
	rest = SLICE("");
	assert_true(slice_next(&rest, ',', &part));                    /* one part, empty */
	assert_int_equal(part.len, 0);
	assert_false(slice_next(&rest, ',', &part));
	rest = (struct slice){ 0 };
	assert_false(slice_next(&rest, ',', &part));
}

static void numbers_are_digits_and_bounded(void **state)
{
	uint64_t n = 77;

	(void)state;
	assert_true(slice_number(SLICE("0"), 0, &n));
	assert_int_equal(n, 0);
	assert_true(slice_number(SLICE("0042"), 42, &n));
	assert_int_equal(n, 42);
	assert_false(slice_number(SLICE("43"), 42, &n));
	assert_true(slice_number(SLICE("9999999999999999999"), UINT64_MAX, &n));
	assert_true(n == 9999999999999999999u);
	assert_false(slice_number(SLICE("10000000000000000000"), UINT64_MAX, &n));
	assert_false(slice_number(SLICE(""), 9, &n));
	assert_false(slice_number(SLICE("-1"), 9, &n));
	assert_false(slice_number(SLICE("+1"), 9, &n));
	assert_false(slice_number(SLICE("1 "), 9, &n));
	assert_false(slice_number(SLICE("1a"), 99, &n));
	assert_false(slice_number(SLICE("0x1"), 99, &n));
}

/* ---- buffers ---- */

static void a_buf_grows_to_its_limit_and_not_past_it(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	for (int i = 0; i < 100; i++)
		assert_int_equal(buf_add(&b, "0123456789", 10), ERR_OK);
	assert_int_equal(b.len, 1000);
	assert_int_equal(buf_add(&b, "x", 1), ERR_TOO_LARGE);
	assert_int_equal(b.len, 1000);                                  /* as it was */
	assert_memory_equal(b.at + 990, "0123456789", 10);
	assert_int_equal(buf_add(&b, NULL, 0), ERR_OK);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), ERR_TOO_LARGE);     /* no overflow in the sum */
	assert_true(b.room <= 1000);
	buf_fini(&b);
	assert_null(b.at);
	assert_int_equal(b.limit, 1000);                                /* may be used again */
	assert_int_equal(buf_put(&b, SLICE("again")), ERR_OK);
	assert_slice(buf_slice(&b), "again");
	buf_fini(&b);
}

static void a_buf_is_printed_into(void **state)
{
	struct buf b;
	char large[600];

	(void)state;
	buf_init(&b, 4096);
	assert_int_equal(buf_addf(&b, "%d-%s|", 42, "x"), ERR_OK);
	assert_slice(buf_slice(&b), "42-x|");
	memset(large, 'y', sizeof large - 1);
	large[sizeof large - 1] = 0;
	assert_int_equal(buf_addf(&b, "%s", large), ERR_OK);            /* longer than what fits on the stack */
	assert_int_equal(b.len, 5 + sizeof large - 1);
	assert_memory_equal(b.at + 5, large, sizeof large - 1);
	buf_fini(&b);
	buf_init(&b, 8);
	assert_int_equal(buf_addf(&b, "%s", large), ERR_TOO_LARGE);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_addf(&b, "%s", "12345678"), ERR_OK);
	assert_int_equal(buf_addf(&b, "%s", "9"), ERR_TOO_LARGE);
	assert_slice(buf_slice(&b), "12345678");
	buf_fini(&b);
}

static void a_buf_is_cut_from_the_front(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(buf_put(&b, SLICE("abcdef")), ERR_OK);
	buf_cut(&b, 0);
	assert_slice(buf_slice(&b), "abcdef");
	buf_cut(&b, 2);
	assert_slice(buf_slice(&b), "cdef");
	buf_cut(&b, 4);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_put(&b, SLICE("xy")), ERR_OK);
	buf_cut(&b, 99);
	assert_int_equal(b.len, 0);
	buf_fini(&b);
}

static void a_buf_gives_its_bytes_away(void **state)
{
	struct buf b;
	size_t len;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(buf_put(&b, SLICE("mine")), ERR_OK);
	char *bytes = buf_take(&b, &len);
	assert_int_equal(len, 4);
	assert_memory_equal(bytes, "mine", 4);
	assert_null(b.at);
	assert_int_equal(b.len + b.room, 0);
	free(bytes);
	buf_fini(&b);
}

static void json_text_is_escaped(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(buf_put_json(&b, SLICE("a\"b\\c\nd\te\x01" "f\0gї/")), ERR_OK);
	assert_slice(buf_slice(&b), "a\\\"b\\\\c\\nd\\u0009e\\u0001f\\u0000gї/");
	b.len = 0;
	assert_int_equal(buf_put_json(&b, SLICE("")), ERR_OK);
	assert_int_equal(b.len, 0);
	buf_fini(&b);
	buf_init(&b, 5);
	assert_int_equal(buf_put_json(&b, SLICE("abc\n\n")), ERR_TOO_LARGE);
	buf_fini(&b);
}

/* Whether a step went well; if not, it says so cleanly and the buf is as it was. */
static bool went(enum err e, const struct buf *b, size_t before, bool *failed)
{
	if (!e)
		return true;
	assert_int_equal(e, ERR_NO_MEMORY);
	assert_int_equal(b->len, before);
	assert_false(*failed);                                          /* one allocation fails, so one step does */
	*failed = true;
	return false;
}

/* All that is done with bufs, every allocation failing once; a step that failed is taken again. */
static void a_buf_survives_every_failed_allocation(void **state)
{
	static const char long_text[70000] = { 'z' };
	bool failed = true;
	int n;

	(void)state;
	for (n = 1; failed; n++) {
		struct buf b;
		size_t before, len;
		buf_init(&b, 1 << 20);
		torture_begin(n);
		failed = false;
		while (!went(buf_put(&b, SLICE("first")), &b, 0, &failed))
			;
		for (int i = 0; i < 100; i++) {
			before = b.len;
			while (!went(buf_addf(&b, "%0300d", i), &b, before, &failed))
				;
			assert_int_equal(b.len, before + 300);
		}
		before = b.len;
		while (!went(buf_add(&b, long_text, sizeof long_text), &b, before, &failed))
			;
		while (!went(buf_reserve(&b, 300000), &b, before + sizeof long_text, &failed))
			;
		assert_memory_equal(b.at, "first", 5);
		assert_memory_equal(b.at + before - 2, "99z", 3);
		buf_cut(&b, b.len - 3);
		size_t room = b.room;
		buf_shrink(&b);                                         /* if it cannot, it is as large as before */
		assert_true(b.room < room || (b.room == room && !failed));
		assert_int_equal(b.len, 3);
		char *taken = buf_take(&b, &len);
		while (!went(buf_put(&b, SLICE("anew")), &b, 0, &failed))
			;
		assert_int_equal(len, 3);
		free(taken);
		buf_fini(&b);
		failed = torture_end();
	}
	assert_in_range(n, 10, 30);                                     /* doubling: a handful, not a hundred */
}

static void json_text_survives_every_failed_allocation(void **state)
{
	bool failed = true;
	int n;

	(void)state;
	for (n = 1; failed; n++) {
		struct buf b;
		buf_init(&b, 1 << 20);
		torture_begin(n);
		enum err e = ERR_OK;
		for (int i = 0; i < 30 && !e; i++)
			e = buf_put_json(&b, SLICE("one\n\"two\"\x01 and what comes after it\t"));
		failed = torture_end();
		assert_int_equal(e, failed ? ERR_NO_MEMORY : ERR_OK);
		b.len = 0;
		assert_int_equal(buf_put_json(&b, SLICE("\"")), ERR_OK);
		assert_slice(b, "\\\"");
		buf_fini(&b);
	}
	assert_in_range(n, 4, 20);
}

/* ---- arenas ---- */

static void an_arena_gives_zeroed_aligned_memory(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	for (size_t n = 1; n < 3000; n += 7) {
		unsigned char *p = arena_alloc(&a, n);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % alignof(max_align_t), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, n);                                     /* the next must come out zeroed all the same */
	}
	assert_false(a.full);
	arena_fini(&a);
	assert_int_equal(a.limit, 1 << 20);
	assert_non_null(arena_alloc(&a, 10));
	arena_fini(&a);
}

static void an_arena_stops_at_its_limit_and_remembers(void **state)
{
	volatile size_t huge = SIZE_MAX - 8;         /* the compiler is not to know it */
	struct arena a;

	(void)state;
	arena_init(&a, 4096);
	assert_null(arena_alloc(&a, 4097));
	assert_true(a.full);
	assert_non_null(arena_alloc(&a, 1000));                         /* smaller ones still fit */
	assert_true(a.full);                                            /* but the chain has failed */
	assert_null(arena_alloc(&a, huge));                     /* no overflow when rounded up */
	size_t fits = 0;
	while (arena_alloc(&a, 100))
		fits++;
	assert_in_range(fits, 20, 31);
	assert_true(a.used <= 4096);
	arena_fini(&a);
	assert_false(a.full);
}

static void an_arena_copies_text(void **state)
{
	struct arena a;
	char text[] = "hello";

	(void)state;
	arena_init(&a, 4096);
	char *copy = arena_text(&a, slice_text(text));
	struct slice slice = arena_slice(&a, slice_text(text));
	text[0] = 'j';
	assert_string_equal(copy, "hello");
	assert_slice(slice, "hello");
	assert_string_equal(arena_text(&a, SLICE("")), "");
	assert_null(arena_slice(&a, SLICE("")).at);
	assert_false(a.full);
	arena_fini(&a);
	arena_init(&a, 4);
	assert_null(arena_text(&a, SLICE("too long for it")));
	assert_int_equal(arena_slice(&a, SLICE("too long for it")).len, 0);
	arena_fini(&a);
}

static void an_arena_survives_every_failed_allocation(void **state)
{
	enum { N = 60 };
	bool failed = true;
	int n;

	(void)state;
	for (n = 1; failed; n++) {
		struct arena a;
		char *given[N];
		int missing = 0;
		arena_init(&a, 1 << 20);
		torture_begin(n);
		for (int i = 0; i < N; i++) {
			size_t len = i % 5 == 4 ? 5000 : 100;
			bool full = a.full;
			given[i] = i % 5 == 3 ? arena_text(&a, SLICE("text")) : arena_alloc(&a, len);
			missing += !given[i];
			assert_int_equal(a.full, full || !given[i]);    /* it is remembered */
			if (given[i])
				memset(given[i], 'a' + i % 26, i % 5 == 3 ? 5 : len);
		}
		failed = torture_end();
		assert_int_equal(missing, failed);
		assert_int_equal(a.full, failed);
		for (int i = 0; i < N; i++)
			for (size_t k = 0; given[i] && k < 5; k++)
				assert_int_equal(given[i][k], 'a' + i % 26);
		arena_fini(&a);
		assert_false(a.full);
		assert_non_null(arena_alloc(&a, 100));
		arena_fini(&a);
	}
	assert_in_range(n, 10, N);
}

int main(void)
{
	torture_of((const char *[]){ NULL });
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slices_compare_by_their_bytes),
		cmocka_unit_test(slices_are_trimmed_of_blanks_alone),
		cmocka_unit_test(a_list_has_its_empty_parts_too),
		cmocka_unit_test(numbers_are_digits_and_bounded),
		cmocka_unit_test(a_buf_grows_to_its_limit_and_not_past_it),
		cmocka_unit_test(a_buf_is_printed_into),
		cmocka_unit_test(a_buf_is_cut_from_the_front),
		cmocka_unit_test(a_buf_gives_its_bytes_away),
		cmocka_unit_test(json_text_is_escaped),
		cmocka_unit_test(a_buf_survives_every_failed_allocation),
		cmocka_unit_test(json_text_survives_every_failed_allocation),
		cmocka_unit_test(an_arena_gives_zeroed_aligned_memory),
		cmocka_unit_test(an_arena_stops_at_its_limit_and_remembers),
		cmocka_unit_test(an_arena_copies_text),
		cmocka_unit_test(an_arena_survives_every_failed_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
