/* similar.h - how alike two questions are, and whether that is enough for one's answer to be the other's.
 *
 * Similarity is weighted Jaccard over the sets of words (words.h): two words match when they share a term, a pair
 * weighs what its heavier word does, and similarity is the weight of the pairs over that of the pairs and of the
 * words left alone. One misspelt word of five letters or more may be paired too: edit distance 1, the same first
 * letter, and exactly one of the two in a dictionary. With guards off all words weigh the same, spelling counts,
 * and nothing forbids.
 *
 * What is asked of the store's index (similar_query) is derived so that no stored question that passes can be
 * missed (see similar.c); what it proposes is judged here, in one place.
 *
 * Ownership, threads  pure functions; what they return lives in the caller's arena or struct. */
#ifndef CACHE_SIMILAR_H
#define CACHE_SIMILAR_H

#include "cache/guards.h"
#include "cache/store.h"

struct verdict {
	double similarity;                    /* 0 to 1 */
	bool near;                            /* similarity ≥ threshold */
	bool hit;                             /* near, and nothing forbids */
	enum guard guard;                     /* the first that forbids, whether near or not; GUARD_NONE */
	unsigned guards;                      /* all that do: bits 1 << enum guard */
	/* Why one of the two is not for this tier; then similarity is 0 and no guard was asked. */
	enum words_skip skip;
	struct pairing pairing;               /* for explain */
};

/* Compares a question with a stored one. Symmetric. */
void similar_judge(enum guards mode, double threshold, const struct words *asked, const struct words *stored,
	struct verdict *out);

/* Is this question for the semantic tier at all? WORDS_FIT, or why not. With guards off code, follow-ups and volatile
 * words are no reason. */
enum words_skip similar_skip(enum guards mode, const struct words *w);

/* The words of a question as the store's index takes them: repeats left out, weights in quarters. They point into w
 * and the arena. NULL: the arena is full, or there are no words. */
const struct store_word *similar_words(const struct words *w, struct arena *a, size_t *n);

/* Fills q's words, unlooked, least and most; the scope is the caller's. False: the arena is full, or nothing can be
 * found (no words, a threshold above 1). */
must_use bool similar_query(enum guards mode, double threshold, const struct words *w, struct arena *a,
	struct store_query *q);

#endif
