/* headers.c - see headers.h. */
#include "proxy/headers.h"

bool header_listed(struct slice name, const struct slice *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is_nocase(name, names[i]))
			return true;
	return false;
}

bool header_is_hop(struct slice name, struct slice connection)
{
	static const struct slice hop_by_hop[] = {
		SLICE_INIT("Connection"), SLICE_INIT("Keep-Alive"), SLICE_INIT("Proxy-Connection"),
		SLICE_INIT("Proxy-Authenticate"), SLICE_INIT("Proxy-Authorization"), SLICE_INIT("TE"),
		SLICE_INIT("Trailer"), SLICE_INIT("Transfer-Encoding"), SLICE_INIT("Upgrade"),
	};
	struct slice item;

	if (HEADER_LISTED(name, hop_by_hop))
		return true;
	while (slice_next(&connection, ',', &item))
		if (slice_is_nocase(item, name))
			return true;
	return false;
}

struct forwarding {
	struct arena *arena;
	struct header *to;
	size_t n, most;
	bool asked;
	struct slice connection;
};

static void forward(void *arg, struct slice name, struct slice value)
{
	/* Expect is answered here; Origin is judged here; framing is http.c's */
	static const struct slice ours[] = {
		SLICE_INIT("Host"), SLICE_INIT("Content-Length"), SLICE_INIT("Expect"), SLICE_INIT("Origin"),
		SLICE_INIT("Access-Control-Request-Method"), SLICE_INIT("Access-Control-Request-Headers"),
		SLICE_INIT("X-Cache-Semantic"), SLICE_INIT("X-Cache-TTL"), SLICE_INIT("X-Cache-Namespace"),
		SLICE_INIT("X-Complex"), SLICE_INIT("X-Complex-Explain"),
	};
	static const struct slice the_caches[] = {
		SLICE_INIT("Accept-Encoding"), SLICE_INIT("Cache-Control"), SLICE_INIT("Pragma"),
		SLICE_INIT("If-None-Match"), SLICE_INIT("If-Modified-Since"), SLICE_INIT("Range"),
	};
	struct forwarding *f = arg;

	if (f->n == f->most || header_is_hop(name, f->connection) || HEADER_LISTED(name, ours) ||
	    (f->asked && HEADER_LISTED(name, the_caches)))
		return;
	char *name_text = arena_text(f->arena, name), *value_text = arena_text(f->arena, value);
	if (name_text && value_text)
		f->to[f->n++] = (struct header){ name_text, value_text };
}

size_t headers_forward(const struct request *r, bool asked, struct arena *arena, struct header *to, size_t most)
{
	struct forwarding f = { arena, to, 0, most, asked, slice_text(request_header(r, "Connection")) };

	request_each_header(r, forward, &f);
	return f.n;
}
