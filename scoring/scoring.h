/* scoring.h - given a question and N answers, choose one, and say why.
 *
 * Each criterion gives every answer a value in [0, 1]; the total is their mean, weighted. A criterion that says
 * nothing about this round (agreement when nobody has a final answer, length when tools are called) is not
 * active and leaves the mean. Scores are comparable within one call only: most criteria look at the others.
 *
 * Ownership  scoring_new() copies what it needs, but borrows the lexicon, which must outlive it. Candidates and
 *            questions are lent for the call; scores are the caller's.
 * Threads    a struct scoring never changes: any number of threads may use one. No I/O, no clock, no globals.
 * Limits     CANDIDATES_MAX answers; of each, the first SCORED_BYTES are read as words (20,000 of them, see
 *            words.h) and lines, the last 16 KiB for its final answer, the last 8 KiB for a loop. The rest (its
 *            length, open code fences) is one pass over the text: the time never grows with the square of a
 *            length. Measured: about 0.3 ms an answer of 1.5 KB, 20 ms one of 1 MB.
 * Ideas      majority among sampled answers: Wang et al. 2022, "Self-Consistency"; nearest to all the others:
 *            minimum Bayes risk; the weights: SCORING.md. */
#ifndef SCORING_SCORING_H
#define SCORING_SCORING_H

#include "proxy/base/buf.h"
#include "proxy/base/words.h"

enum criterion {
#define CRITERION(name, weight, function, help) CRITERION_##name,
#include "scoring/criteria.def"
#undef CRITERION
	CRITERIA
};

struct criterion_info {
	const char *name;            /* as in scoring.weight_NAME */
	double weight;               /* default */
	const char *help;
};
extern const struct criterion_info criterion_info[CRITERIA];

enum {
	CANDIDATES_MAX = 64,
	SCORED_BYTES = 128 << 10,
	FORBIDDEN_BYTES = 4 << 20,       /* of the operator's list */
	FORBIDDEN_PHRASES = 100000,
	FORBIDDEN_WORDS = 16,            /* in a phrase */
	EXPLAIN_BYTES = 4096,            /* of one explanation: it travels in a header */
};

struct scoring_options {
	double weight[CRITERIA];         /* 0 or more; what is not a number counts as 0 */
	unsigned length_min, length_max; /* characters */
	bool length_relative;            /* measure by the other answers; length_max is then only the least upper bound */
};

/* The defaults: weights of criteria.def, 100, 500, relative. */
void scoring_options_init(struct scoring_options *o);

struct scoring_question {
	struct slice text;               /* last user message, or the prompt */
	bool tools, format;              /* the request has tools, a format (the answer is JSON) */
};

struct candidate {
	struct slice text;               /* content, UTF-8, without the thinking */
	struct slice tool_calls;         /* array items as the upstream wrote them, without the brackets; empty: none */
	bool failed;                     /* out: never picked, and not compared with */
	bool cut;                        /* done_reason is length */
	double mean_logprob;             /* NAN: not given */
};

struct score {
	double total;                    /* 0 for a failed one */
	double value[CRITERIA];          /* 0 where not active */
	bool active[CRITERIA];           /* the same for all candidates of a round that did not fail */
};

struct scoring;

/* forbidden: one word or phrase a line, `#` starts a comment line, case does not count, whole words only;
 * empty: none. *skipped counts lines that hold no word (may be NULL). Errors: TOO_LARGE (a limit above),
 * NO_MEMORY; then *made is NULL. Free with scoring_free(). */
must_use enum err scoring_new(const struct scoring_options *o, struct slice forbidden, const struct lexicon *l,
                              struct scoring **made, unsigned *skipped);
void scoring_free(struct scoring *s);

/* Fills scores[0..n), returns the index of the best, -1 if all failed or n is 0. n is at most CANDIDATES_MAX.
 * Ties go to the higher mean_logprob where both have one, then to the lower index. Without memory, criteria
 * that need some are not active; the pick is then made from the rest. */
int scoring_pick(const struct scoring *s, const struct scoring_question *q, const struct candidate *c, int n,
                 struct score *scores);

/* True when two of the answers so far come to the same final answer: waiting for more gains little. Cheap
 * enough to be asked each time one lands. */
bool scoring_agreed(const struct scoring *s, const struct scoring_question *q, const struct candidate *c, int n);

/* Appends one line of JSON, ASCII, at most EXPLAIN_BYTES: {"winner":2,"candidates":[{"total":0.713,"length":1,
 * "agreement":null,…},…]}. winner counts from 1 (as X-Candidates does), 0: none; a criterion that is not active
 * is null, a failed candidate is null. Candidates that would pass the bound are left out: "left_out":N. */
must_use enum err scoring_explain(const struct score *scores, const struct candidate *c, int n, int winner,
                                  struct buf *json);

#endif
