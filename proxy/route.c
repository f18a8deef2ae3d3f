/* route.c - see route.h. */
#include "proxy/route.h"

static const struct route routes[] = {
	{ "/api/chat", FAMILY_CHAT },
	{ "/api/generate", FAMILY_GENERATE },
	{ "/api/embed", FAMILY_EMBED },
	{ "/api/embeddings", FAMILY_EMBEDDINGS },
};
/* What Ollama has, and by which methods. */
static const struct { const char *path, *allow; } known[] = {
	{ "/", "HEAD, GET" }, { "/api/version", "HEAD, GET" }, { "/api/tags", "HEAD, GET" }, { "/api/ps", "GET" },
	{ "/api/show", "POST" }, { "/api/copy", "POST" }, { "/api/delete", "DELETE" }, { "/api/pull", "POST" },
	{ "/api/push", "POST" }, { "/api/create", "POST" }, { "/api/generate", "POST" }, { "/api/chat", "POST" },
	{ "/api/embed", "POST" }, { "/api/embeddings", "POST" }, { "/v1/models", "GET" }, { "/v1/chat/completions", "POST" },
	{ "/v1/completions", "POST" }, { "/v1/embeddings", "POST" }, { "/v1/responses", "POST" }, { "/v1/messages", "POST" },
};
static const char *const changing[] = { "/api/pull", "/api/create", "/api/copy", "/api/delete" };

const struct route *route_of_path(struct slice path)
{
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if (slice_is(path, slice_text(routes[i].path)))
			return &routes[i];
	return NULL;
}

const struct route *route_find(const struct request *r)
{
	return strcmp(r->method, "POST") ? NULL : route_of_path(r->path);
}

const char *route_allow(struct slice path)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (slice_is(path, slice_text(known[i].path)))
			return known[i].allow;
	return NULL;
}

bool route_lists(const char *allow, const char *method)
{
	struct slice rest = slice_text(allow), item;

	while (slice_next(&rest, ',', &item))
		if (slice_is(slice_trim(item), slice_text(method)))
			return true;
	return false;
}

bool route_changes_models(const struct request *r)
{
	if (!strcmp(r->method, "GET") || !strcmp(r->method, "HEAD") || !strcmp(r->method, "OPTIONS"))
		return false;
	for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
		if (slice_is(r->path, slice_text(changing[i])))
			return true;
	return false;
}
