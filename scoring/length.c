/* length.c - is the answer as long as answers to this question are? The middle of the candidates' lengths says;
 * a fixed window (length_relative off) says only what the operator likes: measured, it costs points on chat. */
#include "scoring/round.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return (x > y) - (x < y);
}

static double median(const struct round *r)
{
	size_t chars[CANDIDATES_MAX];
	int n = 0;

	for (int i = 0; i < r->n; i++)
		if (r->reading[i].in)
			chars[n++] = r->reading[i].chars;
	qsort(chars, (size_t)n, sizeof *chars, by_size);
	return n % 2 ? (double)chars[n / 2] : ((double)chars[n / 2 - 1] + (double)chars[n / 2]) / 2;
}

void score_length(struct round *r)
{
	const struct scoring_options *o = &r->scoring->options;
	double lo = o->length_min, hi = o->length_max;

	if (r->kind != ROUND_TEXT)
		return;
	if (o->length_relative) {
		double m = median(r);
		lo = 0.7 * m;
		hi = 1.3 * m > hi ? 1.3 * m : hi;
	}
	for (int i = 0; i < r->n; i++) {
		double len = (double)r->reading[i].chars;
		if (r->reading[i].in)
			round_set(r, i, CRITERION_length, len == 0 ? 0 : len < lo ? len / lo : len > hi ? hi / len : 1);
	}
}
