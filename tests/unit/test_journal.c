/* test_journal.c - the last requests and the sums by model and upstream; the rows that come first in an order. */
/* uses: proxy/journal.c proxy/top_rows.c cache/key.c proxy/base/buf.c proxy/base/err.c */
/* libs: -lnettle */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proxy/journal.h"
#include "proxy/top_rows.h"

static void add(struct journal *j, int64_t at_ms, enum metric_result timed, const char *model, int host)
{
	const struct journal_line line = { .at_ms = at_ms, .total_us = 1000, .status = timed == RESULT_REFUSED ? 404 : 200, .host = host,
	                                   .result = timed, .timed = timed, .why = "" };
	const struct journal_news news = { .method = SLICE("POST"), .path = SLICE("/api/chat"), .model = slice_text(model),
	                                   .tokens_saved = 3, .counted = true };

	journal_add(j, &line, &news);
}

static const struct journal_model *of_model(const struct journal_view *v, const char *name)
{
	for (size_t i = 0; i < v->n_models; i++)
		if (!strcmp(v->model[i].name, name))
			return &v->model[i];
	return NULL;
}

static void the_newest_of_all_workers(void **state)
{
	struct journal *one = journal_new(), *other = journal_new();
	struct journal_view *v = calloc(1, sizeof *v);

	(void)state;
	for (int i = 0; i < 3 * JOURNAL_LAST; i++)
		add(i % 3 ? one : other, i, RESULT_EXACT, "m", -1);
	journal_read(one, v);
	journal_read(other, v);
	assert_int_equal(v->n_last, JOURNAL_LAST);
	for (int i = 0; i < JOURNAL_LAST; i++)
		assert_int_equal(v->last[i].at_ms, 3 * JOURNAL_LAST - 1 - i);
	assert_int_equal(of_model(v, "m")->sums.kind[RESULT_EXACT], 3 * JOURNAL_LAST);
	assert_int_equal(of_model(v, "m")->sums.tokens_saved, 9 * JOURNAL_LAST);
	free(v);
	journal_free(one);
	journal_free(other);
}

/* A name takes a place once it was served: thousands of invented ones take none, and more models than places share one. */
static void models_are_bounded(void **state)
{
	struct journal *j = journal_new();
	struct journal_view *v = calloc(1, sizeof *v);
	char name[32];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "invented-%d", i);
		add(j, i, RESULT_REFUSED, name, -1);
	}
	add(j, 1, RESULT_MISS, "Llama3.2:Latest", 1);
	add(j, 2, RESULT_FAILED, "llama3.2", 1);
	journal_read(j, v);
	assert_int_equal(v->n_models, 2);
	assert_int_equal(of_model(v, "")->sums.kind[RESULT_REFUSED], 5000);
	assert_int_equal(of_model(v, "Llama3.2")->sums.kind[RESULT_MISS], 1);
	assert_int_equal(of_model(v, "Llama3.2")->sums.kind[RESULT_FAILED], 1);
	assert_int_equal(of_model(v, "Llama3.2")->sums.generated_us, 1000);
	assert_int_equal(v->host[1].kind[RESULT_MISS], 1);
	for (int i = 0; i < 2 * JOURNAL_MODELS; i++) {
		snprintf(name, sizeof name, "served-%d", i);
		add(j, i, RESULT_MISS, name, -1);
	}
	memset(v, 0, sizeof *v);
	journal_read(j, v);
	assert_int_equal(v->n_models, JOURNAL_MODELS + 1);
	assert_int_equal(of_model(v, "")->sums.kind[RESULT_MISS], JOURNAL_MODELS + 1);
	free(v);
	journal_free(j);
}

static void texts_are_cut_at_a_character(void **state)
{
	struct journal *j = journal_new();
	struct journal_view *v = calloc(1, sizeof *v);
	char model[JOURNAL_MODEL_MAX + 10];

	(void)state;
	memset(model, 'x', sizeof model - 1);
	model[sizeof model - 1] = '\0';
	memcpy(model + JOURNAL_MODEL_MAX - 1, "її", 4);
	add(j, 1, RESULT_MISS, model, -1);
	journal_read(j, v);
	assert_int_equal(strlen(v->last[0].model), JOURNAL_MODEL_MAX - 1);
	free(v);
	journal_free(j);
}

/* ---- top rows ---- */

static struct store_row row_of(uint8_t n)
{
	struct store_row row = { .bytes = n, .entry_head = SLICE_INIT("head") };

	memset(row.key, n, KEY_BYTES);
	return row;
}

static void pages_in_order(void **state)
{
	char cursor[TOP_CURSOR_MAX + 1] = "";
	int next = 0;

	(void)state;
	for (int page = 0; page < 4; page++) {
		struct top_rows t;
		assert_int_equal(top_rows_init(&t, 30), ERR_OK);
		if (page)
			assert_true(top_rows_go_on(&t, cursor));
		for (int i = 0; i < 100; i++) {      /* every third has the same rank: the key decides */
			struct store_row row = row_of((uint8_t)(i * 37 % 100));
			assert_int_equal(top_rows_offer(&t, row.bytes / 3, &row), ERR_OK);
		}
		top_rows_sort(&t);
		assert_int_equal(t.n, page < 3 ? 30 : 10);
		assert_int_equal(t.seen, 100);
		for (size_t i = 0; i < t.n; i++)
			assert_int_equal(t.at[i].row.bytes, next++);
		top_rows_cursor(&t, cursor);
		assert_int_equal(strlen(cursor), page < 3 ? TOP_CURSOR_MAX : 0);
		top_rows_fini(&t);
	}
	assert_int_equal(next, 100);
}

static void cursors_that_are_none(void **state)
{
	static const char *const bad[] = { "", "1", "+", "0123456789abcdef", "0123456789abcdef+12", "0123456789abcde++" };
	struct top_rows t;
	char cursor[TOP_CURSOR_MAX + 1];

	(void)state;
	assert_int_equal(top_rows_init(&t, 1), ERR_OK);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(top_rows_go_on(&t, bad[i]));
	top_rows_cursor(&t, cursor);
	assert_string_equal(cursor, "");
	memset(cursor, 'z', TOP_CURSOR_MAX);
	cursor[16] = '+';
	cursor[TOP_CURSOR_MAX] = '\0';
	assert_false(top_rows_go_on(&t, cursor));
	memset(cursor, '0', 16);
	assert_false(top_rows_go_on(&t, cursor));
	top_rows_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_of_all_workers), cmocka_unit_test(models_are_bounded), cmocka_unit_test(texts_are_cut_at_a_character),
		cmocka_unit_test(pages_in_order), cmocka_unit_test(cursors_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
