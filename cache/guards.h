/* guards.h - what forbids a semantic hit, each with a name for metrics and explain.
 *
 * Similarity proposes, guards dispose: "buy" against "sell" or A before B against B before A are alike in nearly every
 * word, so no threshold tells them apart. A guard looks at two analyses and at how their words were paired;
 * it knows nothing of thresholds.
 *
 * Ownership, threads  pure functions; nothing is kept. */
#ifndef CACHE_GUARDS_H
#define CACHE_GUARDS_H

#include "proxy/base/words.h"

/* name, what it says */
#define GUARDS(X) \
	X(neg,      "one is negated, the other is not, or the negation stands elsewhere") \
	X(qc,       "they ask for other things (when, where, who) or times (is, was, will), or one may and one must") \
	X(num,      "different numbers") \
	X(quo,      "different quoted text") \
	X(order,    "names or numbers in another order") \
	X(swap,     "from and to, or the two sides of a comparison, are exchanged") \
	X(extra,    "one has a word that the other lacks") \
	X(sub,      "each has a word that the other lacks") \
	X(ent,      "a name is in one only") \
	X(contrast, "opposites: on and off, buy and sell") \
	X(short,    "too few words to be sure, though they are the same") \
	X(evid,     "too few words in common to be sure")

enum guard {
	GUARD_NONE,
#define X(name, says) GUARD_##name,
	GUARDS(X)
#undef X
	GUARD_COUNT
};
extern const char *const guard_name[GUARD_COUNT];     /* "" for GUARD_NONE */
extern const char *const guard_says[GUARD_COUNT];

enum guards { GUARDS_STRICT, GUARDS_STANDARD, GUARDS_OFF };

/* How the words of two questions were paired: for each word the index of its partner, -1 alone, -2 does not
 * count (a repeat). */
struct pairing {
	int8_t a[WORDS_MAX], b[WORDS_MAX];
	unsigned n;                           /* pairs */
	int8_t typo;                          /* a's word that was paired in spite of its spelling; -1: none */
};

/* All guards that forbid, as bits 1 << enum guard; the first that forbids, in the order above, is the one that
 * counts. 0: none. Not for GUARDS_OFF. */
unsigned guards_verdicts(enum guards mode, const struct words *a, const struct words *b, const struct pairing *p);
enum guard guards_first(unsigned verdicts);

#endif
