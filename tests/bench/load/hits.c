/* hits.c - closed loop: each connection asks, waits for the whole answer, asks again.
 *
 * `bodies` questions are asked once to warm the cache and until none of them reaches the upstream any more; then
 * `conns` connections ask them in turn for `seconds`. A hit that went upstream after that is counted and told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/load/ask.h"
#include "tests/bench/load/board.h"
#include "tests/bench/load/client.h"
#include "tests/bench/load/commands.h"
#include "tests/bench/load/proc.h"
#include "tests/bench/load/stats.h"

enum { WARM_TRIES = 40, SETTLE_MS = 50 };

struct asker {
	struct client c;
	char own[ASK_BYTES];
};

static struct samples latency;
static int64_t answers, broken, bytes;
static int stop, measuring, warm_left;
static uint64_t turn;
static struct ask_spec *specs;
static char (*asks)[ASK_BYTES];
static size_t *lens;
static const struct options *opt;

static void ask_next(struct asker *a)
{
	size_t i = turn++ % (size_t)opt->bodies;

	if (specs[i].shape == ASK_SAME) {
		client_ask(&a->c, asks[i], lens[i]);
		return;
	}
	specs[i].turn = 1 + turn / (size_t)opt->bodies;
	client_ask(&a->c, a->own, ask_write(a->own, &specs[i]));
}

static void on_body(struct client *c, const char *at, size_t len)
{
	(void)c, (void)at;
	bytes += (int64_t)len;
}

static void on_done(struct client *c, enum client_end how)
{
	if (how == CLIENT_BROKEN || c->status != 200)
		broken++;
	else
		answers++;
	if (measuring)
		samples_add(&latency, now_ns() - c->asked_at);
	if (stop)
		return;
	if (broken > 100)
		die("%s: too many broken answers, last status %d", opt->target, c->status);
	ask_next(container(c, struct asker, c));
}

static void warm_done(struct client *c, enum client_end how)
{
	if (how == CLIENT_BROKEN || c->status != 200)
		die("%s: warming: %s, status %d", opt->target, how == CLIENT_BROKEN ? "broken" : "whole", c->status);
	if (!--warm_left)
		stop = 1;
	else
		client_ask(c, asks[warm_left - 1], lens[warm_left - 1]);
}

static void pause_ms(int ms)
{
	static const int never;

	net_run(&never, now_ns() + ms * 1000000LL);
}

static void warm(struct board *b)
{
	static struct client c = { .on_done = warm_done };
	int64_t before = -1;

	c.target = opt->target;
	for (int i = 0; before != b->asked; i++) {
		if (i == WARM_TRIES)
			die("%s: the same questions still reach the upstream: nothing is cached", opt->target);
		if (i)
			pause_ms(SETTLE_MS);
		before = b->asked;
		stop = 0;
		warm_left = opt->bodies;
		client_ask(&c, asks[warm_left - 1], lens[warm_left - 1]);
		net_run(&stop, now_ns() + 60000000000LL);
		if (!stop)
			die("%s: no answer while warming", opt->target);
		if (!strcmp(opt->shape, "uncached"))
			break;
	}
	client_close(&c, 0);
	stop = 0;
}

int command_hits(const struct options *o)
{
	struct board *b = board_open(o->board);
	uint32_t id = ask_fresh_ids((uint32_t)o->bodies);
	struct asker *askers = calloc((size_t)o->conns, sizeof *askers);

	opt = o;
	specs = calloc((size_t)o->bodies, sizeof *specs);
	asks = calloc((size_t)o->bodies, sizeof *asks);
	lens = calloc((size_t)o->bodies, sizeof *lens);
	if (!askers || !specs || !asks || !lens)
		die("out of memory");
	for (int i = 0; i < o->bodies; i++) {
		specs[i] = (struct ask_spec){ .host = o->target, .path = "/api/chat", .extra = "", .id = id + (uint32_t)i,
			.stream = o->stream, .chunks = o->chunks, .size = o->size };
		lens[i] = ask_write(asks[i], &specs[i]);
	}
	warm(b);
	for (int i = 0; i < o->bodies; i++)
		specs[i].shape = !strcmp(o->shape, "respaced") ? ASK_RESPACED :
				 !strcmp(o->shape, "reordered") ? ASK_REORDERED : ASK_SAME;
	for (int i = 0; i < o->conns; i++) {
		askers[i].c.target = o->target;
		askers[i].c.on_done = on_done;
		askers[i].c.on_body = on_body;
		ask_next(&askers[i]);
	}
	pause_ms((int)(o->seconds * 250));      /* connections open and caches warm before the clock starts */

	struct family f = family_of(o->pid);
	int64_t cpu = family_cpu_ns(&f), t0 = now_ns(), asked = b->asked, before = answers, sent = bytes;
	measuring = 1;
	net_run(&stop, t0 + (int64_t)(o->seconds * 1e9));
	measuring = 0;
	double n = (double)(answers - before), s = (double)(now_ns() - t0) / 1e9;
	cpu = family_cpu_ns(&f) - cpu;
	say("rps", n / s);
	say("p50_us", samples_part(&latency, 0.5) / 1e3);
	say("p99_us", samples_part(&latency, 0.99) / 1e3);
	say("p999_us", samples_part(&latency, 0.999) / 1e3);
	say("cpu_us", n > 0 ? (double)cpu / 1e3 / n : 0);
	say("busy", (double)cpu / 1e9 / s);
	say("body_bytes", n > 0 ? (double)(bytes - sent) / n : 0);
	say("upstream", (double)(b->asked - asked));
	say("broken", (double)broken);
	free(askers);
	free(specs);
	free(asks);
	free(lens);
	samples_free(&latency);
	return 0;
}
