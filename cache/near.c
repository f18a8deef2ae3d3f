/* near.c - weighted Jaccard over words that match by shared terms; see near.h. */
#include "cache/near.h"

bool near_fits(const struct store_word *words, size_t n, size_t *terms)
{
	size_t sum = 0;

	if (n == 0 || n > STORE_WORDS_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		sum += words[i].n_terms;
	*terms = sum;
	return sum <= STORE_TERMS_MAX;
}

size_t near_pack(uint8_t out[NEAR_PACKED_MAX], const struct store_word *words, size_t n, unsigned *total)
{
	size_t at = 0;

	*total = 0;
	out[at++] = (uint8_t)n;
	for (size_t i = 0; i < n; i++) {
		*total += words[i].weight;
		out[at++] = words[i].weight;
		out[at++] = words[i].n_terms;
		for (size_t j = 0; j < words[i].n_terms; j++)
			for (int k = 0; k < 8; k++)
				out[at++] = (uint8_t)(words[i].terms[j] >> 8 * k);
	}
	return at;
}

static size_t slot_of(uint64_t term)
{
	return (size_t)((term * 0x9e3779b97f4a7c15ull) >> 32) % NEAR_SLOTS;
}

void near_query_init(struct near_query *q, const struct store_query *from)
{
	memset(q->word, 0, sizeof q->word);
	q->total = 0;
	for (size_t i = 0; i < from->n_words; i++) {
		q->weight[i] = from->words[i].weight;
		q->total += from->words[i].weight;
		for (size_t j = 0; j < from->words[i].n_terms; j++) {
			size_t at = slot_of(from->words[i].terms[j]);
			while (q->word[at])
				at = (at + 1) % NEAR_SLOTS;
			q->term[at] = from->words[i].terms[j];
			q->word[at] = (uint8_t)(i + 1);
		}
	}
}

static uint64_t term_read(const uint8_t *at)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n |= (uint64_t)at[i] << 8 * i;
	return n;
}

double near_score(const struct near_query *q, const uint8_t *packed, size_t len)
{
	uint64_t matched_words = 0;
	unsigned total = 0, matched = 0;
	size_t at = 1;

	if (len == 0)
		return -1;
	for (unsigned w = 0; w < packed[0]; w++) {
		if (len - at < 2 || (len - at - 2) / 8 < packed[at + 1])
			return -1;
		unsigned weight = packed[at], terms = packed[at + 1];
		bool found = false;
		at += 2;
		total += weight;
		for (unsigned i = 0; i < terms && !found; i++) {
			uint64_t term = term_read(packed + at + 8 * i);
			for (size_t s = slot_of(term); q->word[s] && !found; s = (s + 1) % NEAR_SLOTS) {
				unsigned word = q->word[s] - 1u;
				if (q->term[s] != term || matched_words >> word & 1)
					continue;
				matched_words |= 1ull << word;
				matched += weight < q->weight[word] ? weight : q->weight[word];
				found = true;
			}
		}
		at += 8 * (size_t)terms;
	}
	unsigned both = q->total + total - matched;
	return both ? (double)matched / both : 0;
}

bool near_enters(const struct near_best *b, double score, uint64_t age)
{
	if (b->n < STORE_PROPOSALS)
		return true;
	const struct near_found *last = &b->found[STORE_PROPOSALS - 1];
	return score > last->score || (score == last->score && age > last->age);
}

const void *near_enter(struct near_best *b, double score, uint64_t age, const void *what)
{
	const void *out = NULL;
	size_t at;

	if (b->n == STORE_PROPOSALS)
		out = b->found[--b->n].what;
	for (at = b->n++; at > 0; at--) {
		const struct near_found *above = &b->found[at - 1];
		if (above->score > score || (above->score == score && above->age >= age))
			break;
		b->found[at] = *above;
	}
	b->found[at] = (struct near_found){ score, age, what };
	return out;
}
