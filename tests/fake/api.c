/* api.c - Ollama's own endpoints, their checks and errors, as recorded; models and blobs in memory. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/fake/fake.h"

static const char json_utf8[] = "application/json; charset=utf-8";

/* ---- JSON in ---- */
json_t *get_field(const json_t *o, const char *name)
{
	const char *key;
	json_t *v, *found = NULL;

	if (!json_is_object(o))
		return NULL;
	json_object_foreach((json_t *)o, key, v)
		if (!strcasecmp(key, name))
			found = v;
	return found;
}

const char *get_text(const json_t *o, const char *name)
{
	return json_string_value(get_field(o, name));
}

bool get_bool(const json_t *o, const char *name, bool otherwise)
{
	const json_t *v = get_field(o, name);

	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static const char *go_kind(const json_t *v)
{
	return json_is_string(v) ? "string" : json_is_number(v) ? "number" : json_is_boolean(v) ? "bool"
		: json_is_array(v) ? "array" : "object";
}

/* The body as an object, or NULL with the words Go's decoder would use (static until the next call). */
json_t *body_json(struct req *r, const char *type, const char **error)
{
	static char why[256];
	struct str text = { 0 };
	json_error_t je;
	json_t *v;
	const char *p;

	*error = why;
	if (!r->body_bytes) {
		snprintf(why, sizeof why, "missing request body");
		return NULL;
	}
	if (r->body.n > 3 && !memcmp(r->body.at, "\xef\xbb\xbf", 3)) {
		snprintf(why, sizeof why, "invalid character '\xc3\xaf' looking for beginning of value");
		return NULL;
	}
	utf8_mend(&text, r->body.at, r->body.n);
	v = json_loadb(text.at, text.n, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL | JSON_DECODE_ANY, &je);
	p = text.at + strspn(text.at, " \t\r\n");
	if (!v && json_error_code(&je) == json_error_premature_end_of_input)
		snprintf(why, sizeof why, "unexpected EOF");
	else if (!v && json_error_code(&je) == json_error_stack_overflow)
		snprintf(why, sizeof why, "exceeded max depth");
	else if (!v && *p == 'n')
		snprintf(why, sizeof why, "invalid character '%c' in literal null (expecting 'u')", p[1]);
	else if (!v)
		snprintf(why, sizeof why, "invalid character '%c' looking for beginning of value",
			 je.position > 0 && (size_t)je.position <= text.n && isprint((unsigned char)text.at[je.position - 1]) ? text.at[je.position - 1] : *p);
	else if (!json_is_object(v) && !json_is_null(v))
		snprintf(why, sizeof why, "json: cannot unmarshal %s into Go value of type api.%s", go_kind(v), type);
	else
		*error = NULL;
	str_free(&text);
	if (*error || json_is_null(v)) {
		json_decref(v);
		return *error ? NULL : json_object();
	}
	return v;
}

/* ---- models ---- */
static void model_name_full(const char *name, char *full, size_t n)
{
	const char *slash = strchr(name, '/');

	/* HOST/SPACE/MODEL: a name of two parts has no host, so registry.ollama.ai/x is another model than x */
	if (!strncasecmp(name, "registry.ollama.ai/", 19) && strchr(slash + 1, '/'))
		name += 19;
	if (!strncasecmp(name, "library/", 8) && !strchr(name + 8, '/'))
		name += 8;
	snprintf(full, n, "%s%s", name, strchr(name, ':') ? "" : ":latest");
	for (char *p = full; *p; p++)
		*p = (char)tolower((unsigned char)*p);
}

struct model *model_find(const char *name)
{
	char full[512];
	struct model *m;

	model_name_full(name, full, sizeof full);
	for (m = fake.models; m && strcasecmp(m->name, full); m = m->next)
		;
	return m;
}

struct model *model_add(const char *name, const char *caps)
{
	char full[512];
	struct model *m = model_find(name), **end = &fake.models;
	struct sha256 sha;
	char hex[65];

	model_name_full(name, full, sizeof full);
	if (!m) {
		while (*end)
			end = &(*end)->next;
		*end = m = must(calloc(1, sizeof *m));
		m->name = text_copy(full, strlen(full));
		m->made_us = now_us();
		m->context = 2048;
		sha256_start(&sha);
		sha256_add(&sha, full, strlen(full));
		sha256_hex(&sha, hex);
		snprintf(m->digest, sizeof m->digest, "%s", hex);
	}
	if (caps) {
		free(m->caps);
		m->caps = text_copy(caps, strlen(caps));
	}
	return m;
}

static void model_drop(struct model *m)
{
	struct model **p = &fake.models;

	while (*p != m)
		p = &(*p)->next;
	*p = m->next;
	free(m->name);
	free(m->caps);
	free(m);
}

bool model_can(const struct model *m, const char *cap)
{
	size_t n = strlen(cap);

	for (const char *p = m->caps; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, cap, n) && (!p[n] || p[n] == ','))
			return true;
	return false;
}

static bool unloads(const json_t *keep)
{
	const char *text = json_string_value(keep);

	return text ? !strcmp(text, "0") || !strcmp(text, "0s") : json_is_number(keep) && json_number_value(keep) == 0;
}

void model_used(struct model *m, const json_t *body)
{
	const json_t *num_ctx = get_field(get_field(body, "options"), "num_ctx");

	m->loaded = unloads(get_field(body, "keep_alive")) ? 0 : json_is_integer(num_ctx) ? (long)json_integer_value(num_ctx) : m->context;
}

void models_default(void)
{
	static const char *const all[][2] = {
		{ "tiny-think", "completion,tools,thinking" }, { "tiny-jinja", "completion" }, { "tiny-plain", "completion" },
		{ "tiny-fim", "completion,insert" }, { "tiny-qa", "completion,tools" }, { "tiny-derived", "completion,tools" },
		{ "tiny-long", "completion" }, { "tiny-embed", "embedding" }, { "llama3.2", "completion,tools" },
		{ "qwen3", "completion,tools,thinking" }, { "llava", "completion,vision" }, { "nomic-embed-text", "embedding" },
	};

	while (fake.models)
		model_drop(fake.models);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		model_add(all[i][0], all[i][1]);
}

static bool name_is_bad(const char *name)
{
	return !*name || strpbrk(name, "! \t") || strlen(name) > 400;
}

/* ---- the answers that take no time ---- */
static void put_caps(struct str *s, const struct model *m)
{
	str_puts(s, "\"capabilities\":[");
	for (const char *p = m->caps; p && *p;) {
		size_t n = strcspn(p, ",");

		str_fmt(s, "\"%.*s\"%s", (int)n, p, p[n] ? "," : "");
		p += n + (p[n] == ',');
	}
	str_puts(s, "]");
}

static void reply_json(struct req *r, int status, const char *type, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void reply_json(struct req *r, int status, const char *type, const char *format, ...)
{
	struct reply_opts o = { .type = type };
	char text[4096];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	reply(r, status, &o, text, strlen(text));
}

static void do_tags(struct req *r)
{
	struct str s = { 0 };
	struct reply_opts o = { .type = json_utf8 };

	str_puts(&s, "{\"models\":[");
	for (struct model *m = fake.models; m; m = m->next) {
		str_puts(&s, m == fake.models ? "" : ",");
		str_puts(&s, "{\"name\":");
		str_json(&s, m->name, strlen(m->name));
		str_puts(&s, ",\"model\":");
		str_json(&s, m->name, strlen(m->name));
		str_puts(&s, ",\"modified_at\":");
		put_created_at(&s);
		str_fmt(&s, ",\"size\":1898089,\"digest\":\"%s\",\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"llama\","
			"\"families\":[\"llama\"],\"parameter_size\":\"935K\",\"quantization_level\":\"F16\",\"context_length\":2048,"
			"\"embedding_length\":128},", m->digest);
		put_caps(&s, m);
		str_puts(&s, "}");
	}
	str_puts(&s, "]}");
	reply(r, 200, &o, s.at, s.n);
	str_free(&s);
}

static void do_root(struct req *r)
{
	struct reply_opts o = { .type = "text/plain; charset=utf-8" };

	reply(r, 200, &o, "Ollama is running", 17);
}

static void do_version(struct req *r)
{
	reply_json(r, 200, json_utf8, "{\"version\":\"%s\"}", fake.version);
}

static void do_status(struct req *r)
{
	reply_json(r, 200, json_utf8, "{\"cloud\":{\"disabled\":true,\"source\":\"env\"}}");
}

static void do_ps(struct req *r)
{
	struct str s = { 0 };
	struct reply_opts o = { .type = json_utf8 };
	bool first = true;

	str_puts(&s, "{\"models\":[");
	for (struct model *m = fake.models; m; m = m->next) {
		if (!m->loaded)
			continue;
		str_puts(&s, first ? "{\"name\":" : ",{\"name\":");
		str_json(&s, m->name, strlen(m->name));
		str_puts(&s, ",\"model\":");
		str_json(&s, m->name, strlen(m->name));
		str_fmt(&s, ",\"size\":11660165,\"digest\":\"%s\",\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"llama\","
			"\"families\":[\"llama\"],\"parameter_size\":\"935K\",\"quantization_level\":\"F16\"},\"expires_at\":", m->digest);
		put_created_at(&s);
		str_fmt(&s, ",\"size_vram\":0,\"context_length\":%ld}", m->loaded);
		first = false;
	}
	str_puts(&s, "]}");
	reply(r, 200, &o, s.at, s.n);
	str_free(&s);
}

static void do_show(struct req *r)
{
	const char *error, *name;
	json_t *body = body_json(r, "ShowRequest", &error);
	struct model *m;
	struct str s = { 0 };
	struct reply_opts o = { .type = json_utf8 };

	name = get_text(body, "model") ? get_text(body, "model") : get_text(body, "name");
	if (!body) {
		reply_error(r, 400, "%s", error);
	} else if (!name || !*name) {
		reply_error(r, 400, "model is required");
	} else if (!(m = model_find(name))) {
		reply_error(r, 404, "model '%s%s' not found", name, strchr(name, ':') ? "" : ":latest");
	} else {
		str_fmt(&s, "{\"modelfile\":\"# Modelfile generated by \\\"ollama show\\\"\\nFROM %s\\n\",\"parameters\":\"temperature                    0.8\","
			"\"template\":\"{{ .Prompt }}\",\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"llama\","
			"\"families\":[\"llama\"],\"parameter_size\":\"935K\",\"quantization_level\":\"F16\"},"
			"\"model_info\":{\"general.architecture\":\"llama\",\"general.parameter_count\":935040,\"llama.context_length\":%ld},\"tensors\":[", m->name, m->context);
		for (int i = 0; i < 40; i++)         /* enough to be sent chunked, as the real one is */
			str_fmt(&s, "%s{\"name\":\"blk.%d.attn_k.weight\",\"type\":\"F16\",\"shape\":[128,128]}", i ? "," : "", i);
		str_puts(&s, "],");
		put_caps(&s, m);
		str_puts(&s, ",\"modified_at\":");
		put_created_at(&s);
		str_puts(&s, "}");
		reply(r, 200, &o, s.at, s.n);
	}
	str_free(&s);
	json_decref(body);
}

static void do_copy(struct req *r)
{
	const char *error, *from, *to;
	json_t *body = body_json(r, "CopyRequest", &error);
	struct model *m, *copy;

	from = get_text(body, "source");
	to = get_text(body, "destination");
	if (!body)
		reply_error(r, 400, "%s", error);
	else if (!from || !to || name_is_bad(to))
		reply_error(r, 400, "invalid model name");
	else if (!(m = model_find(from)))
		reply_error(r, 404, "model \"%s\" not found", from);
	else {
		copy = model_add(to, m->caps);
		strcpy(copy->digest, m->digest);
		reply(r, 200, NULL, "", 0);
	}
	json_decref(body);
}

static void do_delete(struct req *r)
{
	const char *error, *name;
	json_t *body = body_json(r, "DeleteRequest", &error);
	struct model *m;

	name = get_text(body, "model") ? get_text(body, "model") : get_text(body, "name");
	if (!body)
		reply_error(r, 400, "%s", error);
	else if (!name || !(m = model_find(name)))
		reply_error(r, 404, "model '%s' not found", name ? name : "");
	else {
		model_drop(m);
		reply(r, 200, NULL, "", 0);
	}
	json_decref(body);
}

static bool blob_known(const char *digest)
{
	struct blob *b;

	for (b = fake.blobs; b && strcmp(b->digest, digest); b = b->next)
		;
	return b;
}

static void do_blob(struct req *r)
{
	const char *digest = r->path + 11;
	struct blob *b;
	char got[72];

	snprintf(got, sizeof got, "sha256:%s", r->sha_hex);
	if (strlen(digest) != 71 || strncmp(digest, "sha256:", 7)) {
		reply_error(r, 400, "invalid digest format");
	} else if (!strcmp(r->method, "HEAD")) {
		if (blob_known(digest))
			reply(r, 200, NULL, "", 0);
		else
			reply_error(r, 404, "blob \"%s\" not found", digest);
	} else if (blob_known(digest)) {
		reply(r, 200, NULL, "", 0);
	} else if (strcmp(got, digest)) {
		reply_error(r, 400, "digest mismatch, expected \"%s\", got \"%s\"", digest, got);
	} else {
		b = must(calloc(1, sizeof *b));
		strcpy(b->digest, digest);
		b->next = fake.blobs;
		fake.blobs = b;
		reply(r, 201, NULL, "", 0);
	}
}

/* ---- progress streams ---- */
struct lines { struct str *at; size_t n; };

static void line_add(struct lines *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line_add(struct lines *l, const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	l->at = must(realloc(l->at, (l->n + 1) * sizeof *l->at));
	l->at[l->n] = (struct str){ 0 };
	str_fmt(&l->at[l->n++], "%s\n", text);
}

static void progress(struct req *r, json_t *body, struct lines *l)
{
	json_t *d = directives_of(r, body, NULL);
	const char *last = l->at[l->n - 1].at;
	struct str s = { 0 };

	if (get_bool(body, "stream", true)) {
		gen_start_lines(r, d, l->at, l->n, false, false);
		return;
	}
	str_add(&s, last, strlen(last) - 1);
	gen_start_body(r, d, strncmp(last, "{\"error\"", 8) ? 200 : 500, "application/json", &s);
	for (size_t i = 0; i < l->n; i++)
		str_free(&l->at[i]);
	free(l->at);
}

static void do_pull(struct req *r)
{
	const char *error, *name;
	json_t *body = body_json(r, "PullRequest", &error);
	struct lines l = { 0 };
	struct sha256 sha;
	char hex[65];

	name = get_text(body, "model") ? get_text(body, "model") : get_text(body, "name");
	if (!body) {
		reply_error(r, 400, "%s", error);
	} else if (!name || name_is_bad(name)) {
		reply_error(r, 400, "invalid model name");
	} else if (!strncmp(name, "http://127.0.0.1:1/", 19)) {
		line_add(&l, "{\"status\":\"pulling manifest\"}");
		line_add(&l, "{\"error\":\"pull model manifest: dial tcp 127.0.0.1:1: connect: connection refused\"}");
		progress(r, body, &l);
	} else {
		sha256_start(&sha);
		sha256_add(&sha, name, strlen(name));
		sha256_hex(&sha, hex);
		line_add(&l, "{\"status\":\"pulling manifest\"}");
		for (int i = 0; i <= 10; i++)
			line_add(&l, "{\"status\":\"pulling %.12s\",\"digest\":\"sha256:%s\",\"total\":1000000,\"completed\":%d}", hex, hex, i * 100000);
		line_add(&l, "{\"status\":\"verifying sha256 digest\"}");
		line_add(&l, "{\"status\":\"writing manifest\"}");
		line_add(&l, "{\"status\":\"success\"}");
		model_add(name, model_find(name) ? NULL : "completion,tools");
		progress(r, body, &l);
	}
	json_decref(body);
}

static void do_push(struct req *r)
{
	const char *error, *name;
	json_t *body = body_json(r, "PushRequest", &error);
	struct lines l = { 0 };

	name = get_text(body, "model");
	if (!body || !name || name_is_bad(name)) {
		reply_error(r, 400, "%s", body ? "invalid model name" : error);
	} else {
		line_add(&l, "{\"status\":\"retrieving manifest\"}");
		line_add(&l, "{\"error\":\"you are not authorized to push to this namespace\"}");
		progress(r, body, &l);
	}
	json_decref(body);
}

static void do_create(struct req *r)
{
	const char *error, *name, *from, *key;
	json_t *body = body_json(r, "CreateRequest", &error), *files, *v;
	struct reply_opts chunked = { .type = "application/json", .chunked = true };
	struct lines l = { 0 };
	struct model *m, *base = NULL;

	name = get_text(body, "model") ? get_text(body, "model") : get_text(body, "name");
	from = get_text(body, "from");
	files = get_field(body, "files");
	if (!body) {
		reply_error(r, 400, "%s", error);
	} else if (!name || name_is_bad(name)) {
		reply_error(r, 400, "invalid model name");
	} else if (!from && !json_object_size(files)) {
		static const char text[] = "{\"error\":\"neither 'from' or 'files' was specified\"}";

		reply(r, 400, &chunked, text, sizeof text - 1);
	} else {
		if (from && !(base = model_find(from))) {
			line_add(&l, "{\"status\":\"pulling manifest\"}");
			line_add(&l, "{\"error\":\"pull model manifest: no such host\"}");
		} else if (from) {
			line_add(&l, "{\"status\":\"using existing layer sha256:%s\"}", base->digest);
		} else {
			line_add(&l, "{\"status\":\"parsing GGUF\"}");
			json_object_foreach(files, key, v)
				if (!json_is_string(v) || !blob_known(json_string_value(v)))
					line_add(&l, "{\"error\":\"open blobs/%.80s: no such file or directory\"}", json_is_string(v) ? json_string_value(v) : "");
		}
		if (strncmp(l.at[l.n - 1].at, "{\"error\"", 8)) {
			m = model_add(name, base ? base->caps : "completion,tools");
			/* another digest every time it is made, as a real create with other layers has */
			snprintf(m->digest, sizeof m->digest, "%016llx%016llx%016llx%016llx", (unsigned long long)hash_mix(r->id),
				 (unsigned long long)hash_mix(r->id + 1), (unsigned long long)hash_mix(r->id + 2), (unsigned long long)hash_mix(r->id + 3));
			line_add(&l, "{\"status\":\"creating new layer sha256:%s\"}", m->digest);
			line_add(&l, "{\"status\":\"writing manifest\"}");
			line_add(&l, "{\"status\":\"success\"}");
		}
		progress(r, body, &l);
	}
	json_decref(body);
}

/* ---- generations ---- */
/* The first field of a wrong type, told as Go tells it. True: answered. */
static bool wrong_type(struct req *r, const json_t *body, const char *type, const char *const (*fields)[2])
{
	for (size_t i = 0; fields[i][0]; i++) {
		const json_t *v = get_field(body, fields[i][0]);
		const char *want = fields[i][1];

		if (!v || json_is_null(v) || (!strcmp(want, "string") && json_is_string(v)) || (!strcmp(want, "bool") && json_is_boolean(v)) ||
		    (!strncmp(want, "[]", 2) && json_is_array(v)) || (!strncmp(want, "map", 3) && json_is_object(v)))
			continue;
		reply_error(r, 400, "json: cannot unmarshal %s into Go struct field %s.%s of type %s", go_kind(v), type, fields[i][0], want);
		return true;
	}
	return false;
}

/* Checks that generate and chat share. True: answered. */
static bool asks_too_much(struct req *r, const json_t *body, const struct model *m, const char *what)
{
	const json_t *think = get_field(body, "think"), *options = get_field(body, "options"), *format = get_field(body, "format");
	const char *name = get_text(body, "model");
	bool stream = get_bool(body, "stream", true);
	struct reply_opts early = { .type = stream ? "application/json" : json_utf8, .chunked = stream };
	static const char *const numbers[] = { "temperature", "top_p", "top_k", "seed", "num_predict", "num_ctx", "repeat_penalty" };

	if (!model_can(m, "completion")) {
		reply_error(r, 400, "\"%s\" does not support %s", name, what);
		return true;
	}
	if (json_is_string(think) && strcmp(json_string_value(think), "high") && strcmp(json_string_value(think), "medium") &&
	    strcmp(json_string_value(think), "low") && strcmp(json_string_value(think), "max")) {
		reply_error(r, 400, "invalid think value: \"%s\" (must be \"high\", \"medium\", \"low\", \"max\", true, or false)", json_string_value(think));
		return true;
	}
	if ((json_is_true(think) || json_is_string(think)) && !model_can(m, "thinking")) {
		reply_error(r, 400, "\"%s\" does not support thinking", name);
		return true;
	}
	if (json_array_size(get_field(body, "tools")) && !model_can(m, "tools")) {
		reply_error(r, 400, "registry.ollama.ai/library/%s does not support tools", m->name);
		return true;
	}
	if (json_integer_value(get_field(body, "top_logprobs")) > 20) {
		reply_error(r, 400, "top_logprobs must be between 0 and 20");
		return true;
	}
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (get_field(options, numbers[i]) && !json_is_number(get_field(options, numbers[i])) && !json_is_null(get_field(options, numbers[i]))) {
			reply_error(r, 500, "option \"%s\" must be of type %s", numbers[i], i < 2 ? "float32" : "integer");
			return true;
		}
	if (json_is_string(format) && *json_string_value(format) && strcmp(json_string_value(format), "json")) {
		struct str s = { 0 };

		str_fmt(&s, "{\"error\":\"invalid format: \\\"\\\\\\\"%s\\\\\\\"\\\"; expected \\\"json\\\" or a valid JSON Schema object\"}", json_string_value(format));
		reply(r, 500, &early, s.at, s.n);
		str_free(&s);
		return true;
	}
	return false;
}

static void reply_loaded(struct req *r, const json_t *body, struct model *m, bool chat)
{
	bool unload = unloads(get_field(body, "keep_alive"));
	const char *name = get_text(body, "model");
	struct str s = { 0 };
	struct reply_opts o = { .type = json_utf8 };

	model_used(m, body);
	str_puts(&s, "{\"model\":");
	str_json(&s, name, strlen(name));
	str_puts(&s, ",\"created_at\":");
	put_created_at(&s);
	str_fmt(&s, ",%s,\"done\":true,\"done_reason\":\"%s\"}",
		chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"\"}" : "\"response\":\"\"", unload ? "unload" : "load");
	reply(r, 200, &o, s.at, s.n);
	str_free(&s);
}

static void do_generate(struct req *r)
{
	static const char *const fields[][2] = { { "model", "string" }, { "prompt", "string" }, { "suffix", "string" }, { "system", "string" },
		{ "template", "string" }, { "stream", "bool" }, { "raw", "bool" }, { "options", "map[string]interface {}" }, { NULL, NULL } };
	const char *error, *name;
	json_t *body = body_json(r, "GenerateRequest", &error);
	struct model *m = NULL;

	name = get_text(body, "model");
	if (!body) {
		reply_error(r, 400, "%s", error);
	} else if (wrong_type(r, body, "GenerateRequest", fields)) {
		;
	} else if (!name || !(m = model_find(name))) {
		reply_error(r, 404, "model '%s' not found", name ? name : "");
	} else if (get_bool(body, "raw", false) && (get_text(body, "system") || get_text(body, "template") || get_field(body, "context"))) {
		reply_error(r, 400, "raw mode does not support template, system, or context");
	} else if (get_text(body, "suffix") && *get_text(body, "suffix") && !model_can(m, "insert")) {
		reply_error(r, 400, "registry.ollama.ai/library/%s does not support insert", m->name);
	} else if ((!get_text(body, "prompt") || !*get_text(body, "prompt")) && unloads(get_field(body, "keep_alive"))) {
		reply_loaded(r, body, m, false); /* whatever the model can do */
	} else if (asks_too_much(r, body, m, "generate")) {
		;
	} else if (!get_text(body, "prompt") || !*get_text(body, "prompt")) {
		reply_loaded(r, body, m, false);
	} else if (get_bool(body, "_debug_render_only", false)) {
		struct str s = { 0 };
		struct reply_opts o = { .type = json_utf8 };

		str_puts(&s, "{\"model\":");
		str_json(&s, name, strlen(name));
		str_puts(&s, ",\"created_at\":");
		put_created_at(&s);
		str_puts(&s, ",\"response\":\"\",\"done\":false,\"_debug_info\":{\"rendered_template\":");
		str_json(&s, get_text(body, "prompt"), strlen(get_text(body, "prompt")));
		str_puts(&s, "}}");
		reply(r, 200, &o, s.at, s.n);
		str_free(&s);
	} else {
		model_used(m, body);
		gen_start(r, GEN_GENERATE, body, m);
	}
	json_decref(body);
}

static void do_chat(struct req *r)
{
	static const char *const fields[][2] = { { "model", "string" }, { "messages", "[]api.Message" }, { "stream", "bool" },
		{ "tools", "[]api.Tool" }, { "options", "map[string]interface {}" }, { NULL, NULL } };
	const char *error, *name;
	json_t *body = body_json(r, "ChatRequest", &error), *messages;
	struct model *m = NULL;
	bool bad = false;

	name = get_text(body, "model");
	messages = get_field(body, "messages");
	if (!body) {
		reply_error(r, 400, "%s", error);
		return;
	}
	for (size_t i = 0; !bad && i < json_array_size(messages); i++) {
		const json_t *c = get_field(json_array_get(messages, i), "content");

		if (c && !json_is_string(c) && !json_is_null(c)) {
			bad = true;
			reply_error(r, 400, "json: cannot unmarshal %s into Go struct field ChatRequest.messages.content of type string", go_kind(c));
		}
	}
	if (bad || wrong_type(r, body, "ChatRequest", fields))
		;
	else if (!name || !*name)
		reply_error(r, 400, "model is required");
	else if (!(m = model_find(name)))
		reply_error(r, 404, "model '%s' not found", name);
	else if (asks_too_much(r, body, m, "chat"))
		;
	else if (!json_array_size(messages))
		reply_loaded(r, body, m, true);
	else {
		model_used(m, body);
		gen_start(r, GEN_CHAT, body, m);
	}
	json_decref(body);
}

/* Newton's way, to do without libm. */
static double root(double x)
{
	double y = x > 1 ? x : 1;

	for (int i = 0; i < 60; i++)
		y = (y + x / y) / 2;
	return y;
}

void embed_vector(struct str *s, const char *text, size_t n, long dims, bool wide)
{
	double v[1024], sum = 0, length;

	for (long i = 0; i < dims; i++) {
		v[i] = (double)(int64_t)hash_mix(hash_text((uint64_t)i + 1, text, n)) / 9.3e18;
		sum += v[i] * v[i];
	}
	length = root(sum);
	str_puts(s, "[");
	for (long i = 0; i < dims; i++) {
		float f = (float)(v[i] / length);

		if (wide)
			str_fmt(s, "%s%.17g", i ? "," : "", (double)f);
		else
			str_fmt(s, "%s%.8g", i ? "," : "", (double)f);
	}
	str_puts(s, "]");
}

static void do_embed(struct req *r)
{
	bool legacy = !strcmp(r->path, "/api/embeddings");
	const char *error, *name, *prompt;
	json_t *body = body_json(r, "EmbedRequest", &error), *input, *d;
	struct model *m = NULL;
	struct str s = { 0 };
	long dims, tokens = 0;
	bool bad = false;

	name = get_text(body, "model");
	input = get_field(body, "input");
	prompt = get_text(body, "prompt");
	for (size_t i = 0; i < json_array_size(input); i++)
		bad = bad || !json_is_string(json_array_get(input, i));
	if (!body)
		reply_error(r, 400, "%s", error);
	else if (!legacy && input && (bad || (!json_is_string(input) && !json_is_array(input))))
		reply_error(r, 400, "invalid input type");
	else if (!name || !(m = model_find(name)))
		reply_error(r, 404, "model \"%s\" not found, try pulling it first", name ? name : "");
	else if (!model_can(m, "embedding"))
		reply_error(r, 501, "This server does not support embeddings. Start it with `--embeddings`");
	else {
		model_used(m, body);
		dims = json_integer_value(get_field(body, "dimensions"));
		dims = dims > 0 && dims <= 1024 ? dims : 64;
		if (legacy) {
			str_puts(&s, "{\"embedding\":");
			embed_vector(&s, prompt ? prompt : "", prompt ? strlen(prompt) : 0, prompt && *prompt ? 64 : 0, true);
			str_puts(&s, "}");
		} else {
			size_t n = json_is_string(input) ? *json_string_value(input) != 0 : json_array_size(input);

			str_puts(&s, "{\"model\":");
			str_json(&s, name, strlen(name));
			str_puts(&s, ",\"embeddings\":[");
			for (size_t i = 0; i < n; i++) {
				const char *t = json_string_value(json_is_string(input) ? input : json_array_get(input, i));

				str_puts(&s, i ? "," : "");
				embed_vector(&s, t, strlen(t), dims, false);
				tokens += (long)strlen(t) / 4 + 2;
			}
			str_puts(&s, "]");
			if (n)
				str_fmt(&s, ",\"total_duration\":8742617,\"load_duration\":1669622,\"prompt_eval_count\":%ld", tokens);
			str_puts(&s, "}");
		}
		d = directives_of(r, body, legacy ? prompt : json_string_value(input));
		gen_start_body(r, d, 200, json_utf8, &s);
	}
	json_decref(body);
}

/* ---- routing ---- */
static const struct route { const char *path, *methods; void (*run)(struct req *); } routes[] = {
	{ "/", "HEAD, GET", do_root }, { "/api/version", "HEAD, GET", do_version }, { "/api/tags", "HEAD, GET", do_tags },
	{ "/api/status", "GET", do_status }, { "/api/ps", "GET", do_ps }, { "/api/show", "POST", do_show },
	{ "/api/copy", "POST", do_copy }, { "/api/delete", "DELETE", do_delete }, { "/api/pull", "POST", do_pull },
	{ "/api/push", "POST", do_push }, { "/api/create", "POST", do_create }, { "/api/generate", "POST", do_generate },
	{ "/api/chat", "POST", do_chat }, { "/api/embed", "POST", do_embed }, { "/api/embeddings", "POST", do_embed },
	{ "/v1/models", "GET", v1_dispatch }, { "/v1/chat/completions", "POST", v1_dispatch },
	{ "/v1/completions", "POST", v1_dispatch }, { "/v1/embeddings", "POST", v1_dispatch },
};

static const struct route *route_find(const char *path)
{
	static const struct route blob = { "/api/blobs/", "HEAD, POST", do_blob }, model = { "/v1/models/", "GET", v1_dispatch };

	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if (!strcmp(path, routes[i].path))
			return &routes[i];
	if (!strncmp(path, "/api/blobs/", 11) && path[11])
		return &blob;
	if (!strncmp(path, "/v1/models/", 11) && path[11])
		return &model;
	return NULL;
}

static bool method_is(const char *methods, const char *method)
{
	size_t n = strlen(method);

	for (const char *p = methods; p; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
		if (!strncmp(p, method, n) && (!p[n] || p[n] == ','))
			return true;
	return false;
}

/* gin sends the nearly right path to the right one. True: answered. */
static bool redirected(struct req *r)
{
	size_t n = strlen(r->path);
	struct str s = { 0 };
	struct reply_opts o = { .type = "text/html; charset=utf-8" };
	bool slash = n > 1 && r->path[n - 1] == '/', twice = strstr(r->path, "//"), get = !strcmp(r->method, "GET") || !strcmp(r->method, "HEAD");
	char *to = text_copy(r->path, n), *p;

	if (slash)
		to[n - 1] = 0;
	while ((p = strstr(to, "//")))
		memmove(p, p + 1, strlen(p));
	if ((!slash && !twice) || !route_find(to)) {
		free(to);
		return false;
	}
	o.location = to;
	if (get)
		str_fmt(&s, "<a href=\"%s\">%s</a>.\n", to, twice ? "Temporary Redirect" : "Moved Permanently");
	else
		o.type = NULL;
	reply(r, twice || !get ? 307 : 301, &o, s.at ? s.at : "", s.n);
	str_free(&s);
	free(to);
	return true;
}

void api_dispatch(struct req *r)
{
	const struct route *t = route_find(r->path);
	struct reply_opts o = { .type = "text/plain" };

	if (!t && redirected(r))
		return;
	if (!t) {
		reply(r, 404, &o, "404 page not found", 18);
		return;
	}
	if (!method_is(t->methods, r->method)) {
		o.allow = t->methods;
		reply(r, 405, &o, "405 method not allowed", 22);
		return;
	}
	t->run(r);
}
