/* uses: proxy/base/err.c proxy/base/scan.c */
/* libs: */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
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
#include "proxy/base/ask.c"

enum { LIMIT = 1 << 20 };

static void expect_piece(const struct answer *a, size_t *at, enum piece_kind kind, const char *text)
{
	enum piece_kind k;
	struct slice s;

	assert_true(pieces_next(buf_slice(&a->pieces), at, &k, &s));
	assert_int_equal(k, kind);
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.at, text, s.len);
}

static void merges_text_only_with_its_own_kind(void **state)
{
	struct answer a;
	size_t at = 0;
	enum piece_kind k;
	struct slice s;

	(void)state;
	answer_init(&a, LIMIT);
	assert_int_equal(answer_add(&a, PIECE_THINKING, SLICE("hm")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_THINKING, SLICE("m.")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("Hel")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("lo")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LOGPROBS, SLICE("{}")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LOGPROBS, SLICE("{}")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("!")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_TOOL_CALLS, SLICE("")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LAST, SLICE("\"done_reason\":\"stop\"")), ERR_OK);
	expect_piece(&a, &at, PIECE_THINKING, "hmm.");
	expect_piece(&a, &at, PIECE_CONTENT, "Hello");
	expect_piece(&a, &at, PIECE_LOGPROBS, "{}");
	expect_piece(&a, &at, PIECE_LOGPROBS, "{}");
	expect_piece(&a, &at, PIECE_CONTENT, "!");
	expect_piece(&a, &at, PIECE_TOOL_CALLS, "");
	expect_piece(&a, &at, PIECE_LAST, "\"done_reason\":\"stop\"");
	assert_false(pieces_next(buf_slice(&a.pieces), &at, &k, &s));
	assert_int_equal(at, a.pieces.len);
	answer_fini(&a);
}

static void grows_past_every_byte_of_its_length(void **state)
{
	static char many[70000];
	struct answer a;
	size_t at = 0;
	enum piece_kind k;
	struct slice s;

	(void)state;
	memset(many, 'x', sizeof many);
	answer_init(&a, LIMIT);
	for (int i = 0; i < 300; i++)
		assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("y")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, slice_of(many, sizeof many)), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("z")), ERR_OK);
	assert_true(pieces_next(buf_slice(&a.pieces), &at, &k, &s));
	assert_int_equal(s.len, 300 + sizeof many + 1);
	assert_int_equal(s.at[299], 'y');
	assert_int_equal(s.at[300], 'x');
	assert_int_equal(s.at[s.len - 1], 'z');
	assert_int_equal(at, a.pieces.len);
	answer_fini(&a);
}

/* Pieces put there whole: the last one is not known, so nothing is merged into it, and nothing breaks. */
static void does_not_grow_what_it_did_not_write(void **state)
{
	struct answer a, b;
	size_t at = 0;

	(void)state;
	answer_init(&a, LIMIT);
	answer_init(&b, LIMIT);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("one")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LAST, SLICE("1")), ERR_OK);
	assert_int_equal(buf_put(&b.pieces, buf_slice(&a.pieces)), ERR_OK);
	assert_int_equal(answer_add(&b, PIECE_CONTENT, SLICE("two")), ERR_OK);
	expect_piece(&b, &at, PIECE_CONTENT, "one");
	expect_piece(&b, &at, PIECE_LAST, "1");
	expect_piece(&b, &at, PIECE_CONTENT, "two");
	answer_fini(&a);
	answer_fini(&b);
}

static void stays_whole_when_it_cannot_grow(void **state)
{
	char want[] = "0123456789";
	struct answer a;

	(void)state;
	for (size_t limit = 0; limit < 40; limit++) {
		answer_init(&a, limit);
		size_t kept = 0;
		while (answer_add(&a, PIECE_CONTENT, slice_of(want + kept % 10, 1)) == ERR_OK)
			kept++;
		assert_int_equal(kept, limit > 5 ? limit - 5 : 0);
		assert_int_equal(answer_add(&a, PIECE_LAST, SLICE("")), limit == 5 ? ERR_OK : ERR_TOO_LARGE);
		size_t at = 0;
		enum piece_kind k;
		struct slice s;
		if (kept || limit == 5) {
			assert_true(pieces_next(buf_slice(&a.pieces), &at, &k, &s));
			assert_int_equal(k, kept ? PIECE_CONTENT : PIECE_LAST);
			assert_int_equal(s.len, kept);
		}
		assert_int_equal(at, a.pieces.len);
		answer_fini(&a);
	}
	answer_init(&a, LIMIT);
	fail_at = 0;
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("x")), ERR_NO_MEMORY);
	assert_int_equal(a.pieces.len, 0);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("ab")), ERR_OK);
	char big[1000];
	memset(big, 'b', sizeof big);
	fail_at = 0;
	assert_int_equal(answer_add(&a, PIECE_CONTENT, slice_of(big, sizeof big)), ERR_NO_MEMORY);
	size_t at = 0;
	expect_piece(&a, &at, PIECE_CONTENT, "ab");
	assert_int_equal(at, a.pieces.len);
	fail_at = -1;
	answer_fini(&a);
}

static void walks_no_further_than_the_pieces_go(void **state)
{
	struct answer a;
	enum piece_kind k;
	struct slice s;

	(void)state;
	answer_init(&a, LIMIT);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("abc")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LAST, SLICE("x")), ERR_OK);
	for (size_t cut = 0; cut <= a.pieces.len; cut++) {
		char *copy = malloc(cut + 1);             /* of its own, so that a read past its end is seen */
		memcpy(copy, a.pieces.at, cut);
		size_t at = 0, n = 0;
		while (pieces_next(slice_of(copy, cut), &at, &k, &s))
			n++;
		assert_true(at <= cut);
		assert_int_equal(n, cut == a.pieces.len ? 2 : cut >= 8 ? 1 : 0);
		free(copy);
	}
	size_t at = 0;
	assert_false(pieces_next(SLICE("\0\0\0\0\0"), &at, &k, &s));
	assert_false(pieces_next(SLICE("\x63\0\0\0\0"), &at, &k, &s));
	assert_false(pieces_next(SLICE("\1\xff\xff\xff\xff"), &at, &k, &s));
	at = 1000;
	assert_false(pieces_next(SLICE("\1\0\0\0\0"), &at, &k, &s));
	answer_fini(&a);
}

static const struct { const char *json, *text; enum err e; } texts[] = {
	{ "", "", ERR_OK },
	{ "plain", "plain", ERR_OK },
	{ "a\\n\\t\\r\\b\\f\\/\\\\\\\"z", "a\n\t\r\b\f/\\\"z", ERR_OK },
	{ "\\u0041\\u00e9\\u20AC", "A\xc3\xa9\xe2\x82\xac", ERR_OK },
	{ "\\ud83d\\ude00!", "\xf0\x9f\x98\x80!", ERR_OK },
	{ "\\uDBFF\\uDFFF", "\xf4\x8f\xbf\xbf", ERR_OK },
	{ "\\ud83d", "\xef\xbf\xbd", ERR_OK },
	{ "\\ude00x", "\xef\xbf\xbdx", ERR_OK },
	{ "\\ud83dx", "\xef\xbf\xbdx", ERR_OK },
	{ "\\ud83d\\n", "\xef\xbf\xbd\n", ERR_OK },
	{ "\\ud83d\\u0041", "\xef\xbf\xbd" "A", ERR_OK },
	{ "\\ud83d\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80", ERR_OK },
	{ "\xd0\x86\\u0456", "\xd0\x86\xd1\x96", ERR_OK },
	{ "\\", "", ERR_BAD_JSON },
	{ "ab\\q", "", ERR_BAD_JSON },
	{ "\\u12", "", ERR_BAD_JSON },
	{ "\\u12g4", "", ERR_BAD_JSON },
	{ "\\ud83d\\u12", "", ERR_BAD_JSON },
};

static void decodes_json_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct buf out;
		size_t len = strlen(texts[i].json);
		char *json = malloc(len + 1);
		memcpy(json, texts[i].json, len);         /* without a NUL, so that a read past its end is seen */
		buf_init(&out, LIMIT);
		assert_int_equal(buf_add(&out, "<", 1), ERR_OK);
		assert_int_equal(json_decode_text(slice_of(json, len), &out), texts[i].e);
		assert_int_equal(out.len, 1 + strlen(texts[i].text));
		assert_memory_equal(out.at + 1, texts[i].text, out.len - 1);
		buf_fini(&out);
		free(json);
	}
	struct buf nul;
	buf_init(&nul, LIMIT);
	assert_int_equal(json_decode_text(SLICE("a\\u0000b"), &nul), ERR_OK);
	assert_int_equal(nul.len, 3);
	assert_memory_equal(nul.at, "a\0b", 3);
	buf_fini(&nul);
}

static void joins_a_pair_cut_between_two_pieces(void **state)
{
	struct answer a;
	struct buf out;

	(void)state;
	answer_init(&a, LIMIT);
	buf_init(&out, LIMIT);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("\\ud83d")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("\\ude00")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LOGPROBS, SLICE("{}")), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("\\n.")), ERR_OK);
	assert_int_equal(pieces_text(buf_slice(&a.pieces), PIECE_CONTENT, &out), ERR_OK);
	assert_int_equal(out.len, 6);
	assert_memory_equal(out.at, "\xf0\x9f\x98\x80\n.", 6);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("\\")), ERR_OK);
	assert_int_equal(pieces_text(buf_slice(&a.pieces), PIECE_CONTENT, &out), ERR_BAD_JSON);
	assert_int_equal(out.len, 6);
	out.limit = 8;
	a.pieces.len--;
	assert_int_equal(pieces_text(buf_slice(&a.pieces), PIECE_CONTENT, &out), ERR_TOO_LARGE);
	assert_int_equal(out.len, 6);
	answer_fini(&a);
	buf_fini(&out);
}

static void splits_text_between_characters(void **state)
{
	/* 2-byte letters, an escape of 6 and a pair of 12: whatever the length of a part, joined they are what they were */
	static const char text[] = "\xd0\xbf\xd1\x80\\u0456\\ud83d\\ude00\\n\xf0\x9f\x98\x80x";
	struct answer a;
	struct buf out, joined;
	enum piece_kind k;
	struct slice s;

	(void)state;
	answer_init(&a, LIMIT);
	assert_int_equal(answer_add(&a, PIECE_CONTENT, slice_text(text)), ERR_OK);
	assert_int_equal(answer_add(&a, PIECE_LAST, SLICE("\"done_reason\":\"stop, and much longer than any part\"")), ERR_OK);
	for (size_t most = 1; most < sizeof text + 1; most++) {
		size_t at = 0, parts = 0;
		buf_init(&out, LIMIT);
		buf_init(&joined, LIMIT);
		assert_int_equal(pieces_split(buf_slice(&a.pieces), most, &out), ERR_OK);
		for (; pieces_next(buf_slice(&out), &at, &k, &s) && k == PIECE_CONTENT; parts++) {
			assert_true(s.len <= (most < 12 ? 12 : most) && s.len > 0);
			assert_int_not_equal((unsigned char)s.at[0] & 0xC0, 0x80);
			assert_int_equal(json_decode_text(s, &joined), ERR_OK);
		}
		assert_true(parts >= (sizeof text - 1) / (most < 12 ? 12 : most));
		assert_int_equal(k, PIECE_LAST);
		assert_int_equal(at, out.len);
		assert_true(slice_is(buf_slice(&joined), SLICE("\xd0\xbf\xd1\x80\xd1\x96\xf0\x9f\x98\x80\n\xf0\x9f\x98\x80x")));
		buf_fini(&joined);
		out.limit = out.len;                 /* a failure leaves what was there */
		out.len = 3;
		assert_int_equal(pieces_split(buf_slice(&a.pieces), most, &out), ERR_TOO_LARGE);
		assert_int_equal(out.len, 3);
		buf_fini(&out);
	}
	answer_fini(&a);
}

static void names_every_family(void **state)
{
	(void)state;
	for (int f = 0; f < FAMILY_COUNT; f++)
		assert_non_null(family_name[f]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges_text_only_with_its_own_kind),
		cmocka_unit_test(grows_past_every_byte_of_its_length),
		cmocka_unit_test(does_not_grow_what_it_did_not_write),
		cmocka_unit_test(stays_whole_when_it_cannot_grow),
		cmocka_unit_test(walks_no_further_than_the_pieces_go),
		cmocka_unit_test(decodes_json_text),
		cmocka_unit_test(joins_a_pair_cut_between_two_pieces),
		cmocka_unit_test(splits_text_between_characters),
		cmocka_unit_test(names_every_family),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
