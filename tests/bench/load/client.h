/* client.h - one HTTP/1.1 connection of the load generator.
 *
 * Ownership  the caller owns the struct and the request's bytes, which must stay until on_done().
 * Threads    one. Callbacks come from net_turn(); in on_done() the next request may be sent.
 * Limits     HEAD_MAX bytes of headers: more is a broken answer. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "tests/bench/load/net.h"

enum { HEAD_MAX = 4096 };
enum client_end { CLIENT_WHOLE, CLIENT_BROKEN };

struct client {
	struct watch w;
	const char *target;
	const char *ask;
	size_t ask_len, ask_at;
	int64_t asked_at, first_at;             /* ns: when the request was written, when the first body byte came */
	int state, status, keep, deaf;          /* deaf: never read (a stalled client) */
	int64_t left;
	size_t head_len;
	char head[HEAD_MAX + 1];
	void (*on_body)(struct client *c, const char *bytes, size_t len);       /* may be NULL */
	void (*on_done)(struct client *c, enum client_end how);
};

/* Connect if it is not connected, and send. */
void client_ask(struct client *c, const char *ask, size_t len);
/* The value of a header of the last answer ("" if it has none), up to room - 1 bytes. */
void client_header(const struct client *c, const char *name, char *to, size_t room);
/* reset: leave by RST instead of FIN. */
void client_close(struct client *c, int reset);

#endif
