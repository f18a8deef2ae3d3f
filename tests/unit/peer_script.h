/* peer_script.h - stands in for proxy/peer.c: connections that do what a test has written down for them, and keep a record
 * of what was done with them. No sockets, no loop: script_turn() is the loop's turn, the clock is loop.uv.time.
 *
 * The nth connection that is taken or dialled is peer[n], to be filled in after script_reset() and before it begins. What
 * proxy/peer.h does not allow (a connection touched before it is made or after it was given back) is told in `wrong`. */
#ifndef TESTS_PEER_SCRIPT_H
#define TESTS_PEER_SCRIPT_H

#include <errno.h>
#include <stdlib.h>

#include "proxy/hop.h"
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
	struct peers *peers;
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

static inline void script_reset(struct peers *peers)
{
	for (size_t i = 0; i < SCRIPT_PEERS; i++) {
		free(peers->peer[i].memory);
		memset(&peers->peer[i], 0, offsetof(struct peer, written));
		peers->peer[i].room = SIZE_MAX;
		peers->peer[i].refusal = EAGAIN;
	}
	memset(peers, 0, offsetof(struct peers, peer));
	peers->loop.uv.time = 1000;
}

static inline bool script_allows(struct peers *peers, bool allowed, const char *what)
{
	if (!allowed && !peers->wrong)
		peers->wrong = what;
	return allowed;
}

/* ---- the stand-ins ---- */

const char *peers_authority(const struct peers *peers, int host)
{
	(void)peers;
	return host == 0 ? "up.example:11434" : "other.example";
}

const char *peers_base(const struct peers *peers, int host)
{
	(void)peers;
	return host == 0 ? "" : "/base";
}

const char *hop_mark(void)
{
	return "0011223344556677";
}

static inline struct peer *script_lend(struct peers *peers, struct peer_user *user)
{
	if (!script_allows(peers, !peers->lent, "two connections at once") ||
	    !script_allows(peers, peers->n < SCRIPT_PEERS, "too many connections"))
		return NULL;
	struct peer *peer = &peers->peer[peers->n++];
	peer->peers = peers;
	peer->user = user;
	peers->lent = peer;
	return peer;
}

struct peer *peer_take(struct peers *peers, int host, struct peer_user *user)
{
	(void)host;
	if (!peers->idle)
		return NULL;
	struct peer *peer = script_lend(peers, user);
	if (peer) {
		peers->idle--;
		peers->taken++;
		peer->told = peer->made = true;
	}
	return peer;
}

struct peer *peer_dial(struct peers *peers, int host, int64_t ms, struct peer_user *user)
{
	void *memory = peers->no_dial ? NULL : malloc(1);

	(void)host;
	if (!memory)
		return NULL;
	struct peer *peer = script_lend(peers, user);
	if (!peer) {
		free(memory);
		return NULL;
	}
	peer->memory = memory;
	peers->dialled++;
	peers->dial_ms = ms;
	return peer;
}

static inline bool script_is_lent(struct peer *peer)
{
	return script_allows(peer->peers, peer->user && peer->peers->lent == peer, "a connection that was given back was touched");
}

static inline bool script_is_open(struct peer *peer)
{
	return script_is_lent(peer) && script_allows(peer->peers, peer->made, "a connection that is not made was touched");
}

static inline void script_give_back(struct peer *peer)
{
	peer->user = NULL;
	peer->watched = 0;
	peer->peers->lent = NULL;
	free(peer->memory);
	peer->memory = NULL;
}

void peer_keep(struct peer *peer)
{
	if (!script_is_open(peer))
		return;
	peer->kept = true;
	peer->peers->kept++;
	script_give_back(peer);
}

void peer_close(struct peer *peer)
{
	if (!script_is_lent(peer))
		return;
	peer->closed = true;
	peer->peers->closed++;
	script_give_back(peer);
}

void peer_watch(struct peer *peer, int events)
{
	if (script_is_open(peer))
		peer->watched = events;
}

static inline bool script_readable(const struct peer *peer)
{
	return peer->n_written >= peer->waits && (peer->reply_at < peer->reply.len || peer->then != SCRIPT_STAYS);
}

ssize_t peer_read(struct peer *peer, char *to, size_t max)
{
	errno = EAGAIN;
	if (!script_is_open(peer) || !script_readable(peer))
		return -1;
	if (peer->reply_at == peer->reply.len) {
		errno = peer->then;
		return peer->then == SCRIPT_EOF ? 0 : -1;
	}
	if (peer->piece_left == 0) {
		peer->piece_left = peer->n_pieces ? peer->piece[peer->piece_at++ % peer->n_pieces] : SIZE_MAX;
		if (peer->piece_left == 0)
			return -1;
	}
	size_t n = peer->reply.len - peer->reply_at;
	n = n < max ? n : max;
	n = n < peer->piece_left ? n : peer->piece_left;
	memcpy(to, peer->reply.at + peer->reply_at, n);
	peer->reply_at += n;
	peer->piece_left -= n;
	return (ssize_t)n;
}

ssize_t peer_write(struct peer *peer, const struct iovec *parts, size_t n)
{
	size_t most = peer->take ? peer->take : SIZE_MAX, sum = 0;

	errno = EAGAIN;
	if (!script_is_open(peer))
		return -1;
	peer->refused = peer->stutters && !peer->refused;
	if (peer->refused)
		return -1;
	if (peer->n_written >= peer->room) {
		errno = peer->refusal;
		return -1;
	}
	most = most < peer->room - peer->n_written ? most : peer->room - peer->n_written;
	for (size_t i = 0; i < n && most; i++) {
		size_t len = parts[i].iov_len < most ? parts[i].iov_len : most;
		script_allows(peer->peers, parts[i].iov_len, "an empty part was written");
		if (!script_allows(peer->peers, len <= SCRIPT_WRITTEN - peer->n_written, "too much was written"))
			return -1;
		memcpy(peer->written + peer->n_written, parts[i].iov_base, len);
		peer->n_written += len;
		sum += len;
		most -= len;
	}
	script_allows(peer->peers, sum, "nothing was written");
	return (ssize_t)sum;
}

/* ---- the loop ---- */

static inline struct slice script_written(const struct peers *peers, size_t i)
{
	return slice_of(peers->peer[i].written, peers->peer[i].n_written);
}

/* One event of the connection that is lent; false: there is none. */
static inline bool script_turn(struct peers *peers)
{
	struct peer *peer = peers->lent;

	if (!peer)
		return false;
	if (!peer->told) {
		peer->told = true;
		peer->made = !peer->open;
		peer->user->on_open(peer->user, peer->open);
		script_allows(peers, peer->made || peer->closed, "a connection that failed was not closed");
		return true;
	}
	int ready = (script_readable(peer) ? PEER_READ : 0) | (peer->refusal != EAGAIN || peer->n_written < peer->room ? PEER_WRITE : 0);
	if (!(ready & peer->watched))
		return false;
	peer->user->on_ready(peer->user, ready & peer->watched);
	return true;
}

/* Until nothing more happens. */
static inline void script_run(struct peers *peers)
{
	for (int n = 0; script_turn(peers); n++)
		if (!script_allows(peers, n < SCRIPT_TURNS, "it turns without end"))
			return;
}

#endif
