/* headers.c - see headers.h. */
#include "proxy/headers.h"

bool header_listed(struct slice name, const struct slice *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is_nocase(name, names[i]))
			return true;
	return false;
}

void connection_names_add(void *arg, struct slice name, struct slice value)
{
	struct connection_names *c = arg;
	struct slice item;

	if (!slice_is_nocase(name, SLICE("Connection")))
		return;
	while (!c->all && slice_next(&value, ',', &item)) {
		item = slice_trim(item);
		if (c->n == CONNECTION_NAMES)
			c->all = true;
		else if (item.len)
			c->name[c->n++] = item;
	}
}

bool header_is_hop(struct slice name, const struct connection_names *connection)
{
	static const struct slice hop_by_hop[] = {
		SLICE_INIT("Connection"), SLICE_INIT("Keep-Alive"), SLICE_INIT("Proxy-Connection"),
		SLICE_INIT("Proxy-Authenticate"), SLICE_INIT("Proxy-Authorization"), SLICE_INIT("TE"),
		SLICE_INIT("Trailer"), SLICE_INIT("Transfer-Encoding"), SLICE_INIT("Upgrade"),
	};

	return connection->all || HEADER_LISTED(name, hop_by_hop) || header_listed(name, connection->name, connection->n);
}

struct forwarding {
	struct arena *arena;
	struct header *to;
	size_t n, most;
	bool asked;
	struct connection_names connection;
};

/* Takes a copy; a header for which the arena has no room is left out. */
static void keep_header(struct forwarding *f, struct slice name, struct slice value)
{
	char *name_text = arena_text(f->arena, name), *value_text = arena_text(f->arena, value);
	if (name_text && value_text)
		f->to[f->n++] = (struct header){ name_text, value_text };
}

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

	if (f->n == f->most || header_is_hop(name, &f->connection) || HEADER_LISTED(name, ours) ||
	    (f->asked && HEADER_LISTED(name, the_caches)))
		return;
	keep_header(f, name, value);
}

size_t headers_forward(const struct request *r, bool asked, struct arena *arena, struct header *to, size_t most)
{
	struct forwarding f = { .arena = arena, .to = to, .most = most, .asked = asked };

	request_each_header(r, connection_names_add, &f.connection);
	request_each_header(r, forward, &f);
	return f.n;
}

static void give_back(void *arg, struct slice name, struct slice value)
{
	static const struct slice ours[] = {
		SLICE_INIT("Content-Length"), SLICE_INIT("Access-Control-Allow-Origin"),
		SLICE_INIT("Access-Control-Expose-Headers"), SLICE_INIT("X-Cache"), SLICE_INIT("Cache-Status"),
		SLICE_INIT("X-Cache-Similarity"), SLICE_INIT("X-Candidates"), SLICE_INIT("X-Complex-Explain"),
	};
	static const struct slice the_caches[] = { SLICE_INIT("Content-Type"), SLICE_INIT("Date"), SLICE_INIT("Age") };
	struct forwarding *f = arg;

	if (f->n == f->most || header_is_hop(name, &f->connection) || HEADER_LISTED(name, ours) ||
	    (f->asked && HEADER_LISTED(name, the_caches)))
		return;
	keep_header(f, name, value);
}

size_t headers_back(const struct transfer *t, bool asked, struct arena *arena, struct header *to, size_t most)
{
	struct forwarding f = { .arena = arena, .to = to, .most = most, .asked = asked };

	transfer_each_header(t, connection_names_add, &f.connection);
	transfer_each_header(t, give_back, &f);
	return f.n;
}
