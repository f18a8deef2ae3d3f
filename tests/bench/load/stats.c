/* stats.c - see stats.h. */
#include "tests/bench/load/stats.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/load/net.h"

void samples_add(struct samples *s, int64_t v)
{
	if (s->n == s->room) {
		s->room = s->room ? s->room * 2 : 1 << 16;
		s->at = realloc(s->at, s->room * sizeof *s->at);
		if (!s->at)
			die("out of memory");
	}
	s->at[s->n++] = v;
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

double samples_part(struct samples *s, double part)
{
	if (!s->n)
		return 0;
	qsort(s->at, s->n, sizeof *s->at, ascending);
	return (double)s->at[(size_t)(part * (double)(s->n - 1) + 0.5)];
}

void samples_free(struct samples *s)
{
	free(s->at);
	*s = (struct samples){ 0 };
}

void say(const char *name, double value)
{
	printf("%s %.10g\n", name, value);
	fflush(stdout);
}
