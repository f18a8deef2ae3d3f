/* scoring.c - read the answers once, let every criterion score them, weigh, pick, explain; see scoring.h. */
#include "scoring/round.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { ROUND_ARENA = 256 << 20 };        /* never near it: CANDIDATES_MAX answers of 20,000 words need 80 MB */

static const double same_total = 1e-9;   /* totals nearer than this are equal: sums of rounded products */

const struct criterion_info criterion_info[CRITERIA] = {
#define CRITERION(name, weight, function, help) [CRITERION_##name] = { #name, weight, help },
#include "scoring/criteria.def"
#undef CRITERION
};

static void (*const score_function[CRITERIA])(struct round *) = {
#define CRITERION(name, weight, function, help) [CRITERION_##name] = function,
#include "scoring/criteria.def"
#undef CRITERION
};

void scoring_options_init(struct scoring_options *o)
{
	*o = (struct scoring_options){ .length_min = 100, .length_max = 500, .length_relative = true };
	for (int k = 0; k < CRITERIA; k++)
		o->weight[k] = criterion_info[k].weight;
}

enum err scoring_new(const struct scoring_options *o, struct slice list, const struct lexicon *l,
                     struct scoring **made, unsigned *skipped)
{
	struct scoring *s = calloc(1, sizeof *s);
	unsigned ignored;
	enum err e;

	*made = NULL;
	if (!s)
		return ERR_NO_MEMORY;
	s->options = *o;
	s->lexicon = l;
	for (int k = 0; k < CRITERIA; k++)
		if (!isfinite(s->options.weight[k]) || s->options.weight[k] < 0)
			s->options.weight[k] = 0;
	e = forbidden_new(list, l, &s->forbidden, skipped ? skipped : &ignored);
	if (e) {
		free(s);
		return e;
	}
	*made = s;
	return ERR_OK;
}

void scoring_free(struct scoring *s)
{
	if (s)
		forbidden_free(s->forbidden);
	free(s);
}

static void read_all(struct round *r)
{
	for (int i = 0; i < r->n; i++) {
		const struct candidate *c = &r->candidate[i];
		struct reading *a = &r->reading[i];
		r->score[i] = (struct score){ 0 };
		*a = (struct reading){ .in = !c->failed };
		if (c->failed)
			continue;
		r->alive++;
		if (c->tool_calls.len)
			r->kind = ROUND_CALLS;
		a->text = text_trim(c->text);
		a->chars = text_chars(a->text);
		struct slice words = a->text;
		if (words.len > SCORED_BYTES)
			words.len = SCORED_BYTES;
		a->bag = words_bag(r->scoring->lexicon, words, &r->arena);
	}
}

static double total_of(const struct score *s, const double *weight)
{
	double sum = 0, weights = 0;

	for (int k = 0; k < CRITERIA; k++)
		if (s->active[k]) {
			sum += weight[k] * s->value[k];
			weights += weight[k];
		}
	return weights > 0 ? sum / weights : 0;
}

static bool better(const struct round *r, int a, int b)
{
	double d = r->score[a].total - r->score[b].total;
	double p = r->candidate[a].mean_logprob, q = r->candidate[b].mean_logprob;

	if (fabs(d) > same_total)
		return d > 0;
	return isfinite(p) && isfinite(q) && p > q;
}

int scoring_pick(const struct scoring *s, const struct scoring_question *q, const struct candidate *c, int n,
                 struct score *scores)
{
	struct round r = { .scoring = s, .question = q, .candidate = c, .score = scores, .n = n,
		.kind = q->format ? ROUND_JSON : ROUND_TEXT };
	int best = -1;

	assert(n >= 0 && n <= CANDIDATES_MAX);
	arena_init(&r.arena, ROUND_ARENA);
	read_all(&r);
	for (int k = 0; k < CRITERIA && r.alive; k++)
		score_function[k](&r);
	arena_fini(&r.arena);
	for (int i = 0; i < n; i++) {
		if (!r.reading[i].in)
			continue;
		scores[i].total = total_of(&scores[i], s->options.weight);
		if (best < 0 || better(&r, i, best))
			best = i;
	}
	return best;
}

static enum err explain_one(const struct score *s, bool failed, struct buf *to)
{
	enum err e;

	if (failed)
		return buf_put(to, SLICE("null"));
	e = buf_addf(to, "{\"total\":%.4g", s->total);
	for (int k = 0; k < CRITERIA && !e; k++)
		e = s->active[k] ? buf_addf(to, ",\"%s\":%.3g", criterion_info[k].name, s->value[k]) :
			buf_addf(to, ",\"%s\":null", criterion_info[k].name);
	return e ? e : buf_put(to, SLICE("}"));
}

enum err scoring_explain(const struct score *scores, const struct candidate *c, int n, int winner, struct buf *json)
{
	enum { ONE_MAX = 320, TAIL_MAX = 24 };           /* bytes of one candidate, of what follows the last */
	size_t from = json->len;
	int i = 0;
	enum err e = buf_addf(json, "{\"winner\":%d,\"candidates\":[", winner + 1);

	for (; i < n && !e && json->len - from + ONE_MAX + TAIL_MAX <= EXPLAIN_BYTES; i++) {
		if (i)
			e = buf_put(json, SLICE(","));
		if (!e)
			e = explain_one(&scores[i], c[i].failed, json);
	}
	if (!e)
		e = buf_put(json, SLICE("]"));
	if (!e && i < n)
		e = buf_addf(json, ",\"left_out\":%d", n - i);
	if (!e)
		e = buf_put(json, SLICE("}"));
	if (e)
		json->len = from;
	return e;
}
