/* commands.h - what ollabench can do; each command is one measurement of one target. Results go to stdout as
 * "name value" lines, which run.sh collects. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

#include <stdint.h>

struct options {
	const char *target, *board, *shape;
	const char *const *command;             /* for start: what to run */
	int pid, conns, bodies, stream, candidates, size;
	int64_t count, chunks, gap;             /* gap: µs */
	double seconds;
};

int command_upstream(const struct options *o);
int command_hits(const struct options *o);
int command_ttfb(const struct options *o);
int command_streams(const struct options *o);
int command_idle(const struct options *o);
int command_stalled(const struct options *o);
int command_cancel(const struct options *o);
int command_complex(const struct options *o);
int command_semantic(const struct options *o);
int command_fill(const struct options *o);
int command_start(const struct options *o);

#endif
