/* repetition.c - does the answer go round in circles? Small models do: the same phrases again, or a tail that never
 * ends. Looked at as words (repeated runs of four) and as bytes (a tail with a period).
 *
 * Ideas  repeated n-grams: Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training"; periods of all
 *        lengths at once: the Z function (Gusfield 1997) of the tail read backwards. */
#include "scoring/round.h"

enum {
	GRAM = 4,
	LOOP_BYTES = 120,                /* a tail shorter than this is not called a loop */
	LOOP_TURNS = 4,                  /* how often its period must fit */
};

/* Share of runs of four words that were there before; -1: no memory. */
static double repeated(struct round *r, const struct bag *bag)
{
	size_t grams, room = 16, distinct = 0;

	if (bag->n < GRAM)
		return 0;
	grams = bag->n - GRAM + 1;
	while (room < 2 * grams)
		room *= 2;
	uint64_t *seen = arena_alloc(&r->arena, room * sizeof *seen);
	if (!seen)
		return -1;
	for (size_t i = 0; i < grams; i++) {
		uint64_t h = GRAM;
		for (size_t k = 0; k < GRAM; k++)
			h = hash_mix(h, bag->token[i + k]);
		h += h == 0;                                     /* 0 is an empty place */
		size_t at = h & (room - 1);
		while (seen[at] && seen[at] != h)
			at = (at + 1) & (room - 1);
		distinct += !seen[at];
		seen[at] = h;
	}
	return 1 - (double)distinct / (double)grams;
}

static bool tail_loops(struct slice text)
{
	uint16_t z[LOOP_TAIL];
	size_t n = text.len < LOOP_TAIL ? text.len : LOOP_TAIL, left = 0, right = 0;
	const char *end = text.len ? text.at + text.len - 1 : NULL;      /* end[-i] is byte i read backwards */

	for (size_t p = 1; p < n; p++) {
		size_t len = p < right ? (z[p - left] < right - p ? z[p - left] : right - p) : 0;
		while (p + len < n && *(end - len) == *(end - p - len))
			len++;
		z[p] = (uint16_t)len;
		if (p + len > right) {
			left = p;
			right = p + len;
		}
		if (len + p >= LOOP_BYTES && len + p >= LOOP_TURNS * p)
			return true;
	}
	return false;
}

void score_repetition(struct round *r)
{
	double share[CANDIDATES_MAX];

	if (r->kind == ROUND_CALLS)
		return;
	for (int i = 0; i < r->n; i++) {
		const struct reading *a = &r->reading[i];
		if (!a->in)
			continue;
		share[i] = a->bag ? repeated(r, a->bag) : -1;
		if (share[i] < 0)
			return;
	}
	for (int i = 0; i < r->n; i++) {
		if (!r->reading[i].in)
			continue;
		double value = 1 - (share[i] > 0.2 ? (share[i] - 0.2) / 0.8 : 0);
		if (value > 0.2 && tail_loops(r->reading[i].text))
			value = 0.2;
		round_set(r, i, CRITERION_repetition, value);
	}
}
