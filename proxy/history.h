/* history.h - the program's own memory of its numbers, for charts: the last hour by 10 seconds, the last day by 5 minutes.
 *
 * Worker 0 looks at the sums over all workers whenever a step is over and keeps what they grew by, first bytes by bucket,
 * so that the median over any span is that of all its requests and not one of medians. It is lost with the process; who
 * wants more keeps /metrics in Prometheus.
 *
 * Threads  history_start() and history_stop(): worker 0's; history_json(): any.
 * Limits   HISTORY_HOUR and HISTORY_DAY steps in fixed memory, 160 KiB together. */
#ifndef PROXY_HISTORY_H
#define PROXY_HISTORY_H

#include "proxy/worker.h"

enum { HISTORY_HOUR = 360, HISTORY_DAY = 288, HISTORY_HOUR_MS = 10000, HISTORY_DAY_MS = 300000 };

struct history *history_start(struct worker *w);
void history_stop(struct history *h);        /* no alarm rings any more; history_json() still works */
void history_free(struct history *h);

/* Appends {"now_ms":…,"started_ms":…,"spans":{"15m":{…},"1h":{…},"24h":{…}},"hour":{…},"day":{…}}: the figures of the last
 * 15 minutes, hour and day, and an array a number, the oldest step first, the last one being the step under way; "first" is
 * the number of the first since the start. Requests count when they end. */
must_use enum err history_json(struct history *h, struct buf *out);

/* The time, in microseconds, that half of what a histogram has counted did not take longer than, taken to lie evenly
 * within its bucket. Negative: it has counted nothing. */
double history_median_us(const uint64_t bucket[METRIC_BUCKETS], const uint64_t *most_us);

#endif
