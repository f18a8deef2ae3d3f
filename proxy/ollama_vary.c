/* ollama_vary.c - an ask sent once more for another of several answers: what was forwarded, in one piece instead of a stream,
 * with other options. Those that vary come last, so that the bodies differ in their ends only. */
#include <stdio.h>

#include "proxy/base/scan.h"
#include "proxy/ollama.h"

enum { VARY_SLACK = 64 };                        /* for what is added to a body */

static const struct slice varied_name[VARIED] = {
	[VARIED_TEMPERATURE] = SLICE_INIT("temperature"), [VARIED_TOP_P] = SLICE_INIT("top_p"), [VARIED_SEED] = SLICE_INIT("seed"),
	[VARIED_NUM_PREDICT] = SLICE_INIT("num_predict"),
};

static enum err put_member(struct buf *out, bool *first, struct slice name, struct slice value)
{
	enum err e = buf_put(out, *first ? SLICE("\"") : SLICE(",\""));

	*first = false;
	e = e ? e : buf_put(out, name);
	e = e ? e : buf_put(out, SLICE("\":"));
	return e ? e : buf_put(out, value);
}

static struct slice *own_of(struct ask *ask, struct slice name)
{
	for (size_t i = 0; i < VARIED; i++)
		if (slice_is(name, varied_name[i]))
			return &ask->own[i];
	return NULL;
}

/* Of the client's options those that never vary; the others are remembered. */
static enum err put_options(struct ask *ask, struct slice options, struct buf *out)
{
	struct slice name, value, *own;
	struct scan s;
	bool first = true;
	enum err e = buf_put(out, SLICE("{"));

	if (!scan_is_object(options))
		return e;
	for (scan_init(&s, options); !e && scan_next(&s, &name, &value); ) {
		own = own_of(ask, name);
		if (own)
			*own = value;
		else
			e = put_member(out, &first, name, value);
	}
	return !e && s.bad ? ERR_BAD_JSON : e;
}

enum err ollama_vary_begin(struct ask *ask, struct arena *arena)
{
	size_t most = ask->forward.len + VARY_SLACK;
	struct buf out = { .at = arena_room(arena, most), .room = most, .limit = most };     /* it never grows */
	struct slice name, value, options = { 0 };
	struct scan s;
	bool first = true;
	enum err e = out.at ? buf_put(&out, SLICE("{")) : ERR_NO_MEMORY;

	memset(ask->own, 0, sizeof ask->own);
	for (scan_init(&s, ask->forward); !e && scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("options")))
			options = value;
		else if (!slice_is(name, SLICE("stream")))
			e = put_member(&out, &first, name, value);
	}
	if (!e && s.bad)
		e = ERR_BAD_JSON;                /* nested deeper than is looked into: half of it would be another question */
	e = e ? e : put_member(&out, &first, SLICE("stream"), SLICE("false"));
	e = e ? e : buf_put(&out, SLICE(",\"options\":"));
	e = e ? e : put_options(ask, options, &out);
	ask->several = e ? (struct slice){ 0 } : buf_slice(&out);
	return e;
}

static enum err put_number(struct buf *out, bool *first, enum varied which, double value)
{
	char text[32];
	int len = snprintf(text, sizeof text, "%.10g", value);

	return put_member(out, first, varied_name[which], slice_of(text, (size_t)len));
}

enum err ollama_vary(const struct ask *ask, const struct variant *v, struct buf *rest)
{
	const struct { bool has; double value; } set[VARIED] = {
		[VARIED_TEMPERATURE] = { v->has_temperature, v->temperature }, [VARIED_TOP_P] = { v->has_top_p, v->top_p },
		[VARIED_SEED] = { v->has_seed, (double)v->seed }, [VARIED_NUM_PREDICT] = { v->has_num_predict, (double)v->num_predict },
	};
	bool first = ask->several.len && ask->several.at[ask->several.len - 1] == '{';
	enum err e = ERR_OK;

	for (size_t i = 0; i < VARIED && !e; i++) {
		if (set[i].has)
			e = put_number(rest, &first, (enum varied)i, set[i].value);
		else if (ask->own[i].len)
			e = put_member(rest, &first, varied_name[i], ask->own[i]);
	}
	return e ? e : buf_put(rest, SLICE("}}"));
}
