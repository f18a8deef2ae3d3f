/* virtual.c - see virtual.h. */
#include "proxy/virtual.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/dialect.h"

static const char suffix[] = "@complex";

bool virtual_is_show(const struct request *r)
{
	return !strcmp(r->method, "POST") && slice_is(r->path, SLICE("/api/show")) && r->content_length > 0 &&
	       r->content_length <= VIRTUAL_SHOW_MAX;
}

bool virtual_is_list(const struct config *c, const struct request *r)
{
	return c->complex_list_models && !strcmp(r->method, "GET") &&
	       (slice_is(r->path, SLICE("/api/tags")) || slice_is(r->path, SLICE("/v1/models")));
}

static bool dump(json_t *root, struct buf *out)
{
	char *text = json_dumps(root, JSON_COMPACT);
	bool done = text && !buf_put(out, slice_text(text));

	free(text);
	return done;
}

bool virtual_show(struct slice body, struct buf *out)
{
	static const char *const keys[] = { "model", "name" };
	json_error_t error;
	json_t *root = json_loadb(body.at, body.len, JSON_REJECT_DUPLICATES, &error);
	bool changed = false;

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		json_t *v = json_object_get(root, keys[i]);
		struct slice name = slice_of(json_string_value(v), json_string_length(v));
		if (!json_is_string(v) || model_complex_suffix(&name) == COMPLEX_NONE)
			continue;
		changed |= !json_object_set_new(root, keys[i], json_stringn(name.at, name.len));
	}
	changed = changed && dump(root, out);
	json_decref(root);
	return changed;
}

/* Embedding models have nothing to choose from; a server that does not tell capabilities is taken at its word. */
static bool generates(const json_t *model)
{
	const json_t *capabilities = json_object_get(model, "capabilities"), *c;
	size_t i;

	if (!json_is_array(capabilities))
		return true;
	json_array_foreach(capabilities, i, c)
		if (json_is_string(c) && !strcmp(json_string_value(c), "completion"))
			return true;
	return false;
}

static json_t *renamed(const json_t *model)
{
	static const char *const keys[] = { "name", "model", "id" };
	json_t *copy = json_deep_copy(model);
	char text[512];

	for (size_t i = 0; copy && i < sizeof keys / sizeof *keys; i++) {
		const char *name = json_string_value(json_object_get(copy, keys[i]));
		if (name && (size_t)snprintf(text, sizeof text, "%s%s", name, suffix) < sizeof text)
			json_object_set_new(copy, keys[i], json_string(text));
	}
	return copy;
}

bool virtual_list(struct slice body, struct buf *out)
{
	json_error_t error;
	json_t *root = json_loadb(body.at, body.len, 0, &error), *list = json_object_get(root, "models");
	bool done = false;

	if (!json_is_array(list))
		list = json_object_get(root, "data");        /* /v1/models */
	if (json_is_array(list)) {
		for (size_t i = 0, n = json_array_size(list); i < n; i++)
			if (generates(json_array_get(list, i)))
				json_array_append_new(list, renamed(json_array_get(list, i)));
		done = dump(root, out);
	}
	json_decref(root);
	return done;
}
