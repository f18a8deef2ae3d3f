/* admin_page.c - the dashboard.
 *
 * The page may run nothing but its own script and style: the policy it is sent with names both by their SHA-256 (CSP
 * level 3, 2.3.1), worked out from the embedded file once. */
#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/admin.h"

extern const char _binary_proxy_dashboard_html_start[], _binary_proxy_dashboard_html_end[];

enum { HASH_TEXT = BASE64_ENCODE_RAW_LENGTH(SHA256_DIGEST_SIZE) + 1 };

static char policy[512];

static struct slice page(void)
{
	return slice_of(_binary_proxy_dashboard_html_start,
	                (size_t)(_binary_proxy_dashboard_html_end - _binary_proxy_dashboard_html_start));
}

/* The hash of what stands between the first opening and its closing tag. */
static void hash_between(const char *open, const char *close, char text[HASH_TEXT])
{
	struct slice p = page();
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx c;
	const char *from = memmem(p.at, p.len, open, strlen(open)), *to;

	sha256_init(&c);
	if (from) {
		from += strlen(open);
		to = memmem(from, p.len - (size_t)(from - p.at), close, strlen(close));
		if (to)
			sha256_update(&c, (size_t)(to - from), (const uint8_t *)from);
	}
	sha256_digest(&c, sizeof digest, digest);
	base64_encode_raw(text, sizeof digest, digest);
	text[HASH_TEXT - 1] = '\0';
}

static void make_policy(void)
{
	char script[HASH_TEXT], style[HASH_TEXT];

	hash_between("<script>", "</script>", script);
	hash_between("<style>", "</style>", style);
	snprintf(policy, sizeof policy, "default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; connect-src 'self'; "
	         "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", script, style);
}

void admin_page(struct exchange *x)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct slice p = page();
	char *copy = request_claim(x->request, p.len) ? malloc(p.len) : NULL;

	if (!copy) {
		admin_error(x, ERR_REPLIES_FULL, NULL);
		return;
	}
	pthread_once(&once, make_policy);
	memcpy(copy, p.at, p.len);
	const struct header h[] = {
		{ "Content-Type", "text/html; charset=utf-8" }, { "Cache-Control", "no-store" }, { "X-Content-Type-Options", "nosniff" },
		{ "Content-Security-Policy", policy }, { "Referrer-Policy", "no-referrer" }, { "X-Frame-Options", "DENY" },
		{ "Cross-Origin-Opener-Policy", "same-origin" },
	};
	x->status = 200;
	request_reply(x->request, 200, h, sizeof h / sizeof *h, copy, p.len, false);
}

void admin_redirect(struct exchange *x)
{
	const struct header h[] = { { "Location", "ollacache/" }, { "Cache-Control", "no-store" } };

	x->status = 308;
	request_reply(x->request, 308, h, sizeof h / sizeof *h, NULL, 0, false);
}
