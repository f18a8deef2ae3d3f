/* ask.c - see ask.h. */
#include "tests/bench/load/ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/load/net.h"

enum { PARTS = 7, PART_BYTES = 1024 };

struct out {
	char *to;
	size_t len;
	const struct ask_spec *s;
	uint64_t turn;
};

static __attribute__((format(printf, 2, 3))) void put(struct out *o, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(o->to + o->len, ASK_BYTES - o->len, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= ASK_BYTES - o->len)
		die("a request over %d bytes", ASK_BYTES);
	o->len += (size_t)n;
}

/* One place where JSON allows white space: the turn's next ternary digit says which. */
static void space(struct out *o)
{
	if (o->s->shape != ASK_RESPACED)
		return;
	put(o, "%s", o->turn % 3 == 0 ? " " : o->turn % 3 == 1 ? "" : "\n  ");
	o->turn /= 3;
}

/* {"name":value, ...} from n "name\0value" pairs, in the order the turn says. */
static void put_object(struct out *o, char parts[][PART_BYTES], int n)
{
	int order[PARTS];

	for (int i = 0; i < n; i++)
		order[i] = i;
	for (int i = n - 1; i > 0 && o->s->shape == ASK_REORDERED; i--) {
		int j = (int)(o->turn % (unsigned)(i + 1)), t = order[i];

		o->turn /= (unsigned)(i + 1);
		order[i] = order[j];
		order[j] = t;
	}
	put(o, "{");
	for (int i = 0; i < n; i++) {
		const char *name = parts[order[i]];

		put(o, "%s", i ? "," : "");
		space(o);
		put(o, "\"%s\":", name);
		space(o);
		put(o, "%s", name + strlen(name) + 1);
	}
	put(o, "}");
}

static void part(char to[static PART_BYTES], const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void part(char to[static PART_BYTES], const char *name, const char *format, ...)
{
	size_t at = strlen(name) + 1;
	va_list ap;

	memcpy(to, name, at);
	va_start(ap, format);
	vsnprintf(to + at, PART_BYTES - at, format, ap);
	va_end(ap);
}

size_t ask_write(char to[static ASK_BYTES], const struct ask_spec *s)
{
	char body[ASK_BYTES], parts[PARTS][PART_BYTES], question[256];
	struct out inner = { body, 0, s, s->turn }, o = { to, 0, s, 0 };
	int n = 0;

	part(parts[n++], "temperature", "0.2");
	part(parts[n++], "seed", "42");
	part(parts[n++], "bench_id", "%u", s->id);
	part(parts[n++], "bench_n", "%lld", (long long)s->chunks);
	part(parts[n++], "bench_gap", "%lld", (long long)s->gap);
	part(parts[n++], "bench_first", "%lld", (long long)s->first);
	part(parts[n++], "bench_size", "%lld", (long long)s->size);
	put_object(&inner, parts, n);
	char options[ASK_BYTES];
	snprintf(options, sizeof options, "%s", body);
	inner.len = 0;

	snprintf(question, sizeof question, "Why does the machine number %u answer slowly in the morning and quickly at "
		 "night, and what would you change about it first?", s->id);
	n = 0;
	part(parts[n++], "model", "\"bench\"");
	part(parts[n++], "messages", "[{\"role\":\"system\",\"content\":\"You are a patient engineer. Answer in plain words, "
	     "say what you are sure of and what you only guess, and keep to the point.\"},"
	     "{\"role\":\"user\",\"content\":\"%s\"}]", s->question ? s->question : question);
	part(parts[n++], "stream", "%s", s->stream ? "true" : "false");
	part(parts[n++], "options", "%s", options);
	put_object(&inner, parts, n);

	put(&o, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ollabench\r\nContent-Type: application/json\r\n%s"
	    "Content-Length: %zu\r\n\r\n", s->path, strncmp(s->host, "unix:", 5) ? s->host : "localhost", s->extra, inner.len);
	put(&o, "%s", body);
	return o.len;
}

uint32_t ask_fresh_ids(uint32_t how_many)
{
	static uint32_t next;

	/* Microseconds of uptime, folded: two runs a second apart are a million ids apart. */
	if (!next)
		next = (uint32_t)(now_ns() / 1000) | 1;
	next += how_many;
	return next - how_many;
}
