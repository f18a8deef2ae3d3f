/* eight.h - eight bytes looked at in one number (Warren, Hacker's Delight, 6-1), the first of them the lowest.
 *
 * What the tests return has bit 7 of a byte set where it holds. Above the lowest such byte others may be set wrongly: only
 * whether there is one, and which is the first, can be relied on; also in what was put together of several by |. */
#ifndef PROXY_BASE_EIGHT_H
#define PROXY_BASE_EIGHT_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { EIGHT = 8 };

static inline uint64_t eight_at(const char *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof x);
	return le64toh(x);
}

static inline uint64_t eight_of(unsigned char c)         { return ~0ULL / 255 * c; }
static inline uint64_t eight_beyond_ascii(uint64_t x)    { return x & eight_of(0x80); }
static inline uint64_t eight_below(uint64_t x, unsigned char c)  { return (x - eight_of(c)) & ~x & eight_of(0x80); }  /* c <= 0x80 */
static inline uint64_t eight_is(uint64_t x, unsigned char c)     { return eight_below(x ^ eight_of(c), 1); }

/* Which byte is the first; found is not 0. */
static inline size_t eight_first(uint64_t found)
{
	return (size_t)__builtin_ctzll(found) / 8;
}

#endif
