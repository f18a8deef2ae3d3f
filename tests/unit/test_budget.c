/* uses: proxy/base/loop.c */
/* libs: -luv -lpthread */
/* test_budget.c - a budget of bytes: what is out is never more than there is, nobody who holds much shuts the others out, and
 * nothing is lost whoever leaves when, also from several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "proxy/budget.c"

enum { K = 1 << 10, M = 1 << 20 };

static struct loop loop;
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

static struct budget_share share_of(int client)
{
	return (struct budget_share){ .mail.run = tell, .loop = &loop, .client = { (uint8_t)client } };
}

static void is_empty(const struct budget *b)
{
	assert_int_equal(b->used, 0);
	assert_null(b->first);
	assert_ptr_equal(b->last, &b->first);
	for (size_t i = 0; i < BUDGET_BUCKETS; i++)
		assert_null(b->client[i]);
}

static void one_client_leaves_room_for_others(void **state)
{
	struct budget b;
	struct budget_share a[8], other = share_of(2);

	(void)state;
	told = 0;
	budget_init(&b, 64 * M);
	assert_int_equal(budget_most(&b), 32 * M);
	for (int i = 0; i < 8; i++)
		a[i] = share_of(1);
	for (int i = 0; i < 4; i++)
		assert_true(budget_take(&b, &a[i], 8 * M, false));       /* half, while nobody else needs any */
	assert_false(budget_take(&b, &a[4], 1, false));
	assert_true(budget_take(&b, &other, 16 * M, false));             /* and the others still have their quarter */
	assert_false(budget_take(&b, &a[4], 1, true));
	budget_leave(&b, &a[0]);
	assert_true(a[4].waits);                                         /* more than a quarter, and more than half is out */
	budget_leave(&b, &other);
	assert_false(a[4].waits);
	assert_int_equal(a[4].bytes, 1);
	for (int i = 0; i < 8; i++)
		budget_leave(&b, &a[i]);
	is_empty(&b);
	turn();
	assert_int_equal(told, 1);
	budget_fini(&b);
}

static void large_shares_leave_room_for_small_ones(void **state)
{
	struct budget b;
	struct budget_share large[8], small;

	(void)state;
	budget_init(&b, 64 * M);
	for (int i = 0; i < 8; i++) {
		large[i] = share_of(i);
		assert_int_equal(budget_take(&b, &large[i], 8 * M, false), i < 7);
	}
	small = share_of(9);
	assert_true(budget_take(&b, &small, BUDGET_SMALL, false));
	assert_false(budget_take(&b, &small, 1, false));                 /* it is no longer small */
	for (int i = 0; i < 8; i++)
		budget_leave(&b, &large[i]);
	assert_true(budget_take(&b, &small, 1, false));
	budget_give(&b, &small, 1);
	assert_int_equal(small.bytes, BUDGET_SMALL);
	budget_leave(&b, &small);
	is_empty(&b);
	budget_fini(&b);
}

static void who_waits_is_served_in_turn_and_holds_nobody_up(void **state)
{
	struct budget b;
	struct budget_share s[4];

	(void)state;
	told = 0;
	budget_init(&b, 100);
	for (int i = 0; i < 4; i++)
		s[i] = share_of(i);
	assert_true(budget_take(&b, &s[0], 50, true));
	assert_false(budget_take(&b, &s[1], 60, true));
	assert_false(budget_take(&b, &s[2], 55, true));
	assert_true(budget_take(&b, &s[3], 20, true));                   /* there is room for it, though not for who waits */
	budget_unwait(&b, &s[1]);
	assert_false(s[1].waits);
	budget_leave(&b, &s[0]);
	assert_true(s[2].waits);                                         /* more than one client may have */
	budget_limit(&b, 110);
	budget_leave(&b, &s[3]);
	assert_int_equal(s[2].bytes, 55);
	budget_limit(&b, 40);                                            /* less than is out: what is out stays */
	assert_false(budget_take(&b, &s[0], 1, true));
	budget_leave(&b, &s[2]);
	assert_int_equal(s[0].bytes, 1);
	budget_leave(&b, &s[0]);
	budget_leave(&b, &s[0]);
	is_empty(&b);
	turn();
	assert_int_equal(told, 2);
	budget_fini(&b);
}

static void replies_hold_a_half_at_most(void **state)
{
	struct budget b;
	struct budget_share s = share_of(1);

	(void)state;
	budget_init(&b, 64 * M);
	assert_true(budget_take_reply(&b, 30 * M));
	assert_false(budget_take_reply(&b, 3 * M));
	assert_true(budget_take(&b, &s, 16 * M, false));
	budget_give_reply(&b, 30 * M);
	assert_true(budget_take_reply(&b, 90 * M));                      /* one alone always fits */
	assert_false(budget_take_reply(&b, 1));
	budget_give_reply(&b, 90 * M);
	budget_leave(&b, &s);
	is_empty(&b);
	budget_fini(&b);
}

enum { THREADS = 3, ROUNDS = 4000, LIMIT = 200 };
struct hand { struct budget *b; unsigned seed; pthread_t thread; struct budget_share *shares; };

/* Takes and leaves, whether it was its turn or not. Its shares stay until the loop has run the mail that is under way. */
static void *work(void *arg)
{
	struct hand *hand = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct budget_share *s = &hand->shares[i];
		hand->seed = hand->seed * 1103515245 + 12345;
		*s = share_of(hand->seed >> 20 & 3);
		budget_take(hand->b, s, 1 + (hand->seed >> 16 & 127), hand->seed >> 30 & 1);
		if (budget_take_reply(hand->b, 10))
			budget_give_reply(hand->b, 10);
		budget_leave(hand->b, s);
	}
	return NULL;
}

static void threads_take_and_leave(void **state)
{
	struct budget b;
	struct hand hand[THREADS];

	(void)state;
	budget_init(&b, LIMIT);
	for (int i = 0; i < THREADS; i++) {
		hand[i] = (struct hand){ .b = &b, .seed = (unsigned)i * 99 + 1, .shares = calloc(ROUNDS, sizeof *hand[i].shares) };
		assert_non_null(hand[i].shares);
		assert_int_equal(pthread_create(&hand[i].thread, NULL, work, &hand[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(hand[i].thread, NULL);
	turn();
	is_empty(&b);
	assert_int_equal(b.replies, 0);
	for (int i = 0; i < THREADS; i++)
		free(hand[i].shares);
	budget_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_client_leaves_room_for_others), cmocka_unit_test(large_shares_leave_room_for_small_ones),
		cmocka_unit_test(who_waits_is_served_in_turn_and_holds_nobody_up), cmocka_unit_test(replies_hold_a_half_at_most),
		cmocka_unit_test(threads_take_and_leave),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
