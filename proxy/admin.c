/* admin.c - see admin.h. Which endpoint, who may, how a reply looks. */
#include "proxy/admin.h"

#include <arpa/inet.h>
#include <nettle/memops.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

static const char json_type[] = "application/json; charset=utf-8";
static const char entry_prefix[] = "/ollacache/cache/";

enum { BODY_STEP = 64 << 10 };

bool admin_is_own(const struct request *r)
{
	static const struct slice prefix = { "/ollacache/", 11 };

	return r->is_admin || slice_is(r->path, SLICE("/metrics")) || slice_is(r->path, SLICE("/ollacache")) ||
	       (r->path.len >= prefix.len && !memcmp(r->path.at, prefix.at, prefix.len));
}

/* ---- replies ---- */

void admin_reply(struct exchange *x, int status, const char *content_type, struct buf *body)
{
	const struct header h[] = { { "Content-Type", content_type }, { "Cache-Control", "no-store" },
	                            { "X-Content-Type-Options", "nosniff" } };
	size_t len;
	char *bytes = buf_take(body, &len);

	if (!request_claim(x->request, len)) {
		free(bytes);
		admin_error(x, ERR_REPLIES_FULL, NULL);
		return;
	}
	x->status = status;
	request_reply(x->request, status, h, sizeof h / sizeof *h, bytes, len, false);
}

void admin_reply_json(struct exchange *x, struct buf *body, enum err e)
{
	e = e ? e : buf_add(body, "\n", 1);
	if (e) {
		buf_fini(body);
		admin_error(x, e == ERR_TOO_LARGE ? ERR_NO_MEMORY : e, NULL);
		return;
	}
	admin_reply(x, 200, json_type, body);
}

static void reply_refusal(struct exchange *x, enum err e, const char *text, struct header more)
{
	struct header h[] = { { "Content-Type", json_type }, { "Cache-Control", "no-store" },
	                      { "X-Content-Type-Options", "nosniff" }, more };
	struct buf body;
	size_t len;

	x->end = err_info[e].name;
	x->status = err_info[e].status;
	if (!x->request || request_replied(x->request))
		return;
	buf_init(&body, 4096);
	if (x->dialect->write_error(slice_text(text ? text : err_info[e].text), &body))
		body.len = 0;
	char *bytes = buf_take(&body, &len);
	request_reply(x->request, x->status, h, more.name ? 4 : 3, bytes, len, false);
}

void admin_error(struct exchange *x, enum err e, const char *text)
{
	struct header more = { 0 };

	if (err_info[e].status == 401)
		more = (struct header){ "WWW-Authenticate", "Bearer realm=\"ollacache\"" };
	else if (err_info[e].status == 503)
		more = (struct header){ "Retry-After", "1" };
	reply_refusal(x, e, text, more);
}

/* How many bytes the UTF-8 character at the front of s has (RFC 3629); 0 if it is none. */
static size_t character(struct slice s)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *b = (const unsigned char *)s.at;
	size_t len = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;

	if (len == 0 || len > s.len)
		return 0;
	uint32_t code = len == 1 ? b[0] : b[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (b[i] >> 6 != 2)
			return 0;
		code = code << 6 | (b[i] & 0x3f);
	}
	return code < least[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : len;
}

enum err admin_put_text(struct buf *out, struct slice s, size_t most)
{
	enum err e = buf_add(out, "\"", 1);

	if (most && s.len > most) {
		s.len = most;
		while (s.len && (s.at[s.len] & 0xc0) == 0x80)
			s.len--;
	}
	while (s.len && !e) {
		size_t good = 0, len = 0;
		while (good < s.len && (len = character(slice_of(s.at + good, s.len - good))))
			good += len;
		e = buf_put_json(out, slice_of(s.at, good));
		if (good < s.len && !e) {
			e = buf_add(out, "\xef\xbf\xbd", 3);
			good++;
		}
		s = slice_of(s.at + good, s.len - good);
	}
	return e ? e : buf_add(out, "\"", 1);
}

enum err admin_put_key(struct buf *out, const char *name, const uint8_t key[KEY_BYTES])
{
	char hex[2 * KEY_BYTES + 1];

	for (int i = 0; i < KEY_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	return buf_addf(out, "\"%s\":\"%s\"", name, hex);
}

/* ---- who may ---- */

static bool token_is(const char *authorization, const char *token)
{
	static const struct slice scheme = { "Bearer ", 7 };
	struct slice a = slice_text(authorization);
	size_t len = strlen(token);

	if (a.len < scheme.len || !slice_is_nocase(slice_of(a.at, scheme.len), scheme))
		return false;
	a = slice_of(a.at + scheme.len, a.len - scheme.len);
	/* the length may be told by time, the content not */
	return a.len == len && memeql_sec(a.at, token, len);
}

/* A header by which a proxy tells of itself or of whom it speaks for. */
static void find_proxy(void *arg, struct slice name, struct slice value)
{
	static const struct slice begin[] = {
		SLICE_INIT("Forwarded"), SLICE_INIT("X-Forwarded"), SLICE_INIT("X-Original-"), SLICE_INIT("Via"), SLICE_INIT("CF-"),
		SLICE_INIT("X-Real-IP"), SLICE_INIT("X-Client-IP"), SLICE_INIT("X-Cluster-Client-IP"), SLICE_INIT("True-Client-IP"),
	};
	bool *found = arg;

	(void)value;
	for (size_t i = 0; i < sizeof begin / sizeof *begin; i++)
		*found |= name.len >= begin[i].len && slice_is_nocase(slice_of(name.at, begin[i].len), begin[i]);
}

static bool is_loopback_name(struct slice host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;

	if (host.len == 0 || slice_is_nocase(host, SLICE("localhost")))
		return true;
	if (host.len >= sizeof text)
		return false;
	memcpy(text, host.at, host.len);
	text[host.len] = '\0';
	if (inet_pton(AF_INET, text, &four) == 1)
		return ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET;
	return inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* No proxy in between, no web page behind it: from this machine, to this machine, and asked by itself or our own page. */
static bool local_and_alone(const struct exchange *x)
{
	const struct request *r = x->request;
	const char *host = request_header(r, "Host"), *origin = request_header(r, "Origin");
	bool proxied = false;

	if (!r->peer_local)
		return false;
	request_each_header(r, find_proxy, &proxied);
	if (proxied || !is_loopback_name(origin_host(slice_trim(slice_text(host)))))
		return false;
	if (!origin)
		return true;
	return host && !strncmp(origin, "http://", 7) && !strcmp(origin + 7, host);
}

enum err admin_may(const struct exchange *x)
{
	const char *token = x->config->admin_token;

	if (*token)
		return token_is(request_header(x->request, "Authorization"), token) ? ERR_OK : ERR_NO_TOKEN;
	return local_and_alone(x) ? ERR_OK : ERR_FORBIDDEN;
}

/* ---- a body that is wanted ---- */

size_t admin_body(struct exchange *x, struct slice bytes)
{
	if (!x->own || !x->own->body_max || request_replied(x->request))
		return bytes.len;
	if (x->body.len + bytes.len > x->own->body_max) {
		admin_error(x, ERR_TOO_LARGE, NULL);
		return bytes.len;
	}
	while (x->body.len + bytes.len > x->share.bytes)
		if (!exchange_share_take(x, BODY_STEP, false)) {
			admin_error(x, ERR_NO_MEMORY, NULL);
			return bytes.len;
		}
	if (buf_put(&x->body, bytes))
		admin_error(x, ERR_NO_MEMORY, NULL);
	return bytes.len;
}

void admin_whole(struct exchange *x)
{
	if (x->own && x->own->whole && !request_replied(x->request))
		x->own->whole(x);
}

void admin_free(struct exchange *x)
{
	if (x->own)
		x->own->free(x->own);
	x->own = NULL;
}

/* ---- the endpoints ---- */

static const struct endpoint {
	const char *method, *path;
	bool anyone;
	void (*answer)(struct exchange *x);
} endpoints[] = {
	{ "GET", "/metrics", true, admin_metrics },
	{ "GET", "/ollacache/stats", true, admin_stats },
	{ "GET", "/ollacache/health", true, admin_health },
	{ "GET", "/ollacache/ready", true, admin_ready },
	{ "GET", "/ollacache/history", true, admin_history },
	{ "GET", "/ollacache/", true, admin_page },
	{ "GET", "/ollacache", true, admin_redirect },
	{ "GET", "/ollacache/requests", false, admin_requests },
	{ "GET", "/ollacache/recent", false, admin_recent },
	{ "GET", "/ollacache/cache", false, admin_cache_list },
	{ "DELETE", "/ollacache/cache", false, admin_cache_purge },
	{ "GET", entry_prefix, false, admin_entry_get },
	{ "DELETE", entry_prefix, false, admin_entry_delete },
	{ "POST", "/ollacache/explain", false, admin_explain },
};

static bool is_at(const struct endpoint *e, struct slice path)
{
	if (e->path != entry_prefix)
		return slice_is(path, slice_text(e->path));
	return path.len >= sizeof entry_prefix - 1 && !memcmp(path.at, entry_prefix, sizeof entry_prefix - 1);
}

void admin_begin(struct exchange *x)
{
	const struct request *r = x->request;
	const char *method = strcmp(r->method, "HEAD") ? r->method : "GET";
	char allow[32] = "";

	if (x->config->admin_listen_list.n && !r->is_admin) {
		admin_error(x, ERR_NOT_FOUND, NULL);
		return;
	}
	for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
		const struct endpoint *e = &endpoints[i];
		if (!is_at(e, r->path))
			continue;
		size_t len = strlen(allow);
		snprintf(allow + len, sizeof allow - len, "%s%s", len ? ", " : "", strcmp(e->method, "GET") ? e->method : "GET, HEAD");
		if (strcmp(method, e->method) != 0)
			continue;
		enum err may = e->anyone ? ERR_OK : admin_may(x);
		if (may)
			admin_error(x, may, NULL);
		else
			e->answer(x);
		return;
	}
	if (*allow)
		reply_refusal(x, ERR_BAD_METHOD, NULL, (struct header){ "Allow", allow });
	else
		admin_error(x, ERR_NOT_FOUND, NULL);
}
