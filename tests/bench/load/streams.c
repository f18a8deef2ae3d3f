/* streams.c - many slow streams at once, and what a connection costs that only waits.
 *
 * A stream is whole if its framing ended cleanly, its last line has done:true, and every piece in it is its own
 * ("#ID.SEQ@STAMP "), in order, none missing. The upstream stamps each piece as it writes it; what has passed when
 * the piece is read here is the chunk's delay (the same clock on both ends). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/load/ask.h"
#include "tests/bench/load/board.h"
#include "tests/bench/load/client.h"
#include "tests/bench/load/commands.h"
#include "tests/bench/load/proc.h"
#include "tests/bench/load/stats.h"

enum { LINE_BYTES = 1024, WARM_STREAMS = 16, QUIET_MS = 500 };

struct stream {
	struct client c;
	struct timer start;
	char ask[ASK_BYTES], line[LINE_BYTES];
	size_t line_len;
	uint32_t id;
	int64_t seq;
	int done_seen, foreign;
};

static const struct options *opt;
static struct samples delay;
static int64_t pieces, whole, broken, foreign, not_done;
static int64_t left, bad_status;
static int measuring, all_over, open_now;

static void read_line(struct stream *s)
{
	const char *at = memchr(s->line, '#', s->line_len);
	unsigned id;
	long long seq, stamp;

	s->line[s->line_len] = 0;
	if (strstr(s->line, "\"done\":true"))
		s->done_seen = 1;
	if (!at)
		return;
	if (sscanf(at, "#%u.%lld@%lld ", &id, &seq, &stamp) != 3 || id != s->id || seq != s->seq) {
		s->foreign = 1;
		return;
	}
	s->seq++;
	if (measuring) {
		pieces++;
		samples_add(&delay, now_ns() - stamp);
	}
}

static void on_body(struct client *c, const char *at, size_t len)
{
	struct stream *s = container(c, struct stream, c);

	for (size_t i = 0; i < len; i++) {
		if (at[i] == '\n') {
			read_line(s);
			s->line_len = 0;
		} else if (s->line_len < LINE_BYTES - 1) {
			s->line[s->line_len++] = at[i];
		}
	}
}

static void on_done(struct client *c, enum client_end how)
{
	struct stream *s = container(c, struct stream, c);

	open_now--;
	foreign += s->foreign;
	not_done += !s->done_seen || s->seq != opt->chunks;
	bad_status += c->status != 200;
	if (how == CLIENT_WHOLE && c->status == 200 && s->done_seen && !s->foreign && s->seq == opt->chunks)
		whole++;
	else
		broken++;
	if (!--left)
		all_over = 1;
}

static void on_start(struct timer *t)
{
	struct stream *s = container(t, struct stream, start);

	open_now++;
	client_ask(&s->c, s->ask, strlen(s->ask));
}

static void prepare(struct stream *s, int64_t gap)
{
	struct ask_spec spec = { .host = opt->target, .path = "/api/chat", .extra = "", .stream = 1,
		.chunks = opt->chunks, .gap = gap };

	*s = (struct stream){ .id = ask_fresh_ids(1) };
	s->c.target = opt->target;
	s->c.on_body = on_body;
	s->c.on_done = on_done;
	s->start.on = on_start;
	spec.id = s->id;
	ask_write(s->ask, &spec);
}

static void pause_ms(int64_t ms)
{
	static const int never;

	net_run(&never, now_ns() + ms * 1000000);
}

int command_streams(const struct options *o)
{
	int64_t n = o->count;
	struct stream *s = calloc((size_t)n, sizeof *s);
	struct family f = family_of(o->pid);

	opt = o;
	if (!s)
		die("out of memory");
	for (int i = 0; i < WARM_STREAMS && i < n; i++) {       /* what is allocated once is not a stream's */
		prepare(&s[i], 0);
		left++;
		on_start(&s[i].start);
	}
	net_run(&all_over, now_ns() + 20000000000LL);
	if (broken || left)
		die("%s: warming: %lld of %d streams broken", opt->target, (long long)(broken + left), WARM_STREAMS);
	for (int i = 0; i < WARM_STREAMS && i < n; i++)
		client_close(&s[i].c, 0);
	pause_ms(QUIET_MS);
	all_over = whole = 0;
	double pss = family_pss(&f), peak;
	/* All are open from ramp to the end of the first: the window lies between. */
	int64_t ramp = n * 1000000, t0 = now_ns(), life = o->chunks * o->gap * 1000;
	if (ramp > life / 2)
		ramp = life / 2;
	for (int64_t i = 0; i < n; i++) {
		prepare(&s[i], o->gap);
		left++;
		timer_set(&s[i].start, t0 + ramp * i / n);
	}
	net_run(&all_over, t0 + ramp + o->gap * 1000);
	int64_t cpu = family_cpu_ns(&f), w0 = now_ns();
	int open_at = open_now;
	measuring = 1;
	net_run(&all_over, t0 + life - o->gap * 500);
	measuring = 0;
	double seconds = (double)(now_ns() - w0) / 1e9;
	cpu = family_cpu_ns(&f) - cpu;
	peak = family_pss(&f);
	net_run(&all_over, now_ns() + life * 3 + 20000000000LL);
	broken += left;
	say("streams", (double)n);
	say("open", open_at);
	say("whole", (double)whole);
	say("broken", (double)broken);
	say("foreign", (double)foreign);
	say("unfinished", (double)not_done);
	say("bad_status", (double)bad_status);
	say("kib_per_stream", (peak - pss) / (double)n);
	say("chunks_per_s", (double)pieces / seconds);
	say("cpu_us_per_chunk", pieces ? (double)cpu / 1e3 / (double)pieces : 0);
	say("delay_us", samples_part(&delay, 0.5) / 1e3);
	say("delay_p99_us", samples_part(&delay, 0.99) / 1e3);
	samples_free(&delay);
	free(s);
	return 0;
}

static void idle_done(struct client *c, enum client_end how)
{
	if (how == CLIENT_BROKEN || c->status != 200)
		broken++;
	if (!--left)
		all_over = 1;
}

static void idle_start(struct timer *t)
{
	struct stream *s = container(t, struct stream, start);

	client_ask(&s->c, s->ask, strlen(s->ask));
}

int command_idle(const struct options *o)
{
	int64_t n = o->count, still = 0;
	struct stream *s = calloc((size_t)n, sizeof *s);
	struct family f = family_of(o->pid);
	uint32_t id = ask_fresh_ids(1);
	double pss = 0;

	opt = o;
	if (!s)
		die("out of memory");
	for (int64_t i = -1; i < n; i++) {      /* -1: a first one for what is allocated once */
		struct stream *one = &s[i < 0 ? 0 : i];
		struct ask_spec spec = { .host = o->target, .path = "/api/chat", .extra = "", .id = id, .chunks = o->chunks };
		one->c.target = o->target;
		one->c.on_done = idle_done;
		one->start.on = idle_start;
		ask_write(one->ask, &spec);
		left++;
		if (i >= 0) {
			timer_set(&one->start, now_ns() + i * 200000);
			continue;
		}
		idle_start(&one->start);
		net_run(&all_over, now_ns() + 20000000000LL);
		client_close(&one->c, 0);
		pause_ms(QUIET_MS);
		all_over = 0;
		pss = family_pss(&f);
	}
	net_run(&all_over, now_ns() + n * 1000000 + 20000000000LL);
	pause_ms(QUIET_MS);
	for (int64_t i = 0; i < n; i++)
		still += s[i].c.w.fd > 0;
	say("kib_per_idle", still ? (family_pss(&f) - pss) / (double)still : 0);
	say("open", (double)still);
	say("broken", (double)(broken + left));
	free(s);
	return 0;
}

/* Clients that ask for `chunks` lines at full speed and never read one. */
int command_stalled(const struct options *o)
{
	struct board *b = board_open(o->board);
	struct stream *s = calloc((size_t)o->count, sizeof *s);
	struct family f = family_of(o->pid);
	int64_t written, base, t0;

	/* a first short one for what is allocated once: what a long one leaves behind would hide the others */
	struct options first = *o;
	first.chunks = 16;
	opt = &first;
	if (!s)
		die("out of memory");
	prepare(s, 0);
	left = 1;
	on_start(&s->start);
	net_run(&all_over, now_ns() + 60000000000LL);
	client_close(&s->c, 0);
	pause_ms(QUIET_MS);
	double pss = family_pss(&f);
	base = b->written;
	for (int64_t i = 0; i < o->count; i++) {
		struct ask_spec spec = { .host = o->target, .path = strcmp(o->shape, "pass") ? "/api/chat" : "/api/pull",
			.extra = "", .stream = 1, .id = ask_fresh_ids(1), .chunks = o->chunks, .size = o->size };
		memset(&s[i].c, 0, sizeof s[i].c);
		s[i].c.target = o->target;
		s[i].c.deaf = 1;
		ask_write(s[i].ask, &spec);
		client_ask(&s[i].c, s[i].ask, strlen(s[i].ask));
	}
	t0 = now_ns();
	do {
		written = b->written;
		pause_ms(QUIET_MS);
	} while (written != b->written && now_ns() - t0 < 60000000000LL);
	say("kib_per_stalled", (family_pss(&f) - pss) / (double)o->count);
	say("upstream_kib", (double)(b->written - base) / 1024.0 / (double)o->count);
	say("still_asked", (double)b->open);
	free(s);
	return 0;
}
