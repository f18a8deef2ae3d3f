/* peer_script.h - stands in for proxy/peer.c: connections that do what a test has written down for them, and keep a record
 * of what was done with them. No sockets, no loop: script_turn() is the loop's turn, the clock is loop.uv.time.
 *
 * The nth connection that is taken or dialled is peer[n], to be filled in after script_reset() and before it begins. What
 * proxy/peer.h does not allow (a connection touched before it is made or after it was given back) is told in `wrong`. */
#ifndef TESTS_PEER_SCRIPT_H
#define TESTS_PEER_SCRIPT_H

#include <errno.h>
#include <stdlib.h>

#include "proxy/peer.h"

enum { SCRIPT_PEERS = 4, SCRIPT_PIECES = 256, SCRIPT_WRITTEN = 256 << 10, SCRIPT_TURNS = 1 << 20 };
enum { SCRIPT_STAYS = 0, SCRIPT_EOF = -1 };    /* what follows a reply; or an errno */

struct peer {
	/* what it does */
	struct slice reply;
	size_t piece[SCRIPT_PIECES], n_pieces; /* the reply comes in pieces of these lengths, over and over; 0: there was none
	                                          after all; no pieces: as much as is asked for */
	size_t waits;                          /* it comes when so much was written */
	int then;
	size_t take;                           /* the most one write takes; 0: all */
	size_t room;                           /* what is taken in all, then: */
	int refusal;                           /* EAGAIN, EPIPE, … */
	bool stutters;                         /* every other write is refused with EAGAIN */
	enum err open;                         /* what on_open() is told */
	/* what was done with it */
	struct peers *cs;
	struct peer_user *user;                /* NULL: not lent */
	bool told, made, kept, closed, refused;
	int watched;
	size_t reply_at, piece_at, piece_left;
	void *memory;                          /* what one that was dialled takes */
	size_t n_written;
	char written[SCRIPT_WRITTEN];          /* last: it is not cleared */
};

struct peers {
	struct loop loop;
	size_t idle;                           /* so many unused ones are there to take */
	bool no_dial;                          /* there is no memory for another */
	size_t n, taken, dialled, kept, closed;
	int64_t dial_ms;
	struct peer *lent;
	const char *wrong;                     /* the first thing that should not have been done; NULL: nothing */
	struct peer peer[SCRIPT_PEERS];        /* last */
};

static inline void script_reset(struct peers *cs)
{
	for (size_t i = 0; i < SCRIPT_PEERS; i++) {
		free(cs->peer[i].memory);
		memset(&cs->peer[i], 0, offsetof(struct peer, written));
		cs->peer[i].room = SIZE_MAX;
		cs->peer[i].refusal = EAGAIN;
	}
	memset(cs, 0, offsetof(struct peers, peer));
	cs->loop.uv.time = 1000;
}

static inline bool script_allows(struct peers *cs, bool allowed, const char *what)
{
	if (!allowed && !cs->wrong)
		cs->wrong = what;
	return allowed;
}

/* ---- the stand-ins ---- */

const char *peers_authority(const struct peers *cs, int host)
{
	(void)cs;
	return host == 0 ? "up.example:11434" : "other.example";
}

static inline struct peer *script_lend(struct peers *cs, struct peer_user *user)
{
	if (!script_allows(cs, !cs->lent, "two connections at once") || !script_allows(cs, cs->n < SCRIPT_PEERS, "too many connections"))
		return NULL;
	struct peer *c = &cs->peer[cs->n++];
	c->cs = cs;
	c->user = user;
	cs->lent = c;
	return c;
}

struct peer *peer_take(struct peers *cs, int host, struct peer_user *user)
{
	(void)host;
	if (!cs->idle)
		return NULL;
	struct peer *c = script_lend(cs, user);
	if (c) {
		cs->idle--;
		cs->taken++;
		c->told = c->made = true;
	}
	return c;
}

struct peer *peer_dial(struct peers *cs, int host, int64_t ms, struct peer_user *user)
{
	void *memory = cs->no_dial ? NULL : malloc(1);

	(void)host;
	if (!memory)
		return NULL;
	struct peer *c = script_lend(cs, user);
	if (!c) {
		free(memory);
		return NULL;
	}
	c->memory = memory;
	cs->dialled++;
	cs->dial_ms = ms;
	return c;
}

static inline bool script_is_lent(struct peer *c)
{
	return script_allows(c->cs, c->user && c->cs->lent == c, "a connection that was given back was touched");
}

static inline bool script_is_open(struct peer *c)
{
	return script_is_lent(c) && script_allows(c->cs, c->made, "a connection that is not made was touched");
}

static inline void script_give_back(struct peer *c)
{
	c->user = NULL;
	c->watched = 0;
	c->cs->lent = NULL;
	free(c->memory);
	c->memory = NULL;
}

void peer_keep(struct peer *c)
{
	if (!script_is_open(c))
		return;
	c->kept = true;
	c->cs->kept++;
	script_give_back(c);
}

void peer_close(struct peer *c)
{
	if (!script_is_lent(c))
		return;
	c->closed = true;
	c->cs->closed++;
	script_give_back(c);
}

void peer_watch(struct peer *c, int events)
{
	if (script_is_open(c))
		c->watched = events;
}

static inline bool script_readable(const struct peer *c)
{
	return c->n_written >= c->waits && (c->reply_at < c->reply.len || c->then != SCRIPT_STAYS);
}

ssize_t peer_read(struct peer *c, char *to, size_t max)
{
	errno = EAGAIN;
	if (!script_is_open(c) || !script_readable(c))
		return -1;
	if (c->reply_at == c->reply.len) {
		errno = c->then;
		return c->then == SCRIPT_EOF ? 0 : -1;
	}
	if (c->piece_left == 0) {
		c->piece_left = c->n_pieces ? c->piece[c->piece_at++ % c->n_pieces] : SIZE_MAX;
		if (c->piece_left == 0)
			return -1;
	}
	size_t n = c->reply.len - c->reply_at;
	n = n < max ? n : max;
	n = n < c->piece_left ? n : c->piece_left;
	memcpy(to, c->reply.at + c->reply_at, n);
	c->reply_at += n;
	c->piece_left -= n;
	return (ssize_t)n;
}

ssize_t peer_write(struct peer *c, const struct iovec *parts, size_t n)
{
	size_t most = c->take ? c->take : SIZE_MAX, sum = 0;

	errno = EAGAIN;
	if (!script_is_open(c))
		return -1;
	c->refused = c->stutters && !c->refused;
	if (c->refused)
		return -1;
	if (c->n_written >= c->room) {
		errno = c->refusal;
		return -1;
	}
	most = most < c->room - c->n_written ? most : c->room - c->n_written;
	for (size_t i = 0; i < n && most; i++) {
		size_t len = parts[i].iov_len < most ? parts[i].iov_len : most;
		script_allows(c->cs, parts[i].iov_len, "an empty part was written");
		if (!script_allows(c->cs, len <= SCRIPT_WRITTEN - c->n_written, "too much was written"))
			return -1;
		memcpy(c->written + c->n_written, parts[i].iov_base, len);
		c->n_written += len;
		sum += len;
		most -= len;
	}
	script_allows(c->cs, sum, "nothing was written");
	return (ssize_t)sum;
}

/* ---- the loop ---- */

static inline struct slice script_written(const struct peers *cs, size_t i)
{
	return slice_of(cs->peer[i].written, cs->peer[i].n_written);
}

/* One event of the connection that is lent; false: there is none. */
static inline bool script_turn(struct peers *cs)
{
	struct peer *c = cs->lent;

	if (!c)
		return false;
	if (!c->told) {
		c->told = true;
		c->made = !c->open;
		c->user->on_open(c->user, c->open);
		script_allows(cs, c->made || c->closed, "a connection that failed was not closed");
		return true;
	}
	int ready = (script_readable(c) ? PEER_READ : 0) | (c->refusal != EAGAIN || c->n_written < c->room ? PEER_WRITE : 0);
	if (!(ready & c->watched))
		return false;
	c->user->on_ready(c->user, ready & c->watched);
	return true;
}

/* Until nothing more happens. */
static inline void script_run(struct peers *cs)
{
	for (int n = 0; script_turn(cs); n++)
		if (!script_allows(cs, n < SCRIPT_TURNS, "it turns without end"))
			return;
}

#endif
