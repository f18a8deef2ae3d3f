/* headers.c - see headers.h. */
#include "proxy/headers.h"

bool header_listed(struct slice name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is_nocase(name, slice_text(names[i])))
			return true;
	return false;
}

bool header_is_hop(struct slice name, struct slice connection)
{
	static const char *const hop_by_hop[] = {
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade",
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
	/* Expect is answered here; Origin is judged here; framing is curl's */
	static const char *const ours[] = {
		"Host", "Content-Length", "Expect", "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers",
		"X-Cache-Semantic", "X-Cache-TTL", "X-Cache-Namespace", "X-Complex", "X-Complex-Explain",
	};
	static const char *const the_caches[] = {
		"Accept-Encoding", "Cache-Control", "Pragma", "If-None-Match", "If-Modified-Since", "Range",
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
