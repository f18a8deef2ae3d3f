/* history.c - see history.h. */
#include "proxy/history.h"

#include <stdlib.h>

enum { KINDS = RESULT_BYPASS + 1 };

struct sums {                                /* over all workers, since the start; bucket: hits together, misses */
	uint64_t kind[KINDS], tokens, gpu_ns, errors, hit[METRIC_BUCKETS], miss[METRIC_BUCKETS];
	uint64_t connections, streams;
};

struct slot {
	int64_t end_ms;                      /* wall clock */
	uint32_t kind[KINDS], tokens, errors, connections, streams;
	float gpu_s, hit_ms, miss_ms;        /* medians; negative: none */
};

struct series {
	struct slot *step;
	size_t room, added;
	int64_t every_ms, due_ms;
	struct sums before;
};

struct history {
	struct worker *w;
	struct alarm alarm;
	pthread_mutex_t lock;
	struct series hour, day;             /* written under the lock */
	struct slot hours[HISTORY_HOUR], days[HISTORY_DAY];
};

double history_median_us(const uint64_t bucket[METRIC_BUCKETS], const uint64_t *most_us)
{
	uint64_t all = 0, below = 0;
	int i;

	for (i = 0; i < METRIC_BUCKETS; i++)
		all += bucket[i];
	if (!all)
		return -1;
	for (i = 0; 2 * (below + bucket[i]) < all; i++)
		below += bucket[i];
	double from = i ? (double)most_us[i - 1] : 0;
	if (most_us[i] == UINT64_MAX)
		return from;
	return from + ((double)most_us[i] - from) * ((double)all / 2 - (double)below) / (double)bucket[i];
}

static uint64_t now_of(const _Atomic uint64_t *cell)
{
	return atomic_load_explicit(cell, memory_order_relaxed);
}

static void sum_up(const struct shared *s, struct sums *to)
{
	*to = (struct sums){ 0 };
	for (size_t i = 0; i < s->n_workers; i++) {
		const struct metrics *m = &s->worker[i]->metrics;
		to->kind[RESULT_EXACT] += now_of(&m->exact_cache_hits);
		to->kind[RESULT_SEMANTIC] += now_of(&m->semantic_cache_hits);
		to->kind[RESULT_JOINED] += now_of(&m->joined_requests);
		to->kind[RESULT_MISS] += now_of(&m->cache_misses);
		to->kind[RESULT_BYPASS] += now_of(&m->bypassed_requests);
		to->tokens += now_of(&m->tokens_saved);
		to->gpu_ns += now_of(&m->gpu_seconds_saved);
		to->errors += now_of(&m->upstream_errors);
		to->connections += now_of(&m->connections_open);
		to->streams += now_of(&m->streams_open);
		for (int b = 0; b < METRIC_BUCKETS; b++) {
			to->hit[b] += now_of(&m->first_byte_seconds[RESULT_EXACT].bucket[b]) +
			              now_of(&m->first_byte_seconds[RESULT_SEMANTIC].bucket[b]);
			to->miss[b] += now_of(&m->first_byte_seconds[RESULT_MISS].bucket[b]);
		}
	}
}

static float median_ms(const uint64_t now[METRIC_BUCKETS], const uint64_t before[METRIC_BUCKETS])
{
	uint64_t grown[METRIC_BUCKETS];

	for (int b = 0; b < METRIC_BUCKETS; b++)
		grown[b] = now[b] - before[b];
	double us = history_median_us(grown, metric_scale_us[METRIC_SCALE_waits]);
	return us < 0 ? -1 : (float)(us / 1000);
}

static void add_step(struct series *s, const struct sums *now)
{
	struct slot *to = &s->step[s->added++ % s->room];

	*to = (struct slot){
		.end_ms = wall_now(), .tokens = (uint32_t)(now->tokens - s->before.tokens),
		.errors = (uint32_t)(now->errors - s->before.errors), .connections = (uint32_t)now->connections,
		.streams = (uint32_t)now->streams, .gpu_s = (float)((double)(now->gpu_ns - s->before.gpu_ns) / 1e9),
		.hit_ms = median_ms(now->hit, s->before.hit), .miss_ms = median_ms(now->miss, s->before.miss),
	};
	for (int k = 0; k < KINDS; k++)
		to->kind[k] = (uint32_t)(now->kind[k] - s->before.kind[k]);
	s->before = *now;
}

static void on_alarm(struct alarm *a)
{
	struct history *h = (struct history *)((char *)a - offsetof(struct history, alarm));
	struct series *all[] = { &h->hour, &h->day };
	int64_t now = loop_now(&h->w->loop);
	struct sums sums;

	sum_up(h->w->shared, &sums);
	pthread_mutex_lock(&h->lock);
	for (int i = 0; i < 2; i++) {
		if (now < all[i]->due_ms)
			continue;
		add_step(all[i], &sums);
		/* a step that came late is one step all the same */
		while (all[i]->due_ms <= now)
			all[i]->due_ms += all[i]->every_ms;
	}
	pthread_mutex_unlock(&h->lock);
	alarm_set(&h->w->alarms, a, h->hour.due_ms - now, on_alarm);
}

struct history *history_start(struct worker *w)
{
	struct history *h = calloc(1, sizeof *h);

	if (!h)
		abort();                     /* at start */
	int64_t now = loop_now(&w->loop);
	h->w = w;
	pthread_mutex_init(&h->lock, NULL);
	h->hour = (struct series){ .step = h->hours, .room = HISTORY_HOUR, .every_ms = HISTORY_HOUR_MS, .due_ms = now + HISTORY_HOUR_MS };
	h->day = (struct series){ .step = h->days, .room = HISTORY_DAY, .every_ms = HISTORY_DAY_MS, .due_ms = now + HISTORY_DAY_MS };
	alarm_set(&w->alarms, &h->alarm, HISTORY_HOUR_MS, on_alarm);
	return h;
}

void history_stop(struct history *h)
{
	alarm_clear(&h->w->alarms, &h->alarm);
}

void history_free(struct history *h)
{
	if (!h)
		return;
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* ---- as JSON ---- */

static size_t count_of(const struct series *s)
{
	return s->added < s->room ? s->added : s->room;
}

static const struct slot *step_at(const struct series *s, size_t i)       /* 0: the oldest */
{
	return &s->step[(s->added - count_of(s) + i) % s->room];
}

/* One array: a number of every step, by where it stands in struct slot. */
static enum err put_counts(struct buf *out, const char *name, const struct series *s, size_t offset)
{
	enum err e = buf_addf(out, ",\"%s\":[", name);

	for (size_t i = 0; i < count_of(s) && !e; i++)
		e = buf_addf(out, "%s%u", i ? "," : "", *(const uint32_t *)(const void *)((const char *)step_at(s, i) + offset));
	return e ? e : buf_add(out, "]", 1);
}

static enum err put_reals(struct buf *out, const char *name, const struct series *s, size_t offset)
{
	enum err e = buf_addf(out, ",\"%s\":[", name);

	for (size_t i = 0; i < count_of(s) && !e; i++) {
		float value = *(const float *)(const void *)((const char *)step_at(s, i) + offset);
		e = value < 0 ? buf_addf(out, "%snull", i ? "," : "") : buf_addf(out, "%s%.3f", i ? "," : "", (double)value);
	}
	return e ? e : buf_add(out, "]", 1);
}

static enum err put_series(struct buf *out, const char *name, const struct series *s)
{
	static const struct { const char *name; size_t offset; bool real; } columns[] = {
		{ "exact", offsetof(struct slot, kind[RESULT_EXACT]), false },
		{ "semantic", offsetof(struct slot, kind[RESULT_SEMANTIC]), false },
		{ "joined", offsetof(struct slot, kind[RESULT_JOINED]), false },
		{ "miss", offsetof(struct slot, kind[RESULT_MISS]), false },
		{ "bypass", offsetof(struct slot, kind[RESULT_BYPASS]), false },
		{ "tokens_saved", offsetof(struct slot, tokens), false },
		{ "upstream_errors", offsetof(struct slot, errors), false },
		{ "connections", offsetof(struct slot, connections), false },
		{ "streams", offsetof(struct slot, streams), false },
		{ "gpu_seconds_saved", offsetof(struct slot, gpu_s), true },
		{ "first_byte_hit_ms", offsetof(struct slot, hit_ms), true },
		{ "first_byte_miss_ms", offsetof(struct slot, miss_ms), true },
	};
	enum err e = buf_addf(out, ",\"%s\":{\"step_s\":%lld,\"steps\":%zu,\"end_ms\":[", name, (long long)s->every_ms / 1000, s->room);

	for (size_t i = 0; i < count_of(s) && !e; i++)
		e = buf_addf(out, "%s%lld", i ? "," : "", (long long)step_at(s, i)->end_ms);
	e = e ? e : buf_add(out, "]", 1);
	for (size_t c = 0; c < sizeof columns / sizeof *columns && !e; c++)
		e = (columns[c].real ? put_reals : put_counts)(out, columns[c].name, s, columns[c].offset);
	return e ? e : buf_add(out, "}", 1);
}

enum err history_json(struct history *h, struct buf *out)
{
	enum err e = buf_addf(out, "{\"now_ms\":%lld", (long long)wall_now());

	pthread_mutex_lock(&h->lock);
	e = e ? e : put_series(out, "hour", &h->hour);
	e = e ? e : put_series(out, "day", &h->day);
	pthread_mutex_unlock(&h->lock);
	return e ? e : buf_add(out, "}", 1);
}
