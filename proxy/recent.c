/* recent.c - see recent.h: a ring under a lock. */
#include "proxy/recent.h"

#include <pthread.h>
#include <stdlib.h>

#include "proxy/base/loop.h"

struct recent {
	pthread_mutex_t lock;
	size_t added;
	struct recent_hit hit[RECENT_HITS];
};

struct recent *recent_new(void)
{
	struct recent *r = calloc(1, sizeof *r);

	if (!r)
		abort();                     /* at start */
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void recent_free(struct recent *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void copy(char *to, struct slice s, size_t most)
{
	size_t n = s.len < most ? s.len : most;

	while (n < s.len && n && (s.at[n] & 0xc0) == 0x80)     /* not in the middle of a character */
		n--;
	if (n)
		memcpy(to, s.at, n);
	to[n] = '\0';
}

void recent_add(struct recent *r, const uint8_t key[KEY_BYTES], double similarity, struct slice asked, struct slice stored,
	struct slice model)
{
	pthread_mutex_lock(&r->lock);
	struct recent_hit *h = &r->hit[r->added++ % RECENT_HITS];
	h->at_ms = wall_now();
	h->similarity = similarity;
	memcpy(h->key, key, KEY_BYTES);
	copy(h->asked, asked, RECENT_TEXT_MAX);
	copy(h->stored, stored, RECENT_TEXT_MAX);
	copy(h->model, model, RECENT_MODEL_MAX);
	pthread_mutex_unlock(&r->lock);
}

size_t recent_get(struct recent *r, struct recent_hit to[RECENT_HITS])
{
	pthread_mutex_lock(&r->lock);
	size_t n = r->added < RECENT_HITS ? r->added : RECENT_HITS;
	for (size_t i = 0; i < n; i++)
		to[i] = r->hit[(r->added - 1 - i) % RECENT_HITS];
	pthread_mutex_unlock(&r->lock);
	return n;
}
