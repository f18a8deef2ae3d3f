/* uses: proxy/base/loop.c */
/* libs: -luv */
/* test_alarm.c - many timers on one: they ring in the order they are due, once, moved and cleared at will, also from inside a
 * ring. The loop's clock is set by hand: nothing here waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/base/alarm.c"

enum { MANY = 500 };

static struct loop loop;
static struct alarms alarms;
static struct alarm alarm_of[MANY];
static int rung[4 * MANY];
static size_t n_rung;

static int open_all(void **state)
{
	(void)state;
	loop_init(&loop);
	alarms_init(&alarms, &loop);
	n_rung = 0;
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	alarms_fini(&alarms);
	loop_fini(&loop);
	return 0;
}

/* What libuv would do at `ms` from now. */
static void pass(int64_t ms)
{
	loop.uv.time += (uint64_t)ms;
	on_timer(&alarms.timer);
}

static void ring(struct alarm *a)
{
	assert_false(alarm_is_set(a));
	rung[n_rung++] = (int)(a - alarm_of);
}

static void heap_is_good(void)
{
	for (size_t i = 1; i <= alarms.n; i++) {
		assert_int_equal(alarms.heap[i]->place, i);
		assert_true(i == 1 || alarms.heap[i / 2]->at <= alarms.heap[i]->at);
	}
	assert_true(alarms.n == 0 || uv_is_active((uv_handle_t *)&alarms.timer));
	assert_true(alarms.n == 0 || (alarms.due && alarms.due <= alarms.heap[1]->at));
}

static void they_ring_in_the_order_they_are_due(void **state)
{
	unsigned seed = 7;
	int64_t at[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		seed = seed * 1103515245 + 12345;
		at[i] = 1 + (seed >> 16) % 100;
		alarm_set(&alarms, &alarm_of[i], at[i], ring);
		heap_is_good();
	}
	for (int i = 0; i < MANY; i += 3) {
		alarm_clear(&alarms, &alarm_of[i]);
		alarm_clear(&alarms, &alarm_of[i]);
		heap_is_good();
	}
	for (int i = 1; i < MANY; i += 3) {
		at[i] = 101 - at[i];
		alarm_set(&alarms, &alarm_of[i], at[i], ring);   /* moved */
		heap_is_good();
	}
	for (int ms = 1; ms <= 100; ms++) {
		size_t before = n_rung;
		pass(1);
		heap_is_good();
		for (size_t k = before; k < n_rung; k++)
			assert_int_equal(at[rung[k]], ms);
	}
	assert_int_equal(n_rung, MANY - (MANY + 2) / 3);
	assert_int_equal(alarms.n, 0);
}

static struct alarm *other;
static void ring_and_clear_another(struct alarm *a)
{
	ring(a);
	alarm_clear(&alarms, other);
	alarm_set(&alarms, a, 5, ring);                  /* and itself again */
}

static void a_ring_may_set_and_clear(void **state)
{
	(void)state;
	other = &alarm_of[1];
	alarm_set(&alarms, &alarm_of[0], 1, ring_and_clear_another);
	alarm_set(&alarms, &alarm_of[1], 2, ring);
	alarm_set(&alarms, &alarm_of[2], 3, ring);
	pass(3);                                         /* all are due at once: the first takes the second away */
	assert_int_equal(n_rung, 2);
	assert_int_equal(rung[0], 0);
	assert_int_equal(rung[1], 2);
	heap_is_good();
	pass(4);
	assert_int_equal(n_rung, 2);
	pass(1);
	assert_int_equal(n_rung, 3);
	assert_int_equal(alarms.n, 0);
}

static void an_earlier_one_moves_the_timer_a_cleared_one_leaves_it(void **state)
{
	(void)state;
	alarm_set(&alarms, &alarm_of[0], 100, ring);
	assert_int_equal(uv_timer_get_due_in(&alarms.timer), 100);
	alarm_set(&alarms, &alarm_of[1], 10, ring);
	assert_int_equal(uv_timer_get_due_in(&alarms.timer), 10);
	alarm_clear(&alarms, &alarm_of[1]);
	pass(10);                                        /* rings for nothing, and is set anew */
	assert_int_equal(n_rung, 0);
	assert_int_equal(uv_timer_get_due_in(&alarms.timer), 90);
	alarm_clear(&alarms, &alarm_of[0]);
	pass(90);
	assert_int_equal(n_rung, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(they_ring_in_the_order_they_are_due, open_all, close_all),
		cmocka_unit_test_setup_teardown(a_ring_may_set_and_clear, open_all, close_all),
		cmocka_unit_test_setup_teardown(an_earlier_one_moves_the_timer_a_cleared_one_leaves_it, open_all, close_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
