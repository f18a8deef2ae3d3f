/* ttfb.c - time to the first byte of an answer's body on questions never asked before, one at a time, and the
 * time from a client's leaving to the upstream's noticing. Both need the other side to be quiet. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/load/ask.h"
#include "tests/bench/load/board.h"
#include "tests/bench/load/client.h"
#include "tests/bench/load/commands.h"
#include "tests/bench/load/stats.h"

enum { PAUSE_US = 2000, WARM_ASKS = 5, GIVE_UP_S = 20, GONE_S = 2 };

static int flag;
static const struct options *opt;

static void on_done(struct client *c, enum client_end how)
{
	if (how == CLIENT_BROKEN || c->status != 200)
		die("%s: an answer %s, status %d", opt->target, how == CLIENT_BROKEN ? "broke" : "came", c->status);
	flag = 1;
}

static void wait_flag(const char *what)
{
	net_run(&flag, now_ns() + GIVE_UP_S * 1000000000LL);
	if (!flag)
		die("%s: %s did not come", opt->target, what);
	flag = 0;
}

static void pause_us(int us)
{
	static const int never;

	net_run(&never, now_ns() + us * 1000LL);
}

int command_ttfb(const struct options *o)
{
	struct ask_spec s = { .host = o->target, .path = "/api/chat", .extra = "", .stream = 1,
		.chunks = o->chunks, .gap = o->gap };
	struct client c = { .target = o->target, .on_done = on_done };
	struct samples first = { 0 };
	char ask[ASK_BYTES];

	opt = o;
	for (int64_t i = -WARM_ASKS; i < o->count; i++) {
		s.id = ask_fresh_ids(1);
		client_ask(&c, ask, ask_write(ask, &s));
		wait_flag("an answer");
		if (i >= 0)
			samples_add(&first, c.first_at - c.asked_at);
		pause_us(PAUSE_US);
	}
	say("ttfb_us", samples_part(&first, 0.5) / 1e3);
	say("ttfb_p90_us", samples_part(&first, 0.9) / 1e3);
	samples_free(&first);
	return 0;
}

static void first_piece(struct client *c, const char *at, size_t len)
{
	(void)c, (void)at, (void)len;
	flag = 1;
}

static void ended_early(struct client *c, enum client_end how)
{
	(void)how;
	die("%s: a stream that was to wait ended, status %d", opt->target, c->status);
}

int command_cancel(const struct options *o)
{
	struct board *b = board_open(o->board);
	struct ask_spec s = { .host = o->target, .path = "/api/chat", .extra = "", .stream = 1, .chunks = 3,
		.gap = 60000000 };
	struct samples gone = { 0 };
	int64_t missed = 0;
	char ask[ASK_BYTES];

	opt = o;
	for (int64_t i = 0; i < o->count; i++) {
		struct client c = { .target = o->target, .on_body = first_piece, .on_done = ended_early };
		s.id = ask_fresh_ids(1);
		_Atomic int64_t *slot = &b->gone[s.id % GONE_SLOTS];
		*slot = 0;
		client_ask(&c, ask, ask_write(ask, &s));
		wait_flag("a first piece");
		pause_us(PAUSE_US);             /* nothing flows now */
		int64_t left = now_ns();
		client_close(&c, (int)(i & 1)); /* every other one by RST */
		while (!*slot && now_ns() < left + GONE_S * 1000000000LL)
			pause_us(200);
		if (*slot)
			samples_add(&gone, *slot - left);
		else
			missed++;
	}
	say("cancel_us", samples_part(&gone, 0.5) / 1e3);
	say("cancel_p99_us", samples_part(&gone, 0.99) / 1e3);
	say("missed", (double)missed);
	samples_free(&gone);
	return 0;
}
