/* wishes.c - the request headers of our own, and Cache-Control (RFC 9111, 5.2.1), as what the cache is asked to do. */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/exchange.h"

enum { SECONDS_MOST = 1 << 30, COMPLEX_MOST = 1000000 };

static bool bad(char *text, size_t len, const char *header, const char *value, const char *wanted)
{
	char shown[61];
	size_t n = 0;

	/* it goes into JSON: bytes that may not be text, or half a letter, do not */
	for (; n < sizeof shown - 1 && value[n]; n++)
		shown[n] = value[n] >= ' ' && value[n] < 0x7f ? value[n] : '?';
	shown[n] = '\0';
	snprintf(text, len, "header %s: '%s' is not %s", header, shown, wanted);
	return false;
}

/* Delta-seconds; more than can be counted is as many as can be (RFC 9111, 1.2.2). */
static bool read_seconds(struct slice s, int64_t *seconds)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(s.at[i] - '0');
		n = n < SECONDS_MOST ? n : SECONDS_MOST;
	}
	*seconds = (int64_t)n;
	return s.len > 0;
}

static bool read_cache_control(struct wishes *w, struct slice value)
{
	struct slice item;

	while (slice_next(&value, ',', &item)) {
		const char *equals = item.len ? memchr(item.at, '=', item.len) : NULL;
		struct slice name = slice_trim(slice_of(item.at, equals ? (size_t)(equals - item.at) : item.len)), number = { 0 };

		if (equals)
			number = slice_trim(slice_of(equals + 1, item.len - (size_t)(equals + 1 - item.at)));
		if (number.len >= 2 && number.at[0] == '"' && number.at[number.len - 1] == '"')
			number = slice_of(number.at + 1, number.len - 2);
		if (slice_is_nocase(name, SLICE("no-cache"))) {
			w->no_cache = true;
		} else if (slice_is_nocase(name, SLICE("no-store"))) {
			w->no_store = true;
		} else if (slice_is_nocase(name, SLICE("only-if-cached"))) {
			w->only_if_cached = true;
		} else if (slice_is_nocase(name, SLICE("max-age"))) {
			if (!read_seconds(number, &w->max_age_s))
				return false;
		}                            /* what we do not know is ignored: RFC 9111, 5.2.3 */
	}
	return true;
}

struct control { struct wishes *w; bool ok; const char *value; };

static void each(void *arg, struct slice name, struct slice value)
{
	struct control *c = arg;

	if (slice_is_nocase(name, SLICE("Cache-Control")) && !read_cache_control(c->w, value)) {
		c->ok = false;
		c->value = value.at;
	}
}

static bool read_complex(struct exchange *x, char *text, size_t len)
{
	const char *value = request_header(x->request, "X-Complex");
	struct slice v = slice_trim(slice_text(value));
	uint64_t n;

	x->wishes.complex = COMPLEX_NONE;
	if (!value)
		return true;
	if (slice_is_nocase(v, SLICE("true")))
		x->wishes.complex = COMPLEX_DEFAULT;
	else if (slice_is_nocase(v, SLICE("false")))
		x->wishes.complex = 1;
	else if (slice_number(v, COMPLEX_MOST, &n) && n > 0)
		x->wishes.complex = (int)n;
	else
		return bad(text, len, "X-Complex", value, "true, false or a number of answers");
	return true;
}

/* The headers that say who asks, and where the values of each are gathered. */
struct who { struct slice name[TENANT_PARTS]; struct slice *value; struct arena *arena; bool failed; };

static void gather(struct who *w, struct slice *to, struct slice value)
{
	if (!to->at) {
		*to = value;
		return;
	}
	/* a NUL between two, which no single value can hold */
	char *both = arena_alloc(w->arena, to->len + value.len + 1);
	if (!both) {
		w->failed = true;
		return;
	}
	memcpy(both, to->at, to->len);
	both[to->len] = '\0';
	memcpy(both + to->len + 1, value.at, value.len);
	*to = slice_of(both, to->len + value.len + 1);
}

static void who_header(void *arg, struct slice name, struct slice value)
{
	struct who *w = arg;

	for (size_t i = 0; i < TENANT_PARTS; i++)
		if (w->name[i].len && slice_is_nocase(name, w->name[i]))
			gather(w, &w->value[i], value);
}

/* Who asks. Whoever stands behind us may go by the first or by the last of two such headers: so all of them count. */
static bool read_tenant(struct exchange *x)
{
	const struct config *c = x->config;
	struct who w = { .value = x->wishes.tenant, .arena = &x->arena };

	switch (c->cache_scope_kind) {
	case CONFIG_SCOPE_AUTHORIZATION:
		w.name[0] = SLICE("Authorization");
		w.name[1] = SLICE("x-api-key");          /* as clients of Anthropic's dialect say it */
		w.name[2] = SLICE("api-key");            /* as those of Azure's do */
		break;
	case CONFIG_SCOPE_HEADER:
		w.name[0] = slice_text(c->cache_scope_header);
		break;
	case CONFIG_SCOPE_SHARED:
		return true;
	}
	request_each_header(x->request, who_header, &w);
	return !w.failed;
}

bool wishes_read(struct exchange *x, char *text, size_t len)
{
	struct wishes *w = &x->wishes;
	const struct request *r = x->request;
	struct control control = { w, true, "" };
	const char *value;
	char *end;

	*w = (struct wishes){ .max_age_s = -1, .ttl_s = -1, .complex = COMPLEX_NONE };
	request_each_header(r, each, &control);
	if (!control.ok)
		return bad(text, len, "Cache-Control", control.value, "understood: max-age takes whole seconds");
	if ((value = request_header(r, "X-Cache-Semantic"))) {
		if (slice_is_nocase(slice_trim(slice_text(value)), SLICE("off"))) {
			w->semantic_off = true;
		} else {
			w->semantic_threshold = strtod(value, &end);
			if (end == value || *end || !(w->semantic_threshold >= SEMANTIC_LEAST_PERCENT / 100.0 && w->semantic_threshold <= 1))
				return bad(text, len, "X-Cache-Semantic", value, "off or a number from 0.5 to 1");
		}
	}
	if ((value = request_header(r, "X-Cache-TTL"))) {
		if (!read_seconds(slice_trim(slice_text(value)), &w->ttl_s))
			return bad(text, len, "X-Cache-TTL", value, "a number of seconds");
	}
	if ((value = request_header(r, "X-Cache-Namespace"))) {
		if (strlen(value) > SPACE_MAX)
			return bad(text, len, "X-Cache-Namespace", value, "at most 256 bytes long");
		w->space = slice_text(value);
	}
	if ((value = request_header(r, "X-Complex-Explain"))) {
		if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
			return bad(text, len, "X-Complex-Explain", value, "0 or 1");
		w->explain = *value == '1';
	}
	if (!read_tenant(x)) {
		snprintf(text, len, "too many headers that say who asks");
		return false;
	}
	return read_complex(x, text, len);
}
