/* uses: proxy/base/buf.c proxy/base/err.c proxy/base/ask.c proxy/base/scan.c proxy/base/words.c proxy/base/words_lexicon.c proxy/base/words_bag.c proxy/base/words_lists.c proxy/base/words_alias.c proxy/base/words_map.c proxy/base/words_stem.c proxy/base/words_text.c proxy/base/words/ scoring/agreement.c scoring/alike.c scoring/asked.c scoring/complete.c scoring/consensus.c scoring/final.c scoring/json.c scoring/keywords.c scoring/length.c scoring/lines.c scoring/repetition.c scoring/structure.c */
/* libs: -ljansson -lhunspell -lstemmer -licuuc -lpthread -lm */
/* test_scoring.c - every criterion against values worked out by hand, in English and Ukrainian; the pick and its ties;
 * tools and JSON; large texts; every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static _Thread_local int allocs_left = -1;           /* -1: never fail */
static void *failing_calloc(size_t n, size_t size)
{
	return allocs_left >= 0 && allocs_left-- == 0 ? NULL : calloc(n, size);
}
static void *failing_malloc(size_t size)
{
	return allocs_left >= 0 && allocs_left-- == 0 ? NULL : malloc(size);
}
#define calloc failing_calloc
#define malloc failing_malloc
#include "proxy/base/arena.c"
#include "scoring/forbidden.c"
#include "scoring/scoring.c"
#undef calloc
#undef malloc

static struct lexicon *words;

static int open_words(void **state)
{
	struct lexicon_options o = { .languages = "uk,en" };
	char why[256] = "";

	(void)state;
	words = lexicon_open(&o, why, sizeof why);
	if (!words)
		print_error("%s\n", why);
	return words ? 0 : -1;
}

static int close_words(void **state)
{
	(void)state;
	lexicon_close(words);
	return 0;
}

static struct scoring *scoring_with(const struct scoring_options *o, const char *forbidden)
{
	struct scoring_options usual;
	struct scoring *s;

	scoring_options_init(&usual);
	assert_int_equal(scoring_new(o ? o : &usual, slice_text(forbidden), words, &s, NULL), ERR_OK);
	assert_non_null(s);
	return s;
}

static struct candidate says(const char *text)
{
	return (struct candidate){ .text = slice_text(text), .mean_logprob = NAN };
}

static struct scoring_question asks(const char *text)
{
	return (struct scoring_question){ .text = slice_text(text) };
}

/* Scores up to four texts with the usual options and checks one criterion. want < 0: not active. */
static void check_values(const struct scoring *s, const char *question, enum criterion k, int n, const char *const *texts,
                         const double *want)
{
	struct scoring_question q = asks(question);
	struct candidate c[8] = { 0 };
	struct score score[8];

	assert_in_range(n, 1, 8);
	for (int i = 0; i < n; i++)
		c[i] = says(texts[i]);
	assert_in_range(scoring_pick(s, &q, c, n, score), 0, n - 1);
	for (int i = 0; i < n; i++) {
		if (want[i] < 0)
			assert_false(score[i].active[k]);
		else
			assert_true(score[i].active[k]);
		if (want[i] >= 0 && !(fabs(score[i].value[k] - want[i]) <= 1e-3))
			fail_msg("%s of \"%.60s\": %g, not %g", criterion_info[k].name, texts[i], score[i].value[k], want[i]);
	}
}

#define CHECK(s, question, k, want, ...) do { \
	const char *const texts_[] = { __VA_ARGS__ }; \
	check_values(s, question, CRITERION_##k, (int)(sizeof texts_ / sizeof *texts_), texts_, want); \
} while (0)
#define WANT(...) ((const double[]){ __VA_ARGS__ })

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

/* ---- one criterion at a time ---- */

static void length_is_measured_by_the_median(void **state)
{
	char *a = repeat("x", 100), *b = repeat("x", 200), *c = repeat("x", 400);
	char *k = repeat("x", 1000), *l = repeat("x", 2600), *uk = repeat("ї", 200);
	struct scoring *s = scoring_with(NULL, "");

	(void)state;
	/* m = 200: lo 140, hi max(500, 260) */
	CHECK(s, "?", length, WANT(100 / 140.0, 1, 1), a, b, c);
	/* m = 1000: lo 700, hi 1300 */
	CHECK(s, "?", length, WANT(100 / 700.0, 1, 0.5), a, k, l);
	/* even number: m = 150, lo 105 */
	CHECK(s, "?", length, WANT(100 / 105.0, 1), a, b);
	/* characters, not bytes: 400 bytes of Ukrainian are 200 letters */
	CHECK(s, "?", length, WANT(1, 1, 1), b, uk, b);
	CHECK(s, "?", length, WANT(0, 1, 1), "", b, b);
	CHECK(s, "?", length, WANT(0, 0), "", " \n ");
	scoring_free(s);
	free(a), free(b), free(c), free(k), free(l), free(uk);
}

static void length_may_be_a_fixed_window(void **state)
{
	struct scoring_options o;
	char *a = repeat("x", 50), *b = repeat("x", 300), *k = repeat("x", 1000), *at = repeat("x", 500);

	(void)state;
	scoring_options_init(&o);
	o.length_relative = false;
	struct scoring *s = scoring_with(&o, "");
	CHECK(s, "?", length, WANT(0.5, 1, 0.5, 1), a, b, k, at);
	o.length_min = o.length_max = 0;
	struct scoring *zero = scoring_with(&o, "");
	CHECK(zero, "?", length, WANT(0, 0), a, b);
	scoring_free(zero);
	scoring_free(s);
	free(a), free(b), free(k), free(at);
}

static void keywords_are_found_in_any_form(void **state)
{
	struct scoring *s = scoring_with(NULL, "");

	(void)state;
	CHECK(s, "Which planets have rings?", keywords, WANT(1, 0.5, 0), "Rings are round several planets.",
	      "A planet is large.", "I like tea.");
	CHECK(s, "Яка столиця України?", keywords, WANT(1, 0.5, 0), "Столицею України є Київ.", "Київ — столиця.",
	      "Не скажу.");
	CHECK(s, "", keywords, WANT(1, 1), "anything", "");
	CHECK(s, "?!", keywords, WANT(1, 1), "anything", "");
	scoring_free(s);
}

static void keywords_of_a_long_question_are_those_of_its_beginning(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	char *more = repeat("and so on and so forth ", 60), *question = NULL;

	(void)state;
	assert_true(asprintf(&question, "volcano glacier %s", more) > 0);
	struct words *w;
	struct arena a;
	arena_init(&a, WORDS_ARENA);
	w = words_of(words, slice_text(question), &a);
	assert_int_equal(w->skip, WORDS_LONG);               /* or this test tests nothing */
	arena_fini(&a);

	struct scoring_question q = asks(question);
	struct candidate c[2] = { says("A volcano under a glacier."), says("Tea.") };
	struct score score[2];
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 0);
	assert_true(score[0].value[CRITERION_keywords] > score[1].value[CRITERION_keywords]);
	assert_true(score[1].value[CRITERION_keywords] < 1e-9);
	scoring_free(s);
	free(question);
	free(more);
}

static void structure_adds_up(void **state)
{
	struct scoring *s = scoring_with(NULL, "");

	(void)state;
	CHECK(s, "?", structure, WANT(0, 0.4, 0.4, 0), "Plain.", "- one\n- two", "1. раз\n2) два", "- only one");
	CHECK(s, "?", structure, WANT(0.2, 0.2, 0.2, 0), "# Title\ntext", "a **bold** word", "a\n\nb", "a\nb\n\n");
	CHECK(s, "?", structure, WANT(0.2, 0.2, 1, 0), "```c\n- a\n- b\n\n# c\n```", "|a|b|\n|---|---|\n|1|2|",
	      "## Заголовок\n\n- а\n- б\n\n```\nx\n```\n", "2 ** 3 ** 4 is not bold, #tag no title");
	scoring_free(s);
}

static void forbidden_words_halve(void **state)
{
	struct scoring *s = scoring_with(NULL, "# a comment\ncasino\nbad luck\r\n\n  Казино\nвільний час\nC++\nодин два три\n");

	(void)state;
	CHECK(s, "?", forbidden, WANT(1, 0.5, 0.25, 1), "Fine.", "The CASINO, the casino!", "Casino and bad, luck",
	      "casinos are other words; bad good luck");
	CHECK(s, "?", forbidden, WANT(0.5, 0.5, 0.25, 1), "КАЗИНО!", "у вільний  час", "казино й вільний\nчас",
	      "вільний від часу, казиношний; a comment");
	CHECK(s, "?", forbidden, WANT(0.5, 1, 1), "Раз: один, два, три.", "один два", "два три один два");
	scoring_free(s);
	s = scoring_with(NULL, "");
	CHECK(s, "?", forbidden, WANT(1, 1), "casino", "");
	scoring_free(s);
}

static void forbidden_lines_without_a_word_are_told(void **state)
{
	struct scoring_options o;
	struct scoring *s;
	unsigned skipped = 99;

	(void)state;
	scoring_options_init(&o);
	assert_int_equal(scoring_new(&o, SLICE("---\n# !!\nword\n...\n"), words, &s, &skipped), ERR_OK);
	assert_int_equal(skipped, 2);
	scoring_free(s);
}

static void forbidden_lists_have_limits(void **state)
{
	struct scoring_options o;
	struct scoring *s;
	char *phrase = repeat("w ", FORBIDDEN_WORDS), *longer = repeat("w ", FORBIDDEN_WORDS + 1);

	(void)state;
	scoring_options_init(&o);
	assert_int_equal(scoring_new(&o, slice_text(phrase), words, &s, NULL), ERR_OK);
	scoring_free(s);
	assert_int_equal(scoring_new(&o, slice_text(longer), words, &s, NULL), ERR_TOO_LARGE);
	assert_null(s);
	assert_int_equal(scoring_new(&o, slice_of(phrase, FORBIDDEN_BYTES + 1u), words, &s, NULL), ERR_TOO_LARGE);
	assert_null(s);
	free(phrase);
	free(longer);
}

static void ten_thousand_forbidden_phrases(void **state)
{
	struct buf list;
	char text[200];

	(void)state;
	buf_init(&list, FORBIDDEN_BYTES);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(buf_addf(&list, i % 2 ? "слово%d друге\n" : "word%d\n", i), ERR_OK);
	assert_int_equal(buf_add(&list, "", 1), ERR_OK);
	struct scoring *s = scoring_with(NULL, list.at);
	assert_int_equal(s->forbidden->phrases, 10000);
	snprintf(text, sizeof text, "Початок word0, Слово9999 друге; word9998 слово1 перше word1 слово9998 кінець");
	CHECK(s, "?", forbidden, WANT(0.125, 1, 1), text, "слово9999", "друге слово1");
	scoring_free(s);
	buf_fini(&list);
}

static void consensus_prefers_the_middle(void **state)
{
	struct scoring *s = scoring_with(NULL, "");

	(void)state;
	/* Jaccard: AB 4/5, AC 1/7, BC 1/8; cosine: AB 4/(2√5), AC 1/4, BC 1/(2√5); then stretched */
	CHECK(s, "?", consensus, WANT(1, 0.9671, 0), "alpha beta gamma delta", "alpha beta gamma delta epsilon",
	      "alpha chi psi omega");
	/* the same sets, other counts: Jaccard AB 1, AC and BC 1/2; cosine AB 4/√20, AC 1/√10, BC 1/√2 */
	CHECK(s, "?", consensus, WANT(0.662, 1, 0), "alpha alpha alpha beta", "alpha beta", "beta");
	CHECK(s, "?", consensus, WANT(1, 1, 0), "Київ — столиця", "київ столиця", "не знаю");
	CHECK(s, "?", consensus, WANT(1, 1, 1), "same words", "same words", "same words");
	CHECK(s, "?", consensus, WANT(1, 1), "one", "two");
	CHECK(s, "?", consensus, WANT(1, 1, 1), "", "", "");
	CHECK(s, "?", consensus, WANT(0, 1, 1), "", "some words", "some words");
	scoring_free(s);
}

static void incomplete_answers_show(void **state)
{
	static const struct { const char *text; double want; } cases[] = {
		{ "", 0 }, { "```c\nint a;", 0 }, { "~~~\ncode\n```\n", 0 }, { "```c\nint a;\n```", 1 },
		{ "This is a whole sentence.", 1 }, { "Це ціле речення!", 1 }, { "Це ціле речення…", 1 }, { "Kilogram", 1 }, { "A title of some seven words", 1 }, { "Київ", 1 },
		{ "The first sentence ends. The second one goes on without", 0.3 },
		{ "Перше речення є. Друге речення обривається на середині", 0.3 },
		{ "We list these three:", 0.3 }, { "one, two,", 0.3 }, { "x =", 0.3 },
		{ "This sentence is rather long and has no full stop inside it but it also does not", 0.3 },
		{ "- milk\n- bread\n- eggs", 1 }, { "- We went home.\n- We ate well.\n- We slept and then", 0.3 },
		{ "Roses are red\nViolets are blue\nSugar is sweet\nAnd so are you", 1 },
		{ "See https://example.org/a/b", 1 }, { "Good luck! 🙂", 1 }, { "**Відповідь: 5**", 1 },
		{ "{\"a\": 1, \"b\": [1, 2", 0.3 }, { "{\"a\": 1}", 1 }, { "    return total", 1 }, { "Все добре 👍🏽", 1 },
	};
	struct scoring *s = scoring_with(NULL, "");

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		CHECK(s, "?", complete, WANT(cases[i].want, 1), cases[i].text, "A whole one.");
	scoring_free(s);
}

static void repetition_counts_runs_and_sees_loops(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	char *loop = repeat("I am sorry. ", 40), *marks = repeat("#", 300), *page = repeat("Рядок слів без кінця. ", 2000);
	char *fresh = NULL;

	(void)state;
	/* 5 runs, 4 of them different: share 0.2; 9 runs, 4 different: 5/9 */
	CHECK(s, "?", repetition, WANT(1, 1, 1 - (5 / 9.0 - 0.2) / 0.8), "three words only",
	      "one two three four one two three four", "one two three four one two three four one two three four");
	assert_true(asprintf(&fresh, "A long and varied beginning with many words of all kinds, which says a lot. %s", marks) > 0);
	CHECK(s, "?", repetition, WANT(0.2, 0.2), marks, fresh);
	/* a sentence said three times at the end is no loop: of 49 runs of four, 7 + 7 within it and 3 across come again */
	CHECK(s, "?", repetition, WANT(1 - (17 / 49.0 - 0.2) / 0.8, 1),
	      "a1 a2 a3 a4 a5 a6 a7 a8 a9 b1 b2 b3 b4 b5 b6 b7 b8 b9 c1 c2 c3 c4 "
	      "some-what longish-words follow-now, and they-are said. some-what longish-words follow-now, and they-are said. "
	      "some-what longish-words follow-now, and they-are said.", "x");
	struct scoring_question q = asks("?");
	struct candidate c[2] = { says(loop), says(page) };
	struct score score[2];
	scoring_pick(s, &q, c, 2, score);
	assert_true(score[0].value[CRITERION_repetition] <= 0.2);
	assert_true(score[1].value[CRITERION_repetition] <= 0.2);
	scoring_free(s);
	free(loop), free(marks), free(page), free(fresh);
}

/* ---- agreement ---- */

static const char choice_en[] = "Which is a planet?\nA. Sun\nB. Mars\nC. Moon\nD. Ceres";
static const char choice_uk[] = "Що з цього планета?\nА) Сонце\nБ) Марс\nВ) Місяць";
static const char how_many[] = "How many apples are left?";
static const char skilky[] = "Скільки яблук лишилося?";
static const char free_text[] = "Tell me about apples.";
static const char which_date[] = "What is the date tomorrow? Format MM/DD/YYYY.";

static void agreement_is_the_share_of_the_others(void **state)
{
	struct scoring *s = scoring_with(NULL, "");

	(void)state;
	CHECK(s, how_many, agreement, WANT(0.5, 0, 0.5), "The answer is 5.", "The answer is 6.", "The answer is 5 apples.");
	CHECK(s, skilky, agreement, WANT(1, 1, 1), "Відповідь: 5", "відповідь — 5 яблук", "5");
	CHECK(s, how_many, agreement, WANT(0, 0), "5", "6");
	/* two of four have one: half is enough; one of three is not */
	CHECK(s, free_text, agreement, WANT(1 / 3.0, 1 / 3.0, 0, 0), "Kyiv", "kyiv.",
	      "A text that has no final answer, only many words.", "Another text that has none, with as many words in it.");
	CHECK(s, free_text, agreement, WANT(-1, -1, -1, -1, -1), "Kyiv", "Kyiv",
	      "A text that has no final answer, only many words.", "Another text that has none, with as many words in it.",
	      "A third text that has none, with as many words in it.");
	CHECK(s, free_text, agreement, WANT(-1, -1, -1), "Kyiv", "A text that has no final answer, only many words.",
	      "Another text that has none, with as many words in it.");
	scoring_free(s);
}

static void agreement_ends_the_wait(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks(how_many);
	struct candidate c[3] = { says("The answer is 5."), says("The answer is 6."), says("So 5 apples.") };

	(void)state;
	assert_false(scoring_agreed(s, &q, c, 0));
	assert_false(scoring_agreed(s, &q, c, 1));
	assert_false(scoring_agreed(s, &q, c, 2));
	assert_true(scoring_agreed(s, &q, c, 3));
	c[2].failed = true;
	assert_false(scoring_agreed(s, &q, c, 3));
	/* free text never does, even the same text twice */
	q = asks(free_text);
	c[0] = c[1] = says("A text that has no final answer, only many words, twice the same.");
	assert_false(scoring_agreed(s, &q, c, 2));
	/* the short end of an answer that was cut off says nothing */
	c[0] = c[1] = says("Kyiv");
	assert_true(scoring_agreed(s, &q, c, 2));
	c[1].cut = true;
	assert_false(scoring_agreed(s, &q, c, 2));
	scoring_free(s);
}

/* ---- the pick ---- */

static void the_majority_wins(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks(skilky);
	struct candidate c[3] = { says("Спершу було 9, віддали 3. Відповідь: 6."), says("Спершу було 9, віддали 4. Відповідь: 5."),
		says("Було 9 яблук, віддали 4 яблука. Відповідь: 5.") };
	struct score score[3];

	(void)state;
	assert_int_not_equal(scoring_pick(s, &q, c, 3, score), 0);
	for (int i = 0; i < 3; i++) {
		double sum = 0, weights = 0;
		for (int k = 0; k < CRITERIA; k++)
			if (score[i].active[k]) {
				sum += criterion_info[k].weight * score[i].value[k];
				weights += criterion_info[k].weight;
			}
		assert_true(fabs(score[i].total - sum / weights) < 1e-12);
		assert_true(fabs(weights - 1) < 1e-12);          /* all are active here, and the defaults sum to 1 */
	}
	scoring_free(s);
}

static void ties_go_to_the_surer_then_to_the_first(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks("?");
	struct candidate c[3] = { says("The same."), says("The same."), says("The same.") };
	struct score score[3];

	(void)state;
	assert_int_equal(scoring_pick(s, &q, c, 3, score), 0);
	c[0].mean_logprob = -0.9;
	c[1].mean_logprob = -0.3;
	c[2].mean_logprob = -0.3;
	assert_int_equal(scoring_pick(s, &q, c, 3, score), 1);
	c[0].mean_logprob = NAN;
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 0);
	c[0].mean_logprob = -INFINITY;
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 0);
	c[0].failed = true;
	assert_int_equal(scoring_pick(s, &q, c, 3, score), 1);
	scoring_free(s);
}

static void the_failed_are_out(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks("?");
	struct candidate c[3] = { says("A fine and complete answer."), says(""), says("Another fine answer.") };
	struct score score[3];

	(void)state;
	assert_int_equal(scoring_pick(s, &q, c, 0, score), -1);
	c[0].failed = c[1].failed = c[2].failed = true;
	assert_int_equal(scoring_pick(s, &q, c, 3, score), -1);
	for (int i = 0; i < 3; i++)
		assert_true(score[i].total == 0 && !score[i].active[CRITERION_complete]);
	c[1].failed = false;                                 /* one survivor, even an empty one */
	assert_int_equal(scoring_pick(s, &q, c, 3, score), 1);
	assert_false(score[1].active[CRITERION_agreement]);
	c[2].failed = false;
	assert_int_equal(scoring_pick(s, &q, c, 3, score), 2);
	scoring_free(s);
}

static void the_cut_off_lose(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks("Why is the sky blue?");
	struct candidate c[2] = { says("The sky is blue because light is scattered by air."),
		says("The sky is blue because light is scattered by air.") };
	struct score score[2];

	(void)state;
	c[0].cut = true;
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 1);
	assert_true(score[0].value[CRITERION_complete] == 0 && score[1].value[CRITERION_complete] == 1);
	c[1].cut = true;
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 0);
	c[0].text = SLICE("I cannot");
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 1);
	scoring_free(s);
}

static void weights_are_obeyed_and_never_make_nan(void **state)
{
	struct scoring_question q = asks("?");
	struct candidate c[2] = { says("Plain text, whole and without any ornament."), says("- one\n- two\n\n**b**") };
	struct score score[2];
	struct scoring_options o;
	struct scoring *s;

	(void)state;
	scoring_options_init(&o);
	for (int k = 0; k < CRITERIA; k++)
		o.weight[k] = 0;
	s = scoring_with(&o, "");
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 0);
	assert_true(score[0].total == 0 && score[1].total == 0);
	scoring_free(s);
	o.weight[CRITERION_structure] = 1;
	o.weight[CRITERION_length] = NAN;
	o.weight[CRITERION_complete] = -5;
	o.weight[CRITERION_keywords] = INFINITY;
	s = scoring_with(&o, "");
	assert_int_equal(scoring_pick(s, &q, c, 2, score), 1);
	assert_true(fabs(score[1].total - 0.8) < 1e-9);
	scoring_free(s);
}

static void every_value_is_between_nothing_and_one(void **state)
{
	static const char *const texts[] = { "", " ", "\n\n", "a", "\xff\xfe\x80", "```", "````\n```", "\\boxed{", "\"answer\":", "####",
		"answer is", "Відповідь:", "{", "[", "()", "0", "-", "🙂", "й", "\xd0", "answer is \xd0", "|-|", "A)", "1,", "1,234,", "\\" };
	static const int n = sizeof texts / sizeof *texts;
	static const char *const questions[] = { "", "?", choice_en, choice_uk, how_many, which_date, "\xd0", "A. \nB. " };
	struct scoring *s = scoring_with(NULL, "a\n🙂\n");

	(void)state;
	for (unsigned k = 0; k < sizeof questions / sizeof *questions; k++)
		for (int format = 0; format < 2; format++) {
			struct scoring_question q = asks(questions[k]);
			struct candidate c[CANDIDATES_MAX];
			struct score score[CANDIDATES_MAX];
			q.format = format;
			for (int i = 0; i < n; i++)
				c[i] = says(texts[i]);
			assert_in_range(scoring_pick(s, &q, c, n, score), 0, n - 1);
			for (int i = 0; i < n; i++) {
				assert_true(score[i].total >= 0 && score[i].total <= 1);
				for (int j = 0; j < CRITERIA; j++)
					assert_true(score[i].value[j] >= 0 && score[i].value[j] <= 1);
			}
			scoring_agreed(s, &q, c, n);
		}
	scoring_free(s);
}

/* ---- tools and JSON ---- */

static struct candidate calls(const char *items)
{
	return (struct candidate){ .tool_calls = slice_text(items), .mean_logprob = NAN };
}

static void tool_calls_agree_by_name_and_arguments(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = { .text = SLICE("Weather in Kyiv?"), .tools = true };
	struct candidate c[4] = {
		calls("{\"id\":\"call_1\",\"function\":{\"name\":\"weather\",\"arguments\":{\"city\":\"Kyiv\",\"days\":2}}}"),
		calls("{\"function\":{\"index\":0,\"name\":\"weather\",\"arguments\":{\"days\": 2.0, \"city\":\"K\\u0079iv\"}}}"),
		calls("{\"function\":{\"name\":\"weather\",\"arguments\":{\"city\":\"Lviv\",\"days\":2}}}"),
		says("I do not know the weather there, I am afraid."),
	};
	struct score score[4];

	(void)state;
	assert_int_equal(scoring_pick(s, &q, c, 4, score), 0);
	assert_true(fabs(score[0].value[CRITERION_agreement] - 1 / 3.0) < 1e-9);
	assert_true(fabs(score[1].value[CRITERION_agreement] - 1 / 3.0) < 1e-9);
	assert_true(score[2].value[CRITERION_agreement] == 0 && score[3].value[CRITERION_agreement] == 0);
	for (int i = 0; i < 4; i++) {
		assert_false(score[i].active[CRITERION_length]);
		assert_false(score[i].active[CRITERION_structure]);
		assert_false(score[i].active[CRITERION_consensus]);
		assert_true(score[i].active[CRITERION_agreement]);
		assert_true(score[i].value[CRITERION_complete] == 1);
	}
	assert_true(scoring_agreed(s, &q, c, 2));
	c[1].cut = true;
	assert_false(scoring_agreed(s, &q, c, 2));
	c[1].cut = false;
	c[1].tool_calls = SLICE("{\"function\":{\"name\":\"weather\",\"arguments\":{\"city\":");
	assert_false(scoring_agreed(s, &q, c, 3));
	scoring_pick(s, &q, c, 4, score);
	assert_true(score[1].value[CRITERION_complete] == 0);
	/* nobody calls: an ordinary round */
	c[0] = c[1] = says("It is warm in Kyiv today, and dry.");
	scoring_pick(s, &q, c, 2, score);
	assert_true(score[0].active[CRITERION_length] && score[0].active[CRITERION_consensus]);
	scoring_free(s);
}

static void a_format_is_judged_as_json(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = { .text = SLICE("How many? JSON please."), .format = true };
	struct candidate c[3] = { says("{\"n\": 5"), says("{\"n\": 5, \"unit\": \"kg\"}"), says("{\"unit\":\"kg\",\"n\":5.0}\n") };
	struct score score[3];

	(void)state;
	assert_int_not_equal(scoring_pick(s, &q, c, 3, score), 0);
	assert_true(score[0].value[CRITERION_complete] == 0 && score[1].value[CRITERION_complete] == 1);
	assert_true(score[0].value[CRITERION_agreement] == 0);
	assert_true(score[1].value[CRITERION_agreement] == 0.5 && score[2].value[CRITERION_agreement] == 0.5);
	assert_false(score[0].active[CRITERION_length] || score[0].active[CRITERION_structure] || score[0].active[CRITERION_keywords]);
	assert_true(scoring_agreed(s, &q, c + 1, 2));
	c[2].cut = true;
	assert_false(scoring_agreed(s, &q, c + 1, 2));
	c[1] = says("{\"why\": \"so\", \"answer\": \"5 kg\"}");
	c[2] = says("{\"why\": \"for another reason\", \"answer\": 5}");
	assert_true(scoring_agreed(s, &q, c + 1, 2));
	scoring_free(s);
}

/* ---- the explanation ---- */

static void the_explanation_is_one_line_of_json(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks(how_many);
	struct candidate c[3] = { says("Відповідь: 5"), says("x"), says("The answer is 5.") };
	struct score score[3];
	struct buf out;

	(void)state;
	c[1].failed = true;
	int best = scoring_pick(s, &q, c, 3, score);
	buf_init(&out, 1 << 16);
	assert_int_equal(buf_put(&out, SLICE("before:")), ERR_OK);
	assert_int_equal(scoring_explain(score, c, 3, best, &out), ERR_OK);
	json_t *v = json_loadb(out.at + 7, out.len - 7, 0, NULL);
	assert_non_null(v);
	assert_int_equal(json_integer_value(json_object_get(v, "winner")), best + 1);
	json_t *list = json_object_get(v, "candidates");
	assert_int_equal(json_array_size(list), 3);
	assert_true(json_is_null(json_array_get(list, 1)));
	for (int k = 0; k < CRITERIA; k++)
		assert_true(fabs(json_number_value(json_object_get(json_array_get(list, 2), criterion_info[k].name)) -
		                 score[2].value[k]) < 1e-3);
	for (size_t i = 0; i < out.len; i++)
		assert_in_range((unsigned char)out.at[i], 0x20, 0x7e);
	json_decref(v);
	buf_fini(&out);

	buf_init(&out, 40);                                  /* no room: left as it was */
	assert_int_equal(scoring_explain(score, c, 3, best, &out), ERR_TOO_LARGE);
	assert_int_equal(out.len, 0);
	buf_fini(&out);
	scoring_free(s);
}

static void the_explanation_is_bounded(void **state)
{
	struct scoring *s = scoring_with(NULL, "");
	struct scoring_question q = asks(how_many);
	struct candidate c[CANDIDATES_MAX];
	struct score score[CANDIDATES_MAX];
	struct buf out;

	(void)state;
	for (int i = 0; i < CANDIDATES_MAX; i++)
		c[i] = says(i % 3 ? "The answer is 5." : "Some other text altogether");
	int best = scoring_pick(s, &q, c, CANDIDATES_MAX, score);
	buf_init(&out, 1 << 20);
	assert_int_equal(scoring_explain(score, c, CANDIDATES_MAX, best, &out), ERR_OK);
	assert_in_range(out.len, EXPLAIN_BYTES / 2, EXPLAIN_BYTES);
	json_t *v = json_loadb(out.at, out.len, 0, NULL);
	assert_non_null(v);
	assert_int_equal(json_array_size(json_object_get(v, "candidates")) +
	                 (size_t)json_integer_value(json_object_get(v, "left_out")), CANDIDATES_MAX);
	json_decref(v);
	buf_fini(&out);
	scoring_free(s);
}

/* ---- large, many, out of memory ---- */

static void a_megabyte_is_scored(void **state)
{
	struct scoring *s = scoring_with(NULL, "w1 w2 w3\nнемає\n");
	struct scoring_question q = asks(skilky);
	struct candidate c[6];
	struct score score[6];
	struct buf varied;
	char *same = repeat("a", 1 << 20), *space = repeat("\n", 1 << 20), *braces = repeat("\\boxed{", 1 << 17);
	char *answers = repeat("answer ", 1 << 17), *ticks = repeat("```\n", 1 << 18);

	(void)state;
	buf_init(&varied, 2 << 20);
	for (unsigned i = 0; varied.len < 1 << 20; i++)
		assert_int_equal(buf_addf(&varied, "слово%u ", i * 2654435761u), ERR_OK);
	assert_int_equal(buf_addf(&varied, "Відповідь: 5.%c", 0), ERR_OK);
	c[0] = says(varied.at);
	c[1] = says(same);
	c[2] = says(space);
	c[3] = says(braces);
	c[4] = says(answers);
	c[5] = says(ticks);
	assert_int_not_equal(scoring_pick(s, &q, c, 6, score), 2);
	assert_true(score[0].value[CRITERION_complete] == 1);
	assert_true(score[0].value[CRITERION_repetition] == 1);
	assert_true(score[1].value[CRITERION_repetition] <= 0.2);
	assert_true(score[2].value[CRITERION_complete] == 0);
	assert_true(score[4].value[CRITERION_repetition] <= 0.2);
	assert_false(scoring_agreed(s, &q, c, 6));
	c[5] = says("Порахували все. Відповідь: 5");
	assert_true(scoring_agreed(s, &q, c, 6));
	scoring_free(s);
	buf_fini(&varied);
	free(same), free(space), free(braces), free(answers), free(ticks);
}

static void a_pick_survives_every_failed_allocation(void **state)
{
	struct scoring_options o;
	struct scoring_question q = asks("Яка столиця України і скільки там людей?");
	struct candidate c[3] = { says("Київ, три мільйони людей."), says("Столиця України — Київ."), says("Львів") };
	struct score score[3];
	int n = 0, left_out = 0;
	bool whole = false;

	(void)state;
	scoring_options_init(&o);
	for (; !whole; n++) {
		struct scoring *s;
		assert_true(n < 1000);
		allocs_left = n;
		enum err e = scoring_new(&o, SLICE("одне слово\nдруге\n"), words, &s, NULL);
		if (e) {
			assert_int_equal(e, ERR_NO_MEMORY);
			assert_null(s);
			continue;
		}
		int best = scoring_pick(s, &q, c, 3, score);
		whole = allocs_left >= 0;
		allocs_left = -1;
		assert_in_range(best, 0, 2);
		for (int i = 0; i < 3; i++) {
			assert_true(score[i].total >= 0 && score[i].total <= 1);
			for (int k = 0; k < CRITERIA; k++)
				assert_int_equal(score[i].active[k], score[0].active[k]);
		}
		left_out += !score[0].active[CRITERION_consensus] || !score[0].active[CRITERION_keywords];
		scoring_free(s);
	}
	allocs_left = -1;
	assert_true(n > 3);
	assert_true(left_out > 0);
}

struct worker {
	const struct scoring *scoring;
	int best;
	double total;
};

static void *pick_often(void *arg)
{
	struct worker *w = arg;
	struct scoring_question q = asks(skilky);
	struct candidate c[3] = { says("Було 9, віддали 3. Відповідь: 6."), says("Було 9, віддали 4. Відповідь: 5."),
		says("Яблук було 9, віддали 4. Відповідь: 5.") };
	struct score score[3];

	for (int i = 0; i < 50; i++) {
		w->best = scoring_pick(w->scoring, &q, c, 3, score);
		w->total = score[w->best].total;
	}
	return NULL;
}

static void threads_share_one_scoring(void **state)
{
	enum { THREADS = 4 };
	struct scoring *s = scoring_with(NULL, "заборонене слово\n");
	struct worker w[THREADS];
	pthread_t t[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .scoring = s, .best = -1 };
		assert_int_equal(pthread_create(&t[i], NULL, pick_often, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_true(w[i].best > 0 && w[i].best == w[0].best && w[i].total == w[0].total);
	scoring_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(length_is_measured_by_the_median),
		cmocka_unit_test(length_may_be_a_fixed_window),
		cmocka_unit_test(keywords_are_found_in_any_form),
		cmocka_unit_test(keywords_of_a_long_question_are_those_of_its_beginning),
		cmocka_unit_test(structure_adds_up),
		cmocka_unit_test(forbidden_words_halve),
		cmocka_unit_test(forbidden_lines_without_a_word_are_told),
		cmocka_unit_test(forbidden_lists_have_limits),
		cmocka_unit_test(ten_thousand_forbidden_phrases),
		cmocka_unit_test(consensus_prefers_the_middle),
		cmocka_unit_test(incomplete_answers_show),
		cmocka_unit_test(repetition_counts_runs_and_sees_loops),
		cmocka_unit_test(agreement_is_the_share_of_the_others),
		cmocka_unit_test(agreement_ends_the_wait),
		cmocka_unit_test(the_majority_wins),
		cmocka_unit_test(ties_go_to_the_surer_then_to_the_first),
		cmocka_unit_test(the_failed_are_out),
		cmocka_unit_test(the_cut_off_lose),
		cmocka_unit_test(weights_are_obeyed_and_never_make_nan),
		cmocka_unit_test(every_value_is_between_nothing_and_one),
		cmocka_unit_test(tool_calls_agree_by_name_and_arguments),
		cmocka_unit_test(a_format_is_judged_as_json),
		cmocka_unit_test(the_explanation_is_one_line_of_json),
		cmocka_unit_test(the_explanation_is_bounded),
		cmocka_unit_test(a_megabyte_is_scored),
		cmocka_unit_test(a_pick_survives_every_failed_allocation),
		cmocka_unit_test(threads_share_one_scoring),
	};
	return cmocka_run_group_tests(tests, open_words, close_words);
}
