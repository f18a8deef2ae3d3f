/* uses: proxy/hosts.c proxy/host_state.c proxy/base/log.c proxy/base/loop.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c proxy/base/canonical.c proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -luv -licuuc -ljansson -lnettle -lxxhash -lm -lpthread */
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

static void tell_nobody(struct mail *m) { (void)m; }

static void turn(void)
{
	uv_run(&loop.uv, UV_RUN_NOWAIT);
}

#define TAGS(list) SLICE("{\"models\":[" list "]}")

static void look(struct models *m, int host, struct slice tags)
{
	models_look_begins(m, host);
	hosts_set_up(hosts, (size_t)host, models_look_ended(m, host, tags));
}

static void look_at_both(struct models *m, struct slice a, struct slice b)
{
	look(m, 0, a);
	look(m, 1, b);
}

static enum models_news find(struct models *m, struct slice name, const char *digest, host_set have)
{
	char got[DIGEST_MAX] = "";
	host_set hosts_that_have;
	enum models_news news = models_find(m, name, got, &hosts_that_have, NULL);

	assert_string_equal(got, digest);
	assert_int_equal(hosts_that_have, have);
	return news;
}

static struct models_waiter waiter(void)
{
	return (struct models_waiter){ .mail.run = tell, .loop = &loop };
}

static void models_are_known_by_their_digests(void **state)
{
	struct models *m = new_models();

	(void)state;
	assert_int_equal(find(m, SLICE("m:latest"), "", 0), MODELS_NOT_LEARNT);
	assert_int_equal(models_generation(m), 0);
	look_at_both(m, TAGS("{\"name\":\"M\",\"digest\":\"1\"},{\"name\":\"x:1b\",\"digest\":\"2\"}"),
	             TAGS("{\"name\":\"m:latest\",\"digest\":\"1\"},{\"name\":\"x:1b\",\"digest\":\"3\"}"));
	assert_int_equal(find(m, SLICE("m:latest"), "1", 3), MODEL_KNOWN);
	assert_int_equal(find(m, SLICE("x:1b"), "2", 1), MODEL_KNOWN);           /* the other has another one */
	assert_true(models_has(m, 1, SLICE("x:1b"), "3"));
	assert_false(models_has(m, 1, SLICE("x:1b"), "2"));
	assert_false(models_has(m, 1, SLICE("y:1b"), "2"));
	assert_int_equal(find(m, SLICE("y:latest"), "", 0), MODEL_UNKNOWN);
	uint64_t before = models_generation(m);
	assert_true(before > 0);
	look_at_both(m, TAGS("{\"name\":\"x:1b\",\"digest\":\"2\"},{\"name\":\"m\",\"digest\":\"1\"}"),
	             TAGS("{\"name\":\"x:1b\",\"digest\":\"3\"},{\"name\":\"m\",\"digest\":\"1\"}"));
	assert_int_equal(models_generation(m), before);  /* the same, in another order */
	look(m, 0, TAGS("{\"name\":\"m\",\"digest\":\"9\"}"));
	assert_int_not_equal(models_generation(m), before);
	assert_int_equal(find(m, SLICE("m:latest"), "9", 1), MODEL_KNOWN);
	free_models(m);
}

/* What a failed look leaves: the digests, and which host is asked first. */
static void what_was_known_holds_while_none_answers(void **state)
{
	struct models *m = new_models();
	struct models_waiter w = waiter();

	(void)state;
	look_at_both(m, TAGS("{\"name\":\"m\",\"digest\":\"1\"}"), TAGS("{\"name\":\"m\",\"digest\":\"2\"}"));
	models_wait_look(m, &w, 0);
	assert_int_equal(find(m, SLICE("m:latest"), "1", 1), MODEL_KNOWN);       /* while it is looked at anew */
	uint64_t before = models_generation(m);
	look(m, 0, (struct slice){ 0 });
	assert_int_equal(find(m, SLICE("m:latest"), "2", 2), MODEL_KNOWN);
	assert_int_not_equal(models_generation(m), before);      /* another digest counts now */
	before = models_generation(m);
	look(m, 1, SLICE("no list"));
	assert_int_equal(find(m, SLICE("m:latest"), "1", 1), MODEL_KNOWN);
	assert_int_not_equal(models_generation(m), before);
	turn();
	free_models(m);
}

static void one_host_waits_for_no_other(void **state)
{
	struct models *m = new_models();
	struct models_waiter w = waiter(), late = waiter();
	char digest[DIGEST_MAX];
	host_set have;

	(void)state;
	told = 0;
	models_look_begins(m, 0);
	models_look_begins(m, 1);                        /* and never ends */
	look(m, 0, TAGS("{\"name\":\"m\",\"digest\":\"1\"}"));
	assert_int_equal(find(m, SLICE("m:latest"), "1", 1), MODEL_KNOWN);
	assert_int_equal(models_find(m, SLICE("n:latest"), digest, &have, &w), MODELS_NOT_LEARNT);      /* the other may have it */
	assert_true(w.waits);
	models_look_ended(m, 1, (struct slice){ 0 });
	turn();
	assert_int_equal(told, 1);
	assert_int_equal(models_find(m, SLICE("n:latest"), digest, &have, &w), MODEL_UNKNOWN);
	models_want_look(m, 0);
	models_look_begins(m, 0);
	models_want_look(m, 0);
	assert_int_equal(models_find(m, SLICE("n:latest"), digest, &have, &late), MODELS_NOT_LEARNT);   /* it may be new there */
	models_want_look(m, 0);                          /* wanted too late to be waited for */
	models_look_ended(m, 0, (struct slice){ 0 });
	turn();
	assert_int_equal(models_find(m, SLICE("n:latest"), digest, &have, &late), MODELS_NOT_LEARNT);
	look(m, 0, (struct slice){ 0 });
	models_want_look(m, 0);
	turn();
	assert_int_equal(models_find(m, SLICE("n:latest"), digest, &have, &late), MODEL_UNKNOWN);
	free_models(m);
}

static void lists_that_are_none(void **state)
{
	static const char *const lists[] = {
		"", "null", "[]", "{}", "{\"models\":5}", "{\"models\":{}}",
	};
	struct models *m = new_models();

	(void)state;
	look_at_both(m, TAGS("{\"name\":\"a\",\"digest\":\"1\"}"), TAGS(""));
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		models_look_begins(m, 0);
		assert_false(models_look_ended(m, 0, slice_text(lists[i])));
		assert_int_equal(find(m, SLICE("a:latest"), "1", 1), MODEL_KNOWN);
	}
	free_models(m);
}

static void names_without_a_digest_are_unknown(void **state)
{
	static const char *const lists[] = {
		("{\"models\":[5,null,{},{\"name\":5},{\"name\":\"a\"},{\"digest\":\"1\"},{\"name\":\"\",\"digest\":\"1\"},{\"name\":\"a\","
		"\"digest\":\"0123456789012345678901234567890123456789012345678901234567890123456789012345\"}]}"),
		"{\"models\":[{\"name\":\"a\",\"digest\":\"\"}]}",
		"{\"models\":[{\"name\":\"a\",\"digest\":\"1\",\"remote_model\":\"a\",\"remote_host\":\"https://ollama.com:443\"}]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		struct models *m = new_models();
		look_at_both(m, slice_text(lists[i]), (struct slice){ 0 });
		assert_true(hosts_up(hosts, 0));
		assert_int_equal(find(m, SLICE("a:latest"), "", 0), MODEL_UNKNOWN);
		free_models(m);
	}
}

static void count_want(void *arg)
{
	++*(int *)arg;
}

static void a_wait_ends_with_a_look_begun_after_it(void **state)
{
	struct models *m = new_models();
	struct models_waiter w = waiter(), left = w, other = w;
	int wants = 0;

	(void)state;
	told = 0;
	models_on_wanted(m, count_want, &wants);
	look_at_both(m, TAGS("{\"name\":\"m\",\"digest\":\"1\"}"), TAGS(""));
	assert_false(models_look_wanted(m, 0));
	models_look_begins(m, 0);
	models_wait_look(m, &w, 0);                      /* while one is under way, which may have looked before */
	models_wait_look(m, &left, 0);
	models_wait_look(m, &other, 1);
	assert_int_equal(wants, 3);
	models_unwait(m, &left);
	assert_true(models_look_ended(m, 0, TAGS("{\"name\":\"m\",\"digest\":\"1\"}")));
	assert_true(models_look_wanted(m, 0));
	turn();
	assert_int_equal(told, 0);
	look(m, 0, (struct slice){ 0 });                 /* however it ends */
	turn();
	assert_int_equal(told, 1);
	assert_false(models_look_wanted(m, 0));
	assert_true(models_look_wanted(m, 1));
	models_unwait(m, &w);
	models_unwait(m, &other);
	look(m, 1, TAGS(""));
	turn();
	assert_int_equal(told, 1);
	free_models(m);
}

/* ---- from several threads ---- */

enum { THREADS = 3, ROUNDS = 4000 };
struct hand { struct models *m; unsigned seed; pthread_t thread; };

/* Waits and leaves at any moment, with the waiter gone right after: under a sanitizer a look into it from elsewhere shows. */
static void *come_and_go(void *arg)
{
	struct hand *hand = arg;
	struct loop *mine = malloc(sizeof *mine);
	char digest[DIGEST_MAX];
	host_set have;

	assert_non_null(mine);
	loop_init(mine);
	for (int i = 0; i < ROUNDS; i++) {
		struct models_waiter *w = calloc(1, sizeof *w);
		assert_non_null(w);
		hand->seed = hand->seed * 1103515245 + 12345;
		*w = (struct models_waiter){ .mail.run = tell_nobody, .loop = mine };
		if (hand->seed >> 30 & 1)
			models_wait_look(hand->m, w, (int)(hand->seed >> 29 & 1));
		else
			models_find(hand->m, SLICE("unknown:latest"), digest, &have, w);
		models_unwait(hand->m, w);
		uv_run(&mine->uv, UV_RUN_NOWAIT);                /* mail that was posted before is run */
		while (w->mail.posted)
			uv_run(&mine->uv, UV_RUN_NOWAIT);
		free(w);
	}
	loop_fini(mine);
	free(mine);
	return NULL;
}

static void threads_wait_and_leave(void **state)
{
	struct models *m = new_models();
	struct hand hand[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		hand[i] = (struct hand){ .m = m, .seed = (unsigned)i * 99 + 1 };
		assert_int_equal(pthread_create(&hand[i].thread, NULL, come_and_go, &hand[i]), 0);
	}
	for (int i = 0; i < 2 * ROUNDS; i++) {
		look(m, i & 1, i & 2 ? TAGS("{\"name\":\"m\",\"digest\":\"1\"}") : TAGS("{\"name\":\"m\",\"digest\":\"2\"}"));
		models_generation(m);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(hand[i].thread, NULL);
	assert_null(m->waiters);
	free_models(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(models_are_known_by_their_digests), cmocka_unit_test(what_was_known_holds_while_none_answers),
		cmocka_unit_test(one_host_waits_for_no_other), cmocka_unit_test(lists_that_are_none),
		cmocka_unit_test(names_without_a_digest_are_unknown), cmocka_unit_test(a_wait_ends_with_a_look_begun_after_it),
		cmocka_unit_test(threads_wait_and_leave),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
