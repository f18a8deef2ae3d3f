/* ask.h - the requests the generator sends: one chat question in several spellings, and what its answer is to be. */
#ifndef BENCH_ASK_H
#define BENCH_ASK_H

#include <stddef.h>
#include <stdint.h>

enum { ASK_BYTES = 2048 };
enum ask_shape {
	ASK_SAME,                               /* the same bytes each time */
	ASK_RESPACED,                           /* other white space each `turn` */
	ASK_REORDERED,                          /* another order of keys each `turn` */
};

struct ask_spec {
	const char *host, *path, *extra;        /* extra: more header lines, each ended by \r\n, or "" */
	const char *question;                   /* NULL: one made of the id */
	enum ask_shape shape;
	int stream;
	uint32_t id;
	uint64_t turn;
	int64_t chunks, gap, first, size;       /* see upstream.c; µs */
};

/* The whole request, up to ASK_BYTES. Returns its length. */
size_t ask_write(char to[static ASK_BYTES], const struct ask_spec *s);

/* Ids that no earlier run of the program has used, so that each is a miss until asked again. */
uint32_t ask_fresh_ids(uint32_t how_many);

#endif
