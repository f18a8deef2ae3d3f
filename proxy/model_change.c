/* model_change.c - see model_change.h. */
#include "proxy/model_change.h"

#include "proxy/base/scan.h"

enum { LINE_MOST = 64 << 10 };

static bool on_line(void *arg, struct slice line)
{
	struct model_change *c = arg;
	struct slice name, value;
	struct scan s;

	for (scan_init(&s, line); scan_next(&s, &name, &value); )
		c->failed |= slice_is(name, SLICE("error"));
	return true;
}

void model_change_begin(struct model_change *c)
{
	*c = (struct model_change){ 0 };
	ndjson_init(&c->lines, LINE_MOST, on_line, c);
}

void model_change_bytes(struct model_change *c, struct slice bytes)
{
	size_t taken;

	if (!c->blind && ndjson_feed(&c->lines, bytes, &taken))
		c->blind = true;
}

bool model_change_done(struct model_change *c, int status)
{
	struct slice rest = ndjson_rest(&c->lines);

	if (rest.len && !c->blind)
		on_line(c, rest);
	ndjson_fini(&c->lines);
	return status < 400 && !c->failed;       /* status 0: it was broken off, and may have been done all the same */
}
