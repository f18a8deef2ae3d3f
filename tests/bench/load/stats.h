/* stats.h - samples and what is said of them. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

struct samples {
	int64_t *at;
	size_t n, room;
};

void   samples_add(struct samples *s, int64_t v);
/* The value below which `part` (0 to 1) of them lie; sorts. 0 when there are none. */
double samples_part(struct samples *s, double part);
void   samples_free(struct samples *s);

/* "name value" on stdout. */
void   say(const char *name, double value);

#endif
