/* uses: proxy/base/err.c */
/* libs: -lxxhash */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

static int fail_at = -1;               /* the nth allocation from now fails; -1: none */
static void *failing_realloc(void *at, size_t bytes)
{
	if (fail_at >= 0 && fail_at-- == 0)
		return NULL;
	return realloc(at, bytes);
}
#define realloc failing_realloc
#include "proxy/base/buf.c"
#undef realloc
#include "cache/entry.c"

enum { LIMIT = 1 << 20 };

static struct entry_meta sample(void)
{
	return (struct entry_meta){
		.created_ms = 1700000000123, .expires_ms = 1700086400123, .family = FAMILY_EMBED,
		.stream = true, .length = false, .has_model = true, .mark = 0xfe01a2b3,
		.eval_count = 42, .eval_ns = UINT64_MAX, .prompt_eval_ns = 1ull << 40,
		.model = SLICE("llama3.2:latest"), .space = SLICE("team-a"),
		.question = SLICE("Які є факультети в ХДУ?"), .content_type = SLICE("application/x-ndjson"),
	};
}

static struct buf packed(const struct entry_meta *m, struct slice pieces)
{
	struct buf b;

	buf_init(&b, LIMIT);
	assert_int_equal(entry_pack(&b, m, pieces), ERR_OK);
	return b;
}

static void same_slice(struct slice a, struct slice b)
{
	assert_int_equal(a.len, b.len);
	assert_true(slice_is(a, b));
}

static void same_meta(const struct entry_meta *a, const struct entry_meta *b)
{
	assert_int_equal(a->created_ms, b->created_ms);
	assert_int_equal(a->expires_ms, b->expires_ms);
	assert_int_equal(a->family, b->family);
	assert_int_equal(a->stream, b->stream);
	assert_int_equal(a->length, b->length);
	assert_int_equal(a->has_model, b->has_model);
	assert_int_equal(a->mark, b->mark);
	assert_true(a->eval_count == b->eval_count && a->eval_ns == b->eval_ns);
	assert_true(a->prompt_eval_ns == b->prompt_eval_ns);
	same_slice(a->model, b->model);
	same_slice(a->space, b->space);
	same_slice(a->question, b->question);
	same_slice(a->content_type, b->content_type);
}

static void comes_back_as_it_was(void **state)
{
	struct slice pieces = SLICE("\2\5\0\0\0Hello\7\3\0\0\0a:1"), got;
	struct entry_meta m = sample(), back;

	(void)state;
	for (int flags = 0; flags < 8; flags++) {
		m.stream = flags & 1, m.length = flags & 2, m.has_model = flags & 4;
		m.family = (enum family)(flags % FAMILY_COUNT);
		struct buf b = packed(&m, pieces);
		assert_int_equal(entry_unpack(buf_slice(&b), &back, &got), ERR_OK);
		same_meta(&back, &m);
		same_slice(got, pieces);
		buf_fini(&b);
	}
	m = (struct entry_meta){ .created_ms = -1, .expires_ms = INT64_MIN };
	struct buf b = packed(&m, slice_of(NULL, 0));
	assert_int_equal(entry_unpack(buf_slice(&b), &back, &got), ERR_OK);
	same_meta(&back, &m);
	assert_int_equal(got.len, 0);
	buf_fini(&b);
}

static void adds_to_what_is_there(void **state)
{
	struct entry_meta m = sample(), back;
	struct slice got;
	struct buf b;

	(void)state;
	buf_init(&b, LIMIT);
	assert_int_equal(buf_add(&b, "before", 6), ERR_OK);
	assert_int_equal(entry_pack(&b, &m, SLICE("x")), ERR_OK);
	assert_memory_equal(b.at, "before", 6);
	assert_int_equal(entry_unpack(slice_of(b.at + 6, b.len - 6), &back, &got), ERR_OK);
	same_slice(got, SLICE("x"));
	buf_fini(&b);
}

static void any_cut_is_corrupt(void **state)
{
	struct entry_meta m = sample(), back;
	struct buf b = packed(&m, SLICE("\2\5\0\0\0Hello"));
	struct slice got;
	size_t peeked = 0;

	(void)state;
	for (size_t len = 0; len < b.len; len++) {
		char *copy = malloc(len + 1);
		memcpy(copy, b.at, len);
		assert_int_equal(entry_unpack(slice_of(copy, len), &back, &got), ERR_CORRUPT);
		if (entry_peek(slice_of(copy, len), &back) == ERR_OK) {
			same_meta(&back, &m);
			peeked++;
		}
		free(copy);
	}
	assert_int_equal(peeked, 10);                  /* wherever nothing but pieces is missing */
	assert_int_equal(buf_add(&b, "x", 1), ERR_OK);
	assert_int_equal(entry_unpack(buf_slice(&b), &back, &got), ERR_CORRUPT);
	buf_fini(&b);
}

static void any_flip_is_corrupt(void **state)
{
	struct entry_meta m = sample(), back;
	struct buf b = packed(&m, SLICE("\2\5\0\0\0Hello"));
	struct slice got;

	(void)state;
	for (size_t i = 0; i < b.len; i++)
		for (int bit = 0; bit < 8; bit++) {
			char *copy = malloc(b.len);
			memcpy(copy, b.at, b.len);
			copy[i] = (char)(copy[i] ^ 1 << bit);
			assert_int_equal(entry_unpack(slice_of(copy, b.len), &back, &got), ERR_CORRUPT);
			(void)!entry_peek(slice_of(copy, b.len), &back);      /* may be fooled, may not read past */
			free(copy);
		}
	buf_fini(&b);
}

static void another_version_is_a_miss(void **state)
{
	struct entry_meta m = sample(), back;
	struct buf b = packed(&m, SLICE("x"));
	struct slice got;

	(void)state;
	b.at[3] = VERSION + 1;
	assert_int_equal(entry_unpack(buf_slice(&b), &back, &got), ERR_CORRUPT);
	assert_int_equal(entry_peek(buf_slice(&b), &back), ERR_CORRUPT);
	b.at[3] = VERSION;
	assert_int_equal(entry_unpack(buf_slice(&b), &back, &got), ERR_OK);
	buf_fini(&b);
}

static void peek_needs_only_the_front(void **state)
{
	static char text[ENTRY_QUESTION_MAX * 4], pieces[100000];
	struct entry_meta m = sample(), back;

	(void)state;
	memset(text, 'q', sizeof text);
	m.model = m.space = m.content_type = slice_of(text, ENTRY_NAME_MAX);
	m.question = slice_of(text, sizeof text);
	struct buf b = packed(&m, slice_of(pieces, sizeof pieces));
	assert_int_equal(entry_peek(slice_of(b.at, ENTRY_PEEK_BYTES), &back), ERR_OK);
	assert_int_equal(back.question.len, ENTRY_QUESTION_MAX);
	m.question.len = ENTRY_QUESTION_MAX;
	same_meta(&back, &m);
	buf_fini(&b);
}

static void cuts_a_question_at_a_character(void **state)
{
	char text[ENTRY_QUESTION_MAX + 8];
	struct entry_meta m = sample(), back;

	(void)state;
	for (int shift = 0; shift < 4; shift++) {
		memset(text, 'a', sizeof text);
		memcpy(text + ENTRY_QUESTION_MAX - shift, "\xf0\x9f\x98\x80", 4);
		m.question = slice_of(text, sizeof text);
		struct buf b = packed(&m, SLICE(""));
		assert_int_equal(entry_peek(buf_slice(&b), &back), ERR_OK);
		assert_int_equal(back.question.len, ENTRY_QUESTION_MAX - shift);
		buf_fini(&b);
	}
}

static void refuses_what_is_too_large(void **state)
{
	static char text[ENTRY_NAME_MAX + 1];
	struct entry_meta m = sample();
	struct buf b;

	(void)state;
	buf_init(&b, LIMIT);
	m.model = slice_of(text, sizeof text);
	assert_int_equal(entry_pack(&b, &m, SLICE("")), ERR_TOO_LARGE);
	m = sample();
	assert_int_equal(entry_pack(&b, &m, slice_of(text, UINT32_MAX)), ERR_TOO_LARGE);
	size_t fits = 0;
	for (size_t limit = 0; limit < 400; limit++) {
		b.limit = limit;
		enum err e = entry_pack(&b, &m, SLICE("pieces"));
		assert_int_equal(e, fits || e == ERR_OK ? ERR_OK : ERR_TOO_LARGE);
		if (e == ERR_OK && !fits)
			fits = b.len;
		if (e)
			assert_int_equal(b.len, 0);
		else
			assert_true(limit >= fits);
		buf_fini(&b);
	}
	assert_true(fits > HEAD);
}

static void lives_through_failing_allocations(void **state)
{
	struct entry_meta m = sample();
	struct buf b;
	int failed = 0;

	(void)state;
	for (int n = 0; ; n++) {
		buf_init(&b, LIMIT);
		fail_at = n;
		enum err e = entry_pack(&b, &m, SLICE("pieces"));
		bool ran_out = fail_at < 0;
		fail_at = -1;
		if (!ran_out) {
			assert_int_equal(e, ERR_OK);
			buf_fini(&b);
			break;
		}
		assert_int_equal(e, ERR_NO_MEMORY);
		assert_int_equal(b.len, 0);
		buf_fini(&b);
		failed++;
	}
	assert_true(failed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back_as_it_was),
		cmocka_unit_test(adds_to_what_is_there),
		cmocka_unit_test(any_cut_is_corrupt),
		cmocka_unit_test(any_flip_is_corrupt),
		cmocka_unit_test(another_version_is_a_miss),
		cmocka_unit_test(peek_needs_only_the_front),
		cmocka_unit_test(cuts_a_question_at_a_character),
		cmocka_unit_test(refuses_what_is_too_large),
		cmocka_unit_test(lives_through_failing_allocations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
