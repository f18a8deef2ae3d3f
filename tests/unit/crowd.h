/* crowd.h - takes all the low numbers of descriptors, so that the table of curl's sockets has to grow for the next. */
#ifndef TESTS_CROWD_H
#define TESTS_CROWD_H

#include <stddef.h>
#include <unistd.h>

enum { CROWD_MOST = 256 };               /* the table's first size */

struct crowd { int fd[CROWD_MOST + 1]; size_t n; };

/* Copies of a descriptor. */
static inline void crowd_in(struct crowd *c, int of)
{
	for (c->n = 0; (c->fd[c->n] = dup(of)) < CROWD_MOST && c->n < CROWD_MOST;)
		c->n++;
	close(c->fd[c->n]);
}

static inline void crowd_out(struct crowd *c)
{
	while (c->n)
		close(c->fd[--c->n]);
}

#endif
