/* release.c - see release.h. */
#include "proxy/base/release.h"

#include <stdlib.h>

struct release {
	uv_work_t work;
	struct buf buf;
	struct arena arena;
};

static void on_work(uv_work_t *work)
{
	struct release *r = (struct release *)work;

	buf_fini(&r->buf);
	arena_fini(&r->arena);
}

static void on_worked(uv_work_t *work, int status)
{
	struct release *r = (struct release *)work;

	(void)status;                        /* nobody cancels it */
	free(r);
}

static void later(struct loop *l, struct release *r)
{
	if (uv_queue_work(&l->uv, &r->work, on_work, on_worked))
		abort();                     /* it fails only without a function to call */
}

void release_buf(struct loop *l, struct buf *b)
{
	struct release *r = b->room > RELEASE_ON_LOOP ? calloc(1, sizeof *r) : NULL;

	if (!r) {
		buf_fini(b);
		return;
	}
	r->buf = *b;
	*b = (struct buf){ .limit = b->limit };
	later(l, r);
}

void release_arena(struct loop *l, struct arena *a)
{
	struct release *r = a->used > RELEASE_ON_LOOP ? calloc(1, sizeof *r) : NULL;

	if (!r) {
		arena_fini(a);
		return;
	}
	r->arena = *a;
	arena_init(a, a->limit);
	later(l, r);
}
