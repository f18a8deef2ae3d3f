/* uses: proxy/base/buf.c proxy/base/err.c */
/* libs: -ljansson */
/* test_metrics.c - counting and the two outputs: sums over workers, names as they were promised, labels escaped,
 * buckets cumulative. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>

#include "proxy/metrics.c"

static const struct metrics_upstream upstreams[] = {
	{ "http://127.0.0.1:11434", true }, { "http://odd\"\\\n/name", false },
};
static const struct metrics_extra extra = { .store_up = true, .store_entries = 12, .store_bytes = 3456, .store_errors = 5,
	.log_lines_lost = 6, .queue_length = 4, .upstreams = upstreams, .n_upstreams = 2 };

static char *prometheus(struct metrics *const *workers, int n)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	assert_int_equal(metrics_prometheus(&b, workers, n, &extra), ERR_OK);
	assert_int_equal(buf_add(&b, "", 1), ERR_OK);
	return b.at;
}

static json_t *stats(struct metrics *const *workers, int n)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	assert_int_equal(metrics_json(&b, workers, n, &extra), ERR_OK);
	json_t *o = json_loadb(b.at, b.len, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(o);
	buf_fini(&b);
	return o;
}

/* A whole line of the output. */
static bool has_line(const char *text, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = text; (at = strstr(at, line)); at += len)
		if ((at == text || at[-1] == '\n') && at[len] == '\n')
			return true;
	return false;
}

static void numbers_are_summed_over_workers(void **state)
{
	struct metrics *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b), *both[] = { a, b };

	(void)state;
	metric_add(a, requests, 3);
	metric_add(b, requests, 4);
	metric_add(a, connections_open, 5);
	metric_add(a, connections_open, -2);
	metric_add(b, connections_open, -1);               /* opened on one worker, closed on another */
	metric_add(b, store_errors, 2);                    /* the store counted five itself */
	metric_add(a, gpu_seconds_saved, 1500000000);
	metric_add(b, gpu_seconds_saved, 2250000000);
	metric_label(a, unstored_answers, UNSTORED_TOO_LARGE);
	metric_label(b, unstored_answers, UNSTORED_TOO_LARGE);
	metric_label(b, semantic_guarded, METRIC_GUARD_EVID);
	metric_label(a, candidate_wins, CANDIDATE_2);

	char *text = prometheus(both, 2);
	assert_true(has_line(text, "# TYPE ollacache_requests_total counter"));
	assert_true(has_line(text, "ollacache_requests_total 7"));
	assert_true(has_line(text, "# TYPE ollacache_connections_open gauge"));
	assert_true(has_line(text, "ollacache_connections_open 2"));
	assert_true(has_line(text, "ollacache_store_errors_total 7"));
	assert_true(has_line(text, "ollacache_log_lines_lost_total 6"));
	assert_true(has_line(text, "ollacache_gpu_seconds_saved_total 3.750000"));
	assert_true(has_line(text, "ollacache_unstored_answers_total{reason=\"too_large\"} 2"));
	assert_true(has_line(text, "ollacache_unstored_answers_total{reason=\"status\"} 0"));
	assert_true(has_line(text, "ollacache_semantic_guarded_total{guard=\"evid\"} 1"));
	assert_true(has_line(text, "ollacache_candidate_wins_total{index=\"2\"} 1"));
	assert_true(has_line(text, "ollacache_store_entries 12"));
	assert_true(has_line(text, "ollacache_store_bytes 3456"));
	assert_true(has_line(text, "ollacache_store_up 1"));
	assert_true(has_line(text, "ollacache_upstream_up{url=\"http://127.0.0.1:11434\"} 1"));
	assert_true(has_line(text, "ollacache_upstream_up{url=\"http://odd\\\"\\\\\\n/name\"} 0"));
	free(text);

	json_t *o = stats(both, 2);
	assert_int_equal(json_integer_value(json_object_get(o, "requests")), 7);
	assert_int_equal(json_integer_value(json_object_get(o, "connections_open")), 2);
	assert_int_equal(json_integer_value(json_object_get(o, "store_errors")), 7);
	assert_true(json_number_value(json_object_get(o, "gpu_seconds_saved")) == 3.75);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "unstored_answers"), "too_large")), 2);
	json_t *up = json_object_get(o, "upstream_up");
	assert_int_equal(json_integer_value(json_object_get(up, "http://127.0.0.1:11434")), 1);
	assert_int_equal(json_integer_value(json_object_get(up, "http://odd\"\\\n/name")), 0);
	assert_int_equal(json_object_size(up), 2);
	json_decref(o);
	free(a);
	free(b);
}

static void a_gauge_below_nothing_is_shown_as_it_is(void **state)
{
	struct metrics *a = calloc(1, sizeof *a), *one[] = { a };

	(void)state;
	metric_add(a, streams_open, -1);
	char *text = prometheus(one, 1);
	assert_true(has_line(text, "ollacache_streams_open -1"));
	free(text);
	free(a);
}

static void buckets_are_cumulative(void **state)
{
	struct metrics *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b), *both[] = { a, b };

	(void)state;
	metric_observe_us(a, first_byte_seconds, RESULT_EXACT, 100);          /* on a bound: inside it */
	metric_observe_us(a, first_byte_seconds, RESULT_EXACT, 101);
	metric_observe_us(b, first_byte_seconds, RESULT_EXACT, 2000000);
	metric_observe_us(b, first_byte_seconds, RESULT_EXACT, 7200000000);   /* past the last bound */
	metric_observe_us(b, first_byte_seconds, RESULT_EXACT, -5);           /* a clock that stepped back */
	metric_observe_us(a, first_byte_seconds, RESULT_MISS, 50);
	metric_observe_us(a, winner_seconds, 0, 1000);
	metric_observe_us(a, lookup_seconds, TIER_SEMANTIC, 7);

	char *text = prometheus(both, 2);
	assert_true(has_line(text, "# TYPE ollacache_first_byte_seconds histogram"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_bucket{result=\"exact\",le=\"0.0001\"} 2"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_bucket{result=\"exact\",le=\"0.00025\"} 3"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_bucket{result=\"exact\",le=\"1\"} 3"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_bucket{result=\"exact\",le=\"2.5\"} 4"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_bucket{result=\"exact\",le=\"600\"} 4"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_bucket{result=\"exact\",le=\"+Inf\"} 5"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_sum{result=\"exact\"} 7202.000201"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_count{result=\"exact\"} 5"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_count{result=\"miss\"} 1"));
	assert_true(has_line(text, "ollacache_first_byte_seconds_count{result=\"pass\"} 0"));
	assert_true(has_line(text, "ollacache_winner_seconds_bucket{le=\"0.0005\"} 0"));
	assert_true(has_line(text, "ollacache_winner_seconds_bucket{le=\"0.001\"} 1"));
	assert_true(has_line(text, "ollacache_winner_seconds_sum 0.001000"));
	assert_true(has_line(text, "ollacache_winner_seconds_count 1"));
	assert_true(has_line(text, "ollacache_lookup_seconds_bucket{tier=\"semantic\",le=\"5e-06\"} 0"));
	assert_true(has_line(text, "ollacache_lookup_seconds_bucket{tier=\"semantic\",le=\"1e-05\"} 1"));
	free(text);

	json_t *o = stats(both, 2), *exact = json_object_get(json_object_get(o, "first_byte_seconds"), "exact");
	assert_int_equal(json_integer_value(json_object_get(exact, "count")), 5);
	assert_true(json_number_value(json_object_get(exact, "sum")) == 7202.000201);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(exact, "buckets"), "2.5")), 4);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(exact, "buckets"), "+Inf")), 5);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "winner_seconds"), "count")), 1);
	json_decref(o);
	free(a);
	free(b);
}

/* The names are a promise: users' dashboards and scripts stand on them. */
static void every_promised_name_is_there_in_both(void **state)
{
	static const char *const counters[] = {
		"requests", "streaming_requests", "parallel_requests", "exact_cache_hits", "semantic_cache_hits",
		"cache_misses", "joined_requests", "bypassed_requests", "passed_requests", "stored_answers",
		"unstored_answers", "semantic_guarded", "candidates_started", "candidates_cancelled", "candidates_failed",
		"candidate_wins", "early_stops", "upstream_requests", "upstream_errors", "upstream_cancelled",
		"store_errors", "corrupt_entries", "client_gone", "gpu_seconds_saved", "tokens_saved",
	};
	static const char *const gauges[] = {
		"connections_open", "streams_open", "store_entries", "store_bytes", "store_up", "upstream_up",
	};
	static const char *const histograms[] = {
		"first_byte_seconds", "request_seconds", "lookup_seconds", "winner_seconds",
	};
	const size_t n_counters = sizeof counters / sizeof *counters, n_gauges = sizeof gauges / sizeof *gauges;
	const size_t n_histograms = sizeof histograms / sizeof *histograms;
	struct metrics *a = calloc(1, sizeof *a), *one[] = { a };
	char *text = prometheus(one, 1), line[200];
	json_t *o = stats(one, 1);

	(void)state;
	for (size_t i = 0; i < n_counters; i++) {
		snprintf(line, sizeof line, "# TYPE ollacache_%s_total counter", counters[i]);
		assert_true(has_line(text, line));
		assert_non_null(json_object_get(o, counters[i]));
	}
	for (size_t i = 0; i < n_gauges; i++) {
		snprintf(line, sizeof line, "# TYPE ollacache_%s gauge", gauges[i]);
		assert_true(has_line(text, line));
		assert_non_null(json_object_get(o, gauges[i]));
	}
	for (size_t i = 0; i < n_histograms; i++) {
		snprintf(line, sizeof line, "# TYPE ollacache_%s histogram", histograms[i]);
		assert_true(has_line(text, line));
		assert_non_null(json_object_get(o, histograms[i]));
	}
	assert_true(json_object_size(o) >= n_counters + n_gauges + n_histograms);
	json_decref(o);
	free(text);
	free(a);
}

/* Every line is a comment or a name, labels, a space and a number: what a scraper's parser takes. */
static void every_line_can_be_scraped(void **state)
{
	struct metrics *a = calloc(1, sizeof *a), *one[] = { a };
	char *text = prometheus(one, 1), *at = text;
	size_t samples = 0;

	(void)state;
	while (*at) {
		char *end = strchr(at, '\n'), *rest;
		assert_non_null(end);
		*end = 0;
		if (*at != '#') {
			char *space = strrchr(at, ' ');
			size_t name = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
			assert_non_null(space);
			assert_true(at[name] == ' ' || at[name] == '{');
			assert_true(at[name] == ' ' || space[-1] == '}');
			(void)strtod(space + 1, &rest);
			assert_true(rest > space + 1 && !*rest);
			samples++;
		} else {
			assert_true(!strncmp(at, "# HELP ollacache_", 17) || !strncmp(at, "# TYPE ollacache_", 17));
		}
		at = end + 1;
	}
	assert_in_range(samples, 100, 2000);
	free(text);
	free(a);
}

static void a_buf_too_small_is_an_error(void **state)
{
	struct metrics *a = calloc(1, sizeof *a), *one[] = { a };

	(void)state;
	for (size_t limit = 0; limit < 4000; limit += 500) {
		struct buf b;
		buf_init(&b, limit);
		assert_int_equal(metrics_prometheus(&b, one, 1, &extra), ERR_TOO_LARGE);
		buf_fini(&b);
		buf_init(&b, limit);
		assert_int_equal(metrics_json(&b, one, 1, &extra), ERR_TOO_LARGE);
		buf_fini(&b);
	}
	free(a);
}

static void the_table_of_the_readme_names_all(void **state)
{
	char *text;
	size_t len, rows = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	metrics_docs(f);
	fclose(f);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		rows++;
	assert_int_equal(rows, 2 + sizeof table / sizeof *table);
	assert_non_null(strstr(text, "| `unstored_answers{reason}` | counter |"));
	assert_non_null(strstr(text, "`too_large`"));
	free(text);
}

enum { TURNS = 20000 };

static void *count(void *arg)
{
	for (int i = 0; i < TURNS; i++) {
		metric_add((struct metrics *)arg, requests, 1);
		metric_observe_us((struct metrics *)arg, lookup_seconds, TIER_EXACT, i);
	}
	return NULL;
}

/* One writes, another sums; nothing is lost and TSan has nothing to say. */
static void reading_while_a_worker_counts(void **state)
{
	struct metrics *a = calloc(1, sizeof *a), *one[] = { a };
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, count, a), 0);
	int64_t before = 0;
	for (int i = 0; i < 10; i++) {
		json_t *o = stats(one, 1);
		int64_t now = json_integer_value(json_object_get(o, "requests"));
		assert_true(now >= before && now <= TURNS);
		before = now;
		json_decref(o);
	}
	pthread_join(thread, NULL);
	json_t *o = stats(one, 1);
	assert_int_equal(json_integer_value(json_object_get(o, "requests")), TURNS);
	json_decref(o);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_summed_over_workers),
		cmocka_unit_test(a_gauge_below_nothing_is_shown_as_it_is),
		cmocka_unit_test(buckets_are_cumulative),
		cmocka_unit_test(every_promised_name_is_there_in_both),
		cmocka_unit_test(every_line_can_be_scraped),
		cmocka_unit_test(a_buf_too_small_is_an_error),
		cmocka_unit_test(the_table_of_the_readme_names_all),
		cmocka_unit_test(reading_while_a_worker_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
