/* words_lists.c - what is known about words beforehand: stop-words, question words, negators, synonyms, aliases.
 *
 * A list is a text file, one a language, the same for the built-in ones (words/, embedded at build time) and an
 * operator's (semantic.stopwords, a directory of LANG.txt). "#" begins a comment. Words stand under a section;
 * words before the first one are stop-words.
 *
 *   [stop]              dropped            [keep]      never dropped          [keep-last]  … at a clause's end
 *   [weak]              a quarter's weight [negator]   counted                [not-next]   … and tied to the next word
 *   [concord]           negators that a language heaps up, counted once: never; [except] of what comes next: without
 *   [task]              asks for work on a text: translate
 *   [role FROM]         marks the next word: FROM TO THAN BEFORE AFTER BY OF WITH WITHOUT OVER UNDER FOR
 *   [class WHEN]        question words and phrases, one a line; LIST, COUNT (a LIST that never asks for a time),
 *                       TELL (a LIST that gives way to any other), HOW,
 *                       YES_NO, WHEN, WHERE, WHERE_FROM, WHO, WHOM, WHOSE, WHY, HOW_LONG, HOW_OLD, HOW_FAR, HOW_OFTEN
 *   [tense PAST]        auxiliaries: was, had; FUTURE: will
 *   [article]           marks the next word: a, the
 *   [modal CAN]         can, may; OUGHT: must, should
 *   [sequence]          then, first             [unit]  not a stop-word after a number: am
 *   [time]              after a LIST word these make it WHEN: what year
 *   [asking]            at the very front, these ask for yes or no: is, does
 *   [year]              weak beside a number of four digits
 *   [choice]            between, or            [polite]    a capital does not make it a name
 *   [volatile]          today, latest          [follow-up] he, she            [pointing]  it, this
 *   [opener]            phrases that carry on an earlier question, one a line
 *   [same]              words that mean the same, a set a line
 *   [opposite]          words / their opposites, a pair of sets a line
 *
 * "[stop replace]" forgets what was built in under that name; "replace" goes with every section but [same] and
 * [opposite].
 *
 * Threads  all of this happens in lexicon_open(); afterwards it is only read. */
#include "proxy/base/words_inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unicode/ustring.h>

#define EMBEDDED(X) X(cs) X(de) X(en) X(es) X(fr) X(it) X(pl) X(ru) X(uk)
#define X(code) \
	extern const char _binary_proxy_base_words_##code##_txt_start[], _binary_proxy_base_words_##code##_txt_end[];
EMBEDDED(X)
#undef X

static const struct {
	const char *code, *at, *end;
} embedded[] = {
#define X(code) { #code, _binary_proxy_base_words_##code##_txt_start, _binary_proxy_base_words_##code##_txt_end },
EMBEDDED(X)
#undef X
};

const struct language_info language_info[] = {
	{ "uk", SCRIPT_CYRILLIC, NULL,         "іїєґ",        false, false },
	{ "ru", SCRIPT_CYRILLIC, "russian",    "ыэёъ",        false, false },
	{ "bg", SCRIPT_CYRILLIC, NULL,         "",            false, false },
	{ "en", SCRIPT_LATIN,    "english",    "",            false, false },
	{ "de", SCRIPT_LATIN,    "german",     "äöüß",        true,  false },
	{ "fr", SCRIPT_LATIN,    "french",     "çèêàùœë",     false, true },
	{ "es", SCRIPT_LATIN,    "spanish",    "ñáíóú",       false, false },
	{ "it", SCRIPT_LATIN,    "italian",    "àèìòù",       false, true },
	{ "pt", SCRIPT_LATIN,    "portuguese", "ãõçáâê",      false, false },
	{ "nl", SCRIPT_LATIN,    "dutch",      "",            false, false },
	{ "sv", SCRIPT_LATIN,    "swedish",    "åäö",         false, false },
	{ "da", SCRIPT_LATIN,    "danish",     "åæø",         false, false },
	{ "no", SCRIPT_LATIN,    "norwegian",  "åæø",         false, false },
	{ "fi", SCRIPT_LATIN,    "finnish",    "äö",          false, false },
	{ "ro", SCRIPT_LATIN,    "romanian",   "ăâîșț",       false, false },
	{ "hu", SCRIPT_LATIN,    "hungarian",  "őűáéíóú",     false, false },
	{ "tr", SCRIPT_LATIN,    "turkish",    "ışğçöü",      false, false },
	{ "pl", SCRIPT_LATIN,    NULL,         "ąęłńśźżć",    false, false },
	{ "cs", SCRIPT_LATIN,    NULL,         "ěščřžýůťď",   false, false },
	{ NULL, SCRIPT_OTHER,    NULL,         "",            false, false },
};

enum shape { SHAPE_WORDS, SHAPE_PHRASES, SHAPE_SAME, SHAPE_OPPOSITE };

static const struct section {
	const char *name;
	enum shape shape;
	uint32_t bit;
	bool of_lemmas;                       /* counts for every form of the word */
} sections[] = {
	{ "stop",      SHAPE_WORDS,    LIST_STOP,      false },
	{ "weak",      SHAPE_WORDS,    LIST_WEAK,      true },
	{ "negator",   SHAPE_WORDS,    LIST_NEGATOR,   false },
	{ "not-next",  SHAPE_WORDS,    LIST_NEGATOR | LIST_DIRECT, false },
	{ "concord",   SHAPE_WORDS,    LIST_NEGATOR | LIST_CONCORD, false },
	{ "except",    SHAPE_WORDS,    LIST_NEGATOR | LIST_EXCEPT, false },
	{ "task",      SHAPE_WORDS,    LIST_TASK,      false },
	{ "keep",      SHAPE_WORDS,    LIST_KEEP,      false },
	{ "keep-last", SHAPE_WORDS,    LIST_KEEP_LAST, false },
	{ "polite",    SHAPE_WORDS,    LIST_POLITE,    false },
	{ "time",      SHAPE_WORDS,    LIST_TIME,      false },
	{ "year",      SHAPE_WORDS,    LIST_YEAR,      false },
	{ "asking",    SHAPE_WORDS,    LIST_ASKING,    false },
	{ "sequence",  SHAPE_WORDS,    LIST_SEQUENCE,  false },
	{ "unit",      SHAPE_WORDS,    LIST_UNIT,      false },
	{ "article",   SHAPE_WORDS,    LIST_ARTICLE,   false },
	{ "choice",    SHAPE_WORDS,    LIST_CHOICE,    false },
	{ "volatile",  SHAPE_WORDS,    LIST_VOLATILE,  true },
	{ "follow-up", SHAPE_WORDS,    LIST_FOLLOW,    false },
	{ "pointing",  SHAPE_WORDS,    LIST_POINTING,  false },
	{ "opener",    SHAPE_PHRASES,  LIST_OPENER,    false },
	{ "role",      SHAPE_WORDS,    0,              false },
	{ "tense",     SHAPE_WORDS,    0,              false },
	{ "modal",     SHAPE_WORDS,    0,              false },
	{ "class",     SHAPE_PHRASES,  0,              false },
	{ "same",      SHAPE_SAME,     0,              false },
	{ "opposite",  SHAPE_OPPOSITE, 0,              false },
};

static const struct {
	const char *name;
	uint8_t class;
	uint32_t bit;
} classes[] = {
	{ "LIST", CLASS_LIST, 0 }, { "COUNT", CLASS_LIST, LIST_TELLING },
	{ "TELL", CLASS_LIST, LIST_TELLING | LIST_REQUEST }, { "HOW", CLASS_HOW, 0 },
	{ "YES_NO", CLASS_YES_NO, 0 }, { "WHEN", CLASS_WHEN, 0 }, { "WHERE", CLASS_WHERE, 0 },
	{ "WHERE_FROM", CLASS_WHERE_FROM, 0 }, { "WHO", CLASS_WHO, 0 },
	{ "WHOM", CLASS_WHOM, 0 }, { "WHOSE", CLASS_WHOSE, 0 },
	{ "WHY", CLASS_WHY, 0 }, { "HOW_LONG", CLASS_HOW_LONG, 0 }, { "HOW_OLD", CLASS_HOW_OLD, 0 },
	{ "HOW_FAR", CLASS_HOW_FAR, 0 }, { "HOW_OFTEN", CLASS_HOW_OFTEN, 0 },
};

/* Where the reading of one file stands. */
struct reading {
	struct lexicon *l;
	struct language *g;
	const struct section *section;
	uint8_t role, class, tense, modal;
	uint32_t class_bit;
	unsigned line;
	uint16_t *contrasts;
	char *why;
	size_t why_len;
};

static bool wrong(struct reading *r, const char *what, struct slice s)
{
	snprintf(r->why, r->why_len, "line %u: %s: %.*s", r->line, what, (int)(s.len < 60 ? s.len : 60), s.at);
	return false;
}

static bool no_memory(struct reading *r)
{
	snprintf(r->why, r->why_len, "out of memory");
	return false;
}

/* A word of a list, folded as a question's words are. */
static bool fold(const struct lexicon *l, struct slice word, char *to, size_t size, struct slice *folded)
{
	UChar wide[TOKEN_UNITS_MAX];
	UErrorCode e = U_ZERO_ERROR;
	int32_t n = 0;
	size_t len;

	u_strFromUTF8(wide, TOKEN_UNITS_MAX, &n, word.at, (int32_t)word.len, &e);
	if (U_FAILURE(e))
		return false;
	for (int32_t i = 0; i < n; i++)
		if (wide[i] == 0x2019 || wide[i] == 0x02bc)
			wide[i] = '\'';
	len = text_fold(l->fold, wide, n, to, size);
	*folded = slice_of(to, len);
	return len > 0;
}

static bool put_lemmas(struct reading *r, struct slice folded, uint32_t bits)
{
	uint64_t term[WORD_TERMS_MAX];
	unsigned flags;
	size_t n = stems_of(r->l->stems, r->g, folded, false, term, &flags);

	for (size_t i = 0; i < n; i++) {
		struct listed *it = map_put(&r->g->lemmas, term[i]);

		if (!it)
			return no_memory(r);
		it->bits |= bits;
	}
	return true;
}

static bool put_word(struct reading *r, struct slice folded)
{
	struct listed *it = map_put(&r->g->forms, text_hash(folded));

	if (!it)
		return no_memory(r);
	it->bits |= r->section->bit | r->class_bit;
	if (r->role)
		it->role = r->role;
	if (r->class)
		it->class = r->class;
	if (r->tense)
		it->tense = r->tense;
	if (r->modal)
		it->modal = r->modal;
	return !r->section->of_lemmas || put_lemmas(r, folded, r->section->bit);
}

/* The term all words of a line go by: the first word's, or what that one already goes by. */
static bool put_same(struct reading *r, struct slice folded, uint64_t *head)
{
	uint64_t term[WORD_TERMS_MAX];
	unsigned flags;
	size_t n = stems_of(r->l->stems, r->g, folded, false, term, &flags);

	for (size_t i = 0; i < n; i++) {
		struct listed *it = map_put(&r->g->lemmas, term[i]);

		if (!it)
			return no_memory(r);
		if (!*head)
			*head = it->same ? it->same : term[i];
		if (!it->same)
			it->same = *head;
	}
	return true;
}

static bool put_opposite(struct reading *r, struct slice folded, uint16_t contrast)
{
	uint64_t term[WORD_TERMS_MAX];
	struct listed *it;
	unsigned flags;
	size_t n = stems_of(r->l->stems, r->g, folded, false, term, &flags);

	for (size_t i = 0; i < n; i++) {
		it = map_put(&r->g->lemmas, term[i]);
		if (!it)
			return no_memory(r);
		it->contrast = contrast;
	}
	it = map_put(&r->g->forms, text_hash(folded));
	if (!it)
		return no_memory(r);
	it->contrast = contrast;
	return true;
}

/* A line of opposites may name a word of an earlier line: it keeps its number, the others take theirs from it. */
static uint16_t known_contrast(const struct reading *r, struct slice words)
{
	struct slice rest = words, part, folded;
	bool right = false;
	char text[512];

	while (slice_next(&rest, ' ', &part)) {
		const struct listed *it;

		if (slice_is(part, SLICE("/"))) {
			right = true;
			continue;
		}
		if (!part.len || !fold(r->l, part, text, sizeof text, &folded))
			continue;
		it = map_find(&r->g->forms, text_hash(folded));
		if (it && it->contrast)
			return right ? it->contrast ^ 1 : it->contrast;
	}
	return 0;
}

static bool read_words(struct reading *r, struct slice line)
{
	struct slice rest = line, part, folded;
	enum shape shape = r->section->shape;
	uint16_t contrast = 0;
	uint64_t head = 0;
	char text[512];

	if (shape == SHAPE_PHRASES) {
		if (!fold(r->l, line, text, sizeof text, &folded))
			return wrong(r, "not a phrase", line);
		return put_word(r, folded);
	}
	if (shape == SHAPE_OPPOSITE) {
		contrast = known_contrast(r, line);
		if (!contrast) {
			*r->contrasts = (uint16_t)(*r->contrasts + 2);
			contrast = *r->contrasts;
		}
	}
	while (slice_next(&rest, ' ', &part)) {
		bool ok;

		if (!part.len)
			continue;
		if (shape == SHAPE_OPPOSITE && slice_is(part, SLICE("/"))) {
			contrast ^= 1;
			continue;
		}
		if (!fold(r->l, part, text, sizeof text, &folded))
			return wrong(r, "not a word", part);
		ok = shape == SHAPE_SAME ? put_same(r, folded, &head)
			: shape == SHAPE_OPPOSITE ? put_opposite(r, folded, contrast) : put_word(r, folded);
		if (!ok)
			return false;
	}
	return true;
}

static void forget(struct map *m, const struct reading *r)
{
	for (size_t i = 0; i < m->room; i++) {
		struct listed *it = &m->listed[i];

		it->bits &= ~r->section->bit;
		if (r->role && it->role == r->role)
			it->role = 0;
		if (r->class && it->class == r->class && (it->bits & (LIST_TELLING | LIST_REQUEST)) == r->class_bit)
			it->class = 0;
		if (r->tense && it->tense == r->tense)
			it->tense = 0;
		if (r->modal && it->modal == r->modal)
			it->modal = 0;
	}
}

static bool read_section(struct reading *r, struct slice line)
{
	struct slice rest = slice_of(line.at + 1, line.len - 1), part, name = { 0 }, of = { 0 };
	bool replace = false;
	size_t i;

	if (rest.at[rest.len - 1] != ']')
		return wrong(r, "a section needs its ]", line);
	rest.len--;
	while (slice_next(&rest, ' ', &part)) {
		if (!name.len)
			name = part;
		else if (slice_is(part, SLICE("replace")))
			replace = true;
		else
			of = part;
	}
	r->role = r->class = r->tense = r->modal = 0;
	r->class_bit = 0;
	for (i = 0; i < sizeof sections / sizeof *sections; i++)
		if (slice_is(name, slice_text(sections[i].name)))
			break;
	if (i == sizeof sections / sizeof *sections)
		return wrong(r, "no such section", line);
	r->section = &sections[i];
	if (slice_is(name, SLICE("role"))) {
		for (uint8_t k = 1; k < WORD_ROLES; k++)
			if (slice_is_nocase(of, slice_text(word_role_name[k])))
				r->role = k;
		if (!r->role)
			return wrong(r, "no such role", line);
	} else if (slice_is(name, SLICE("class"))) {
		for (size_t k = 0; k < sizeof classes / sizeof *classes; k++) {
			if (slice_is(of, slice_text(classes[k].name))) {
				r->class = classes[k].class;
				r->class_bit = classes[k].bit;
			}
		}
		if (!r->class)
			return wrong(r, "no such class", line);
	} else if (slice_is(name, SLICE("tense"))) {
		r->tense = slice_is(of, SLICE("PAST")) ? TENSE_PAST : slice_is(of, SLICE("FUTURE")) ? TENSE_FUTURE : 0;
		if (!r->tense)
			return wrong(r, "no such tense", line);
	} else if (slice_is(name, SLICE("modal"))) {
		r->modal = slice_is(of, SLICE("CAN")) ? MODAL_CAN : slice_is(of, SLICE("OUGHT")) ? MODAL_OUGHT : 0;
		if (!r->modal)
			return wrong(r, "no such modal", line);
	} else if (of.len) {
		return wrong(r, "one word too many", line);
	}
	if (replace) {
		forget(&r->g->forms, r);
		forget(&r->g->lemmas, r);
	}
	return true;
}

static bool read_list(struct lexicon *l, struct language *g, struct slice text, uint16_t *contrasts,
	char *why, size_t len)
{
	struct reading r = { .l = l, .g = g, .section = sections, .contrasts = contrasts, .why = why, .why_len = len };
	struct slice line;

	while (text.len) {
		const char *end = memchr(text.at, '\n', text.len), *comment;

		line = slice_of(text.at, end ? (size_t)(end - text.at) : text.len);
		text = slice_of(line.at + line.len + (end != NULL), text.len - line.len - (end != NULL));
		r.line++;
		if (line.len && line.at[line.len - 1] == '\r')
			line.len--;
		comment = line.len ? memchr(line.at, '#', line.len) : NULL;
		if (comment)
			line.len = (size_t)(comment - line.at);
		line = slice_trim(line);
		if (line.len && !(line.at[0] == '[' ? read_section(&r, line) : read_words(&r, line)))
			return false;
	}
	return true;
}

bool list_file_read(const char *path, char **text, size_t *n, char *why, size_t len)
{
	FILE *f = fopen(path, "re");
	bool ok = false;

	*text = NULL;
	*n = 0;
	if (!f) {
		snprintf(why, len, "%s: %s", path, strerror(errno));
		return errno == ENOENT;
	}
	*text = malloc(LIST_FILE_MAX + 1);
	if (!*text) {
		snprintf(why, len, "%s: out of memory", path);
	} else {
		*n = fread(*text, 1, LIST_FILE_MAX + 1, f);
		if (ferror(f))
			snprintf(why, len, "%s: %s", path, strerror(errno));
		else if (*n > LIST_FILE_MAX)
			snprintf(why, len, "%s: larger than %d bytes", path, LIST_FILE_MAX);
		else
			ok = true;
	}
	fclose(f);
	if (!ok) {
		free(*text);
		*text = NULL;
	}
	return ok;
}

bool lists_load(struct lexicon *l, struct language *g, const char *dir, char *why, size_t len)
{
	uint16_t contrasts = (uint16_t)(2000 * (g - l->language));    /* languages do not share numbers */
	char path[1024], said[160] = "";
	char *text;
	size_t n;
	bool ok;

	for (size_t i = 0; i < sizeof embedded / sizeof *embedded; i++) {
		if (!strcmp(embedded[i].code, g->code)) {
			struct slice list = slice_of(embedded[i].at, (size_t)(embedded[i].end - embedded[i].at));

			l->mark ^= text_hash(list);
			if (!read_list(l, g, list, &contrasts, said, sizeof said)) {
				snprintf(why, len, "built-in list '%s': %s", g->code, said);
				return false;
			}
		}
	}
	if (!dir)
		return true;
	if (snprintf(path, sizeof path, "%s/%s.txt", dir, g->code) >= (int)sizeof path) {
		snprintf(why, len, "%s: the path is too long", dir);
		return false;
	}
	if (!list_file_read(path, &text, &n, why, len))
		return false;
	if (!text)
		return true;
	l->mark ^= text_hash(slice_of(text, n)) + 1;
	ok = read_list(l, g, slice_of(text, n), &contrasts, said, sizeof said);
	if (!ok)
		snprintf(why, len, "%s: %s", path, said);
	free(text);
	return ok;
}
