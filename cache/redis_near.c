/* redis_near.c - near questions looked for in Redis; see redis_store.h and redis_function.c.
 *
 * Redis does one thing at a time, so a slow look-up holds up whatever comes behind it, for everybody. Hence three bounds:
 * the function ends by itself after the time it is given (all links of this process together are to take no more than
 * a fifth of redis.timeout), one look-up of a link is under way at a time, and who has waited for redis.timeout goes on
 * without. The key's own look-up is on another connection and waits for none of this.
 *
 * Limits  NEAR_WAITING_MAX look-ups wait on a link; for more there is no search. */
#include "cache/redis_function.h"
#include "cache/redis_store.h"

enum { NEAR_WAITING_MAX = 64, NEAR_BUDGET_LEAST_US = 250, NEAR_BUDGET_MOST_US = 3000 };

static struct store_link *link_of(struct redis_near *n)
{
	return (struct store_link *)(void *)((char *)n - offsetof(struct store_link, near));
}

bool redis_near_asks(const struct store_link *l)
{
	const struct redis_link *link = &l->near.link;

	return link->stage != REDIS_DOWN && (link->has_function || link->loading) &&
	       redis_health_asks(&l->store->health, REDIS_PART_NEAR);
}

/* The time one look-up may take of the server. */
static unsigned budget_us(const struct redis *s)
{
	int64_t us = s->timeout_ms * 1000 / 5 / (atomic_load(&s->links) + 1);

	return (unsigned)(us < NEAR_BUDGET_LEAST_US ? NEAR_BUDGET_LEAST_US : us > NEAR_BUDGET_MOST_US ? NEAR_BUDGET_MOST_US : us);
}

static void on_late(uv_timer_t *t);

static void arm(struct redis_near *n)
{
	const struct redis_op *op = n->asked ? n->asked : n->first;

	if (!op) {
		uv_timer_stop(&n->late);
		return;
	}
	int64_t left = op->near_due - loop_now(n->link.loop);
	uv_timer_start(&n->late, on_late, (uint64_t)(left > 0 ? left : 1), 0);
}

void redis_near_leave(struct redis_op *op)
{
	struct redis_near *n = &op->link->near;

	if (op->near == NEAR_ASKED) {
		n->asked = NULL;
	} else if (op->near == NEAR_WAITS) {
		struct redis_op **at = &n->first;
		while (*at != op)
			at = &(*at)->near_next;
		*at = op->near_next;
		if (!*at)
			n->last = at;
		n->n--;
	}
	op->near = NEAR_NONE;
}

/* Whoever waits for it goes on. */
static void end(struct redis_op *op, bool bounded)
{
	redis_near_leave(op);
	if (op->get)
		op->get->bounded |= bounded;
	redis_op_replied(op);
}

static void read_proposals(struct redis *s, struct store_get *g, const redisReply *r)
{
	size_t at = 0;

	g->bounded = r->elements && r->element[0]->type == REDIS_REPLY_INTEGER && r->element[0]->integer;
	for (size_t i = 1; i + 1 < r->elements && g->n_proposals < STORE_PROPOSALS; i += 2) {
		const redisReply *k = r->element[i], *q = r->element[i + 1];
		struct store_proposal *p = &g->proposal[g->n_proposals];
		if (k->type != REDIS_REPLY_STRING || q->type != REDIS_REPLY_STRING || !redis_key_read(p->key, k->str, k->len))
			continue;
		enum err e = buf_add(&g->proposed, q->str, q->len);
		if (e == ERR_NO_MEMORY)
			redis_failed(s);
		if (e)
			continue;
		p->question.len = q->len;
		g->n_proposals++;
	}
	for (size_t i = 0; i < g->n_proposals; i++) {
		g->proposal[i].question.at = g->proposed.at + at;
		at += g->proposal[i].question.len;
	}
}

static void ask_next(struct redis_near *n);

static void on_proposals(struct redis_call *call, const redisReply *r)
{
	struct redis_near *n = (struct redis_near *)(void *)((char *)call - offsetof(struct redis_near, call));
	struct store_link *l = link_of(n);
	struct redis_op *op = n->asked;

	n->asking = false;
	if (!redis_is_error(l, REDIS_PART_NEAR, r) && op && op->get && r->type == REDIS_REPLY_ARRAY)
		read_proposals(l->store, op->get, r);
	if (op)
		end(op, r == NULL);                     /* may detach, then nobody waits any more */
	ask_next(n);
	arm(n);
}

static bool ask(struct redis_op *op)
{
	const struct store_query *q = op->get->query;
	struct store_link *l = op->link;
	struct redis *s = l->store;
	char base[SCOPE_BYTES], number[4][16];
	uint8_t packed[NEAR_PACKED_MAX];
	struct command c = { 0 };
	unsigned total;

	command_word(&c, "FCALL");
	command_word(&c, REDIS_FUNCTION_FIND);
	command_word(&c, "1");
	command_add(&c, base, redis_scope_name(s, base, q->scope));
	command_add(&c, s->prefix, s->prefix_len);
	command_add(&c, packed, near_pack(packed, q->words, q->n_words, &total));
	const unsigned n[4] = { q->unlooked, q->least, q->most, budget_us(s) };
	for (int i = 0; i < 4; i++) {
		snprintf(number[i], sizeof number[i], "%u", n[i]);
		command_word(&c, number[i]);
	}
	l->near.call.done = on_proposals;
	return redis_send(&l->near.link, &l->near.call, c.n, c.at, c.len);
}

/* Sends the look-up of whoever waits longest, unless one is under way. The operation if that failed. */
static struct redis_op *ask_first(struct redis_near *n)
{
	struct redis_op *op = n->first;

	if (!op || n->asking || !redis_link_up(&n->link))
		return NULL;
	redis_near_leave(op);
	op->near = NEAR_ASKED;
	n->asked = op;
	n->asking = ask(op);
	return n->asking ? NULL : op;
}

/* It leaves at the end of the turn: writing from within a reply could free what is being read. */
static void ask_next(struct redis_near *n)
{
	struct redis_op *failed;

	while ((failed = ask_first(n))) {
		redis_failed(link_of(n)->store);
		end(failed, true);
	}
}

static void on_late(uv_timer_t *t)
{
	struct redis_near *n = t->data;
	int64_t now = loop_now(n->link.loop);

	for (;;) {
		struct redis_op *op = n->asked ? n->asked : n->first;
		if (!op || op->near_due > now)
			break;
		end(op, true);
	}
	arm(n);
}

void redis_near_begin(struct redis_op *op)
{
	struct redis_near *n = &op->link->near;

	if (n->n >= NEAR_WAITING_MAX) {
		op->get->bounded = true;
		return;
	}
	op->left++;
	op->near = NEAR_WAITS;
	op->near_next = NULL;
	op->near_due = loop_now(n->link.loop) + op->link->store->timeout_ms;
	*n->last = op;
	n->last = &op->near_next;
	n->n++;
	if (ask_first(n)) {                            /* nobody was before it, so it is the one */
		redis_failed(op->link->store);
		redis_near_leave(op);
		op->left--;
		op->get->bounded = true;
		return;
	}
	if (!uv_is_active((uv_handle_t *)&n->late))
		arm(n);
}

static void on_changed(struct redis_link *link, const char *why)
{
	struct redis_near *n = (struct redis_near *)(void *)link;
	struct store_link *l = link_of(n);

	if (!why) {
		n->lost = 0;
		redis_health_works(&l->store->health, REDIS_PART_NEAR_LINK);
		ask_next(n);
		return;
	}
	if (n->lost == 0 && n->asking)
		redis_failed(l->store);
	if (l->stopping) {
		while (n->first)
			end(n->first, false);
		return;
	}
	/* when the server is away the other link tells it; and one connection that was lost says nothing yet */
	if (redis_link_up(&l->redis) && n->lost++ > 0)
		redis_health_fails(&l->store->health, REDIS_PART_NEAR_LINK, why);
	while (n->first)
		end(n->first, true);
}

static void on_loaded(struct redis_link *link, const char *refusal)
{
	redis_on_loaded(link_of((struct redis_near *)(void *)link), refusal);
}

static void on_closed(struct redis_link *link)
{
	redis_handle_closed(link_of((struct redis_near *)(void *)link));
}

static void on_timer_closed(uv_handle_t *timer)
{
	redis_handle_closed(link_of(timer->data));
}

void redis_near_open(struct store_link *l, struct loop *loop)
{
	struct redis_near *n = &l->near;
	const struct redis *s = l->store;

	n->last = &n->first;
	n->link.url = &s->url;
	n->link.timeout_ms = s->timeout_ms;
	n->link.retry_ms = s->retry_ms;
	n->link.function = redis_function;
	n->link.changed = on_changed;
	n->link.loaded = on_loaded;
	n->link.closed = on_closed;
	l->open_handles += 2;
	uv_timer_init(&loop->uv, &n->late);
	n->late.data = n;
	uv_unref((uv_handle_t *)&n->late);
	redis_link_open(&n->link, loop);
}

void redis_near_close(struct store_link *l)
{
	struct redis_near *n = &l->near;

	redis_link_close(&n->link);
	n->first = n->asked = NULL;
	n->last = &n->first;
	uv_close((uv_handle_t *)&n->late, on_timer_closed);
}

void redis_near_again(struct store_link *l)
{
	struct redis_link *link = &l->near.link;

	if (redis_link_up(link) && !link->has_function && redis_health_asks(&l->store->health, REDIS_PART_NEAR)) {
		redis_link_reload(link);
		redis_link_reload(&l->redis);
	}
}
