/* uses: cache/similar.c cache/guards.c proxy/base/words*.c proxy/base/words/ proxy/base/arena.c proxy/base/buf.c proxy/base/err.c */
/* libs: -licuuc -lhunspell -lstemmer -ljansson -lpthread -lm */
/* fuzz_words.c - two questions (parted by a NUL): analysed, packed, opened, compared. A comparison is symmetric, a question is
 * like itself, and packing changes nothing a comparison sees. */
#include <math.h>
#include <stdlib.h>

#include "cache/similar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static const struct lexicon *lexicon(void)
{
	static struct lexicon *l;
	const struct lexicon_options o = { .languages = "uk,en" };
	char why[256];

	if (!l)
		l = lexicon_open(&o, why, sizeof why);
	check(l != NULL);
	return l;
}

static const struct words *analyse(struct slice text, struct arena *a, struct buf *packed)
{
	const struct words *w = words_of(lexicon(), text, a);

	check(w && w->n <= WORDS_MAX);
	buf_init(packed, WORDS_PACK_MAX);
	if (similar_skip(GUARDS_OFF, w) == WORDS_FIT)
		check(!words_pack(packed, w));
	return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *nul = size ? memchr(data, 0, size) : NULL;
	struct slice one = slice_of((const char *)data, nul ? (size_t)(nul - (const char *)data) : size);
	struct slice two = nul ? slice_of(nul + 1, size - one.len - 1) : one;
	struct arena a;
	struct buf p, q;

	arena_init(&a, 16 << 20);
	const struct words *w = analyse(one, &a, &p), *v = analyse(two, &a, &q);
	for (int mode = GUARDS_STRICT; mode <= GUARDS_OFF; mode++) {
		struct verdict there, back, packed;
		struct words *opened;
		struct store_query query;
		similar_judge((enum guards)mode, 0.7, w, v, &there);
		similar_judge((enum guards)mode, 0.7, v, w, &back);
		check(fabs(there.similarity - back.similarity) < 1e-9 && there.hit == back.hit);
		check(there.similarity >= 0 && there.similarity <= 1);
		check(!there.hit || (there.near && there.guard == GUARD_NONE));
		if (q.len) {
			check(!words_unpack(buf_slice(&q), &a, &opened));
			similar_judge((enum guards)mode, 0.7, w, opened, &packed);
			check(packed.similarity == there.similarity && packed.hit == there.hit);
		}
		if (similar_skip((enum guards)mode, w) == WORDS_FIT) {
			similar_judge((enum guards)mode, 0.7, w, w, &back);
			check(back.similarity > 0.999);
			if (similar_query((enum guards)mode, 0.7, w, &a, &query))
				check(query.n_words <= STORE_WORDS_MAX && query.least <= query.most);
		}
	}
	buf_fini(&p);
	buf_fini(&q);
	arena_fini(&a);
	return 0;
}
