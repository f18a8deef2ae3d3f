/* ollama_vary.c - an ask sent once more for another of several answers: what was forwarded, in one piece instead of a stream,
 * with other options. */
#include "proxy/base/scan.h"
#include "proxy/ollama.h"

static enum err put_option(struct buf *out, bool *first, const char *name, double value)
{
	enum err e = buf_addf(out, "%s\"%s\":%.10g", *first ? "" : ",", name, value);

	*first = false;
	return e;
}

static enum err put_options(const struct variant *v, struct slice options, struct buf *out)
{
	struct slice name, value;
	struct scan s;
	bool first = true;
	enum err e = buf_add(out, "{", 1);

	if (scan_is_object(options)) {
		for (scan_init(&s, options); !e && scan_next(&s, &name, &value); ) {
			if ((v->has_temperature && slice_is(name, SLICE("temperature"))) ||
			    (v->has_top_p && slice_is(name, SLICE("top_p"))) ||
			    (v->has_seed && slice_is(name, SLICE("seed"))) ||
			    (v->has_num_predict && slice_is(name, SLICE("num_predict"))))
				continue;
			e = buf_addf(out, "%s\"%.*s\":", first ? "" : ",", (int)name.len, name.at);
			e = e ? e : buf_put(out, value);
			first = false;
		}
		if (!e && s.bad)
			e = ERR_BAD_JSON;
	}
	if (!e && v->has_temperature)
		e = put_option(out, &first, "temperature", v->temperature);
	if (!e && v->has_top_p)
		e = put_option(out, &first, "top_p", v->top_p);
	if (!e && v->has_seed)
		e = put_option(out, &first, "seed", (double)v->seed);
	if (!e && v->has_num_predict)
		e = put_option(out, &first, "num_predict", (double)v->num_predict);
	return e ? e : buf_add(out, "}", 1);
}

enum err ollama_vary(const struct ask *ask, const struct variant *v, struct buf *out)
{
	struct slice name, value, options = { 0 };
	struct scan s;
	enum err e = buf_add(out, "{", 1);

	for (scan_init(&s, ask->forward); !e && scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("options"))) {
			options = value;
		} else if (!slice_is(name, SLICE("stream"))) {
			e = buf_addf(out, "\"%.*s\":", (int)name.len, name.at);
			e = e ? e : buf_put(out, value);
			e = e ? e : buf_add(out, ",", 1);
		}
	}
	if (!e && s.bad)
		e = ERR_BAD_JSON;                /* nested deeper than is looked into: half of it would be another question */
	e = e ? e : buf_put(out, SLICE("\"stream\":false,\"options\":"));
	e = e ? e : put_options(v, options, out);
	return e ? e : buf_add(out, "}", 1);
}
