/* loop.h - a worker's event loop: libuv, a mailbox other threads may post to, and a bury list.
 *
 * Ownership  a mail or a burial is embedded in its owner; it must live until it was run.
 * Threads    loop_post() from any thread; everything else from the loop's own.
 * Order      mail runs in the order it was posted; burials run at the end of the turn in which they were
 *            asked for, when no callback is on the stack that could still look at what is freed. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct mail {
	struct mail *next;
	void (*run)(struct mail *);
	bool posted;                 /* a mail already posted and not yet run is not posted twice */
};

struct burial {
	struct burial *next;
	void (*bury)(struct burial *);
};

struct loop {
	uv_loop_t uv;
	uv_async_t bell;
	uv_check_t turn_end;
	pthread_mutex_t lock;
	struct mail *first, **last;  /* guarded by lock */
	pthread_t thread;            /* the loop's own, once it runs */
	bool runs;                   /* loop_run() was called: `thread` is set */
	bool local;                  /* there is mail from the loop's own thread, for which no bell was rung */
	struct burial *dead;
	void (*before_sleep)(struct loop *, void *arg);   /* optional: flush what a turn has gathered */
	void *before_sleep_arg;
	uv_prepare_t turn_begin;
};

void loop_init(struct loop *l);
void loop_run(struct loop *l);            /* until loop_stop() */
void loop_stop(struct loop *l);           /* from the loop's own thread */
void loop_fini(struct loop *l);           /* after loop_run() has returned; runs what is left to bury */

/* Runs m->run(m) on the loop's thread, soon. Any thread. */
void loop_post(struct loop *l, struct mail *m);

/* Does now what would be done before the loop sleeps: its own mail, before_sleep(). For who goes through many events in one
 * turn, so that the effects of the first do not wait for the last. Not from inside either. */
void loop_settle(struct loop *l);

/* Frees later: b->bury(b) runs at the end of this turn. */
void loop_bury(struct loop *l, struct burial *b);

/* Milliseconds of a clock that never goes back; the loop's own idea of now, one read a turn. */
static inline int64_t loop_now(struct loop *l)
{
	return (int64_t)uv_now(&l->uv);
}

/* Wall clock, milliseconds since 1970. */
int64_t wall_now(void);

/* A clock for measuring, microseconds. */
int64_t clock_us(void);

#endif
