/* uses: proxy/base/words.c proxy/base/words_lexicon.c proxy/base/words_text.c proxy/base/words_stem.c proxy/base/words_lists.c
 * proxy/base/words_alias.c proxy/base/words_map.c proxy/base/words_pack.c proxy/base/words_bag.c proxy/base/words/
 * proxy/base/arena.c proxy/base/buf.c proxy/base/err.c */
/* libs: -licuuc -lhunspell -lstemmer -ljansson -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
/* test_words.c - questions read into words: every rule, odd input, packing, lists of one's own, no memory, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "proxy/base/words.h"

/* The allocation to fail, counted down; 0: none does. */
static _Thread_local unsigned fail_at;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool fails(void)
{
	return fail_at && --fail_at == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

static struct lexicon *lexicon;               /* uk,en, with the system's dictionaries */
static struct arena arena;

static int open_all(void **state)
{
	struct lexicon_options o = { 0 };
	char why[256] = "";

	(void)state;
	lexicon = lexicon_open(&o, why, sizeof why);
	if (!lexicon)
		fprintf(stderr, "%s\n", why);
	return !lexicon;
}

static int close_all(void **state)
{
	(void)state;
	lexicon_close(lexicon);
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	arena_init(&arena, 1 << 20);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static const struct words *of(const char *text)
{
	const struct words *w = words_of(lexicon, slice_text(text), &arena);

	assert_non_null(w);
	return w;
}

/* The words that count, as "факультети херсонський~ добре-": ~ soft, - weak. */
static const char *said(const char *text)
{
	static char line[4096];
	const struct words *w = of(text);
	size_t n = 0;

	line[0] = 0;
	for (size_t i = 0; i < w->n; i++) {
		const struct word *word = &w->word[i];

		if (word->flags & WORD_REPEAT)
			continue;
		n += (size_t)snprintf(line + n, sizeof line - n, "%s%.*s%s%s", n ? " " : "", (int)word->text.len, word->text.at,
			word->flags & WORD_SOFT ? "~" : "", word->flags & WORD_WEAK ? "-" : "");
	}
	return line;
}

static const struct word *word(const char *text, const char *which)
{
	const struct words *w = of(text);

	for (size_t i = 0; i < w->n; i++)
		if (slice_is(w->word[i].text, slice_text(which)))
			return &w->word[i];
	fail_msg("no '%s' in '%s'", which, text);
	return NULL;
}

static bool match(const char *a, const char *b)
{
	const struct words *w = of(a), *v = of(b);

	assert_true(w->n >= 1 && v->n >= 1);
	return word_matches(&w->word[0], &v->word[0]);
}

static void rule_1_skips(void **state)
{
	static const struct {
		const char *text;
		enum words_skip skip;
	} t[] = {
		{ "Яка столиця Франції?", WORDS_FIT },
		{ "", WORDS_EMPTY }, { "  ?! ", WORDS_EMPTY }, { "😀 👍🏽", WORDS_EMPTY }, { "і в на або що", WORDS_EMPTY },
		{ "what is it to be", WORDS_EMPTY },
		{ "broken \xff text", WORDS_BROKEN }, { "cut \xd0", WORDS_BROKEN }, { "surrogate \xed\xa0\x80", WORDS_BROKEN },
		{ "What does this do: ```x = 1```", WORDS_CODE }, { "fix for (i = 0; i < n; i++) { x(); } please", WORDS_CODE },
		{ "#include <stdio.h> what is it for", WORDS_CODE }, { "How do I use a dictionary in C++?", WORDS_FIT },
		{ "Як це працює?", WORDS_FOLLOW_UP }, { "А скільки він коштує?", WORDS_FOLLOW_UP }, { "How does it work?", WORDS_FOLLOW_UP },
		{ "What about Paris?", WORDS_FOLLOW_UP }, { "а де Полтава?", WORDS_FOLLOW_UP }, { "Where was she born?", WORDS_FOLLOW_UP },
		{ "Why do cats purr when they sleep?", WORDS_FIT }, { "Що таке ПДВ і хто його платить?", WORDS_FIT },
		{ "Is it safe to eat raw salmon?", WORDS_FIT },
		{ "What is the weather in Oslo today?", WORDS_VOLATILE }, { "Who is the current king of Spain?", WORDS_VOLATILE },
		{ "Яка погода сьогодні в Одесі?", WORDS_VOLATILE }, { "Яке поточне населення Києва?", WORDS_VOLATILE },
		{ "Який останній альбом гурту?", WORDS_VOLATILE }, { "Яких останніх змін зазнав закон?", WORDS_VOLATILE },
		{ "What does \"today\" mean in Latin grammar?", WORDS_FIT },
		{ "Translate into Ukrainian: I am near the old town hall.", WORDS_PAYLOAD },
		{ "Translate into Ukrainian: who lives near the town hall?", WORDS_PAYLOAD },
		{ "Переклади англійською:Старий замок стоїть там.", WORDS_PAYLOAD }, { "Виправ речення: хто живе у старому замку?", WORDS_PAYLOAD },
		{ "Translate this line into German\n\nThe old castle is there.", WORDS_PAYLOAD },
		{ "The old castle is there.\r\nWhat language is this sentence?", WORDS_PAYLOAD },
		{ "翻訳 to English：old castle", WORDS_PAYLOAD }, { "Translate \"I see the old castle", WORDS_PAYLOAD },
		{ "Translate \"I see the old castle\" into German", WORDS_FIT }, { "\n Яка столиця Франції? \r\n", WORDS_FIT },
		{ "Об'єм пам'яті комп'ютера: як дізнатися?", WORDS_FIT }, { "planet Saturn: which moons orbit?", WORDS_FIT },
		{ "Set a timer for 10:30 in the kitchen", WORDS_FIT }, { "Is https://example.org/a a safe site?", WORDS_FIT },
		{ "Why do people write the smiley :) in letters?", WORDS_FIT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const struct words *w = of(t[i].text);

		if (w->skip != t[i].skip)
			fail_msg("'%s': %s, not %s", t[i].text, words_skip_name[w->skip], words_skip_name[t[i].skip]);
	}
}

static void rule_1_limits(void **state)
{
	char text[WORDS_BYTES_MAX + 2];
	size_t n = 0;

	(void)state;
	for (int i = 0; i < WORDS_TOKENS_MAX; i++)
		n += (size_t)sprintf(text + n, "zq%c%c ", 'a' + i / 26, 'a' + i % 26);
	assert_int_equal(of(text)->skip, WORDS_FIT);
	assert_int_equal(of(text)->n, WORDS_TOKENS_MAX);
	strcpy(text + n, "more");
	assert_int_equal(of(text)->skip, WORDS_LONG);
	assert_int_equal(of(text)->n, 0);
	memset(text, 'a', sizeof text - 1);
	text[WORDS_BYTES_MAX] = 0;
	assert_int_equal(of(text)->skip, WORDS_FIT);     /* one long word, cut */
	text[WORDS_BYTES_MAX] = 'a';
	text[WORDS_BYTES_MAX + 1] = 0;
	assert_int_equal(of(text)->skip, WORDS_LONG);
	/* Before any costly work: what is too long takes no more memory than the answer itself. */
	arena_fini(&arena);
	arena_init(&arena, 256);
	assert_int_equal(of(text)->skip, WORDS_LONG);
}

static void rule_1_signs_are_bounded_too(void **state)
{
	char text[WORDS_BYTES_MAX];

	(void)state;
	for (size_t i = 0; i + 2 < sizeof text; i += 2)
		memcpy(text + i, "$ ", 2);
	text[sizeof text - 2] = 0;
	assert_int_equal(of(text)->skip, WORDS_LONG);
}

static void rule_2_apostrophes_and_folding(void **state)
{
	(void)state;
	assert_true(match("об'єкт", "об’єкт"));
	assert_true(match("об'єкт", "обʼєкт"));
	assert_true(match("об'єкт", "об`єкт"));
	assert_true(match("П'ЯТНИЦЯ", "п’ятниця"));
	assert_true(match("за\u0301мок", "замок"));           /* a stress mark */
	assert_true(match("cafe\u0301", "café"));             /* combining and composed */
	assert_true(match("ﬁnland", "FINLAND"));
	assert_true(match("Straße", "STRASSE"));
	assert_true(match("ｆｕｌｌ", "full"));
	assert_true(match("٤٢", "42"));
	assert_string_equal(said("שלום עולם"), "שלום עולם");
}

static void rule_3_signs_kept(void **state)
{
	(void)state;
	assert_string_equal(said("C++ Java"), "c++ java");
	assert_string_equal(said("C# and F#"), "c# f#");
	assert_string_equal(said("Is .NET slow?"), ".net slow");
	assert_string_equal(said("node.js server"), "node.js server");
	assert_string_equal(said("€50 20%"), "€ 50 20 %");
	assert_string_equal(said("2+2"), "2 +");
	assert_string_equal(said("2 * 3"), "2 * 3");
	assert_string_equal(said("10–12"), "10 - 12");
	assert_string_equal(said("minus -5 degrees"), "minus -5 degrees");
	assert_string_equal(said("bread + butter"), "bread butter");
	assert_string_equal(said("x > 5"), "x > 5");
	assert_string_equal(said("y = -5"), "y = -5");
	assert_string_equal(said("plan B - finish it"), "plan b finish");
	assert_false(match("C", "C++"));
	assert_false(match("C#", "C++"));
	assert_int_equal(word("2+2", "+")->flags & WORD_NUMBER, WORD_NUMBER);
}

static void rule_4_never_stop_words(void **state)
{
	(void)state;
	assert_string_equal(said("living in the US"), "living us");
	assert_string_equal(said("living with us"), "living");
	assert_string_equal(said("songs of The Who"), "songs the who");
	assert_string_equal(said("meaning of \"the\""), "meaning- the");
	assert_string_equal(said("turn it on"), "turn on");
	assert_string_equal(said("life before and after war"), "life- before after war");
	assert_true(word("songs of The Who", "who")->flags & WORD_NAME);
	assert_true(word("living in the US", "us")->flags & WORD_CAPS);
	assert_false(word("Songs are long", "songs")->flags & WORD_NAME);      /* the first word has one anyway */
	assert_string_equal(said("Допоможіть, прошу Вас, з перекладом"), "допоможіть- прошу перекладом");
	assert_string_equal(said("ЩО ТАКЕ КВАЗАР"), "квазар");                 /* capitals say nothing here */
	assert_false(word("How To Cook The Best Rice Dish", "rice")->flags & WORD_NAME);
}

static void rule_4_german_particles(void **state)
{
	struct lexicon_options o = { .languages = "de", .dictionaries = "/nonexistent" };
	struct lexicon *uk = lexicon;
	char why[256];

	(void)state;
	lexicon = lexicon_open(&o, why, sizeof why);
	assert_non_null(lexicon);
	assert_string_equal(said("Mach das Fenster zu"), "mach- fenster zu");
	assert_string_equal(said("Fahr zu dem Fenster"), "fahr fenster");
	assert_false(word("Wo ist das Fenster", "fenster")->flags & WORD_NAME);
	lexicon_close(lexicon);
	lexicon = uk;
}

static void rule_5_negators(void **state)
{
	(void)state;
	assert_int_equal(of("Чому не можна бігати?")->negators, 1);
	assert_int_equal(of("Кава без цукру")->absences, 1);
	assert_int_equal(of("Кава без цукру")->negators, 0);
	assert_int_equal(of("Кава з цукром")->absences, 0);
	assert_int_equal(of("Ніколи не пий кави")->concords, 1);
	assert_int_equal(of("Ніколи не пий кави")->negators, 1);
	assert_int_equal(of("Why don't cats swim?")->negators, 1);
	assert_int_equal(of("Why couldn’t cats swim?")->negators, 1);
	assert_int_equal(of("Which foods are NOT healthy?")->negators, 1);
	assert_int_equal(of("no cats, never dogs")->negators, 2);
	assert_int_equal(of("the word \"not\" itself")->negators, 0);
	assert_string_equal(said("Кава без цукру"), "кава цукру");
	assert_true(word("Чи варто не їсти вранці", "їсти")->flags & WORD_NEGATED);
	assert_false(word("Чи варто не їсти вранці", "вранці")->flags & WORD_NEGATED);
	assert_int_equal(word("Кава без цукру", "цукру")->role, ROLE_WITHOUT);
}

static void rule_6_classes(void **state)
{
	static const struct {
		const char *text;
		enum words_class class;
	} t[] = {
		{ "Які факультети", CLASS_LIST }, { "Скільки факультетів", CLASS_LIST }, { "Що таке квазар", CLASS_LIST },
		{ "which planets", CLASS_LIST }, { "how many planets", CLASS_LIST }, { "what planets", CLASS_LIST },
		{ "Як зварити рис", CLASS_HOW }, { "how to cook rice", CLASS_HOW }, { "Чи варять рис", CLASS_YES_NO },
		{ "Is rice healthy", CLASS_YES_NO }, { "Коли засновано місто", CLASS_WHEN }, { "В якому році засновано місто", CLASS_WHEN },
		{ "what year was Rome founded", CLASS_WHEN }, { "О котрій відкривається музей", CLASS_WHEN },
		{ "Де росте рис", CLASS_WHERE }, { "Куди летять птахи", CLASS_WHERE }, { "Звідки летять птахи", CLASS_WHERE_FROM },
		{ "Хто відкрив радій", CLASS_WHO }, { "Кого вкусив собака", CLASS_WHOM }, { "Чия це картина «Ніч»", CLASS_WHOSE },
		{ "Чому небо сине", CLASS_WHY }, { "why is rice white", CLASS_WHY }, { "how long is the Nile", CLASS_HOW_LONG },
		{ "how old is the Nile", CLASS_HOW_OLD }, { "how far is Mars", CLASS_HOW_FAR }, { "як часто поливати кактус", CLASS_HOW_OFTEN },
		{ "скільки років пірамідам", CLASS_HOW_OLD }, { "Can you tell me when Rome fell", CLASS_WHEN },
		{ "Поясни, чому небо сине", CLASS_WHY }, { "Tell me the capital of Peru", CLASS_LIST }, { "capital of Peru", CLASS_PLAIN },
		{ "songs of The Who", CLASS_PLAIN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const struct words *w = of(t[i].text);

		if (w->class != t[i].class)
			fail_msg("'%s': %s, not %s", t[i].text, words_class_name[w->class], words_class_name[t[i].class]);
		assert_true(t[i].class == CLASS_PLAIN ? w->classes == 0 : w->classes >> t[i].class & 1);
	}
	assert_string_equal(said("В якому році засновано місто?"), "засновано місто-");
	assert_int_equal(of("Who was king?")->tense, TENSE_PAST);
	assert_int_equal(of("Хто буде королем?")->tense, TENSE_FUTURE);
	assert_int_equal(of("Хто є королем?")->tense, TENSE_PRESENT);
}

static void rule_7_lemmas(void **state)
{
	(void)state;
	assert_true(match("факультети", "факультетів"));
	assert_true(match("університеті", "Університетами"));
	assert_true(match("київ", "Києві"));
	assert_true(match("народився", "народилась"));
	assert_true(match("докера", "докером"));               /* not in the dictionary */
	assert_false(match("кіт", "кит"));
	assert_false(match("факультет", "факультатив"));
	assert_true(match("eggs", "egg"));
	assert_true(match("cities", "city"));
	assert_true(match("hoping", "hope"));
	assert_true(match("hopping", "hop"));
	assert_false(match("caring", "car"));
	assert_true(match("wrote", "written"));
	assert_false(match("universe", "university"));
	assert_false(match("import", "important"));
	assert_false(match("bigger", "biggest"));
	assert_true(word("Хто написав роман", "написав")->flags & WORD_PAST);
	assert_true(word("Хто переміг учора", "переміг")->flags & WORD_PAST);
	assert_false(word("Хто напише роман", "напише")->flags & WORD_PAST);
	assert_true(word("звичайний факультет", "факультет")->flags & WORD_KNOWN);
	assert_false(word("звичайний факультерт", "факультерт")->flags & WORD_KNOWN);
}

static void rule_7_without_dictionary(void **state)
{
	struct lexicon_options o = { .languages = "uk,en", .dictionaries = "/nonexistent" };
	struct lexicon *with = lexicon;
	char why[256];

	(void)state;
	assert_string_equal(lexicon_notes(with), "");
	lexicon = lexicon_open(&o, why, sizeof why);
	assert_non_null(lexicon);
	assert_non_null(strstr(lexicon_notes(lexicon), "hunspell-uk"));
	assert_true(words_mark(lexicon) != words_mark(with));
	assert_true(match("факультети", "факультетів"));       /* by its ending */
	assert_true(match("running", "runs"));                 /* by Snowball */
	assert_false(word("факультет", "факультет")->flags & WORD_KNOWN);
	assert_int_equal(of("Що таке факультет?")->skip, WORDS_FIT);
	lexicon_close(lexicon);
	lexicon = with;
}

static void rule_7_any_language(void **state)
{
	struct lexicon_options o = { .languages = "fi,xx,uk,ru", .dictionaries = "/nonexistent" };
	struct lexicon *with = lexicon;
	char why[256];

	(void)state;
	lexicon = lexicon_open(&o, why, sizeof why);
	assert_non_null(lexicon);
	assert_non_null(strstr(lexicon_notes(lexicon), "'xx'"));
	assert_true(match("talossa", "talo"));
	assert_string_equal(said("Что такое чёрная дыра?"), "такое чёрная дыра");          /* by its letters, Russian */
	assert_string_equal(said("Що таке чорна діра?"), "чорна діра");
	lexicon_close(lexicon);
	lexicon = with;
	o.languages = "Ukrainian";
	assert_null(lexicon_open(&o, why, sizeof why));
	o.languages = "u1";
	assert_null(lexicon_open(&o, why, sizeof why));
	assert_non_null(strstr(why, "u1"));
}

static void rule_8_aliases_and_synonyms(void **state)
{
	(void)state;
	assert_string_equal(said("Які є факультети в ХДУ?"), "факультети херсонський~ державний~ університет~");
	assert_string_equal(said("факультети хду"), "факультети херсонський~ державний~ університет~");
	assert_string_equal(said("ХДУ (Херсонський державний університет)"), "херсонський державний університет");
	assert_int_equal(word("вступ до ХДУ", "університет")->alias, 1);
	assert_true(word("вступ до ХДУ", "херсонський")->flags & WORD_NAME);
	assert_string_equal(said("what is it in uk"), "united~ kingdom~");
	assert_true(match("увімкнути", "ввімкнути"));
	assert_true(match("коштує", "вартість"));
	assert_true(match("purchase", "buying"));
	assert_false(match("увімкнути", "вимкнути"));
	assert_int_equal(word("як купити", "купити")->contrast ^ 1, word("як продати", "продати")->contrast);
	assert_true(word("як купити", "купити")->contrast > 1);
	assert_int_equal(word("як читати", "читати")->contrast, 0);
}

static void rule_9_weights(void **state)
{
	(void)state;
	assert_int_equal(word_weight(word("добре слово", "добре")), 1);
	assert_int_equal(word_weight(word("вступ до ХДУ", "херсонський")), 1);
	assert_int_equal(word_weight(word("вступ до ХДУ", "вступ")), 4);
	assert_int_equal(word_weight(word("ціни у 2025 році", "році")), 1);
	assert_int_equal(word_weight(word("новини року", "року")), 4);
	assert_int_equal(word_weight(word("таймер на 5 годин", "годин")), 4);
}

static void rule_10_roles(void **state)
{
	const struct words *w = of("Як доїхати з Києва до нового Львова");

	(void)state;
	assert_int_equal(w->word[1].role, ROLE_FROM);
	assert_int_equal(w->word[2].role, ROLE_TO);
	assert_int_equal(w->word[3].role, ROLE_NONE);
	assert_int_equal(word("Is Java faster than Ruby?", "ruby")->role, ROLE_THAN);
	assert_int_equal(word("life after war", "war")->role, ROLE_AFTER);
	assert_int_equal(word("cheaper than to rent", "rent")->role, ROLE_THAN);
	assert_int_equal(word("лист для мами", "мами")->role, ROLE_FOR);
	assert_true(word("Is a tomato red", "tomato")->flags & WORD_ARTICLE);
	assert_false(word("Is a tomato red", "red")->flags & WORD_ARTICLE);
	assert_int_equal(of("Should I run?")->modal, MODAL_OUGHT);
	assert_int_equal(of("Чи можна бігати?")->modal, MODAL_CAN);
	assert_int_equal(of("Хто бігає?")->modal, MODAL_NONE);
	assert_true(of("вари, а потім смаж")->sequence);
	assert_false(of("вари і смаж")->sequence);
	assert_string_equal(said("alarm at 7 am"), "alarm 7 am");
	assert_string_equal(said("am I tall"), "tall");
	assert_true(of("кава чи чай")->choice);
	assert_false(of("Чи корисна кава")->choice);
	assert_true(of("coffee vs tea")->choice);
	assert_false(of("coffee and tea")->choice);
	assert_true(of("слово «дім» польською")->quoted != 0);
	assert_true(of("слово «дім» польською")->quoted == of("слово \"дім\" чеською")->quoted);
	assert_true(of("слово «дім» польською")->quoted != of("слово «дуб» польською")->quoted);
	assert_true(of("слово 'дім' польською")->quoted != 0);
	assert_true(of("cats' tails and dogs' ears")->quoted == 0);
	assert_true(of("a 5\" screen")->quoted == 0);
}

static void repeats_count_once(void **state)
{
	const struct words *w = of("факультети, факультетів факультету");

	(void)state;
	assert_int_equal(w->n, 3);
	assert_false(w->word[0].flags & WORD_REPEAT);
	assert_true(w->word[1].flags & w->word[2].flags & WORD_REPEAT);
}

static void file_put(const char *dir, const char *name, const char *text, char *path, size_t size)
{
	FILE *f;

	snprintf(path, size, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void lists_of_ones_own(void **state)
{
	char dir[] = "/tmp/test_words_XXXXXX", list[64], alias[64], why[256] = "";
	struct lexicon_options o = { .languages = "en", .dictionaries = "/nonexistent", .stopwords = dir, .aliases = alias };
	struct lexicon *with = lexicon;
	static const char *const bad_list[] = { "[nonsense]\n", "[class MAYBE]\n", "[role ASIDE]\n", "[stop\n", "[stop twice over]\n",
		"[tense SOON]\n" };
	static const char *const bad_alias[] = { "", "[1]", "{\"a\": 1}", "{\"a\": \"\"}", "{\"a\":\"b c\",\"a\":\"d\"}", "{\"?\": \"b\"}",
		"{\"a\": \"the\"}", "{\"a\": \"1 2 3 4 5 6 7 8 9 10 11 12 13\"}" };

	(void)state;
	assert_non_null(mkdtemp(dir));
	file_put(dir, "en.txt", "banana  # a comment\r\n[weak replace]\nrice\n[opposite]\nsalt / pepper\n[class WHO replace]\nwhichever\n",
		list, sizeof list);
	file_put(dir, "aliases.json", "{\"XYZ\": \"Xylophone Yard Zone\", \"EU\": \"extra umbrella\", \"big apple\": \"New York\"}",
		alias, sizeof alias);
	lexicon = lexicon_open(&o, why, sizeof why);
	assert_non_null(lexicon);
	assert_true(words_mark(lexicon) != words_mark(with));
	assert_string_equal(said("good banana with rice"), "good rice-");
	assert_string_equal(said("who ate"), "ate");                /* still a stop-word */
	assert_int_equal(of("who ate")->class, CLASS_PLAIN);
	assert_int_equal(of("whichever ate")->class, CLASS_WHO);
	assert_int_equal(word("some salt", "salt")->contrast ^ 1, word("some pepper", "pepper")->contrast);
	assert_string_equal(said("the XYZ rules"), "xylophone~ yard~ zone~ rules");
	assert_string_equal(said("laws of the EU"), "laws extra~ umbrella~");
	assert_string_equal(said("life in the Big Apple"), "life new~ york~");
	lexicon_close(lexicon);
	lexicon = with;
	for (size_t i = 0; i < sizeof bad_alias / sizeof *bad_alias; i++) {
		file_put(dir, "aliases.json", bad_alias[i], alias, sizeof alias);
		*why = 0;
		assert_null(lexicon_open(&o, why, sizeof why));
		assert_non_null(strstr(why, "aliases.json"));
	}
	o.aliases = NULL;
	for (size_t i = 0; i < sizeof bad_list / sizeof *bad_list; i++) {
		file_put(dir, "en.txt", bad_list[i], list, sizeof list);
		*why = 0;
		assert_null(lexicon_open(&o, why, sizeof why));
		assert_non_null(strstr(why, "line 1"));
	}
	unlink(list);
	unlink(alias);
	o.aliases = alias;
	assert_null(lexicon_open(&o, why, sizeof why));             /* a file that was named must be there */
	o.aliases = NULL;
	lexicon_close(lexicon_open(&o, why, sizeof why));           /* a list need not be */
	rmdir(dir);
}

static void assert_same(const struct words *w, const struct words *v)
{
	assert_int_equal(w->skip, v->skip);
	assert_int_equal(w->class, v->class);
	assert_int_equal(w->classes, v->classes);
	assert_int_equal(w->negators, v->negators);
	assert_int_equal(w->concords, v->concords);
	assert_int_equal(w->absences, v->absences);
	assert_int_equal(w->tense, v->tense);
	assert_int_equal(w->modal, v->modal);
	assert_int_equal(w->choice, v->choice);
	assert_int_equal(w->sequence, v->sequence);
	assert_true(w->quoted == v->quoted);
	assert_int_equal(w->n, v->n);
	for (size_t i = 0; i < w->n; i++) {
		const struct word *a = &w->word[i], *b = &v->word[i];

		assert_true(slice_is(a->text, b->text));
		assert_int_equal(a->n_terms, b->n_terms);
		assert_memory_equal(a->terms, b->terms, a->n_terms * sizeof *a->terms);
		assert_int_equal(a->flags, b->flags);
		assert_int_equal(a->role, b->role);
		assert_int_equal(a->alias, b->alias);
		assert_int_equal(a->contrast, b->contrast);
	}
}

static void packed_and_back(void **state)
{
	static const char *const text[] = { "Чи не більший «Київ» за ХДУ у 2025 році, або 5+3?", "", "Як це працює?",
		"Was the \"Mona Lisa\" not stolen from the US before 1911 or after?" };
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
		const struct words *w = of(text[i]);
		struct words *v;

		buf_init(&b, WORDS_PACK_MAX);
		assert_int_equal(words_pack(&b, w), ERR_OK);
		assert_int_equal(words_unpack(buf_slice(&b), &arena, &v), ERR_OK);
		assert_same(w, v);
		for (size_t cut = 0; cut < b.len; cut++) {              /* a copy of its own, so that reading past it shows */
			char *part = __real_malloc(cut + 1);

			memcpy(part, b.at, cut);
			part = __real_realloc(part, cut ? cut : 1);
			assert_int_equal(words_unpack(slice_of(part, cut), &arena, &v), ERR_CORRUPT);
			assert_null(v);
			free(part);
		}
		assert_int_equal(buf_add(&b, "", 1), ERR_OK);
		assert_int_equal(words_unpack(buf_slice(&b), &arena, &v), ERR_CORRUPT);
		buf_fini(&b);
	}
	buf_init(&b, 40);
	assert_int_equal(words_pack(&b, of(text[0])), ERR_TOO_LARGE);
	assert_int_equal(b.len, 0);
	buf_fini(&b);
}

/* Whatever the bytes, unpack says no or gives what packs to the same bytes. */
static void unpack_believes_nothing(void **state)
{
	struct buf b, again;
	unsigned seed = 7, whole = 0;
	size_t len;

	(void)state;
	buf_init(&b, WORDS_PACK_MAX);
	assert_int_equal(words_pack(&b, of("Чи не більший «Київ» за ХДУ у 2025 році?")), ERR_OK);
	len = b.len;
	for (int i = 0; i < 20000; i++) {
		size_t at = (size_t)rand_r(&seed) % len;
		char old = b.at[at];
		struct arena a;
		struct words *v;

		b.at[at] = (char)rand_r(&seed);
		arena_init(&a, WORDS_ARENA);
		if (words_unpack(buf_slice(&b), &a, &v) == ERR_OK) {
			buf_init(&again, WORDS_PACK_MAX);
			assert_int_equal(words_pack(&again, v), ERR_OK);
			assert_true(slice_is(buf_slice(&b), buf_slice(&again)));
			buf_fini(&again);
			whole++;
		} else {
			assert_null(v);
		}
		arena_fini(&a);
		b.at[at] = old;
	}
	assert_true(whole > 0);
	buf_fini(&b);
}

static void any_bytes_will_do(void **state)
{
	static const char *const piece[] = { "а", "Z", " ", "'", "’", "\"", "«", "»", "+", "5", "-", "\xff", "\xd0", "😀", "\u0301", "\u200f",
		"\u05d0", ".", "\n", "не ", "ХДУ", "%", "\0", "`", "\ufdfa", "\xf0\x9f" };
	unsigned seed = 11, fit = 0, broken = 0;

	(void)state;
	for (int i = 0; i < 4000; i++) {
		char text[512];
		size_t n = 0, many = (size_t)rand_r(&seed) % 60, of_keywords;
		struct arena a;
		struct words *w;
		struct bag *bag;

		while (many--) {
			const char *p = piece[(size_t)rand_r(&seed) % (sizeof piece / sizeof *piece - (i % 2 ? 0 : 15))];
			size_t len = *p ? strlen(p) : 1;

			memcpy(text + n, p, len);
			n += len;
		}
		arena_init(&a, WORDS_ARENA);
		w = words_of(lexicon, slice_of(text, n), &a);
		assert_non_null(w);
		assert_true(w->skip != WORDS_MEMORY);
		assert_true(w->n <= WORDS_MAX);
		fit += w->skip == WORDS_FIT;
		broken += w->skip == WORDS_BROKEN;
		bag = words_bag(lexicon, slice_of(text, n), &a);
		assert_non_null(bag);
		assert_true(words_found(lexicon, w, slice_of(text, n), &of_keywords) <= of_keywords);
		arena_fini(&a);
	}
	assert_true(fit > 100 && broken > 100);
}

static void bags_and_keywords(void **state)
{
	struct bag *a = words_bag(lexicon, SLICE("The cat, the CAT: об’єкт!"), &arena);
	struct bag *b = words_bag(lexicon, SLICE("the cat the cat об'єкт"), &arena);
	size_t n, of_keywords;

	(void)state;
	assert_int_equal(a->n, 5);
	assert_int_equal(b->n, 5);
	assert_memory_equal(a->token, b->token, 5 * sizeof *a->token);
	assert_true(a->token[0] == a->token[2] && a->token[0] != a->token[1]);
	assert_int_equal(words_bag(lexicon, SLICE(""), &arena)->n, 0);
	assert_int_equal(words_bag(lexicon, SLICE("\xff\xfe ok"), &arena)->n, 1);
	n = words_found(lexicon, of("Які факультети є в ХДУ?"), SLICE("У Херсонському державному університеті дев'ять факультетів."), &of_keywords);
	assert_int_equal(of_keywords, 2);
	assert_int_equal(n, 2);
	n = words_found(lexicon, of("Які факультети є в ХДУ?"), SLICE("ХДУ готує вчителів."), &of_keywords);
	assert_int_equal(n, 1);
	n = words_found(lexicon, of("How do I boil 3 eggs?"), SLICE("Put the egg into boiling water."), &of_keywords);
	assert_int_equal(of_keywords, 3);
	assert_int_equal(n, 2);
	n = words_found(lexicon, of(""), SLICE("anything"), &of_keywords);
	assert_int_equal(of_keywords, 0);
	assert_int_equal(n, 0);
}

static void no_memory_for_words(void **state)
{
	const char *text = "Які документи подати до ХДУ у 2025 році?";
	size_t memory = 0, limit;
	unsigned n;

	(void)state;
	for (limit = 0; limit < WORDS_ARENA; limit += 64) {
		struct arena a;
		struct words *w;

		arena_init(&a, limit);
		w = words_of(lexicon, slice_text(text), &a);
		if (w && w->skip == WORDS_FIT) {
			arena_fini(&a);
			break;
		}
		assert_true(!w || (w->skip == WORDS_MEMORY && w->n == 0));
		memory += w != NULL;
		arena_fini(&a);
	}
	assert_true(limit < WORDS_ARENA && memory > 3);
	for (n = 1; n < 100; n++) {
		struct arena a;
		struct words *w;

		arena_init(&a, WORDS_ARENA);
		fail_at = n;
		w = words_of(lexicon, slice_text(text), &a);
		if (fail_at) {
			fail_at = 0;
			arena_fini(&a);
			break;
		}
		assert_true(!w || w->skip == WORDS_MEMORY);
		arena_fini(&a);
	}
	assert_in_range(n, 3, 99);
}

static void no_memory_for_a_lexicon(void **state)
{
	struct lexicon_options o = { .languages = "uk,en", .dictionaries = "/nonexistent" };
	struct lexicon *l = NULL;
	unsigned n;

	(void)state;
	for (n = 1; !l && n < 2000; n++) {
		char why[256] = "";

		fail_at = n;
		l = lexicon_open(&o, why, sizeof why);
		if (!l)
			assert_true(*why);
		if (l && fail_at == 0) {              /* it went on without what failed: a longer map was not needed yet */
			lexicon_close(l);
			l = NULL;
		}
		fail_at = 0;
	}
	assert_in_range(n, 50, 1999);
	lexicon_close(l);
}

static void *reads(void *arg)
{
	static const char *const text[] = { "Які є факультети в ХДУ?", "Скільки факультетів у Херсонському університеті?",
		"How do I boil an egg?", "Чому небо над морем синє?" };
	unsigned *wrong = arg;

	for (int i = 0; i < 400; i++) {
		struct arena a;
		struct words *w, *v;
		size_t of_keywords;

		arena_init(&a, 2 * WORDS_ARENA);
		w = words_of(lexicon, slice_text(text[i % 4]), &a);
		v = words_of(lexicon, slice_text(text[i % 4]), &a);
		*wrong += !w || !v || w->n != v->n || w->n < 2 || !word_matches(&w->word[0], &v->word[0]);
		if (w)
			*wrong += words_found(lexicon, w, slice_text(text[i % 4]), &of_keywords) != of_keywords;
		arena_fini(&a);
	}
	return NULL;
}

static void threads_share_a_lexicon(void **state)
{
	pthread_t t[4];
	unsigned wrong[4] = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reads, &wrong[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wrong[i], 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)
	const struct CMUnitTest tests[] = {
		T(rule_1_skips), T(rule_1_limits), T(rule_1_signs_are_bounded_too), T(rule_2_apostrophes_and_folding),
		T(rule_3_signs_kept), T(rule_4_never_stop_words), T(rule_4_german_particles), T(rule_5_negators), T(rule_6_classes),
		T(rule_7_lemmas), T(rule_7_without_dictionary), T(rule_7_any_language), T(rule_8_aliases_and_synonyms),
		T(rule_9_weights), T(rule_10_roles), T(repeats_count_once), T(lists_of_ones_own), T(packed_and_back),
		T(unpack_believes_nothing), T(any_bytes_will_do), T(bags_and_keywords), T(no_memory_for_words),
		T(no_memory_for_a_lexicon), T(threads_share_a_lexicon),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
