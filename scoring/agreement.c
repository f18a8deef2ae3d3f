/* agreement.c - how many of the others come to the same? The strongest criterion there is, where it applies: several
 * samples rarely make the same mistake. A candidate that calls tools agrees with those that make the same calls; one
 * that must be JSON with those whose "answer", or whose whole value, is the same. */
#include "scoring/round.h"

#include <stdio.h>

void final_of(const struct scoring_question *q, const struct asked *a, const struct candidate *c, struct final *out)
{
	uint64_t hash;

	out->len = 0;
	if (c->failed)
		return;
	if (c->tool_calls.len) {
		if (!c->cut && json_calls(c->tool_calls, &hash) > 0)
			out->len = (size_t)snprintf(out->at, sizeof out->at, "calls:%016llx", (unsigned long long)hash);
		return;
	}
	struct slice text = text_trim(c->text);
	if (!q->format) {
		final_of_text(a, text, c->cut, out);
		return;
	}
	if (c->cut || !json_hash(text, &hash))
		return;
	final_of_json(a, text, out);
	if (out->len == 0)
		out->len = (size_t)snprintf(out->at, sizeof out->at, "json:%016llx", (unsigned long long)hash);
}

static bool same(const struct final *a, const struct final *b)
{
	return a->len && a->len == b->len && memcmp(a->at, b->at, a->len) == 0;
}

void score_agreement(struct round *r)
{
	struct final final[CANDIDATES_MAX];
	struct asked asked;
	int have = 0;

	asked_read(r->question->text, &asked);
	for (int i = 0; i < r->n; i++) {
		final_of(r->question, &asked, &r->candidate[i], &final[i]);
		have += final[i].len > 0;
	}
	if (have < 2 || 2 * have < r->alive)
		return;
	for (int i = 0; i < r->n; i++) {
		int others = 0;
		for (int k = 0; k < r->n; k++)
			others += k != i && same(&final[i], &final[k]);
		if (r->reading[i].in)
			round_set(r, i, CRITERION_agreement, (double)others / (r->alive - 1));
	}
}

bool scoring_agreed(const struct scoring *s, const struct scoring_question *q, const struct candidate *c, int n)
{
	struct final final[CANDIDATES_MAX];
	struct asked asked;

	(void)s;
	if (n > CANDIDATES_MAX)
		n = CANDIDATES_MAX;
	asked_read(q->text, &asked);
	for (int i = 0; i < n; i++) {
		final_of(q, &asked, &c[i], &final[i]);
		for (int k = 0; k < i; k++)
			if (same(&final[i], &final[k]))
				return true;
	}
	return false;
}
