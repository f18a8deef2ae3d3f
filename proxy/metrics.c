/* metrics.c - see metrics.h. One table of descriptions, made of metrics.def, serves all outputs. */
#include "proxy/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>

/* A series of 1, 2.5, 5 where somebody could tell the difference. */
static const uint64_t waits[] = {
	100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000,
	10000000, 30000000, 60000000, 120000000, 300000000, 600000000, UINT64_MAX,
};
static const uint64_t lookups[] = {
	5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, UINT64_MAX,
};
static_assert(sizeof waits / sizeof *waits <= METRIC_BUCKETS, "every bucket has a cell");
static_assert(sizeof lookups / sizeof *lookups <= METRIC_BUCKETS, "every bucket has a cell");
static_assert(sizeof(struct metrics) % sizeof(_Atomic uint64_t) == 0, "cells of one type");
const uint64_t *const metric_scale_us[] = { [METRIC_SCALE_waits] = waits, [METRIC_SCALE_lookups] = lookups };

void metric_histogram_add(struct metric_histogram *h, enum metric_scale scale, int64_t us)
{
	const uint64_t *most = metric_scale_us[scale];
	uint64_t took = us > 0 ? (uint64_t)us : 0;
	int i = 0;

	while (took > most[i])
		i++;
	metric_cell_add(&h->bucket[i], 1);
	metric_cell_add(&h->sum_us, took);
}

enum kind { KIND_COUNTER, KIND_SECONDS, KIND_GAUGE, KIND_HISTOGRAM, KIND_OUTSIDE, KIND_URL };

struct metric {
	const char *name, *help;
	enum kind kind;
	enum metric_scale scale;
	size_t offset;                       /* of its first cell in struct metrics */
	const char *label;                   /* NULL: it has none */
	const char *const *values;
	size_t n_values;
};

#define COUNTER(name, help)
#define COUNTER_BY(name, label, group, help)
#define SECONDS(name, help)
#define GAUGE(name, help)
#define HISTOGRAM(name, scale, help)
#define HISTOGRAM_BY(name, scale, label, group, help)
#define OUTSIDE(name, help)
#define OUTSIDE_URL(name, help)
#define LABELS(group, labels) static const char *const group##_text[] = { labels };
#define LABEL(constant, text) [constant] = text,
#include "proxy/metrics.def"
#undef LABEL
#undef LABELS
#undef OUTSIDE_URL
#undef OUTSIDE
#undef HISTOGRAM_BY
#undef HISTOGRAM
#undef GAUGE
#undef SECONDS
#undef COUNTER_BY
#undef COUNTER

static const struct metric table[] = {
#define LABELS(group, labels)
#define COUNTER(name, help) { #name, help, KIND_COUNTER, 0, offsetof(struct metrics, name), NULL, NULL, 1 },
#define COUNTER_BY(name, label, group, help) \
	{ #name, help, KIND_COUNTER, 0, offsetof(struct metrics, name), #label, group##_text, group##_count },
#define SECONDS(name, help) { #name, help, KIND_SECONDS, 0, offsetof(struct metrics, name), NULL, NULL, 1 },
#define GAUGE(name, help) { #name, help, KIND_GAUGE, 0, offsetof(struct metrics, name), NULL, NULL, 1 },
#define HISTOGRAM(name, scale, help) \
	{ #name, help, KIND_HISTOGRAM, METRIC_SCALE_##scale, offsetof(struct metrics, name), NULL, NULL, 1 },
#define HISTOGRAM_BY(name, scale, label, group, help) \
	{ #name, help, KIND_HISTOGRAM, METRIC_SCALE_##scale, offsetof(struct metrics, name), #label, group##_text, \
	  group##_count },
#define OUTSIDE(name, help) { #name, help, KIND_OUTSIDE, 0, offsetof(struct metrics_extra, name), NULL, NULL, 1 },
#define OUTSIDE_URL(name, help) { #name, help, KIND_URL, 0, 0, "url", NULL, 0 },
#include "proxy/metrics.def"
#undef OUTSIDE_URL
#undef OUTSIDE
#undef HISTOGRAM_BY
#undef HISTOGRAM
#undef GAUGE
#undef SECONDS
#undef COUNTER_BY
#undef COUNTER
#undef LABELS
};
static const struct metric *const table_end = table + sizeof table / sizeof *table;

/* The whole of one output: remembers the first error, so that a chain of prints is checked once, at its end. */
struct print {
	struct buf *out;
	enum err err;
	struct metrics *const *workers;
	int n;
	const struct metrics_extra *extra;
};

#define put(p, ...) ((void)((p)->err || ((p)->err = buf_addf((p)->out, __VA_ARGS__))))

/* The cell `at` places after `offset`, summed over the workers. */
static uint64_t sum(const struct print *p, size_t offset, size_t at)
{
	uint64_t all = 0;

	for (int i = 0; i < p->n; i++) {
		const char *m = (const char *)p->workers[i] + offset + at * sizeof(_Atomic uint64_t);
		all += atomic_load_explicit((const _Atomic uint64_t *)(const void *)m, memory_order_relaxed);
	}
	return all;
}

static uint64_t outside(const struct print *p, const struct metric *m)
{
	const char *at = (const char *)p->extra + m->offset;

	return m->offset == offsetof(struct metrics_extra, store_up) ? *(const bool *)at
								      : *(const uint64_t *)(const void *)at;
}

static void put_seconds(struct print *p, uint64_t us)
{
	put(p, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

/* 0.00025, 0.5, 30: as short as it goes, so that a bucket has one name. */
static void put_bound(struct print *p, uint64_t us)
{
	if (us == UINT64_MAX)
		put(p, "+Inf");
	else
		put(p, "%.9g", (double)us / 1e6);
}

/* The value of a metric that is one number, for the label's value i. */
static void put_value(struct print *p, const struct metric *m, size_t i)
{
	uint64_t v = m->kind == KIND_OUTSIDE ? outside(p, m) : sum(p, m->offset, i);

	if (m->offset == offsetof(struct metrics, store_errors) && m->kind == KIND_COUNTER)
		v += p->extra->store_errors;
	if (m->offset == offsetof(struct metrics, log_lines_lost) && m->kind == KIND_COUNTER)
		v += p->extra->log_lines_lost;
	if (m->kind == KIND_SECONDS)
		put_seconds(p, v / 1000);
	else if (m->kind == KIND_GAUGE)
		put(p, "%" PRId64, (int64_t)v);
	else
		put(p, "%" PRIu64, v);
}

/* Backslashes, quotes and newlines are what Prometheus wants escaped in the value of a label. */
static void put_label_value(struct print *p, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			put(p, "\\n");
		else if (*text == '"' || *text == '\\')
			put(p, "\\%c", *text);
		else
			put(p, "%c", *text);
	}
}

static void put_json_text(struct print *p, const char *text)
{
	put(p, "\"");
	if (!p->err)
		p->err = buf_put_json(p->out, slice_text(text));
	put(p, "\"");
}

/* ---- Prometheus ---- */

static const char *prometheus_type(const struct metric *m)
{
	return m->kind == KIND_COUNTER || m->kind == KIND_SECONDS ? "counter" :
	       m->kind == KIND_HISTOGRAM			   ? "histogram" : "gauge";
}

static const char *prometheus_tail(const struct metric *m)
{
	return m->kind == KIND_COUNTER || m->kind == KIND_SECONDS ? "_total" : "";
}

static void prometheus_histogram(struct print *p, const struct metric *m, size_t i)
{
	const size_t cells = sizeof(struct metric_histogram) / sizeof(_Atomic uint64_t);
	const uint64_t *most = metric_scale_us[m->scale];
	char labels[64] = "", braces[80] = "";
	uint64_t count = 0;

	if (m->label) {
		snprintf(labels, sizeof labels, "%s=\"%s\",", m->label, m->values[i]);
		snprintf(braces, sizeof braces, "{%s=\"%s\"}", m->label, m->values[i]);
	}
	for (size_t b = 0;; b++) {
		count += sum(p, m->offset, i * cells + b);
		put(p, "ollacache_%s_bucket{%sle=\"", m->name, labels);
		put_bound(p, most[b]);
		put(p, "\"} %" PRIu64 "\n", count);
		if (most[b] == UINT64_MAX)
			break;
	}
	put(p, "ollacache_%s_sum%s ", m->name, braces);
	put_seconds(p, sum(p, m->offset, i * cells + METRIC_BUCKETS));
	put(p, "\nollacache_%s_count%s %" PRIu64 "\n", m->name, braces, count);
}

static void prometheus_urls(struct print *p, const struct metric *m)
{
	for (size_t i = 0; i < p->extra->n_upstreams; i++) {
		put(p, "ollacache_%s{%s=\"", m->name, m->label);
		put_label_value(p, p->extra->upstreams[i].url);
		put(p, "\"} %d\n", p->extra->upstreams[i].up);
	}
}

enum err metrics_prometheus(struct buf *out, struct metrics *const *workers, int n, const struct metrics_extra *extra)
{
	struct print p = { .out = out, .workers = workers, .n = n, .extra = extra };

	for (const struct metric *m = table; m < table_end; m++) {
		const char *tail = prometheus_tail(m);
		put(&p, "# HELP ollacache_%s%s %s\n# TYPE ollacache_%s%s %s\n", m->name, tail, m->help, m->name, tail,
		    prometheus_type(m));
		if (m->kind == KIND_URL)
			prometheus_urls(&p, m);
		for (size_t i = 0; i < m->n_values; i++) {
			if (m->kind == KIND_HISTOGRAM) {
				prometheus_histogram(&p, m, i);
				continue;
			}
			put(&p, "ollacache_%s%s", m->name, tail);
			if (m->label)
				put(&p, "{%s=\"%s\"}", m->label, m->values[i]);
			put(&p, " ");
			put_value(&p, m, i);
			put(&p, "\n");
		}
	}
	return p.err;
}

/* ---- JSON ---- */

static void json_histogram(struct print *p, const struct metric *m, size_t i)
{
	const size_t cells = sizeof(struct metric_histogram) / sizeof(_Atomic uint64_t);
	const uint64_t *most = metric_scale_us[m->scale];
	uint64_t count = 0;

	put(p, "{\"buckets\":{");
	for (size_t b = 0;; b++) {
		count += sum(p, m->offset, i * cells + b);
		put(p, b ? ",\"" : "\"");
		put_bound(p, most[b]);
		put(p, "\":%" PRIu64, count);
		if (most[b] == UINT64_MAX)
			break;
	}
	put(p, "},\"count\":%" PRIu64 ",\"sum\":", count);
	put_seconds(p, sum(p, m->offset, i * cells + METRIC_BUCKETS));
	put(p, "}");
}

static void json_urls(struct print *p)
{
	for (size_t i = 0; i < p->extra->n_upstreams; i++) {
		put(p, i ? "," : "");
		put_json_text(p, p->extra->upstreams[i].url);
		put(p, ":%d", p->extra->upstreams[i].up);
	}
}

enum err metrics_json(struct buf *out, struct metrics *const *workers, int n, const struct metrics_extra *extra)
{
	struct print p = { .out = out, .workers = workers, .n = n, .extra = extra };

	for (const struct metric *m = table; m < table_end; m++) {
		put(&p, "%c\"%s\":%s", m == table ? '{' : ',', m->name, m->label ? "{" : "");
		if (m->kind == KIND_URL)
			json_urls(&p);
		for (size_t i = 0; i < m->n_values; i++) {
			if (m->label)
				put(&p, "%s\"%s\":", i ? "," : "", m->values[i]);
			if (m->kind == KIND_HISTOGRAM)
				json_histogram(&p, m, i);
			else
				put_value(&p, m, i);
		}
		put(&p, m->label ? "}" : "");
	}
	put(&p, "}\n");
	return p.err;
}

void metrics_docs(FILE *out)
{
	fprintf(out, "| metric | kind | what it counts |\n|---|---|---|\n");
	for (const struct metric *m = table; m < table_end; m++) {
		fprintf(out, "| `%s%s%s%s` | %s | %s", m->name, m->label ? "{" : "", m->label ? m->label : "",
			m->label ? "}" : "", prometheus_type(m), m->help);
		if (m->label && m->n_values)
			fprintf(out, " (");
		for (size_t i = 0; m->label && i < m->n_values; i++)
			fprintf(out, "%s`%s`", i ? ", " : "", m->values[i]);
		fprintf(out, "%s |\n", m->label && m->n_values ? ")" : "");
	}
}
