/* near.h - how alike are a query's words and an entry's: weighted Jaccard, and the best few of many.
 *
 * Words are packed into the bytes both stores keep: [words u8], then for each [weight u8][terms u8][term u64 LE]...
 * Two words match when they share a term; each matches at most once, and counts with the lesser of the two weights:
 * similarity = matched / (all of one + all of the other - matched). The weighted Jaccard of Chierichetti et al.
 *
 * Ownership  nothing here owns memory. A near_query is built on the stack, once a look-up.
 * Limits     STORE_WORDS_MAX words, STORE_TERMS_MAX terms; what has more is refused. */
#ifndef CACHE_NEAR_H
#define CACHE_NEAR_H

#include "cache/store.h"

enum { NEAR_PACKED_MAX = 1 + 2 * STORE_WORDS_MAX + 8 * STORE_TERMS_MAX, NEAR_SLOTS = 2 * STORE_TERMS_MAX };
enum { NEAR_QUESTION_MAX = 16384 };           /* bytes a proposal may carry */

/* Whether so many words with so many terms can be looked up and stored at all; *terms is how many terms, all told. */
bool near_fits(const struct store_word *words, size_t n, size_t *terms);

/* Packs words that fit; returns the bytes written, *total their weight. */
size_t near_pack(uint8_t out[NEAR_PACKED_MAX], const struct store_word *words, size_t n, unsigned *total);

struct near_query {                           /* the query's terms, hashed, so that an entry is scored in one pass */
	uint64_t term[NEAR_SLOTS];
	uint8_t word[NEAR_SLOTS];             /* 0: free, else the word's number from 1 */
	uint8_t weight[STORE_WORDS_MAX];
	unsigned total;
};
void near_query_init(struct near_query *q, const struct store_query *from);

/* The similarity of packed words to the query; negative if the bytes are not packed words. */
double near_score(const struct near_query *q, const uint8_t *packed, size_t len);

struct near_best {                            /* the STORE_PROPOSALS best so far, best first */
	size_t n;
	struct near_found { double score; uint64_t age; const void *what; } found[STORE_PROPOSALS];
};

/* Whether something of this score would be among the best; of equals the one with the larger age is. */
bool near_enters(const struct near_best *b, double score, uint64_t age);

/* Enters it; returns what fell out for it, or NULL. */
const void *near_enter(struct near_best *b, double score, uint64_t age, const void *what);

#endif
