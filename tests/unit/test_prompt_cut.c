/* uses: proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c */
/* test_prompt_cut.c - how many tokens a prompt has at least, and from what an engine has read whether it was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/prompt_cut.c"

/* A generation's form with a text over and over. */
static struct prompt_size size_of(const char *text, size_t times)
{
	struct buf form;

	buf_init(&form, 64 << 20);
	assert_int_equal(buf_addf(&form, "{\"model\":\"m\",\"prompt\":\""), ERR_OK);
	for (size_t i = 0; i < times; i++)
		assert_int_equal(buf_put(&form, slice_text(text)), ERR_OK);
	assert_int_equal(buf_addf(&form, "\"}"), ERR_OK);
	struct prompt_size size = prompt_size_of(buf_slice(&form));
	buf_fini(&form);
	return size;
}

/* Tokens as tokenizers that put the most into one have counted them (chars / tokens), and what is left where Ollama cuts. */
static void what_was_read_whole_is_no_alarm(void **state)
{
	static const struct { const char *text; unsigned tokens; } whole[] = {
		{ "The quick brown fox jumps over the lazy dog near the river. ", 13 },
		{ "internationalization responsibilities characteristics ", 7 },
		{ "Університет засновано тисяча дев'ятсот сімнадцятого року. ", 14 },
		{ "今日は天気がいいから散歩しましょう。", 11 },
		{ "        return value;\\n", 4 }, { "\\t\\t\\t\\t}\\n", 2 }, { "================\\n", 2 }, { "0123456789", 4 },
		{ "........................................................................", 1 }, { "\\u0007\\u0008", 2 },
	};
	static const size_t times[] = { 1, 10, 1000, 10000 };

	(void)state;
	for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
		for (size_t k = 0; k < sizeof times / sizeof *times; k++) {
			struct prompt_size size = size_of(whole[i].text, times[k]);
			assert_int_equal(size.num_ctx, 0);
			if (prompt_was_cut(&size, whole[i].tokens * times[k], 0))
				fail_msg("%s, %zu times: at least %llu", whole[i].text, times[k], (unsigned long long)size.least_tokens);
		}
}

static void what_was_cut_is_found(void **state)
{
	(void)state;
	struct prompt_size recorded = size_of("hello world ", 3000);             /* of 18,005 tokens 1,027 */
	assert_true(prompt_was_cut(&recorded, 1027, 0));
	struct prompt_size english = size_of("The quick brown fox jumps over the lazy dog near the river. ", 350);   /* 4,550 */
	assert_true(prompt_was_cut(&english, 2048 + 4, 0));
	assert_false(prompt_was_cut(&english, 4096, 0));
	assert_true(prompt_was_cut(&english, 4096, 4096));       /* an engine that cuts to all of its context */
	assert_false(prompt_was_cut(&english, 4550, 8192));
	assert_false(prompt_was_cut(&english, 4550, 4096));      /* that was its context at another time */
	assert_false(prompt_was_cut(&english, 0, 4096));         /* it does not say */
	struct prompt_size ukrainian = size_of("Університет засновано тисяча дев'ятсот сімнадцятого року. ", 300);
	assert_true(prompt_was_cut(&ukrainian, 2052, 0));
}

static void all_texts_of_a_prompt_count(void **state)
{
	struct slice chat = SLICE("{\"messages\":[{\"content\":\"abcdefgh abcdefg\",\"role\":\"system\"},{\"role\":\"user\",\"content\":\"ijklmnop\","
	                          "\"images\":[\"aaaabbbbccccdddd\"]}],\"model\":\"m\",\"options\":{\"num_ctx\":512},\"tools\":[{\"x\":\"yyyyzzzz\"}]}");
	struct slice generation = SLICE("{\"context\":[1,2,3],\"options\":{\"num_ctx\":1e999},\"prompt\":\"abcdefgh\",\"suffix\":\"abcdefgh\","
	                                "\"system\":\"abcdefgh\",\"template\":\"abcdefgh\"}");

	(void)state;
	struct prompt_size size = prompt_size_of(chat);
	assert_int_equal(size.least_tokens, 3);
	assert_int_equal(size.num_ctx, 512);
	assert_true(prompt_was_cut(&size, 512, 0));
	assert_false(prompt_was_cut(&size, 511, 0));
	size = prompt_size_of(generation);
	assert_int_equal(size.least_tokens, 3);
	assert_int_equal(size.num_ctx, 0);
	size = prompt_size_of((struct slice){ 0 });
	assert_int_equal(size.least_tokens, 0);
	size = size_of("ab", PROMPT_LOOK_MAX);                   /* twice as long as is looked at */
	assert_int_equal(size.least_tokens, PROMPT_LOOK_MAX / 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_read_whole_is_no_alarm),
		cmocka_unit_test(what_was_cut_is_found),
		cmocka_unit_test(all_texts_of_a_prompt_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
