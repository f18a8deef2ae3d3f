/* words_stem.c - words to lemmas, by dictionary (hunspell) or stemmer (Snowball).
 *
 * Ukrainian inflects so richly that no suffix list will do: its lemmas come from the dictionary. A word may have
 * several (року: рік, рок); all are kept, but those that begin with another letter, which are other words more
 * often than not. Proper names are in the dictionary with a capital only, so every word is tried as folded,
 * with a capital, and, if it was written so, in capitals. A Cyrillic word the dictionary does not know (or all,
 * when there is none) also gets a term for its stem without the commonest endings: докер, докера, докером.
 * English goes by its few endings, each checked against the dictionary. Other languages that Snowball has go by
 * Snowball; their dictionary, if there is one, only says which words exist.
 *
 * Threads  any; one lock around libraries that have none. A word costs them 20 to 50 µs the first time, after that
 *          the memo answers. The memo has a fixed number of places and each place the word that came last.
 * Bounds   MEMO_PLACES of 88 bytes; words longer than STEM_BYTES_MAX are not looked up. */
#include "proxy/base/words_inner.h"

#include <dirent.h>
#include <hunspell/hunspell.h>
#include <libstemmer.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unicode/ustring.h>

#define DICTIONARIES "/usr/share/hunspell"

enum { MEMO_PLACES = 1 << 15, STEM_BYTES_MAX = 120 };

struct stemmer {
	Hunhandle *dictionary;
	struct sb_stemmer *snowball;
	unsigned number;
	bool english;
	struct stemmer *next;
};

struct memo {
	uint64_t word;
	uint16_t flags;
	uint8_t n;
	uint64_t term[WORD_TERMS_MAX];
};

struct stems {
	pthread_mutex_t lock;
	struct stemmer *all;
	const UNormalizer2 *fold;
	struct memo *memo;                    /* only the places in use cost memory */
};

struct stems *stems_open(const UNormalizer2 *fold)
{
	struct stems *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->memo = calloc(MEMO_PLACES, sizeof *s->memo);
	if (!s->memo || pthread_mutex_init(&s->lock, NULL)) {
		free(s->memo);
		free(s);
		return NULL;
	}
	s->fold = fold;
	return s;
}

void stems_close(struct stems *s)
{
	if (!s)
		return;
	while (s->all) {
		struct stemmer *g = s->all;

		s->all = g->next;
		if (g->dictionary)
			Hunspell_destroy(g->dictionary);
		if (g->snowball)
			sb_stemmer_delete(g->snowball);
		free(g);
	}
	pthread_mutex_destroy(&s->lock);
	free(s->memo);
	free(s);
}

/* CODE.dic or the first CODE_*.dic by name, with its .aff. */
static bool find_dictionary(const char *dir, const char *code, char *aff, char *dic, size_t size)
{
	char best[64] = "";
	struct dirent *entry;
	size_t n = strlen(code);
	struct stat st;
	DIR *d = opendir(dir);

	if (!d)
		return false;
	while ((entry = readdir(d))) {
		size_t len = strlen(entry->d_name);

		if (len < n + 4 || len - 4 >= sizeof best || strncmp(entry->d_name, code, n)
		    || (entry->d_name[n] != '_' && entry->d_name[n] != '.') || strcmp(entry->d_name + len - 4, ".dic"))
			continue;
		if (*best && strncmp(best, entry->d_name, len - 4) <= 0)
			continue;
		memcpy(best, entry->d_name, len - 4);
		best[len - 4] = 0;
	}
	closedir(d);
	return *best && snprintf(aff, size, "%s/%s.aff", dir, best) < (int)size
		&& snprintf(dic, size, "%s/%s.dic", dir, best) < (int)size && !stat(aff, &st) && !stat(dic, &st);
}

/* Which dictionary it is, for the mark: the name and size say it well enough. */
static uint64_t file_mark(const char *path)
{
	struct stat st;
	char said[64];

	snprintf(said, sizeof said, "%lld", stat(path, &st) ? 0 : (long long)st.st_size);
	return text_hash(slice_text(said));
}

bool stems_add(struct stems *s, struct language *g, const char *dir, struct buf *notes, uint64_t *mark)
{
	struct stemmer *m = calloc(1, sizeof *m);
	char aff[512], dic[512];
	enum err e = ERR_OK;

	if (!m)
		return false;
	m->next = s->all;
	m->number = s->all ? s->all->number + 1 : 1;
	s->all = m;
	g->stemmer = m;
	m->english = !strcmp(g->code, "en");
	if (g->info && g->info->stemmer)
		m->snowball = sb_stemmer_new(g->info->stemmer, NULL);
	if (find_dictionary(dir ? dir : DICTIONARIES, g->code, aff, dic, sizeof aff))
		m->dictionary = Hunspell_create(aff, dic);
	if (m->dictionary && strcasecmp(Hunspell_get_dic_encoding(m->dictionary), "UTF-8")) {
		Hunspell_destroy(m->dictionary);
		m->dictionary = NULL;
	}
	if (m->dictionary)
		*mark ^= text_hash(slice_text(strrchr(dic, '/'))) + file_mark(dic);
	if (m->snowball)
		*mark ^= text_hash(slice_text(g->info->stemmer));
	if (!m->dictionary && !m->snowball)
		e = buf_addf(notes, "no dictionary and no stemmer for '%s'%s: forms of one word do not match, "
			"so there will be fewer hits\n", g->code,
			!strcmp(g->code, "uk") ? " (package hunspell-uk)" : "");
	else if (!m->dictionary && !strcmp(g->code, "en"))
		e = buf_addf(notes, "no dictionary for 'en' (package hunspell-en-us): "
			"typing errors do not match\n");
	return e == ERR_OK;
}

static int later(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void add_term(uint64_t *term, size_t *n, uint64_t t)
{
	for (size_t i = 0; i < *n; i++)
		if (term[i] == t)
			return;
	if (*n < WORD_TERMS_MAX)
		term[(*n)++] = t;
}

static size_t fold_text(const struct stems *s, const char *text, char *to, size_t size)
{
	UChar wide[TOKEN_UNITS_MAX];
	UErrorCode e = U_ZERO_ERROR;
	int32_t n = 0;

	u_strFromUTF8(wide, TOKEN_UNITS_MAX, &n, text, -1, &e);
	return U_FAILURE(e) ? 0 : text_fold(s->fold, wide, n, to, size);
}

/* The first character of a folded word; lemmas that begin with another one are other words. */
static bool same_start(const char *a, size_t a_len, struct slice b)
{
	size_t n = 1;

	while (n < b.len && (b.at[n] & 0xc0) == 0x80)
		n++;
	return a_len >= n && memcmp(a, b.at, n) == 0;
}

static bool ends_with(struct slice s, const char *end)
{
	size_t n = strlen(end);

	return s.len > n && memcmp(s.at + s.len - n, end, n) == 0;
}

/* Past tense of Ukrainian: писав, писала, писалося, написано, ніс. The lemma must be a verb, for the endings alone
 * are a noun's too. */
static bool is_past(struct slice word, struct slice lemma)
{
	static const char *const endings[] = { "в", "ла", "ло", "ли", "вся", "лася", "лося", "лися", "лась", "лось",
		"лись", "всь", "но", "то", "г", "к", "х", "с", "з", "р", "б" };

	if (!ends_with(lemma, "ти") && !ends_with(lemma, "тися") && !ends_with(lemma, "тись"))
		return false;
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (ends_with(word, endings[i]))
			return true;
	return false;
}

static void add_lemmas(const struct stems *s, Hunhandle *h, const char *word, struct slice folded,
	uint64_t *term, size_t *n, unsigned *flags)
{
	char **lemma = NULL;
	int found = Hunspell_stem(h, &lemma, word);
	char text[512];

	for (int i = 0; i < found; i++) {
		size_t len = fold_text(s, lemma[i], text, sizeof text);

		if (!len || !same_start(text, len, folded))
			continue;
		add_term(term, n, text_hash(slice_of(text, len)));
		if (is_past(folded, slice_of(text, len)))
			*flags |= WORD_PAST;
	}
	Hunspell_free_list(h, &lemma, found);
}

/* word with a capital, or in capitals. False: there is nothing to change. */
static bool capitalise(const char *word, bool all, char *to, size_t size)
{
	UChar wide[TOKEN_UNITS_MAX], upper[2 * TOKEN_UNITS_MAX];
	UErrorCode e = U_ZERO_ERROR;
	int32_t n = 0, first = 0, len;

	u_strFromUTF8(wide, TOKEN_UNITS_MAX, &n, word, -1, &e);
	if (U_FAILURE(e) || n == 0)
		return false;
	U16_FWD_1(wide, first, n);
	if (all)
		first = n;
	len = u_strToUpper(upper, 2 * TOKEN_UNITS_MAX, wide, first, "", &e);
	if (U_FAILURE(e) || len + n - first > 2 * TOKEN_UNITS_MAX)
		return false;
	if (len == first && u_memcmp(upper, wide, first) == 0)
		return false;
	u_memcpy(upper + len, wide + first, n - first);
	e = U_ZERO_ERROR;
	u_strToUTF8(to, (int32_t)size, NULL, upper, len + n - first, &e);
	return U_SUCCESS(e) && e != U_STRING_NOT_TERMINATED_WARNING;
}

/* The commonest case endings of Ukrainian and Russian, longest first. A stem keeps at least four letters. */
static size_t without_ending(struct slice w)
{
	static const char *const ending[] = { "ами", "ями", "ові", "еві", "ого", "ому", "ими", "ах", "ям", "ях",
		"ам", "ом", "ем", "єм", "ою", "ею", "єю", "ів", "їв", "ий", "ій", "ої", "их", "им", "ые", "ый", "ов", "а", "я",
		"у", "ю", "і", "ї", "и", "е", "о", "ы", "ь" };

	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
		size_t n = strlen(ending[i]);

		if (w.len >= n + 8 && memcmp(w.at + w.len - n, ending[i], n) == 0)   /* a letter has two bytes */
			return w.len - n;
	}
	return w.len;
}

static bool is_vowel(char c)
{
	return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
}

static bool is_word(const struct stemmer *m, const char *word, size_t len, const char *end)
{
	char text[STEM_BYTES_MAX + 8];

	snprintf(text, sizeof text, "%.*s%s", (int)len, word, end);
	return len >= 2 && Hunspell_spell(m->dictionary, text);
}

static void add_form(const char *word, size_t len, const char *end, uint64_t *term, size_t *n)
{
	char text[STEM_BYTES_MAX + 8];

	snprintf(text, sizeof text, "%.*s%s", (int)len, word, end);
	add_term(term, n, text_hash(slice_text(text)));
}

/* What is left of an English word without -ed or -ing: hoping: hope; hopping: hop; opening: open; using: use. */
static void add_verb(const struct stemmer *m, const char *w, size_t len, uint64_t *term, size_t *n)
{
	bool with_e, short_end;

	if (len < 2 || (len == 2 && !is_word(m, w, len, "e")))
		return;
	if (len > 3 && w[len - 1] == w[len - 2] && !is_vowel(w[len - 1]) && is_word(m, w, len - 1, "")) {
		add_form(w, len - 1, "", term, n);
		if (w[len - 1] != 'l' && w[len - 1] != 's')
			return;                       /* calling: call, controlling: control */
	}
	with_e = is_word(m, w, len, "e");
	short_end = len > 2 && !is_vowel(w[len - 1]) && is_vowel(w[len - 2]) && !is_vowel(w[len - 3]);
	if (with_e)
		add_form(w, len, "e", term, n);
	if (!(with_e && short_end) && is_word(m, w, len, ""))
		add_form(w, len, "", term, n);        /* else it would be doubled: caring is not of car */
}

/* English inflects little, and Snowball's stems are too short to trust (university, universe; import, important).
 * So: the word, and what it is an inflection of if the dictionary has that. */
static size_t english(const struct stemmer *m, const char *w, size_t len, uint64_t *term)
{
	size_t n = 0;

	add_form(w, len, "", term, &n);
	if (len < 4)
		return n;
	if (w[len - 1] == 's' && w[len - 2] != 's' && w[len - 2] != 'u' && w[len - 2] != 'i'
	    && strcmp(w + len - 3, "ics") && strcmp(w, "news")) {
		if (!strcmp(w + len - 3, "ies") && is_word(m, w, len - 3, "y"))
			add_form(w, len - 3, "y", term, &n);
		else if (!strcmp(w + len - 3, "ves") && is_word(m, w, len - 3, "f"))
			add_form(w, len - 3, "f", term, &n);
		else if (is_word(m, w, len - 1, ""))
			add_form(w, len - 1, "", term, &n);
		else if (w[len - 2] == 'e' && is_word(m, w, len - 2, ""))
			add_form(w, len - 2, "", term, &n);
	} else if (!strcmp(w + len - 3, "ied") && is_word(m, w, len - 3, "y")) {
		add_form(w, len - 3, "y", term, &n);
	} else if (!strcmp(w + len - 2, "ed")) {
		add_verb(m, w, len - 2, term, &n);
	} else if (len > 4 && !strcmp(w + len - 3, "ing")) {
		add_verb(m, w, len - 3, term, &n);
	}
	return n;
}

static size_t look_up(struct stems *s, const struct stemmer *m, enum script script, struct slice folded, bool capitals,
	uint64_t *term, unsigned *flags)
{
	char word[STEM_BYTES_MAX + 1], other[4 * STEM_BYTES_MAX];
	bool by_dictionary = m->dictionary && !m->snowball, known = false;
	size_t n = 0;

	memcpy(word, folded.at, folded.len);
	word[folded.len] = 0;
	*flags = 0;
	if (by_dictionary) {
		/* With a capital it finds what it would without one, and names too. */
		const char *tried = capitalise(word, false, other, sizeof other) ? other : word;

		add_lemmas(s, m->dictionary, tried, folded, term, &n, flags);
		if (capitals && capitalise(word, true, other, sizeof other))
			add_lemmas(s, m->dictionary, other, folded, term, &n, flags);
		known = n > 0 || Hunspell_spell(m->dictionary, word);
	} else if (m->dictionary) {
		known = Hunspell_spell(m->dictionary, word)
			|| (capitalise(word, false, other, sizeof other) && Hunspell_spell(m->dictionary, other))
			|| (capitals && capitalise(word, true, other, sizeof other)
			    && Hunspell_spell(m->dictionary, other));
	}
	if (m->english && m->dictionary) {
		n = english(m, word, folded.len, term);
	} else if (m->snowball) {
		const sb_symbol *stem = sb_stemmer_stem(m->snowball, (const sb_symbol *)word, (int)folded.len);
		int len = sb_stemmer_length(m->snowball);

		if (stem && len > 0)
			add_term(term, &n, text_hash(slice_of((const char *)stem, (size_t)len)));
	}
	if (n == 0) {
		add_term(term, &n, text_hash(folded));
		if (script == SCRIPT_CYRILLIC && !known)
			add_term(term, &n, text_hash(slice_of(folded.at, without_ending(folded))));
	}
	*flags |= known ? WORD_KNOWN : 0;
	return n;
}

size_t stems_of(struct stems *s, const struct language *g, struct slice folded, bool capitals,
	uint64_t term[WORD_TERMS_MAX], unsigned *flags)
{
	uint64_t key;
	struct memo *place;
	size_t n;

	*flags = 0;
	if (!g || !g->stemmer || folded.len > STEM_BYTES_MAX || memchr(folded.at, 0, folded.len)) {
		term[0] = text_hash(folded);
		return 1;
	}
	key = text_hash(folded) + 2 * g->stemmer->number + capitals;
	place = &s->memo[key % MEMO_PLACES];
	pthread_mutex_lock(&s->lock);
	if (place->n == 0 || place->word != key) {
		unsigned found;

		place->n = (uint8_t)look_up(s, g->stemmer, g->info ? g->info->script : SCRIPT_OTHER, folded, capitals,
			place->term, &found);
		qsort(place->term, place->n, sizeof *place->term, later);
		place->flags = (uint16_t)found;
		place->word = key;
	}
	n = place->n;
	memcpy(term, place->term, n * sizeof *term);
	*flags = place->flags;
	pthread_mutex_unlock(&s->lock);
	return n;
}
