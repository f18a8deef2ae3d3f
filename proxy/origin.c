/* origin.c - see origin.h. */
#include "proxy/origin.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#define OUR_RESPONSE_HEADERS "X-Cache,Cache-Status,Age,X-Cache-Similarity,X-Candidates,X-Complex-Explain,X-Prompt-Truncated"
static const char allowed_headers[] =
	"Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
	"X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
	"X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout,"
	"Cache-Control,X-Cache-Semantic,X-Cache-TTL,X-Cache-Namespace,X-Complex,X-Complex-Explain";

static const char *const own_origins[] = {
	"http://localhost", "https://localhost", "http://localhost:*", "https://localhost:*",
	"http://127.0.0.1", "https://127.0.0.1", "http://127.0.0.1:*", "https://127.0.0.1:*",
	"http://0.0.0.0", "https://0.0.0.0", "http://0.0.0.0:*", "https://0.0.0.0:*",
	"app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*",
};

/* One * stands for anything; the case of ASCII letters does not count. */
static bool matches(struct slice pattern, struct slice s)
{
	const char *star = memchr(pattern.at, '*', pattern.len);

	if (!star)
		return slice_is_nocase(pattern, s);
	struct slice front = slice_of(pattern.at, (size_t)(star - pattern.at));
	struct slice back = slice_of(star + 1, pattern.len - front.len - 1);
	return s.len >= front.len + back.len && slice_is_nocase(front, slice_of(s.at, front.len)) &&
	       slice_is_nocase(back, slice_of(s.at + s.len - back.len, back.len));
}

struct slice origin_host(struct slice host)
{
	if (host.len && host.at[0] == '[') {
		const char *end = memchr(host.at, ']', host.len), *all = host.at + host.len;
		return end && (end + 1 == all || end[1] == ':') ? slice_of(host.at + 1, (size_t)(end - host.at) - 1) : host;
	}
	const char *colon = host.len ? memchr(host.at, ':', host.len) : NULL;
	if (colon && !memchr(colon + 1, ':', host.len - (size_t)(colon + 1 - host.at)))
		host.len = (size_t)(colon - host.at);
	return host;
}

static bool is_own_address(int family, const void *address)
{
	struct ifaddrs *list, *i;
	bool own = false;

	if (getifaddrs(&list))
		return false;
	for (i = list; i && !own; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != family)
			continue;
		if (family == AF_INET)
			own = !memcmp(&((struct sockaddr_in *)i->ifa_addr)->sin_addr, address, 4);
		else
			own = !memcmp(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, address, 16);
	}
	freeifaddrs(list);
	return own;
}

/* Loopback, private (RFC 1918, RFC 4193), unspecified, or one of this machine's. *number: it is an address at all. */
static bool address_allowed(const char *text, bool *number)
{
	struct in6_addr six;
	struct in_addr four;

	*number = true;
	if (inet_pton(AF_INET, text, &four) == 1) {
		uint32_t a = ntohl(four.s_addr);
		return a >> 24 == 127 || a >> 24 == 10 || a >> 20 == (172 << 4 | 1) || a >> 16 == (192 << 8 | 168) || a == 0 ||
		       is_own_address(AF_INET, &four);
	}
	if (inet_pton(AF_INET6, text, &six) == 1)
		return IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_UNSPECIFIED(&six) || (six.s6_addr[0] & 0xfe) == 0xfc ||
		       is_own_address(AF_INET6, &six);
	*number = false;
	return false;
}

static bool ends_with(struct slice s, struct slice end)
{
	return s.len > end.len && slice_is_nocase(slice_of(s.at + s.len - end.len, end.len), end);
}

bool host_allowed(const struct config *c, const struct request *r)
{
	char text[256], own[256];
	bool number;

	if (!r->to_loopback && !c->server_allowed_hosts_list.n)
		return true;
	struct slice host = origin_host(slice_trim(slice_text(request_header(r, "Host"))));
	if (host.len == 0)
		return true;
	if (host.len >= sizeof text)
		return false;
	for (size_t i = 0; i < c->server_allowed_hosts_list.n; i++)
		if (matches(slice_text(c->server_allowed_hosts_list.at[i]), host))
			return true;
	memcpy(text, host.at, host.len);
	text[host.len] = '\0';
	if (address_allowed(text, &number))
		return true;
	if (number)
		return false;
	if (slice_is_nocase(host, SLICE("localhost")) || ends_with(host, SLICE(".localhost")) || ends_with(host, SLICE(".local")) ||
	    ends_with(host, SLICE(".internal")))
		return true;
	if (gethostname(own, sizeof own))
		own[0] = '\0';
	own[sizeof own - 1] = '\0';
	return *own && slice_is_nocase(host, slice_text(own));
}

enum origin origin_judge(const struct config *c, const struct request *r)
{
	const char *text = request_header(r, "Origin");
	struct slice origin = slice_text(text), host = slice_text(request_header(r, "Host"));

	if (!text || origin.len == 0)
		return ORIGIN_NONE;
	if (request_header_count(r, "Origin") > 1)
		return ORIGIN_FORBIDDEN;
	static const struct slice schemes[] = { { "http://", 7 }, { "https://", 8 } };
	for (size_t i = 0; i < 2; i++)
		if (origin.len == schemes[i].len + host.len && !memcmp(origin.at, schemes[i].at, schemes[i].len) &&
		    slice_is(slice_of(origin.at + schemes[i].len, host.len), host))
			return ORIGIN_NONE;
	for (size_t i = 0; i < c->server_origins_list.n; i++)
		if (!strcmp(c->server_origins_list.at[i], "*"))
			return ORIGIN_ANY;
	for (size_t i = 0; i < c->server_origins_list.n; i++)
		if (matches(slice_text(c->server_origins_list.at[i]), origin))
			return ORIGIN_ECHOED;
	for (size_t i = 0; i < sizeof own_origins / sizeof *own_origins; i++)
		if (matches(slice_text(own_origins[i]), origin))
			return ORIGIN_ECHOED;
	return ORIGIN_FORBIDDEN;
}

static size_t allow_origin(enum origin o, const struct request *r, struct header h[CORS_HEADERS_MAX])
{
	size_t n = 0;

	h[n++] = (struct header){ "Access-Control-Allow-Origin", o == ORIGIN_ANY ? "*" : request_header(r, "Origin") };
	if (o == ORIGIN_ECHOED)
		h[n++] = (struct header){ "Vary", "Origin" };
	return n;
}

size_t origin_headers(enum origin o, const struct request *r, struct header h[CORS_HEADERS_MAX])
{
	if (o != ORIGIN_ECHOED && o != ORIGIN_ANY)
		return 0;
	size_t n = allow_origin(o, r, h);
	h[n++] = (struct header){ "Access-Control-Expose-Headers", OUR_RESPONSE_HEADERS };
	return n;
}

size_t origin_preflight(enum origin o, const struct request *r, const char *allow, struct header h[CORS_HEADERS_MAX])
{
	size_t n = allow_origin(o, r, h);

	h[n++] = (struct header){ "Access-Control-Allow-Headers", allowed_headers };
	h[n++] = (struct header){ "Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS" };
	h[n++] = (struct header){ "Access-Control-Max-Age", "43200" };
	h[n++] = (struct header){ "Vary", "Access-Control-Request-Method" };
	h[n++] = (struct header){ "Vary", "Access-Control-Request-Headers" };
	if (allow)
		h[n++] = (struct header){ "Allow", allow };
	return n;
}
