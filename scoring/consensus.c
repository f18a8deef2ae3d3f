/* consensus.c - which answer is nearest to all the others, by its words? The answer nearest to the rest is the
 * least risky one; it helps where there is no final answer to vote on.
 *
 * Two measures, each stretched over [0, 1] among the candidates: mean Jaccard of the token sets, mean cosine of the
 * term frequencies. All alike, or fewer than three: 1 for everyone. Sorted profiles are merged, so a pair costs the sum of its lengths. */
#include "scoring/round.h"

#include <math.h>
#include <stdlib.h>

struct profile {
	size_t n;                        /* distinct tokens */
	uint64_t *token;                 /* sorted */
	uint32_t *count;
	double norm;
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool profile_of(struct round *r, const struct bag *bag, struct profile *p)
{
	double squares = 0;

	*p = (struct profile){ 0 };
	if (!bag)
		return false;
	if (bag->n == 0)
		return true;
	p->token = arena_alloc(&r->arena, bag->n * sizeof *p->token);
	p->count = arena_alloc(&r->arena, bag->n * sizeof *p->count);
	if (!p->token || !p->count)
		return false;
	memcpy(p->token, bag->token, bag->n * sizeof *p->token);
	qsort(p->token, bag->n, sizeof *p->token, by_value);
	for (size_t i = 0; i < bag->n; i++) {
		if (p->n == 0 || p->token[p->n - 1] != p->token[i])
			p->token[p->n++] = p->token[i];
		p->count[p->n - 1]++;
	}
	for (size_t i = 0; i < p->n; i++)
		squares += (double)p->count[i] * p->count[i];
	p->norm = sqrt(squares);
	return true;
}

static void compare(const struct profile *a, const struct profile *b, double *jaccard, double *cosine)
{
	size_t i = 0, k = 0, both = 0;
	double dot = 0;

	while (i < a->n && k < b->n) {
		if (a->token[i] == b->token[k]) {
			dot += (double)a->count[i++] * b->count[k++];
			both++;
		} else if (a->token[i] < b->token[k]) {
			i++;
		} else {
			k++;
		}
	}
	size_t either = a->n + b->n - both;
	*jaccard = either ? (double)both / (double)either : 1;
	*cosine = either == 0 ? 1 : a->n && b->n ? dot / (a->norm * b->norm) : 0;
}

static void stretch(const struct round *r, double *v)
{
	double lo = INFINITY, hi = -INFINITY;

	for (int i = 0; i < r->n; i++)
		if (r->reading[i].in) {
			lo = fmin(lo, v[i]);
			hi = fmax(hi, v[i]);
		}
	for (int i = 0; i < r->n; i++)
		v[i] = hi - lo > 1e-12 ? (v[i] - lo) / (hi - lo) : 1;
}

void score_consensus(struct round *r)
{
	struct profile p[CANDIDATES_MAX];
	double jaccard[CANDIDATES_MAX] = { 0 }, cosine[CANDIDATES_MAX] = { 0 };

	if (r->kind == ROUND_CALLS)
		return;
	for (int i = 0; i < r->n && r->alive >= 3; i++)
		if (r->reading[i].in && !profile_of(r, r->reading[i].bag, &p[i]))
			return;
	for (int i = 0; i < r->n && r->alive >= 3; i++)
		for (int k = 0; k < i && r->reading[i].in; k++) {
			double j, c;
			if (!r->reading[k].in)
				continue;
			compare(&p[i], &p[k], &j, &c);
			jaccard[i] += j;
			jaccard[k] += j;
			cosine[i] += c;
			cosine[k] += c;
		}
	stretch(r, jaccard);
	stretch(r, cosine);
	for (int i = 0; i < r->n; i++)
		if (r->reading[i].in)
			round_set(r, i, CRITERION_consensus, (jaccard[i] + cosine[i]) / 2);
}
