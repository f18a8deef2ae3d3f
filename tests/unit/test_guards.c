/* uses: cache/similar.c proxy/base/words.c proxy/base/words_lexicon.c proxy/base/words_text.c proxy/base/words_stem.c proxy/base/words_lists.c
 * proxy/base/words_alias.c proxy/base/words_map.c proxy/base/words_pack.c proxy/base/words_bag.c proxy/base/words/
 * proxy/base/arena.c proxy/base/buf.c proxy/base/err.c */
/* libs: -licuuc -lhunspell -lstemmer -ljansson */
/* test_guards.c - each guard forbids what it should, and nothing it should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache/guards.c"
#include "cache/similar.h"

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

static void judge(enum guards mode, const char *a, const char *b, struct verdict *v)
{
	struct verdict other;
	struct words *w, *x;
	struct arena arena;

	arena_init(&arena, 2 * WORDS_ARENA);
	w = words_of(lexicon, slice_text(a), &arena);
	x = words_of(lexicon, slice_text(b), &arena);
	assert_non_null(w);
	assert_non_null(x);
	similar_judge(mode, 0.7, w, x, v);
	similar_judge(mode, 0.7, x, w, &other);
	if (v->guards != other.guards || v->hit != other.hit)
		fail_msg("'%s' and '%s' are judged otherwise in the other order", a, b);
	arena_fini(&arena);
}

struct pair {
	const char *a, *b;
};

/* The guard is among those that forbid each of these in strict mode, and the question is not skipped. */
static void forbids(enum guard guard, const struct pair *pair)
{
	for (; pair->a; pair++) {
		struct verdict v;

		judge(GUARDS_STRICT, pair->a, pair->b, &v);
		if (v.skip)
			fail_msg("'%s' or '%s' skipped: %s", pair->a, pair->b, words_skip_name[v.skip]);
		if (!(v.guards >> guard & 1))
			fail_msg("%s lets '%s' and '%s' pass", guard_name[guard], pair->a, pair->b);
		assert_false(v.hit);
		assert_int_equal(v.guard, guards_first(v.guards));
	}
}

static void allows(enum guard guard, const struct pair *pair)
{
	for (; pair->a; pair++) {
		struct verdict v;

		judge(GUARDS_STRICT, pair->a, pair->b, &v);
		if (v.skip || v.guards >> guard & 1)
			fail_msg("%s forbids '%s' and '%s' %s", guard_name[guard], pair->a, pair->b, words_skip_name[v.skip]);
	}
}

#define FORBIDS(guard, ...) forbids(GUARD_##guard, (const struct pair[]){ __VA_ARGS__, { NULL, NULL } })
#define ALLOWS(guard, ...) allows(GUARD_##guard, (const struct pair[]){ __VA_ARGS__, { NULL, NULL } })

static void neg(void **state)
{
	(void)state;
	FORBIDS(neg, { "Чи можна їсти гриби дітям?", "Чи не можна їсти гриби дітям?" },
		{ "Рис із сіллю та олією", "Рис без солі та олії" },
		{ "Why do cats like water?", "Why don't cats like water?" },
		{ "Чи варто не їсти вранці, а бігати?", "Чи варто їсти вранці, а не бігати?" });
	ALLOWS(neg, { "Чому не можна бігати вранці?", "Чому вранці не можна бігати?" },
		{ "Why don't cats like water?", "Why do cats not like water?" });
}

/* What a language says twice is said once; what is said once is not nothing. A pair in the first table is two questions. */
static void negations_that_are_heaped_up(void **state)
{
	static const struct { const char *languages; struct pair two, one; } t[] = {
		{ "uk,en", { "Чому ніколи не треба мити гриби водою?", "Чому треба мити гриби водою?" },
		           { "Чому ніколи не треба мити гриби водою?", "Чому не треба ніколи мити гриби водою?" } },
		{ "uk,en", { "Хто має право на стипендію університету?", "Хто не має жодного права на стипендію університету?" },
		           { "Хто не має права на стипендію університету?", "Хто не має жодного права на стипендію університету?" } },
		{ "uk,en", { "Чи можна не любити осінній дощ?", "Чи не можна не любити осінній дощ?" },
		           { "Чи можна не любити осінній дощ?", "Чи можна осінній дощ не любити?" } },
		{ "uk,en", { "Чому не можна варити рис без солі?", "Чому можна варити рис без солі?" },
		           { "Чому не можна варити рис без солі?", "Чому без солі не можна варити рис?" } },
		{ "uk,en", { "Why can't cats drink no milk after meals?", "Why can cats drink milk after meals?" },
		           { "Why can't cats drink milk after meals?", "Why can cats not drink milk after meals?" } },
		{ "uk,en", { "Why can't cats drink no milk after meals?", "Why can't cats drink milk after meals?" },
		           { "Why do cats never drink milk after meals?", "After meals why do cats never drink milk?" } },
		{ "uk,en", { "Which animals can't live without water and salt?", "Which animals can live with water and salt?" },
		           { "Which animals can't live without water and salt?", "Without water and salt which animals can't live?" } },
		{ "ru,en", { "Почему никогда не надо мыть грибы водой?", "Почему надо мыть грибы водой?" },
		           { "Почему никогда не надо мыть грибы водой?", "Почему не надо мыть грибы водой?" } },
		{ "pl,en", { "Dlaczego nigdy nie wolno myć grzybów wodą?", "Dlaczego wolno myć grzybów wodą?" },
		           { "Dlaczego nigdy nie wolno myć grzybów wodą?", "Dlaczego nie wolno myć grzybów wodą?" } },
		{ "fr,en", { "Quels champignons rouges ne sont pas comestibles ?", "Quels champignons rouges sont comestibles ?" },
		           { "Quels champignons rouges ne sont pas comestibles ?", "Quels champignons rouges ne sont jamais comestibles ?" } },
		{ "fr,en", { "Pourquoi ne pas cuisiner le riz blanc sans sel ?", "Pourquoi cuisiner le riz blanc sans sel ?" },
		           { "Pourquoi ne pas cuisiner le riz blanc sans sel ?", "Pourquoi ne pas cuisiner sans sel le riz blanc ?" } },
		{ "es,en", { "¿Por qué no bebe nunca leche el gato negro?", "¿Por qué bebe leche el gato negro?" },
		           { "¿Por qué no bebe nunca leche el gato negro?", "¿Por qué nunca bebe leche el gato negro?" } },
		{ "it,en", { "Quali frutti non può mai mangiare un cane nero?", "Quali frutti può mangiare un cane nero?" },
		           { "Quali frutti non può mai mangiare un cane nero?", "Quali frutti non può mangiare un cane nero?" } },
	};
	struct lexicon *before = lexicon;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const struct lexicon_options o = { .languages = t[i].languages };

		lexicon = lexicon_open(&o, why, sizeof why);
		assert_non_null(lexicon);
		FORBIDS(neg, t[i].two);
		ALLOWS(neg, t[i].one);
		for (enum guards mode = GUARDS_STRICT; mode <= GUARDS_STANDARD; mode++) {
			struct verdict v;
			judge(mode, t[i].two.a, t[i].two.b, &v);
			assert_false(v.hit);
		}
		lexicon_close(lexicon);
	}
	lexicon = before;
}

static void qc(void **state)
{
	(void)state;
	FORBIDS(qc, { "Де народився Іван Франко?", "Коли народився Іван Франко?" },
		{ "Хто вкусив собаку?", "Кого вкусив собака?" }, { "Куди летять журавлі?", "Звідки летять журавлі?" },
		{ "How long is the river Nile?", "How old is the river Nile?" }, { "Why is rice white?", "Is rice white?" },
		{ "Хто є королем Іспанії?", "Хто був королем Іспанії?" }, { "Who is king of Spain?", "Who was king of Spain?" },
		{ "Who wins the match?", "Who will win the match?" }, { "Хто переміг у матчі?", "Хто переможе у матчі?" },
		{ "Коли збудували міст?", "Коли збудують міст?" }, { "Чи можна пити вино?", "Чи треба пити вино?" },
		{ "Should I eat fish?", "Can I eat fish?" });
	ALLOWS(qc, { "Які факультети має ХДУ?", "Скільки факультетів має ХДУ?" },
		{ "Коли збудовано міст через Дніпро?", "У якому році було збудовано міст через Дніпро?" },
		{ "How do I boil rice?", "Can I boil rice?" }, { "Підкажи, чому небо синє", "Чому небо синє?" });
}

static void num(void **state)
{
	(void)state;
	FORBIDS(num, { "Скільки буде 15 на 4?", "Скільки буде 15 на 6?" }, { "version 2.1 of Python", "version 2.2 of Python" },
		{ "What is 2+2?", "What is 2*2?" }, { "ціна за 3 і 3 кг", "ціна за 3 кг" }, { "таймер на -5 градусів", "таймер на 5 градусів" });
	ALLOWS(num, { "події 1991 року в Україні", "які події 1991 року в Україні" });
}

static void quo(void **state)
{
	(void)state;
	FORBIDS(quo, { "Переклади слово «дім» польською", "Переклади слово «дуб» польською" },
		{ "What does \"get over it\" mean?", "What does get over it mean?" });
	ALLOWS(quo, { "Хто написав роман «Місто»?", "Хто написав роман \"Місто\"?" }, { "Хто написав «Кобзар»?", "Хто написав Кобзар?" });
}

static void order(void **state)
{
	(void)state;
	FORBIDS(order, { "Чому Київ обігнав Харків?", "Чому Харків обігнав Київ?" }, { "Скільки буде 8 - 3?", "Скільки буде 3 - 8?" },
		{ "Does a dog chase a cat?", "Does a cat chase a dog?" }, { "Чи їсть кіт мишу?", "Чи їсть миша кота?" },
		{ "скільки буде 5 - 3 + 5", "скільки буде 5 - 5 + 3" }, { "Is a tomato a fruit?", "Is a fruit a tomato?" },
		{ "варити рис, потім смажити", "смажити рис, потім варити" });
	ALLOWS(order, { "Що краще, Київ чи Львів?", "Що краще, Львів чи Київ?" }, { "kitchen light timer", "light kitchen timer" },
		{ "Які документи потрібні для вступу?", "Для вступу які потрібні документи?" });
}

static void swap(void **state)
{
	(void)state;
	FORBIDS(swap, { "Як доїхати з Києва до Одеси?", "Як доїхати з Одеси до Києва?" }, { "квиток з києва", "квиток до києва" },
		{ "Is python faster than ruby?", "Is ruby faster than python?" }, { "чи більший київ за харків", "чи більший харків за київ" },
		{ "convert miles to meters", "convert meters to miles" }, { "coffee with milk", "coffee without milk" },
		{ "cheaper to buy than to rent", "cheaper to rent than to buy" }, { "лист від мами", "лист для мами" });
	ALLOWS(swap, { "Як доїхати з Києва до Одеси?", "До Одеси з Києва як доїхати?" }, { "світло на кухні", "на кухні світло" });
}

static void extra_and_sub(void **state)
{
	struct verdict v;

	(void)state;
	FORBIDS(extra, { "Які є гуртожитки в ХДУ?", "Які є нові гуртожитки в ХДУ?" }, { "Як зварити борщ?", "Як зварити узвар?" });
	FORBIDS(sub, { "Як зварити борщ?", "Як зварити узвар?" }, { "How do I make a custom keyboard layout?",
		"How do I use a custom keyboard layout?" });
	ALLOWS(extra, { "Які добрі гуртожитки в ХДУ?", "Які гуртожитки в ХДУ?" }, { "Які гуртожитки в ХДУ?",
		"Які гуртожитки в Херсонському університеті?" });
	ALLOWS(sub, { "Які є гуртожитки в ХДУ?", "Які є нові гуртожитки в ХДУ?" });
	judge(GUARDS_STANDARD, "Як зварити смачний український борщ?", "Як зварити український борщ?", &v);
	assert_true(v.hit);
	judge(GUARDS_STRICT, "Як зварити смачний український борщ?", "Як зварити український борщ?", &v);
	assert_false(v.hit);
	assert_int_equal(v.guard, GUARD_extra);
	judge(GUARDS_STANDARD, "Як зварити смачний борщ удома?", "Як зварити червоний борщ удома?", &v);
	assert_false(v.hit);
	assert_int_equal(v.guard, GUARD_sub);
}

static void ent(void **state)
{
	(void)state;
	FORBIDS(ent, { "Найвища гора в Азії та Європі", "Найвища гора в Азії" }, { "Які факультети в ХДУ?", "Які факультети в університеті?" },
		{ "Які факультети в ХДУ?", "Які факультети в державному університеті?" }, { "Як скласти НМТ?", "Як скласти тест?" });
	ALLOWS(ent, { "Які факультети в ХДУ?", "Які факультети в Херсонському університеті?" });
}

static void contrast(void **state)
{
	(void)state;
	FORBIDS(contrast, { "Як увімкнути світло на кухні?", "Як вимкнути світло на кухні?" }, { "turn the light on", "turn the light off" },
		{ "How do I buy bonds?", "How do I sell bonds?" }, { "вправи перед сном", "вправи після сну" });
	ALLOWS(contrast, { "Як увімкнути світло на кухні?", "Як увімкнути звук на кухні?" });
}

static void short_and_evid(void **state)
{
	struct verdict v;

	(void)state;
	FORBIDS(short, { "Що таке квазар?", "Що таке квазари?" }, { "Скільки триває антракт у виставі?", "антракт у виставі" },
		{ "How does rice grow?", "Does rice grow?" });
	FORBIDS(evid, { "добрий технічний університет", "технічний університет" });
	ALLOWS(short, { "Яка столиця Перу?", "Яка є столиця Перу?" }, { "Where does wild rice grow in Asia?", "Where does wild rice grow in Asia" });
	ALLOWS(evid, { "добрий технічний університет Львова", "технічний університет Львова" });
	judge(GUARDS_STRICT, "Яка столиця Перу?", "Назви столицю Перу", &v);
	assert_true(v.hit);
}

/* All that forbid are told, and the first in the list is the one that counts. */
static void all_are_told(void **state)
{
	struct verdict v;

	(void)state;
	judge(GUARDS_STRICT, "Де не варто купувати 2 авто?", "Коли варто продавати 3 авто?", &v);
	assert_int_equal(v.guard, GUARD_neg);
	assert_true(v.guards >> GUARD_qc & 1);
	assert_true(v.guards >> GUARD_num & 1);
	assert_true(v.guards >> GUARD_sub & 1);
	assert_true(v.guards >> GUARD_contrast & 1);
	assert_false(v.guards >> GUARD_quo & 1);
	assert_int_equal(guards_first(0), GUARD_NONE);
	for (int i = 1; i < GUARD_COUNT; i++) {
		assert_true(*guard_name[i] && *guard_says[i]);
		assert_int_equal(guards_first(1u << i), i);
	}
}

/* An analysis read from a store may hold anything that unpack lets through. */
static void nothing_odd_hurts(void **state)
{
	uint64_t term = 1;
	struct word word = { .terms = &term, .n_terms = 1, .flags = WORD_FLAGS, .alias = 255, .role = ROLE_UNDER, .contrast = 65535 };
	struct words one = { .classes = ~0u, .negators = 255, .concords = 255, .absences = 255, .n = 1, .word = &word }, none = { 0 };
	struct verdict v;

	(void)state;
	similar_judge(GUARDS_STRICT, 0.7, &one, &one, &v);
	assert_false(v.hit);
	similar_judge(GUARDS_STRICT, 0.7, &one, &none, &v);
	assert_int_equal(v.skip, WORDS_EMPTY);
	similar_judge(GUARDS_OFF, 0, &none, &none, &v);
	assert_false(v.hit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neg), cmocka_unit_test(negations_that_are_heaped_up), cmocka_unit_test(qc), cmocka_unit_test(num), cmocka_unit_test(quo), cmocka_unit_test(order),
		cmocka_unit_test(swap), cmocka_unit_test(extra_and_sub), cmocka_unit_test(ent), cmocka_unit_test(contrast),
		cmocka_unit_test(short_and_evid), cmocka_unit_test(all_are_told), cmocka_unit_test(nothing_odd_hurts),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
