/* uses: proxy/base/buf.c proxy/base/err.c */
/* libs: */
/* test_scan.c - spans of a JSON object: what is one and what is not, cut at every byte, nested to the limit; and where text
 * may be cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "proxy/base/scan.c"

static const char sample[] =
	" {\"a\":1, \"b\\\"\\u00e9\" : -2.5e+3,\"c\":[1,{\"d\":\"]}\"},[]] ,\"e\":{ },\"f\":\"\\\\\",\"g\":true,\"h\":null,\"\":\"\xd1\x96\"}\n";

/* A copy of just that many bytes, so that ASan sees a look past the end. */
static char *copy_of(const char *at, size_t len)
{
	char *copy = malloc(len + !len);

	return len ? memcpy(copy, at, len) : copy;
}

/* How many fields; -1: not one well-formed object. */
static int fields(const char *at, size_t len)
{
	char *copy = copy_of(at, len);
	struct slice name, value;
	struct scan s;
	int n = 0;

	scan_init(&s, slice_of(copy, len));
	while (scan_next(&s, &name, &value)) {
		assert_true(name.at > copy && value.at > name.at && value.at + value.len <= copy + len);
		assert_true(value.len > 0);
		n++;
	}
	assert_false(scan_next(&s, &name, &value));      /* and so it stays */
	n = scan_ended(&s) ? n : -1;
	free(copy);
	return n;
}

static int fields_of(const char *text)
{
	return fields(text, strlen(text));
}

static void reads_names_and_values_as_written(void **state)
{
	static const char *const want[][2] = { { "a", "1" }, { "b\\\"\\u00e9", "-2.5e+3" }, { "c", "[1,{\"d\":\"]}\"},[]]" },
		{ "e", "{ }" }, { "f", "\"\\\\\"" }, { "g", "true" }, { "h", "null" }, { "", "\"\xd1\x96\"" } };
	struct slice name, value;
	struct scan s;

	(void)state;
	scan_init(&s, slice_text(sample));
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		assert_false(scan_ended(&s));
		assert_true(scan_next(&s, &name, &value));
		assert_true(slice_is(name, slice_text(want[i][0])));
		assert_true(slice_is(value, slice_text(want[i][1])));
	}
	assert_false(scan_next(&s, &name, &value));
	assert_true(scan_ended(&s));
}

static void cut_anywhere_it_is_no_object(void **state)
{
	size_t whole = sizeof sample - 2;                /* without its newline it still is */

	(void)state;
	assert_int_equal(fields(sample, whole), 8);
	assert_int_equal(fields(sample, whole + 1), 8);
	for (size_t len = 0; len < whole; len++)
		assert_int_equal(fields(sample, len), -1);
}

static void what_is_not_an_object_is_bad(void **state)
{
	static const char *const bad[] = {
		"", " ", "[]", "1", "\"a\"", "null", "{", "}", "{]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,\"a\":1}", "{\"a\":1 \"b\":2}",
		"{a:1}", "{'a':1}", "{\"a\":1}}", "{\"a\":1}x", "{} {}", "{\"a\":tru}", "{\"a\":True}", "{\"a\":nulll}", "{\"a\":+1}", "{\"a\":.5}",
		"{\"a\":[}", "{\"a\":[1}]", "{\"a\":{]}", "{\"a\":\"\n\"}", "{\"a\":\"\x01\"}", "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}", "{\"a\":\"\\u12g4\"}",
		"{\"a\\u\":1}", "{\"a\":\"\\\"}", "\xef\xbb\xbf{}", "{\"a\":1,,\"b\":2}", "{\"a\"::1}", "{\"a\":1;\"b\":2}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (fields_of(bad[i]) != -1)
			fail_msg("taken for an object: %s", bad[i]);
	assert_int_equal(fields("{\"a\":1}\0", 8), -1);
	assert_int_equal(fields_of("{}"), 0);
	assert_int_equal(fields_of("\t\r\n { } \n"), 0);
	assert_int_equal(fields_of("{\"a\":\"\\ud83d\"}"), 1);   /* half a pair is text all the same */
}

static void nests_to_its_limit(void **state)
{
	(void)state;
	for (int depth = SCAN_DEPTH - 2; depth <= SCAN_DEPTH + 2; depth++) {
		char text[4 * SCAN_DEPTH] = "{\"a\":", *at = text + 5;
		for (int i = 0; i < depth; i++)
			*at++ = '[';
		for (int i = 0; i < depth; i++)
			*at++ = ']';
		strcpy(at, "}");
		assert_int_equal(fields_of(text), depth <= SCAN_DEPTH ? 1 : -1);
	}
}

static bool inside_is(const char *value, const char *want)
{
	return slice_is(scan_inside(slice_text(value)), slice_text(want));
}

static void inside_is_without_what_encloses(void **state)
{
	(void)state;
	assert_true(inside_is("\" a \"", " a "));        /* space in a text is text */
	assert_true(inside_is("\"\"", ""));
	assert_true(inside_is("[ 1, 2\n]", "1, 2"));
	assert_true(inside_is("[ ]", ""));
	assert_true(inside_is("{\"a\":1 }", "\"a\":1"));
	assert_true(inside_is("x", ""));
}

static void text_is_cut_between_characters(void **state)
{
	static const char text[] = "a\xd1\x96\\n\\u0456\\ud83d\\ude00\xf0\x9f\x98\x80\\ud83dz\\\\\\\"\\udc00";
	/* where a character ends */
	static const size_t ends[] = { 0, 1, 3, 5, 11, 23, 27, 33, 34, 36, 38, 44 };
	size_t len = sizeof text - 1;

	(void)state;
	assert_int_equal(ends[11], len);
	for (size_t most = 0; most <= len + 3; most++) {
		char *copy = copy_of(text, len);
		size_t cut = scan_text_cut(slice_of(copy, len), most), want = 0;
		for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
			if (ends[i] <= most)
				want = ends[i];
		assert_int_equal(cut, want ? want : 1);
		free(copy);
	}
	/* from every character on, something is taken, and never more than the longest one where there is no room */
	for (size_t i = 0; i + 1 < sizeof ends / sizeof *ends; i++)
		assert_int_equal(scan_text_cut(slice_of(text + ends[i], len - ends[i]), 1), ends[i + 1] - ends[i]);
	/* half a pair before another escape is a character of its own */
	for (size_t most = 6; most < 14; most++)
		assert_int_equal(scan_text_cut(SLICE("\\ud83d\\n\\u0041"), most), most < 8 ? 6 : most < 14 ? 8 : 14);
	/* an escape that ends too early, as no scanned text has: nothing past the end */
	for (const char *broken = "xx\\u12"; *broken; broken++) {
		char *copy = copy_of(broken, strlen(broken));
		size_t cut = scan_text_cut(slice_of(copy, strlen(broken)), 1);
		assert_true(cut >= 1 && cut <= strlen(broken));
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_names_and_values_as_written), cmocka_unit_test(cut_anywhere_it_is_no_object),
		cmocka_unit_test(what_is_not_an_object_is_bad),      cmocka_unit_test(nests_to_its_limit),
		cmocka_unit_test(inside_is_without_what_encloses),   cmocka_unit_test(text_is_cut_between_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
