/* uses: proxy/base/buf.c proxy/base/err.c */
/* libs: -lnettle */
/* test_policy.c - what is kept out of the cache and why, how long an answer is kept, which models are; and keys: every part
 * of a request changes its key, no two sets of parts run together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "cache/key.c"
#include "cache/policy.c"

static const struct rules usual = { .models = "*", .enabled = true, .ttl_ms = 86400000 };
static const struct wishes no_wishes = { .max_age_s = -1, .ttl_s = -1, .complex = COMPLEX_NONE };
static const struct ask usual_ask = { .family = FAMILY_CHAT, .generates = true, .model_full = { "llama3.2:latest", 15 } };

static void the_cache_keeps_out_of(void **state)
{
	struct rules off = usual, only = usual, models = usual;
	struct wishes no_cache = no_wishes, no_store = no_wishes;
	struct ask debug = usual_ask, load = usual_ask, fixed = usual_ask, embed = usual_ask;

	(void)state;
	off.enabled = false;
	only.deterministic_only = true;
	models.models = "*,!llama*";
	no_cache.no_cache = true;
	no_store.no_store = no_store.no_cache = true;
	debug.debug = true;
	load.generates = false;
	fixed.deterministic = true;
	embed.family = FAMILY_EMBED;
	assert_int_equal(policy_bypass(&usual, &no_wishes, &usual_ask), BYPASS_NO);
	assert_int_equal(policy_bypass(&off, &no_wishes, &usual_ask), BYPASS_OFF);
	assert_int_equal(policy_bypass(&usual, &no_cache, &usual_ask), BYPASS_NO_CACHE);
	assert_int_equal(policy_bypass(&usual, &no_store, &usual_ask), BYPASS_NO_STORE);   /* the stronger of the two */
	assert_int_equal(policy_bypass(&models, &no_wishes, &usual_ask), BYPASS_MODEL);
	assert_int_equal(policy_bypass(&models, &no_cache, &usual_ask), BYPASS_MODEL);     /* and so never refreshed */
	assert_int_equal(policy_bypass(&only, &no_wishes, &usual_ask), BYPASS_SAMPLING);
	assert_int_equal(policy_bypass(&only, &no_cache, &usual_ask), BYPASS_SAMPLING);
	assert_int_equal(policy_bypass(&only, &no_wishes, &fixed), BYPASS_NO);
	assert_int_equal(policy_bypass(&only, &no_wishes, &embed), BYPASS_NO);
	assert_int_equal(policy_bypass(&usual, &no_wishes, &debug), BYPASS_DEBUG);
	assert_int_equal(policy_bypass(&usual, &no_wishes, &load), BYPASS_NOTHING_ASKED);
	for (int why = 0; why < BYPASS_COUNT; why++) {
		assert_non_null(bypass_name[why]);
		assert_int_equal(policy_refreshes((enum bypass)why), why == BYPASS_NO || why == BYPASS_NO_CACHE);
	}
}

static void what_is_stored(void **state)
{
	struct answer whole = { .whole = true, .says = true, .pieces = { .len = 100 } }, empty = whole, cut = whole, odd = whole, half = whole, wrong = whole;
	struct ask asked_length = usual_ask;

	(void)state;
	empty.says = false;
	cut.length = true;
	odd.odd = true;
	half.whole = false;
	wrong.error.len = 1;
	asked_length.length_set = true;
	assert_int_equal(policy_unstored(&usual_ask, &whole, 200, 100), STORABLE);
	assert_int_equal(policy_unstored(&usual_ask, &whole, 200, 99), TOO_LARGE);
	assert_int_equal(policy_unstored(&usual_ask, &whole, 206, 100), BAD_STATUS);
	assert_int_equal(policy_unstored(&usual_ask, &half, 200, 100), NOT_WHOLE);
	assert_int_equal(policy_unstored(&usual_ask, &empty, 200, 100), EMPTY);
	assert_int_equal(policy_unstored(&usual_ask, &odd, 200, 100), BAD_DONE_REASON);
	assert_int_equal(policy_unstored(&usual_ask, &cut, 200, 100), BAD_DONE_REASON);
	assert_int_equal(policy_unstored(&asked_length, &cut, 200, 100), STORABLE);
	assert_int_equal(policy_unstored(&asked_length, &odd, 200, 100), BAD_DONE_REASON);
	assert_int_equal(policy_unstored(&usual_ask, &wrong, 200, 100), HAD_ERROR);
}

static void how_long(void **state)
{
	static const struct { int64_t asked_s, want_ms; } cases[] = {
		{ -1, 86400000 }, { 0, 0 }, { 1, 1000 }, { 86399, 86399000 }, { 86400, 86400000 }, { 86401, 86400000 }, { 1 << 30, 86400000 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wishes w = no_wishes;
		w.ttl_s = cases[i].asked_s;
		assert_int_equal(policy_ttl_ms(&usual, &w), cases[i].want_ms);
	}
}

static void which_models(void **state)
{
	static const struct { const char *globs, *name; bool matches; } cases[] = {
		{ "*", "llama3.2:latest", true }, { "", "a:latest", true }, { "!b*", "a:latest", true }, { "!b*", "b:latest", false },
		{ "llama3.2", "llama3.2:latest", true }, { "llama3.2", "llama3.2:1b", false }, { "llama3.2:latest", "llama3.2:latest", true },
		{ "LLAMA*", "llama3.2:latest", true }, { "a, b ,c", "b:latest", true }, { "a,,b", "b:latest", true }, { "a*,!ab*", "abc:latest", false },
		{ "!ab*,a*", "abc:latest", false }, { "!ab*,a*", "acc:latest", true }, { "hf.co/*", "hf.co/x/y:q4", true }, { "qwen?", "qwen3:latest", true },
		{ "[", "a:latest", false },
	};
	char longer[NAME_MAX_BYTES * 2];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (policy_model_matches(cases[i].globs, slice_text(cases[i].name)) != cases[i].matches)
			fail_msg("%s %s", cases[i].globs, cases[i].name);
	memset(longer, 'a', sizeof longer);
	assert_false(policy_model_matches("*", slice_of(longer, sizeof longer)));
}

/* ---- keys ---- */

static void every_part_changes_the_key(void **state)
{
	static const struct slice t[] = { SLICE_INIT("t"), { 0 }, { 0 } }, big_t[] = { SLICE_INIT("T"), { 0 }, { 0 } },
		ts[] = { SLICE_INIT("ts"), { 0 }, { 0 } }, none[TENANT_PARTS] = { { 0 } },
		second[] = { { 0 }, SLICE_INIT("t"), { 0 } }, third[] = { { 0 }, { 0 }, SLICE_INIT("t") };
	const struct key_parts base = { .family = FAMILY_CHAT, .candidates = 1, .scope = SLICE("authorization"), .tenant = t,
	                                .space = SLICE("s"), .digest = SLICE("d"), .form = SLICE("f"), .mark = 0 };
	enum { PARTS = 16 };
	struct key_parts parts[PARTS];
	uint8_t key[PARTS][KEY_BYTES];
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < PARTS; i++)
		parts[i] = base;
	parts[1].family = FAMILY_GENERATE;
	parts[2].candidates = 2;
	parts[3].tenant = big_t;
	parts[4].space = SLICE("");
	parts[5].digest = SLICE("e");
	parts[6].form = SLICE("g");
	parts[7].mark = 1;
	parts[8].tenant = ts;                            /* what moves from one part to the next is another key */
	parts[8].space = SLICE("");
	parts[9].tenant = none;
	parts[9].space = SLICE("ts");
	parts[10].digest = SLICE("df");
	parts[10].form = SLICE("");
	parts[11].tenant = none;
	parts[12].tenant = second;                       /* the same value in another header */
	parts[13].tenant = third;
	parts[14].scope = SLICE("header:X-User");        /* nor does another scope give what this one kept */
	parts[15].scope = SLICE("shared");
	parts[15].tenant = none;
	for (; n < PARTS; n++) {
		key_make(&parts[n], key[n]);
		for (size_t i = 0; i < n; i++)
			assert_memory_not_equal(key[i], key[n], KEY_BYTES);
	}
	uint8_t again[KEY_BYTES];
	key_make(&base, again);
	assert_memory_equal(again, key[0], KEY_BYTES);
}

static void keys_as_hex_and_back(void **state)
{
	uint8_t key[KEY_BYTES], back[KEY_BYTES];
	char hex[2 * KEY_BYTES + 1], changed[2 * KEY_BYTES + 1];

	(void)state;
	for (int i = 0; i < KEY_BYTES; i++)
		key[i] = (uint8_t)(i * 37 + 200);
	key_hex(key, hex);
	assert_int_equal(strlen(hex), 2 * KEY_BYTES);
	assert_true(key_parse(slice_text(hex), back));
	assert_memory_equal(key, back, KEY_BYTES);
	for (size_t len = 0; len < 2 * KEY_BYTES; len++)
		assert_false(key_parse(slice_of(hex, len), back));
	for (int c = 1; c < 256; c++) {
		memcpy(changed, hex, sizeof hex);
		changed[7] = (char)c;
		bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
		assert_int_equal(key_parse(slice_of(changed, 2 * KEY_BYTES), back), is_hex);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cache_keeps_out_of), cmocka_unit_test(what_is_stored), cmocka_unit_test(how_long), cmocka_unit_test(which_models),
		cmocka_unit_test(every_part_changes_the_key), cmocka_unit_test(keys_as_hex_and_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
