/* v1.c - the OpenAI twins: models, chat completions, completions, embeddings. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/fake.h"

static void v1_error(struct req *r, int status, bool charset, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void v1_error(struct req *r, int status, bool charset, const char *format, ...)
{
	struct reply_opts o = { .type = charset ? "application/json; charset=utf-8" : "application/json" };
	struct str s = { 0 };
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	str_puts(&s, "{\"error\":{\"message\":");
	str_json(&s, text, strlen(text));
	str_fmt(&s, ",\"type\":\"%s\",\"param\":null,\"code\":null}}%s",
		status == 404 ? "not_found_error" : status == 400 ? "invalid_request_error" : "api_error", charset ? "" : "\n");
	reply(r, status, &o, s.at, s.n);
	str_free(&s);
}

static void put_model(struct str *s, const char *name)
{
	str_puts(s, "{\"id\":");
	str_json(s, name, strlen(name));
	str_puts(s, ",\"object\":\"model\",\"created\":1795330834,\"owned_by\":\"library\"}");
}

static void v1_models(struct req *r)
{
	struct str s = { 0 };
	struct reply_opts o = { .type = "application/json" };

	if (r->path[10]) {
		if (!model_find(r->path + 11)) {
			v1_error(r, 404, false, "model '%s%s' not found", r->path + 11, strchr(r->path + 11, ':') ? "" : ":latest");
			return;
		}
		put_model(&s, r->path + 11);
	} else {
		str_puts(&s, "{\"object\":\"list\",\"data\":[");
		for (struct model *m = fake.models; m; m = m->next) {
			put_model(&s, m->name);
			str_puts(&s, m->next ? "," : "");
		}
		str_puts(&s, "]}");
	}
	str_puts(&s, "\n");
	reply(r, 200, &o, s.at, s.n);
	str_free(&s);
}

static void v1_embeddings(struct req *r, const json_t *body, const char *name)
{
	const json_t *input = get_field(body, "input");
	size_t n = json_is_string(input) ? 1 : json_array_size(input);
	struct str s = { 0 };
	long tokens = 0, dims = (long)json_integer_value(get_field(body, "dimensions"));

	str_puts(&s, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < n; i++) {
		const char *t = json_string_value(json_is_string(input) ? input : json_array_get(input, i));

		str_fmt(&s, "%s{\"object\":\"embedding\",\"embedding\":", i ? "," : "");
		embed_vector(&s, t ? t : "", t ? strlen(t) : 0, dims > 0 && dims <= 1024 ? dims : 64, false);
		str_fmt(&s, ",\"index\":%zu}", i);
		tokens += (long)strlen(t ? t : "") / 4 + 2;
	}
	str_puts(&s, "],\"model\":");
	str_json(&s, name, strlen(name));
	str_fmt(&s, ",\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld}}\n", tokens, tokens);
	gen_start_body(r, directives_of(r, body, json_string_value(input)), 200, "application/json", &s);
}

void v1_dispatch(struct req *r)
{
	bool chat = !strcmp(r->path, "/v1/chat/completions"), embed = !strcmp(r->path, "/v1/embeddings");
	const char *error, *name;
	json_t *body;
	struct model *m;

	if (!strncmp(r->path, "/v1/models", 10)) {
		v1_models(r);
		return;
	}
	body = body_json(r, "Request", &error);
	name = get_text(body, "model") ? get_text(body, "model") : "";
	if (!body)
		v1_error(r, 400, true, "%s", r->body_bytes ? error : "EOF");
	else if (chat && !json_array_size(get_field(body, "messages")))
		v1_error(r, 400, true, "[] is too short - 'messages'");
	else if (embed && !get_field(body, "input"))
		v1_error(r, 400, true, "invalid input");
	else if (!(m = model_find(name)))
		v1_error(r, 404, false, embed ? "model \"%s\" not found, try pulling it first" : "model '%s' not found", name);
	else if (embed)
		v1_embeddings(r, body, name);
	else
		gen_start(r, chat ? GEN_V1_CHAT : GEN_V1_TEXT, body, m);
	json_decref(body);
}
