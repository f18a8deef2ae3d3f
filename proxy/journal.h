/* journal.h - what a worker remembers of the requests it has ended: the last of them, and sums by model and by upstream.
 *
 * It is for somebody who looks at the dashboard now; the log has every request, /metrics the numbers for good. No words of
 * a question are in it.
 *
 * Threads  journal_add(): its worker's; journal_read(): any. The lock is a worker's own, so nobody but a reader contends.
 * Limits   JOURNAL_LAST requests; JOURNAL_MODELS models, the first to be served (who invents names is not served and takes
 *          no place), the rest together; fixed memory, 35 KiB. */
#ifndef PROXY_JOURNAL_H
#define PROXY_JOURNAL_H

#include "proxy/base/buf.h"
#include "proxy/hosts.h"
#include "proxy/metrics.h"

enum { JOURNAL_LAST = 100, JOURNAL_MODELS = 64, JOURNAL_MODEL_MAX = 96, JOURNAL_PATH_MAX = 64, JOURNAL_METHOD_MAX = 8 };

/* One request that has ended. */
struct journal_line {
	int64_t at_ms;                       /* wall clock, when it ended */
	int64_t total_us, first_us;          /* first_us negative: no byte was sent */
	int status, host;                    /* host: the upstream that answered or failed; -1: none was asked */
	int result;                          /* what X-Cache said, enum metric_result; negative: nothing */
	enum metric_result timed;            /* the same, or RESULT_REFUSED or RESULT_FAILED */
	const char *why;                     /* of static storage: of a bypass, a refusal or a failure; "" */
	char method[JOURNAL_METHOD_MAX + 1], path[JOURNAL_PATH_MAX + 1], model[JOURNAL_MODEL_MAX + 1];
};

struct journal_sums {
	uint64_t kind[metric_result_count];  /* by how they were timed */
	uint64_t generated_us;               /* of misses and bypasses that were served, first to last byte */
	uint64_t tokens_saved, gpu_ns_saved;
};

struct journal_model {
	char name[JOURNAL_MODEL_MAX + 1];    /* without :latest; "": all that have no place of their own */
	struct journal_sums sums;
};

struct journal_news {                        /* what an exchange knows at its end */
	struct slice method, path, model;
	uint64_t tokens_saved, gpu_ns_saved;
	bool counted;                        /* on a cached endpoint: in the sums by model */
};

struct journal_view {
	struct journal_line last[JOURNAL_LAST];
	size_t n_last;
	struct journal_model model[JOURNAL_MODELS + 1];
	size_t n_models;
	struct journal_sums host[HOSTS_MAX];
};

struct journal;
struct journal *journal_new(void);
void journal_free(struct journal *j);
/* line's texts are taken from news. */
void journal_add(struct journal *j, const struct journal_line *line, const struct journal_news *news);

/* Adds what j knows to a view that began as zeroes: of all lines the newest JOURNAL_LAST, newest first, sums added up. */
void journal_read(struct journal *j, struct journal_view *view);

#endif
