/* recent.h - the last semantic hits, for whoever wants to see whether near questions are near enough.
 *
 * Threads  all. Limits  RECENT_HITS hits, their questions cut to RECENT_TEXT_MAX bytes; fixed memory. */
#ifndef PROXY_RECENT_H
#define PROXY_RECENT_H

#include "proxy/base/ask.h"

enum { RECENT_HITS = 50, RECENT_TEXT_MAX = 240, RECENT_MODEL_MAX = 96 };

struct recent_hit {
	int64_t at_ms;                       /* wall clock */
	double similarity;
	uint8_t key[KEY_BYTES];              /* of the entry that was served */
	char asked[RECENT_TEXT_MAX + 1], stored[RECENT_TEXT_MAX + 1], model[RECENT_MODEL_MAX + 1];
};

struct recent;
struct recent *recent_new(void);
void recent_free(struct recent *r);
void recent_add(struct recent *r, const uint8_t key[KEY_BYTES], double similarity, struct slice asked, struct slice stored,
	struct slice model);
/* Copies the hits there are, the newest first; returns how many. */
size_t recent_get(struct recent *r, struct recent_hit to[RECENT_HITS]);

#endif
