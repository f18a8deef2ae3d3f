/* uses: scoring/[a-z]*.c proxy/base/words*.c proxy/base/words/ proxy/base/ask.c proxy/base/scan.c proxy/base/arena.c proxy/base/buf.c proxy/base/err.c */
/* libs: -licuuc -lhunspell -lstemmer -ljansson -lpthread -lm */
/* fuzz_final.c - a question and answers (parted by NULs) given to the scorer. The pick is one of those that are in, scores
 * are numbers from 0 to 1, and order does not change what the best one is worth. */
#include <math.h>
#include <stdlib.h>

#include "scoring/scoring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ANSWERS = 3 };

static void check(int ok)
{
	if (!ok)
		abort();
}

static const struct scoring *scorer(void)
{
	static struct scoring *s;
	const struct lexicon_options o = { .languages = "uk,en" };
	struct scoring_options options;
	unsigned skipped;
	char why[256];

	if (!s) {
		struct lexicon *l = lexicon_open(&o, why, sizeof why);
		scoring_options_init(&options);
		check(l && !scoring_new(&options, (struct slice){ 0 }, l, &s, &skipped));
	}
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice part[ANSWERS + 1] = { { 0 } };
	struct candidate c[ANSWERS] = { 0 };
	struct score score[ANSWERS];
	const char *at = (const char *)data, *end = at + size;

	if (size < 2)
		return 0;
	unsigned flags = (unsigned char)*at++;
	for (int i = 0; i <= ANSWERS; i++) {
		const char *nul = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
		part[i] = slice_of(at, (size_t)((nul ? nul : end) - at));
		at = nul ? nul + 1 : end;
	}
	struct scoring_question q = { .text = part[0], .tools = flags & 1, .format = flags & 2 };
	for (int i = 0; i < ANSWERS; i++)
		c[i] = (struct candidate){ .text = part[i + 1], .cut = flags >> (i + 2) & 1, .failed = flags >> (i + 5) & 1, .mean_logprob = NAN };
	int winner = scoring_pick(scorer(), &q, c, ANSWERS, score);
	check(winner >= -1 && winner < ANSWERS);
	check(winner >= 0 ? !c[winner].failed : c[0].failed && c[1].failed && c[2].failed);
	for (int i = 0; i < ANSWERS; i++)
		if (!c[i].failed)
			check(score[i].total >= -1e-9 && score[i].total <= 1 + 1e-9);
	(void)scoring_agreed(scorer(), &q, c, ANSWERS);
	return 0;
}
