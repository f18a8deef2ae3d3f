/* alarm.h - many timers on one: a heap of deadlines on a loop, with libuv's timer set to the earliest.
 *
 * Ownership  an alarm is embedded in its owner; clear it before the owner goes. Zeroed is "not set".
 * Threads    the loop's own.
 * Errors     out of memory for the heap's array aborts: its size is that of what waits, which is bounded elsewhere. */
#ifndef BASE_ALARM_H
#define BASE_ALARM_H

#include "proxy/base/loop.h"

struct alarm {
	int64_t at;                  /* loop_now() when it is due */
	size_t place;                /* in the heap, from 1; 0: not set */
	void (*ring)(struct alarm *);
};

struct alarms {
	struct loop *loop;
	uv_timer_t timer;
	struct alarm **heap;         /* heap[1…n] */
	size_t n, room;
	int64_t due;
};

void alarms_init(struct alarms *as, struct loop *loop);
void alarms_fini(struct alarms *as);             /* every alarm must be clear; the loop must run once more */

/* Rings once, in `ms` milliseconds at the earliest; set again, it moves. */
void alarm_set(struct alarms *as, struct alarm *a, int64_t ms, void (*ring)(struct alarm *));
void alarm_clear(struct alarms *as, struct alarm *a);
static inline bool alarm_is_set(const struct alarm *a) { return a->place != 0; }

#endif
