/* uses: proxy/base/arena.c proxy/base/buf.c proxy/base/err.c proxy/base/ask.c proxy/base/scan.c scoring/agreement.c scoring/alike.c scoring/asked.c scoring/final.c scoring/json.c scoring/lines.c */
/* libs: -ljansson -licuuc -lm */
/* test_final.c - what an answer comes to: marks, letters, numbers, dates, in English and Ukrainian; what is JSON and
 * which JSON is the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "scoring/round.h"

static struct candidate says(const char *text)
{
	return (struct candidate){ .text = slice_text(text), .mean_logprob = NAN };
}

static struct scoring_question asks(const char *text)
{
	return (struct scoring_question){ .text = slice_text(text) };
}

static char *repeat(const char *what, size_t times)
{
	size_t len = strlen(what);
	char *s = malloc(len * times + 1);

	assert_non_null(s);
	for (size_t i = 0; i < times; i++)
		memcpy(s + i * len, what, len);
	s[len * times] = 0;
	return s;
}

static const char choice_en[] = "Which is a planet?\nA. Sun\nB. Mars\nC. Moon\nD. Ceres";
static const char choice_uk[] = "Що з цього планета?\nА) Сонце\nБ) Марс\nВ) Місяць";
static const char how_many[] = "How many apples are left?";
static const char skilky[] = "Скільки яблук лишилося?";
static const char free_text[] = "Tell me about apples.";
static const char which_date[] = "What is the date tomorrow? Format MM/DD/YYYY.";

static const struct { const char *question, *text, *want; } finals[] = {
	{ free_text, "So \\boxed{42} it is.", "42" },
	{ free_text, "First \\boxed{1}, then \\boxed{\\text{x} = \\frac{1}{2}}.", "\\frac{1}{2}" },
	{ free_text, "This box was opened and never closed again: \\boxed{unclosed", "" },
	{ free_text, "{\"reasoning\": \"long long long long long long long\", \"answer\": \"$1,875.00\"}", "1875" },
	{ free_text, "```json\n{\"reasoning\": \"x\",\n \"answer\": 7}\n```", "7" },
	{ free_text, "{\"answer\": \"\\u041a\\u0438\\u0457\\u0432\"}", "київ" },
	{ free_text, "Reasoning that goes on for a while, step after step.\n#### 1 234", "1234" },
	{ free_text, "#### A heading\n\nAnd then the text goes on and on for many words.", "" },
	{ free_text, "After all this thinking, I say that the answer is **Kyiv**.", "kyiv" },
	{ free_text, "We add and add and add and add them all. Final Answer: 10 hours", "10" },
	{ free_text, "The answer to your question, as it turns out after thought, is 3.50.", "3.5" },
	{ free_text, "Ми довго рахували й дійшли згоди. Відповідь: **Київ**.", "київ" },
	{ free_text, "Ми довго рахували й дійшли згоди. Відповідь — 12,5 км", "12.5" },
	{ free_text, "Порахуймо всі яблука разом.\n\n**Відповідь:**\n\n7", "7" },
	{ free_text, "Правильною відповіддю є «Марс», бо він планета.", "марс, бо він планета" },
	{ free_text, "The answers are many, and nothing here says which of them is it.", "" },
	{ free_text, "**Answer:** It depends. There is a lot to say about it, and then some more, and we are only at the "
	  "beginning of a long story about apples and pears and plums, none of which was asked for, and which nobody will read "
	  "to its end because it has no end, or so it seems to everyone who ever began it, which is not many.", "" },
	{ choice_en, "Mars goes round the sun. The answer is (B).", "b" },
	{ choice_en, "The best answer is B. Mars", "b" },
	{ choice_en, "B) Mars", "b" },
	{ choice_en, "B", "b" },
	{ choice_en, "\\boxed{\\text{B}}", "b" },
	{ choice_en, "We go through them all, and the only one that is left is (B).", "b" },
	{ choice_en, "After some thought I choose option B", "b" },
	{ choice_en, "The answer is a matter of taste, of course, as everyone will tell you.", "" },
	{ choice_en, "After a long and careful thought I say that the answer is (X).", "" },
	{ choice_uk, "Марс обертається навколо Сонця. Відповідь: Б", "б" },
	{ choice_uk, "Б) Марс", "б" },
	{ choice_uk, "Думаю, що це варіант Б, бо він єдиний тут схожий на планету", "б" },
	{ choice_uk, "Правильна відповідь: B", "в" },              /* a Latin B for a Cyrillic В */
	{ free_text, "Kyiv.", "kyiv" },
	{ free_text, "The Louvre", "louvre" },
	{ free_text, "П’ять яблук!", "п'ять яблук" },
	{ free_text, "This text is a little longer than forty characters.", "" },
	{ how_many, "They had nine apples and gave away four, and so in the end they have 5 apples left.", "5" },
	{ how_many, "So the answer is that 50 people got on the bus at the terminal.", "50" },
	{ how_many, "It went down by 12 degrees in the night, and now the reading is -7.", "-7" },
	{ skilky, "Було дев'ять яблук, чотири віддали, отже тепер лишилося рівно 5.", "5" },
	{ skilky, "Разом це 12 000 гривень.", "12000" },
	{ free_text, "They had nine apples and gave away four, and so in the end they have 5 apples.", "" },
	{ which_date, "We count one day from the day that was given, so it is going to be 01/02/2024.", "1/2/2024" },
	{ which_date, "We count one day from the day that was given, so it is January 2, 2024.", "" },
	{ how_many, "```python\nprint(5)\n```", "" },
	{ how_many, "def f(n):\n    return n + 5\n", "" },
	{ free_text, "    return n + 5\n", "" },
	{ free_text, "SELECT a FROM b;", "" },
	{ free_text, "!!!", "" }, { free_text, "", "" }, { free_text, "2 + 3 = 5", "5" }, { free_text, "[1,4,9]", "1,4,9" },
	{ free_text, "[10,20,300]", "10,20,300" }, { how_many, "We do not know, but the answer is from 5 to 7.", "from 5 to 7" },
	{ which_date, "We do not know the month but the answer is day 5 of May.", "day 5 of may" },
	{ free_text, "50%", "50" }, { free_text, "05.06.2024", "5.6.2024" }, { free_text, "-3.10", "-3.1" }, { free_text, "-j50 ohms", "-j50 ohms" },
};

static void final_answers_are_found_and_alike(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof finals / sizeof *finals; i++) {
		struct scoring_question q = asks(finals[i].question);
		struct candidate c = says(finals[i].text);
		struct asked a;
		struct final f;
		asked_read(q.text, &a);
		final_of(&q, &a, &c, &f);
		if (!slice_is(slice_of(f.at, f.len), slice_text(finals[i].want)))
			fail_msg("\"%s\": \"%.*s\", not \"%s\"", finals[i].text, (int)f.len, f.at, finals[i].want);
	}
}

/* Any beginning of any of the texts above: no crash, no read past the end (each is copied into its own block). */
static void final_answers_survive_every_cut(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof finals / sizeof *finals; i++)
		for (size_t len = 0; len <= strlen(finals[i].text); len++) {
			char *text = malloc(len + 1), *question = strdup(finals[i].question);
			assert_non_null(text);
			memcpy(text + 1, finals[i].text, len);
			struct scoring_question q = asks(question);
			struct candidate c = { .text = slice_of(text + 1, len), .cut = len % 2 };
			struct asked a;
			struct final f;
			asked_read(q.text, &a);
			final_of(&q, &a, &c, &f);
			assert_true(f.len <= FINAL_MAX);
			free(question);
			free(text);
		}
}

static void tool_calls_are_read_in_either_dialect(void **state)
{
	uint64_t a = 0, b = 0;

	(void)state;
	assert_int_equal(json_calls(SLICE("{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}"), &a), 1);
	assert_int_equal(json_calls(SLICE("{\"type\":\"function\",\"function\":{\"arguments\":\"{\\\"x\\\": 1}\",\"name\":\"f\"}}"), &b), 1);
	assert_true(a == b);
	assert_int_equal(json_calls(SLICE("{\"function\":{\"name\":\"f\"}} , {\"function\":{\"name\":\"g\"}}"), &a), 2);
	assert_int_equal(json_calls(SLICE("{\"function\":{\"name\":\"g\",\"arguments\":{}}},{\"function\":{\"name\":\"f\"}}"), &b), 2);
	assert_true(a == b);
	assert_int_equal(json_calls(SLICE(""), &a), 0);
	assert_int_equal(json_calls(SLICE("{}"), &a), -1);
	assert_int_equal(json_calls(SLICE("{\"function\":{\"name\":\"\"}}"), &a), -1);
	assert_int_equal(json_calls(SLICE("{\"function\":{\"name\":\"f\"}},"), &a), -1);
	assert_int_equal(json_calls(SLICE("5"), &a), -1);
	char *deep = repeat("{\"function\":", 100000);
	assert_int_equal(json_calls(slice_text(deep), &a), -1);
	free(deep);
}

static void json_is_judged_as_jansson_does(void **state)
{
	static const char *const same[][2] = { { "{\"a\":1,\"b\":[true,null]}", " { \"b\" : [ true , null ] , \"a\" : 1.0 } " },
		{ "1e2", "100" }, { "-0", "0" }, { "\"\\u00e9\\n\"", "\"é\\u000a\"" }, { "\"\\ud83d\\ude42\"", "\"🙂\"" }, { "0.10", "0.1" } };
	static const char *const differ[][2] = { { "[1,2]", "[2,1]" }, { "{\"a\":1}", "{\"a\":2}" }, { "{}", "[]" }, { "1", "\"1\"" },
		{ "[[1],2]", "[[1,2]]" }, { "true", "false" }, { "{\"a\":\"b\"}", "{\"b\":\"a\"}" }, { "0.1", "0.2" } };
	static const char *const broken[] = { "", " ", "{", "}", "[1,]", "{\"a\"}", "{\"a\":}", "{a:1}", "01", "1.", ".5", "+1", "1e", "tru",
		"\"", "\"\\x\"", "\"\\u12\"", "[1] 2", "\"\n\"", "nul", "{\"a\":1,}", "'a'", "[1 2]", "-" };
	uint64_t a, b;

	(void)state;
	for (unsigned i = 0; i < sizeof same / sizeof *same; i++) {
		assert_true(json_hash(slice_text(same[i][0]), &a) && json_hash(slice_text(same[i][1]), &b));
		if (a != b)
			fail_msg("%s and %s", same[i][0], same[i][1]);
	}
	for (unsigned i = 0; i < sizeof differ / sizeof *differ; i++) {
		assert_true(json_hash(slice_text(differ[i][0]), &a) && json_hash(slice_text(differ[i][1]), &b));
		assert_true(a != b);
	}
	for (unsigned i = 0; i < sizeof broken / sizeof *broken; i++) {
		json_t *v = json_loads(broken[i], JSON_DECODE_ANY, NULL);
		assert_null(v);
		if (json_hash(slice_text(broken[i]), &a))
			fail_msg("taken for JSON: %s", broken[i]);
	}
	char *deep = repeat("[", 1 << 20);
	assert_false(json_hash(slice_text(deep), &a));
	free(deep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(final_answers_are_found_and_alike),
		cmocka_unit_test(final_answers_survive_every_cut),
		cmocka_unit_test(tool_calls_are_read_in_either_dialect),
		cmocka_unit_test(json_is_judged_as_jansson_does),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
