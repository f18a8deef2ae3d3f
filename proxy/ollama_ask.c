/* ollama_ask.c - requests of /api/chat, /api/generate, /api/embed and /api/embeddings as asks.
 *
 * The rule is "when in doubt, pass": whatever Ollama could read otherwise than we do (a key in another case, which
 * Ollama folds; a key twice, of which it takes the last; a wrong type; bytes behind the object) is not understood
 * here, and the upstream's verdict is the answer.
 *
 * The body is written in canonical form first (proxy/base/canonical.h), and all questions are asked of that: it has no
 * spaces, no escapes in the names that matter, and is well-formed. The form of the ask is the same with the top-level
 * keys and those of `options` sorted, the model in full, and without stream, keep_alive and complex. Everything else
 * stays in the order it was written, fields nobody knows included: two requests with one form are one question.
 *
 * Everything made here lives in the exchange's arena. */
#include "proxy/dialect.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/base/canonical.h"
#include "proxy/base/scan.h"
#include "proxy/ollama.h"

/* Types a documented field may have, as bits. */
enum { T_TEXT = 1, T_BOOL = 2, T_WHOLE = 4, T_NUMBER = 8, T_OBJECT = 16, T_ARRAY = 32, T_TEXTS = 64, T_ANY = 127 };
enum { F_CHAT = 1 << FAMILY_CHAT, F_GENERATE = 1 << FAMILY_GENERATE, F_EMBED = 1 << FAMILY_EMBED,
       F_EMBEDDINGS = 1 << FAMILY_EMBEDDINGS, F_ASK = F_CHAT | F_GENERATE, F_ALL = 15 };

/* Every field Ollama documents, and `complex`, which is ours. A key that folds to one of these without being it is doubt. */
#define FIELD(name, families, types) { SLICE_INIT(name), families, types }
static const struct field { struct slice name; unsigned families, types; } fields[] = {
	FIELD("model", F_ALL, T_TEXT), FIELD("messages", F_CHAT, T_ARRAY),
	FIELD("prompt", F_GENERATE | F_EMBEDDINGS, T_TEXT), FIELD("input", F_EMBED, T_TEXT | T_TEXTS),
	FIELD("suffix", F_GENERATE, T_TEXT), FIELD("system", F_GENERATE, T_TEXT), FIELD("template", F_GENERATE, T_TEXT),
	FIELD("context", F_GENERATE, T_ARRAY), FIELD("stream", F_ASK, T_BOOL), FIELD("raw", F_GENERATE, T_BOOL),
	FIELD("format", F_ASK, T_TEXT | T_OBJECT), FIELD("keep_alive", F_ALL, T_TEXT | T_NUMBER),
	FIELD("images", F_GENERATE, T_TEXTS), FIELD("options", F_ALL, T_OBJECT), FIELD("think", F_ASK, T_BOOL | T_TEXT),
	FIELD("tools", F_CHAT, T_ARRAY), FIELD("truncate", F_ALL, T_BOOL), FIELD("shift", F_ASK, T_BOOL),
	FIELD("logprobs", F_ASK, T_BOOL), FIELD("top_logprobs", F_ASK, T_WHOLE), FIELD("dimensions", F_EMBED, T_WHOLE),
	FIELD("_debug_render_only", F_ASK, T_BOOL), FIELD("complex", F_ALL, T_ANY),
};
static const struct field message_fields[] = {
	FIELD("role", 0, T_TEXT), FIELD("content", 0, T_TEXT), FIELD("thinking", 0, T_TEXT), FIELD("images", 0, T_TEXTS),
	FIELD("tool_calls", 0, T_ARRAY), FIELD("tool_name", 0, T_TEXT), FIELD("tool_call_id", 0, T_TEXT),
};
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* GROWS_MOST: a long body's form may be longer than the body by that much. */
enum { GROWS_MOST = 64 << 10, REWRITE_SLACK = 4096, COMPLEX_MOST = 1000000, FIELDS_MOST = 128, LONG_DIGITS = 6, SHORT_DIGITS = 9 };
/* Of values that are written again on the loop, in bytes of JSON: more is no name, no number and no time. */
enum { MODEL_MOST = 4096, VARIED_MOST = 512, KEEP_ALIVE_MOST = 256 };

/* ---- the body in canonical form: objects as lists of fields ---- */

struct member { struct slice name, value; };
struct object { struct member member[FIELDS_MOST]; size_t n; };

/* The fields of an object; false if they are too many, none if it is none. */
static bool object_read(struct slice json, struct object *o)
{
	struct member m;
	struct scan s;

	o->n = 0;
	for (scan_init(&s, json); scan_next(&s, &m.name, &m.value); ) {
		if (o->n == FIELDS_MOST)
			return false;
		o->member[o->n++] = m;
	}
	return true;
}

/* Empty if it is not there. */
static struct slice member_of(const struct object *o, struct slice name)
{
	for (size_t i = 0; i < o->n; i++)
		if (slice_is(o->member[i].name, name))
			return o->member[i].value;
	return (struct slice){ 0 };
}

static bool is_number(struct slice v)
{
	return v.len && (*v.at == '-' || (*v.at >= '0' && *v.at <= '9'));
}

/* A canonical number is digits, or digits with an exponent. */
static bool is_whole(struct slice v)
{
	return is_number(v) && !memchr(v.at, 'e', v.len);
}

/* NAN if it is none. */
static double number_of(struct slice v)
{
	char text[CANONICAL_NUMBER + 16];

	if (!is_number(v) || v.len >= sizeof text)
		return (double)NAN;
	memcpy(text, v.at, v.len);
	text[v.len] = '\0';
	return strtod(text, NULL);
}

/* Text, a list or an object with something in it, or true. */
static bool filled(struct slice v)
{
	return scan_is_true(v) || (v.len > 2 && (scan_is_text(v) || scan_is_array(v) || scan_is_object(v)));
}

/* What a JSON text says, in the arena; {NULL, 0} where that is full, or memory, or the text empty. */
static struct slice text_of(struct arena *arena, struct slice v)
{
	struct slice inside = scan_inside(v);
	struct buf plain;

	if (!inside.len || !memchr(inside.at, '\\', inside.len))
		return arena_slice(arena, inside);
	buf_init(&plain, inside.len);
	if (json_decode_text(inside, &plain))
		arena->full = true;
	inside = arena_slice(arena, buf_slice(&plain));
	buf_fini(&plain);
	return inside;
}

/* ---- doubt ---- */

static bool all_text(struct slice list)
{
	struct slice item;
	struct scan s;

	for (scan_items_init(&s, list); scan_item(&s, &item); )
		if (!scan_is_text(item))
			return false;
	return true;
}

static bool of_type(struct slice v, unsigned types)
{
	switch (*v.at) {
	case '"': return types & T_TEXT;
	case 't':
	case 'f': return types & T_BOOL;
	case '{': return types & T_OBJECT;
	case '[': return types & T_ARRAY || (types & T_TEXTS && all_text(v));
	case 'n': return true;                     /* Ollama leaves the field at its default */
	default:  return types & T_NUMBER || (types & T_WHOLE && is_whole(v));
	}
}

/* A time as Go's time.ParseDuration reads it: [+-], then numbers with their units, as 1h30m or 1.5s; or 0 alone. */
static bool is_duration(struct slice s)
{
	static const struct slice units[] = { SLICE_INIT("ns"), SLICE_INIT("us"), SLICE_INIT("\xc2\xb5s"), SLICE_INIT("\xce\xbcs"),
	                                      SLICE_INIT("ms"), SLICE_INIT("s"), SLICE_INIT("m"), SLICE_INIT("h") };
	size_t i = s.len && (*s.at == '-' || *s.at == '+') ? 1 : 0;

	if (slice_is(slice_of(s.at + i, s.len - i), SLICE("0")))
		return true;
	do {
		size_t digits = 0, unit = 0;
		for (bool point = false; i < s.len && ((s.at[i] >= '0' && s.at[i] <= '9') || (s.at[i] == '.' && !point)); i++) {
			point |= s.at[i] == '.';
			digits += s.at[i] != '.';
		}
		for (size_t k = 0; k < COUNT(units); k++)
			if (s.len - i >= units[k].len && units[k].len > unit && !memcmp(s.at + i, units[k].at, units[k].len))
				unit = units[k].len;
		bool is_long = unit == 1 && (s.at[i] == 'h' || s.at[i] == 'm');
		if (!digits || digits > (is_long ? LONG_DIGITS : SHORT_DIGITS) || !unit)
			return false;                /* also of what may be too long a time for an int64 of nanoseconds */
		i += unit;
	} while (i < s.len);
	return true;
}

/* keep_alive does nothing to an answer, but a bad one is an error there, also where the answer is known. */
static const char *check_keep_alive(struct slice v)
{
	bool none = !v.len || slice_is(v, SLICE("null"));
	bool good = v.len <= KEEP_ALIVE_MOST && (none || (is_number(v) ? isfinite(number_of(v)) : is_duration(scan_inside(v))));

	return good ? NULL : "keep_alive is no time";
}

/* Is a good one no time at all? */
static bool is_zero(struct slice v)
{
	struct slice text = scan_inside(v);

	if (is_number(v))
		return number_of(v) == 0;
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] >= '1' && text.at[i] <= '9')
			return false;
	return true;
}

/* What hits hand on of it: the value, and what the model is loaded with, for an engine loads it anew for other options. */
static void read_keep_alive(struct slice v, const struct object *options, struct arena *arena, struct ask *ask)
{
	static const struct slice loads[] = { SLICE_INIT("num_ctx"), SLICE_INIT("num_batch"), SLICE_INIT("num_gpu"), SLICE_INIT("main_gpu"),
	                                      SLICE_INIT("num_thread"), SLICE_INIT("use_mmap") };
	size_t bytes = 2;
	char *to, *at;

	if (!v.len || slice_is(v, SLICE("null")))
		return;
	ask->keep_alive = arena_slice(arena, v);
	ask->unloads = is_zero(v);
	for (size_t i = 0; i < COUNT(loads); i++)
		bytes += loads[i].len + member_of(options, loads[i]).len + sizeof "\"\":,";
	to = at = arena_alloc(arena, bytes);
	for (size_t i = 0; to && i < COUNT(loads); i++) {
		struct slice set = member_of(options, loads[i]);
		if (!set.len)
			continue;
		at += snprintf(at, bytes - (size_t)(at - to), "%c\"%s\":%.*s", at == to ? '{' : ',', loads[i].at, (int)set.len, set.at);
	}
	if (to && at > to) {
		*at++ = '}';
		ask->load_options = slice_of(to, (size_t)(at - to));
	}
}

/* Equal as encoding/json folds: ASCII case, and the two characters beyond ASCII that fold into it
 * (U+017F long s, U+212A kelvin sign). */
static bool folds_to(struct slice key, struct slice name)
{
	const char *p = key.at, *end = key.at + key.len;
	size_t i = 0;

	for (; p < end && i < name.len; i++) {
		char c = *p;
		if (end - p >= 2 && !memcmp(p, "\xC5\xBF", 2)) {
			c = 's';
			p += 2;
		} else if (end - p >= 3 && !memcmp(p, "\xE2\x84\xAA", 3)) {
			c = 'k';
			p += 3;
		} else {
			if (c >= 'A' && c <= 'Z')
				c = (char)(c + 32);
			p++;
		}
		if (c != name.at[i])
			return false;
	}
	return p == end && i == name.len;
}

static const char *check_field(const struct member *m, const struct field *list, size_t n, unsigned family)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is(m->name, list[i].name))
			return (list[i].families & family) == family && !of_type(m->value, list[i].types) ? "wrong type" : NULL;
	for (size_t i = 0; i < n; i++)
		if (folds_to(m->name, list[i].name))
			return "key in another case";
	return NULL;
}

/* The reason for doubt in one object's keys and types, or NULL. */
static const char *check_fields(const struct object *o, const struct field *list, size_t n, unsigned family)
{
	const char *doubt = NULL;

	for (size_t i = 0; i < o->n && !doubt; i++)
		doubt = check_field(&o->member[i], list, n, family);
	return doubt;
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

/* The form makes 1.0 a whole number, and Ollama does not take it for one (of the context, of a tool call, of top_logprobs).
 * Only what it reads into floats may be written so. */
static const char *check_decimals(struct slice body, size_t decimals)
{
	static const struct slice floats[] = { SLICE_INIT("options"), SLICE_INIT("keep_alive"), SLICE_INIT("complex") };
	struct slice name, value;
	struct scan s;

	for (scan_init(&s, body); decimals && scan_next(&s, &name, &value); )
		for (size_t i = 0; i < COUNT(floats); i++) {
			struct buf form;
			size_t n = 0;
			if (!key_is(name, floats[i]))
				continue;
			buf_init(&form, CANONICAL_GROWTH * value.len);
			if (!canonical_write(value, &form, &n))
				decimals -= n;
			buf_fini(&form);
		}
	return decimals ? "wrong type" : NULL;
}

/* ---- the form of the ask ---- */

static bool comes_before(const struct member *m, const struct member *n)
{
	int order = memcmp(m->name.at, n->name.at, m->name.len < n->name.len ? m->name.len : n->name.len);

	return order ? order < 0 : m->name.len < n->name.len;
}

/* They are few, and mostly in the order the client's library always has them. */
static void sort(struct object *o)
{
	for (size_t i = 1; i < o->n; i++) {
		struct member m = o->member[i];
		size_t at = i;
		for (; at && comes_before(&m, &o->member[at - 1]); at--)
			o->member[at] = o->member[at - 1];
		o->member[at] = m;
	}
}

struct form {
	char *to;
	struct slice question;         /* JSON text in the canonical body, which the semantic scope leaves out */
	char *question_at;             /* where it was put */
};

static void put(struct form *f, struct slice s)
{
	if (f->question.at >= s.at && f->question.at < s.at + s.len)
		f->question_at = f->to + (f->question.at - s.at);
	memcpy(f->to, s.at, s.len);
	f->to += s.len;
}

static void put_name(struct form *f, bool *first, struct slice name)
{
	put(f, *first ? SLICE("\"") : SLICE(",\""));
	put(f, name);
	put(f, SLICE("\":"));
	*first = false;
}

static void put_sorted(struct form *f, struct object *o)
{
	bool first = true;

	sort(o);
	put(f, SLICE("{"));
	for (size_t i = 0; i < o->n; i++) {
		put_name(f, &first, o->member[i].name);
		put(f, o->member[i].value);
	}
	put(f, SLICE("}"));
}

/* Top level and options: keys sorted; stream, keep_alive and complex left out; the model in full, which is as long as it may
 * be anything in JSON. */
static void put_form(struct form *f, struct object *top, struct object *options, struct slice model)
{
	static const struct slice left_out[] = { SLICE_INIT("stream"), SLICE_INIT("keep_alive"), SLICE_INIT("complex") };
	bool first = true;

	sort(top);
	put(f, SLICE("{"));
	for (struct member *m = top->member; m < top->member + top->n; m++) {
		bool out = false;
		for (size_t i = 0; i < COUNT(left_out); i++)
			out |= slice_is(m->name, left_out[i]);
		if (out)
			continue;
		put_name(f, &first, m->name);
		if (slice_is(m->name, SLICE("options")) && scan_is_object(m->value)) {
			put_sorted(f, options);
		} else if (slice_is(m->name, SLICE("model"))) {
			put(f, SLICE("\""));
			put(f, model);
			put(f, SLICE("\""));
		} else {
			put(f, m->value);
		}
	}
	put(f, SLICE("}"));
}

/* ---- names ---- */

static size_t slashes(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '/';
	return n;
}

static size_t without(char *text, size_t len, struct slice prefix)
{
	if (len <= prefix.len || memcmp(text, prefix.at, prefix.len) != 0)
		return len;
	memmove(text, text + prefix.len, len - prefix.len);
	return len - prefix.len;
}

struct slice model_full_name(struct arena *arena, struct slice name)
{
	static const struct slice host = SLICE_INIT("registry.ollama.ai/"), space = SLICE_INIT("library/");
	char *text = arena_alloc(arena, name.len + sizeof ":latest");
	size_t len = name.len, tag_from = 0;

	if (!text)
		return (struct slice){ 0 };
	for (size_t i = 0; i < len; i++)
		text[i] = name.at[i] >= 'A' && name.at[i] <= 'Z' ? (char)(name.at[i] + 32) : name.at[i];
	/* HOST/SPACE/MODEL: only a name of three parts has a host, so registry.ollama.ai/x is another model than x */
	if (slashes(text, len) == 2)
		len = without(text, len, host);
	if (slashes(text, len) == 1)
		len = without(text, len, space);
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

static int complex_field(struct slice v)
{
	if (!v.len || *v.at == 'n')
		return COMPLEX_NONE;
	if (*v.at == 't' || *v.at == 'f')
		return *v.at == 't' ? COMPLEX_DEFAULT : 1;
	double n = number_of(v);
	return n >= 1 && n <= COMPLEX_MOST && n == floor(n) ? (int)n : COMPLEX_BAD;
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
	buf_init(&out, body.len + REWRITE_SLACK);
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

/* The question's text as it stands in the canonical body, with the ask's semantic side set; a reason for doubt in the
 * messages, or NULL. */
static const char *find_question(const struct object *top, struct ask *ask, struct slice *question)
{
	struct object message;
	struct slice item;
	struct scan s;

	*question = (struct slice){ 0 };
	if (ask->family == FAMILY_EMBED || ask->family == FAMILY_EMBEDDINGS) {
		ask->not_semantic = "embeddings";
		ask->generates = true;
		/* only to be told by in a list: the text, or the first of them */
		item = member_of(top, ask->family == FAMILY_EMBED ? SLICE("input") : SLICE("prompt"));
		if (scan_is_array(item)) {
			scan_items_init(&s, item);
			if (!scan_item(&s, &item))
				return NULL;
		}
		*question = scan_is_text(item) ? item : *question;
		return NULL;
	}
	if (ask->family == FAMILY_GENERATE) {
		static const char *const bars[] = { "images", "raw", "suffix", "context" };
		struct slice prompt = member_of(top, SLICE("prompt"));
		ask->generates = filled(prompt);
		if (ask->generates)
			*question = prompt;
		for (size_t i = 0; i < COUNT(bars); i++)
			if (filled(member_of(top, slice_text(bars[i]))))
				ask->not_semantic = bars[i];
		return NULL;
	}
	bool by_user = true;
	for (scan_items_init(&s, member_of(top, SLICE("messages"))); scan_item(&s, &item); ) {
		ask->generates = true;
		if (!scan_is_object(item))
			return "wrong type";
		if (!object_read(item, &message))
			return "too many fields";
		const char *doubt = check_fields(&message, message_fields, COUNT(message_fields), 0);
		if (doubt)
			return doubt;
		if (filled(member_of(&message, SLICE("images"))))
			ask->not_semantic = "images";
		struct slice content = member_of(&message, SLICE("content"));
		by_user = slice_is(member_of(&message, SLICE("role")), SLICE("\"user\""));
		*question = by_user && filled(content) ? content : (struct slice){ 0 };
	}
	if (!by_user)
		ask->not_semantic = "last message is not the user's";
	return NULL;
}

/* What may be asked for with other values, and so is written anew each time, is a number if it is anything. */
static const char *check_varied(const struct object *options)
{
	static const struct slice names[] = { SLICE_INIT("temperature"), SLICE_INIT("top_p"), SLICE_INIT("seed"), SLICE_INIT("num_predict") };

	for (size_t i = 0; i < COUNT(names); i++)
		if (member_of(options, names[i]).len > VARIED_MOST)
			return "wrong type";
	return NULL;
}

static void read_options(const struct object *options, struct ask *ask)
{
	struct slice temperature = member_of(options, SLICE("temperature"));
	double most = number_of(member_of(options, SLICE("num_predict")));

	ask->temperature_set = is_number(temperature);
	ask->seed_set = is_whole(member_of(options, SLICE("seed")));
	ask->top_p_set = is_number(member_of(options, SLICE("top_p")));
	ask->deterministic = ask->seed_set || slice_is(temperature, SLICE("0"));
	ask->length_set = !isnan(most);
	ask->num_predict = isnan(most) ? 0 : most > INT32_MAX ? INT32_MAX : most < -INT32_MAX ? -INT32_MAX : (int64_t)most;
}

/* The form, and the same without the question, which is empty where the semantic tier does not apply. */
static const char *make_form(struct object *top, struct object *options, size_t most, struct slice question, struct arena *arena,
			     struct ask *ask)
{
	struct buf model;
	struct form f = { 0 };

	if (!ask->not_semantic)
		f.question = question;
	buf_init(&model, CANONICAL_GROWTH * ask->model_full.len);
	enum err e = buf_put_json(&model, ask->model_full);
	char *form = e ? NULL : arena_room(arena, most + model.len);
	if (form) {
		f.to = form;
		put_form(&f, top, options, buf_slice(&model));
		ask->canonical = slice_of(form, (size_t)(f.to - form));
	}
	buf_fini(&model);
	if (!form)
		return "too large";
	if (!f.question.len)
		return NULL;
	struct slice before = slice_of(form, (size_t)(f.question_at - form));
	struct slice after = slice_of(f.question_at + question.len, (size_t)(f.to - f.question_at) - question.len);
	char *scope = arena_room(arena, before.len + after.len);
	if (!scope)
		return "too large";
	memcpy(scope, before.at, before.len);
	memcpy(scope + before.len, after.at, after.len);
	ask->canonical_scope = slice_of(scope, before.len + after.len);
	return NULL;
}

/* body is what the client wrote, and canonical its form, in which so many whole numbers were decimals. */
static const char *understand(struct slice body, struct slice canonical, size_t decimals, struct arena *arena, struct ask *ask)
{
	struct object top, options;
	struct slice question;

	if (!scan_is_object(canonical))
		return "not an object";
	if (!object_read(canonical, &top))
		return "too many fields";
	const char *doubt = check_fields(&top, fields, COUNT(fields), 1u << ask->family);
	doubt = doubt ? doubt : check_decimals(body, decimals);
	doubt = doubt ? doubt : check_keep_alive(member_of(&top, SLICE("keep_alive")));
	if (doubt)
		return doubt;
	struct slice model = member_of(&top, SLICE("model"));
	if (!filled(model))
		return "no model";
	if (model.len > MODEL_MOST)
		return "a model's name too long";
	if (!object_read(member_of(&top, SLICE("options")), &options))
		return "too many fields";
	ask->stream = (ask->family == FAMILY_CHAT || ask->family == FAMILY_GENERATE) &&
	              !slice_is(member_of(&top, SLICE("stream")), SLICE("false"));
	ask->model = text_of(arena, model);
	ask->model_plain = ask->model;
	ask->complex_model = model_complex_suffix(&ask->model_plain);
	ask->model_full = model_full_name(arena, ask->model_plain);
	ask->complex_body = complex_field(member_of(&top, SLICE("complex")));
	ask->debug = scan_is_true(member_of(&top, SLICE("_debug_render_only")));
	ask->tools = filled(member_of(&top, SLICE("tools")));
	ask->format = filled(member_of(&top, SLICE("format")));
	read_options(&options, ask);
	read_keep_alive(member_of(&top, SLICE("keep_alive")), &options, arena, ask);
	doubt = check_varied(&options);
	doubt = doubt ? doubt : find_question(&top, ask, &question);
	if (doubt)
		return doubt;
	if (question.len)
		ask->question = text_of(arena, question);
	else if (!ask->not_semantic)
		ask->not_semantic = "no question";
	doubt = make_form(&top, &options, canonical.len, question, arena, ask);
	doubt = doubt ? doubt : make_forward(body, arena, ask);
	return doubt ? doubt : arena->full ? "too large" : NULL;
}

static const char *parse(struct slice body, enum family family, struct arena *arena, struct ask *ask)
{
	struct buf canonical;
	const char *doubt;
	size_t decimals;

	*ask = (struct ask){ .family = family };
	buf_init(&canonical, body.len > GROWS_MOST ? body.len + GROWS_MOST : CANONICAL_GROWTH * body.len);
	if (buf_reserve(&canonical, body.len))
		return "no memory to read it";
	doubt = canonical_write(body, &canonical, &decimals);
	doubt = doubt ? doubt : understand(body, buf_slice(&canonical), decimals, arena, ask);
	buf_fini(&canonical);
	return doubt;
}

const struct dialect dialect_ollama = {
	.name = "ollama",
	.parse = parse,
	.vary_begin = ollama_vary_begin,
	.vary = ollama_vary,
	.read_line = ollama_read_line,
	.write_line = ollama_write_line,
	.write_whole_head = ollama_write_whole_head,
	.write_whole_rest = ollama_write_whole_rest,
	.write_empty = ollama_write_empty,
	.write_error = ollama_write_error,
};
