/* words_bag.c - answers, for the scorer: as token hashes, and as what holds a question's keywords.
 *
 * Lemmas are looked up only for tokens that begin like a keyword, and at most FOUND_LEMMAS times a text, so that a
 * long answer costs little beyond its tokens: lemmas keep the first letter (words_stem.c). */
#include "proxy/base/words_inner.h"

enum { FOUND_LEMMAS = 400 };

/* The first `most` bytes, cut at a character. */
static struct slice front(struct slice s, size_t most)
{
	if (s.len <= most)
		return s;
	for (s.len = most; s.len && (s.at[s.len] & 0xc0) == 0x80; s.len--)
		;
	return s;
}

struct bag *words_bag(const struct lexicon *l, struct slice text, struct arena *a)
{
	struct bag *bag = arena_alloc(a, sizeof *bag);
	struct token token;
	struct text t;
	size_t most;

	text = front(text, BAG_BYTES_MAX);
	most = text.len + 1 < BAG_TOKENS_MAX ? text.len + 1 : BAG_TOKENS_MAX;
	if (!bag || text_open(&t, l->model, text, false))
		return NULL;
	bag->token = arena_alloc(a, most * sizeof *bag->token);
	while (bag->token && bag->n < most && text_next(&t, &token))
		bag->token[bag->n++] = text_hash(token.text);
	text_close(&t);
	return bag->token ? bag : NULL;
}

/* What is looked for: words, and for an alias the short form or all of the long one's. */
struct search {
	const struct words *question;
	bool found[WORDS_MAX];
	size_t left;
	uint64_t starts[4];                   /* a set of hashes of first characters, as a small Bloom filter */
};

static unsigned start_of(struct slice word)
{
	size_t n = 1;

	while (n < word.len && (word.at[n] & 0xc0) == 0x80)
		n++;
	return (unsigned)(text_hash(slice_of(word.at, n < word.len ? n : word.len)) & 255);
}

static void mark_found(struct search *s, const struct word *w)
{
	for (size_t i = 0; i < s->question->n; i++) {
		if (!s->found[i] && word_matches(w, &s->question->word[i])) {
			s->found[i] = true;
			s->left--;
		}
	}
}

static void look_at(const struct lexicon *l, struct search *s, const struct language *g, const struct token *t,
	unsigned *lemmas)
{
	uint64_t hash = text_hash(t->text), term[WORD_TERMS_MAX];
	struct word w = { .terms = &hash, .n_terms = 1 };
	unsigned start;
	struct listed listed;
	unsigned flags;

	mark_found(s, &w);                            /* numbers, names and what is quoted go by what is written */
	start = start_of(t->text);
	if (!(s->starts[start / 64] >> start % 64 & 1) || *lemmas == 0 || t->flags & (TOKEN_NUMBER | TOKEN_SYMBOL))
		return;
	--*lemmas;
	w.n_terms = (uint8_t)terms_of(l, g, t->text, t->flags & TOKEN_CAPITALS, term, &flags, &listed);
	w.terms = term;
	mark_found(s, &w);
}

/* An alias is looked for as one: all its words, or any of those that are names. */
static size_t count(const struct words *w, const bool *found, size_t *of)
{
	size_t n = 0;

	*of = 0;
	for (size_t i = 0; i < w->n; i++) {
		bool all = found[i];

		if (w->word[i].flags & WORD_REPEAT || (i && w->word[i].alias && w->word[i].alias == w->word[i - 1].alias))
			continue;
		for (size_t k = i + 1; w->word[i].alias && k < w->n && w->word[k].alias == w->word[i].alias; k++)
			all &= found[k];
		++*of;
		n += all;
	}
	return n;
}

size_t words_found(const struct lexicon *l, const struct words *question, struct slice text, size_t *of)
{
	const struct language *language[SCRIPTS] = { 0 };
	struct search s = { .question = question, .left = question->n };
	unsigned lemmas = FOUND_LEMMAS;
	size_t n = 0;
	struct token token;
	struct text t;

	for (size_t i = 0; i < question->n; i++) {
		unsigned start = start_of(question->word[i].text);

		s.starts[start / 64] |= (uint64_t)1 << start % 64;
	}
	languages_of(l, NULL, 0, language);
	if (s.left == 0 || text_open(&t, l->model, front(text, BAG_BYTES_MAX), false))
		return count(question, s.found, of);
	while (s.left && n++ < BAG_TOKENS_MAX && text_next(&t, &token)) {
		const struct alias *x = alias_at(l, &token, 1);

		look_at(l, &s, language[token.script], &token, &lemmas);
		for (size_t i = 0; x && i < x->n_words; i++)
			mark_found(&s, &x->word[i]);
	}
	text_close(&t);
	return count(question, s.found, of);
}
