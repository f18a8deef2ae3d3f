/* redis_count.c - the numbers for state(): asked for by one link or another, every two seconds. */
#include <stdlib.h>

#include "cache/redis_store.h"

static struct store_link *counter_of(struct redis_call *call, int nth)
{
	return (struct store_link *)(void *)((char *)(call - nth) - offsetof(struct store_link, count_call));
}

static void on_expired(struct redis_call *call, const redisReply *r)
{
	struct store_link *l = counter_of(call, 0);

	l->counting--;
	(void)redis_is_error(l, REDIS_PART_INDEX, r);
}

static void on_count(struct redis_call *call, const redisReply *r)
{
	struct store_link *l = counter_of(call, 1);

	l->counting--;
	if (!redis_is_error(l, REDIS_PART_INDEX, r) && r->type == REDIS_REPLY_INTEGER)
		atomic_store(&l->store->entries, (uint64_t)r->integer);
}

static void on_memory(struct redis_call *call, const redisReply *r)
{
	struct store_link *l = counter_of(call, 2);

	l->counting--;
	if (!r || r->type != REDIS_REPLY_STRING)         /* refused: only the bytes are not known then */
		return;
	const char *at = strstr(r->str, "used_memory:");
	if (at)
		atomic_store(&l->store->bytes, strtoull(at + strlen("used_memory:"), NULL, 10));
}

void redis_count(struct store_link *l)
{
	struct redis *s = l->store;
	int64_t now = clock_us() / 1000, last = atomic_load(&s->counted_at);
	char index[PREFIX_MAX + 8], until[32];

	if (!redis_link_up(&l->redis) || l->counting || !redis_health_asks(&s->health, REDIS_PART_INDEX) || (last && now - last < COUNT_EVERY_MS / 2) ||
	    !atomic_compare_exchange_strong(&s->counted_at, &last, now))
		return;
	snprintf(index, sizeof index, "%sindex", s->prefix);
	snprintf(until, sizeof until, "%lld", (long long)wall_now());
	const struct { const char *word[4]; void (*done)(struct redis_call *, const redisReply *); } ask[3] = {
		{ { "ZREMRANGEBYSCORE", index, "-inf", until }, on_expired },
		{ { "ZCARD", index }, on_count },
		{ { "INFO", "memory" }, on_memory },
	};
	for (int i = 0; i < 3; i++) {
		struct command c = { 0 };
		for (int j = 0; j < 4 && ask[i].word[j]; j++)
			command_word(&c, ask[i].word[j]);
		l->count_call[i].done = ask[i].done;
		if (!redis_send(&l->redis, &l->count_call[i], c.n, c.at, c.len))
			return;
		l->counting++;
	}
	redis_link_flush(&l->redis);
}
