/* embedded_pending.c - what was put or dropped and is not committed yet; see embedded.h.
 *
 * Two hash tables over the operations in the writer's queue: by key, so that every link sees a put at once, and by
 * scope and term, so that near questions find it too. Of several operations on one key the newest stands first in its
 * bucket and is the one that counts. */
#include <stdlib.h>

#include "cache/embedded.h"

static size_t key_bucket(const uint8_t key[KEY_BYTES])
{
	return (key[0] | (size_t)key[1] << 8) % PENDING_BUCKETS;       /* keys are SHA-256 */
}

uint64_t embedded_place(const uint8_t scope[KEY_BYTES], uint64_t term)
{
	uint64_t s;

	memcpy(&s, scope, sizeof s);
	uint64_t h = (s ^ term) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

void op_drop(struct op *op)
{
	if (atomic_fetch_sub_explicit(&op->refs, 1, memory_order_acq_rel) == 1)
		free(op);
}

void op_end(struct op *op)
{
	while (op->rows) {
		struct walk_row *r = op->rows;
		op->rows = r->next;
		free(r);
	}
	op_drop(op);
}

void pending_add(struct embedded *s, struct op *op)
{
	size_t at = key_bucket(op->key);

	op->chain = s->by_key[at];
	s->by_key[at] = op;
	for (size_t i = 0; i < op->n_terms; i++) {
		struct op_posting *p = &op->postings[i];
		p->place = embedded_place(op->scope, op->terms[i]);
		p->op = op;
		p->next = s->by_place[p->place % PENDING_BUCKETS];
		s->by_place[p->place % PENDING_BUCKETS] = p;
	}
	s->pending_bytes += op->cost;
	atomic_fetch_add_explicit(&s->pending, 1, memory_order_release);
	embedded_changed(s);
}

void pending_remove(struct embedded *s, struct op *op)
{
	struct op **at = &s->by_key[key_bucket(op->key)];

	while (*at != op)
		at = &(*at)->chain;
	*at = op->chain;
	for (size_t i = 0; i < op->n_terms; i++) {
		struct op_posting **p = &s->by_place[op->postings[i].place % PENDING_BUCKETS];
		while (*p != &op->postings[i])
			p = &(*p)->next;
		*p = op->postings[i].next;
	}
	s->pending_bytes -= op->cost;
	atomic_fetch_sub_explicit(&s->pending, 1, memory_order_release);
	embedded_changed(s);
}

struct op *pending_find(struct embedded *s, const uint8_t key[KEY_BYTES])
{
	struct op *op = s->by_key[key_bucket(key)];

	while (op && memcmp(op->key, key, KEY_BYTES) != 0)
		op = op->chain;
	return op;
}

static bool entered(const struct near_best *best, const struct op *op)
{
	for (size_t i = 0; i < best->n; i++)
		if (best->found[i].what == op)
			return true;
	return false;
}

void pending_near(struct embedded *s, const struct store_query *q, const struct near_query *nq, int64_t now,
		  struct near_best *best, bool *bounded)
{
	size_t looked = 0;

	for (size_t i = 0; i < q->n_words; i++)
		for (size_t j = 0; j < q->words[i].n_terms; j++) {
			uint64_t place = embedded_place(q->scope, q->words[i].terms[j]);
			for (struct op_posting *p = s->by_place[place % PENDING_BUCKETS]; p; p = p->next) {
				struct op *op = p->op;
				if (p->place != place || op->total < q->least || op->total > q->most ||
				    op->expires_ms <= now || memcmp(op->scope, q->scope, KEY_BYTES) != 0)
					continue;
				if (looked++ == PENDING_LOOKED) {
					*bounded = true;
					return;
				}
				double score = near_score(nq, op->words, op->words_len);
				if (score <= 0 || !near_enters(best, score, UINT64_MAX) || entered(best, op) ||
				    pending_find(s, op->key) != op)
					continue;
				atomic_fetch_add_explicit(&op->refs, 1, memory_order_relaxed);
				struct op *out = (struct op *)near_enter(best, score, UINT64_MAX, op);
				if (out)
					op_drop(out);
			}
		}
}
