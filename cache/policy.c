/* policy.c - see policy.h. */
#include "cache/policy.h"

#include <assert.h>
#include <fnmatch.h>

enum { NAME_MAX_BYTES = 512 };

const char *const bypass_name[] = {
	[BYPASS_NO] = "", [BYPASS_OFF] = "store-off", [BYPASS_NO_CACHE] = "no-cache", [BYPASS_NO_STORE] = "no-store",
	[BYPASS_MODEL] = "model", [BYPASS_SAMPLING] = "sampling", [BYPASS_NOTHING_ASKED] = "no-question",
	[BYPASS_DEBUG] = "debug", [BYPASS_DIGEST] = "digest", [BYPASS_BODY] = "body", [BYPASS_TOO_LARGE] = "too-large",
};

static_assert(sizeof bypass_name / sizeof *bypass_name == BYPASS_COUNT, "every reason has a name");

const char *const bypass_says[] = {
	[BYPASS_NO] = "", [BYPASS_OFF] = "the cache is off (cache.store = off)",
	[BYPASS_NO_CACHE] = "Cache-Control: no-cache asks for a new answer, which is stored",
	[BYPASS_NO_STORE] = "Cache-Control: no-store wants it neither looked up nor stored",
	[BYPASS_MODEL] = "cache.models does not take this model",
	[BYPASS_SAMPLING] = "its answer is drawn at random, and cache.deterministic_only takes only temperature 0 or a fixed seed",
	[BYPASS_NOTHING_ASKED] = "nothing is asked: an empty prompt or message list loads or unloads the model",
	[BYPASS_DEBUG] = "_debug_render_only asks for the prompt, not for an answer",
	[BYPASS_DIGEST] = "the digest of its model is not known",
	[BYPASS_BODY] = "the body is not understood, and passed on as it came",
	[BYPASS_TOO_LARGE] = "the body is too large to be kept (server.max_body, server.max_buffered)",
};
static_assert(sizeof bypass_says / sizeof *bypass_says == BYPASS_COUNT, "every reason has a sentence");

static bool glob_takes(struct slice glob, struct slice name)
{
	static const struct slice latest = { ":latest", 7 };
	char pattern[NAME_MAX_BYTES], text[NAME_MAX_BYTES];

	if (glob.len >= sizeof pattern || name.len >= sizeof text)
		return false;
	memcpy(pattern, glob.at, glob.len);
	pattern[glob.len] = '\0';
	memcpy(text, name.at, name.len);
	text[name.len] = '\0';
	if (fnmatch(pattern, text, FNM_CASEFOLD) == 0)
		return true;
	if (name.len <= latest.len || memcmp(name.at + name.len - latest.len, latest.at, latest.len) != 0)
		return false;
	text[name.len - latest.len] = '\0';
	return fnmatch(pattern, text, FNM_CASEFOLD) == 0;
}

bool policy_model_matches(const char *globs, struct slice name)
{
	struct slice rest = slice_text(globs), glob;
	bool taken = false, any_positive = false;

	while (slice_next(&rest, ',', &glob)) {
		if (glob.len == 0)
			continue;
		if (glob.at[0] == '!') {
			if (glob_takes(slice_of(glob.at + 1, glob.len - 1), name))
				return false;
			continue;
		}
		any_positive = true;
		taken |= glob_takes(glob, name);
	}
	return taken || !any_positive;
}

enum bypass policy_bypass(const struct rules *rules, const struct wishes *wishes, const struct ask *ask)
{
	if (!rules->enabled)
		return BYPASS_OFF;
	if (ask->debug)
		return BYPASS_DEBUG;
	if (!ask->generates)
		return BYPASS_NOTHING_ASKED;
	if (wishes->no_store)
		return BYPASS_NO_STORE;
	if (!policy_model_matches(rules->models, ask->model_full))
		return BYPASS_MODEL;
	bool generation = ask->family == FAMILY_CHAT || ask->family == FAMILY_GENERATE;
	if (rules->deterministic_only && generation && !ask->deterministic)
		return BYPASS_SAMPLING;
	if (wishes->no_cache)
		return BYPASS_NO_CACHE;
	return BYPASS_NO;
}

enum unstored policy_unstored(const struct ask *ask, const struct answer *a, int status, size_t max_entry)
{
	if (status != 200)
		return BAD_STATUS;
	if (a->error.len)
		return HAD_ERROR;
	if (!a->whole)
		return NOT_WHOLE;
	if (a->odd || (a->length && !ask->length_set))
		return BAD_DONE_REASON;
	if (a->pieces.len > max_entry)
		return TOO_LARGE;
	return a->says ? STORABLE : EMPTY;
}

int64_t policy_ttl_ms(const struct rules *rules, const struct wishes *wishes)
{
	int64_t ttl = rules->ttl_ms;

	if (wishes->ttl_s >= 0 && wishes->ttl_s < ttl / 1000)
		ttl = wishes->ttl_s * 1000;
	return ttl;
}
