/* server_clock.c - deadlines of connections. Every state has one duration, so the connections in it are due in the
 * order they entered it: a list per state and one timer for all, and a change of state costs a few pointers. */
#include "proxy/server_private.h"

#include <unistd.h>

enum { LINGER_MS = 1000, REST_MS = 100, STUCK_MS = 1000, STUCK_LOOK_MS = 20, WATCH_MS = 10, END_MS = 10 };

static int64_t duration(const struct server *s, enum conn_state state)
{
	switch (state) {
	case CONN_HEADERS: return s->o.header_timeout_ms;
	/* MHD does not say when a next head begins: the silence before it and the head itself have one deadline */
	case CONN_IDLE:    return s->o.idle_timeout_ms + s->o.header_timeout_ms;
	case CONN_BODY:
	case CONN_SENDING: return s->o.idle_timeout_ms;
	case CONN_BUSY:
	case CONN_STATES:  break;
	}
	return 0;
}

static void on_clock(uv_timer_t *timer);

static void due_by(struct server *s, int64_t at)
{
	if (s->clock_due && s->clock_due <= at)
		return;
	int64_t now = loop_now(s->o.loop);
	s->clock_due = at;
	uv_timer_start(&s->clock, on_clock, at > now ? (uint64_t)(at - now) : 0, 0);
}

/* Sets a moment not far off, unless it is set. */
static void soon(struct server *s, int64_t *at, int ms)
{
	if (*at)
		return;
	*at = loop_now(s->o.loop) + ms;
	due_by(s, *at);
}

static void list_remove(struct conn_list *list, struct conn *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		list->first = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		list->last = c->prev;
	c->next = c->prev = NULL;
}

void conn_unlink(struct conn *c)
{
	list_remove(&c->server->list[c->state], c);
}

void conn_link(struct conn *c, enum conn_state state)
{
	struct server *s = c->server;
	struct conn_list *list = &s->list[state];

	c->state = state;
	c->deadline = loop_now(s->o.loop) + duration(s, state);
	c->prev = list->last;
	if (list->last)
		list->last->next = c;
	else
		list->first = c;
	list->last = c;
	if (state != CONN_BUSY)
		due_by(s, c->deadline);
}

void conn_state(struct conn *c, enum conn_state state)
{
	if (c->state == state && state == CONN_BUSY)
		return;
	conn_unlink(c);
	conn_link(c, state);
}

/* Its time is over. A shut socket is what MHD, or our own watch, takes for a client that left. */
static void expire(struct conn *c)
{
	struct request_private *r = c->request;
	bool sending = c->state == CONN_SENDING;

	conn_state(c, CONN_BUSY);
	if (r && sending)
		request_gone(r, ERR_CLIENT_SLOW);
	shutdown(c->fd, SHUT_RDWR);
}

static void close_lingering(struct server *s)
{
	for (size_t i = 0; i < SERVER_LINGER; i++) {
		if (s->lingering[i])
			close(s->lingering[i]);
		s->lingering[i] = 0;
	}
	s->linger_until = 0;
}

static void enlist(struct conn **list, struct conn *c)
{
	c->watch_next = *list;
	c->watch_prev = list;
	if (c->watch_next)
		c->watch_next->watch_prev = &c->watch_next;
	*list = c;
}

/* Most requests sleep for one look into the store: watching their sockets would cost more than that. */
void server_clock_watch(struct conn *c)
{
	struct server *s = c->server;

	if (c->watch_prev || c->watched)
		return;
	enlist(&s->to_watch, c);
	soon(s, &s->watch_at, WATCH_MS);
}

void server_clock_forget(struct conn *c)
{
	if (!c->watch_prev)
		return;
	*c->watch_prev = c->watch_next;
	if (c->watch_next)
		c->watch_next->watch_prev = c->watch_prev;
	c->watch_prev = NULL;
}

/* By then whoever is parked gets his answer, or goes to sleep. */
void server_clock_park(struct server *s)
{
	soon(s, &s->park_until, PARK_MS);
}

static void end_parking(struct server *s)
{
	s->park_until = 0;
	for (unsigned i = 0; i < SERVER_DAEMONS; i++)
		if (s->parked[i]) {
			server_kick(s, i);
			server_clock_park(s);        /* who was parked after the clock was set has a while left */
		}
}

void server_watch_soon(struct conn *c)
{
	if (c->watched)
		return;
	server_clock_forget(c);
	enlist(&c->server->watch_soon, c);
}

void server_watch_now(struct server *s)
{
	while (s->watch_soon) {
		struct conn *c = s->watch_soon;
		const struct request_private *r = c->request;
		server_clock_forget(c);
		if (r && r->suspended && !r->gone && !c->watched)    /* else it is watched for room, since it was put on the list */
			conn_watch(c, 0);
	}
}

static void watch_sleepers(struct server *s)
{
	s->watch_at = 0;
	while (s->to_watch) {
		struct conn *c = s->to_watch;
		const struct request_private *r = c->request;
		server_clock_forget(c);
		if (r && (r->suspended || r->parked) && !r->queued && !r->gone)
			conn_watch(c, 0);
	}
}

void server_clock_end(struct server *s)
{
	soon(s, &s->end_at, END_MS);
}

/* Whose client has ended in the middle of a body is told of it until MHD has understood. */
static void hasten_ends(struct server *s)
{
	static const enum conn_state states[] = { CONN_BODY, CONN_BUSY };

	s->end_at = 0;
	for (size_t i = 0; i < sizeof states / sizeof *states; i++)
		for (struct conn *c = s->list[states[i]].first; c; c = c->next)
			if (c->ending && c->request && !c->request->whole && !c->request->gone) {
				shutdown(c->fd, SHUT_RD);
				server_clock_end(s);
			}
}

static void accept_again(struct server *s)
{
	s->resting = false;
	s->rest_until = 0;
	if (!s->draining)
		for (size_t i = 0; i < s->n_listeners; i++)
			uv_poll_start(&s->listener[i].poll, UV_READABLE, s->listener[i].poll.poll_cb);
}

static void on_clock(uv_timer_t *timer)
{
	struct server *s = timer->data;
	int64_t now = loop_now(s->o.loop);

	s->clock_due = 0;
	for (int state = CONN_BUSY + 1; state < CONN_STATES; state++)
		while (s->list[state].first && s->list[state].first->deadline <= now)
			expire(s->list[state].first);
	if (s->linger_until && s->linger_until <= now)
		close_lingering(s);
	if (s->resting && s->rest_until <= now)
		accept_again(s);
	if (s->watch_at && s->watch_at <= now)
		watch_sleepers(s);
	if (s->park_until && s->park_until <= now)
		end_parking(s);
	if (s->end_at && s->end_at <= now)
		hasten_ends(s);
	s->dirty |= s->stuck;
	s->stuck = 0;
	for (int state = CONN_BUSY + 1; state < CONN_STATES; state++)
		if (s->list[state].first)
			due_by(s, s->list[state].first->deadline);
	if (s->linger_until)
		due_by(s, s->linger_until);
	if (s->resting)
		due_by(s, s->rest_until);
	if (s->watch_at)
		due_by(s, s->watch_at);
	if (s->park_until)
		due_by(s, s->park_until);
	if (s->end_at)
		due_by(s, s->end_at);
	server_turn(s);
}

void server_clock_init(struct server *s)
{
	uv_timer_init(&s->o.loop->uv, &s->clock);
	s->clock.data = s;
}

void server_clock_fini(struct server *s, uv_close_cb closed)
{
	uv_close((uv_handle_t *)&s->clock, closed);
}

void server_clock_linger(struct server *s)
{
	s->linger_until = loop_now(s->o.loop) + LINGER_MS;
	due_by(s, s->linger_until);
}

void server_clock_unstick(struct server *s, unsigned daemon)
{
	int64_t now = loop_now(s->o.loop), begun = now + s->o.idle_timeout_ms - STUCK_MS;

	s->stuck |= 1u << daemon;
	due_by(s, now + STUCK_LOOK_MS);
	for (struct conn *c = s->list[CONN_BODY].first; c; c = c->next)
		if (c->daemon == daemon && c->deadline <= begun)
			MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
}

void server_clock_rest(struct server *s)
{
	s->resting = true;
	s->rest_until = loop_now(s->o.loop) + REST_MS;
	for (size_t i = 0; i < s->n_listeners; i++)
		uv_poll_stop(&s->listener[i].poll);
	due_by(s, s->rest_until);
}

void server_clock_close_idle(struct server *s)
{
	for (int state = CONN_HEADERS; state <= CONN_IDLE; state++)
		for (struct conn *c = s->list[state].first; c; c = c->next)
			shutdown(c->fd, SHUT_RDWR);
}

void server_clock_abort_all(struct server *s)
{
	for (int state = 0; state < CONN_STATES; state++)
		for (struct conn *c = s->list[state].first; c; c = c->next) {
			if (c->request)
				request_gone(c->request, ERR_DRAINING);
			shutdown(c->fd, SHUT_RDWR);
		}
}

