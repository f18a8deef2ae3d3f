/* uses: proxy/hosts.c proxy/base/loop.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c proxy/base/canonical.c proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -luv -licuuc -ljansson -lnettle -lm -lpthread */
/* test_models.c - what is known of the upstreams' models, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/models.c"

static const char *const urls[] = { "http://a/", "http://b//" };
static struct loop loop;
static struct hosts *hosts;

static int open_loop(void **state)
{
	(void)state;
	loop_init(&loop);
	return 0;
}

static int close_loop(void **state)
{
	(void)state;
	loop_fini(&loop);
	return 0;
}

static struct models *new_models(void)
{
	hosts = hosts_new(urls, 2);
	return models_new(hosts);
}

static void free_models(struct models *m)
{
	models_free(m);
	hosts_free(hosts);
}

static int told;
static void tell(struct mail *m)
{
	(void)m;
	told++;
}

static void turn(void)
{
	uv_run(&loop.uv, UV_RUN_NOWAIT);
}

#define TAGS(list) SLICE("{\"models\":[" list "]}")

static void check_round(struct models *m, struct slice a, struct slice b)
{
	models_check_begins(m);
	hosts_set_up(hosts, 0, models_learnt(m, 0, a));
	hosts_set_up(hosts, 1, models_learnt(m, 1, b));
	models_check_ended(m);
}

static void models_are_known_by_their_digests(void **state)
{
	struct models *m = new_models();
	char digest[DIGEST_MAX];
	host_set have;

	(void)state;
	assert_int_equal(models_find(m, SLICE("m:latest"), digest, &have), MODELS_NOT_LEARNT);
	assert_int_equal(models_generation(m), 0);
	check_round(m, TAGS("{\"name\":\"M\",\"digest\":\"1\"},{\"name\":\"x:1b\",\"digest\":\"2\"}"), TAGS("{\"name\":\"m:latest\",\"digest\":\"1\"},{\"name\":\"x:1b\",\"digest\":\"3\"}"));
	assert_int_equal(models_find(m, SLICE("m:latest"), digest, &have), MODEL_KNOWN);
	assert_string_equal(digest, "1");
	assert_int_equal(have, 3);
	assert_int_equal(models_find(m, SLICE("x:1b"), digest, &have), MODEL_KNOWN);
	assert_string_equal(digest, "2");
	assert_int_equal(have, 1);                       /* the other has another one */
	assert_int_equal(models_find(m, SLICE("y:latest"), digest, &have), MODEL_UNKNOWN);
	uint64_t before = models_generation(m);
	assert_true(before > 0);
	check_round(m, TAGS("{\"name\":\"x:1b\",\"digest\":\"2\"},{\"name\":\"m\",\"digest\":\"1\"}"), (struct slice){ 0 });
	assert_int_equal(models_generation(m), before);  /* the same, in another order; and one that does not answer */
	assert_false(hosts_up(hosts, 1));
	assert_int_equal(models_find(m, SLICE("m:latest"), digest, &have), MODEL_KNOWN);
	check_round(m, (struct slice){ 0 }, (struct slice){ 0 });
	assert_int_equal(models_find(m, SLICE("x:1b"), digest, &have), MODEL_KNOWN);      /* none is up: what was known holds */
	check_round(m, TAGS("{\"name\":\"m\",\"digest\":\"9\"}"), (struct slice){ 0 });
	assert_int_not_equal(models_generation(m), before);
	assert_int_equal(models_find(m, SLICE("m:latest"), digest, &have), MODEL_KNOWN);
	assert_string_equal(digest, "9");
	free_models(m);
}

static void lists_that_are_none(void **state)
{
	static const char *const lists[] = {
		"", "null", "[]", "{}", "{\"models\":5}", "{\"models\":{}}", ("{\"models\":[5,null,{},{\"name\":5},{\"name\":\"a\"},{\"digest\":\"1\"},"
		"{\"name\":\"\",\"digest\":\"1\"},{\"name\":\"a\",\"digest\":\"0123456789012345678901234567890123456789012345678901234567890123456789012345\"}]}"),
	};
	char digest[DIGEST_MAX];
	host_set have;

	(void)state;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		struct models *m = new_models();
		check_round(m, slice_text(lists[i]), (struct slice){ 0 });
		assert_int_equal(hosts_up(hosts, 0), i == sizeof lists / sizeof *lists - 1);
		assert_int_equal(models_find(m, SLICE("a:latest"), digest, &have), MODEL_UNKNOWN);
		free_models(m);
	}
}

static void count_doubt(void *arg)
{
	++*(int *)arg;
}

static void doubt_holds_until_a_check_begun_after_it_has_ended(void **state)
{
	struct models *m = new_models();
	struct models_waiter w = { .mail.run = tell, .loop = &loop }, left = w;
	char digest[DIGEST_MAX];
	host_set have;
	int doubts = 0;

	(void)state;
	told = 0;
	models_on_doubt(m, count_doubt, &doubts);
	check_round(m, TAGS("{\"name\":\"m\",\"digest\":\"1\"}"), (struct slice){ 0 });
	models_check_begins(m);
	models_doubt(m);                                 /* while a check is under way, which may have looked before */
	models_wait(m, &w);
	models_wait(m, &left);
	models_unwait(m, &left);
	models_check_ended(m);
	assert_int_equal(models_find(m, SLICE("m:latest"), digest, &have), MODELS_NOT_LEARNT);
	assert_int_equal(models_generation(m), 0);
	assert_int_equal(doubts, 2);                     /* asked for another one */
	turn();
	assert_int_equal(told, 0);
	models_check_begins(m);
	models_check_ended(m);
	turn();
	assert_int_equal(told, 1);
	assert_int_equal(models_find(m, SLICE("m:latest"), digest, &have), MODEL_KNOWN);
	models_wait(m, &w);                              /* nothing to wait for: told at once */
	turn();
	assert_int_equal(told, 2);
	models_unwait(m, &w);
	free_models(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(models_are_known_by_their_digests), cmocka_unit_test(lists_that_are_none),
		cmocka_unit_test(doubt_holds_until_a_check_begun_after_it_has_ended),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
