/* redis_health.c - see redis_health.h. */
#include "cache/redis_health.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxy/base/log.h"
#include "proxy/base/loop.h"

enum { SAY_AGAIN_MS = 10 * 60 * 1000, LINK_AGAIN_MS = 1000, REFUSED_MS = 60 * 1000 };

static const struct { const char *begins, *to_do; bool lasts; } kinds[REDIS_KINDS] = {
	[REDIS_KIND_NOPERM] = { "NOPERM", "give the user of redis.url the right to this (ACL SETUSER), for all keys under redis.prefix", true },
	[REDIS_KIND_NOAUTH] = { "NOAUTH", "put the password into redis.url (best by OLLACACHE_REDIS_URL)", true },
	[REDIS_KIND_WRONGPASS] = { "WRONGPASS", "correct the user and password in redis.url", true },
	[REDIS_KIND_OOM] = { "OOM", "raise its maxmemory, or set maxmemory-policy to allkeys-lru", false },
	[REDIS_KIND_READONLY] = { "READONLY", "it is a replica: name the master in redis.url, or its Sentinels", false },
	[REDIS_KIND_MISCONF] = { "MISCONF", "it cannot save to its disk: look there, or turn its saving off", false },
	[REDIS_KIND_LOADING] = { "LOADING", "it reads its data and will be there in a while", false },
	[REDIS_KIND_BUSY] = { "BUSY", "a script of somebody's keeps it: SCRIPT KILL or FUNCTION KILL ends that", false },
	[REDIS_KIND_MASTERDOWN] = { "MASTERDOWN", "it is a replica without its master", false },
	[REDIS_KIND_NOREPLICAS] = { "NOREPLICAS", "it has fewer replicas than its min-replicas-to-write", false },
	[REDIS_KIND_DENIED] = { "DENIED", "it is in protected mode: give it a password, and redis.url the same", true },
	[REDIS_KIND_CLUSTER] = { "MOVED", "it is a Redis Cluster, which is not supported: use one node or Sentinel", true },
	[REDIS_KIND_UNKNOWN] = { "ERR unknown", "near questions need Redis 7 or later, without renamed commands", true },
	[REDIS_KIND_OTHER] = { "", "", false },
};

static const char *const fails[REDIS_PARTS] = {
	[REDIS_PART_LINK] = "is away, and requests go on without it",
	[REDIS_PART_READ] = "refuses to give answers",
	[REDIS_PART_WRITE] = "refuses to keep answers",
	[REDIS_PART_NEAR_LINK] = "cannot be asked for near questions, exact look-ups go on",
	[REDIS_PART_NEAR] = "refuses near questions, so there are no semantic hits; exact look-ups go on",
	[REDIS_PART_INDEX] = "refuses the index of what is kept, so store_entries and store_bytes are not known; look-ups go on",
	[REDIS_PART_LIST] = "refuses to list what is kept, so it cannot be looked through or purged; look-ups go on",
};

static const char *const works[REDIS_PARTS] = {
	[REDIS_PART_LINK] = "connected again",
	[REDIS_PART_READ] = "it gives answers again",
	[REDIS_PART_WRITE] = "it keeps answers again",
	[REDIS_PART_NEAR_LINK] = "it can be asked for near questions again",
	[REDIS_PART_NEAR] = "it takes near questions again",
	[REDIS_PART_INDEX] = "it takes the index again",
	[REDIS_PART_LIST] = "it lists again",
};

enum redis_kind redis_kind_of(const char *error)
{
	int kind = 0;

	while (kind < REDIS_KIND_OTHER && strncasecmp(error, kinds[kind].begins, strlen(kinds[kind].begins)) != 0)
		kind++;
	return (enum redis_kind)kind;
}

void redis_health_init(struct redis_health *h, const char *name)
{
	pthread_mutex_init(&h->lock, NULL);
	snprintf(h->name, sizeof h->name, "%s", name);
}

void redis_health_fini(struct redis_health *h)
{
	pthread_mutex_destroy(&h->lock);
}

bool redis_health_fails(struct redis_health *h, enum redis_part part, const char *cause)
{
	enum redis_kind kind = redis_kind_of(cause);
	unsigned bit = 1u << part;
	int64_t now = clock_us() / 1000;

	pthread_mutex_lock(&h->lock);
	bool first = !(atomic_load(&h->failing) & bit), other = first || redis_kind_of(h->part[part].cause) != kind;
	int64_t last = h->part[part].said_ms[kind], quiet = part == REDIS_PART_LINK ? LINK_AGAIN_MS : SAY_AGAIN_MS;
	bool say = other && (!last || now - last > quiet);

	if (first)
		h->part[part].since_ms = wall_now();
	snprintf(h->part[part].cause, sizeof h->part[part].cause, "%s", cause);
	atomic_fetch_or(&h->failing, bit);
	atomic_store(&h->part[part].again_ms, kinds[kind].lasts ? now + REFUSED_MS : 0);
	if (say) {
		h->part[part].said_ms[kind] = now;
		h->part[part].told = true;
	}
	pthread_mutex_unlock(&h->lock);
	if (say)
		log_line(LOG_WARN, "store", "redis: %s %s: %s%s%s", h->name, fails[part], cause, *kinds[kind].to_do ? "; " : "",
		         kinds[kind].to_do);
	return first;
}

void redis_health_works(struct redis_health *h, enum redis_part part)
{
	unsigned bit = 1u << part;

	if (!(atomic_load_explicit(&h->failing, memory_order_relaxed) & bit))
		return;
	pthread_mutex_lock(&h->lock);
	bool failed = atomic_fetch_and(&h->failing, ~bit) & bit, say = failed && h->part[part].told;
	long long seconds = (long long)(wall_now() - h->part[part].since_ms) / 1000;
	h->part[part].told = false;
	atomic_store(&h->part[part].again_ms, 0);
	pthread_mutex_unlock(&h->lock);
	if (say)
		log_line(LOG_INFO, "store", "redis: %s: %s, after %lld s", h->name, works[part], seconds);
}

bool redis_health_asks(struct redis_health *h, enum redis_part part)
{
	int64_t again = atomic_load_explicit(&h->part[part].again_ms, memory_order_relaxed), now;

	if (!again)
		return true;
	now = clock_us() / 1000;
	return now >= again && atomic_compare_exchange_strong(&h->part[part].again_ms, &again, now + REFUSED_MS);
}

void redis_health_state(struct redis_health *h, struct store_state *state)
{
	const unsigned grave = 1u << REDIS_PART_LINK | 1u << REDIS_PART_READ | 1u << REDIS_PART_WRITE;

	pthread_mutex_lock(&h->lock);
	unsigned failing = atomic_load(&h->failing);
	state->up = !(failing & grave);
	state->cause[0] = 0;
	state->since_ms = 0;
	if (failing) {
		unsigned part = (unsigned)__builtin_ctz(failing);
		snprintf(state->cause, sizeof state->cause, "it %s: %s", fails[part], h->part[part].cause);
		state->since_ms = h->part[part].since_ms;
	}
	pthread_mutex_unlock(&h->lock);
}
