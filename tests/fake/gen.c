/* gen.c - answers that take time: generations as Ollama streams them, shaped by directives.
 *
 * Directives are members of the request's `options` named fake_NAME, or words in the prompt [[NAME=value …]],
 * or the header `X-Fake: NAME=value …`; README.md in this folder lists them. A generation emits pieces by number,
 * and before each number may wait (pace, barrier), fail, die or lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "tests/fake/fake.h"

enum { OUT_PAUSE = 256 << 10, TURN_PIECES = 64, CONTEXT_MAX = 4096, AT_EVERY = -1, AT_DONE = -2 };

enum gen_wait { WAIT_NONE, WAIT_SLOT, WAIT_TIME, WAIT_BARRIER, WAIT_OUTPUT, WAIT_EVER };
struct gen {
	struct req *r;
	enum gen_kind kind;
	enum gen_wait wait;
	struct timer timer;
	struct gen *next;                      /* in the slot queue or at a barrier */
	struct barrier *barrier;
	bool slotted, running, paced, passed, head_out, stream;
	json_t *d;                             /* directives */
	/* shape */
	long pace_ms, first_ms, fail_after, die_after, line_bytes, line_at, barrier_at, no_newline, per_chunk, half_line, bad_json;
	const char *barrier_name, *shape, *bad_chunk, *never_end, *done_reason;
	/* what is said */
	char *model;
	struct str think, text, tools, context;
	size_t think_at, text_at;
	long tokens, word, i, prompt_tokens, said, num_predict, top_logprobs;
	uint64_t seed;
	bool logprobs, words, raw, tools_out, cut, think_edge;
	struct str chunk;                      /* lines gathered for one HTTP chunk */
	long in_chunk;
	struct str full_text, full_think, full_logprobs;
	/* GEN_BODY and GEN_LINES */
	struct str body, *lines;
	size_t n_lines;
	int status;
	const char *type;
	bool close_at_end;
	char v1_id[32];
	bool usage;
};

static void gen_run(struct gen *g);

/* ---- directives ---- */
static void directive_word(json_t *d, const char *word, size_t n)
{
	const char *eq = memchr(word, '=', n);
	size_t k = eq ? (size_t)(eq - word) : n;
	const char *name = word;
	char *value = eq ? text_copy(eq + 1, n - k - 1) : text_copy("1", 1), *key, *end;
	long v = strtol(value, &end, 10);

	if (k > 5 && !strncmp(name, "fake_", 5)) {
		name += 5;
		k -= 5;
	}
	key = text_copy(name, k);
	for (char *p = value; *p; p++)
		if (*p == '_' && strchr("+", value[0]))     /* +a_b_c: spaces cannot be written otherwise */
			*p = ' ';
	json_object_set_new(d, key, *value && !*end ? json_integer(v) : json_string(value + (value[0] == '+')));
	free(key);
	free(value);
}

static void directive_words(json_t *d, const char *text, size_t n)
{
	for (const char *p = text, *end = text + n; p < end;) {
		size_t k = 0;

		while (p < end && *p == ' ')
			p++;
		while (p + k < end && p[k] != ' ')
			k++;
		if (k)
			directive_word(d, p, k);
		p += k;
	}
}

json_t *directives_of(const struct req *r, const json_t *body, const char *prompt)
{
	json_t *d = json_object(), *v;
	const char *key;
	char *head = req_header(r, "X-Fake");

	if (fake.always)
		directive_words(d, fake.always, strlen(fake.always));
	json_object_foreach(get_field(body, "options"), key, v)
		if (!strncmp(key, "fake_", 5))
			json_object_set(d, key + 5, v);
	for (const char *p = prompt, *end; p && (p = strstr(p, "[[")) && (end = strstr(p, "]]")); p = end + 2)
		directive_words(d, p + 2, (size_t)(end - p - 2));
	if (head)
		directive_words(d, head, strlen(head));
	free(head);
	return d;
}

static long d_int(const json_t *d, const char *name, long otherwise)
{
	const json_t *v = json_object_get(d, name);

	return json_is_integer(v) ? (long)json_integer_value(v) : json_is_real(v) ? (long)json_real_value(v)
		: json_is_true(v) ? 1 : json_is_false(v) ? 0 : otherwise;
}

static const char *d_text(const json_t *d, const char *name, const char *if_set)
{
	const json_t *v = json_object_get(d, name);

	return json_is_string(v) ? json_string_value(v)
		: json_is_true(v) || (json_is_integer(v) && json_integer_value(v)) ? if_set : NULL;
}

/* ---- barriers ---- */
static struct barrier *barrier_get(const char *name)
{
	struct barrier *b;

	for (b = fake.barriers; b && strcmp(b->name, name); b = b->next)
		;
	if (!b) {
		b = must(calloc(1, sizeof *b));
		b->name = text_copy(name, strlen(name));
		b->next = fake.barriers;
		fake.barriers = b;
	}
	return b;
}

static void barrier_leave(struct gen *g)
{
	struct gen **p = &g->barrier->waiting;

	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	g->next = NULL;
	g->barrier = NULL;
	g->wait = WAIT_NONE;
	fake.waiting--;
	fake.dirty = true;
}

/* Opens the barrier for good (passes 0), or lets that many pass; all: only those that wait now. */
void barrier_release(const char *name, long passes, bool all)
{
	struct barrier *b = barrier_get(name);
	struct gen *g;

	if (all)
		for (passes = 0, g = b->waiting; g; g = g->next)
			passes++;
	else if (!passes)
		b->open = true;
	b->passes += passes;
	while ((b->open || b->passes) && (g = b->waiting)) {
		barrier_leave(g);
		b->passes -= !b->open;
		g->passed = true;
		gen_run(g);
	}
}

void barriers_reset(void)
{
	for (struct barrier *b = fake.barriers; b; b = b->next) {
		b->open = false;
		b->passes = 0;
	}
}

static bool barrier_stop(struct gen *g)
{
	struct barrier *b;

	if (!g->barrier_name || g->passed)
		return false;
	b = barrier_get(g->barrier_name);
	if (b->open)
		return false;
	if (b->passes) {
		b->passes--;
		return false;
	}
	g->wait = WAIT_BARRIER;
	g->barrier = b;
	g->next = NULL;
	struct gen **p = &b->waiting;

	while (*p)
		p = &(*p)->next;
	*p = g;
	fake.waiting++;
	fake.dirty = true;
	return true;
}

/* ---- slots ---- */
static void slot_take(struct gen *g)
{
	g->slotted = true;
	g->wait = WAIT_NONE;
	g->r->state = REQ_RUNNING;
	g->r->started_us = now_us();
	fake.running++;
	fake.started++;
	fake.dirty = true;
}

void gens_from_queue(void)
{
	while (fake.queue_first && (!fake.slots || fake.running < fake.slots)) {
		struct gen *g = fake.queue_first;

		fake.queue_first = g->next;
		if (!fake.queue_first)
			fake.queue_last = NULL;
		g->next = NULL;
		fake.queued--;
		slot_take(g);
		gen_run(g);
	}
}

/* ---- end of a generation ---- */
static void gen_free(struct gen *g)
{
	timer_stop(&g->timer);
	if (g->wait == WAIT_BARRIER)
		barrier_leave(g);
	if (g->wait == WAIT_SLOT) {
		struct gen **p = &fake.queue_first, *last = NULL;

		for (; *p != g; p = &(*p)->next)
			last = *p;
		*p = g->next;
		if (fake.queue_last == g)
			fake.queue_last = last;
		fake.queued--;
	}
	if (g->slotted)
		fake.running--;
	g->r->gen = NULL;
	json_decref(g->d);
	free(g->model);
	str_free(&g->think);
	str_free(&g->text);
	str_free(&g->tools);
	str_free(&g->context);
	str_free(&g->chunk);
	str_free(&g->full_text);
	str_free(&g->full_think);
	str_free(&g->full_logprobs);
	str_free(&g->body);
	for (size_t i = 0; i < g->n_lines; i++)
		str_free(&g->lines[i]);
	free(g->lines);
	free(g);
	fake.dirty = true;
}

static void queue_later_fire(struct timer *t)
{
	(void)t;
	gens_from_queue();
}

/* The next in the queue starts from the loop, not from inside whoever freed the slot. */
static void queue_later(void)
{
	static struct timer t = { .fire = queue_later_fire };

	if (!t.slot)
		timer_arm(&t, now_us());
}

void gen_cancel(struct gen *g)
{
	struct req *r = g->r;

	gen_free(g);
	req_ended(r, REQ_CANCELLED);
	queue_later();
}

static void gen_end(struct gen *g, enum req_state how, bool close, bool reset)
{
	struct req *r = g->r;

	gen_free(g);
	req_ended(r, how);
	queue_later();
	if (close)
		req_close(r, reset);
	else
		reply_end(r);
}

/* ---- chunks ---- */
static void head_out(struct gen *g, int status, const char *type)
{
	struct reply_opts o = { .type = type };
	struct str s = { 0 };
	char *extra = NULL;
	const char *more = d_text(g->d, "header", NULL);

	if (g->head_out)
		return;
	g->head_out = true;
	if (more) {
		struct str e = { 0 };

		str_fmt(&e, "%s\r\n", more);
		extra = e.at;
		o.extra = extra;
	}
	if (d_int(g->d, "until_close", 0)) {
		g->close_at_end = true;
		g->r->conn->close_after = true;
	}
	reply_head(g->r, &s, status, &o, d_int(g->d, "until_close", 0) ? -2 : -1);
	out_bytes(g->r->conn, s.at, s.n);
	str_free(&s);
	free(extra);
}

static bool framed(const struct gen *g)
{
	return g->r->minor == 1 && !d_int(g->d, "until_close", 0);
}

static void chunk_out(struct gen *g, const char *bytes, size_t n)
{
	struct str s = { 0 };
	size_t claim = n;

	if (!framed(g)) {
		out_bytes(g->r->conn, bytes, n);
		return;
	}
	if (g->bad_chunk && g->i == 2) {
		claim = !strcmp(g->bad_chunk, "short") ? n / 2 : !strcmp(g->bad_chunk, "long") ? n * 3 : n;
		if (!strcmp(g->bad_chunk, "hex"))
			str_puts(&s, "zz\r\n");
		if (!strcmp(g->bad_chunk, "huge"))
			str_puts(&s, "fffffffffffffffff\r\n");
		if (!strcmp(g->bad_chunk, "negative"))
			str_puts(&s, "-5\r\n");
	}
	if (!s.n)
		str_fmt(&s, "%zx\r\n", claim);
	str_add(&s, bytes, n);
	str_puts(&s, "\r\n");
	out_bytes(g->r->conn, s.at, s.n);
	str_free(&s);
}

static void line_flush(struct gen *g)
{
	if (g->chunk.n)
		chunk_out(g, g->chunk.at, g->chunk.n);
	g->chunk.n = 0;
	g->in_chunk = 0;
}

static void line_out(struct gen *g, const struct str *s, bool newline)
{
	str_add(&g->chunk, s->at, s->n);
	if (newline)
		str_puts(&g->chunk, "\n");
	if (++g->in_chunk >= g->per_chunk)
		line_flush(g);
}

static void last_chunk(struct gen *g)
{
	line_flush(g);
	if (framed(g))
		out_bytes(g->r->conn, "0\r\n\r\n", 5);
}

/* ---- what is said ---- */
static const char *const words[] = {
	"river", "stone", "a", "the", "of", "light", "walks", "under", "green", "seven", "boats", "carry", "letters",
	"north", "where", "old", "clocks", "sing", "and", "quiet", "foxes", "count", "silver", "leaves", "with",
	"paper", "moons", "while", "small", "engines", "dream", "about", "salt", "winds", "from", "harbour", "to",
	"lantern", "garden", "slow", "bridges", "remember", "every", "name", "that", "rain", "wrote", "down",
};
enum { WORDS = sizeof words / sizeof *words };

static size_t next_token(const struct str *text, size_t at, long bytes)
{
	size_t n = at;

	if (bytes > 0) {
		n = at + (size_t)bytes < text->n ? at + (size_t)bytes : text->n;
	} else {
		while (n < text->n && text->at[n] == ' ')
			n++;
		while (n < text->n && text->at[n] != ' ')
			n++;
		/* trailing punctuation is a token of its own, as with real vocabularies */
		if (n - at > 2 && strchr(".!?", text->at[n - 1]))
			n--;
	}
	while (n < text->n && ((unsigned char)text->at[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static void put_logprob(struct str *s, const char *token, size_t n, uint64_t h, long top)
{
	for (long i = -1; i < top; i++) {
		double lp = i > 0 ? -7.0 - (double)(h % 4000) / 1000 - (double)i : -0.00001 - (double)(h % 9973) / 1000000;

		if (i == 0)
			str_puts(s, ",\"top_logprobs\":[");
		else if (i > 0)
			str_puts(s, ",");
		str_puts(s, "{\"token\":");
		str_json(s, i > 0 ? words[(h + (uint64_t)i) % WORDS] : token, i > 0 ? strlen(words[(h + (uint64_t)i) % WORDS]) : n);
		str_fmt(s, ",\"logprob\":%.16g,\"bytes\":[", lp);
		for (size_t k = 0; k < (i > 0 ? strlen(words[(h + (uint64_t)i) % WORDS]) : n); k++)
			str_fmt(s, "%s%d", k ? "," : "", (unsigned char)(i > 0 ? words[(h + (uint64_t)i) % WORDS] : token)[k]);
		str_puts(s, "]");
		if (i >= 0)
			str_puts(s, "}");
	}
	str_puts(s, top > 0 ? "]}" : "}");
}

/* A value that fits a JSON schema, roughly. */
static void put_schema(struct str *s, const json_t *schema, uint64_t h)
{
	const char *type = get_text(schema, "type");
	const json_t *e = json_object_get(schema, "enum");

	if (json_is_array(e) && json_array_size(e)) {
		char *t = json_dumps(json_array_get(e, h % json_array_size(e)), JSON_ENCODE_ANY | JSON_COMPACT);

		str_puts(s, t);
		free(t);
	} else if (json_is_object(json_object_get(schema, "properties"))) {
		const char *key;
		json_t *v;
		bool first = true;

		str_puts(s, "{");
		json_object_foreach(json_object_get(schema, "properties"), key, v) {
			str_puts(s, first ? "" : ", ");
			str_json(s, key, strlen(key));
			str_puts(s, ": ");
			put_schema(s, v, hash_mix(h + strlen(key)));
			first = false;
		}
		str_puts(s, "}");
	} else if (type && !strcmp(type, "array")) {
		str_puts(s, "[");
		put_schema(s, json_object_get(schema, "items"), hash_mix(h));
		str_puts(s, "]");
	} else if (type && (!strcmp(type, "integer") || !strcmp(type, "number"))) {
		str_fmt(s, "%d", (int)(h % 90) + 1);
	} else if (type && !strcmp(type, "boolean")) {
		str_puts(s, h & 1 ? "true" : "false");
	} else if (type && !strcmp(type, "null")) {
		str_puts(s, "null");
	} else if (type && !strcmp(type, "object")) {
		str_puts(s, "{}");
	} else {
		str_json(s, words[h % WORDS], strlen(words[h % WORDS]));
	}
}

static void put_tool_calls(struct gen *g, json_t *tools, long n, bool v1)
{
	struct str *s = &g->tools;

	for (long i = 0; i < n; i++) {
		const json_t *f = json_object_get(json_array_get(tools, (size_t)i % json_array_size(tools)), "function");
		const char *name = get_text(f, "name");
		uint64_t h = hash_mix(g->seed + (uint64_t)i);
		struct str args = { 0 };
		json_t *v;
		char *compact;

		put_schema(&args, json_object_get(f, "parameters"), h);
		v = json_loadb(args.at, args.n, JSON_DECODE_ANY, NULL);
		compact = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
		args.n = 0;
		str_puts(&args, compact ? compact : "{}");
		free(compact);
		json_decref(v);
		str_fmt(s, "%s{\"id\":\"call_%08x\",", i ? "," : "", (unsigned)h);
		if (v1) {
			str_fmt(s, "\"index\":%ld,\"type\":\"function\",\"function\":{\"name\":", i);
			str_json(s, name ? name : "", name ? strlen(name) : 0);
			str_puts(s, ",\"arguments\":");
			str_json(s, args.at, args.n);
		} else {
			str_fmt(s, "\"function\":{\"index\":%ld,\"name\":", i);
			str_json(s, name ? name : "", name ? strlen(name) : 0);
			str_puts(s, ",\"arguments\":");
			str_add(s, args.at, args.n);
		}
		str_puts(s, "}}");
		str_free(&args);
	}
}

static bool chat_like(const struct gen *g)
{
	return g->kind == GEN_CHAT;
}

static void put_line_head(struct gen *g, struct str *s)
{
	str_puts(s, "{");
	if (!d_int(g->d, "no_model", 0)) {
		str_puts(s, "\"model\":");
		str_json(s, g->model, strlen(g->model));
		str_puts(s, ",");
	}
	str_puts(s, "\"created_at\":");
	put_created_at(s);
	str_puts(s, ",");
}

/* The part that carries text: message, delta or response, as the endpoint or the shape says. */
static void put_said(struct gen *g, struct str *s, const struct str *text, const struct str *think, const char *tools)
{
	const char *shape = g->shape ? g->shape : chat_like(g) ? "message" : "response";

	if (!strcmp(shape, "response")) {
		str_puts(s, "\"response\":");
		str_json(s, text->at, text->n);
		if (think->n) {
			str_puts(s, ",\"thinking\":");
			str_json(s, think->at, think->n);
		}
		if (tools)
			str_fmt(s, ",\"tool_calls\":[%s]", tools);
	} else if (!strcmp(shape, "delta_text")) {
		str_puts(s, "\"delta\":");
		str_json(s, text->at, text->n);
	} else {
		str_fmt(s, "\"%s\":{\"role\":\"assistant\",\"content\":", shape);
		str_json(s, text->at, text->n);
		if (think->n) {
			str_puts(s, ",\"thinking\":");
			str_json(s, think->at, think->n);
		}
		if (tools)
			str_fmt(s, ",\"tool_calls\":[%s]", tools);
		if (d_int(g->d, "extra", 0))
			str_puts(s, ",\"x_part\":{\"of\":[1,2.50,1e3]}");
		str_puts(s, "}");
	}
	if (d_int(g->d, "extra", 0))
		str_puts(s, ",\"x_extra\":\"kept\"");
}

static const char *why_done(const struct gen *g)
{
	return g->done_reason ? g->done_reason : g->cut ? "length" : "stop";
}

static void put_done(struct gen *g, struct str *s)
{
	uint64_t eval_ns = (uint64_t)d_int(g->d, "eval_ns", (g->said + 1) * 412000L);
	uint64_t prompt_ns = (uint64_t)d_int(g->d, "prompt_ns", g->prompt_tokens * 61000L);
	const char *fields = d_text(g->d, "done_fields", NULL);

	str_puts(s, ",\"done\":true,\"done_reason\":");
	str_json(s, why_done(g), strlen(why_done(g)));
	if (g->kind == GEN_GENERATE && !g->raw)
		str_fmt(s, ",\"context\":[%s]", g->context.at ? g->context.at : "");
	str_fmt(s, ",\"total_duration\":%llu,\"load_duration\":%llu", (unsigned long long)(eval_ns + prompt_ns + 3141592),
		(unsigned long long)(1500000 + g->seed % 700000));
	str_fmt(s, ",\"prompt_eval_count\":%ld,\"prompt_eval_duration\":%llu,\"eval_count\":%ld,\"eval_duration\":%llu",
		g->prompt_tokens, (unsigned long long)prompt_ns, g->said + !g->cut, (unsigned long long)eval_ns);
	if (fields)
		str_fmt(s, ",%s", fields);
}

/* ---- OpenAI's lines ---- */
static void v1_line(struct gen *g, const char *text, size_t n, const char *tools, bool last, struct str *chunk)
{
	struct str s = { 0 };

	if (g->kind == GEN_V1_TEXT) {
		str_fmt(&s, "data: {\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%lld,\"choices\":[{\"text\":", g->v1_id, (long long)time(NULL));
		str_json(&s, text, n);
		str_puts(&s, ",\"index\":0,\"finish_reason\":");
		if (last)
			str_fmt(&s, "\"%s\"", why_done(g));
		else
			str_puts(&s, "null");
		str_puts(&s, "}],\"model\":");
		str_json(&s, g->model, strlen(g->model));
		str_puts(&s, ",\"system_fingerprint\":\"fp_ollama\"");
		if (g->usage)
			str_puts(&s, ",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}");
		str_puts(&s, "}\n\n");
	} else {
		str_fmt(&s, "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":", g->v1_id, (long long)time(NULL));
		str_json(&s, g->model, strlen(g->model));
		str_puts(&s, ",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{");
		if (!last) {
			str_puts(&s, g->said <= 1 && !g->think_edge ? "\"role\":\"assistant\",\"content\":" : "\"content\":");
			str_json(&s, text, n);
			if (tools)
				str_fmt(&s, ",\"tool_calls\":[%s]", tools);
		}
		str_puts(&s, "},\"finish_reason\":");
		if (last)
			str_fmt(&s, "\"%s\"", g->tools_out ? "tool_calls" : why_done(g));
		else
			str_puts(&s, "null");
		str_puts(&s, "}]}\n\n");
	}
	if (last && g->usage) {
		str_fmt(&s, "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,", g->v1_id,
			g->kind == GEN_V1_TEXT ? "text_completion" : "chat.completion.chunk", (long long)time(NULL));
		str_puts(&s, "\"model\":");
		str_json(&s, g->model, strlen(g->model));
		str_fmt(&s, ",\"system_fingerprint\":\"fp_ollama\",\"choices\":[],\"usage\":{\"prompt_tokens\":%ld,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
			g->prompt_tokens, g->said + 1, g->prompt_tokens + g->said + 1);
	}
	if (last)
		str_puts(&s, "data: [DONE]\n\n");
	str_add(chunk, s.at, s.n);
	str_free(&s);
}

static void v1_whole(struct gen *g)
{
	struct str s = { 0 };
	struct reply_opts o = { .type = "application/json" };
	struct req *r = g->r;

	str_fmt(&s, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", g->v1_id,
		g->kind == GEN_V1_TEXT ? "text_completion" : "chat.completion", (long long)time(NULL));
	str_json(&s, g->model, strlen(g->model));
	str_puts(&s, ",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{");
	if (g->kind == GEN_V1_TEXT) {
		str_puts(&s, "\"text\":");
		str_json(&s, g->full_text.at, g->full_text.n);
		str_puts(&s, ",\"index\":0");
	} else {
		str_puts(&s, "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
		str_json(&s, g->full_text.at, g->full_text.n);
		if (g->full_think.n) {
			str_puts(&s, ",\"reasoning\":");
			str_json(&s, g->full_think.at, g->full_think.n);
		}
		if (g->tools.n)
			str_fmt(&s, ",\"tool_calls\":[%s]", g->tools.at);
		str_puts(&s, "}");
	}
	str_fmt(&s, ",\"finish_reason\":\"%s\"}],\"usage\":{\"prompt_tokens\":%ld,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n",
		g->tools.n ? "tool_calls" : why_done(g), g->prompt_tokens, g->said + 1, g->prompt_tokens + g->said + 1);
	gen_free(g);
	reply(r, 200, &o, s.at, s.n);
	str_free(&s);
	queue_later();
}

/* ---- running ---- */
static bool is_v1(const struct gen *g)
{
	return g->kind == GEN_V1_CHAT || g->kind == GEN_V1_TEXT;
}

static void say(struct gen *g, const char *text, size_t n, bool thinking, const char *tools)
{
	struct str none = { 0 }, t = { 0 }, s = { 0 };
	uint64_t h = hash_mix(g->seed + (uint64_t)g->i);

	str_add(&t, text, n);
	g->said += n > 0;
	if (g->logprobs && n && !thinking && g->stream)
		put_logprob(&s, text, n, h, g->top_logprobs);
	if (!g->stream) {
		str_add(thinking ? &g->full_think : &g->full_text, t.at, t.n);
		if (g->logprobs && n && !thinking) {
			if (g->full_logprobs.n)
				str_puts(&g->full_logprobs, ",");
			put_logprob(&g->full_logprobs, text, n, h, g->top_logprobs);
		}
	} else if (is_v1(g)) {
		if (thinking) {
			struct str line = { 0 };

			str_fmt(&line, "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":", g->v1_id, (long long)time(NULL));
			str_json(&line, g->model, strlen(g->model));
			str_puts(&line, ",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"reasoning\":");
			str_json(&line, t.at, t.n);
			str_puts(&line, "},\"finish_reason\":null}]}\n\n");
			line_out(g, &line, false);
			str_free(&line);
			g->think_edge = true;
		} else {
			struct str line = { 0 };

			v1_line(g, t.at ? t.at : "", t.n, tools, false, &line);
			line_out(g, &line, false);
			str_free(&line);
		}
	} else {
		struct str line = { 0 };

		put_line_head(g, &line);
		put_said(g, &line, thinking ? &none : &t, thinking ? &t : &none, tools);
		str_puts(&line, ",\"done\":false");
		if (s.n)
			str_fmt(&line, ",\"logprobs\":[%s]", s.at);
		str_puts(&line, "}");
		if (g->bad_json == g->i)
			line.at[0] = '<';
		if (g->half_line == g->i)
			line.n /= 2;
		line_out(g, &line, g->half_line != g->i && g->no_newline < 2);
		str_free(&line);
	}
	str_free(&s);
	str_free(&t);
}

/* A line of that many bytes, made while it is sent. */
static void say_long(struct gen *g, size_t bytes)
{
	struct str a = { 0 }, none = { 0 };
	const char *z;
	struct str text = { 0 };
	size_t before, after;

	str_puts(&text, "\x01");
	put_line_head(g, &a);
	put_said(g, &a, &text, &none, NULL);
	str_puts(&a, ",\"done\":false}\n");
	z = strstr(a.at, "\\u0001");
	before = (size_t)(z - a.at);
	after = a.n - before - 6;
	line_flush(g);
	if (framed(g)) {
		struct str size = { 0 };

		str_fmt(&size, "%zx\r\n", before + bytes + after);
		out_bytes(g->r->conn, size.at, size.n);
		str_free(&size);
	}
	out_bytes(g->r->conn, a.at, before);
	out_fill(g->r->conn, 'x', bytes);
	out_bytes(g->r->conn, z + 6, after);
	if (framed(g))
		out_bytes(g->r->conn, "\r\n", 2);
	g->said++;
	str_free(&a);
	str_free(&text);
}

static void gen_fire(struct timer *t)
{
	struct gen *g = (struct gen *)((char *)t - offsetof(struct gen, timer));

	g->wait = WAIT_NONE;
	g->paced = true;
	gen_run(g);
}

static void fail(struct gen *g)
{
	static const char text[] = "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}";
	struct req *r = g->r;

	if (!g->stream || is_v1(g)) {
		struct reply_opts o = { .type = "application/json; charset=utf-8" };

		if (is_v1(g) && g->head_out) {
			struct str s = { 0 };

			str_fmt(&s, "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":null}]}\n\n", g->v1_id, (long long)time(NULL));
			line_out(g, &s, false);
			str_free(&s);
			last_chunk(g);
			gen_end(g, REQ_FAILED, g->close_at_end, false);
			return;
		}
		gen_free(g);
		req_ended(r, REQ_FAILED);
		reply(r, 500, &o, text, sizeof text - 1);
		queue_later();
		return;
	}
	if (!g->head_out) {                       /* before the first token: a real status, no newline */
		head_out(g, 500, "application/json");
		line_flush(g);
		chunk_out(g, text, sizeof text - 1);
	} else {
		struct str s = { 0 };

		str_puts(&s, text);
		line_out(g, &s, true);
		str_free(&s);
	}
	last_chunk(g);
	gen_end(g, REQ_FAILED, g->close_at_end, false);
}

static void die(struct gen *g)
{
	bool rst = !d_text(g->d, "die_how", NULL) || !strcmp(d_text(g->d, "die_how", ""), "rst");

	line_flush(g);
	gen_end(g, REQ_FAILED, true, rst);
}

/* One body; with `cut_body` half of what its length promises, then the end. */
static void body_out(struct gen *g, int status, const struct reply_opts *o, const struct str *body)
{
	struct req *r = g->r;
	bool cut = d_int(g->d, "cut_body", 0);
	struct str head = { 0 };

	gen_free(g);
	queue_later();
	if (!cut) {
		reply(r, status, o, body->at ? body->at : "", body->n);
		return;
	}
	reply_head(r, &head, status, o, (long long)body->n);
	str_add(&head, body->at, body->n / 2);
	out_bytes(r->conn, head.at, head.n);
	str_free(&head);
	req_ended(r, REQ_FAILED);
	req_close(r, false);
}

static void finish(struct gen *g)
{
	struct str s = { 0 }, none = { 0 };
	struct reply_opts o = { .type = "application/json; charset=utf-8" };
	struct req *r = g->r;

	if (g->kind == GEN_BODY) {
		struct str body = g->body;

		o.type = g->type;
		g->body = none;
		body_out(g, g->status, &o, &body);
		str_free(&body);
		return;
	}
	if (g->kind == GEN_LINES) {
		if (!g->raw)
			last_chunk(g);
		gen_end(g, REQ_DONE, g->close_at_end, false);
		return;
	}
	if (!g->stream && is_v1(g)) {
		v1_whole(g);
		return;
	}
	if (is_v1(g)) {
		if (!d_int(g->d, "no_done", 0)) {
			v1_line(g, "", 0, NULL, true, &s);
			line_out(g, &s, false);
		}
	} else if (!g->stream) {
		put_line_head(g, &s);
		put_said(g, &s, &g->full_text, &g->full_think, g->tools.n ? g->tools.at : NULL);
		put_done(g, &s);
		if (g->full_logprobs.n)
			str_fmt(&s, ",\"logprobs\":[%s]", g->full_logprobs.at);
		str_puts(&s, "}");
		if (d_int(g->d, "half_line", -1) >= 0)
			s.n /= 2;
		body_out(g, 200, &o, &s);
		str_free(&s);
		return;
	} else if (!d_int(g->d, "no_done", 0)) {
		put_line_head(g, &s);
		put_said(g, &s, &none, &none, NULL);
		put_done(g, &s);
		str_puts(&s, "}");
		line_out(g, &s, !g->no_newline);
		if (d_text(g->d, "after_done", "{\"late\":true}")) {
			str_free(&s);
			str_puts(&s, d_text(g->d, "after_done", "{\"late\":true}"));
			line_out(g, &s, true);
		}
	}
	str_free(&s);
	if (g->never_end && !strcmp(g->never_end, "after_done")) {
		line_flush(g);
		g->wait = WAIT_EVER;
		conn_flush(r->conn);
		return;
	}
	if (g->bad_chunk && !strcmp(g->bad_chunk, "no_last")) {
		line_flush(g);
		gen_end(g, REQ_FAILED, true, false);
		return;
	}
	last_chunk(g);
	gen_end(g, REQ_DONE, g->close_at_end, false);
}

/* Says piece number g->i. False: there is none left but the last line. */
static bool step(struct gen *g)
{
	if (g->kind == GEN_BODY)
		return false;
	if (g->kind == GEN_LINES) {
		if ((size_t)g->i >= g->n_lines)
			return false;
		if (g->raw)
			out_bytes(g->r->conn, g->lines[g->i].at, g->lines[g->i].n);
		else
			line_out(g, &g->lines[g->i], false);
		return true;
	}
	if (g->think_at < g->think.n) {
		size_t to = next_token(&g->think, g->think_at, 0);

		say(g, g->think.at + g->think_at, to - g->think_at, true, NULL);
		g->think_at = to;
		return true;
	}
	if (g->num_predict > 0 && g->said >= g->num_predict) {
		g->cut = g->text_at < g->text.n || (g->words && g->word < g->tokens);
		return false;
	}
	if (g->line_bytes && g->i == g->line_at && g->stream && !is_v1(g)) {
		say_long(g, (size_t)g->line_bytes);
		return true;
	}
	if (g->words) {
		char word[40];
		uint64_t h = hash_mix(g->seed ^ hash_mix((uint64_t)g->word + 7));

		if (g->word >= g->tokens)
			return false;
		snprintf(word, sizeof word, "%s%s%s", g->word ? " " : "", words[h % WORDS], g->word == g->tokens - 1 ? "." : "");
		if (!g->word++)
			word[0] = (char)(word[0] & ~0x20);
		say(g, word, strlen(word), false, NULL);
		return true;
	}
	if (g->text_at < g->text.n) {
		size_t to = next_token(&g->text, g->text_at, d_int(g->d, "token_bytes", 0));

		say(g, g->text.at + g->text_at, to - g->text_at, false, NULL);
		g->text_at = to;
		return true;
	}
	if (g->tools.n && !g->tools_out) {
		g->tools_out = true;
		g->said += 10;
		if (g->stream)
			say(g, "", 0, false, g->tools.at);
		return g->stream;
	}
	return false;
}

static void gen_run(struct gen *g)
{
	struct conn *c = g->r->conn;

	if (g->running || g->wait != WAIT_NONE)
		return;
	g->running = true;
	for (int turn = 0;; turn++) {
		long pace = g->i ? g->pace_ms : g->first_ms;

		if (turn == TURN_PIECES) {
			g->wait = WAIT_TIME;
			timer_arm(&g->timer, now_us());
			g->paced = g->paced || !pace;
			break;
		}
		if (c->out_bytes > OUT_PAUSE) {
			g->wait = WAIT_OUTPUT;
			break;
		}
		if (pace && !g->paced) {
			g->wait = WAIT_TIME;
			timer_arm(&g->timer, now_us() + (uint64_t)pace * 1000);
			break;
		}
		if ((g->barrier_at == AT_EVERY || g->barrier_at == g->i) && barrier_stop(g))
			break;
		if (g->die_after == g->i) {
			g->running = false;
			die(g);
			return;
		}
		if (g->fail_after == g->i) {
			g->running = false;
			fail(g);
			return;
		}
		if (g->kind == GEN_LINES && !g->raw)
			head_out(g, 200, g->type);
		else if (g->kind != GEN_BODY && g->kind != GEN_LINES && g->stream)
			head_out(g, 200, is_v1(g) ? "text/event-stream" : "application/x-ndjson");
		if (!step(g)) {
			if (g->never_end && !strcmp(g->never_end, "before_done")) {
				line_flush(g);
				g->wait = WAIT_EVER;
				break;
			}
			if (g->barrier_at == AT_DONE && barrier_stop(g))
				break;
			g->running = false;
			finish(g);
			return;
		}
		g->i++;
		g->paced = g->passed = false;
		if (g->half_line == g->i - 1) {
			g->running = false;
			last_chunk(g);
			gen_end(g, REQ_FAILED, g->close_at_end, false);
			return;
		}
	}
	g->running = false;
	if (g->wait != WAIT_OUTPUT || c->first)
		conn_flush(c);
}

void gen_go_on(struct gen *g)
{
	if (g->wait != WAIT_OUTPUT)
		return;
	g->wait = WAIT_NONE;
	gen_run(g);
}

/* ---- starting ---- */
static void shape_set(struct gen *g)
{
	const json_t *d = g->d, *at = json_object_get(d, "barrier_at");

	g->pace_ms = d_int(d, "pace_ms", 0);
	g->first_ms = d_int(d, "first_ms", 0);
	g->fail_after = d_int(d, "fail_after", -1);
	g->die_after = d_int(d, "die_after", -1);
	g->line_bytes = d_int(d, "line_bytes", 0);
	g->line_at = d_int(d, "line_at", 1);
	g->half_line = d_int(d, "half_line", -1);
	g->bad_json = d_int(d, "bad_json", -1);
	g->per_chunk = d_int(d, "per_chunk", 1);
	g->no_newline = d_text(d, "no_newline", "last") ? strcmp(d_text(d, "no_newline", "last"), "all") ? 1 : 2 : 0;
	g->barrier_name = d_text(d, "barrier", "default");
	g->barrier_at = json_is_string(at) ? !strcmp(json_string_value(at), "every") ? AT_EVERY : AT_DONE : d_int(d, "barrier_at", 1);
	g->shape = d_text(d, "shape", NULL);
	g->bad_chunk = d_text(d, "bad_chunk", "long");
	g->never_end = d_text(d, "never_end", "before_done");
	g->done_reason = d_text(d, "done_reason", NULL);
	g->r->conn->split_bytes = (size_t)d_int(d, "split_bytes", 0);
	g->r->conn->split_ms = (unsigned)d_int(d, "split_ms", 0);
}

/* What is wrong at once: a status, a page that is not JSON, bytes that are not HTTP. True: answered. */
static bool shape_refuses(struct gen *g)
{
	struct req *r = g->r;
	long status = d_int(g->d, "status", 0);
	const char *error = d_text(g->d, "error", NULL), *garbage = d_text(g->d, "garbage", "\x01\x02\xff\xfe not HTTP at all\n\n\n");

	if (garbage) {
		out_bytes(r->conn, garbage, strlen(garbage));
		gen_end(g, REQ_FAILED, true, false);
		return true;
	}
	if (d_int(g->d, "html", 0)) {
		g->kind = GEN_BODY;
		g->status = status ? (int)status : 200;
		g->type = "text/html; charset=utf-8";
		str_puts(&g->body, "<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>\n");
	} else if (status && status != 200) {
		g->kind = GEN_BODY;
		g->status = (int)status;
		g->type = "application/json; charset=utf-8";
		str_puts(&g->body, "{\"error\":");
		str_json(&g->body, error ? error : "the fake was told to fail", error ? strlen(error) : 25);
		str_puts(&g->body, "}");
	}
	return false;
}

static struct gen *gen_new(struct req *r, enum gen_kind kind, json_t *d)
{
	struct gen *g = must(calloc(1, sizeof *g));

	*g = (struct gen){ .r = r, .kind = kind, .d = d, .timer.fire = gen_fire };
	r->gen = g;
	shape_set(g);
	return g;
}

static void gen_go(struct gen *g)
{
	if (g->kind == GEN_BODY && g->barrier_at == 1)
		g->barrier_at = 0;                /* a body is one piece */
	if (fake.slots && fake.running >= fake.slots) {
		g->r->state = REQ_QUEUED;
		g->wait = WAIT_SLOT;
		*(fake.queue_last ? &fake.queue_last->next : &fake.queue_first) = g;
		fake.queue_last = g;
		fake.queued++;
		fake.dirty = true;
		return;
	}
	slot_take(g);
	gen_run(g);
}

void gen_start_body(struct req *r, json_t *directives, int status, const char *type, struct str *body)
{
	struct gen *g = gen_new(r, GEN_BODY, directives);

	g->body = *body;
	*body = (struct str){ 0 };
	g->status = status;
	g->type = type;
	if (!shape_refuses(g))
		gen_go(g);
}

void gen_start_lines(struct req *r, json_t *directives, struct str *lines, size_t n, bool raw, bool close)
{
	struct gen *g = gen_new(r, GEN_LINES, directives);

	g->lines = lines;
	g->n_lines = n;
	g->raw = raw;
	g->close_at_end = close;
	g->stream = true;
	g->type = "application/x-ndjson";
	gen_go(g);
}

static void put_context(struct gen *g, const char *prompt)
{
	uint64_t h = 0;
	long n = 0;

	for (const char *p = prompt; *p && n < CONTEXT_MAX; n++) {
		size_t k = strcspn(p, " ") + (*p == ' ');

		k = k ? k : 1;
		h = hash_text(h, p, k);
		str_fmt(&g->context, "%s%d", n ? "," : "", (int)(h % 1000) + 4);
		p += k;
	}
	g->prompt_tokens = d_int(g->d, "prompt_tokens", n + 4);
}

void gen_start(struct req *r, enum gen_kind kind, json_t *body, const struct model *m)
{
	const json_t *options = get_field(body, "options"), *messages = get_field(body, "messages"), *last = NULL, *think, *format;
	json_t *tools = get_field(body, "tools"), *from = (kind == GEN_V1_CHAT || kind == GEN_V1_TEXT) ? body : get_field(body, "options");
	const char *prompt = get_text(body, "prompt"), *text, *role = NULL;
	struct str said = { 0 };
	struct gen *g;
	json_t *d;
	long calls;

	for (size_t i = 0; i < json_array_size(messages); i++) {
		const json_t *msg = json_array_get(messages, i), *content = get_field(msg, "content");

		last = msg;
		role = get_text(msg, "role");
		str_fmt(&said, "<%s>", role ? role : "");
		if (json_is_string(content))
			str_puts(&said, json_string_value(content));
		for (size_t k = 0; k < json_array_size(content); k++)
			str_puts(&said, get_text(json_array_get(content, k), "text") ? get_text(json_array_get(content, k), "text") : "");
	}
	if (last)
		prompt = get_text(last, "content");
	if (!last)
		str_puts(&said, prompt ? prompt : "");
	if (get_text(body, "system"))
		str_fmt(&said, "<system>%s", get_text(body, "system"));
	d = directives_of(r, body, prompt ? prompt : said.at);
	g = gen_new(r, kind, d);
	g->model = text_copy(get_text(body, "model") ? get_text(body, "model") : "", strlen(get_text(body, "model") ? get_text(body, "model") : ""));
	g->stream = get_bool(body, "stream", kind == GEN_GENERATE || kind == GEN_CHAT);
	g->raw = get_bool(body, "raw", false);
	g->logprobs = get_bool(body, "logprobs", false);
	g->top_logprobs = g->logprobs && json_is_integer(get_field(body, "top_logprobs")) ? (long)json_integer_value(get_field(body, "top_logprobs")) : 0;
	g->num_predict = json_is_integer(get_field(options, "num_predict")) ? (long)json_integer_value(get_field(options, "num_predict")) : d_int(body, "max_tokens", 0);
	g->usage = get_bool(get_field(body, "stream_options"), "include_usage", false);
	g->seed = hash_text(hash_text(1, m->digest, strlen(m->digest)), said.at, said.n);
	g->seed = hash_mix(g->seed ^ (uint64_t)(json_integer_value(get_field(from, "seed")) + 1));
	if (json_is_number(get_field(from, "temperature")))
		g->seed = hash_mix(g->seed + (uint64_t)(json_number_value(get_field(from, "temperature")) * 1000 + 0.5));
	snprintf(g->v1_id, sizeof g->v1_id, "%s-%d", kind == GEN_V1_TEXT ? "cmpl" : "chatcmpl", (int)(g->seed % 1000));
	put_context(g, said.at ? said.at : "");
	str_free(&said);
	if (shape_refuses(g))
		return;

	think = get_field(body, "think");
	if (model_can(m, "thinking") && !json_is_false(think) && !g->raw && kind != GEN_V1_TEXT) {
		text = d_text(d, "think", NULL);
		if (text)
			str_puts(&g->think, text);
		else if (json_object_get(d, "think") == NULL || d_int(d, "think", 0))
			for (long i = 0, n = d_int(d, "think_tokens", 6); i < n; i++)
				str_fmt(&g->think, "%s%s", i ? " " : "", words[hash_mix(g->seed + 99 + (uint64_t)i) % WORDS]);
	}
	calls = d_int(d, "tools", 1);
	if (json_array_size(tools) && (calls > 0 && json_object_get(d, "tools") ? 1 : !role || !strcmp(role, "user")) && calls)
		put_tool_calls(g, tools, calls, kind == GEN_V1_CHAT);
	text = d_text(d, "text", NULL);
	format = get_field(body, "format");
	if (kind == GEN_V1_CHAT && json_object_get(get_field(body, "response_format"), "json_schema"))
		format = json_object_get(json_object_get(get_field(body, "response_format"), "json_schema"), "schema");
	if (text) {
		str_puts(&g->text, text);
	} else if (json_is_object(format)) {
		put_schema(&g->text, format, g->seed);
	} else if (json_is_string(format) && !strcmp(json_string_value(format), "json")) {
		str_fmt(&g->text, "{\"%s\": \"%s\"}", words[g->seed % WORDS], words[g->seed / WORDS % WORDS]);
	} else if (!g->tools.n) {
		g->words = true;
		g->tokens = d_int(d, "tokens", 5 + (long)(g->seed % 9));
	}
	if (d_int(d, "fresh", 0) || json_object_get(d, "count")) {      /* every generation says another thing */
		if (g->words) {
			for (long i = 0; i < g->tokens; i++)
				str_fmt(&g->text, "%s%s", i ? " " : "", words[hash_mix(g->seed ^ hash_mix((uint64_t)i + 7)) % WORDS]);
			g->words = false;
		}
		str_fmt(&g->text, "%s#%lld", g->text.n ? " " : "", (long long)fake.started + 1);
	}
	gen_go(g);
}
