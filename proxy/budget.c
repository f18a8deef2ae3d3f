/* budget.c - see budget.h. */
#include "proxy/budget.h"

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

/* In the order of waiting, as far as it goes; with the lock held. */
static void serve(struct budget *b)
{
	while (b->first && b->first->wants <= b->limit && b->first->wants <= b->limit - (b->used < b->limit ? b->used : b->limit)) {
		struct budget_share *s = b->first;
		b->first = s->next;
		if (!b->first)
			b->last = &b->first;
		b->used += s->wants;
		s->bytes += s->wants;
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

bool budget_take(struct budget *b, struct budget_share *share, uint64_t bytes, bool patient)
{
	bool taken = false;

	pthread_mutex_lock(&b->lock);
	if (!b->first && b->used <= b->limit && bytes <= b->limit - b->used) {
		b->used += bytes;
		share->bytes += bytes;
		taken = true;
	} else if (patient && bytes <= b->limit) {
		share->wants = bytes;
		share->waits = true;
		share->next = NULL;
		*b->last = share;
		b->last = &share->next;
	}
	pthread_mutex_unlock(&b->lock);
	return taken;
}

void budget_leave(struct budget *b, struct budget_share *share)
{
	pthread_mutex_lock(&b->lock);
	for (struct budget_share **at = &b->first; share->waits && *at; at = &(*at)->next)
		if (*at == share) {
			*at = share->next;
			if (b->last == &share->next)
				b->last = at;
			share->waits = false;
			break;
		}
	b->used -= share->bytes;
	share->bytes = 0;
	serve(b);
	pthread_mutex_unlock(&b->lock);
}
