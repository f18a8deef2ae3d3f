/* exchange_parse.c - a whole body becomes an ask. A short one at once; one that would keep the loop for more than a moment by
 * libuv's pool, while the exchange is held: what comes back finds it over if its client has left meanwhile.
 *
 * Limits     what parsing takes beside the body is PARSE_COST times the body at most, and counted with it; where there is no room
 *            for that, the body streams through. */
#include <stdlib.h>

#include "cache/key.h"
#include "proxy/base/log.h"
#include "proxy/exchange.h"

enum {
	PARSE_ON_LOOP = 32 << 10,        /* takes up to half a millisecond, whatever is in it */
	PARSE_COUNTED = 4 << 10,         /* shorter bodies are bounded by server.max_connections */
	FORM_LONG = 32 << 10,
};

struct parse_job {
	uv_work_t work;
	struct exchange *x;          /* held */
	void (*then)(struct exchange *);
};

/* A long form would be hashed twice more, on the loop: its hash stands for it. No form of JSON looks like that. */
static void shorten(struct slice *form, struct arena *arena)
{
	static const char name[] = "sha256:";
	uint8_t hash[KEY_BYTES];
	char *to = form->len > FORM_LONG ? arena_alloc(arena, sizeof name - 1 + sizeof hash) : NULL;

	if (!to)
		return;
	key_hash(*form, hash);
	memcpy(to, name, sizeof name - 1);
	memcpy(to + sizeof name - 1, hash, sizeof hash);
	*form = slice_of(to, sizeof name - 1 + sizeof hash);
}

/* Any thread: nobody else looks at the body, the arena and the ask meanwhile. */
static void make_ask(struct exchange *x)
{
	x->arena.limit = EXCHANGE_ARENA_LEAST + EXCHANGE_ARENA * x->body.len;
	x->doubt = x->dialect->parse(buf_slice(&x->body), x->family, &x->arena, &x->ask);
	if (x->doubt)
		return;
	x->candidates = exchange_candidates(x);
	if (x->candidates > 1 && x->dialect->vary_begin(&x->ask, &x->arena)) {
		x->doubt = "it cannot be asked several times";
		return;
	}
	if (x->family == FAMILY_CHAT || x->family == FAMILY_GENERATE)
		x->prompt = prompt_size_of(x->ask.canonical);
	shorten(&x->ask.canonical, &x->arena);
	shorten(&x->ask.canonical_scope, &x->arena);
}

static void on_work(uv_work_t *work)
{
	struct parse_job *job = (struct parse_job *)work;

	make_ask(job->x);
}

static void on_worked(uv_work_t *work, int status)
{
	struct parse_job *job = (struct parse_job *)work;
	struct exchange *x = job->x;
	void (*then)(struct exchange *) = job->then;

	free(job);
	x->parsing = false;
	if (x->request && !x->client_gone && !status)
		then(x);
	else
		exchange_share_back(x);
	exchange_drop(x);
}

void exchange_read(struct exchange *x, void (*then)(struct exchange *))
{
	struct parse_job *job = x->body.len > PARSE_ON_LOOP ? malloc(sizeof *job) : NULL;

	if (!job) {
		make_ask(x);
		then(x);
		return;
	}
	job->x = x;
	job->then = then;
	exchange_hold(x);
	x->parsing = true;
	if (uv_queue_work(&x->worker->loop.uv, &job->work, on_work, on_worked))
		abort();                     /* it fails only without a function to call */
}

/* There is room for it. */
void exchange_parse_now(struct exchange *x)
{
	exchange_read(x, exchange_parsed);
}

void exchange_parse(struct exchange *x)
{
	exchange_step(x, STEP_PARSE);
	uint64_t all = (1 + PARSE_COST) * x->body.len;
	if (x->body.len > PARSE_COUNTED && all > budget_most(&x->worker->shared->buffered)) {
		x->bypass = BYPASS_TOO_LARGE;
		pass_begin(x, true);
		return;
	}
	if (x->body.len <= PARSE_COUNTED || exchange_share_take(x, PARSE_COST * x->body.len, true))
		exchange_parse_now(x);
}
