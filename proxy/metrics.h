/* metrics.h - the numbers of metrics.def: one struct of them a worker, summed when somebody asks.
 *
 * Threads  only its worker writes a struct metrics, so a plain load and store is enough and no bus lock is taken.
 *          Anyone may read at any time; a sum is as exact as the moment allows.
 * Limits   labels are enumerated, so nothing a client sends can make a new series; upstream URLs come from the
 *          configuration. */
#ifndef PROXY_METRICS_H
#define PROXY_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "proxy/base/buf.h"

#define COUNTER(name, help)
#define COUNTER_BY(name, label, group, help)
#define SECONDS(name, help)
#define GAUGE(name, help)
#define HISTOGRAM(name, buckets, help)
#define HISTOGRAM_BY(name, buckets, label, group, help)
#define OUTSIDE(name, help)
#define OUTSIDE_URL(name, help)
#define LABELS(group, labels) enum group { labels group##_count };
#define LABEL(constant, text) constant,
#include "proxy/metrics.def"
#undef LABEL
#undef LABELS
#undef HISTOGRAM_BY
#undef HISTOGRAM
#undef GAUGE
#undef SECONDS
#undef COUNTER_BY
#undef COUNTER

/* A histogram's cells: one a bucket, the last without an upper bound, then the sum in microseconds. */
enum { METRIC_BUCKETS = 22 };
struct metric_histogram {
	_Atomic uint64_t bucket[METRIC_BUCKETS], sum_us;
};
enum metric_scale { METRIC_SCALE_waits, METRIC_SCALE_lookups };
extern const uint64_t *const metric_scale_us[];     /* upper bounds of the buckets, UINT64_MAX at the end */

struct metrics {                        /* nothing but cells of one type: metrics.c finds them by their offset */
#define LABELS(group, labels)
#define COUNTER(name, help) _Atomic uint64_t name;
#define COUNTER_BY(name, label, group, help) _Atomic uint64_t name[group##_count];
#define SECONDS(name, help) _Atomic uint64_t name;
#define GAUGE(name, help) _Atomic uint64_t name;
#define HISTOGRAM(name, scale, help) struct metric_histogram name[1];
#define HISTOGRAM_BY(name, scale, label, group, help) struct metric_histogram name[group##_count];
#include "proxy/metrics.def"
#undef HISTOGRAM_BY
#undef HISTOGRAM
#undef GAUGE
#undef SECONDS
#undef COUNTER_BY
#undef COUNTER
};

enum {
#define COUNTER(name, help)
#define COUNTER_BY(name, label, group, help)
#define SECONDS(name, help)
#define GAUGE(name, help)
#define HISTOGRAM(name, scale, help) metric_scale_of_##name = METRIC_SCALE_##scale,
#define HISTOGRAM_BY(name, scale, label, group, help) metric_scale_of_##name = METRIC_SCALE_##scale,
#include "proxy/metrics.def"
#undef HISTOGRAM_BY
#undef HISTOGRAM
#undef GAUGE
#undef SECONDS
#undef COUNTER_BY
#undef COUNTER
#undef LABELS
#undef OUTSIDE
#undef OUTSIDE_URL
};

/* One worker's cell grows by n; a gauge may grow by a negative n. */
static inline void metric_cell_add(_Atomic uint64_t *cell, uint64_t n)
{
	atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n, memory_order_relaxed);
}

void metric_histogram_add(struct metric_histogram *h, enum metric_scale scale, int64_t us);

/* COUNTER, GAUGE; SECONDS in nanoseconds. */
#define metric_add(m, name, n) metric_cell_add(&(m)->name, (uint64_t)(n))
/* COUNTER_BY: one more with this value of the label (a constant of its LABELS, or an index from 0). */
#define metric_label(m, name, value) metric_cell_add(&(m)->name[value], 1)
/* HISTOGRAM_BY; of a plain HISTOGRAM the label is 0. */
#define metric_observe_us(m, name, value, us) \
	metric_histogram_add(&(m)->name[value], (enum metric_scale)metric_scale_of_##name, us)

/* What no worker counts. */
struct metrics_upstream {
	const char *url;
	bool up;
};
struct metrics_extra {
	bool store_up;
	uint64_t store_entries, store_bytes, queue_length;
	uint64_t store_errors;               /* those the store counted itself; added to the workers' */
	uint64_t log_lines_lost;             /* counted by the log alone */
	const struct metrics_upstream *upstreams;
	size_t n_upstreams;
};

/* Append every number, summed over the workers: Prometheus text (format 0.0.4, names with ollacache_ and _total), or
 * one JSON object of plain names (a labelled one is an object by label, a histogram {"count","sum","buckets"} with
 * cumulative buckets by their upper bound in seconds). Errors: TOO_LARGE, NO_MEMORY; out may then hold a part. */
must_use enum err metrics_prometheus(struct buf *out, struct metrics *const *workers, int n,
				     const struct metrics_extra *extra);
must_use enum err metrics_json(struct buf *out, struct metrics *const *workers, int n,
			       const struct metrics_extra *extra);

/* The README's table. */
void metrics_docs(FILE *out);

#endif
