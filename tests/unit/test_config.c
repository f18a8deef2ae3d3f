/* uses: proxy/config_value.c proxy/config_check.c proxy/own_address.c proxy/trust.c proxy/config_print.c proxy/base/arena.c proxy/base/buf.c
 * proxy/base/err.c cache/redis_url.c */
/* libs: -lnettle */
/* test_config.c - the configuration: what each of its four places may say and which is stronger, every mistake and its
 * words, printing and reading back, reloading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static int allocs_left = -1;                    /* -1: never fail */

static void *failing_calloc(size_t n, size_t size)
{
	return allocs_left-- == 0 ? NULL : calloc(n, size);
}
#define calloc failing_calloc
#include "proxy/config.c"
#undef calloc

static char dir[] = "/tmp/test_config.XXXXXX", conf[64], other[64];
static char *said;                              /* the complaints of the last load */
static enum config_action action;

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(conf, sizeof conf, "%s/proxy.conf", dir);
	snprintf(other, sizeof other, "%s/other", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(conf);
	unlink(other);
	free(said);
	return rmdir(dir);
}

static void write_file(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Loads with these words on the command line; they end with NULL and must outlive the configuration. */
static struct config *load(char **argv)
{
	size_t len;
	int argc = 0;

	while (argv[argc])
		argc++;
	free(said);
	FILE *f = open_memstream(&said, &len);
	struct config *c = config_load(argc, argv, f, &action);
	fclose(f);
	if (c)
		assert_string_equal(said, "");          /* all is well, or there is something to say, never both */
	else
		assert_true(said[0]);
	return c;
}
#define LOAD(...) load((char *[]){ "ollacache", __VA_ARGS__, NULL })

static struct config *reload(const struct config *old)
{
	size_t len;

	free(said);
	FILE *f = open_memstream(&said, &len);
	struct config *c = config_reload(old, f);
	fclose(f);
	return c;
}

static struct config *load_text(const char *text)
{
	write_file(conf, text, strlen(text));
	return LOAD("-c", conf);
}

/* The complaints are these lines and no others; FILE in them stands for the file's name. */
static void assert_said(const char *lines)
{
	char expected[4096] = "";
	const char *at = lines;

	for (const char *file; (file = strstr(at, "FILE")); at = file + 4) {
		strncat(expected, at, (size_t)(file - at));
		strncat(expected, conf, sizeof expected - strlen(expected) - 1);
	}
	strncat(expected, at, sizeof expected - strlen(expected) - 1);
	assert_string_equal(said, expected);
}

static char *printed(const struct config *c)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	config_print(f, c);
	fclose(f);
	return text;
}

static void assert_same(const struct config *a, const struct config *b)
{
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++)
		if (!config_same(a, b, o))
			fail_msg("%s differs", o->name);
}

/* ---- what there is ---- */

static void defaults_are_the_promised_ones(void **state)
{
	struct config *c = LOAD("-t");

	(void)state;
	assert_non_null(c);
	assert_int_equal(action, CONFIG_TEST);
	assert_string_equal(c->server_listen, "127.0.0.1:11436");
	assert_int_equal(c->server_listen_list.n, 1);
	assert_int_equal(c->server_workers, 0);
	assert_int_equal(c->server_max_connections, 10000);
	assert_true(c->server_max_body == 64u << 20);
	assert_true(c->server_max_buffered == 1u << 30);
	assert_int_equal(c->server_header_timeout, 10000);
	assert_int_equal(c->server_idle_timeout, 75000);
	assert_int_equal(c->server_drain_timeout, 30000);
	assert_int_equal(c->server_origins_list.n, 0);
	assert_string_equal(c->upstream_url_list.at[0], "http://127.0.0.1:11434");
	assert_int_equal(c->upstream_first_byte_timeout, 600000);
	assert_int_equal(c->cache_store, CONFIG_STORE_EMBEDDED);
	assert_int_equal(c->cache_ttl, 86400000);
	assert_true(c->cache_max_entry == 4u << 20);
	assert_int_equal(c->cache_scope_kind, CONFIG_SCOPE_AUTHORIZATION);
	assert_null(c->cache_scope_header);
	assert_false(c->cache_deterministic_only);
	assert_string_equal(c->redis_url, "redis://127.0.0.1:6379/0");
	assert_int_equal(c->redis_timeout, 50);
	assert_true(c->semantic_enabled);
	assert_true(c->semantic_threshold == 0.70);
	assert_int_equal(c->semantic_languages_list.n, 2);
	assert_string_equal(c->semantic_languages_list.at[1], "en");
	assert_int_equal(c->semantic_guards, CONFIG_GUARDS_STRICT);
	assert_int_equal(c->complex_candidates, 3);
	assert_int_equal(c->complex_max_candidates, 8);
	assert_int_equal(c->complex_deadline, 120000);
	assert_int_equal(c->complex_temperatures_numbers.n, 3);
	assert_true(c->complex_temperatures_numbers.at[1] == 0.8);
	assert_int_equal(c->complex_num_predicts_numbers.n, 0);
	assert_true(c->scoring_weight_agreement == 0.35);
	assert_true(c->scoring_weight_repetition == 0.05);
	assert_string_equal(c->admin_token, "");
	assert_int_equal(c->log_level, CONFIG_LOG_INFO);
	assert_int_equal(c->log_format, CONFIG_FORMAT_TEXT);
	assert_false(c->log_prompts);
	config_drop(c);
}

static void the_command_line_says_what_to_do(void **state)
{
	static const struct { char *word; enum config_action action; } words[] = {
		{ "-t", CONFIG_TEST }, { "--print-config", CONFIG_PRINT }, { "--health", CONFIG_HEALTH },
		{ "--version", CONFIG_VERSION }, { "--help", CONFIG_HELP },
		{ "--print-options-table", CONFIG_OPTIONS_TABLE }, { "--print-metrics-table", CONFIG_METRICS_TABLE },
		{ "--log.level=info", CONFIG_RUN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct config *c = LOAD(words[i].word);
		assert_non_null(c);
		assert_int_equal(action, words[i].action);
		config_drop(c);
	}
	/* help is given even where the configuration is broken */
	struct config *c = LOAD("--help", "-c", "/nonexistent/file");
	assert_non_null(c);
	config_drop(c);
}

static void every_option_is_described_within_its_own_bounds(void **state)
{
	(void)state;
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
		bool section = false;
		for (size_t i = 0; i < config_n_sections; i++)
			section = section || !strcmp(config_sections[i].name, o->section);
		assert_true(section);
		assert_true(o->help[0]);
		assert_true(o->least <= o->most);
		for (const struct config_option *p = config_table; p < o; p++)
			assert_string_not_equal(o->name, p->name);
	}
}

/* ---- order of force ---- */

static void the_command_line_wins_over_environment_file_and_default(void **state)
{
	static char *argv[] = { "ollacache", "-c", conf, "--cache.ttl=1h", "--cache.ttl=4h", NULL };

	(void)state;
	write_file(conf, "[cache]\nttl = 2h\nmax_size = 2GiB\nmax_entry = 2MiB\n", 49);
	setenv("OLLACACHE_CACHE_TTL", "3h", 1);
	setenv("OLLACACHE_CACHE_MAX_SIZE", "3GiB", 1);
	struct config *c = load(argv);
	unsetenv("OLLACACHE_CACHE_TTL");
	unsetenv("OLLACACHE_CACHE_MAX_SIZE");
	assert_non_null(c);
	assert_int_equal(c->cache_ttl, 4 * 3600000);                      /* the last on the command line */
	assert_true(c->cache_max_size == 3ull << 30);                     /* the environment over the file */
	assert_true(c->cache_max_entry == 2u << 20);                      /* the file over the default */
	assert_string_equal(c->cache_path, "./ollacache-data");
	config_drop(c);
}

/* ---- values ---- */

static void numbers_take_their_units_and_nothing_else(void **state)
{
	static const struct { const char *word; int64_t ms; } times[] = {
		{ "--cache.ttl=1ms", 1 }, { "--cache.ttl=1.5s", 1500 }, { "--cache.ttl=2m", 120000 },
		{ "--cache.ttl=2 h", 7200000 }, { "--cache.ttl=365d", 365 * 86400000ll }, { "--cache.ttl=3650d", 315360000000 },
		{ "--cache.ttl=3651d", -1 }, { "--cache.ttl=0", -1 }, { "--cache.ttl=10", -1 }, { "--cache.ttl=1y", -1 },
		{ "--cache.ttl=-1s", -1 }, { "--cache.ttl=1e3s", -1 }, { "--cache.ttl=nan", -1 }, { "--cache.ttl=0x1s", -1 },
		{ "--cache.ttl=inf", -1 }, { "--cache.ttl=s", -1 }, { "--cache.ttl=1.s", -1 }, { "--cache.ttl=.5s", -1 },
		{ "--cache.ttl=", -1 }, { "--cache.ttl=1s1s", -1 }, { "--cache.ttl=1S", -1 },
		{ "--cache.ttl=99999999999999999999999999999999s", -1 }, { "--cache.ttl=1KiB", -1 },
	};
	static const struct { const char *word; uint64_t bytes; } sizes[] = {
		{ "--server.max_body=1024", 1024 }, { "--server.max_body=2048B", 2048 }, { "--server.max_body=1.5KiB", 1536 },
		{ "--server.max_body=1GiB", 1u << 30 }, { "--server.max_body=1023", 0 }, { "--server.max_body=5GiB", 0 },
		{ "--server.max_body=1kib", 0 }, { "--server.max_body=1MB", 0 }, { "--server.max_body=1s", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		struct config *c = LOAD((char *)times[i].word);
		if (times[i].ms < 0)
			assert_null(c);
		else
			assert_true(c && c->cache_ttl == times[i].ms);
		config_drop(c);
	}
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct config *c = LOAD((char *)sizes[i].word);
		if (!sizes[i].bytes)
			assert_null(c);
		else
			assert_true(c && c->server_max_body == sizes[i].bytes);
		config_drop(c);
	}
}

/* Just inside and just outside, of every option that has bounds. */
static void every_bound_holds(void **state)
{
	size_t tried = 0;

	(void)state;
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
		const double step = o->kind == KIND_RATIO ? 0.001 : 1;
		const double values[] = { o->least, o->most, o->least - step, o->most + step };
		if (o->kind < KIND_SIZE || o->kind > KIND_RATIO)
			continue;
		for (size_t i = 0; i < 4; i++) {
			struct config c = { 0 };
			char text[64], why[CONFIG_WHY];
			if (values[i] < 0)
				continue;
			arena_init(&c.arena, 4096);
			snprintf(text, sizeof text, "%.*f%s", o->kind == KIND_RATIO ? 3 : 0, values[i],
				 o->kind == KIND_TIME ? "ms" : "");
			assert_int_equal(config_set(&c, o, text, why), i < 2);
			arena_fini(&c.arena);
			tried++;
		}
	}
	assert_true(tried > 60);
}

static void lists_are_taken_apart(void **state)
{
	struct config *c = LOAD("--server.listen= 127.0.0.1:0 ,[::1]:8080,, unix:/tmp/a b.sock,", "--complex.top_ps=",
				"--complex.temperatures= 0, 2 ,1.25");
	struct config_address a;

	(void)state;
	assert_non_null(c);
	assert_int_equal(c->server_listen_list.n, 3);
	assert_string_equal(c->server_listen_list.at[2], "unix:/tmp/a b.sock");
	assert_true(config_address(c->server_listen_list.at[0], &a));
	assert_string_equal(a.host, "127.0.0.1");
	assert_int_equal(a.port, 0);
	assert_true(config_address(c->server_listen_list.at[1], &a));
	assert_string_equal(a.host, "::1");
	assert_int_equal(a.port, 8080);
	assert_false(a.is_unix);
	assert_true(config_address(c->server_listen_list.at[2], &a));
	assert_true(a.is_unix);
	assert_string_equal(a.path, "/tmp/a b.sock");
	assert_int_equal(c->complex_top_ps_numbers.n, 0);
	assert_int_equal(c->complex_temperatures_numbers.n, 3);
	assert_true(c->complex_temperatures_numbers.at[2] == 1.25);
	config_drop(c);
}

static void addresses_are_what_they_look_like(void **state)
{
	static const char *const wrong[] = {
		"", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:80x", "[::1]", "[::1:80",
		"::1:80", "[127.0.0.1]:80", "[::g]:80", "unix:", "a b:80", "http://a:80", "[]:80", "localhost:0080000",
	};
	struct config_address a;
	char longest[200] = "unix:";

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_false(config_address(wrong[i], &a));
	assert_true(config_address("localhost:11434", &a));
	assert_int_equal(config_mode("0660"), 0660);
	assert_int_equal(config_mode("777"), 0777);
	assert_int_equal(config_mode("0888"), -1);
	assert_int_equal(config_mode("7777"), -1);
	assert_int_equal(config_mode(""), -1);
	assert_true(config_address("0.0.0.0:1", &a));
	memset(longest + 5, 'p', 107);
	assert_true(config_address(longest, &a));                         /* 107 and a NUL is what the kernel takes */
	longest[5 + 107] = 'p';
	assert_false(config_address(longest, &a));
}

static void files_are_read_with_the_options_that_name_them(void **state)
{
	char word[100], large[200];

	(void)state;
	write_file(other, "не можна\nnever\n", strlen("не можна\nnever\n"));
	snprintf(word, sizeof word, "--scoring.forbidden=%s", other);
	struct config *c = LOAD(word);
	assert_non_null(c);
	assert_true(slice_is(c->scoring_forbidden_content, SLICE("не можна\nnever\n")));
	assert_int_equal(c->semantic_aliases_content.len, 0);
	config_drop(c);
	assert_int_equal(truncate(other, CONFIG_FILE_BYTES + 1), 0);
	assert_null(LOAD(word));
	snprintf(large, sizeof large, "--scoring.forbidden: %s: is larger than 4 MiB\n", other);
	assert_string_equal(said, large);
	unlink(other);
}

/* ---- the file's form ---- */

static void the_file_has_sections_comments_and_quotes(void **state)
{
	struct config *c = load_text("\xef\xbb\xbf# comment = yes\r\n"
				     "  [ cache ] # of answers\r\n"
				     "path = /a#b   # not part of it\r\n"
				     "\r\n"
				     "\tscope=header:X-User\r\n"
				     "[redis]\n"
				     "prefix = \"a:\\\"#\\\\b \" # quoted\n"
				     "[cache]\n"
				     "models = llama*, !*:70b");

	(void)state;
	assert_null(c);                               /* the prefix has a backslash and a space in it: not for Redis */
	assert_said("FILE:7: redis.prefix: must not have spaces or any of {}*?[]\\ in it, which mean something to Redis\n");
	c = load_text("[cache]\npath = \"/tmp/with # and \\\"quotes\\\" \" # and a comment\nscope=header:X-User\n"
		      "[redis]\nprefix=\n[cache]\nmodels = llama*, !*:70b");
	assert_non_null(c);
	assert_string_equal(c->cache_path, "/tmp/with # and \"quotes\" ");
	assert_int_equal(c->cache_scope_kind, CONFIG_SCOPE_HEADER);
	assert_string_equal(c->cache_scope_header, "X-User");
	assert_string_equal(c->redis_prefix, "");
	assert_string_equal(c->cache_models_list.at[1], "!*:70b");
	config_drop(c);
}

static void every_mistake_in_a_file_is_told_with_its_line(void **state)
{
	(void)state;
	assert_null(load_text("stray = 1\n"
			      "[server]\n"
			      "listne = 127.0.0.1:1\n"
			      "workers = many\n"
			      "ttl = 1h\n"
			      "zzzzzzzz = 1\n"
			      "nothing\n"
			      "[cahce]\n"
			      "path = unseen\n"
			      "[zzzzzzzzz]\n"
			      "[cache\n"
			      "[log]\n"
			      "level = loud\n"
			      "prompts = yes\n"
			      "level = info\n"
			      "[cache]\n"
			      "path = \"unclosed\n"
			      "models = \"a\" b\n"
			      "ttl = 4000d\n"
			      "max_entry = 9 elephants\n"));
	assert_said("FILE:1: comes before the first '[section]'\n"
		    "FILE:3: unknown option 'server.listne', did you mean 'server.listen'?\n"
		    "FILE:4: server.workers: 'many' is not a whole number\n"
		    "FILE:5: unknown option 'server.ttl', did you mean 'cache.ttl'?\n"
		    "FILE:6: unknown option 'server.zzzzzzzz'\n"
		    "FILE:7: expected 'key = value', '[section]' or '# comment'\n"
		    "FILE:8: unknown section 'cahce', did you mean 'cache'?\n"
		    "FILE:10: unknown section 'zzzzzzzzz'\n"
		    "FILE:11: a section is written '[name]'\n"
		    "FILE:13: log.level: 'loud' is none of error, warn, info, debug\n"
		    "FILE:14: log.prompts: 'yes' is neither on nor off\n"
		    "FILE:15: log.level: is given twice, first in line 13\n"
		    "FILE:17: a value in quotes must end with its quote\n"
		    "FILE:18: a value in quotes must end with its quote\n"
		    "FILE:19: cache.ttl: must be from 1ms to 3650d\n"
		    "FILE:20: cache.max_entry: '9 elephants' is not a size such as 64MiB (B, KiB, MiB, GiB, TiB)\n");
	assert_null(load_text("[cache\nttl = 1h\n"));                   /* what is in a broken section is not looked at */
	assert_said("FILE:1: a section is written '[name]'\n");
}

static void files_that_are_no_configuration_are_refused(void **state)
{
	(void)state;
	assert_null(LOAD("-c", dir));
	assert_non_null(strstr(said, ": cannot be read: Is a directory"));
	assert_null(LOAD("-c", "/nonexistent/proxy.conf"));
	assert_string_equal(said, "/nonexistent/proxy.conf: cannot be read: No such file or directory\n");
	write_file(conf, "[log]\nlevel = in\0fo\n", 20);
	assert_null(LOAD("-c", conf));
	assert_said("FILE: has a NUL byte in it; is it a configuration file?\n");
	assert_null(load_text("[log]\nlevel = \x1b[31m\n"));
	assert_said("FILE:2: log.level: must not have control characters in it\n");
	assert_int_equal(truncate(conf, CONFIG_FILE_BYTES + 1), 0);
	assert_null(LOAD("-c", conf));
	assert_said("FILE: cannot be read: File too large\n");
	struct config *c = load_text("");
	assert_non_null(c);
	config_drop(c);
}

static void mistakes_elsewhere_name_their_place(void **state)
{
	(void)state;
	setenv("OLLACACHE_SERVER_LISTNE", "x", 1);
	setenv("OLLACACHE_SEMANTIC_THRESHOLD", "0.4", 1);
	setenv("OLLACACHE_", "x", 1);
	setenv("OLLACACHE_SERVICE_HOST", "10.0.0.1", 1);       /* what Kubernetes sets is not ours */
	setenv("OLLACACHE_PORT", "tcp://10.0.0.1:11434", 1);
	assert_null(LOAD("--cache.tll=1h", "--complex.candidates", "--workers=2", "file.conf", "--cache.ttl=x", "-c"));
	unsetenv("OLLACACHE_SERVER_LISTNE");
	unsetenv("OLLACACHE_SEMANTIC_THRESHOLD");
	unsetenv("OLLACACHE_");
	assert_non_null(strstr(said, "environment OLLACACHE_SERVER_LISTNE: unknown option 'server.listne', did you mean "
				     "'OLLACACHE_SERVER_LISTEN'?\n"));
	assert_non_null(strstr(said, "environment OLLACACHE_SEMANTIC_THRESHOLD: must be from 0.5 to 1\n"));
	assert_non_null(strstr(said, "environment OLLACACHE_: unknown option ''"));
	assert_non_null(strstr(said, "command line: unknown option 'cache.tll', did you mean 'cache.ttl'?\n"));
	assert_non_null(strstr(said, "--complex.candidates: needs a value: --complex.candidates=3\n"));
	assert_non_null(strstr(said, "command line: unknown option 'workers', did you mean 'server.workers'?\n"));
	assert_non_null(strstr(said, "file.conf: not an option; --help lists them\n"));
	assert_non_null(strstr(said, "-c: needs the name of a file\n"));
	assert_null(strstr(said, "SERVICE"));
	struct config *c = LOAD("-t");
	assert_non_null(c);
	config_drop(c);
	unsetenv("OLLACACHE_SERVICE_HOST");
	unsetenv("OLLACACHE_PORT");
}

/* ---- what bounds cannot say ---- */

#define NO_REDIS_URL "cannot be understood: it is redis://[user:password@]host[:port][/db], unix:///path[?db=N] or " \
		     "redis+sentinel://host:port,host:port/name[/db]\n"

static void values_that_make_no_sense_are_refused(void **state)
{
	static const struct { char *word; const char *says; } cases[] = {
		{ "--server.listen=,", "--server.listen: must name at least one address\n" },
		{ "--server.listen=", "--server.listen: must not be empty\n" },
		{ "--server.listen=a:1,b", "--server.listen: 'b' is not HOST:PORT, [IPv6]:PORT or unix:/PATH\n" },
		{ "--server.listen=a:1,a:1", "--server.listen: 'a:1' is given twice\n" },
		{ "--admin.listen=x", "--admin.listen: 'x' is not HOST:PORT, [IPv6]:PORT or unix:/PATH\n" },
		{ "--server.origins=example.com", "--server.origins: 'example.com' has neither a scheme (https://…) nor a *\n" },
		{ "--server.max_buffered=1MiB",
		  "server.max_body: is more than server.max_buffered, so that not one such body could be read\n" },
		{ "--upstream.url=,", "--upstream.url: must name at least one upstream\n" },
		{ "--upstream.url=ftp://a", "--upstream.url: 'ftp://a' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a/x?y", "--upstream.url: 'http://a/x?y' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a/x#y", "--upstream.url: 'http://a/x#y' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a/../x", "--upstream.url: 'http://a/../x' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a//x", "--upstream.url: 'http://a//x' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a/x y", "--upstream.url: 'http://a/x y' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://u:p@a", "--upstream.url: 'http://u:p@a' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a:0", "--upstream.url: 'http://a:0' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a:x", "--upstream.url: 'http://a:x' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]\n" },
		{ "--upstream.url=http://a,http://a", "--upstream.url: 'http://a' is given twice\n" },
		{ "--cache.scope=header:", "--cache.scope: 'header:' is none of authorization, shared, header:NAME\n" },
		{ "--cache.scope=header:a b", "--cache.scope: 'header:a b' is none of authorization, shared, header:NAME\n" },
		{ "--cache.scope=all", "--cache.scope: 'all' is none of authorization, shared, header:NAME\n" },
		{ "--cache.models=,", "--cache.models: must have at least one pattern; * means every model\n" },
		{ "--cache.models=a,!", "--cache.models: a ! needs the pattern it excludes right after it\n" },
		{ "--cache.max_size=2MiB",
		  "cache.max_entry: is more than cache.max_size, so that such an answer could not be kept\n" },
		{ "--redis.url=http://secret", "--redis.url: " NO_REDIS_URL },
		{ "--redis.url=redis://", "--redis.url: " NO_REDIS_URL },
		{ "--redis.url=redis://h:99999", "--redis.url: " NO_REDIS_URL },
		{ "--redis.url=redis://u:secret@h/x", "--redis.url: " NO_REDIS_URL },
		{ "--redis.url=unix://relative", "--redis.url: " NO_REDIS_URL },
		{ "--redis.url=rediss://u:secret@h:1/2", "--redis.url: needs TLS for rediss://, which this program does not have; "
							 "use a local stunnel or a unix socket\n" },
		{ "--redis.prefix={a}", "--redis.prefix: must not have spaces or any of {}*?[]\\ in it, which mean "
					"something to Redis\n" },
		{ "--semantic.threshold=1.01", "--semantic.threshold: must be from 0.5 to 1\n" },
		{ "--semantic.languages=english", "--semantic.languages: 'english' is not the code of a language such as uk or en\n" },
		{ "--server.allowed_hosts=http://x", "--server.allowed_hosts: 'http://x' is not a host's name: without a scheme, a port or a path, such as chat.example\n" },
		{ "--semantic.aliases=/nonexistent/a", "--semantic.aliases: /nonexistent/a: No such file or directory\n" },
		{ "--semantic.stopwords=/nonexistent", "--semantic.stopwords: /nonexistent: No such file or directory\n" },
		{ "--semantic.stopwords=/dev/null", "--semantic.stopwords: /dev/null: is not a directory\n" },
		{ "--complex.auto_markers=/nonexistent/m", "--complex.auto_markers: /nonexistent/m: No such file or directory\n" },
		{ "--complex.candidates=9", "--complex.candidates: is more than complex.max_candidates\n" },
		{ "--complex.min_finished=9", "--complex.min_finished: is more than complex.max_candidates\n" },
		{ "--complex.temperatures=0.1,2.1", "--complex.temperatures: must be from 0 to 2\n" },
		{ "--complex.temperatures=hot", "--complex.temperatures: 'hot' is not a number such as 0.5\n" },
		{ "--complex.top_ps=1.1", "--complex.top_ps: must be from 0 to 1\n" },
		{ "--complex.num_predicts=100.5", "--complex.num_predicts: 100.5 is not a whole number of tokens\n" },
		{ "--scoring.length_min=501", "--scoring.length_min: is more than scoring.length_max\n" },
		{ "--admin.token=a b", "--admin.token: must be printable ASCII without spaces\n" },
		{ "--admin.token=***", "--admin.token: *** stands for a secret that was not printed; write the secret itself\n" },
		{ "--redis.url=redis://u:***@h",
		  "--redis.url: *** stands for a secret that was not printed; write the secret itself\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_null(LOAD(cases[i].word));
		assert_string_equal(said, cases[i].says);
	}
	assert_null(LOAD("--scoring.weight_length=0", "--scoring.weight_keywords=0", "--scoring.weight_structure=0",
			 "--scoring.weight_forbidden=0", "--scoring.weight_agreement=0", "--scoring.weight_consensus=0",
			 "--scoring.weight_complete=0", "--scoring.weight_repetition=0"));
	assert_string_equal(said, "--scoring.weight_length: all weights are 0: nothing is left to choose an answer by\n");
}

static void an_upstream_is_not_this_proxy(void **state)
{
	static const struct { char *listen, *url; bool own; } cases[] = {
		{ "--server.listen=127.0.0.1:9", "--upstream.url=http://127.0.0.1:9", true },
		{ "--server.listen=127.0.0.1:9", "--upstream.url=http://localhost:9/", true },
		{ "--server.listen=127.0.0.1:9", "--upstream.url=http://127.0.0.1:9/base", true },
		{ "--server.listen=localhost:9", "--upstream.url=http://127.0.0.1:9", true },
		{ "--server.listen=0.0.0.0:9", "--upstream.url=http://127.0.0.1:9", true },
		{ "--server.listen=0.0.0.0:9", "--upstream.url=http://127.9.9.9:9", true },
		{ "--server.listen=[::]:9", "--upstream.url=http://127.0.0.1:9", true },
		{ "--server.listen=[::]:9", "--upstream.url=https://[::1]:9", true },
		{ "--server.listen=127.0.0.1:9", "--upstream.url=http://0.0.0.0:9", true },
		{ "--server.listen=a:1,127.0.0.1:80", "--upstream.url=http://127.0.0.1", true },
		{ "--server.listen=[::1]:443", "--upstream.url=https://[::1]", true },
		{ "--server.listen=127.0.0.1:9", "--upstream.url=http://127.0.0.1:10", false },
		{ "--server.listen=127.0.0.1:9", "--upstream.url=http://127.0.0.2:9", false },
		{ "--server.listen=[::1]:9", "--upstream.url=http://127.0.0.1:9", false },
		{ "--server.listen=0.0.0.0:9", "--upstream.url=http://192.0.2.1:9", false },
		{ "--server.listen=0.0.0.0:9", "--upstream.url=http://[::1]:9", false },
		{ "--server.listen=127.0.0.1:0", "--upstream.url=http://127.0.0.1:9", false },
		{ "--server.listen=unix:/tmp/x", "--upstream.url=http://127.0.0.1:9", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct config *c = LOAD(cases[i].listen, cases[i].url);
		if ((c == NULL) != cases[i].own)
			fail_msg("%s %s: %s", cases[i].listen, cases[i].url, said);
		if (c)
			config_drop(c);
		else
			assert_non_null(strstr(said, "is where this proxy itself listens"));
	}
}

static void values_that_make_sense_are_taken(void **state)
{
	static char *const words[] = {
		"--upstream.url=https://gpu-1.lan:443/,http://[::1]:11434", "--upstream.url=http://a/ollama,http://b:1/x/y%20z/", "--redis.url=unix:///run/redis.sock?db=2",
		"--redis.url=redis+sentinel://a:26379,b:26379/main", "--redis.url=redis://u:p%40@h:1/2", "--server.origins=*",
		"--server.origins=app://*,https://*.example.com", "--cache.scope=shared", "--semantic.stopwords=/tmp",
		"--server.listen=127.0.0.1:0,127.0.0.1:0", "--complex.num_predicts=100,2000", "--cache.store=off",
		"--admin.token=~!#x=y", "--semantic.languages=uk,en,de,ru,haw",
	};

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct config *c = LOAD(words[i]);
		assert_string_equal(said, "");
		assert_non_null(c);
		config_drop(c);
	}
}

/* A value that is refused leaves the weaker one behind; what is said about that one would only confuse. */
static void one_mistake_is_one_line(void **state)
{
	(void)state;
	assert_null(LOAD("--complex.max_candidates=x", "--complex.candidates=9"));
	assert_string_equal(said, "--complex.max_candidates: 'x' is not a whole number\n");
	assert_null(LOAD("--cache.max_size=x", "--cache.max_entry=1GiB"));
	assert_string_equal(said, "--cache.max_size: 'x' is not a size such as 64MiB (B, KiB, MiB, GiB, TiB)\n");
}

/* ---- printing ---- */

/* Something other than its default for every option there is. */
static void change_everything(FILE *f)
{
	for (size_t i = 0; i < config_n_sections; i++) {
		fprintf(f, "[%s]\n", config_sections[i].name);
		for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
			if (strcmp(o->section, config_sections[i].name) != 0)
				continue;
			fprintf(f, "%s = ", o->key);
			if (o->kind == KIND_SWITCH)
				fprintf(f, "%s\n", strcmp(o->def, "on") ? "on" : "off");
			else if (o->kind == KIND_CHOICE)
				fprintf(f, "%s\n", o->choices[strcmp(o->choices[0], o->def) ? 0 : 1]);
			else if (!strcmp(o->name, "cache.path"))
				fprintf(f, "\" /a # \\\"b\\\\ \"\n");
			else if (!strcmp(o->name, "cache.scope"))
				fprintf(f, "header:X\n");
			else if (!strcmp(o->name, "redis.url"))
				fprintf(f, "unix:///x\n");
			else if (!strcmp(o->name, "admin.token"))
				fprintf(f, "\n");                           /* a secret does not come back */
			else if (strstr(o->name, "listen"))
				fprintf(f, "unix:/a,[::1]:3\n");
			else if (!strcmp(o->name, "upstream.url"))
				fprintf(f, "http://a , https://b:1/\n");
			else if (!strcmp(o->name, "semantic.languages"))
				fprintf(f, "de\n");
			else if (!strcmp(o->name, "server.allowed_hosts"))
				fprintf(f, "*.example, ::1\n");
			else if (!strcmp(o->name, "server.socket_mode"))
				fprintf(f, "0666\n");
			else if (o->kind == KIND_NUMBERS)
				fprintf(f, "1\n");
			else if (o->kind == KIND_FILE || !strcmp(o->name, "upstream.tls_ca"))
				fprintf(f, "%s\n", other);
			else if (o->kind == KIND_DIR)
				fprintf(f, "%s\n", dir);
			else if (o->kind == KIND_RATIO)
				fprintf(f, "0.987654321\n");
			else if (o->kind == KIND_TIME)
				fprintf(f, "59001ms\n");
			else if (!strcmp(o->name, "server.max_body") || !strcmp(o->name, "cache.max_entry"))
				fprintf(f, "1048577\n");
			else if (o->kind == KIND_SIZE)
				fprintf(f, "5000000000\n");
			else if (o->kind == KIND_COUNT)
				fprintf(f, "7\n");
			else
				fprintf(f, "*://x\n");
		}
	}
}

static void what_is_printed_reads_back_the_same(void **state)
{
	char *text;
	size_t len, changed = 0;
	FILE *f = open_memstream(&text, &len);

	static const char least[] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

	(void)state;
	write_file(other, least, sizeof least - 1);
	change_everything(f);
	fclose(f);
	for (char *t = text; (t = strstr(t, "prefix = *://x")); t++)
		memcpy(t, "prefix = abcde", 14);
	struct config *defaults = LOAD("-t"), *first = load_text(text);
	assert_string_equal(said, "");
	assert_non_null(first);
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++)
		changed += !config_same(defaults, first, o);
	assert_true(changed >= CONFIG_IDS - 1);                           /* but for the token */
	free(text);
	text = printed(first);
	struct config *second = load_text(text);
	assert_non_null(second);
	assert_same(first, second);
	char *again = printed(second);
	assert_string_equal(text, again);
	free(text);
	free(again);
	config_drop(first);
	config_drop(second);
	text = printed(defaults);
	second = load_text(text);
	assert_non_null(second);
	assert_same(defaults, second);
	free(text);
	config_drop(second);
	config_drop(defaults);
	unlink(other);
}

static void secrets_are_not_printed(void **state)
{
	static const struct { char *word; const char *shown; } urls[] = {
		{ "--redis.url=redis://user:pa:ss@word@host:1/2", "\nurl = redis://user:***@host:1/2\n" },
		{ "--redis.url=redis://:hunter2@host", "\nurl = redis://:***@host\n" },
		{ "--redis.url=redis://user@host", "\nurl = redis://user@host\n" },
		{ "--redis.url=unix://u:hunter2@/run/r.sock?db=1", "\nurl = unix://u:***@/run/r.sock?db=1\n" },
		{ "--redis.url=redis+sentinel://u:hunter2@a:1,b:2/main", "\nurl = redis+sentinel://u:***@a:1,b:2/main\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
		struct config *c = LOAD(urls[i].word, "--admin.token=hunter2");
		assert_non_null(c);
		char *text = printed(c);
		assert_non_null(strstr(text, urls[i].shown));
		assert_non_null(strstr(text, "\ntoken = ***\n"));
		assert_null(strstr(text, "hunter2"));
		assert_null(strstr(text, "ss@word"));
		free(text);
		config_drop(c);
	}
	/* nor in complaints */
	assert_null(LOAD("--redis.url=redos://:hunter2@host", "--admin.token=hunter2 x"));
	assert_null(strstr(said, "hunter2"));
}

static void help_and_table_name_every_option(void **state)
{
	char *help, *table, name[100];
	size_t help_len, table_len, rows = 0;
	FILE *h = open_memstream(&help, &help_len), *t = open_memstream(&table, &table_len);

	(void)state;
	config_help(h);
	config_docs(t);
	fclose(h);
	fclose(t);
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
		snprintf(name, sizeof name, "--%s=", o->name);
		assert_non_null(strstr(help, name));
		snprintf(name, sizeof name, "| `%s` | ", o->name);
		assert_non_null(strstr(table, name));
	}
	for (const char *at = table; (at = strchr(at, '\n')); at++)
		rows++;
	assert_int_equal(rows, CONFIG_IDS + 2);
	free(help);
	free(table);
}

/* ---- reloading ---- */

static void note_key(void *arg, const char *name)
{
	strcat(strcat(arg, name), ";");
}

static void a_reload_takes_what_it_can_and_names_the_rest(void **state)
{
	static char *argv[] = { "ollacache", "-c", conf, "--log.level=warn", NULL };
	char keys[200] = "";

	(void)state;
	write_file(other, "one", 3);
	write_file(conf, "[cache]\nttl = 1h\nstore = off\n", 29);
	struct config *c = load(argv);
	assert_non_null(c);
	char text[400];
	snprintf(text, sizeof text,
		 "[cache]\nttl = 2h\nstore = redis\n[log]\nlevel = debug\n[server]\nlisten = unix:/b,unix:/c\n"
		 "[semantic]\naliases = %s\nshadow = on\n[scoring]\nforbidden = %s\n", other, other);
	write_file(conf, text, strlen(text));
	struct config *next = reload(c);
	assert_non_null(next);
	assert_string_equal(said, "");
	assert_int_equal(c->cache_ttl, 3600000);                          /* the old one is as it was */
	assert_int_equal(next->cache_ttl, 7200000);
	assert_true(next->semantic_shadow);
	assert_true(slice_is(next->scoring_forbidden_content, SLICE("one")));
	assert_int_equal(next->log_level, CONFIG_LOG_WARN);               /* the command line is stronger, still */
	assert_int_equal(next->cache_store, CONFIG_STORE_OFF);            /* needs a restart: stays */
	assert_string_equal(next->server_listen, "127.0.0.1:11436");
	assert_int_equal(next->server_listen_list.n, 1);
	assert_string_equal(next->server_listen_list.at[0], "127.0.0.1:11436");
	assert_string_equal(next->semantic_aliases, "");
	assert_int_equal(next->semantic_aliases_content.len, 0);
	assert_int_equal(config_restart_keys(next, note_key, keys), 3);
	assert_string_equal(keys, "server.listen;cache.store;semantic.aliases;");
	config_drop(c);                                                   /* and the new one needs nothing of it */

	struct config *third = reload(next);                              /* it still waits */
	assert_non_null(third);
	keys[0] = 0;
	assert_int_equal(config_restart_keys(third, note_key, keys), 3);
	assert_int_equal(third->cache_store, CONFIG_STORE_OFF);
	config_drop(next);

	write_file(conf, "[cache]\nttl = 1h\nstore = off\n", 29);
	next = reload(third);                                             /* taken back: nothing waits any more */
	assert_non_null(next);
	assert_int_equal(config_restart_keys(next, note_key, keys), 0);
	config_drop(third);
	config_drop(next);
	unlink(other);
}

static void a_file_kept_over_a_reload_keeps_its_content(void **state)
{
	char text[200];

	(void)state;
	write_file(other, "content", 7);
	snprintf(text, sizeof text, "[semantic]\naliases = %s\n", other);
	struct config *c = load_text(text);
	assert_non_null(c);
	write_file(conf, "", 0);
	/* argv of load_text() is gone, as a program's never is */
	static char *argv[] = { "ollacache", "-c", conf, NULL };
	c->argc = 3;
	c->argv = argv;
	struct config *next = reload(c);
	assert_non_null(next);
	config_drop(c);
	assert_string_equal(next->semantic_aliases, other);
	assert_true(slice_is(next->semantic_aliases_content, SLICE("content")));
	config_drop(next);
	unlink(other);
}

static void a_bad_reload_changes_nothing(void **state)
{
	static char *argv[] = { "ollacache", "-c", conf, NULL };

	(void)state;
	write_file(conf, "[cache]\nttl = 1h\n", 17);
	struct config *c = load(argv);
	assert_non_null(c);
	write_file(conf, "[cache]\nttl = 2h\nstore = x\n", 27);
	assert_null(reload(c));
	assert_said("FILE:3: cache.store: 'x' is none of embedded, redis, off\n");
	unlink(conf);
	assert_null(reload(c));
	assert_said("FILE: cannot be read: No such file or directory\n");
	assert_int_equal(c->cache_ttl, 3600000);
	config_drop(c);
}

enum { HOLDERS = 4, HOLDS = 5000 };

static void *hold_and_drop(void *arg)
{
	for (int i = 0; i < HOLDS; i++) {
		const struct config *c = config_hold(arg);
		if (c->cache_ttl != 86400000)
			return arg;
		config_drop(c);
	}
	config_drop(arg);
	return NULL;
}

/* The last to let go frees, whichever thread that is: ASan and TSan look on. */
static void many_threads_hold_one_configuration(void **state)
{
	struct config *c = LOAD("-t");
	pthread_t threads[HOLDERS];
	void *wrong;

	(void)state;
	assert_non_null(c);
	for (int i = 0; i < HOLDERS; i++) {
		config_hold(c);
		assert_int_equal(pthread_create(&threads[i], NULL, hold_and_drop, c), 0);
	}
	config_drop(c);
	for (int i = 0; i < HOLDERS; i++) {
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	config_drop(NULL);
}

static void no_memory_is_told(void **state)
{
	(void)state;
	allocs_left = 0;
	struct config *c = LOAD("-t");
	allocs_left = -1;
	assert_null(c);
	assert_string_equal(said, "out of memory\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_the_promised_ones),
		cmocka_unit_test(the_command_line_says_what_to_do),
		cmocka_unit_test(every_option_is_described_within_its_own_bounds),
		cmocka_unit_test(the_command_line_wins_over_environment_file_and_default),
		cmocka_unit_test(numbers_take_their_units_and_nothing_else),
		cmocka_unit_test(every_bound_holds),
		cmocka_unit_test(lists_are_taken_apart),
		cmocka_unit_test(addresses_are_what_they_look_like),
		cmocka_unit_test(files_are_read_with_the_options_that_name_them),
		cmocka_unit_test(the_file_has_sections_comments_and_quotes),
		cmocka_unit_test(every_mistake_in_a_file_is_told_with_its_line),
		cmocka_unit_test(files_that_are_no_configuration_are_refused),
		cmocka_unit_test(mistakes_elsewhere_name_their_place),
		cmocka_unit_test(values_that_make_no_sense_are_refused),
		cmocka_unit_test(an_upstream_is_not_this_proxy),
		cmocka_unit_test(values_that_make_sense_are_taken),
		cmocka_unit_test(one_mistake_is_one_line),
		cmocka_unit_test(what_is_printed_reads_back_the_same),
		cmocka_unit_test(secrets_are_not_printed),
		cmocka_unit_test(help_and_table_name_every_option),
		cmocka_unit_test(a_reload_takes_what_it_can_and_names_the_rest),
		cmocka_unit_test(a_file_kept_over_a_reload_keeps_its_content),
		cmocka_unit_test(a_bad_reload_changes_nothing),
		cmocka_unit_test(many_threads_hold_one_configuration),
		cmocka_unit_test(no_memory_is_told),
	};

	for (char **entry = environ; *entry;) {         /* whoever runs the tests may have settings of their own */
		char name[200];
		const char *equals = strchr(*entry, '=');
		if (!starts(*entry, ENVIRONMENT_PREFIX) || !equals) {
			entry++;
			continue;
		}
		snprintf(name, sizeof name, "%.*s", (int)(equals - *entry), *entry);
		unsetenv(name);
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
