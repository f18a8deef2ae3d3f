/* route.c - see route.h. */
#include "proxy/route.h"

static const struct route routes[] = {
	{ "/api/chat", FAMILY_CHAT },
	{ "/api/generate", FAMILY_GENERATE },
	{ "/api/embed", FAMILY_EMBED },
	{ "/api/embeddings", FAMILY_EMBEDDINGS },
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

bool route_changes_models(const struct request *r)
{
	if (!strcmp(r->method, "GET") || !strcmp(r->method, "HEAD") || !strcmp(r->method, "OPTIONS"))
		return false;
	for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
		if (slice_is(r->path, slice_text(changing[i])))
			return true;
	return false;
}
