/* arena.h - memory that lives exactly as long as one exchange.
 *
 * Ownership  everything from arena_alloc() belongs to the arena; only arena_fini() frees it.
 * Threads    one owner at a time.
 * Limit      `limit` bytes in all. Passing it, or malloc failing, returns NULL and is remembered
 *            in `full`, so that a chain of allocations can be checked once, at its end.
 * Debugging  unused bytes are poisoned under AddressSanitizer. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "proxy/base/buf.h"

struct arena_block;
struct arena {
	struct arena_block *blocks;
	char *next;
	size_t left, used, limit;
	bool full;
};

void arena_init(struct arena *a, size_t limit_bytes);
void *arena_alloc(struct arena *a, size_t bytes);         /* zeroed, aligned for any type; NULL if full */
char *arena_room(struct arena *a, size_t bytes);          /* the same, not zeroed: for what is long */
char *arena_text(struct arena *a, struct slice s);        /* a copy with a NUL at its end; NULL if full */
struct slice arena_slice(struct arena *a, struct slice s);   /* a copy; {NULL, 0} if full or empty */
void arena_fini(struct arena *a);                         /* frees all; the arena may be used again */

#endif
