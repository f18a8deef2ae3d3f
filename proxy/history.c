/* history.c - see history.h. */
#include "proxy/history.h"

#include <stdlib.h>

/* How many requests there were of a kind is told by how many were timed: what was refused or failed is none of the others. */
struct sums {                                /* over all workers, since the start; hits: exact and semantic together */
	uint64_t kind[metric_result_count], tokens, gpu_ns, errors;
	uint64_t hit[METRIC_BUCKETS], miss[METRIC_BUCKETS];      /* first bytes, by metric_scale_us */
	uint64_t connections, streams;
};

struct slot {                                /* what the sums grew by */
	int64_t end_ms;                      /* wall clock */
	uint32_t kind[metric_result_count], tokens, errors, connections, streams;
	uint32_t hit[METRIC_BUCKETS], miss[METRIC_BUCKETS];
	float gpu_s;
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

/* What figures are made for: that many of the last steps of a series, and the one under way. */
static const struct { const char *name; bool of_day; size_t steps; } spans[] = {
	{ "15m", false, 90 }, { "1h", false, HISTORY_HOUR }, { "24h", true, HISTORY_DAY },
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
		to->tokens += now_of(&m->tokens_saved);
		to->gpu_ns += now_of(&m->gpu_seconds_saved);
		to->errors += now_of(&m->upstream_errors);
		to->connections += now_of(&m->connections_open);
		to->streams += now_of(&m->streams_open);
		for (int b = 0; b < METRIC_BUCKETS; b++) {
			for (int k = 0; k < metric_result_count; k++)
				to->kind[k] += now_of(&m->request_seconds[k].bucket[b]);
			to->hit[b] += now_of(&m->first_byte_seconds[RESULT_EXACT].bucket[b]) +
			              now_of(&m->first_byte_seconds[RESULT_SEMANTIC].bucket[b]);
			to->miss[b] += now_of(&m->first_byte_seconds[RESULT_MISS].bucket[b]);
		}
	}
}

/* The cells of one worker are written one after another: seen in between, a sum may be one ahead of the other. */
static uint32_t grown(uint64_t now, uint64_t before)
{
	return now > before ? (uint32_t)(now - before) : 0;
}

static void slot_of(struct slot *to, const struct sums *now, const struct sums *before)
{
	*to = (struct slot){
		.end_ms = wall_now(), .tokens = grown(now->tokens, before->tokens), .errors = grown(now->errors, before->errors),
		.connections = (uint32_t)now->connections, .streams = (uint32_t)now->streams,
		.gpu_s = (float)((double)(now->gpu_ns - before->gpu_ns) / 1e9),
	};
	for (int k = 0; k < metric_result_count; k++)
		to->kind[k] = grown(now->kind[k], before->kind[k]);
	for (int b = 0; b < METRIC_BUCKETS; b++) {
		to->hit[b] = grown(now->hit[b], before->hit[b]);
		to->miss[b] = grown(now->miss[b], before->miss[b]);
	}
}

static void add_step(struct series *s, const struct sums *now)
{
	slot_of(&s->step[s->added++ % s->room], now, &s->before);
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

/* The steps of a series, the oldest first, and after them the one under way. */
struct steps { const struct series *of; struct slot now; };

static size_t count_of(const struct steps *s)
{
	return (s->of->added < s->of->room ? s->of->added : s->of->room) + 1;
}

static const struct slot *step_at(const struct steps *s, size_t i)
{
	size_t kept = count_of(s) - 1;

	return i < kept ? &s->of->step[(s->of->added - kept + i) % s->of->room] : &s->now;
}

static enum err put_ms(struct buf *out, const uint32_t bucket[METRIC_BUCKETS])
{
	uint64_t wide[METRIC_BUCKETS];

	for (int b = 0; b < METRIC_BUCKETS; b++)
		wide[b] = bucket[b];
	double us = history_median_us(wide, metric_scale_us[METRIC_SCALE_waits]);
	return us < 0 ? buf_addf(out, "null") : buf_addf(out, "%.3f", us / 1000);
}

enum column_kind { COLUMN_COUNT, COLUMN_REAL, COLUMN_MEDIAN };

static const struct column { const char *name; size_t offset; enum column_kind kind; bool level; } columns[] = {
	{ "exact", offsetof(struct slot, kind[RESULT_EXACT]), COLUMN_COUNT, false },
	{ "semantic", offsetof(struct slot, kind[RESULT_SEMANTIC]), COLUMN_COUNT, false },
	{ "joined", offsetof(struct slot, kind[RESULT_JOINED]), COLUMN_COUNT, false },
	{ "miss", offsetof(struct slot, kind[RESULT_MISS]), COLUMN_COUNT, false },
	{ "bypass", offsetof(struct slot, kind[RESULT_BYPASS]), COLUMN_COUNT, false },
	{ "refused", offsetof(struct slot, kind[RESULT_REFUSED]), COLUMN_COUNT, false },
	{ "failed", offsetof(struct slot, kind[RESULT_FAILED]), COLUMN_COUNT, false },
	{ "tokens_saved", offsetof(struct slot, tokens), COLUMN_COUNT, false },
	{ "upstream_errors", offsetof(struct slot, errors), COLUMN_COUNT, false },
	{ "connections", offsetof(struct slot, connections), COLUMN_COUNT, true },
	{ "streams", offsetof(struct slot, streams), COLUMN_COUNT, true },
	{ "gpu_seconds_saved", offsetof(struct slot, gpu_s), COLUMN_REAL, false },
	{ "first_byte_hit_ms", offsetof(struct slot, hit), COLUMN_MEDIAN, false },
	{ "first_byte_miss_ms", offsetof(struct slot, miss), COLUMN_MEDIAN, false },
};

static enum err put_cell(struct buf *out, const struct slot *s, const struct column *c)
{
	const void *at = (const char *)s + c->offset;

	switch (c->kind) {
	case COLUMN_COUNT: return buf_addf(out, "%u", *(const uint32_t *)at);
	case COLUMN_REAL:  return buf_addf(out, "%.3f", (double)*(const float *)at);
	default:           return put_ms(out, at);
	}
}

static enum err put_series(struct buf *out, const char *name, const struct steps *s)
{
	size_t n = count_of(s);
	enum err e = buf_addf(out, ",\"%s\":{\"step_s\":%lld,\"steps\":%zu,\"first\":%zu,\"end_ms\":[", name,
	                      (long long)s->of->every_ms / 1000, s->of->room, s->of->added - (n - 1));

	for (size_t i = 0; i < n && !e; i++)
		e = buf_addf(out, "%s%lld", i ? "," : "", (long long)step_at(s, i)->end_ms);
	e = e ? e : buf_add(out, "]", 1);
	for (size_t c = 0; c < sizeof columns / sizeof *columns && !e; c++) {
		e = buf_addf(out, ",\"%s\":[", columns[c].name);
		for (size_t i = 0; i < n && !e; i++) {
			e = i ? buf_add(out, ",", 1) : ERR_OK;
			e = e ? e : put_cell(out, step_at(s, i), &columns[c]);
		}
		e = e ? e : buf_add(out, "]", 1);
	}
	return e ? e : buf_add(out, "}", 1);
}

static void add_up(struct slot *to, const struct slot *more)
{
	for (int k = 0; k < metric_result_count; k++)
		to->kind[k] += more->kind[k];
	for (int b = 0; b < METRIC_BUCKETS; b++) {
		to->hit[b] += more->hit[b];
		to->miss[b] += more->miss[b];
	}
	to->tokens += more->tokens;
	to->errors += more->errors;
	to->gpu_s += more->gpu_s;
}

static enum err put_span(struct buf *out, const char *name, const struct steps *s, size_t steps)
{
	struct slot all = { 0 };
	size_t n = count_of(s);
	enum err e = buf_addf(out, "\"%s\":{\"seconds\":%lld", name, (long long)s->of->every_ms / 1000 * (long long)steps);

	for (size_t i = n > steps + 1 ? n - steps - 1 : 0; i < n; i++)
		add_up(&all, step_at(s, i));
	for (size_t c = 0; c < sizeof columns / sizeof *columns && !e; c++) {
		if (columns[c].level)
			continue;
		e = buf_addf(out, ",\"%s\":", columns[c].name);
		e = e ? e : put_cell(out, &all, &columns[c]);
	}
	return e ? e : buf_add(out, "}", 1);
}

enum err history_json(struct history *h, struct buf *out)
{
	struct steps hour = { .of = &h->hour }, day = { .of = &h->day };
	struct sums sums;
	enum err e = buf_addf(out, "{\"now_ms\":%lld,\"started_ms\":%lld,\"spans\":{", (long long)wall_now(),
	                      (long long)h->w->shared->started_ms);

	pthread_mutex_lock(&h->lock);
	sum_up(h->w->shared, &sums);
	slot_of(&hour.now, &sums, &h->hour.before);
	slot_of(&day.now, &sums, &h->day.before);
	for (size_t i = 0; i < sizeof spans / sizeof *spans && !e; i++) {
		e = i ? buf_add(out, ",", 1) : ERR_OK;
		e = e ? e : put_span(out, spans[i].name, spans[i].of_day ? &day : &hour, spans[i].steps);
	}
	e = e ? e : buf_add(out, "}", 1);
	e = e ? e : put_series(out, "hour", &hour);
	e = e ? e : put_series(out, "day", &day);
	pthread_mutex_unlock(&h->lock);
	return e ? e : buf_add(out, "}", 1);
}
