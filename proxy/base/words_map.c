/* words_map.c - hash → what the lists say; open addressing, never more than half full.
 * Keys are hashes already and never 0.
 *
 * Threads  filled in lexicon_open(), read by anyone afterwards. */
#include <stdlib.h>

#include "proxy/base/words_inner.h"

static size_t map_place(const struct map *m, uint64_t key)
{
	size_t i = key & (m->room - 1);

	while (m->key[i] && m->key[i] != key)
		i = (i + 1) & (m->room - 1);
	return i;
}

const struct listed *map_find(const struct map *m, uint64_t key)
{
	size_t i;

	if (!m->room)
		return NULL;
	i = map_place(m, key);
	return m->key[i] ? &m->listed[i] : NULL;
}

static bool map_grow(struct map *m)
{
	struct map bigger = { .room = m->room ? 2 * m->room : 256 };

	bigger.key = calloc(bigger.room, sizeof *bigger.key);
	bigger.listed = calloc(bigger.room, sizeof *bigger.listed);
	if (!bigger.key || !bigger.listed) {
		map_fini(&bigger);
		return false;
	}
	for (size_t i = 0; i < m->room; i++) {
		if (m->key[i]) {
			size_t j = map_place(&bigger, m->key[i]);

			bigger.key[j] = m->key[i];
			bigger.listed[j] = m->listed[i];
		}
	}
	bigger.n = m->n;
	map_fini(m);
	*m = bigger;
	return true;
}

struct listed *map_put(struct map *m, uint64_t key)
{
	size_t i;

	if (m->n * 2 >= m->room && !map_grow(m))
		return NULL;
	i = map_place(m, key);
	if (!m->key[i]) {
		m->key[i] = key;
		m->n++;
	}
	return &m->listed[i];
}

void map_fini(struct map *m)
{
	free(m->key);
	free(m->listed);
	*m = (struct map){ 0 };
}
