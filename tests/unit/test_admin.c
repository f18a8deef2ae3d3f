/* test_admin.c - queries and patterns of the proxy's own endpoints, the ring of recent hits, medians of the history. */
/* uses: proxy/admin_query.c proxy/recent.c proxy/metrics.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c */
/* libs: -licuuc -luv -lm */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proxy/admin.h"
#include "proxy/recent.h"

/* history.c is taken in whole for its figures; what else it calls is never called here */
#include "proxy/history.c"
void alarm_set(struct alarms *as, struct alarm *a, int64_t ms, void (*ring)(struct alarm *)) { (void)as, (void)a, (void)ms, (void)ring; }
void alarm_clear(struct alarms *as, struct alarm *a) { (void)as, (void)a; }

static char a[QUERY_VALUE_MAX + 1], b[QUERY_VALUE_MAX + 1];
static const struct query_value wanted[] = { { "a", a }, { "bee", b } };

static bool reads(const char *query)
{
	char why[ADMIN_WHY_MAX] = "";
	bool ok = query_read(slice_text(query), wanted, 2, why);

	assert_int_equal(ok, *why == '\0');              /* a refusal says why, and only a refusal does */
	return ok;
}

static void queries_are_decoded(void **state)
{
	(void)state;
	assert_true(reads("a=1&bee=x+y%20z%2B%26%3d"));
	assert_string_equal(a, "1");
	assert_string_equal(b, "x y z+&=");
	assert_true(reads("bee=%D1%97%d0%B6"));
	assert_string_equal(a, "");
	assert_string_equal(b, "їж");
	assert_true(reads("a&&bee=&"));
	assert_string_equal(b, "");
	assert_true(reads(""));
	assert_true(reads("%61=7"));
	assert_string_equal(a, "7");
	assert_true(reads("a=b=c"));
	assert_string_equal(a, "b=c");
	assert_true(query_read((struct slice){ 0 }, NULL, 0, (char[ADMIN_WHY_MAX]){ 0 }));
}

static void queries_that_are_none(void **state)
{
	static const char *const bad[] = {
		"c=1", "A=1", "a=1&a=1", "a=%", "a=%4", "a=%4g", "a=%g4", "a=x%00y", "%00=1", "a=%ff", "a=%c3", "a=%ed%a0%80", "a=%c0%80",
		"=1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1", "a=1&bee=2&c", "be=1", "beee=1",
	};
	char longest[QUERY_VALUE_MAX + 16] = "a=";

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (reads(bad[i]))
			fail_msg("'%s' was taken", bad[i]);
	memset(longest + 2, 'x', QUERY_VALUE_MAX);
	assert_true(reads(longest));
	assert_int_equal(strlen(a), QUERY_VALUE_MAX);
	longest[2 + QUERY_VALUE_MAX] = 'x';
	assert_false(reads(longest));
}

/* The same by trying everything: for short texts only. */
static bool takes_slowly(const char *p, const char *s)
{
	if (*p == '*')
		return takes_slowly(p + 1, s) || (*s && takes_slowly(p, s + 1));
	if (!*p || !*s)
		return !*p && !*s;
	return (*p == '?' || *p == *s) && takes_slowly(p + 1, s + 1);
}

static void patterns(void **state)
{
	static const struct { const char *pattern, *text; bool taken; } cases[] = {
		{ "llama3*", "llama3.2:latest", true }, { "LLAMA3*", "llama3.2", true }, { "llama3", "llama3.2", false }, { "*", "", true },
		{ "", "", true }, { "", "x", false }, { "?", "ї", true }, { "??", "ї", false }, { "*ї*", "Київ", true }, { "a*b*c", "axxbyyc", true },
		{ "a*b*c", "axxbyy", false }, { "[a]", "a", false }, { "[a]", "[a]", true }, { "\\*", "*", false }, { "!x", "y", false },
	};
	static const char letters[] = "ab*?";

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (query_glob(cases[i].pattern, slice_text(cases[i].text)) != cases[i].taken)
			fail_msg("%s on %s", cases[i].pattern, cases[i].text);
	for (int n = 0; n < 4096; n++)                   /* every pattern of 4 and text of 4 from a small alphabet */
		for (int m = 0; m < 16; m++) {
			char p[5], s[5];
			for (int i = 0; i < 4; i++)
				p[i] = letters[n >> 2 * i & 3], s[i] = "ab"[m >> i & 1];
			p[n >> 8 & 3 ? 4 : 3] = p[4] = s[4] = '\0';
			if (query_glob(p, slice_text(s)) != takes_slowly(p, s))
				fail_msg("%s on %s", p, s);
		}
}

static void a_pattern_of_stars_ends_soon(void **state)
{
	char pattern[QUERY_VALUE_MAX + 1], text[QUERY_VALUE_MAX];

	(void)state;
	for (int i = 0; i < QUERY_VALUE_MAX; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[QUERY_VALUE_MAX - 1] = 'b';
	pattern[QUERY_VALUE_MAX] = '\0';
	memset(text, 'a', sizeof text);
	assert_false(query_glob(pattern, slice_of(text, sizeof text)));
}

static void recent_hits(void **state)
{
	struct recent *r = recent_new();
	struct recent_hit *hits = malloc(RECENT_HITS * sizeof *hits);
	uint8_t key[KEY_BYTES] = { 0 };
	char asked[RECENT_TEXT_MAX + 8];

	(void)state;
	assert_int_equal(recent_get(r, hits), 0);
	for (int i = 0; i < RECENT_HITS + 7; i++) {
		key[0] = (uint8_t)i;
		recent_add(r, key, i / 100.0, SLICE("asked"), (struct slice){ 0 }, SLICE("m"));
	}
	assert_int_equal(recent_get(r, hits), RECENT_HITS);
	assert_int_equal(hits[0].key[0], RECENT_HITS + 6);               /* the newest first */
	assert_int_equal(hits[RECENT_HITS - 1].key[0], 7);
	assert_string_equal(hits[0].stored, "");
	/* cut at a character: the limit falls into the middle of one */
	memset(asked, 'x', sizeof asked);
	memcpy(asked + RECENT_TEXT_MAX - 1, "їїїї", 8);
	recent_add(r, key, 1, slice_of(asked, sizeof asked), SLICE("stored"), SLICE("m"));
	recent_get(r, hits);
	assert_int_equal(strlen(hits[0].asked), RECENT_TEXT_MAX - 1);
	free(hits);
	recent_free(r);
}

static void medians(void **state)
{
	static const uint64_t most[] = { 100, 200, 400, UINT64_MAX };
	uint64_t bucket[METRIC_BUCKETS] = { 0 };

	(void)state;
	assert_true(history_median_us(bucket, most) < 0);
	bucket[1] = 1;
	assert_float_equal(history_median_us(bucket, most), 150, 1e-6);
	bucket[0] = 3;
	assert_float_equal(history_median_us(bucket, most), 200.0 / 3, 1e-6);
	bucket[2] = 4;                                   /* 3, 1, 4: half of them up to 200 */
	assert_float_equal(history_median_us(bucket, most), 200, 1e-6);
	memset(bucket, 0, sizeof bucket);
	bucket[3] = 9;                                   /* beyond the last bound all that is known is the bound */
	assert_float_equal(history_median_us(bucket, most), 400, 1e-6);
}

static void history_keeps_what_its_room_is_for(void **state)
{
	struct slot room[4];
	struct series s = { .step = room, .room = 4, .every_ms = 10000 };
	struct steps steps = { .of = &s };
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(put_series(&out, "hour", &steps), ERR_OK);
	assert_non_null(memmem(out.at, out.len, "\"exact\":[0]", 11));    /* the step under way */
	for (uint32_t i = 1; i <= 6; i++)
		s.step[s.added++ % s.room] = (struct slot){ .kind[RESULT_EXACT] = i };
	steps.now.kind[RESULT_EXACT] = 7;
	out.len = 0;
	assert_int_equal(put_series(&out, "hour", &steps), ERR_OK);
	assert_non_null(memmem(out.at, out.len, "\"exact\":[3,4,5,6,7]", 19));
	assert_non_null(memmem(out.at, out.len, "\"first_byte_hit_ms\":[null,null,null,null,null]", 46));
	buf_fini(&out);
}

/* The median of a span is that of all its requests: 1 fast miss in each of two steps and 5 slow ones in a third are slow. */
static void figures_of_a_span(void **state)
{
	struct slot room[4];
	struct series s = { .step = room, .room = 4, .every_ms = 10000 };
	struct steps steps = { .of = &s };
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	s.step[s.added++] = (struct slot){ .kind[RESULT_FAILED] = 9, .tokens = 5 };                       /* before the span */
	s.step[s.added++] = (struct slot){ .kind[RESULT_MISS] = 1, .miss[3] = 1, .tokens = 1, .gpu_s = 0.5f };
	s.step[s.added++] = (struct slot){ .kind[RESULT_MISS] = 1, .miss[3] = 1, .tokens = 1, .gpu_s = 0.25f };
	steps.now = (struct slot){ .kind[RESULT_MISS] = 5, .miss[12] = 5, .connections = 3 };
	assert_int_equal(put_span(&out, "15m", &steps, 2), ERR_OK);
	assert_int_equal(buf_add(&out, "", 1), ERR_OK);
	assert_non_null(strstr(out.at, "\"seconds\":20,"));
	assert_non_null(strstr(out.at, "\"miss\":7,"));
	assert_non_null(strstr(out.at, "\"failed\":0,"));
	assert_non_null(strstr(out.at, "\"tokens_saved\":2,"));
	assert_non_null(strstr(out.at, "\"gpu_seconds_saved\":0.750,"));
	assert_non_null(strstr(out.at, "\"first_byte_miss_ms\":650.000}"));      /* 500 to 1000 ms, 1.5 of its 5 */
	assert_null(strstr(out.at, "connections"));
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queries_are_decoded), cmocka_unit_test(queries_that_are_none), cmocka_unit_test(patterns),
		cmocka_unit_test(a_pattern_of_stars_ends_soon), cmocka_unit_test(recent_hits), cmocka_unit_test(medians),
		cmocka_unit_test(history_keeps_what_its_room_is_for), cmocka_unit_test(figures_of_a_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
