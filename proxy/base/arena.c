/* arena.c - bump allocation in blocks; see arena.h. */
#include "proxy/base/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
enum { GUARD_BYTES = 8 };
#else
#define ASAN_POISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
enum { GUARD_BYTES = 0 };
#endif

/* With its head, what glibc still keeps at hand for the next who asks: more is searched for, and given back at once. */
enum { BLOCK_BYTES = 1000 };

struct arena_block {
	struct arena_block *older;
	alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
	*a = (struct arena){ .limit = limit_bytes };
}

char *arena_room(struct arena *a, size_t bytes)
{
	const size_t align = alignof(max_align_t);
	size_t step = (bytes + GUARD_BYTES + align - 1) / align * align;

	assert(bytes > 0);
	if (step < bytes || step > a->limit - a->used) {
		a->full = true;
		return NULL;
	}
	if (step > a->left) {
		size_t room = step > BLOCK_BYTES ? step : BLOCK_BYTES;
		struct arena_block *b = malloc(sizeof *b + room);
		if (!b) {
			a->full = true;
			return NULL;
		}
		b->older = a->blocks;
		a->blocks = b;
		a->next = b->bytes;
		a->left = room;
		ASAN_POISON_MEMORY_REGION(b->bytes, room);
	}
	void *p = a->next;
	a->next += step;
	a->left -= step;
	a->used += step;
	ASAN_UNPOISON_MEMORY_REGION(p, bytes);
	return p;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	char *p = arena_room(a, bytes);

	return p ? memset(p, 0, bytes) : NULL;
}

char *arena_text(struct arena *a, struct slice s)
{
	char *text = arena_room(a, s.len + 1);

	if (!text)
		return NULL;
	if (s.len)
		memcpy(text, s.at, s.len);
	text[s.len] = '\0';
	return text;
}

struct slice arena_slice(struct arena *a, struct slice s)
{
	char *text = s.len ? arena_text(a, s) : NULL;

	return slice_of(text, text ? s.len : 0);
}

void arena_fini(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *b = a->blocks;
		a->blocks = b->older;
		free(b);
	}
	arena_init(a, a->limit);
}
