/* similar.c - see similar.h.
 *
 * The bounds of similar_query(). Let t be the threshold, P = 4n quarters the most that n words of the query can
 * weigh in pairs (a weak or soft word weighs 4 when its partner is strong). A set L of the query's words, of which the
 * entry matches none, is left alone and weighs L in the query's own weights; what is matched then weighs at most
 * P − L, since each word of L would have weighed at least as much. So similarity ≤ (P − L) / (P − L + L), which
 * is below t as soon as L > (1 − t)·P: looking under words of that weight cannot miss. A misspelt word is paired
 * without sharing a term, but only one of them and it weighs 4 at most: hence 4 more. In the same way pairs weigh at
 * most P, so the entry's words weigh at most P / t; and pairs weigh at least t·W, where W is the query's own weight,
 * of which the entry's words are at least a quarter. With guards off every word of the query weighs 4 and words
 * are counted: at least t·n and at most n / t of them in the entry, each of 1 to 4 quarters. */
#include "cache/similar.h"

#include <math.h>

enum { TYPO_LETTERS = 5 };

enum words_skip similar_skip(enum guards mode, const struct words *w)
{
	if (w->skip != WORDS_FIT && (mode != GUARDS_OFF || w->skip < WORDS_CODE))
		return w->skip;
	return w->n ? WORDS_FIT : WORDS_EMPTY;
}

static size_t letters_of(struct slice s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += (s.at[i] & 0xc0) != 0x80;
	return n;
}

static size_t letter_at(struct slice s, size_t i)
{
	size_t n = 1;

	while (i + n < s.len && (s.at[i + n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* One letter more, less or another. Bytes before the first difference and after the last one must be the same. */
static bool one_apart(struct slice a, struct slice b)
{
	size_t i = 0, n_a, n_b;

	if (a.len > b.len) {
		struct slice swap = a;

		a = b;
		b = swap;
	}
	while (i < a.len && a.at[i] == b.at[i])
		i++;
	while (i > 0 && i < b.len && (b.at[i] & 0xc0) == 0x80)
		i--;                                  /* back to where the letter begins */
	if (i == b.len)
		return false;
	n_b = letter_at(b, i);
	if (slice_is(slice_of(a.at + i, a.len - i), slice_of(b.at + i + n_b, b.len - i - n_b)))
		return true;
	if (i == a.len)
		return false;
	n_a = letter_at(a, i);
	return slice_is(slice_of(a.at + i + n_a, a.len - i - n_a), slice_of(b.at + i + n_b, b.len - i - n_b))
		|| slice_is(slice_of(a.at + i + n_a, a.len - i - n_a), slice_of(b.at + i, b.len - i));
}

static bool is_typo(const struct word *a, const struct word *b)
{
	const unsigned not_these = WORD_NUMBER | WORD_QUOTED | WORD_SOFT | WORD_CAPS | WORD_NAME | WORD_FOREIGN;
	size_t first;

	if ((a->flags | b->flags) & not_these || !(a->flags & WORD_KNOWN) == !(b->flags & WORD_KNOWN))
		return false;
	if (letters_of(a->text) < TYPO_LETTERS || letters_of(b->text) < TYPO_LETTERS)
		return false;
	first = letter_at(a->text, 0);
	return b->text.len >= first && memcmp(a->text.at, b->text.at, first) == 0 && one_apart(a->text, b->text);
}

/* Pairs words that share a term, each once, in the order of a; then at most one misspelt word. */
static void pair_words(const struct words *a, const struct words *b, bool typos, struct pairing *p)
{
	p->n = 0;
	p->typo = -1;
	for (size_t i = 0; i < a->n; i++)
		p->a[i] = a->word[i].flags & WORD_REPEAT ? -2 : -1;
	for (size_t j = 0; j < b->n; j++)
		p->b[j] = b->word[j].flags & WORD_REPEAT ? -2 : -1;
	for (int spelling = 0; spelling <= typos; spelling++) {
		for (size_t i = 0; i < a->n && p->typo < 0; i++) {
			for (size_t j = 0; j < b->n && p->a[i] == -1; j++) {
				if (p->b[j] != -1 || !(spelling ? is_typo(&a->word[i], &b->word[j])
						       : word_matches(&a->word[i], &b->word[j])))
					continue;
				p->a[i] = (int8_t)j;
				p->b[j] = (int8_t)i;
				p->n++;
				if (spelling)
					p->typo = (int8_t)i;
			}
		}
	}
}

static unsigned weight_in(enum guards mode, const struct word *w)
{
	return mode == GUARDS_OFF ? 4 : word_weight(w);
}

static double similarity(enum guards mode, const struct words *a, const struct words *b, const struct pairing *p)
{
	unsigned pairs = 0, alone = 0;

	for (size_t i = 0; i < a->n; i++) {
		unsigned w = weight_in(mode, &a->word[i]);

		if (p->a[i] >= 0) {
			unsigned v = weight_in(mode, &b->word[p->a[i]]);

			pairs += w > v ? w : v;
		} else if (p->a[i] == -1) {
			alone += w;
		}
	}
	for (size_t j = 0; j < b->n; j++)
		if (p->b[j] == -1)
			alone += weight_in(mode, &b->word[j]);
	return pairs ? (double)pairs / (pairs + alone) : 0;
}

void similar_judge(enum guards mode, double threshold, const struct words *asked, const struct words *stored,
	struct verdict *out)
{
	*out = (struct verdict){ .skip = similar_skip(mode, asked) };
	if (!out->skip)
		out->skip = similar_skip(mode, stored);
	if (out->skip)
		return;
	pair_words(asked, stored, mode != GUARDS_OFF, &out->pairing);
	out->similarity = similarity(mode, asked, stored, &out->pairing);
	out->near = out->similarity >= threshold;
	if (mode != GUARDS_OFF)
		out->guards = guards_verdicts(mode, asked, stored, &out->pairing);
	out->guard = guards_first(out->guards);
	out->hit = out->near && !out->guards && out->pairing.n;
}

static struct store_word *index_words(enum guards mode, const struct words *w, struct arena *a, size_t *n)
{
	struct store_word *word = w->n ? arena_alloc(a, w->n * sizeof *word) : NULL;

	*n = 0;
	for (size_t i = 0; word && i < w->n; i++)
		if (!(w->word[i].flags & WORD_REPEAT))
			word[(*n)++] = (struct store_word){ .terms = w->word[i].terms, .n_terms = w->word[i].n_terms,
				.weight = (uint8_t)weight_in(mode, &w->word[i]) };
	return *n ? word : NULL;
}

const struct store_word *similar_words(const struct words *w, struct arena *a, size_t *n)
{
	return index_words(GUARDS_STRICT, w, a, n);
}

bool similar_query(enum guards mode, double threshold, const struct words *w, struct arena *a, struct store_query *q)
{
	const double slack = 1e-9;            /* (1 − 0.7) · 40 is not 12 in binary */
	unsigned own = 0;
	double most_in_pairs;

	q->words = index_words(mode, w, a, &q->n_words);
	if (!q->words || !(threshold > 0 && threshold <= 1))
		return false;
	for (size_t i = 0; i < q->n_words; i++)
		own += q->words[i].weight;
	most_in_pairs = 4.0 * (double)q->n_words;
	q->unlooked = (unsigned)floor((1 - threshold) * most_in_pairs + slack) + (mode == GUARDS_OFF ? 0 : 4);
	q->least = (unsigned)ceil(threshold * own / 4 - slack);
	q->most = (unsigned)floor(most_in_pairs / threshold + slack);
	return true;
}
