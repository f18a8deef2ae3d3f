/* hop.c - see hop.h. */
#include "proxy/hop.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static char mark[17];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make_mark(void)
{
	uint64_t n;

	if (getrandom(&n, sizeof n, 0) != sizeof n)
		abort();                     /* at start */
	snprintf(mark, sizeof mark, "%016" PRIx64, n);
}

const char *hop_mark(void)
{
	pthread_once(&made, make_mark);
	return mark;
}

/* A proxy in between may have joined several into one. */
static void look(void *arg, struct slice name, struct slice value)
{
	bool *found = arg;
	struct slice item;

	if (!slice_is_nocase(name, SLICE(HOP_HEADER)))
		return;
	while (slice_next(&value, ',', &item))
		*found |= slice_is(slice_trim(item), slice_text(hop_mark()));
}

bool hop_came_back(const struct request *r)
{
	bool found = false;

	if (request_header(r, HOP_HEADER))
		request_each_header(r, look, &found);
	return found;
}
