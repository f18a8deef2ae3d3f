/* uses: cache/guards.c proxy/base/words.c proxy/base/words_lexicon.c proxy/base/words_text.c proxy/base/words_stem.c proxy/base/words_lists.c
 * proxy/base/words_alias.c proxy/base/words_map.c proxy/base/words_pack.c proxy/base/words_bag.c proxy/base/words/
 * proxy/base/arena.c proxy/base/buf.c proxy/base/err.c cache/near.c cache/key.c */
/* libs: -licuuc -lhunspell -lstemmer -ljansson -lnettle -lm */
/* test_similar.c - how alike, hit or not, on the project's own pairs; and that the index cannot miss what passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache/key.h"
#include "cache/near.h"
#include "cache/similar.c"
#include "tests/unit/torture.h"

static struct lexicon *lexicon;

static int open_all(void **state)
{
	struct lexicon_options o = { 0 };
	char why[256];

	(void)state;
	lexicon = lexicon_open(&o, why, sizeof why);
	return !lexicon;
}

static int close_all(void **state)
{
	(void)state;
	lexicon_close(lexicon);
	return 0;
}

static void judge(enum guards mode, double threshold, const char *a, const char *b, struct verdict *v)
{
	struct words *w, *x;
	struct arena arena;

	arena_init(&arena, 2 * WORDS_ARENA);
	w = words_of(lexicon, slice_text(a), &arena);
	x = words_of(lexicon, slice_text(b), &arena);
	assert_non_null(w);
	assert_non_null(x);
	similar_judge(mode, threshold, w, x, v);
	arena_fini(&arena);
}

static void the_mission(void **state)
{
	static const char *const asked[] = { "Які є факультети в ХДУ?", "Скільки факультетів у Херсонському університеті?",
		"Які факультети є в ХДУ?" };
	struct verdict v;

	(void)state;
	for (int mode = GUARDS_STRICT; mode <= GUARDS_OFF; mode++) {
		for (int i = 0; i < 3; i++) {
			for (int j = 0; j < 3; j++) {
				judge((enum guards)mode, 0.7, asked[i], asked[j], &v);
				assert_true(v.hit);
			}
		}
	}
	judge(GUARDS_STRICT, 0.7, asked[0], asked[1], &v);
	assert_float_equal(v.similarity, 12.0 / 13, 1e-6);      /* a word of the alias is left over, a quarter's weight */
	judge(GUARDS_STRICT, 0.7, asked[0], asked[2], &v);
	assert_float_equal(v.similarity, 1, 1e-6);
	judge(GUARDS_OFF, 0.7, asked[0], asked[1], &v);
	assert_float_equal(v.similarity, 3.0 / 4, 1e-6);
	judge(GUARDS_STRICT, 0.95, asked[0], asked[1], &v);
	assert_false(v.near);
	assert_false(v.hit);
	assert_int_equal(v.guard, GUARD_NONE);
}

static void own_pairs(void **state)
{
	FILE *f = fopen("tests/quality/own_pairs.tsv", "re");
	unsigned same = 0, different = 0, hits[3] = { 0 }, wrong[3] = { 0 };
	char line[1024];

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		char *label = strtok(line, "\t\n"), *lang = strtok(NULL, "\t\n"), *a = strtok(NULL, "\t\n"), *b = strtok(NULL, "\t\n");

		if (*label == '#')
			continue;
		assert_non_null(b);
		assert_true(!strcmp(lang, "uk") || !strcmp(lang, "en"));
		same += *label == '1';
		different += *label == '0';
		for (int mode = GUARDS_STRICT; mode <= GUARDS_OFF; mode++) {
			struct verdict v;

			judge((enum guards)mode, 0.7, a, b, &v);
			if (*label == '1')
				hits[mode] += v.hit;
			else
				wrong[mode] += v.hit;
			if (mode == GUARDS_STRICT && *label == '0' && v.hit)
				print_error("wrong hit: %s | %s\n", a, b);
		}
	}
	fclose(f);
	assert_true(same >= 40 && different >= 50);
	assert_int_equal(wrong[GUARDS_STRICT], 0);
	assert_true(hits[GUARDS_STRICT] * 10 >= same * 9);
	assert_true(wrong[GUARDS_STANDARD] <= 2);              /* it allows a word more on one side */
	assert_true(hits[GUARDS_STANDARD] >= hits[GUARDS_STRICT]);
	assert_true(wrong[GUARDS_OFF] > 10);                    /* they are traps: similarity alone falls into them */
}

/* The task's words: with off a lower threshold gives more hits, a higher one fewer. */
static void off_is_plain_jaccard(void **state)
{
	static const double expect[] = { 3.0 / 5, 1, 0, 1 };
	static const struct {
		const char *a, *b;
	} t[] = {
		{ "смачний червоний борщ удома", "смачний зелений борщ удома" }, { "Як увімкнути газ?", "Чому увімкнути газ не можна?" },
		{ "борщ", "узвар" }, { "What is the weather today?", "How is the weather today?" },
	};
	struct verdict v;

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		unsigned last = 1;

		for (double threshold = 0.05; threshold < 1.01; threshold += 0.05) {
			judge(GUARDS_OFF, threshold, t[i].a, t[i].b, &v);
			assert_float_equal(v.similarity, expect[i], 1e-6);
			assert_int_equal(v.guards, 0);
			assert_int_equal(v.hit, v.similarity >= threshold);
			assert_true(v.hit <= last);
			last = v.hit;
		}
	}
	judge(GUARDS_STRICT, 0.7, t[3].a, t[3].b, &v);
	assert_int_equal(v.skip, WORDS_VOLATILE);
	judge(GUARDS_OFF, 0, "борщ", "узвар", &v);
	assert_false(v.hit);                                    /* nothing in common is never a hit */
	judge(GUARDS_OFF, 0.7, "і та або", "і та або", &v);
	assert_false(v.hit);
	judge(GUARDS_STRICT, 0.7, "і та або", "і та або", &v);
	assert_int_equal(v.skip, WORDS_EMPTY);
}

static bool forgives(const char *a, const char *b)
{
	struct verdict v, back;

	judge(GUARDS_STRICT, 0.7, a, b, &v);
	judge(GUARDS_STRICT, 0.7, b, a, &back);
	assert_int_equal(v.hit, back.hit);
	assert_true(!v.hit || v.pairing.typo >= 0);
	return v.hit;
}

static void rule_11_typos(void **state)
{
	(void)state;
	assert_true(forgives("Які факультети має університет?", "Які фокультети має університет?"));
	assert_true(forgives("How do I install a printer driver?", "How do I instal a printer driver?"));
	assert_true(forgives("How do I install a printer driver?", "How do I install a pxrinter driver?"));
	assert_false(forgives("Як увімкнути газовий котел?", "Як вимкнути газовий котел?"));
	assert_false(forgives("How do I install a printer driver?", "How do I install a xprinter driver?"));  /* the first letter */
	assert_false(forgives("How do I pack a brown bear?", "How do I pack a brown beer?"));      /* both are words */
	assert_false(forgives("How do I pack a brown bear?", "How do I pack a brown bexr?"));      /* four letters */
	assert_false(forgives("How do I install a printer driver?", "How do I instal a prnter driver?"));  /* two of them */
	assert_false(forgives("songs about old Marlo town", "songs about old Marlow town"));       /* names are not misspelt */
}

/* A word of another language is no misspelt one of the question's, also where that language is not configured. */
static void a_word_of_a_neighbour_is_no_typo(void **state)
{
	static const struct { const char *languages, *a, *b; bool same; } t[] = {
		{ "uk,en", "Включи світло на кухні вдома", "Выключи світло на кухні вдома", false },
		{ "uk,en", "Включи свет на кухне дома", "Выключи свет на кухне дома", false },
		{ "uk,ru,en", "Включи свет на кухне дома", "Выключи свет на кухне дома", false },
		{ "uk,en", "Скільки коштує контракт на філології?", "Скільки коштує контрокт на філології?", true },
		{ "en,uk", "What causes inflation in an economy?", "What causes inflaton in an economy?", true },
	};
	struct lexicon *before = lexicon;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const struct lexicon_options o = { .languages = t[i].languages };

		lexicon = lexicon_open(&o, why, sizeof why);
		assert_non_null(lexicon);
		for (enum guards mode = GUARDS_STRICT; mode <= GUARDS_STANDARD; mode++)
			for (int turned = 0; turned < 2; turned++) {
				struct verdict v;
				judge(mode, 0.7, turned ? t[i].b : t[i].a, turned ? t[i].a : t[i].b, &v);
				if (v.hit != t[i].same)
					fail_msg("'%s' and '%s' under %s: %s", t[i].a, t[i].b, t[i].languages, v.hit ? "a hit" : "none");
			}
		lexicon_close(lexicon);
	}
	lexicon = before;
}

/* An instruction and its text, two ways: another text is another question, with every guard there is; off stays Jaccard. */
static void a_payload_counts_as_written(void **state)
{
	static const struct { const char *a, *b; } t[] = {
		{ "Translate the text into Ukrainian: I am here.", "Translate the text into Ukrainian: You are there." },
		{ "Translate the subtitle into German.\n\nIs it mine?", "Translate the subtitle into German.\n\nIs it yours?" },
		{ "Correct the spelling of \"I am here\" please", "Correct the spelling of \"you are there\" please" },
		{ "Переклади цей рядок англійською мовою: Я тут.", "Переклади цей рядок англійською мовою: Ви там." },
		{ "Виправ помилки у реченні українською\nХто він?", "Виправ помилки у реченні українською\nХто ви?" },
		{ "Переклади слова «я тут» англійською мовою", "Переклади слова «ви там» англійською мовою" },
	};
	struct verdict v;

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		for (int turned = 0; turned < 2; turned++) {
			for (enum guards mode = GUARDS_STRICT; mode <= GUARDS_STANDARD; mode++) {
				judge(mode, 0.7, turned ? t[i].b : t[i].a, turned ? t[i].a : t[i].b, &v);
				if (v.hit)
					fail_msg("'%s' and '%s' are one", t[i].a, t[i].b);
			}
		}
	judge(GUARDS_OFF, 0.7, t[0].a, t[0].b, &v);
	assert_true(v.hit);
	judge(GUARDS_STRICT, 0.7, "Correct the spelling of \"I am here\" please", "Please correct the spelling of “I am here”", &v);
	assert_true(v.hit);
	judge(GUARDS_STRICT, 0.7, "Переклади слова «я тут» англійською мовою", "Переклади англійською мовою слова \"я тут\"", &v);
	assert_true(v.hit);
}

static struct slice text(const char *s)
{
	return slice_text(s);
}

static void one_apart_or_not(void **state)
{
	(void)state;
	assert_true(one_apart(text("слово"), text("слова")));
	assert_true(one_apart(text("слово"), text("слов")));
	assert_true(one_apart(text("слово"), text("слоvво")));
	assert_true(one_apart(text("слово"), text("сльово")));
	assert_true(one_apart(text("aab"), text("ab")));
	assert_true(one_apart(text("шо"), text("то")));         /* letters that share their first byte */
	assert_true(one_apart(text("ж"), text("")));
	assert_false(one_apart(text("слово"), text("слово")));
	assert_false(one_apart(text("слово"), text("сло")));
	assert_false(one_apart(text("слово"), text("солво")));
	assert_false(one_apart(text(""), text("")));
	assert_false(one_apart(text("ab"), text("ba")));
}

/* Random words over a small stock, so that everything happens: several terms, weak and soft words, repeats, words a
 * letter apart. */
static void make_words(unsigned *seed, struct words *w, struct word word[8], uint64_t terms[8][2])
{
	static const char *const texts[] = { "stone", "stine", "stones", "plate", "plane", "plates", "water", "waters" };

	*w = (struct words){ .n = 1 + (size_t)rand_r(seed) % 8, .word = word };
	for (size_t i = 0; i < w->n; i++) {
		unsigned first = 1 + (unsigned)rand_r(seed) % 10, kind = (unsigned)rand_r(seed) % 6;

		terms[i][0] = first;
		terms[i][1] = first + 1 + (unsigned)rand_r(seed) % 3;
		word[i] = (struct word){ .text = slice_text(texts[(size_t)rand_r(seed) % 8]), .terms = terms[i],
			.n_terms = (uint8_t)(1 + rand_r(seed) % 2), .flags = rand_r(seed) % 2 ? WORD_KNOWN : 0 };
		if (kind < 2)
			word[i].flags |= kind ? WORD_WEAK : WORD_SOFT;
		for (size_t k = 0; k < i; k++)
			if (!(word[k].flags & WORD_REPEAT) && word_matches(&word[k], &word[i]) && rand_r(seed) % 4)
				word[i].flags |= WORD_REPEAT;
	}
}

static bool is_found_under(const struct store_word *looked, const struct words *entry)
{
	for (size_t j = 0; j < entry->n; j++) {
		struct word w = { .terms = looked->terms, .n_terms = looked->n_terms };

		if (!(entry->word[j].flags & WORD_REPEAT) && word_matches(&w, &entry->word[j]))
			return true;
	}
	return false;
}

/* What passes weighs between least and most, and the words under which it is not posted weigh no more than
 * unlooked: so, whichever words a store looks under, it meets one under which it is. */
static void index_cannot_miss(void **state)
{
	static const double thresholds[] = { 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0 };
	unsigned seed = 3, near = 0, typos = 0, narrow = 0;

	(void)state;
	for (int i = 0; i < 300000; i++) {
		enum guards mode = (enum guards)(i % 3);
		double threshold = thresholds[(size_t)rand_r(&seed) % 7];
		uint64_t terms_a[8][2], terms_b[8][2];
		struct word word_a[8], word_b[8];
		struct words a, b;
		struct store_query q;
		struct verdict v;
		struct arena arena;
		const struct store_word *item;
		unsigned weight = 0, apart = 0, own = 0;
		size_t n;

		make_words(&seed, &a, word_a, terms_a);
		make_words(&seed, &b, word_b, terms_b);
		similar_judge(mode, threshold, &a, &b, &v);
		if (!v.near || v.skip)
			continue;
		arena_init(&arena, 1 << 14);
		assert_true(similar_query(mode, threshold, &a, &arena, &q));
		item = similar_words(&b, &arena, &n);
		assert_non_null(item);
		for (size_t k = 0; k < n; k++)
			weight += item[k].weight;
		assert_in_range(weight, q.least, q.most);
		for (size_t k = 0; k < q.n_words; k++) {
			own += q.words[k].weight;
			if (!is_found_under(&q.words[k], &b))
				apart += q.words[k].weight;
		}
		assert_in_range(apart, 0, q.unlooked);
		near++;
		typos += v.pairing.typo >= 0;
		narrow += q.unlooked < own;
		arena_fini(&arena);
	}
	assert_true(near > 3000 && typos > 100 && narrow > 1000);
}

static void words_for_the_store(void **state)
{
	struct arena arena;
	const struct words *w;
	struct store_query q;
	size_t n;

	(void)state;
	arena_init(&arena, 2 * WORDS_ARENA);
	w = words_of(lexicon, SLICE("Які добрі факультети, саме факультети, є в ХДУ?"), &arena);
	assert_non_null(w);
	assert_non_null(similar_words(w, &arena, &n));
	assert_int_equal(n, 5);                                 /* one repeat less */
	assert_true(similar_query(GUARDS_STRICT, 0.7, w, &arena, &q));
	assert_int_equal(q.n_words, 5);
	assert_int_equal(q.unlooked, 6 + 4);
	assert_int_equal(q.words[1].weight, 4);
	assert_int_equal(q.words[0].weight, 1);
	assert_true(similar_query(GUARDS_OFF, 0.7, w, &arena, &q));
	assert_int_equal(q.unlooked, 6);
	assert_int_equal(q.words[0].weight, 4);
	assert_false(similar_query(GUARDS_STRICT, 1.5, w, &arena, &q));
	assert_false(similar_query(GUARDS_STRICT, 0, w, &arena, &q));
	w = words_of(lexicon, SLICE("і та або"), &arena);
	assert_non_null(w);
	assert_null(similar_words(w, &arena, &n));
	assert_int_equal(n, 0);
	assert_false(similar_query(GUARDS_STRICT, 0.7, w, &arena, &q));
	arena_fini(&arena);
	arena_init(&arena, WORDS_ARENA);
	w = words_of(lexicon, SLICE("факультети ХДУ"), &arena);
	assert_non_null(w);
	arena.limit = arena.used;                               /* no memory left */
	assert_null(similar_words(w, &arena, &n));
	assert_false(similar_query(GUARDS_STRICT, 0.7, w, &arena, &q));
	arena_fini(&arena);
}

/* From a question to its key and to what the index is asked; false: there was no memory for it. */
static bool ask_for(const char *question, struct words **w, uint8_t key[KEY_BYTES], double *score)
{
	static const struct slice tenant[TENANT_PARTS] = { SLICE_INIT("t") };
	const struct key_parts parts = { .family = FAMILY_CHAT, .candidates = 1, .tenant = tenant, .form = slice_text(question) };
	const struct store_word *words;
	uint8_t packed[NEAR_PACKED_MAX];
	struct near_query nq;
	struct store_query q;
	struct arena arena;
	unsigned total;
	size_t n, terms;

	arena_init(&arena, 2 * WORDS_ARENA);
	*w = words_of(lexicon, slice_text(question), &arena);
	key_make(&parts, key);
	words = *w ? similar_words(*w, &arena, &n) : NULL;
	bool ok = words && similar_query(GUARDS_STRICT, 0.7, *w, &arena, &q);
	if (ok) {
		struct verdict v;
		similar_judge(GUARDS_STRICT, 0.7, *w, *w, &v);
		assert_true(v.hit);
		assert_true(near_fits(words, n, &terms));
		near_query_init(&nq, &q);
		*score = near_score(&nq, packed, near_pack(packed, words, n, &total));
	} else {
		assert_true(arena.full || !*w || (*w)->skip == WORDS_MEMORY);
	}
	arena_fini(&arena);
	return ok;
}

/* Keys, scores and verdicts ask for no memory at all; what does says so when it has none. */
static void every_allocation_fails_once(void **state)
{
	static const char question[] = "Які добрі факультети є в ХДУ?";
	uint8_t first[KEY_BYTES], key[KEY_BYTES];
	struct words *w;
	double score;
	bool failed = true;
	int n;

	(void)state;
	assert_true(ask_for(question, &w, first, &score));
	torture_of((const char *[]){ NULL });
	for (n = 1; failed && n < 1000; n++) {
		score = -1;
		torture_begin(n);
		bool ok = ask_for(question, &w, key, &score);
		failed = torture_end();
		assert_true(ok || failed);
		assert_memory_equal(key, first, KEY_BYTES);
		assert_true(!ok || score > 0.99);
		assert_true(ask_for(question, &w, key, &score));
		assert_true(score > 0.99);
	}
	assert_in_range(n, 3, 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mission), cmocka_unit_test(own_pairs), cmocka_unit_test(off_is_plain_jaccard),
		cmocka_unit_test(rule_11_typos), cmocka_unit_test(a_word_of_a_neighbour_is_no_typo), cmocka_unit_test(a_payload_counts_as_written), cmocka_unit_test(one_apart_or_not), cmocka_unit_test(index_cannot_miss),
		cmocka_unit_test(words_for_the_store), cmocka_unit_test(every_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
