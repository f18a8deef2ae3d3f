/* words_lexicon.c - a lexicon's life, and what it says of words: which language a text is in, which terms a word has.
 *
 * Threads  open and close: one. The rest reads only, but for stems_of(), which has its lock. */
#include "proxy/base/words_inner.h"

#include <stdio.h>
#include <stdlib.h>

/* What the rules in these files make of a text is part of what a stored analysis means. */
#define RULES_VERSION 2

static bool add_language(struct lexicon *l, struct slice code, const struct lexicon_options *o, char *why, size_t len)
{
	struct language *g = &l->language[l->n_languages];
	const struct language_info *i;

	if (l->n_languages == LANGUAGES_MAX || code.len < 2 || code.len > 3) {
		snprintf(why, len, "languages: at most %d codes of two or three letters, not '%.*s'", LANGUAGES_MAX,
			(int)(code.len < 20 ? code.len : 20), code.at);
		return false;
	}
	for (size_t k = 0; k < code.len; k++) {
		if (code.at[k] < 'a' || code.at[k] > 'z') {
			snprintf(why, len, "languages: '%.*s' is not a language's code", (int)code.len, code.at);
			return false;
		}
	}
	memcpy(g->code, code.at, code.len);
	for (size_t k = 0; k < l->n_languages; k++)
		if (!strcmp(l->language[k].code, g->code))
			return true;                  /* named twice: counted once */
	for (i = language_info; i->code && strcmp(i->code, g->code); i++)
		;
	g->info = i->code ? i : NULL;
	l->mark = l->mark * 31 + text_hash(code);
	if (!stems_add(l->stems, g, o->dictionaries, &l->notes, &l->mark)) {
		snprintf(why, len, "out of memory");
		return false;
	}
	l->n_languages++;
	return lists_load(l, g, o->stopwords, why, len);
}

struct lexicon *lexicon_open(const struct lexicon_options *o, char *why, size_t len)
{
	struct slice rest = slice_text(o->languages ? o->languages : "uk,en"), code;
	struct lexicon *l = calloc(1, sizeof *l);
	UErrorCode e = U_ZERO_ERROR;

	if (!l) {
		snprintf(why, len, "out of memory");
		return NULL;
	}
	buf_init(&l->notes, 16 << 10);
	l->mark = RULES_VERSION;
	l->fold = unorm2_getNFKCCasefoldInstance(&e);
	l->model = ubrk_open(UBRK_WORD, "", NULL, 0, &e);
	if (U_FAILURE(e)) {
		snprintf(why, len, "ICU has no data: %s", u_errorName(e));
		goto failed;
	}
	l->stems = stems_open(l->fold);
	if (!l->stems) {
		snprintf(why, len, "out of memory");
		goto failed;
	}
	while (slice_next(&rest, ',', &code))
		if (code.len && !add_language(l, code, o, why, len))
			goto failed;
	if (!aliases_load(l, o->aliases, why, len))
		goto failed;
	if (buf_add(&l->notes, "", 1)) {
		snprintf(why, len, "out of memory");
		goto failed;
	}
	return l;
failed:
	lexicon_close(l);
	return NULL;
}

void lexicon_close(struct lexicon *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_languages; i++) {
		map_fini(&l->language[i].forms);
		map_fini(&l->language[i].lemmas);
	}
	if (l->n_languages < LANGUAGES_MAX) {         /* one that failed half-way */
		map_fini(&l->language[l->n_languages].forms);
		map_fini(&l->language[l->n_languages].lemmas);
	}
	aliases_fini(l);
	stems_close(l->stems);
	if (l->model)
		ubrk_close(l->model);
	buf_fini(&l->notes);
	free(l);
}

const char *lexicon_notes(const struct lexicon *l)
{
	return l->notes.at;
}

uint64_t words_mark(const struct lexicon *l)
{
	return l->mark;
}

static bool has_letter_of(struct slice word, const char *letters)
{
	for (size_t i = 0; i < word.len;) {
		size_t n = 1;

		while (i + n < word.len && (word.at[i + n] & 0xc0) == 0x80)
			n++;
		if (n > 1 && memmem(letters, strlen(letters), word.at + i, n))
			return true;
		i += n;
	}
	return false;
}

/* Alphabets of one script share most letters. A Cyrillic word with one that is not of its language is a word of another:
 * выключи is no misspelt включи. */
bool is_foreign(const struct language *g, struct slice word)
{
	if (!g || !g->info || g->info->script != SCRIPT_CYRILLIC || !*g->info->letters || has_letter_of(word, g->info->letters))
		return false;
	for (const struct language_info *i = language_info; i->code; i++)
		if (i != g->info && i->script == SCRIPT_CYRILLIC && has_letter_of(word, i->letters))
			return true;
	return false;
}

/* The language with the most words in its lists or letters of its own wins; the first configured one if none has. */
void languages_of(const struct lexicon *l, const struct token *token, size_t n, const struct language *of[SCRIPTS])
{
	unsigned best[SCRIPTS] = { 0 }, rivals[SCRIPTS] = { 0 };

	memset(of, 0, SCRIPTS * sizeof *of);
	for (size_t i = 0; i < l->n_languages; i++) {
		enum script script = l->language[i].info ? l->language[i].info->script : SCRIPT_OTHER;

		if (!of[script])
			of[script] = &l->language[i];
		rivals[script]++;
	}
	of[SCRIPT_OTHER] = NULL;
	for (size_t i = 0; i < l->n_languages; i++) {
		const struct language *g = &l->language[i];
		enum script script = g->info ? g->info->script : SCRIPT_OTHER;
		unsigned score = 0;

		if (script == SCRIPT_OTHER || rivals[script] < 2)
			continue;
		for (size_t k = 0; k < n; k++) {
			const struct listed *listed;

			if (token[k].script != script)
				continue;
			listed = map_find(&g->forms, text_hash(token[k].text));
			score += listed && (listed->bits || listed->class || listed->role) ? 2 : 0;
			score += has_letter_of(token[k].text, g->info->letters) ? 3 : 0;
		}
		if (score > best[script]) {
			best[script] = score;
			of[script] = g;
		}
	}
}

size_t terms_of(const struct lexicon *l, const struct language *g, struct slice folded, bool capitals,
	uint64_t term[WORD_TERMS_MAX], unsigned *flags, struct listed *listed)
{
	size_t n = stems_of(l->stems, g, folded, capitals, term, flags), kept = 0;

	*listed = (struct listed){ 0 };
	for (size_t i = 0; i < n; i++) {
		const struct listed *it = g ? map_find(&g->lemmas, term[i]) : NULL;
		uint64_t t = it && it->same ? it->same : term[i];
		size_t at;

		if (it) {
			listed->bits |= it->bits;
			if (it->contrast)
				listed->contrast = it->contrast;
		}
		for (at = 0; at < kept && term[at] < t; at++)
			;
		if (at < kept && term[at] == t)
			continue;
		memmove(term + at + 1, term + at, (kept - at) * sizeof *term);
		term[at] = t;
		kept++;
	}
	return kept;
}

bool word_matches(const struct word *a, const struct word *b)
{
	size_t i = 0, j = 0;

	while (i < a->n_terms && j < b->n_terms) {
		if (a->terms[i] == b->terms[j])
			return true;
		if (a->terms[i] < b->terms[j])
			i++;
		else
			j++;
	}
	return false;
}
