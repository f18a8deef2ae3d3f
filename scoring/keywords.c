/* keywords.c - does the answer speak of what was asked? The keywords are those of the semantic cache, in any form
 * (Ukrainian is inflected). Of a question too long for that analysis its opening words count.
 *
 * Limits  QUESTION_WORDS of the question, SCORED_BYTES of each answer. */
#include "scoring/round.h"

enum { QUESTION_WORDS = 48 };

/* The first words, as white space parts them; fewer and fewer until the analysis takes them (it counts otherwise). */
static struct slice opening(struct slice s, unsigned words)
{
	bool inside = false;

	for (size_t i = 0; i < s.len; i++) {
		bool space = s.at[i] == ' ' || s.at[i] == '\n' || s.at[i] == '\t' || s.at[i] == '\r';
		if (inside && space && --words == 0)
			return slice_of(s.at, i);
		inside = !space;
	}
	return s;
}

void score_keywords(struct round *r)
{
	struct slice question = text_trim(r->question->text);
	struct words *asked = NULL;

	if (r->kind != ROUND_TEXT)
		return;
	if (question.len)
		asked = words_of(r->scoring->lexicon, question, &r->arena);
	for (unsigned words = QUESTION_WORDS; asked && asked->skip == WORDS_LONG && words; words /= 2)
		asked = words_of(r->scoring->lexicon, opening(question, words), &r->arena);
	if (question.len && (!asked || asked->skip == WORDS_MEMORY))
		return;
	for (int i = 0; i < r->n; i++) {
		struct slice text = r->reading[i].text;
		size_t of = 0, found = 0;
		if (!r->reading[i].in)
			continue;
		if (text.len > SCORED_BYTES)
			text.len = SCORED_BYTES;
		if (asked && asked->n)
			found = words_found(r->scoring->lexicon, asked, text, &of);
		round_set(r, i, CRITERION_keywords, of ? (double)found / (double)of : 1);
	}
}
