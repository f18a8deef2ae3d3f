/* alarm.c - a binary heap of deadlines; see alarm.h. */
#include "proxy/base/alarm.h"

#include <assert.h>
#include <stdlib.h>

static void place(struct alarms *as, size_t i, struct alarm *a)
{
	as->heap[i] = a;
	a->place = i;
}

static void rise(struct alarms *as, size_t i, struct alarm *a)
{
	while (i > 1 && as->heap[i / 2]->at > a->at) {
		place(as, i, as->heap[i / 2]);
		i /= 2;
	}
	place(as, i, a);
}

static void sink(struct alarms *as, size_t i, struct alarm *a)
{
	for (size_t child; (child = 2 * i) <= as->n; i = child) {
		if (child < as->n && as->heap[child + 1]->at < as->heap[child]->at)
			child++;
		if (as->heap[child]->at >= a->at)
			break;
		place(as, i, as->heap[child]);
	}
	place(as, i, a);
}

static void take_out(struct alarms *as, struct alarm *a)
{
	size_t i = a->place;
	struct alarm *last = as->heap[as->n--];

	a->place = 0;
	if (last == a)
		return;
	if (i > 1 && as->heap[i / 2]->at > last->at)
		rise(as, i, last);
	else
		sink(as, i, last);
}

static void on_timer(uv_timer_t *timer);

static void start(struct alarms *as)
{
	if (as->n == 0 || (as->due && as->due <= as->heap[1]->at))
		return;
	int64_t now = loop_now(as->loop);
	as->due = as->heap[1]->at;
	uv_timer_start(&as->timer, on_timer, as->due > now ? (uint64_t)(as->due - now) : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct alarms *as = timer->data;
	int64_t now = loop_now(as->loop);

	as->due = 0;
	while (as->n && as->heap[1]->at <= now) {
		struct alarm *a = as->heap[1];
		take_out(as, a);
		a->ring(a);
	}
	start(as);
}

void alarms_init(struct alarms *as, struct loop *loop)
{
	*as = (struct alarms){ .loop = loop };
	uv_timer_init(&loop->uv, &as->timer);
	as->timer.data = as;
}

void alarms_fini(struct alarms *as)
{
	assert(as->n == 0);
	free(as->heap);
	as->heap = NULL;
	uv_close((uv_handle_t *)&as->timer, NULL);
}

void alarm_set(struct alarms *as, struct alarm *a, int64_t ms, void (*ring)(struct alarm *))
{
	if (a->place)
		take_out(as, a);
	if (as->n + 1 >= as->room) {
		as->room = as->room ? as->room * 2 : 64;
		as->heap = realloc(as->heap, as->room * sizeof *as->heap);
		if (!as->heap)
			abort();
	}
	a->at = loop_now(as->loop) + ms;
	a->ring = ring;
	as->n++;
	rise(as, as->n, a);
	start(as);
}

void alarm_clear(struct alarms *as, struct alarm *a)
{
	if (a->place)
		take_out(as, a);
}
