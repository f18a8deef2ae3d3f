/* more.c - complex requests against plain ones, semantic hits, filling a cache, starting with a full one. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/load/ask.h"
#include "tests/bench/load/board.h"
#include "tests/bench/load/client.h"
#include "tests/bench/load/commands.h"
#include "tests/bench/load/stats.h"

enum { READY_S = 120, POLL_US = 500 };

static const struct options *opt;
static int flag;
static enum client_end ended;

static void on_done(struct client *c, enum client_end how)
{
	(void)c;
	ended = how;
	flag = 1;
}

/* Ask and wait for the whole answer; returns the time it took, ns. Dies unless it is a whole 200. */
static int64_t ask_and_wait(struct client *c, const char *ask, size_t len)
{
	flag = 0;
	client_ask(c, ask, len);
	net_run(&flag, now_ns() + READY_S * 1000000000LL);
	if (!flag || ended == CLIENT_BROKEN || c->status != 200)
		die("%s: no whole answer, status %d", opt->target, c->status);
	return now_ns() - c->asked_at;
}

int command_complex(const struct options *o)
{
	struct client c = { .target = o->target, .on_done = on_done };
	struct samples plain = { 0 }, complex = { 0 };
	struct board *b = board_open(o->board);
	char extra[64], ask[ASK_BYTES];
	int64_t asked = 0;

	opt = o;
	snprintf(extra, sizeof extra, "X-Complex: %d\r\n", o->candidates);
	for (int64_t i = 0; i < o->count * 2; i++) {
		struct ask_spec s = { .host = o->target, .path = "/api/chat", .extra = i & 1 ? extra : "",
			.id = ask_fresh_ids(1), .chunks = o->chunks, .gap = o->gap, .stream = 1 };
		int64_t before = b->asked;
		samples_add(i & 1 ? &complex : &plain, ask_and_wait(&c, ask, ask_write(ask, &s)));
		asked += i & 1 ? b->asked - before : 0;
	}
	say("plain_ms", samples_part(&plain, 0.5) / 1e6);
	say("complex_ms", samples_part(&complex, 0.5) / 1e6);
	say("ratio", samples_part(&complex, 0.5) / samples_part(&plain, 0.5));
	say("generations", (double)asked / (double)o->count);
	samples_free(&plain);
	samples_free(&complex);
	return 0;
}

static const char *const nouns[] = {
	"river", "mountain", "engine", "library", "garden", "bridge", "station", "market", "castle", "forest", "harbour",
	"museum", "school", "theatre", "hospital", "factory", "island", "valley", "kitchen", "railway", "airport", "church",
	"office", "stadium", "village", "desert", "glacier", "volcano", "orchard", "lighthouse",
};
static const char *const adjectives[] = {
	"oldest", "tallest", "deepest", "largest", "smallest", "heaviest", "warmest", "coldest", "richest", "poorest",
	"quietest", "loudest", "busiest", "safest", "cheapest", "longest", "shortest", "widest", "narrowest", "brightest",
};
#define COUNT(a) (sizeof (a) / sizeof *(a))

/* The same question in several wordings: same keywords in the same order, other small words. */
static void word(char *to, size_t room, uint64_t i, unsigned how)
{
	static const char *const forms[] = {
		"What is the %s %s near a %s beside the %s?", "Which is the %s %s near the %s beside a %s?",
		"What are the %s %s near the %s, beside the %s?", "Which %s %s is near the %s and beside the %s?",
	};

	snprintf(to, room, forms[how % COUNT(forms)], adjectives[i % COUNT(adjectives)],
		 nouns[i / COUNT(adjectives) % COUNT(nouns)],
		 nouns[i / COUNT(adjectives) / COUNT(nouns) % COUNT(nouns)],
		 nouns[i / COUNT(adjectives) / COUNT(nouns) / COUNT(nouns) % COUNT(nouns)]);
}

int command_semantic(const struct options *o)
{
	struct client c = { .target = o->target, .on_done = on_done };
	struct samples semantic = { 0 }, exact = { 0 };
	int64_t others = 0;
	char ask[ASK_BYTES], question[256], result[32];

	opt = o;
	/* form 0 fills; form 1 is the reworded question, then asked again the same: an exact hit if it was kept */
	for (int pass = 0; pass < 3; pass++)
		for (int64_t i = 0; i < (pass ? o->count : o->bodies); i++) {
			struct ask_spec s = { .host = o->target, .path = "/api/chat", .extra = "", .question = question,
				.chunks = o->chunks };
			word(question, sizeof question, (uint64_t)(i % o->bodies) * 7, pass == 1 ? 1 : 0);
			int64_t took = ask_and_wait(&c, ask, ask_write(ask, &s));
			client_header(&c, "X-Cache", result, sizeof result);
			if (pass == 1 && !strcmp(result, "semantic"))
				samples_add(&semantic, took);
			else if (pass == 2 && !strcmp(result, "exact"))
				samples_add(&exact, took);
			else
				others += pass > 0;
		}
	say("semantic_us", samples_part(&semantic, 0.5) / 1e3);
	say("semantic_p99_us", samples_part(&semantic, 0.99) / 1e3);
	say("exact_us", samples_part(&exact, 0.5) / 1e3);
	say("semantic_hits", (double)semantic.n);
	say("exact_hits", (double)exact.n);
	say("others", (double)others);
	samples_free(&semantic);
	samples_free(&exact);
	return 0;
}

struct filler {
	struct client c;
	char ask[ASK_BYTES];
};

static int64_t fill_left, fill_open, fill_bad;

static void fill_next(struct filler *f)
{
	struct ask_spec s = { .host = opt->target, .path = "/api/chat", .extra = "", .id = ask_fresh_ids(1),
		.chunks = opt->chunks, .size = opt->size };

	if (fill_left-- > 0) {
		client_ask(&f->c, f->ask, ask_write(f->ask, &s));
		return;
	}
	client_close(&f->c, 0);
	if (!--fill_open)
		flag = 1;
}

static void fill_done(struct client *c, enum client_end how)
{
	fill_bad += how == CLIENT_BROKEN || c->status != 200;
	if (fill_bad > 100)
		die("%s: filling: too many bad answers, status %d", opt->target, c->status);
	fill_next(container(c, struct filler, c));
}

int command_fill(const struct options *o)
{
	struct filler *f = calloc((size_t)o->conns, sizeof *f);
	int64_t t0 = now_ns();

	opt = o;
	if (!f)
		die("out of memory");
	fill_left = o->count;
	fill_open = o->conns;
	for (int i = 0; i < o->conns; i++) {
		f[i].c.target = o->target;
		f[i].c.on_done = fill_done;
		fill_next(&f[i]);
	}
	net_run(&flag, INT64_MAX);
	say("fill_s", (double)(now_ns() - t0) / 1e9);
	say("fill_bad", (double)fill_bad);
	free(f);
	return 0;
}

static int ready(struct client *c)
{
	static const char ask[] = "GET /ollacache/ready HTTP/1.1\r\nHost: localhost\r\n\r\n";
	static const int never;

	flag = 0;
	client_ask(c, ask, sizeof ask - 1);
	net_run(&flag, now_ns() + 1000000000LL);
	if (flag && ended == CLIENT_WHOLE && c->status == 200)
		return 1;
	client_close(c, 0);
	net_run(&never, now_ns() + POLL_US * 1000);
	return 0;
}

/* Run the command, and tell how long it takes from fork to a 200 from /ollacache/ready. It goes on running. */
int command_start(const struct options *o)
{
	struct client c = { .target = o->target, .on_done = on_done };
	int64_t t0 = now_ns();
	pid_t pid = fork();

	opt = o;
	if (pid == 0) {
		setsid();
		dup2(2, 1);                     /* its output must not hold our pipe open */
		execvp(o->command[0], (char *const *)o->command);
		_exit(127);
	}
	if (pid < 0)
		die("fork: %s", strerror(errno));
	while (!ready(&c)) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			die("%s ended before it was ready", o->command[0]);
		if (now_ns() - t0 > READY_S * 1000000000LL) {
			kill(pid, SIGKILL);
			die("not ready after %d s", READY_S);
		}
	}
	say("pid", pid);
	say("ready_ms", (double)(now_ns() - t0) / 1e6);
	return 0;
}
