/* uses: proxy/base/err.c proxy/base/scan.c proxy/base/ask.c */
/* libs: -ljansson -licuuc -lm */
/* test_canonical.c - JSON in one form: what is written of what, what is refused and why; cut and changed at every byte, beside
 * what jansson says of the same; with every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/json_alike.h"

static int fail_at = -1;               /* the nth allocation from now fails; -1: none */
static void *failing_realloc(void *at, size_t bytes)
{
	return fail_at >= 0 && fail_at-- == 0 ? NULL : realloc(at, bytes);
}
#define realloc failing_realloc
#include "proxy/base/buf.c"
#include "proxy/base/canonical.c"
#undef realloc

enum { ROOM = 8 << 20, DEEP = 200000 };

static size_t decimals;

/* What was written stays in out. */
static const char *write_bytes(const char *json, size_t len, struct buf *out)
{
	char *exact = malloc(len + !len);       /* just that long, so that ASan sees a look past the end */

	memcpy(exact, json, len);
	out->len = 0;
	const char *why = canonical_write(slice_of(exact, len), out, &decimals);
	free(exact);
	return why;
}

static void one_form(void **state)
{
	static const char *const pairs[][2] = {
		{ " { \"b\" : [ 1 , 2 ] ,\n\t\"a\":{} ,\"c\": [\r] } ", "{\"b\":[1,2],\"a\":{},\"c\":[]}" },
		{ "true", "true" }, { "false", "false" }, { "null", "null" }, { "\"\"", "\"\"" }, { "[[[]]]", "[[[]]]" },
		{ "0", "0" }, { "-0", "0" }, { "0.0", "0" }, { "-0.0e5", "0" }, { "1e2", "100" }, { "100.00", "100" }, { "1E+2", "100" },
		{ "-7", "-7" }, { "0.5", "5e-1" }, { "5e-1", "5e-1" }, { "0.050e1", "5e-1" }, { "-12.340", "-1234e-2" },
		{ "1e17", "100000000000000000" }, { "1e18", "1000000000000000000" }, { "9.3e18", "93e17" }, { "9.2e18", "9200000000000000000" }, { "1e19", "1e19" }, { "12.5e1", "125" }, { "1.7e307", "17e306" }, { "-1e-9999", "-1e-9999" },
		{ "1e15", "1000000000000000" },
		{ "9223372036854775807", "9223372036854775807" }, { "-9223372036854775808", "-9223372036854775808" },
		{ "9007199254740993", "9007199254740993" }, { "9007199254740993.0", "9007199254740993" }, { "0e9999", "0" },
		{ "\"\\u0041\\/\\u00e9\"", "\"A/\xc3\xa9\"" }, { "\"\\n\\t\\u000a\\u0001\\\\\\\"\"", "\"\\n\\u0009\\n\\u0001\\\\\\\"\"" },
		{ "\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"" }, { "\"\x7f\xf4\x8f\xbf\xbf\"", "\"\x7f\xf4\x8f\xbf\xbf\"" },
		{ "{\"\\u0061\":1}", "{\"a\":1}" }, { "{\"a\":{\"b\":1},\"b\":{\"a\":1,\"b\":2}}", "{\"a\":{\"b\":1},\"b\":{\"a\":1,\"b\":2}}" },
	};
	struct buf out;

	(void)state;
	buf_init(&out, ROOM);
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		const char *why = write_bytes(pairs[i][0], strlen(pairs[i][0]), &out);
		if (why || !slice_is(buf_slice(&out), slice_text(pairs[i][1])))
			fail_msg("%s became %.*s (%s)", pairs[i][0], (int)out.len, out.at, why ? why : "");
	}
	buf_fini(&out);
}

static void counts_whole_numbers_written_as_decimals(void **state)
{
	static const struct { const char *json; size_t n; } cases[] = {
		{ "[1,-0,200]", 0 }, { "[1.5,1e-2,0.10]", 0 }, { "[1.0,-0.0,1e2,0e5,12.50e1,{\"a\":[2E0]}]", 6 }, { "1e30", 1 },
	};
	struct buf out;

	(void)state;
	buf_init(&out, ROOM);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_null(write_bytes(cases[i].json, strlen(cases[i].json), &out));
		assert_int_equal(decimals, cases[i].n);
	}
	buf_fini(&out);
}

static void says_what_is_wrong(void **state)
{
	static const struct { const char *json, *why; } bad[] = {
		{ "", "not JSON" }, { " ", "not JSON" }, { "{", "not JSON" }, { "[", "not JSON" }, { "{}x", "not JSON" }, { "{}{}", "not JSON" },
		{ "[1,]", "not JSON" }, { "{\"a\":1,}", "not JSON" }, { "[,1]", "not JSON" }, { "{,}", "not JSON" }, { "[1 2]", "not JSON" },
		{ "{\"a\" 1}", "not JSON" }, { "{a:1}", "not JSON" }, { "{1:1}", "not JSON" }, { "[1}", "not JSON" }, { "{\"a\":1]", "not JSON" },
		{ "01", "not JSON" }, { "-", "not JSON" }, { "+1", "not JSON" }, { ".5", "not JSON" }, { "1.", "not JSON" }, { "1e", "not JSON" },
		{ "1e+", "not JSON" }, { "0x1", "not JSON" }, { "NaN", "not JSON" }, { "Infinity", "not JSON" }, { "True", "not JSON" },
		{ "tru", "not JSON" }, { "nulll", "not JSON" }, { "'a'", "not JSON" }, { "\"a", "not JSON" }, { "\"\n\"", "not JSON" },
		{ "\"\\x\"", "not JSON" }, { "\"\\u12\"", "not JSON" }, { "\"\\u0000\"", "not JSON" }, { "\"\\ud800\"", "not JSON" },
		{ "\"\\ude00\\ud83d\"", "not JSON" }, { "\"\xff\"", "not JSON" }, { "\"\xc0\xaf\"", "not JSON" }, { "\"\xed\xa0\x80\"", "not JSON" },
		{ "\"\xf4\x90\x80\x80\"", "not JSON" }, { "\"\xc3\"", "not JSON" }, { "\xef\xbb\xbf{}", "not JSON" }, { "/**/1", "not JSON" },
		{ "{\"a\":1,\"a\":1}", "key twice" }, { "{\"a\":1,\"\\u0061\":1}", "key twice" }, { "[{\"x\":{\"\":1,\"\":2}}]", "key twice" },
		{ "9223372036854775808", "a number too large" }, { "-9223372036854775809", "a number too large" },
		{ "100000000000000000000", "a number too large" }, { "1e999", "a number too large" }, { "-1e999", "a number too large" },
		{ "1e99999999999999999999", "a number too large" }, { "1e-10000", "a number too small" }, { "1e309", "a number too large" },
	};
	struct buf out;

	(void)state;
	buf_init(&out, ROOM);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *why = write_bytes(bad[i].json, strlen(bad[i].json), &out);
		if (!why || strcmp(why, bad[i].why) != 0)
			fail_msg("%s: %s", bad[i].json, why ? why : "written");
		assert_int_equal(out.len, 0);
	}
	assert_string_equal(write_bytes("1\0", 2, &out), "not JSON");
	assert_string_equal(write_bytes("[1\0]", 4, &out), "not JSON");
	buf_fini(&out);
}

static void has_limits(void **state)
{
	char *json = malloc(2 * DEEP);
	struct buf out;

	(void)state;
	buf_init(&out, ROOM);
	memset(json, '[', DEEP);
	memset(json + DEEP, ']', DEEP);
	assert_string_equal(write_bytes(json, 2 * DEEP, &out), "nested too deep");
	assert_string_equal(write_bytes(json + DEEP - SCAN_DEPTH - 1, 2 * SCAN_DEPTH + 2, &out), "nested too deep");
	assert_null(write_bytes(json + DEEP - SCAN_DEPTH, 2 * SCAN_DEPTH, &out));
	memset(json, '3', CANONICAL_NUMBER + 2);
	json[1] = '.';
	assert_null(write_bytes(json, CANONICAL_NUMBER + 1, &out));
	assert_string_equal(write_bytes(json, CANONICAL_NUMBER + 2, &out), "a number too long");
	free(json);
	buf_fini(&out);
	buf_init(&out, 5);
	assert_null(write_bytes("[1,2]", 5, &out));
	assert_string_equal(write_bytes("[1,22]", 6, &out), "too large");
	assert_string_equal(write_bytes("\"1234\\u0001\"", 12, &out), "too large");
	assert_int_equal(out.len, 0);
	buf_fini(&out);
}

/* So many names that they are sorted to be compared, and the one that is there twice anywhere among them. */
static void finds_a_name_among_thousands(void **state)
{
	enum { NAMES = 3000 };
	char *json = malloc(NAMES * 16);
	struct buf out;

	(void)state;
	buf_init(&out, ROOM);
	for (size_t twice = 0; twice <= NAMES; twice += NAMES / 10) {
		size_t at = 0;
		for (size_t i = 0; i < NAMES; i++)
			at += (size_t)sprintf(json + at, "%c\"n%zu\":%zu", i ? ',' : '{', i == twice ? NAMES - 1 - twice / 2 : i, i);
		json[at++] = '}';
		const char *why = write_bytes(json, at, &out);
		if (twice < NAMES && NAMES - 1 - twice / 2 != twice)
			assert_string_equal(why ? why : "", "key twice");
		else
			assert_null(why);
	}
	free(json);
	buf_fini(&out);
}

static const char all[] = " {\"a\" :[1,-2.5e3 , true,null],\"\\u0062\":{\"\":\"\\ud83d\\ude00 \xd1\x86\\n\\\"\"} ,\"c\":[{},[ ],0.10,-0]}\n";

/* jansson reads what is written as it reads what it is written of, and nothing is written of what it does not read. */
static void agrees_with_jansson(const char *json, size_t len, struct buf *out)
{
	json_error_t error;
	const char *why = write_bytes(json, len, out);
	bool nul = memchr(json, '\0', len) != NULL;      /* which it passes over behind a number */
	json_t *read = nul ? NULL : json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

	if (!why != (read != NULL))
		fail_msg("%.*s: %s, jansson: %s", (int)len, json, why ? why : "written", read ? "read" : error.text);
	if (read) {
		json_t *written = json_loadb(out->at, out->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
		if (!json_alike(read, written))
			fail_msg("%.*s became %.*s", (int)len, json, (int)out->len, out->at);
		json_decref(written);
	}
	json_decref(read);
}

static void cut_and_changed_at_every_byte(void **state)
{
	char json[sizeof all];
	struct buf out;

	(void)state;
	buf_init(&out, ROOM);
	for (size_t len = 0; len < sizeof all; len++)
		agrees_with_jansson(all, len, &out);
	for (size_t i = 0; i < sizeof all - 1; i++)
		for (int c = 0; c < 256; c++) {
			memcpy(json, all, sizeof all);
			json[i] = (char)c;
			agrees_with_jansson(json, sizeof all - 1, &out);
		}
	buf_fini(&out);
}

static void every_allocation_may_fail(void **state)
{
	bool written = false;
	struct buf out;
	int n = 0;

	(void)state;
	for (; !written && n < 100; n++) {
		buf_init(&out, ROOM);
		fail_at = n;
		const char *why = write_bytes(all, sizeof all - 1, &out);
		bool failed = fail_at < 0;
		fail_at = -1;
		if (failed)
			assert_string_equal(why ? why : "", "no memory to read it");
		else
			assert_null(why);
		written = !failed;
		buf_fini(&out);
	}
	assert_true(written && n > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_form), cmocka_unit_test(counts_whole_numbers_written_as_decimals), cmocka_unit_test(says_what_is_wrong), cmocka_unit_test(has_limits),
		cmocka_unit_test(finds_a_name_among_thousands), cmocka_unit_test(cut_and_changed_at_every_byte),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
