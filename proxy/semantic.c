/* semantic.c - see semantic.h. Similarity and guards are in cache/; here is what one exchange has to do with them. */
#include "proxy/semantic.h"

#include <stdio.h>
#include <stdlib.h>

#include "cache/key.h"
#include "cache/similar.h"
#include "proxy/base/log.h"

enum { ARENA_BYTES = WORDS_ARENA + STORE_PROPOSALS * (32 << 10) };

struct semantic {
	struct arena arena;
	const struct words *words;
	const struct store_word *stored;     /* the same, as the index takes them */
	size_t n_stored;
	struct store_word *settled;          /* owns `stored` once the arena is gone; NULL: the arena does */
	struct buf packed;
	struct store_query query;
	bool asks;                           /* the look-up is wanted */
	struct store_proposal *proposals;    /* in the arena, for its answer */
	enum guards mode;
	double threshold;
	bool chosen;
	uint8_t key[KEY_BYTES];
	double similarity;
};

enum guards semantic_mode(const struct config *c)
{
	switch (c->semantic_guards) {
	case CONFIG_GUARDS_STRICT:   return GUARDS_STRICT;
	case CONFIG_GUARDS_STANDARD: return GUARDS_STANDARD;
	case CONFIG_GUARDS_OFF:      return GUARDS_OFF;
	}
	return GUARDS_STRICT;
}

double semantic_threshold(const struct config *c, const struct wishes *w)
{
	return w->semantic_threshold > 0 ? w->semantic_threshold : c->semantic_threshold;
}

void semantic_scope(const struct exchange *x, const struct lexicon *l, uint8_t scope[KEY_BYTES])
{
	const struct key_parts parts = {
		.family = x->family, .candidates = x->candidates, .scope = slice_text(x->config->cache_scope),
		.tenant = x->wishes.tenant, .space = x->wishes.space,
		.digest = slice_text(x->digest), .form = x->ask.canonical_scope, .mark = words_mark(l) | 1,
	};

	key_make(&parts, scope);
}

static bool analyse(struct semantic *n, struct exchange *x, const struct lexicon *l)
{
	n->mode = semantic_mode(x->config);
	n->threshold = semantic_threshold(x->config, &x->wishes);
	n->words = words_of(l, x->ask.question, &n->arena);
	if (n->words && similar_skip(n->mode, n->words) != WORDS_FIT)
		log_line(LOG_DEBUG, "semantic", "%llu not for this tier: %s", (unsigned long long)x->number,
		         words_skip_name[similar_skip(n->mode, n->words)]);
	if (!n->words || similar_skip(n->mode, n->words) != WORDS_FIT || words_pack(&n->packed, n->words))
		return false;
	n->stored = similar_words(n->words, &n->arena, &n->n_stored);
	if (!n->stored)
		return false;
	n->asks = !x->wishes.semantic_off && x->bypass == BYPASS_NO &&
	          similar_query(n->mode, n->threshold, n->words, &n->arena, &n->query);
	n->proposals = arena_alloc(&n->arena, STORE_PROPOSALS * sizeof *n->proposals);
	n->asks = n->asks && n->proposals;
	semantic_scope(x, l, n->query.scope);
	return true;
}

bool semantic_ages(const struct exchange *x)
{
	const struct lexicon *l = atomic_load(&x->worker->shared->lexicon);
	struct arena arena;

	if (!l || !x->ask.question.len)
		return false;
	arena_init(&arena, WORDS_ARENA);
	const struct words *w = words_of(l, x->ask.question, &arena);
	bool ages = w && w->skip == WORDS_VOLATILE;
	arena_fini(&arena);
	return ages;
}

struct semantic *semantic_analyse(struct exchange *x)
{
	const struct lexicon *l = atomic_load(&x->worker->shared->lexicon);

	if (!l || !x->config->semantic_enabled || x->ask.not_semantic || !x->ask.canonical_scope.len || !x->worker->link)
		return NULL;
	struct semantic *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	arena_init(&n->arena, ARENA_BYTES);
	buf_init(&n->packed, WORDS_PACK_MAX);
	if (analyse(n, x, l))
		return n;
	semantic_free(n);
	return NULL;
}

void semantic_settle(struct semantic *n)
{
	size_t terms = 0;

	if (!n || n->settled)
		return;
	for (size_t i = 0; i < n->n_stored; i++)
		terms += n->stored[i].n_terms;
	struct store_word *kept = malloc(n->n_stored * sizeof *kept + terms * sizeof *kept->terms + 1);
	if (!kept)
		return;                      /* then it stays as large as it is */
	uint64_t *to = (uint64_t *)(kept + n->n_stored);
	for (size_t i = 0; i < n->n_stored; i++) {
		kept[i] = n->stored[i];
		kept[i].terms = memcpy(to, n->stored[i].terms, kept[i].n_terms * sizeof *to);
		to += kept[i].n_terms;
	}
	n->stored = n->settled = kept;
	n->words = NULL;
	n->query.words = NULL;
	n->asks = false;
	arena_fini(&n->arena);
}

void semantic_free(struct semantic *n)
{
	if (!n)
		return;
	buf_fini(&n->packed);
	arena_fini(&n->arena);
	free(n->settled);
	free(n);
}

struct store_proposal *semantic_proposals(struct semantic *n)
{
	return n && n->asks ? n->proposals : NULL;
}

const struct store_query *semantic_query(const struct semantic *n)
{
	return n && n->asks ? &n->query : NULL;
}

/* For log.level = debug: one stored question that was proposed, and what was found. */
static void log_verdict(const struct exchange *x, const uint8_t key[KEY_BYTES], const struct verdict *v)
{
	char hex[2 * KEY_BYTES + 1], guards[128] = "";

	if (!log_on(LOG_DEBUG))
		return;
	key_hex(key, hex);
	for (int i = GUARD_NONE + 1; i < GUARD_COUNT; i++) {
		size_t len = strlen(guards);
		if (v->guards & 1u << i)
			snprintf(guards + len, sizeof guards - len, "%s%s", len ? "," : ", guards ", guard_name[i]);
	}
	log_line(LOG_DEBUG, "semantic", "%llu proposed %.16s: similarity %.3f, %s%s", (unsigned long long)x->number, hex, v->similarity,
	         v->hit ? "a hit" : v->near ? "near" : "too far", guards);
}

bool semantic_choose(struct semantic *n, struct exchange *x, const struct store_get *g)
{
	struct verdict v;
	double nearest = 0;
	enum guard forbade = GUARD_NONE;

	n->chosen = false;
	if (!n->asks)
		return false;
	for (size_t i = 0; i < g->n_proposals; i++) {
		struct words *stored;
		if (words_unpack(g->proposal[i].question, &n->arena, &stored))
			continue;
		similar_judge(n->mode, n->threshold, n->words, stored, &v);
		log_verdict(x, g->proposal[i].key, &v);
		if (v.near && !v.hit && v.similarity > nearest) {
			nearest = v.similarity;
			forbade = v.guard;
		}
		if (v.hit && v.similarity > n->similarity) {
			n->similarity = v.similarity;
			memcpy(n->key, g->proposal[i].key, KEY_BYTES);
			n->chosen = true;
		}
	}
	log_line(LOG_DEBUG, "semantic", "%llu has %zu stored questions proposed: %s at threshold %.2f", (unsigned long long)x->number, g->n_proposals,
	         n->chosen ? "one is chosen" : "none will do", n->threshold);
	if (!n->chosen && forbade != GUARD_NONE)
		metric_label(&x->worker->metrics, semantic_guarded, forbade - 1);
	if (n->chosen && x->config->semantic_shadow) {
		metric_add(&x->worker->metrics, semantic_shadow_hits, 1);
		log_line(LOG_INFO, "semantic", "shadow: request %llu would have been a hit, similarity %.2f",
		         (unsigned long long)x->number, n->similarity);
		n->chosen = false;
	}
	return n->chosen;
}

bool semantic_chosen(const struct semantic *n) { return n && n->chosen; }
const uint8_t *semantic_key(const struct semantic *n) { return n->key; }
double semantic_similarity(const struct semantic *n) { return n->similarity; }

void semantic_item(const struct semantic *n, struct store_item *item)
{
	if (!n)
		return;
	item->has_question = true;
	memcpy(item->scope, n->query.scope, KEY_BYTES);
	item->question = buf_slice(&n->packed);
	item->words = n->stored;
	item->n_words = n->n_stored;
}
