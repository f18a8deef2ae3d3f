/* uses: proxy/base/err.c proxy/base/scan.c proxy/base/ask.c proxy/base/canonical.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -ljansson -licuuc -lm */
/* test_ollama_ask.c - requests as asks: which are the same question, which are in doubt, what is forwarded, how candidates
 * vary; cut at every byte, and with every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int fail_at = -1;               /* the nth allocation from now fails; -1: none */
static bool fails(void)
{
	return fail_at >= 0 && fail_at-- == 0;
}
static void *failing_malloc(size_t bytes) { return fails() ? NULL : malloc(bytes); }
static void *failing_realloc(void *at, size_t bytes) { return fails() ? NULL : realloc(at, bytes); }
#define malloc failing_malloc
#define realloc failing_realloc
#include "proxy/base/arena.c"
#include "proxy/base/buf.c"
#include "proxy/ollama_ask.c"
#undef malloc
#undef realloc

enum { ROOM = 8 << 20 };

struct parsed { struct arena arena; struct ask ask; const char *doubt; char *body; };

static struct parsed parse_bytes(enum family family, const char *body, size_t len)
{
	struct parsed p;

	memset(&p, 0, sizeof p);
	arena_init(&p.arena, ROOM);
	p.body = (malloc)(len + !len);       /* just that long, so that ASan sees a look past the end */
	memcpy(p.body, body, len);
	p.doubt = dialect_ollama.parse(slice_of(p.body, len), family, &p.arena, &p.ask);
	return p;
}

static struct parsed parse_text(enum family family, const char *body)
{
	return parse_bytes(family, body, strlen(body));
}

static void done(struct parsed *p)
{
	arena_fini(&p->arena);
	free(p->body);
}

#define GENERATE(fields) "{\"model\":\"m\",\"prompt\":\"q\"" fields "}"
#define CHAT(fields) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]" fields "}"

static bool same(enum family family, const char *a, const char *b)
{
	struct parsed p = parse_text(family, a), q = parse_text(family, b);

	if (p.doubt || q.doubt)
		fail_msg("%s | %s: %s", a, b, p.doubt ? p.doubt : q.doubt);
	bool is = slice_is(p.ask.canonical, q.ask.canonical);
	done(&p);
	done(&q);
	return is;
}

static void equal_questions_have_one_form(void **state)
{
	static const char *const pairs[][2] = {
		{ GENERATE(""), "{ \"prompt\" : \"q\",\n\"model\":\"m\" }" },
		{ GENERATE(""), GENERATE(",\"stream\":false") }, { GENERATE(""), GENERATE(",\"stream\":null") },
		{ GENERATE(""), GENERATE(",\"keep_alive\":\"5m\"") }, { GENERATE(""), GENERATE(",\"complex\":3") },
		{ GENERATE(""), GENERATE(",\"complex\":false,\"keep_alive\":-1,\"stream\":true") },
		{ GENERATE(",\"options\":{\"seed\":1,\"top_k\":2}"), GENERATE(",\"options\":{\"top_k\":2,\"seed\":1}") },
		{ GENERATE(",\"options\":{\"temperature\":0}"), GENERATE(",\"options\":{\"temperature\":0.0}") },
		{ GENERATE(",\"options\":{\"temperature\":-0.0}"), GENERATE(",\"options\":{\"temperature\":0}") },
		{ GENERATE(",\"options\":{\"temperature\":-0}"), GENERATE(",\"options\":{\"temperature\":0}") },
		{ GENERATE(",\"options\":{\"num_ctx\":1e2}"), GENERATE(",\"options\":{\"num_ctx\":100}") },
		{ GENERATE(",\"options\":{\"num_ctx\":1E+2}"), GENERATE(",\"options\":{\"num_ctx\":100.00}") },
		{ GENERATE(",\"options\":{\"top_p\":0.5}"), GENERATE(",\"options\":{\"top_p\":5e-1}") },
		{ GENERATE(",\"system\":\"\\u0041\\/\\u00e9\""), GENERATE(",\"system\":\"A/\xc3\xa9\"") },
		{ "{\"model\":\"m:latest\",\"prompt\":\"q\"}", GENERATE("") },
		{ "{\"model\":\"M\",\"prompt\":\"q\"}", GENERATE("") },
		{ "{\"model\":\"library/m\",\"prompt\":\"q\"}", GENERATE("") },
		{ "{\"model\":\"registry.ollama.ai/library/M:Latest\",\"prompt\":\"q\"}", GENERATE("") },
		{ "{\"model\":\"m@complex=4\",\"prompt\":\"q\"}", GENERATE("") },
	};
	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		if (!same(FAMILY_GENERATE, pairs[i][0], pairs[i][1]))
			fail_msg("not the same: %s | %s", pairs[i][0], pairs[i][1]);
	}
}

/* By Ollama's own reading of names: a host stands only before a namespace. */
static void names_are_read_as_ollama_does(void **state)
{
	static const char *const names[][2] = {
		{ "m", "m:latest" }, { "M:Q4", "m:q4" }, { "library/m", "m:latest" }, { "registry.ollama.ai/library/m", "m:latest" },
		{ "registry.ollama.ai/me/m:1b", "me/m:1b" }, { "me/m", "me/m:latest" },
		{ "registry.ollama.ai/m", "registry.ollama.ai/m:latest" }, { "library/library/m", "library/library/m:latest" },
		{ "library/me/m", "library/me/m:latest" }, { "other.host/library/m", "other.host/library/m:latest" },
		{ "registry.ollama.ai/library/library/m", "registry.ollama.ai/library/library/m:latest" },
		{ "registry.ollama.ai/", "registry.ollama.ai/:latest" }, { "library/", "library/:latest" }, { "host:99/me/m", "host:99/me/m:latest" },
	};
	struct arena arena;

	(void)state;
	arena_init(&arena, 1 << 20);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct slice full = model_full_name(&arena, slice_text(names[i][0]));
		if (!slice_is(full, slice_text(names[i][1])))
			fail_msg("%s is read as %.*s", names[i][0], (int)full.len, full.at);
	}
	arena_fini(&arena);
}

static void different_questions_have_different_forms(void **state)
{
	static const char *const pairs[][2] = {
		{ GENERATE(""), "{\"model\":\"m\",\"prompt\":\"q \"}" }, { GENERATE(""), "{\"model\":\"m:b\",\"prompt\":\"q\"}" },
		{ GENERATE(""), "{\"model\":\"me/m\",\"prompt\":\"q\"}" }, { GENERATE(""), GENERATE(",\"unknown\":1") },
		{ GENERATE(",\"unknown\":1"), GENERATE(",\"unknown\":true") }, { GENERATE(",\"unknown\":1"), GENERATE(",\"unknown\":\"1\"") },
		{ GENERATE(",\"system\":\"\""), GENERATE("") }, { GENERATE(",\"think\":false"), GENERATE("") },
		{ GENERATE(",\"think\":true"), GENERATE(",\"think\":\"high\"") }, { GENERATE(",\"options\":{}"), GENERATE("") },
		{ GENERATE(",\"options\":{\"seed\":9007199254740993}"), GENERATE(",\"options\":{\"seed\":9007199254740992}") },
		{ GENERATE(",\"options\":{\"seed\":9007199254740993.0}"), GENERATE(",\"options\":{\"seed\":9007199254740992}") },
		{ GENERATE(",\"options\":{\"seed\":9223372036854775807}"), GENERATE(",\"options\":{\"seed\":9223372036854775806}") },
		{ GENERATE(",\"options\":{\"temperature\":0.1}"), GENERATE(",\"options\":{\"temperature\":0.10000000000000002}") },
		{ GENERATE(",\"options\":{\"Seed\":1}"), GENERATE(",\"options\":{\"seed\":1}") },
		{ GENERATE(",\"options\":{\"stream\":true}"), GENERATE(",\"options\":{\"stream\":false}") },   /* only the top level's */
		{ GENERATE(",\"format\":{\"a\":1,\"b\":2}"), GENERATE(",\"format\":{\"b\":2,\"a\":1}") },
		{ GENERATE(",\"context\":[1,2]"), GENERATE(",\"context\":[2,1]") },
		{ GENERATE(",\"options\":{\"stop\":[\"a\",\"b\"]}"), GENERATE(",\"options\":{\"stop\":[\"b\",\"a\"]}") },
		{ GENERATE(",\"x\":{\"a\":1,\"b\":2}"), GENERATE(",\"x\":{\"b\":2,\"a\":1}") },
	};
	static const char *const chats[][2] = {
		{ CHAT(",\"tools\":[{\"a\":1,\"b\":2}]"), CHAT(",\"tools\":[{\"b\":2,\"a\":1}]") },
		{ "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":2}}}]}]}",
		  "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"b\":2,\"a\":1}}}]}]}" },
		{ CHAT(""), "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"q\"}]}" },
		{ CHAT(""), "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"user\",\"content\":\"q\"}]}" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (same(FAMILY_GENERATE, pairs[i][0], pairs[i][1]))
			fail_msg("the same: %s | %s", pairs[i][0], pairs[i][1]);
	for (size_t i = 0; i < sizeof chats / sizeof *chats; i++)
		if (same(FAMILY_CHAT, chats[i][0], chats[i][1]))
			fail_msg("the same: %s | %s", chats[i][0], chats[i][1]);
}

static void doubtful_bodies_are_not_understood(void **state)
{
	static const struct { enum family family; const char *body; } bad[] = {
		{ FAMILY_GENERATE, "" }, { FAMILY_GENERATE, "[]" }, { FAMILY_GENERATE, "1" }, { FAMILY_GENERATE, "{}" },
		{ FAMILY_GENERATE, GENERATE("") "x" }, { FAMILY_GENERATE, GENERATE("") "{}" }, { FAMILY_GENERATE, "\xef\xbb\xbf" GENERATE("") },
		{ FAMILY_GENERATE, GENERATE(",\"prompt\":\"r\"") }, { FAMILY_GENERATE, GENERATE(",\"Prompt\":\"r\"") },
		{ FAMILY_GENERATE, GENERATE(",\"STREAM\":true") }, { FAMILY_GENERATE, GENERATE(",\"Complex\":true") },
		{ FAMILY_GENERATE, GENERATE(",\"\xc5\xbftream\":true") },          /* U+017F folds to s */
		{ FAMILY_GENERATE, GENERATE(",\"\\u017ftream\":true") },
		{ FAMILY_GENERATE, GENERATE(",\"\xe2\x84\xaa" "eep_alive\":1") },   /* U+212A folds to k */
		{ FAMILY_GENERATE, GENERATE(",\"opt\xc4\xb1ons\":{}") + 0 },
		{ FAMILY_GENERATE, GENERATE(",\"options\":[]") }, { FAMILY_GENERATE, GENERATE(",\"stream\":1") },
		{ FAMILY_GENERATE, GENERATE(",\"raw\":\"yes\"") }, { FAMILY_GENERATE, GENERATE(",\"images\":[1]") },
		{ FAMILY_GENERATE, GENERATE(",\"top_logprobs\":1.5") }, { FAMILY_GENERATE, GENERATE(",\"top_logprobs\":1.0") },
		{ FAMILY_GENERATE, GENERATE(",\"context\":[1,2.0]") }, { FAMILY_GENERATE, GENERATE(",\"options\":{\"seed\":1.0},\"context\":[1e0]") },
		{ FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"tool_calls\":[{\"index\":0.0}]}]}" }, { FAMILY_GENERATE, "{\"model\":1,\"prompt\":\"q\"}" },
		{ FAMILY_GENERATE, "{\"model\":\"\",\"prompt\":\"q\"}" }, { FAMILY_GENERATE, "{\"model\":\"m\",\"prompt\":[\"q\"]}" },
		{ FAMILY_GENERATE, GENERATE(",\"system\":\"\\u0000\"") }, { FAMILY_GENERATE, GENERATE(",\"system\":\"\xff\"") },
		{ FAMILY_GENERATE, GENERATE(",\"system\":\"\xc0\xaf\"") }, { FAMILY_GENERATE, GENERATE(",\"system\":\"\xed\xa0\x80\"") },
		{ FAMILY_GENERATE, GENERATE(",\"system\":\"\\ud800\"") }, { FAMILY_GENERATE, GENERATE(",\"system\":\"\n\"") },
		{ FAMILY_GENERATE, GENERATE(",\"options\":{\"seed\":99999999999999999999}") },
		{ FAMILY_GENERATE, GENERATE(",\"options\":{\"seed\":1e999}") }, { FAMILY_GENERATE, GENERATE(",\"options\":{\"seed\":1,\"seed\":1}") },
		{ FAMILY_GENERATE, GENERATE(",\"x\":{\"a\":1,\"a\":2}") },
		{ FAMILY_CHAT, "{\"model\":\"m\",\"messages\":\"q\"}" }, { FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[\"q\"]}" },
		{ FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"Content\":\"q\"}]}" },
		{ FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[\"q\"]}]}" },
		{ FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":1,\"content\":\"q\"}]}" },
		{ FAMILY_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}" },
		{ FAMILY_EMBED, "{\"model\":\"m\",\"input\":[1]}" }, { FAMILY_EMBED, "{\"model\":\"m\",\"input\":{}}" },
		{ FAMILY_EMBEDDINGS, "{\"model\":\"m\",\"prompt\":[\"a\"]}" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct parsed p = parse_text(bad[i].family, bad[i].body);
		bool dotless = strstr(bad[i].body, "\xc4\xb1") != NULL;      /* U+0131 folds to nothing in ASCII: a key of its own */
		if (!p.doubt != dotless)
			fail_msg("%s: %s", bad[i].body, p.doubt ? p.doubt : "understood");
		done(&p);
	}
	struct parsed p = parse_bytes(FAMILY_GENERATE, GENERATE("") "\0", sizeof GENERATE(""));
	assert_non_null(p.doubt);
	done(&p);
	/* jansson does not see a NUL behind a number */
	p = parse_bytes(FAMILY_GENERATE, "{\"model\":\"m\",\"prompt\":\"q\",\"x\":1\0}", 33);
	assert_string_equal(p.doubt, "not JSON");
	done(&p);
}

static void nesting_too_deep_is_doubt_and_no_crash(void **state)
{
	enum { DEEP = 200000 };
	char *body = (malloc)(2 * DEEP + 100);
	size_t at = (size_t)sprintf(body, "{\"model\":\"m\",\"prompt\":\"q\",\"x\":");

	(void)state;
	memset(body + at, '[', DEEP);
	memset(body + at + DEEP, ']', DEEP);
	body[at + 2 * DEEP] = '}';
	struct parsed p = parse_bytes(FAMILY_GENERATE, body, at + 2 * DEEP + 1);
	assert_non_null(p.doubt);
	done(&p);
	free(body);
}

static void cut_anywhere_it_is_doubt(void **state)
{
	static const char body[] = CHAT(",\"options\":{\"temperature\":0.5,\"seed\":-7},\"tools\":[{\"a\":[1,2,{}]}],\"stream\":false,\"complex\":2");

	(void)state;
	for (size_t len = 0; len < sizeof body - 1; len++) {
		struct parsed p = parse_bytes(FAMILY_CHAT, body, len);
		assert_non_null(p.doubt);
		done(&p);
	}
	struct parsed p = parse_bytes(FAMILY_CHAT, body, sizeof body - 1);
	assert_null(p.doubt);
	done(&p);
}

static void says_what_it_is_about(void **state)
{
	(void)state;
	struct parsed p = parse_text(FAMILY_CHAT,
		"{\"model\":\"Llama3.2@complex=4\",\"stream\":false,\"options\":{\"temperature\":0,\"num_predict\":7,\"top_p\":1},\"format\":\"json\","
		"\"tools\":[{}],\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
		"{\"role\":\"user\",\"content\":\"\\u0446\"}]}");
	assert_null(p.doubt);
	assert_true(slice_is(p.ask.model, SLICE("Llama3.2@complex=4")));
	assert_true(slice_is(p.ask.model_plain, SLICE("Llama3.2")));
	assert_true(slice_is(p.ask.model_full, SLICE("llama3.2:latest")));
	assert_int_equal(p.ask.complex_model, 4);
	assert_int_equal(p.ask.complex_body, COMPLEX_NONE);
	assert_true(slice_is(p.ask.question, SLICE("\xd1\x86")));
	assert_null(p.ask.not_semantic);
	assert_true(!p.ask.stream && p.ask.generates && p.ask.deterministic && p.ask.length_set && p.ask.tools && p.ask.format);
	assert_true(p.ask.temperature_set && p.ask.top_p_set && !p.ask.seed_set && !p.ask.debug);
	assert_int_equal(p.ask.num_predict, 7);
	done(&p);
	p = parse_text(FAMILY_EMBED, "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}");
	assert_null(p.doubt);
	assert_true(!p.ask.stream && p.ask.generates && p.ask.not_semantic);
	done(&p);
	p = parse_text(FAMILY_GENERATE, GENERATE(",\"options\":{\"num_predict\":1e300}"));
	assert_null(p.doubt);
	assert_true(p.ask.num_predict > 0);
	done(&p);
}

static void scope_is_the_form_without_the_question(void **state)
{
	struct parsed a = parse_text(FAMILY_CHAT, CHAT("")), b, c;

	(void)state;
	b = parse_text(FAMILY_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"quite another one\"}],\"model\":\"m\"}");
	c = parse_text(FAMILY_CHAT, CHAT(",\"think\":true"));
	assert_true(slice_is(a.ask.canonical_scope, b.ask.canonical_scope) && a.ask.canonical_scope.len > 0);
	assert_false(slice_is(a.ask.canonical, b.ask.canonical));
	assert_false(slice_is(a.ask.canonical_scope, c.ask.canonical_scope));
	done(&a);
	done(&b);
	done(&c);
	/* an earlier turn counts, even when it says the same as the question */
	a = parse_text(FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"user\",\"content\":\"q\"}]}");
	b = parse_text(FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"user\",\"content\":\"r\"}]}");
	c = parse_text(FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"r\"},{\"role\":\"user\",\"content\":\"q\"}]}");
	assert_true(slice_is(a.ask.canonical_scope, b.ask.canonical_scope));
	assert_false(slice_is(a.ask.canonical_scope, c.ask.canonical_scope));
	done(&a);
	done(&b);
	done(&c);
	static const char *const barred[] = {
		GENERATE(",\"images\":[\"x\"]"), GENERATE(",\"raw\":true"), GENERATE(",\"suffix\":\"s\""), GENERATE(",\"context\":[1]"),
		"{\"model\":\"m\",\"prompt\":\"\"}", "{\"model\":\"m\"}",
	};
	for (size_t i = 0; i < sizeof barred / sizeof *barred; i++) {
		a = parse_text(FAMILY_GENERATE, barred[i]);
		assert_null(a.doubt);
		assert_non_null(a.ask.not_semantic);
		assert_int_equal(a.ask.canonical_scope.len, 0);
		assert_int_equal(a.ask.generates, i < 4);
		done(&a);
	}
	a = parse_text(FAMILY_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"tool\",\"content\":\"q\"}]}");
	assert_non_null(a.ask.not_semantic);
	done(&a);
}

static void forwards_the_clients_own_bytes_but_for_complex(void **state)
{
	static const struct { const char *body, *want; } cases[] = {
		{ "{ \"model\" : \"M\", \"prompt\":\"\\u0041\", \"options\":{\"x\":1.50} }", NULL },
		{ "{\"complex\":3,\"model\":\"m\",\"prompt\":\"\\u0041\"}", "{\"model\":\"m\",\"prompt\":\"\\u0041\"}" },
		{ "{\"model\":\"m\",\"complex\":null,\"prompt\":\"q\"}", NULL },
		{ "{\"model\":\"m@complex\",\"prompt\":\"q\",\"options\":{\"x\":1.50}}", "{\"model\":\"m\",\"prompt\":\"q\",\"options\":{\"x\":1.50}}" },
		{ "{\"model\":\"m@complex=2\",\"complex\":true,\"prompt\":\"q\"}", "{\"model\":\"m\",\"prompt\":\"q\"}" },
		{ "{\"mod\\u0065l\":\"m@complex\",\"prompt\":\"q\",\"compl\\u0065x\":true}", "{\"model\":\"m\",\"prompt\":\"q\"}" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct parsed p = parse_text(FAMILY_GENERATE, cases[i].body);
		assert_null(p.doubt);
		const char *want = cases[i].want ? cases[i].want : cases[i].body;
		if (!slice_is(p.ask.forward, slice_text(want)))
			fail_msg("%s became %.*s", cases[i].body, (int)p.ask.forward.len, p.ask.forward.at);
		done(&p);
	}
}

static void complex_is_read_wherever_it_stands(void **state)
{
	static const struct { const char *name, *plain; int says; } names[] = {
		{ "m", "m", COMPLEX_NONE }, { "m@complex", "m", COMPLEX_DEFAULT }, { "m@complex=3", "m", 3 }, { "m:7b@complex=12", "m:7b", 12 },
		{ "m@complex=0", "m", COMPLEX_BAD }, { "m@complex=", "m", COMPLEX_BAD }, { "m@complex=-1", "m", COMPLEX_BAD },
		{ "m@complex=x", "m", COMPLEX_BAD }, { "m@complex=99999999999999999999", "m", COMPLEX_BAD }, { "m@complexity", "m@complexity", COMPLEX_NONE },
		{ "m@sha256:1", "m@sha256:1", COMPLEX_NONE }, { "@complex", "", COMPLEX_DEFAULT }, { "a@b@complex=2", "a@b", 2 }, { "", "", COMPLEX_NONE },
		{ "m@", "m@", COMPLEX_NONE }, { "m@compl", "m@compl", COMPLEX_NONE }, { "m@Complex", "m@Complex", COMPLEX_NONE },
	};
	static const struct { const char *value; int says; } fields_[] = {
		{ "true", COMPLEX_DEFAULT }, { "false", 1 }, { "1", 1 }, { "3", 3 }, { "3.0", 3 }, { "0", COMPLEX_BAD }, { "-1", COMPLEX_BAD },
		{ "2.5", COMPLEX_BAD }, { "\"3\"", COMPLEX_BAD }, { "[]", COMPLEX_BAD }, { "{}", COMPLEX_BAD }, { "null", COMPLEX_NONE }, { "1e9", COMPLEX_BAD },
	};
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct slice name = slice_text(names[i].name);
		assert_int_equal(model_complex_suffix(&name), names[i].says);
		assert_true(slice_is(name, slice_text(names[i].plain)));
	}
	for (size_t i = 0; i < sizeof fields_ / sizeof *fields_; i++) {
		char body[128];
		snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"q\",\"complex\":%s}", fields_[i].value);
		struct parsed p = parse_text(FAMILY_GENERATE, body);
		assert_null(p.doubt);
		assert_int_equal(p.ask.complex_body, fields_[i].says);
		done(&p);
	}
}

/* ---- candidates ---- */

static void varied_is(const char *body, const struct variant *v, const char *want)
{
	struct parsed p = parse_text(FAMILY_GENERATE, body);
	struct buf out;

	assert_null(p.doubt);
	buf_init(&out, ROOM);
	assert_int_equal(dialect_ollama.vary_begin(&p.ask, &p.arena), ERR_OK);
	assert_int_equal(buf_put(&out, p.ask.several), ERR_OK);
	assert_int_equal(dialect_ollama.vary(&p.ask, v, &out), ERR_OK);
	if (!slice_is(buf_slice(&out), slice_text(want)))
		fail_msg("%s became %.*s", body, (int)out.len, out.at);
	json_error_t error;
	json_t *root = json_loadb(out.at, out.len, JSON_REJECT_DUPLICATES, &error);
	assert_non_null(root);
	json_decref(root);
	buf_fini(&out);
	done(&p);
}

static void candidates_vary_only_what_they_should(void **state)
{
	const struct variant none = { 0 }, warm = { .has_temperature = true, .temperature = 0.7, .has_seed = true, .seed = 2147483647 },
	                     all = { true, true, true, true, 1.25, 0.9, 5, 128 };

	(void)state;
	varied_is(GENERATE(""), &none, "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{}}");
	varied_is(GENERATE(",\"stream\":true,\"options\":{\"temperature\":0.2}"), &none,
	          "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{\"temperature\":0.2}}");
	varied_is(GENERATE(",\"options\":{\"temperature\":0.2}"), &warm,
	          "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{\"temperature\":0.7,\"seed\":2147483647}}");
	varied_is(GENERATE(",\"options\":{\"temperature\":0.2,\"top_k\":4}"), &warm,
	          "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{\"top_k\":4,\"temperature\":0.7,\"seed\":2147483647}}");
	varied_is(GENERATE(",\"options\":{\"top_k\":4,\"seed\":9,\"stop\":[\"}\"]}"), &all,
	          "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{\"top_k\":4,\"stop\":[\"}\"],\"temperature\":1.25,\"top_p\":0.9,\"seed\":5,\"num_predict\":128}}");
	varied_is(GENERATE(",\"options\":{\"seed\":1,\"top_k\":4,\"top_p\":5e-1,\"temperature\":2}"), &none,
	          "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{\"top_k\":4,\"temperature\":2,\"top_p\":5e-1,\"seed\":1}}");
	varied_is(GENERATE(",\"options\":null"), &warm,
	          "{\"model\":\"m\",\"prompt\":\"q\",\"stream\":false,\"options\":{\"temperature\":0.7,\"seed\":2147483647}}");
}

static char *nested(int levels)
{
	char *body = (malloc)(8192), *at = body + sprintf(body, "{\"model\":\"m\",\"format\":");

	for (int i = 0; i < levels; i++)
		at += sprintf(at, "{\"a\":");
	at += sprintf(at, "1");
	for (int i = 0; i < levels; i++)
		*at++ = '}';
	strcpy(at, ",\"prompt\":\"q\"}");
	return body;
}

static void what_is_understood_can_be_varied(void **state)
{
	char *most = nested(SCAN_DEPTH - 1), *more = nested(SCAN_DEPTH + 1);

	(void)state;
	struct parsed p = parse_text(FAMILY_GENERATE, most);
	assert_null(p.doubt);
	assert_int_equal(dialect_ollama.vary_begin(&p.ask, &p.arena), ERR_OK);
	p.ask.forward = slice_text(more);                /* half of a body is never sent */
	assert_int_equal(dialect_ollama.vary_begin(&p.ask, &p.arena), ERR_BAD_JSON);
	assert_null(p.ask.several.at);
	done(&p);
	p = parse_text(FAMILY_GENERATE, more);
	assert_string_equal(p.doubt, "nested too deep");
	done(&p);
	free(most);
	free(more);
}

/* ---- limits ---- */

static void every_allocation_may_fail(void **state)
{
	static const char body[] = CHAT(",\"options\":{\"temperature\":0.5,\"seed\":7},\"complex\":3,\"zz\":[1,2.5,\"\\u0001\"]");
	int n = 0, understood = 0;

	(void)state;
	for (; understood == 0 && n < 1000; n++) {
		fail_at = n;
		struct parsed p = parse_text(FAMILY_CHAT, body);
		bool failed = fail_at < 0;
		fail_at = -1;
		if (!failed) {
			assert_null(p.doubt);
			understood++;
		} else {
			assert_non_null(p.doubt);        /* it passes, as anything in doubt does */
		}
		done(&p);
	}
	assert_true(understood && n > 3);
}

static void an_arena_too_small_is_doubt(void **state)
{
	static const char body[] = GENERATE(",\"options\":{\"temperature\":0.5},\"complex\":3");
	bool understood = false;

	(void)state;
	for (size_t limit = 0; limit < 4096; limit += 16) {
		struct arena a;
		struct ask ask;
		arena_init(&a, limit);
		const char *doubt = dialect_ollama.parse(SLICE(GENERATE(",\"options\":{\"temperature\":0.5},\"complex\":3")), FAMILY_GENERATE, &a, &ask);
		assert_true(doubt || !a.full);
		assert_false(understood && doubt);
		if (!doubt) {
			understood = true;
			assert_true(ask.model_full.len && ask.canonical.len && ask.canonical_scope.len && ask.question.len && ask.forward.len);
			assert_true(ask.forward.len < sizeof body);
		}
		arena_fini(&a);
	}
	assert_true(understood);
}

static void keep_alive_is_read_with_what_a_model_is_loaded_with(void **state)
{
	static const struct { const char *body; const char *value; bool unloads; const char *options; } cases[] = {
		{ GENERATE(""), "", false, "" }, { GENERATE(",\"keep_alive\":null"), "", false, "" },
		{ GENERATE(",\"keep_alive\":0"), "0", true, "" }, { GENERATE(",\"keep_alive\":-0.0"), NULL, true, "" },
		{ GENERATE(",\"keep_alive\":\"0m0s\""), "\"0m0s\"", true, "" }, { GENERATE(",\"keep_alive\":\"-0.0h\""), "\"-0.0h\"", true, "" },
		{ GENERATE(",\"keep_alive\":-1"), "-1", false, "" }, { GENERATE(",\"keep_alive\":0.5"), NULL, false, "" },
		{ GENERATE(",\"keep_alive\":\"24h\",\"options\":{\"seed\":1,\"use_mmap\":true,\"num_ctx\":4096}"), "\"24h\"", false,
		  "{\"num_ctx\":4096,\"use_mmap\":true}" },
		{ GENERATE(",\"options\":{\"num_ctx\":4096}"), "", false, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena arena;
		struct ask ask;
		arena_init(&arena, 1 << 20);
		assert_null(dialect_ollama.parse(slice_text(cases[i].body), FAMILY_GENERATE, &arena, &ask));
		if (cases[i].value)
			assert_true(slice_is(ask.keep_alive, slice_text(cases[i].value)));
		assert_int_equal(ask.unloads, cases[i].unloads);
		assert_true(slice_is(ask.load_options, slice_text(cases[i].options)));
		arena_fini(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_questions_have_one_form), cmocka_unit_test(names_are_read_as_ollama_does), cmocka_unit_test(different_questions_have_different_forms),
		cmocka_unit_test(doubtful_bodies_are_not_understood), cmocka_unit_test(nesting_too_deep_is_doubt_and_no_crash),
		cmocka_unit_test(cut_anywhere_it_is_doubt), cmocka_unit_test(says_what_it_is_about),
		cmocka_unit_test(scope_is_the_form_without_the_question), cmocka_unit_test(forwards_the_clients_own_bytes_but_for_complex),
		cmocka_unit_test(complex_is_read_wherever_it_stands), cmocka_unit_test(candidates_vary_only_what_they_should),
		cmocka_unit_test(keep_alive_is_read_with_what_a_model_is_loaded_with),
		cmocka_unit_test(what_is_understood_can_be_varied), cmocka_unit_test(every_allocation_may_fail), cmocka_unit_test(an_arena_too_small_is_doubt),
	};
	json_set_alloc_funcs(failing_malloc, free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
