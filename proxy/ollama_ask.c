/* ollama_ask.c - requests of /api/chat, /api/generate, /api/embed and /api/embeddings as asks.
 *
 * The rule is "when in doubt, pass": whatever Ollama could read otherwise than we do (a key in another case, which
 * Ollama folds; a key twice, of which it takes the last; a wrong type; bytes behind the object) is not understood
 * here, and the upstream's verdict is the answer.
 *
 * The canonical form is the body with its top-level keys and those of `options` sorted, numbers by value, the
 * model in full, and without stream, keep_alive and complex. Everything else stays in the order it was written,
 * fields nobody knows included: two requests with one form are one question.
 *
 * Everything made here lives in the exchange's arena; the JSON tree is gone when parse returns. */
#include "proxy/dialect.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "proxy/base/scan.h"
#include "proxy/ollama.h"

/* Types a documented field may have, as bits. */
enum { T_TEXT = 1, T_BOOL = 2, T_WHOLE = 4, T_NUMBER = 8, T_OBJECT = 16, T_ARRAY = 32, T_TEXTS = 64, T_ANY = 127 };
enum { F_CHAT = 1 << FAMILY_CHAT, F_GENERATE = 1 << FAMILY_GENERATE, F_EMBED = 1 << FAMILY_EMBED,
       F_EMBEDDINGS = 1 << FAMILY_EMBEDDINGS, F_ASK = F_CHAT | F_GENERATE, F_ALL = 15 };

/* Every field Ollama documents, and `complex`, which is ours. A key that folds to one of these without being it is doubt. */
static const struct field { const char *name; unsigned families, types; } fields[] = {
	{ "model", F_ALL, T_TEXT },            { "messages", F_CHAT, T_ARRAY },       { "prompt", F_GENERATE | F_EMBEDDINGS, T_TEXT },
	{ "input", F_EMBED, T_TEXT | T_TEXTS }, { "suffix", F_GENERATE, T_TEXT },     { "system", F_GENERATE, T_TEXT },
	{ "template", F_GENERATE, T_TEXT },    { "context", F_GENERATE, T_ARRAY },    { "stream", F_ASK, T_BOOL },
	{ "raw", F_GENERATE, T_BOOL },         { "format", F_ASK, T_TEXT | T_OBJECT }, { "keep_alive", F_ALL, T_TEXT | T_NUMBER },
	{ "images", F_GENERATE, T_TEXTS },     { "options", F_ALL, T_OBJECT },        { "think", F_ASK, T_BOOL | T_TEXT },
	{ "tools", F_CHAT, T_ARRAY },          { "truncate", F_ALL, T_BOOL },         { "shift", F_ASK, T_BOOL },
	{ "logprobs", F_ASK, T_BOOL },         { "top_logprobs", F_ASK, T_WHOLE },    { "dimensions", F_EMBED, T_WHOLE },
	{ "_debug_render_only", F_ASK, T_BOOL }, { "complex", F_ALL, T_ANY },
};
static const struct field message_fields[] = {
	{ "role", 0, T_TEXT }, { "content", 0, T_TEXT }, { "thinking", 0, T_TEXT }, { "images", 0, T_TEXTS },
	{ "tool_calls", 0, T_ARRAY }, { "tool_name", 0, T_TEXT }, { "tool_call_id", 0, T_TEXT },
};
#define COUNT(list) (sizeof(list) / sizeof *(list))

enum { CANONICAL_SLACK = 4096, COMPLEX_MOST = 1000000 };

static bool of_type(const json_t *v, unsigned types)
{
	switch (json_typeof(v)) {
	case JSON_STRING:  return types & T_TEXT;
	case JSON_TRUE:
	case JSON_FALSE:   return types & T_BOOL;
	case JSON_INTEGER: return types & (T_WHOLE | T_NUMBER);
	case JSON_REAL:    return types & T_NUMBER;
	case JSON_OBJECT:  return types & T_OBJECT;
	case JSON_NULL:    return true;            /* Ollama leaves the field at its default */
	case JSON_ARRAY: {
		if (types & T_ARRAY)
			return true;
		size_t i;
		json_t *item;
		json_array_foreach((json_t *)v, i, item)
			if (!json_is_string(item))
				return false;
		return types & T_TEXTS;
	}
	}
	return false;
}

/* Equal as encoding/json folds: ASCII case, and the two characters beyond ASCII that fold into it
 * (U+017F long s, U+212A kelvin sign). */
static bool folds_to(const char *key, const char *name)
{
	for (; *key && *name; name++) {
		unsigned char c = (unsigned char)*key, n = (unsigned char)*name;
		if (c == 0xC5 && (unsigned char)key[1] == 0xBF) {
			c = 's';
			key += 2;
		} else if (c == 0xE2 && (unsigned char)key[1] == 0x84 && (unsigned char)key[2] == 0xAA) {
			c = 'k';
			key += 3;
		} else {
			if (c >= 'A' && c <= 'Z')
				c = (unsigned char)(c + 32);
			key++;
		}
		if (c != n)
			return false;
	}
	return !*key && !*name;
}

/* The reason for doubt in one object's keys and types, or NULL. */
static const char *check_fields(json_t *object, const struct field *list, size_t n, unsigned family)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value) {
		for (size_t i = 0; i < n; i++) {
			if (!folds_to(key, list[i].name))
				continue;
			if (strcmp(key, list[i].name) != 0)
				return "key in another case";
			if ((list[i].families & family) == family && !of_type(value, list[i].types))
				return "wrong type";
		}
	}
	return NULL;
}

/* ---- canonical form ---- */

struct canon {
	struct buf *out;
	const json_t *question;        /* the text the semantic scope leaves out */
	size_t from, to;               /* where it stands in out */
	enum err error;
};

static void put(struct canon *c, const void *bytes, size_t len)
{
	if (!c->error)
		c->error = buf_add(c->out, bytes, len);
}

static void put_text(struct canon *c, const char *text, size_t len)
{
	put(c, "\"", 1);
	if (!c->error)
		c->error = buf_put_json(c->out, slice_of(text, len));
	put(c, "\"", 1);
}

static void put_real(struct canon *c, double d)
{
	char text[40];

	/* a whole number is written like the integer it equals, so that 0 and 0.0 are one; past 2^53, where a double may stand
	 * for several integers, like none */
	bool whole = d == floor(d), sure = fabs(d) < 0x1p53;
	int len = whole && sure ? snprintf(text, sizeof text, "%lld", (long long)d)
	                        : snprintf(text, sizeof text, whole ? "%.17e" : "%.17g", d);
	put(c, text, (size_t)len);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_value(struct canon *c, json_t *v);

static void put_field(struct canon *c, const char *key, json_t *v, bool first)
{
	if (!first)
		put(c, ",", 1);
	put_text(c, key, strlen(key));
	put(c, ":", 1);
	put_value(c, v);
}

static void put_object(struct canon *c, json_t *object)
{
	const char *key;
	json_t *v;
	bool first = true;

	put(c, "{", 1);
	json_object_foreach(object, key, v) {
		put_field(c, key, v, first);
		first = false;
	}
	put(c, "}", 1);
}

static void put_value(struct canon *c, json_t *v)
{
	size_t i;
	json_t *item;

	switch (json_typeof(v)) {
	case JSON_STRING:
		c->from = v == c->question ? c->out->len : c->from;
		put_text(c, json_string_value(v), json_string_length(v));
		c->to = v == c->question ? c->out->len : c->to;
		break;
	case JSON_INTEGER: {
		char text[32];
		put(c, text, (size_t)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v)));
		break;
	}
	case JSON_REAL:   put_real(c, json_real_value(v)); break;
	case JSON_TRUE:   put(c, "true", 4); break;
	case JSON_FALSE:  put(c, "false", 5); break;
	case JSON_NULL:   put(c, "null", 4); break;
	case JSON_OBJECT: put_object(c, v); break;
	case JSON_ARRAY:
		put(c, "[", 1);
		json_array_foreach(v, i, item) {
			if (i)
				put(c, ",", 1);
			put_value(c, item);
		}
		put(c, "]", 1);
		break;
	}
}

/* Top level and options: keys sorted; stream, keep_alive and complex left out; the model in full. */
static void put_sorted(struct canon *c, json_t *object, struct slice model_full)
{
	size_t n = json_object_size(object), i = 0;
	const char **keys = calloc(n + 1, sizeof *keys);
	const char *key;
	json_t *v;
	bool first = true, top = model_full.len > 0;

	if (!keys) {
		c->error = ERR_NO_MEMORY;
		return;
	}
	json_object_foreach(object, key, v)
		keys[i++] = key;
	qsort(keys, n, sizeof *keys, by_key);
	put(c, "{", 1);
	for (i = 0; i < n; i++) {
		v = json_object_get(object, keys[i]);
		if (top && (!strcmp(keys[i], "stream") || !strcmp(keys[i], "keep_alive") || !strcmp(keys[i], "complex")))
			continue;
		if (top && !strcmp(keys[i], "options") && json_is_object(v)) {
			put(c, first ? "" : ",", !first);
			put_text(c, keys[i], strlen(keys[i]));
			put(c, ":", 1);
			put_sorted(c, v, (struct slice){ 0 });
		} else if (top && !strcmp(keys[i], "model")) {
			put(c, first ? "" : ",", !first);
			put(c, "\"model\":", 8);
			put_text(c, model_full.at, model_full.len);
		} else {
			put_field(c, keys[i], v, first);
		}
		first = false;
	}
	put(c, "}", 1);
	free(keys);
}

/* ---- names ---- */

struct slice model_full_name(struct arena *arena, struct slice name)
{
	static const struct slice defaults[] = { { "registry.ollama.ai/", 19 }, { "library/", 8 } };
	char *text = arena_alloc(arena, name.len + sizeof ":latest");
	size_t len = name.len, tag_from = 0;

	if (!text)
		return (struct slice){ 0 };
	for (size_t i = 0; i < len; i++)
		text[i] = name.at[i] >= 'A' && name.at[i] <= 'Z' ? (char)(name.at[i] + 32) : name.at[i];
	for (size_t d = 0; d < COUNT(defaults); d++)
		if (len > defaults[d].len && !memcmp(text, defaults[d].at, defaults[d].len)) {
			len -= defaults[d].len;
			memmove(text, text + defaults[d].len, len);
		}
	for (size_t i = 0; i < len; i++)
		if (text[i] == '/')
			tag_from = i;
	if (!memchr(text + tag_from, ':', len - tag_from)) {
		memcpy(text + len, ":latest", 7);
		len += 7;
	}
	return slice_of(text, len);
}

int model_complex_suffix(struct slice *name)
{
	static const struct slice tag = { "@complex", 8 };
	uint64_t n;

	for (size_t i = name->len; i-- > 0; ) {
		if (name->at[i] != '@')
			continue;
		struct slice rest = slice_of(name->at + i, name->len - i);
		if (rest.len < tag.len || memcmp(rest.at, tag.at, tag.len) != 0)
			return COMPLEX_NONE;
		if (rest.len > tag.len && rest.at[tag.len] != '=')
			return COMPLEX_NONE;
		name->len = i;
		if (rest.len == tag.len)
			return COMPLEX_DEFAULT;
		if (!slice_number(slice_of(rest.at + tag.len + 1, rest.len - tag.len - 1), COMPLEX_MOST, &n) || n == 0)
			return COMPLEX_BAD;
		return (int)n;
	}
	return COMPLEX_NONE;
}

static int complex_field(const json_t *v)
{
	if (!v || json_is_null(v))
		return COMPLEX_NONE;
	if (json_is_boolean(v))
		return json_is_true(v) ? COMPLEX_DEFAULT : 1;
	double n = json_is_number(v) ? json_number_value(v) : 0;
	return n >= 1 && n <= COMPLEX_MOST && n == floor(n) ? (int)n : COMPLEX_BAD;
}

/* Is the key, as it is written, this one? */
static bool key_is(struct slice written, struct slice key)
{
	struct buf plain;

	if (!written.len || !memchr(written.at, '\\', written.len))
		return slice_is(written, key);
	buf_init(&plain, key.len);
	bool is = !json_decode_text(written, &plain) && slice_is(buf_slice(&plain), key);
	buf_fini(&plain);
	return is;
}

/* The client's body with complex taken out and the model's suffix off; its own bytes where neither is there. */
static const char *make_forward(struct slice body, struct arena *arena, struct ask *ask)
{
	struct slice name, value;
	struct scan s;
	struct buf out;
	bool first = true;
	enum err e = ERR_OK;

	ask->forward = body;
	if (ask->complex_body == COMPLEX_NONE && ask->complex_model == COMPLEX_NONE)
		return NULL;
	buf_init(&out, body.len + CANONICAL_SLACK);
	e = buf_add(&out, "{", 1);
	for (scan_init(&s, body); !e && scan_next(&s, &name, &value); ) {
		if (key_is(name, SLICE("complex")))
			continue;
		bool is_model = key_is(name, SLICE("model"));
		e = is_model ? buf_addf(&out, "%s\"model\":", first ? "" : ",")
		             : buf_addf(&out, "%s\"%.*s\":", first ? "" : ",", (int)name.len, name.at);
		if (!e && is_model) {
			e = buf_add(&out, "\"", 1);
			e = e ? e : buf_put_json(&out, ask->model_plain);
			e = e ? e : buf_add(&out, "\"", 1);
		} else if (!e) {
			e = buf_put(&out, value);
		}
		first = false;
	}
	e = e ? e : buf_add(&out, "}", 1);
	ask->forward = arena_slice(arena, buf_slice(&out));
	buf_fini(&out);
	return e || s.bad || !ask->forward.at ? "too large to rewrite" : NULL;
}

/* ---- what the ask is about ---- */

static bool filled(const json_t *v)
{
	return (json_is_string(v) && json_string_length(v) > 0) || (json_is_array(v) && json_array_size(v) > 0) ||
	       (json_is_object(v) && json_object_size(v) > 0) || json_is_true(v);
}

/* The text of the question, with the ask's semantic side set; a reason for doubt in the messages, or NULL. */
static const char *find_question(json_t *root, struct ask *ask, const json_t **question)
{
	*question = NULL;
	if (ask->family == FAMILY_EMBED || ask->family == FAMILY_EMBEDDINGS) {
		ask->not_semantic = "embeddings";
		ask->generates = true;
		return NULL;
	}
	if (ask->family == FAMILY_GENERATE) {
		const json_t *prompt = json_object_get(root, "prompt");
		static const char *const bars[] = { "images", "raw", "suffix", "context" };
		ask->generates = filled(prompt);
		if (ask->generates)
			*question = prompt;
		for (size_t i = 0; i < COUNT(bars); i++)
			if (filled(json_object_get(root, bars[i])))
				ask->not_semantic = bars[i];
		return NULL;
	}
	json_t *messages = json_object_get(root, "messages"), *message;
	size_t i, n = json_array_size(messages);

	ask->generates = n > 0;
	json_array_foreach(messages, i, message) {
		if (!json_is_object(message))
			return "wrong type";
		const char *doubt = check_fields(message, message_fields, COUNT(message_fields), 0);
		if (doubt)
			return doubt;
		if (filled(json_object_get(message, "images")))
			ask->not_semantic = "images";
		if (i + 1 < n)
			continue;
		const char *role = json_string_value(json_object_get(message, "role"));
		const json_t *content = json_object_get(message, "content");
		if (!role || strcmp(role, "user") != 0)
			ask->not_semantic = "last message is not the user's";
		else if (filled(content))
			*question = content;
	}
	return NULL;
}

static void read_options(const json_t *options, struct ask *ask)
{
	const json_t *temperature = json_object_get(options, "temperature"), *seed = json_object_get(options, "seed");
	const json_t *num_predict = json_object_get(options, "num_predict");

	ask->temperature_set = json_is_number(temperature);
	ask->seed_set = json_is_integer(seed);
	ask->top_p_set = json_is_number(json_object_get(options, "top_p"));
	ask->deterministic = ask->seed_set || (ask->temperature_set && json_number_value(temperature) == 0);
	ask->length_set = json_is_number(num_predict);
	double most = ask->length_set ? json_number_value(num_predict) : 0;
	ask->num_predict = most > INT32_MAX ? INT32_MAX : most < -INT32_MAX ? -INT32_MAX : (int64_t)most;
}

static const char *make_canonical(json_t *root, const json_t *question, size_t body_len, struct arena *arena, struct ask *ask)
{
	struct buf out;
	struct canon c = { .out = &out, .question = question };
	const char *doubt = "too large";

	/* numbers and escapes may grow when written anew: six times is the most (a control character as \u00xx) */
	buf_init(&out, body_len * 6 + ask->model_full.len + CANONICAL_SLACK);
	put_sorted(&c, root, ask->model_full);
	if (c.error)
		goto done;
	ask->canonical = arena_slice(arena, buf_slice(&out));
	if (!ask->canonical.at)
		goto done;
	doubt = NULL;
	if (question && !ask->not_semantic) {
		memmove(out.at + c.from, out.at + c.to, out.len - c.to);
		out.len -= c.to - c.from;
		ask->canonical_scope = arena_slice(arena, buf_slice(&out));
	}
done:
	buf_fini(&out);
	return doubt;
}

/* jansson (2.14) takes no notice when the buffer it gathers a string in cannot grow, and then writes past what it has. So
 * whether there is room for the largest string a body can hold (the buffer, twice that as it grows, a copy) is asked
 * first; small bodies find some anyway. */
static bool room_to_parse(size_t body)
{
	enum { SMALL = 64 << 10 };

	if (body <= SMALL)
		return true;
	void *volatile room = malloc(4 * body);
	bool there = room != NULL;
	free(room);
	return there;
}

static const char *parse(struct slice body, enum family family, struct arena *arena, struct ask *ask)
{
	json_error_t error;
	const json_t *question;
	const char *doubt;
	/* a NUL is nowhere JSON, but jansson passes over one behind a number */
	bool nul = body.len && memchr(body.at, '\0', body.len);
	bool room = room_to_parse(body.len);
	json_t *root = nul || !room ? NULL : json_loadb(body.at, body.len, JSON_REJECT_DUPLICATES, &error);

	*ask = (struct ask){ .family = family };
	if (nul)
		return "not JSON";
	if (!room)
		return "no memory to read it";
	if (!root)
		return json_error_code(&error) == json_error_duplicate_key ? "key twice" : "not JSON";
	doubt = "not an object";
	if (!json_is_object(root))
		goto out;
	doubt = check_fields(root, fields, COUNT(fields), 1u << family);
	if (doubt)
		goto out;
	const json_t *model = json_object_get(root, "model"), *stream = json_object_get(root, "stream");
	doubt = "no model";
	if (!filled(model))
		goto out;
	ask->stream = (family == FAMILY_CHAT || family == FAMILY_GENERATE) && !json_is_false(stream);
	ask->model = arena_slice(arena, slice_of(json_string_value(model), json_string_length(model)));
	ask->model_plain = ask->model;
	ask->complex_model = model_complex_suffix(&ask->model_plain);
	ask->model_full = model_full_name(arena, ask->model_plain);
	ask->complex_body = complex_field(json_object_get(root, "complex"));
	ask->debug = json_is_true(json_object_get(root, "_debug_render_only"));
	ask->tools = filled(json_object_get(root, "tools"));
	ask->format = filled(json_object_get(root, "format"));
	read_options(json_object_get(root, "options"), ask);
	doubt = find_question(root, ask, &question);
	if (doubt)
		goto out;
	if (question)
		ask->question = arena_slice(arena, slice_of(json_string_value(question), json_string_length(question)));
	else if (!ask->not_semantic)
		ask->not_semantic = "no question";
	doubt = make_canonical(root, question, body.len, arena, ask);
	if (!doubt)
		doubt = make_forward(body, arena, ask);
	if (!doubt && arena->full)
		doubt = "too large";
out:
	json_decref(root);
	return doubt;
}

/* ---- one of several answers ---- */

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

static enum err vary(const struct ask *ask, const struct variant *v, struct buf *out)
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

const struct dialect dialect_ollama = {
	.name = "ollama",
	.parse = parse,
	.vary = vary,
	.read_line = ollama_read_line,
	.write_line = ollama_write_line,
	.write_whole = ollama_write_whole,
	.write_empty = ollama_write_empty,
	.write_error = ollama_write_error,
};
