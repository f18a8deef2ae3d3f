/* loop.c - libuv with a mailbox and a bury list; see loop.h. */
#include "proxy/base/loop.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

static void run_mail(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	struct mail *m = l->first;
	l->first = NULL;
	l->last = &l->first;
	pthread_mutex_unlock(&l->lock);
	while (m) {
		struct mail *next = m->next;
		pthread_mutex_lock(&l->lock);
		m->posted = false;         /* from here on it may be posted again, also by its own run */
		pthread_mutex_unlock(&l->lock);
		m->run(m);
		m = next;
	}
}

static void on_bell(uv_async_t *bell)
{
	run_mail(bell->data);
}

static void bury_all(struct loop *l)
{
	struct burial *b = l->dead;

	l->dead = NULL;                    /* what asks for another turn (its mail is still under way) gets one */
	while (b) {
		struct burial *next = b->next;
		b->bury(b);
		b = next;
	}
}

static void on_turn_end(uv_check_t *c)
{
	bury_all(c->data);
}

void loop_settle(struct loop *l)
{
	if (l->local) {                    /* mail the loop's thread sent itself rang no bell */
		l->local = false;
		run_mail(l);
	}
	if (l->before_sleep)
		l->before_sleep(l, l->before_sleep_arg);
}

static void on_turn_begin(uv_prepare_t *p)
{
	struct loop *l = p->data;

	loop_settle(l);
	bury_all(l);
	if (l->local)                      /* and what was sent just now would sleep with us */
		uv_async_send(&l->bell);
}

void loop_init(struct loop *l)
{
	*l = (struct loop){ .last = &l->first };
	if (uv_loop_init(&l->uv) || uv_async_init(&l->uv, &l->bell, on_bell) ||
	    uv_check_init(&l->uv, &l->turn_end) || uv_prepare_init(&l->uv, &l->turn_begin))
		abort();                   /* at start, with no descriptors left: nothing else can be done */
	pthread_mutex_init(&l->lock, NULL);
	l->bell.data = l->turn_end.data = l->turn_begin.data = l;
	uv_check_start(&l->turn_end, on_turn_end);
	uv_prepare_start(&l->turn_begin, on_turn_begin);
}

void loop_run(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	l->thread = pthread_self();
	l->runs = true;
	pthread_mutex_unlock(&l->lock);
	uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
	uv_stop(&l->uv);
}

void loop_fini(struct loop *l)
{
	bury_all(l);
	uv_close((uv_handle_t *)&l->bell, NULL);
	uv_close((uv_handle_t *)&l->turn_end, NULL);
	uv_close((uv_handle_t *)&l->turn_begin, NULL);
	uv_run(&l->uv, UV_RUN_DEFAULT);
	bury_all(l);
	if (uv_loop_close(&l->uv))
		assert(!"a handle was left open");
	pthread_mutex_destroy(&l->lock);
}

void loop_post(struct loop *l, struct mail *m)
{
	pthread_mutex_lock(&l->lock);
	bool fresh = !m->posted, own = l->runs && pthread_equal(l->thread, pthread_self());
	if (fresh) {
		m->posted = true;
		m->next = NULL;
		*l->last = m;
		l->last = &m->next;
	}
	pthread_mutex_unlock(&l->lock);
	if (fresh && own)
		l->local = true;
	else if (fresh)
		uv_async_send(&l->bell);
}

void loop_bury(struct loop *l, struct burial *b)
{
	b->next = l->dead;
	l->dead = b;
}

int64_t wall_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
