/* uses: proxy/base/buf.c proxy/base/err.c proxy/base/arena.c */
/* libs: -lm */
/* test_wishes.c - what a request's headers ask of the cache, whose it is (wishes.c), and from where it may come (origin.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/origin.c"
#include "proxy/wishes.c"

/* A request is its headers: name, value, …, NULL. */
static const char *const *headers;

const char *request_header_named(const struct request *r, struct slice name)
{
	(void)r;
	for (const char *const *h = headers; *h; h += 2)
		if (slice_is_nocase(slice_text(*h), name))
			return h[1];
	return NULL;
}

void request_each_header(const struct request *r, void (*each_one)(void *arg, struct slice name, struct slice value), void *arg)
{
	(void)r;
	for (const char *const *h = headers; *h; h += 2)
		each_one(arg, slice_text(*h), slice_text(h[1]));
}

size_t request_header_count(const struct request *r, const char *name)
{
	size_t n = 0;

	(void)r;
	for (const char *const *h = headers; *h; h += 2)
		n += slice_is_nocase(slice_text(*h), slice_text(name));
	return n;
}
#define HEADERS(...) (headers = (const char *const[]){ __VA_ARGS__, NULL, NULL })

static struct config config;
static struct request request;
static struct exchange *x;
static char text[256];

static int begin(void **state)
{
	(void)state;
	config = (struct config){ .cache_scope_kind = CONFIG_SCOPE_AUTHORIZATION };
	request = (struct request){ .to_loopback = true };
	x = calloc(1, sizeof *x);
	x->config = &config;
	x->request = &request;
	arena_init(&x->arena, 1 << 16);
	return 0;
}

static int end(void **state)
{
	(void)state;
	arena_fini(&x->arena);
	free(x);
	return 0;
}

static bool reads(void)
{
	*text = '\0';
	return wishes_read(x, text, sizeof text);
}

static void nothing_is_asked_by_default(void **state)
{
	(void)state;
	HEADERS("Accept", "*/*");
	assert_true(reads());
	const struct wishes *w = &x->wishes;
	assert_true(!w->no_cache && !w->no_store && !w->only_if_cached && !w->semantic_off && !w->explain);
	assert_true(w->max_age_s == -1 && w->ttl_s == -1 && w->semantic_threshold == 0 && w->complex == COMPLEX_NONE);
	assert_int_equal(w->space.len + w->tenant[0].len + w->tenant[1].len + w->tenant[2].len, 0);
}

static void cache_control_is_read_from_every_header(void **state)
{
	(void)state;
	HEADERS("cache-control", " No-Cache , x=y,,max-age=\"60\"", "Cache-Control", "no-store,ONLY-IF-CACHED");
	assert_true(reads());
	assert_true(x->wishes.no_cache && x->wishes.no_store && x->wishes.only_if_cached);
	assert_int_equal(x->wishes.max_age_s, 60);
}

static void too_large_is_the_largest(void **state)
{
	(void)state;
	HEADERS("Cache-Control", "max-age=99999999999999999999", "X-Cache-TTL", "18446744073709551617");
	assert_true(reads());
	assert_int_equal(x->wishes.max_age_s, 1 << 30);
	assert_int_equal(x->wishes.ttl_s, 1 << 30);
}

static void bad_values_are_told(void **state)
{
	static const char *const bad_ones[][2] = {
		{ "Cache-Control", "max-age" }, { "Cache-Control", "max-age=-1" }, { "Cache-Control", "max-age=1.5" }, { "Cache-Control", "max-age=99999999999x" },
		{ "X-Cache-Semantic", "" }, { "X-Cache-Semantic", "on" }, { "X-Cache-Semantic", "0.49" }, { "X-Cache-Semantic", "1.01" },
		{ "X-Cache-Semantic", "nan" }, { "X-Cache-Semantic", "inf" }, { "X-Cache-Semantic", "0.7x" },
		{ "X-Cache-TTL", "" }, { "X-Cache-TTL", "-1" }, { "X-Cache-TTL", "1s" }, { "X-Cache-TTL", "18446744073709551617s" },
		{ "X-Complex", "" }, { "X-Complex", "0" }, { "X-Complex", "-2" }, { "X-Complex", "2.5" }, { "X-Complex", "yes" },
		{ "X-Complex", "99999999999999999999999" }, { "X-Complex-Explain", "true" }, { "X-Complex-Explain", "" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad_ones / sizeof *bad_ones; i++) {
		HEADERS(bad_ones[i][0], bad_ones[i][1]);
		if (reads())
			fail_msg("%s: %s", bad_ones[i][0], bad_ones[i][1]);
		assert_non_null(strstr(text, bad_ones[i][0]));
	}
	char longer[SPACE_MAX + 2];
	memset(longer, 'n', sizeof longer);
	longer[SPACE_MAX + 1] = '\0';
	HEADERS("X-Cache-Namespace", longer);
	assert_false(reads());
	HEADERS("X-Cache-Namespace", longer + 1);
	assert_true(reads());
	assert_int_equal(x->wishes.space.len, SPACE_MAX);
	HEADERS("X-Cache-TTL", "\xd0\xbf\n");
	assert_false(reads());
	for (const char *c = text; *c; c++)
		assert_true(*c >= ' ' && *c < 0x7f);
}

static void good_values_are_read(void **state)
{
	static const struct { const char *value; int complex; } values[] = { { "true", COMPLEX_DEFAULT }, { " TRUE ", COMPLEX_DEFAULT }, { "false", 1 }, { "1", 1 }, { "7", 7 } };

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		HEADERS("X-Complex", values[i].value, "X-Complex-Explain", "1", "X-Cache-TTL", "0", "X-Cache-Semantic", "0.5");
		assert_true(reads());
		assert_int_equal(x->wishes.complex, values[i].complex);
		assert_true(x->wishes.explain && x->wishes.ttl_s == 0 && x->wishes.semantic_threshold == 0.5);
	}
	HEADERS("X-Cache-Semantic", "OFF");
	assert_true(reads());
	assert_true(x->wishes.semantic_off);
}

static void tenants_are_kept_apart(void **state)
{
	(void)state;
	HEADERS("Authorization", "Bearer a", "X-Who", "b");
	assert_true(reads());
	assert_true(slice_is(x->wishes.tenant[0], SLICE("Bearer a")));
	assert_int_equal(x->wishes.tenant[1].len + x->wishes.tenant[2].len, 0);
	HEADERS("X-API-Key", "Bearer a", "api-key", "c", "Api-Key", "d");
	assert_true(reads());
	assert_int_equal(x->wishes.tenant[0].len, 0);
	assert_true(slice_is(x->wishes.tenant[1], SLICE("Bearer a")));
	assert_true(slice_is(x->wishes.tenant[2], slice_of("c\0d", 3)));
	HEADERS("Authorization", "Bearer a", "X-Who", "b");
	config.cache_scope_kind = CONFIG_SCOPE_HEADER;
	config.cache_scope_header = "x-who";
	assert_true(reads());
	assert_true(slice_is(x->wishes.tenant[0], SLICE("b")));
	HEADERS("X-Who", "a", "X-Who", "b");
	assert_true(reads());
	assert_true(slice_is(x->wishes.tenant[0], slice_of("a\0b", 3)));
	config.cache_scope_kind = CONFIG_SCOPE_SHARED;
	assert_true(reads());
	assert_null(x->wishes.tenant[0].at);
}

/* ---- from where ---- */

static void origins_as_ollama_judges_them(void **state)
{
	static const struct { const char *origin; enum origin want; } cases[] = {
		{ "http://localhost", ORIGIN_ECHOED }, { "https://localhost:3000", ORIGIN_ECHOED }, { "http://127.0.0.1:8080", ORIGIN_ECHOED },
		{ "http://0.0.0.0", ORIGIN_ECHOED }, { "app://x", ORIGIN_ECHOED }, { "tauri://localhost", ORIGIN_ECHOED }, { "vscode-webview://x", ORIGIN_ECHOED },
		{ "file://", ORIGIN_ECHOED }, { "null", ORIGIN_FORBIDDEN }, { "http://evil.example", ORIGIN_FORBIDDEN }, { "", ORIGIN_NONE },
		{ "http://localhost.evil.example", ORIGIN_FORBIDDEN }, { "http://evil.example/http://localhost", ORIGIN_FORBIDDEN },
		{ "chrome-extension://abc", ORIGIN_FORBIDDEN }, { "http://proxy.example:11436", ORIGIN_NONE }, { "https://proxy.example:11436", ORIGIN_NONE },
		{ "ftp://proxy.example:11436", ORIGIN_FORBIDDEN }, { "http://my.example", ORIGIN_ECHOED }, { "http://a.wild.example", ORIGIN_ECHOED },
		{ "http://wild.example", ORIGIN_FORBIDDEN },
	};
	const char *own[] = { "http://my.example", "http://*.wild.example" }, *any[] = { "*" };

	(void)state;
	config.server_origins_list = (struct config_list){ own, 2 };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		HEADERS("Host", "proxy.example:11436", "Origin", cases[i].origin);
		if (origin_judge(&config, &request) != cases[i].want)
			fail_msg("%s", cases[i].origin);
	}
	HEADERS("Host", "h");
	assert_int_equal(origin_judge(&config, &request), ORIGIN_NONE);
	HEADERS("Host", "h", "Origin", "http://localhost", "Origin", "http://evil.example");
	assert_int_equal(origin_judge(&config, &request), ORIGIN_FORBIDDEN);
	config.server_origins_list = (struct config_list){ any, 1 };
	HEADERS("Host", "h", "Origin", "http://evil.example");
	assert_int_equal(origin_judge(&config, &request), ORIGIN_ANY);
}

static void hosts_as_ollama_judges_them(void **state)
{
	static const struct { const char *host; bool allowed; } cases[] = {
		{ "localhost", true }, { "LOCALHOST:11436", true }, { "127.0.0.1", true }, { "127.9.9.9:80", true }, { "10.1.2.3", true }, { "192.168.0.1:1", true },
		{ "172.16.0.1", true }, { "172.31.255.255", true }, { "172.32.0.1", false }, { "8.8.8.8", false }, { "[::1]:11436", true }, { "[::1]", true },
		{ "[fd00::1]", true }, { "[2001:4860:4860::8888]:80", false }, { "a.local", true }, { "a.localhost", true }, { "host.docker.internal", true },
		{ "evil.example", false }, { "localhost.evil.example", false }, { ".local", false }, { "notlocalhost", false }, { "0.0.0.0", true },
		{ "evil.example:127.0.0.1", false }, { "", true }, { "[::1].evil", false }, { "[::1]evil:80", false }, { "localhost:80:evil", false },
	};
	const char *listed[] = { "evil.example", "*.good.example" };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		HEADERS("Host", cases[i].host);
		request.to_loopback = true;
		if (host_allowed(&config, &request) != cases[i].allowed)
			fail_msg("%s", cases[i].host);
		request.to_loopback = false;             /* it came over the network: whoever let it through answers for that */
		assert_true(host_allowed(&config, &request));
	}
	config.server_allowed_hosts_list = (struct config_list){ listed, 2 };
	HEADERS("Host", "other.example");
	assert_false(host_allowed(&config, &request));   /* with a list it is judged everywhere */
	HEADERS("Host", "a.good.example:80");
	assert_true(host_allowed(&config, &request));
	HEADERS("Host", "EVIL.example");
	assert_true(host_allowed(&config, &request));
}

static void cors_headers_say_what_was_judged(void **state)
{
	struct header h[CORS_HEADERS_MAX];

	(void)state;
	HEADERS("Origin", "http://localhost:1");
	assert_int_equal(origin_headers(ORIGIN_NONE, &request, h), 0);
	assert_int_equal(origin_headers(ORIGIN_FORBIDDEN, &request, h), 0);
	assert_int_equal(origin_headers(ORIGIN_ECHOED, &request, h), 3);
	assert_string_equal(h[0].value, "http://localhost:1");
	assert_string_equal(h[1].name, "Vary");
	assert_int_equal(origin_headers(ORIGIN_ANY, &request, h), 2);
	assert_string_equal(h[0].value, "*");
	assert_non_null(strstr(h[1].value, "X-Cache"));
	for (int o = ORIGIN_ECHOED; o <= ORIGIN_ANY; o++)
		assert_true(origin_preflight((enum origin)o, &request, "POST", h) <= CORS_HEADERS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_asked_by_default, begin, end),
		cmocka_unit_test_setup_teardown(cache_control_is_read_from_every_header, begin, end),
		cmocka_unit_test_setup_teardown(too_large_is_the_largest, begin, end),
		cmocka_unit_test_setup_teardown(bad_values_are_told, begin, end),
		cmocka_unit_test_setup_teardown(good_values_are_read, begin, end),
		cmocka_unit_test_setup_teardown(tenants_are_kept_apart, begin, end),
		cmocka_unit_test_setup_teardown(origins_as_ollama_judges_them, begin, end),
		cmocka_unit_test_setup_teardown(hosts_as_ollama_judges_them, begin, end),
		cmocka_unit_test_setup_teardown(cors_headers_say_what_was_judged, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
