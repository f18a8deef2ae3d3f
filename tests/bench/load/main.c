/* main.c - ollabench: `ollabench COMMAND --option=value …`; see commands.h and run.sh. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/load/commands.h"
#include "tests/bench/load/net.h"

static const struct {
	const char *name;
	int (*run)(const struct options *o);
} commands[] = {
	{ "upstream", command_upstream }, { "hits", command_hits }, { "ttfb", command_ttfb },
	{ "streams", command_streams }, { "idle", command_idle }, { "stalled", command_stalled },
	{ "cancel", command_cancel }, { "complex", command_complex }, { "semantic", command_semantic },
	{ "fill", command_fill }, { "start", command_start },
};

static const char *value_of(const char *arg, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(arg, "--", 2) && !strncmp(arg + 2, name, n) && arg[2 + n] == '=' ? arg + 3 + n : NULL;
}

static void read_option(struct options *o, const char *arg)
{
	const char *v;

	if ((v = value_of(arg, "target")))
		o->target = v;
	else if ((v = value_of(arg, "board")))
		o->board = v;
	else if ((v = value_of(arg, "shape")))
		o->shape = v;
	else if ((v = value_of(arg, "pid")))
		o->pid = atoi(v);
	else if ((v = value_of(arg, "conns")))
		o->conns = atoi(v);
	else if ((v = value_of(arg, "bodies")))
		o->bodies = atoi(v);
	else if ((v = value_of(arg, "stream")))
		o->stream = atoi(v);
	else if ((v = value_of(arg, "candidates")))
		o->candidates = atoi(v);
	else if ((v = value_of(arg, "size")))
		o->size = atoi(v);
	else if ((v = value_of(arg, "count")))
		o->count = atoll(v);
	else if ((v = value_of(arg, "chunks")))
		o->chunks = atoll(v);
	else if ((v = value_of(arg, "gap")))
		o->gap = atoll(v);
	else if ((v = value_of(arg, "seconds")))
		o->seconds = atof(v);
	else
		die("%s: no such option", arg);
}

int main(int argc, char **argv)
{
	struct options o = { .target = "127.0.0.1:11434", .board = "board", .shape = "same", .conns = 1, .bodies = 64,
		.candidates = 3, .count = 100, .chunks = 20, .seconds = 1 };

	for (int i = 2; i < argc && !o.command; i++)
		if (!strcmp(argv[i], "--"))
			o.command = (const char *const *)&argv[i + 1];
		else
			read_option(&o, argv[i]);
	signal(SIGPIPE, SIG_IGN);
	net_raise_limits();
	for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(&o);
	die("which command? upstream hits ttfb streams idle stalled cancel complex semantic fill start");
}
