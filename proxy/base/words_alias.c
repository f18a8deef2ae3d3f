/* words_alias.c - short forms and what they stand for: ХДУ, Херсонський державний університет.
 *
 * A JSON object, "short form": "long form": the built-in one (words/aliases.json), then the operator's
 * (semantic.aliases), whose entries win. A short form is one to six words, found where these stand in a text in any
 * case, unless it is written in capitals only and the text has a stop-word there (IT, it). A long form is one to twelve;
 * its stop-words are left out, its words with a capital are names.
 *
 * Threads  read in lexicon_open(); afterwards never changed.
 * Bounds   ALIASES_MAX, LIST_FILE_MAX. */
#include "proxy/base/words_inner.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

extern const char _binary_proxy_base_words_aliases_json_start[], _binary_proxy_base_words_aliases_json_end[];

/* The tokens of a short or long form, their text copied to the arena. */
static size_t forms_of(const struct lexicon *l, const char *form, struct token *token, size_t most, struct arena *a)
{
	struct token one;
	struct text t;
	size_t n = 0;

	if (text_open(&t, l->model, slice_text(form), true))
		return 0;
	while (n < most && text_next(&t, &one)) {
		token[n] = one;
		token[n++].text = arena_slice(a, one.text);
	}
	if (n == most && text_next(&t, &one))
		n = 0;
	text_close(&t);
	return a->full ? 0 : n;
}

/* Keeps the words of the long form that are not stop-words, with their terms. */
static bool expand(const struct lexicon *l, struct alias *x, const struct token *token, size_t n)
{
	const struct language *of[SCRIPTS];
	uint64_t terms[12 * WORD_TERMS_MAX];
	size_t n_terms = 0, bytes = 0;
	char *at;

	languages_of(l, token, n, of);
	for (size_t i = 0; i < n; i++)
		bytes += token[i].text.len;
	x->text = at = malloc(bytes + 1);
	if (!at)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct language *g = of[token[i].script];
		const struct listed *listed = g ? map_find(&g->forms, text_hash(token[i].text)) : NULL;
		struct word *w = &x->word[x->n_words];
		struct listed lemma;
		unsigned flags;

		if (listed && listed->bits & LIST_STOP)
			continue;
		memcpy(at, token[i].text.at, token[i].text.len);
		w->text = slice_of(at, token[i].text.len < WORD_TEXT_MAX ? token[i].text.len : 0);
		at += token[i].text.len;
		w->n_terms = (uint8_t)terms_of(l, g, token[i].text, false, terms + n_terms, &flags, &lemma);
		n_terms += w->n_terms;
		w->flags = WORD_SOFT | (flags & WORD_KNOWN) | (token[i].flags & TOKEN_CAPITAL ? WORD_NAME : 0);
		x->n_words++;
	}
	x->terms = malloc((n_terms + 1) * sizeof *x->terms);
	if (!x->terms)
		return false;
	memcpy(x->terms, terms, n_terms * sizeof *terms);
	for (size_t i = 0, k = 0; i < x->n_words; k += x->word[i++].n_terms)
		x->word[i].terms = x->terms + k;
	return x->n_words > 0;
}

static void alias_fini(struct alias *x)
{
	free(x->text);
	free(x->terms);
	*x = (struct alias){ 0 };
}

static bool add_alias(struct lexicon *l, const char *key, const char *value, char *why, size_t len)
{
	struct token token[24];
	struct alias x = { .capitals = true };
	struct listed *first;
	struct arena a;
	size_t n;

	arena_init(&a, 16 << 10);
	n = forms_of(l, key, token, sizeof x.key / sizeof *x.key, &a);
	for (size_t i = 0; i < n; i++) {
		x.key[i] = text_hash(token[i].text);
		x.capitals &= (token[i].flags & TOKEN_CAPITALS) != 0;
	}
	x.n_key = (uint8_t)n;
	n = n ? forms_of(l, value, token, sizeof x.word / sizeof *x.word, &a) : 0;
	if (n == 0) {
		snprintf(why, len, "\"%.60s\": one to six words must stand for one to twelve", key);
		goto failed;
	}
	if (!expand(l, &x, token, n)) {
		snprintf(why, len, "\"%.60s\": nothing but stop-words, or out of memory", key);
		goto failed;
	}
	/* The same short form again, or another that begins with the same word: the chain is searched newest first. */
	first = map_put(&l->alias_first, x.key[0]);
	if (first && l->n_aliases == l->aliases_room) {
		size_t room = l->aliases_room ? 2 * l->aliases_room : 64;
		struct alias *more = room <= ALIASES_MAX ? realloc(l->alias, room * sizeof *more) : NULL;

		if (more) {
			l->alias = more;
			l->aliases_room = room;
		}
	}
	if (!first || l->n_aliases == l->aliases_room) {
		snprintf(why, len, "\"%.60s\": out of memory, or more than %d aliases", key, ALIASES_MAX);
		goto failed;
	}
	x.older = (uint32_t)first->same;
	l->alias[l->n_aliases++] = x;
	first->same = l->n_aliases;
	arena_fini(&a);
	return true;
failed:
	alias_fini(&x);
	arena_fini(&a);
	return false;
}

static bool read_aliases(struct lexicon *l, struct slice text, char *why, size_t len)
{
	json_error_t e;
	json_t *all = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, &e), *value;
	const char *key;
	bool ok = true;

	if (!json_is_object(all)) {
		snprintf(why, len, "line %d: not a JSON object: %.100s", e.line, all ? "another kind of value" : e.text);
		json_decref(all);
		return false;
	}
	json_object_foreach(all, key, value) {
		if (!json_is_string(value)) {
			snprintf(why, len, "\"%.60s\" is not a string", key);
			ok = false;
		} else {
			ok = add_alias(l, key, json_string_value(value), why, len);
		}
		if (!ok)
			break;
	}
	json_decref(all);
	l->mark ^= text_hash(text) + 2;
	return ok;
}

bool aliases_load(struct lexicon *l, const char *file, char *why, size_t len)
{
	struct slice built_in = slice_of(_binary_proxy_base_words_aliases_json_start,
		(size_t)(_binary_proxy_base_words_aliases_json_end - _binary_proxy_base_words_aliases_json_start));
	char said[256] = "", *text;
	size_t n;
	bool ok;

	if (!read_aliases(l, built_in, said, sizeof said)) {
		snprintf(why, len, "built-in aliases: %s", said);
		return false;
	}
	if (!file)
		return true;
	if (!list_file_read(file, &text, &n, why, len) || !text)
		return false;                         /* why says so; a file that was named must be there */
	ok = read_aliases(l, slice_of(text, n), said, sizeof said);
	if (!ok)
		snprintf(why, len, "%s: %s", file, said);
	free(text);
	return ok;
}

void aliases_fini(struct lexicon *l)
{
	for (size_t i = 0; i < l->n_aliases; i++)
		alias_fini(&l->alias[i]);
	free(l->alias);
	map_fini(&l->alias_first);
}

const struct alias *alias_at(const struct lexicon *l, const struct token *token, size_t n)
{
	const struct listed *first = map_find(&l->alias_first, text_hash(token->text));

	for (size_t i = first ? first->same : 0; i; i = l->alias[i - 1].older) {
		const struct alias *x = &l->alias[i - 1];
		size_t k;

		for (k = 0; k < x->n_key && k < n && text_hash(token[k].text) == x->key[k]; k++)
			;
		if (k == x->n_key)
			return x;
	}
	return NULL;
}
