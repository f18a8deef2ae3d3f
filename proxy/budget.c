/* budget.c - see budget.h. */
#include "proxy/budget.h"

#include <stdlib.h>
#include <string.h>

enum { CLIENT_PART = 4, CLIENT_PART_ALONE = 2, SMALL_PART = 8, REPLIES_PART = 2 };

struct budget_client {
	struct budget_client *next;
	uint8_t address[BUDGET_CLIENT_BYTES];
	uint64_t used;
};

void budget_init(struct budget *b, uint64_t limit_bytes)
{
	*b = (struct budget){ .limit = limit_bytes };
	b->last = &b->first;
	pthread_mutex_init(&b->lock, NULL);
}

void budget_fini(struct budget *b)
{
	pthread_mutex_destroy(&b->lock);
}

/* ---- clients; all with the lock held ---- */

/* Where the client is, or would be put. */
static struct budget_client **client_at(struct budget *b, const uint8_t address[BUDGET_CLIENT_BYTES])
{
	uint32_t hash = 2166136261u;     /* FNV-1a */

	for (int i = 0; i < BUDGET_CLIENT_BYTES; i++)
		hash = (hash ^ address[i]) * 16777619u;
	struct budget_client **at = &b->client[hash % BUDGET_BUCKETS];
	while (*at && memcmp((*at)->address, address, BUDGET_CLIENT_BYTES) != 0)
		at = &(*at)->next;
	return at;
}

static void give(struct budget *b, struct budget_share *share, uint64_t bytes)
{
	if (!bytes)
		return;
	struct budget_client **at = client_at(b, share->client), *c = *at;
	b->used -= bytes;
	share->bytes -= bytes;
	c->used -= bytes;
	if (!c->used) {
		*at = c->next;
		free(c);
	}
}

static bool fits(uint64_t used, uint64_t bytes, uint64_t limit)
{
	return bytes <= limit && used <= limit - bytes;
}

static bool take(struct budget *b, struct budget_share *share, uint64_t bytes)
{
	struct budget_client **at = client_at(b, share->client);
	uint64_t of_client = *at ? (*at)->used : 0;
	bool small = share->bytes + bytes <= BUDGET_SMALL;

	if (!fits(b->used, bytes, small ? b->limit : b->limit - b->limit / SMALL_PART))
		return false;
	if (!fits(of_client, bytes, b->limit / CLIENT_PART) && !fits(b->used, bytes, b->limit / CLIENT_PART_ALONE))
		return false;
	if (!*at) {
		*at = calloc(1, sizeof **at);
		if (!*at)
			return false;
		memcpy((*at)->address, share->client, BUDGET_CLIENT_BYTES);
	}
	(*at)->used += bytes;
	b->used += bytes;
	share->bytes += bytes;
	return true;
}

/* ---- the line ---- */

/* In the order of waiting; who is over his own part holds up nobody behind him. With the lock held. */
static void serve(struct budget *b)
{
	for (struct budget_share **at = &b->first; *at; ) {
		struct budget_share *s = *at;
		if (!take(b, s, s->wants)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		if (b->last == &s->next)
			b->last = at;
		atomic_store_explicit(&s->waits, false, memory_order_release);
		loop_post(s->loop, &s->mail);
	}
}

void budget_limit(struct budget *b, uint64_t limit_bytes)
{
	pthread_mutex_lock(&b->lock);
	b->limit = limit_bytes;
	serve(b);
	pthread_mutex_unlock(&b->lock);
}

uint64_t budget_most(struct budget *b)
{
	pthread_mutex_lock(&b->lock);
	uint64_t most = b->limit / CLIENT_PART_ALONE;
	pthread_mutex_unlock(&b->lock);
	return most;
}

bool budget_take(struct budget *b, struct budget_share *share, uint64_t bytes, bool patient)
{
	pthread_mutex_lock(&b->lock);
	bool taken = take(b, share, bytes);
	if (!taken && patient) {
		share->wants = bytes;
		share->waits = true;
		share->next = NULL;
		*b->last = share;
		b->last = &share->next;
	}
	pthread_mutex_unlock(&b->lock);
	return taken;
}

void budget_give(struct budget *b, struct budget_share *share, uint64_t bytes)
{
	pthread_mutex_lock(&b->lock);
	give(b, share, bytes);
	serve(b);
	pthread_mutex_unlock(&b->lock);
}

/* With the lock held. */
static void unwait(struct budget *b, struct budget_share *share)
{
	for (struct budget_share **at = &b->first; share->waits && *at; at = &(*at)->next)
		if (*at == share) {
			*at = share->next;
			if (b->last == &share->next)
				b->last = at;
			share->waits = false;
			break;
		}
}

void budget_unwait(struct budget *b, struct budget_share *share)
{
	pthread_mutex_lock(&b->lock);
	unwait(b, share);
	pthread_mutex_unlock(&b->lock);
}

void budget_leave(struct budget *b, struct budget_share *share)
{
	pthread_mutex_lock(&b->lock);
	unwait(b, share);
	give(b, share, share->bytes);
	serve(b);
	pthread_mutex_unlock(&b->lock);
}

/* ---- replies ---- */

bool budget_take_reply(struct budget *b, uint64_t bytes)
{
	pthread_mutex_lock(&b->lock);
	bool taken = !b->replies || (fits(b->replies, bytes, b->limit / REPLIES_PART) && fits(b->used, bytes, b->limit));
	if (taken) {
		b->used += bytes;
		b->replies += bytes;
	}
	pthread_mutex_unlock(&b->lock);
	return taken;
}

void budget_give_reply(struct budget *b, uint64_t bytes)
{
	pthread_mutex_lock(&b->lock);
	b->used -= bytes;
	b->replies -= bytes;
	serve(b);
	pthread_mutex_unlock(&b->lock);
}
