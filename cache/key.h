/* key.h - an ask as 32 bytes: SHA-256 (FIPS 180-4) over everything that can change the answer.
 *
 * Each part goes in with its length before it, so that no two different sets of parts are one run of bytes. */
#ifndef CACHE_KEY_H
#define CACHE_KEY_H

#include "cache/policy.h"

struct key_parts {
	enum family family;
	unsigned candidates;         /* 1: a plain request */
	struct slice scope;          /* cache.scope: what one kind of scope tells apart says nothing about another's */
	const struct slice *tenant;  /* TENANT_PARTS: what it takes from the request */
	struct slice space;          /* X-Cache-Namespace */
	struct slice digest;         /* of the model */
	struct slice form;           /* ask.canonical: the exact key; ask.canonical_scope: the scope of the semantic look-up */
	uint64_t mark;               /* 0 for the exact key; for a scope: which lists analysed the question */
};

void key_make(const struct key_parts *parts, uint8_t key[KEY_BYTES]);

/* SHA-256 of bytes. */
void key_hash(struct slice bytes, uint8_t hash[KEY_BYTES]);

void key_hex(const uint8_t key[KEY_BYTES], char hex[2 * KEY_BYTES + 1]);
bool key_parse(struct slice hex, uint8_t key[KEY_BYTES]);   /* 64 hex digits, in either case */

#endif
