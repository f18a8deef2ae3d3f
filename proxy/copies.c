/* copies.c - see copies.h. */
#include "proxy/copies.h"

#include <assert.h>
#include <stdlib.h>

enum { COPY_MAGIC = 0x436f7079, BUCKETS = 256 };

struct copy {
	unsigned magic, refs;            /* guarded by the table's lock, as is next */
	struct copies *table;
	struct copy *next;
	struct answer_id id;
	struct buf bytes;
	uint64_t counted;                /* in the budget */
};

struct copies {
	pthread_mutex_t lock;
	struct budget *budget;
	struct copy *bucket[BUCKETS];
};

struct copies *copies_new(struct budget *budget)
{
	struct copies *cs = calloc(1, sizeof *cs);

	if (!cs)
		abort();                     /* at start */
	cs->budget = budget;
	pthread_mutex_init(&cs->lock, NULL);
	return cs;
}

void copies_free(struct copies *cs)
{
	for (size_t i = 0; i < BUCKETS; i++)
		assert(!cs->bucket[i]);
	pthread_mutex_destroy(&cs->lock);
	free(cs);
}

/* With the lock held: where it is, or NULL. */
static struct copy **find(struct copies *cs, const struct answer_id *id)
{
	struct copy **at = &cs->bucket[(id->key[0] ^ id->version) % BUCKETS];

	while (*at && ((*at)->id.version != id->version || (*at)->id.whole != id->whole ||
	               memcmp((*at)->id.key, id->key, KEY_BYTES) != 0))
		at = &(*at)->next;
	return at;
}

struct copy *copies_get(struct copies *cs, const struct answer_id *id)
{
	pthread_mutex_lock(&cs->lock);
	struct copy *c = *find(cs, id);
	if (c)
		c->refs++;
	pthread_mutex_unlock(&cs->lock);
	return c;
}

struct copy *copies_share(struct copies *cs, const struct answer_id *id, struct buf *bytes)
{
	pthread_mutex_lock(&cs->lock);
	struct copy **at = find(cs, id), *c = *at;
	if (c) {
		c->refs++;
	} else if (budget_take_reply(cs->budget, bytes->len)) {
		c = malloc(sizeof *c);
		if (c) {
			*c = (struct copy){ COPY_MAGIC, 1, cs, NULL, *id, *bytes, bytes->len };
			buf_fit(&c->bytes);
			*bytes = (struct buf){ .limit = bytes->limit };
			*at = c;
		} else {
			budget_give_reply(cs->budget, bytes->len);
		}
	}
	pthread_mutex_unlock(&cs->lock);
	if (c)
		buf_fini(bytes);             /* somebody else's was there first */
	return c;
}

struct slice copy_bytes(const struct copy *c)
{
	return buf_slice(&c->bytes);
}

void copy_drop(struct copy *c)
{
	struct copies *cs = c->table;

	pthread_mutex_lock(&cs->lock);
	assert(c->magic == COPY_MAGIC && c->refs > 0);
	bool last = --c->refs == 0;
	if (last) {
		struct copy **at = find(cs, &c->id);
		*at = c->next;
	}
	pthread_mutex_unlock(&cs->lock);
	if (!last)
		return;
	budget_give_reply(cs->budget, c->counted);
	c->magic = 0;
	buf_fini(&c->bytes);
	free(c);
}
