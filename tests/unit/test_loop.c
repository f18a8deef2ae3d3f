/* uses: proxy/base/loop.c proxy/base/release.c proxy/base/arena.c proxy/base/buf.c proxy/base/err.c */
/* libs: -luv */
/* test_loop.c - the loop's mailbox and its bury list: nothing posted is lost or run twice, mail runs in order on the
 * loop's own thread, and what is buried dies after the turn and not before. The last tests are for TSan's eyes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/base/loop.h"
#include "proxy/base/release.h"
#include "tests/unit/torture.h"

enum { LETTERS = 8, POSTERS = 2, ROUNDS = 2000 };

struct letter {
	struct mail mail;                    /* first, so that a mail is its letter */
	struct loop *loop;
	int *ran;                            /* numbers of the letters, in the order they ran */
	size_t *n_ran;
	int number, again;
	bool last;
};

static void run_letter(struct mail *m)
{
	struct letter *l = (struct letter *)m;

	l->ran[(*l->n_ran)++] = l->number;
	if (l->again-- > 0)
		loop_post(l->loop, m);       /* its own run may post it again */
	else if (l->last)
		loop_stop(l->loop);
}

static void mail_runs_once_and_in_order(void **state)
{
	struct loop loop;
	struct letter letters[LETTERS] = { 0 };
	int ran[2 * LETTERS] = { 0 };
	size_t n_ran = 0;

	(void)state;
	loop_init(&loop);
	for (int i = 0; i < LETTERS; i++) {
		letters[i] = (struct letter){ { .run = run_letter }, &loop, ran, &n_ran, i, 0, i == LETTERS - 1 };
		loop_post(&loop, &letters[i].mail);
		loop_post(&loop, &letters[i].mail);      /* posted twice before it ran: runs once */
	}
	assert_int_equal(n_ran, 0);                      /* never before the loop turns */
	loop_run(&loop);
	assert_int_equal(n_ran, LETTERS);
	for (int i = 0; i < LETTERS; i++)
		assert_int_equal(ran[i], i);
	loop_fini(&loop);
}

struct grave { struct burial burial; int *buried; };

static void bury_grave(struct burial *b)
{
	++*((struct grave *)b)->buried;
}

static void *post_letters(void *letters)
{
	struct letter *l = letters;

	for (int i = 0; i < LETTERS; i++)
		loop_post(l[i].loop, &l[i].mail);
	return NULL;
}

/* What ends an exchange must not need what has run out: neither we nor libuv ask for any. */
static void mail_and_burials_need_no_memory(void **state)
{
	struct loop loop;
	struct letter letters[LETTERS] = { 0 }, late = { 0 };
	int ran[LETTERS + 1] = { 0 }, buried = 0;
	struct grave grave = { { .bury = bury_grave }, &buried };
	size_t n_ran = 0;
	pthread_t thread;

	(void)state;
	assert_true(torture_of((const char *[]){ "libuv", NULL }) >= 2);
	loop_init(&loop);
	uv_run(&loop.uv, UV_RUN_NOWAIT);                 /* libuv's own watchers are in their place from here on */
	for (int i = 0; i < LETTERS; i++)
		letters[i] = (struct letter){ { .run = run_letter }, &loop, ran, &n_ran, i, 0, false };
	late = (struct letter){ { .run = run_letter }, &loop, ran, &n_ran, LETTERS, 0, true };
	torture_begin(1);
	assert_int_equal(pthread_create(&thread, NULL, post_letters, letters), 0);
	pthread_join(thread, NULL);
	loop_post(&loop, &late.mail);
	loop_bury(&loop, &grave.burial);
	loop_run(&loop);
	assert_false(torture_end());
	assert_int_equal(n_ran, LETTERS + 1);
	assert_int_equal(buried, 1);
	loop_fini(&loop);
}

static void mail_may_be_posted_from_its_own_run(void **state)
{
	struct loop loop;
	int ran[4] = { 0 };
	size_t n_ran = 0;
	struct letter letter = { { .run = run_letter }, &loop, ran, &n_ran, 7, 3, true };

	(void)state;
	loop_init(&loop);
	loop_post(&loop, &letter.mail);
	loop_run(&loop);
	assert_int_equal(n_ran, 4);
	loop_fini(&loop);
}

struct corpse {
	struct burial burial;
	struct mail mail;
	struct loop *loop;
	struct corpse *next;                 /* buried from the burial of this one */
	bool buried, seen_alive, last;
};

static void bury(struct burial *b)
{
	struct corpse *c = (struct corpse *)b;

	assert_false(c->buried);
	c->buried = true;
	if (c->next)
		loop_bury(c->loop, &c->next->burial);
	else if (c->last)
		loop_stop(c->loop);
}

static void ask_for_burial(struct mail *m)
{
	struct corpse *c = (struct corpse *)(void *)((char *)m - offsetof(struct corpse, mail));

	loop_bury(c->loop, &c->burial);
	c->seen_alive = !c->buried;          /* the caller may still look at what it has just buried */
}

static void the_buried_live_until_the_turn_ends(void **state)
{
	struct loop loop;
	struct corpse second = { .burial.bury = bury, .loop = &loop, .last = true };
	struct corpse first = { .burial.bury = bury, .mail.run = ask_for_burial, .loop = &loop, .next = &second };

	(void)state;
	loop_init(&loop);
	loop_post(&loop, &first.mail);
	loop_run(&loop);
	assert_true(first.seen_alive);
	assert_true(first.buried);
	assert_true(second.buried);
	loop_fini(&loop);
}

static void what_is_left_is_buried_at_the_end(void **state)
{
	struct loop loop;
	struct corpse left = { .burial.bury = bury, .loop = &loop };

	(void)state;
	loop_init(&loop);
	loop_bury(&loop, &left.burial);
	loop_fini(&loop);
	assert_true(left.buried);
}

static void flush(struct loop *l, void *arg)
{
	(void)l;
	++*(int *)arg;
}

static void before_sleep_runs_every_turn(void **state)
{
	struct loop loop;
	int ran[3], turns = 0;
	size_t n_ran = 0;
	struct letter letter = { { .run = run_letter }, &loop, ran, &n_ran, 0, 2, true };

	(void)state;
	loop_init(&loop);
	loop.before_sleep = flush;
	loop.before_sleep_arg = &turns;
	loop_post(&loop, &letter.mail);
	loop_run(&loop);
	assert_int_equal(n_ran, 3);
	assert_in_range(turns, 1, 100);
	loop_fini(&loop);
}

/* Two threads post the same letters over and over, while the loop runs them. How often each runs is anyone's guess;
 * that it runs after the last time it was posted is not. */
struct poster {
	pthread_t thread;
	struct loop *loop;
	struct shared *shared;
	int number;
};

struct shared {
	struct mail mail;
	struct loop *loop;
	pthread_t loop_thread;
	pthread_mutex_t lock;
	int posted[POSTERS];                 /* guarded by lock */
	int seen[POSTERS], runs;             /* the loop's own */
};

static void look(struct mail *m)
{
	struct shared *s = (struct shared *)m;
	bool all = true;

	assert_true(pthread_equal(pthread_self(), s->loop_thread));
	s->runs++;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < POSTERS; i++) {
		s->seen[i] = s->posted[i];
		all = all && s->seen[i] == ROUNDS;
	}
	pthread_mutex_unlock(&s->lock);
	if (all)
		loop_stop(s->loop);
}

static void *post_often(void *arg)
{
	struct poster *p = arg;

	for (int i = 1; i <= ROUNDS; i++) {
		pthread_mutex_lock(&p->shared->lock);
		p->shared->posted[p->number] = i;
		pthread_mutex_unlock(&p->shared->lock);
		loop_post(p->loop, &p->shared->mail);
	}
	return NULL;
}

static void two_threads_post_and_nothing_is_lost(void **state)
{
	struct loop loop;
	struct shared shared = { .mail.run = look, .loop = &loop, .loop_thread = pthread_self() };
	struct poster posters[POSTERS];

	(void)state;
	loop_init(&loop);
	pthread_mutex_init(&shared.lock, NULL);
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ .loop = &loop, .shared = &shared, .number = i };
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_often, &posters[i]), 0);
	}
	loop_run(&loop);                     /* ends only when the last post of both was seen */
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		assert_int_equal(shared.seen[i], ROUNDS);
	}
	assert_in_range(shared.runs, 1, POSTERS * ROUNDS);
	loop_fini(&loop);
	pthread_mutex_destroy(&shared.lock);
}

/* Each thread its own letters, so that the order within one thread can be checked as well. */
struct stream {
	pthread_t thread;
	struct loop *loop;
	struct numbered { struct mail mail; struct stream *of; int number; } letters[ROUNDS];
	int next;                            /* the loop's own */
	int *open;
};

static void in_order(struct mail *m)
{
	struct numbered *n = (struct numbered *)m;
	struct stream *s = n->of;

	assert_int_equal(n->number, s->next++);
	if (s->next == ROUNDS && --*s->open == 0)
		loop_stop(s->loop);
}

static void *post_all(void *arg)
{
	struct stream *s = arg;

	for (int i = 0; i < ROUNDS; i++) {
		s->letters[i] = (struct numbered){ { .run = in_order }, s, i };
		loop_post(s->loop, &s->letters[i].mail);
	}
	return NULL;
}

static void each_threads_mail_keeps_its_order(void **state)
{
	static struct stream streams[POSTERS];
	struct loop loop;
	int open = POSTERS;

	(void)state;
	loop_init(&loop);
	for (int i = 0; i < POSTERS; i++) {
		streams[i].loop = &loop;
		streams[i].open = &open;
		assert_int_equal(pthread_create(&streams[i].thread, NULL, post_all, &streams[i]), 0);
	}
	loop_run(&loop);
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(streams[i].thread, NULL);
		assert_int_equal(streams[i].next, ROUNDS);
	}
	loop_fini(&loop);
}

/* The pool does it: the loop has something to wait for. The end finds all given back, as AddressSanitizer knows. */
static void what_is_large_is_given_back_by_the_pool(void **state)
{
	struct loop loop;
	struct arena arena;
	struct buf buf;

	(void)state;
	loop_init(&loop);
	for (size_t bytes = 3; bytes <= 4 * RELEASE_ON_LOOP; bytes *= 2) {
		bool large = bytes > RELEASE_ON_LOOP;
		buf_init(&buf, bytes);
		assert_int_equal(buf_reserve(&buf, bytes), ERR_OK);
		release_buf(&loop, &buf);
		assert_null(buf.at);
		assert_int_equal(buf.limit, bytes);
		assert_int_equal(loop.uv.active_reqs.count > 0, large);
		uv_run(&loop.uv, UV_RUN_NOWAIT);
		while (loop.uv.active_reqs.count)
			uv_run(&loop.uv, UV_RUN_ONCE);
		arena_init(&arena, 2 * bytes + 64);
		assert_non_null(arena_alloc(&arena, bytes));
		release_arena(&loop, &arena);
		assert_int_equal(arena.used, 0);
		assert_int_equal(loop.uv.active_reqs.count > 0, large);
		assert_non_null(arena_alloc(&arena, bytes));          /* it may be used again at once */
		release_arena(&loop, &arena);
		while (bytes <= RELEASE_ON_LOOP && loop.uv.active_reqs.count)
			uv_run(&loop.uv, UV_RUN_ONCE);
	}
	loop_fini(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_runs_once_and_in_order),
		cmocka_unit_test(mail_may_be_posted_from_its_own_run),
		cmocka_unit_test(the_buried_live_until_the_turn_ends),
		cmocka_unit_test(what_is_left_is_buried_at_the_end),
		cmocka_unit_test(before_sleep_runs_every_turn),
		cmocka_unit_test(mail_and_burials_need_no_memory),
		cmocka_unit_test(two_threads_post_and_nothing_is_lost),
		cmocka_unit_test(each_threads_mail_keeps_its_order),
		cmocka_unit_test(what_is_large_is_given_back_by_the_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
