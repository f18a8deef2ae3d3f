/* policy.h - may this be looked up, joined, stored; for how long; and why not. Pure: no clock, no store.
 *
 * The request's wishes come from its headers (RFC 9111, section 5.2.1, and our own), the operator's from the
 * configuration. What is in doubt is not cached. */
#ifndef CACHE_POLICY_H
#define CACHE_POLICY_H

#include "proxy/base/ask.h"

enum { SPACE_MAX = 256, SEMANTIC_LEAST_PERCENT = 50, TENANT_PARTS = 3 };

struct wishes {                      /* what one request's headers ask for */
	bool no_cache, no_store, only_if_cached;
	int64_t max_age_s;           /* -1: any age */
	int64_t ttl_s;               /* -1: cache.ttl */
	bool semantic_off;
	double semantic_threshold;   /* 0: semantic.threshold */
	int complex;                 /* COMPLEX_NONE, COMPLEX_DEFAULT or a number */
	bool explain;                /* X-Complex-Explain */
	struct slice space;          /* X-Cache-Namespace; empty: none */
	struct slice tenant[TENANT_PARTS];   /* what cache.scope takes from the request: each header it names, in its place */
};

struct rules {                       /* what the operator wants */
	const char *models;          /* globs, comma list, ! excludes */
	bool deterministic_only, enabled;
	int64_t ttl_ms;
};

enum bypass {
	BYPASS_NO, BYPASS_OFF, BYPASS_NO_CACHE, BYPASS_NO_STORE, BYPASS_MODEL, BYPASS_SAMPLING, BYPASS_NOTHING_ASKED, BYPASS_DEBUG,
	BYPASS_DIGEST, BYPASS_BODY, BYPASS_TOO_LARGE, BYPASS_COUNT
};
extern const char *const bypass_name[BYPASS_COUNT];      /* as in Cache-Status' detail */
extern const char *const bypass_says[BYPASS_COUNT];      /* a clause without a full stop, for people */

/* Why the cache keeps out of this ask; BYPASS_NO: it does not. */
enum bypass policy_bypass(const struct rules *rules, const struct wishes *wishes, const struct ask *ask);

/* May a request that bypassed the look-up for this reason store its answer (no-cache refreshes the entry)? */
static inline bool policy_refreshes(enum bypass why)
{
	return why == BYPASS_NO || why == BYPASS_NO_CACHE;
}

enum unstored { STORABLE, NOT_WHOLE, BAD_DONE_REASON, BAD_STATUS, HAD_ERROR, TOO_LARGE, ASKED_NOT_TO, SAMPLED, MODEL_EXCLUDED, EMPTY,
                PROMPT_CUT, UNSTORED_KINDS };

/* May this answer be stored? pieces over max_entry are too large. */
enum unstored policy_unstored(const struct ask *ask, const struct answer *answer, int status, size_t max_entry);

/* How long it is kept, milliseconds; 0: not at all. */
int64_t policy_ttl_ms(const struct rules *rules, const struct wishes *wishes);

/* Does one of the globs take the name, and none of those with ! in front forbid it? A list with nothing but
 * exclusions takes all the rest. Names are matched with and without :latest. */
bool policy_model_matches(const char *globs, struct slice model_full);

#endif
