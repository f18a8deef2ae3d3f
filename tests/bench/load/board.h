/* board.h - what the upstream knows and the generator needs: counters in a file both map.
 *
 * Threads    one process writes (the upstream), others read; every field is a relaxed atomic.
 * Limits     GONE_SLOTS ids at a time: an id's slot is its low bits. */
#ifndef BENCH_BOARD_H
#define BENCH_BOARD_H

#include <stdatomic.h>
#include <stdint.h>

enum { GONE_SLOTS = 1 << 16 };

struct board {
	_Atomic int64_t asked;                  /* generations and embeddings asked of the upstream */
	_Atomic int64_t written;                /* bytes of answers written */
	_Atomic int64_t open;                   /* answers begun and not ended */
	_Atomic int64_t gone[GONE_SLOTS];       /* when the asker of this id was seen to leave early, ns */
};

/* Map the board in file `path`, made if missing. Dies on failure. */
struct board *board_open(const char *path);

#endif
