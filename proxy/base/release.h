/* release.h - gives back memory whose size strangers choose. Giving back tens of MiB takes the kernel tens of milliseconds:
 * what is large is left to libuv's pool.
 *
 * Ownership  what is released is empty at once, as after buf_fini() and arena_fini(), and may be used again.
 * Threads    the loop's own. loop_fini() waits for what is still being given back. */
#ifndef BASE_RELEASE_H
#define BASE_RELEASE_H

#include "proxy/base/arena.h"
#include "proxy/base/loop.h"

enum { RELEASE_ON_LOOP = 1 << 20 };      /* so much at once takes a fraction of a millisecond */

void release_buf(struct loop *l, struct buf *b);
void release_arena(struct loop *l, struct arena *a);

#endif
