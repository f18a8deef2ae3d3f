/* uses: proxy/base/err.c proxy/base/scan.c proxy/base/arena.c */
/* libs: -ljansson -lm */
/* test_ollama_answer.c - replies as pieces and back: what every kind of line comes to, that nothing is lost on the way there
 * and back in lines or whole, lines cut at every byte, every allocation failing once; and bytes to lines (ndjson.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>

static int fail_at = -1;               /* the nth allocation from now fails; -1: none */
static void *failing_realloc(void *at, size_t bytes)
{
	return fail_at >= 0 && fail_at-- == 0 ? NULL : realloc(at, bytes);
}
#define realloc failing_realloc
#include "proxy/base/buf.c"
#undef realloc
#include "proxy/base/ask.c"
#include <jansson.h>

#include "proxy/ndjson.c"
#include "proxy/ollama_answer.c"

enum { ROOM = 4 << 20 };

/* An answer as one object. */
static enum err write_whole(const struct reply_style *style, struct slice pieces, struct buf *out)
{
	enum err e = ollama_write_whole_head(style, out);

	return e ? e : ollama_write_whole_rest(style->family, pieces, out);
}

static struct reply_style style_of(enum family family)
{
	return (struct reply_style){ .family = family, .model = SLICE("my \\\"model\\\""), .has_model = true, .created_at = "2026-01-02T03:04:05.6Z" };
}

static enum err read_all(struct answer *a, enum family family, const char *const *lines, size_t n)
{
	enum err e = ERR_OK;

	answer_init(a, ROOM);
	for (size_t i = 0; i < n && !e; i++) {
		size_t len = strlen(lines[i]);
		char *copy = malloc(len + !len);
		memcpy(copy, lines[i], len);
		e = ollama_read_line(a, family, slice_of(copy, len));
		free(copy);
	}
	return e;
}

static const char *const chat[] = {
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"h\\u006d\"},\"done\":false}",
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"!\"},\"done\":false,\"extra\":{\"a\":[1.50]}}",
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"A\\n\\u003c\"},\"done\":false,\"logprobs\":[{\"token\":\"A\",\"logprob\":-0.10000000000000000001}],\"extra\":{\"a\":[1.50]}}",
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\xd1\x96\",\"images\":[\"x\"]},\"done\":false,\"logprobs\":[{\"token\":\"B\"},{\"token\":\"C\"}]}",
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"b\":1,\"a\":9007199254740993}}}]},\"done\":false}",
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"n\":2}]},\"done\":false}",
	"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":123,\"eval_count\":5,\"eval_duration\":77,\"prompt_eval_duration\":88,\"unknown\":9223372036854775807}",
};
enum { CHAT_LINES = sizeof chat / sizeof *chat };

static const char *const generate[] = {
	"{\"model\":\"m\",\"response\":\"\",\"thinking\":\"hm\",\"done\":false}",
	"{\"model\":\"m\",\"response\":\"one \",\"done\":false,\"logprobs\":[{\"a\":1}]}",
	"{\"model\":\"m\",\"response\":\"two\",\"done\":false,\"x\":\"y\"}",
	"{\"model\":\"m\",\"response\":\"\",\"done\":true,\"done_reason\":\"length\",\"context\":[1,2,3],\"eval_count\":2}",
};
enum { GENERATE_LINES = sizeof generate / sizeof *generate };

/* The answer again, read back from what was written of it: in lines, or as one object. */
static void read_back(struct answer *to, const struct answer *from, enum family family, bool lines)
{
	struct reply_style style = style_of(family);
	struct buf out;
	size_t at = 0;
	enum err e = ERR_OK;

	answer_init(to, ROOM);
	buf_init(&out, ROOM);
	if (lines) {
		while (ollama_write_line(&style, buf_slice(&from->pieces), &at, &out, &e)) {
			json_error_t error;
			json_t *o = json_loadb(out.at, out.len, JSON_REJECT_DUPLICATES, &error);
			if (!o)
				fail_msg("not a line: %.*s", (int)out.len, out.at);
			assert_string_equal(json_string_value(json_object_get(o, "model")), "my \"model\"");
			assert_string_equal(json_string_value(json_object_get(o, "created_at")), style.created_at);
			json_decref(o);
			assert_int_equal(e, ERR_OK);
			assert_int_equal(out.at[out.len - 1], '\n');
			assert_ptr_equal(memchr(out.at, '\n', out.len), out.at + out.len - 1);
			assert_int_equal(ollama_read_line(to, family, buf_slice(&out)), ERR_OK);
			out.len = 0;
		}
	} else {
		json_error_t error;
		assert_int_equal(write_whole(&style, buf_slice(&from->pieces), &out), ERR_OK);
		json_t *o = json_loadb(out.at, out.len, JSON_REJECT_DUPLICATES, &error);
		if (!o)
			fail_msg("not an object: %.*s", (int)out.len, out.at);
		json_decref(o);
		assert_int_equal(ollama_read_line(to, family, buf_slice(&out)), ERR_OK);
	}
	buf_fini(&out);
}

/* All pieces of one kind joined, arrays and fields by a comma. */
static void joined(const struct answer *a, enum piece_kind kind, struct buf *out)
{
	struct slice bytes;
	enum piece_kind k;
	size_t at = 0;

	buf_init(out, ROOM);
	while (pieces_next(buf_slice(&a->pieces), &at, &k, &bytes))
		if (k == kind) {
			if (out->len && kind != PIECE_CONTENT && kind != PIECE_THINKING)
				assert_int_equal(buf_add(out, ",", 1), ERR_OK);
			assert_int_equal(buf_put(out, bytes), ERR_OK);
		}
}

static void says_the_same(const struct answer *a, const struct answer *b, bool whole)
{
	for (int kind = 1; kind < PIECE_KINDS; kind++) {
		struct buf x, y;
		joined(a, (enum piece_kind)kind, &x);
		joined(b, (enum piece_kind)kind, &y);
		/* read from one object, unknown fields cannot be told from those of the last line: they are all there */
		if (whole && kind == PIECE_LAST) {
			assert_true(y.len >= x.len && memmem(y.at, y.len, x.at, x.len));
		} else if (whole && kind == PIECE_FIELD) {
			struct buf last;
			joined(b, PIECE_LAST, &last);
			assert_true(!x.len || memmem(last.at, last.len, x.at, x.len));
			buf_fini(&last);
		} else if (!slice_is(buf_slice(&x), buf_slice(&y))) {
			fail_msg("kind %d: %.*s became %.*s", kind, (int)x.len, x.at, (int)y.len, y.at);
		}
		buf_fini(&x);
		buf_fini(&y);
	}
	assert_int_equal(a->whole, b->whole);
	assert_int_equal(a->length, b->length);
	assert_int_equal(a->odd, b->odd);
	assert_int_equal(a->eval_count, b->eval_count);
	assert_int_equal(a->eval_ns, b->eval_ns);
	assert_int_equal(a->prompt_eval_ns, b->prompt_eval_ns);
}

static void nothing_is_lost_on_the_way_and_back(void **state)
{
	const struct { enum family family; const char *const *lines; size_t n; } answers[] = {
		{ FAMILY_CHAT, chat, CHAT_LINES }, { FAMILY_GENERATE, generate, GENERATE_LINES },
	};
	(void)state;
	for (size_t i = 0; i < 2; i++)
		for (int lines = 0; lines < 2; lines++) {
			struct answer a, b;
			assert_int_equal(read_all(&a, answers[i].family, answers[i].lines, answers[i].n), ERR_OK);
			assert_true(a.whole && a.has_model && !a.odd && a.error.len == 0);
			read_back(&b, &a, answers[i].family, lines);
			says_the_same(&a, &b, !lines);
			answer_fini(&a);
			answer_fini(&b);
		}
}

static void lines_come_to_these_pieces(void **state)
{
	static const struct { enum piece_kind kind; const char *bytes; } want[] = {
		{ PIECE_THINKING, "h\\u006d!" }, { PIECE_FIELD, "\"extra\":{\"a\":[1.50]}" }, { PIECE_CONTENT, "A\\n\\u003c" },
		{ PIECE_LOGPROBS, "{\"token\":\"A\",\"logprob\":-0.10000000000000000001}" }, { PIECE_MESSAGE_FIELD, "\"images\":[\"x\"]" },
		{ PIECE_CONTENT, "\xd1\x96" }, { PIECE_LOGPROBS, "{\"token\":\"B\"},{\"token\":\"C\"}" },
		{ PIECE_TOOL_CALLS, "{\"function\":{\"name\":\"f\",\"arguments\":{\"b\":1,\"a\":9007199254740993}}}" }, { PIECE_TOOL_CALLS, "{\"n\":2}" },
		{ PIECE_LAST, "\"done_reason\":\"stop\",\"total_duration\":123,\"eval_count\":5,\"eval_duration\":77,\"prompt_eval_duration\":88,\"unknown\":9223372036854775807" },
	};
	struct answer a;
	struct slice bytes;
	enum piece_kind kind;
	size_t at = 0;

	(void)state;
	assert_int_equal(read_all(&a, FAMILY_CHAT, chat, CHAT_LINES), ERR_OK);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		assert_true(pieces_next(buf_slice(&a.pieces), &at, &kind, &bytes));
		assert_int_equal(kind, want[i].kind);
		assert_true(slice_is(bytes, slice_text(want[i].bytes)));
	}
	assert_int_equal(at, a.pieces.len);
	assert_int_equal(a.eval_count, 5);
	answer_fini(&a);
}

static void text_is_found_in_all_three_shapes(void **state)
{
	static const char *const shapes[] = {
		"{\"message\":{\"content\":\"x\"},\"done\":false}", "{\"response\":\"x\",\"done\":false}", "{\"delta\":\"x\",\"done\":false}",
		"{\"delta\":{\"content\":\"x\"},\"done\":false}", "{\"message\":\"x\",\"done\":false}",
		"{ \"done\" : false , \"response\" : \"x\" }\t", "{\"message\":{\"role\":\"assistant\",\"content\":\"x\",\"thinking\":null}}",
	};
	(void)state;
	for (int family = FAMILY_CHAT; family <= FAMILY_GENERATE; family++)
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
			struct answer a;
			struct buf text;
			assert_int_equal(read_all(&a, (enum family)family, &shapes[i], 1), ERR_OK);
			joined(&a, PIECE_CONTENT, &text);
			assert_true(slice_is(buf_slice(&text), SLICE("x")));
			assert_false(a.whole);
			buf_fini(&text);
			answer_fini(&a);
		}
}

static void what_is_no_answer_is_babble(void **state)
{
	static const char *const bad[] = {
		"", "{}", "[]", "<html>", "{\"model\":\"m\"}", "{\"status\":\"ok\"}", "{\"response\":\"x\"", "{\"response\":\"x\"}}", "{\"response\":\"x\"}x",
		"{\"message\":5,\"done\":false}", "{\"message\":[],\"done\":false}", "{\"message\":{\"content\":\"x\",},\"done\":false}",
		"{\"response\":\"\\x\",\"done\":true}",
	};
	struct answer a;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (read_all(&a, FAMILY_CHAT, &bad[i], 1) != ERR_UPSTREAM_BABBLE)
			fail_msg("an answer: %s", bad[i]);
		assert_false(a.whole);
		answer_fini(&a);
	}
	/* a line after the last */
	assert_int_equal(read_all(&a, FAMILY_CHAT, chat, CHAT_LINES), ERR_OK);
	assert_int_equal(ollama_read_line(&a, FAMILY_CHAT, slice_text(chat[0])), ERR_UPSTREAM_BABBLE);
	answer_fini(&a);
	for (size_t i = 0; i < CHAT_LINES; i++)
		for (size_t len = 0; len < strlen(chat[i]); len++) {
			char *copy = malloc(len + !len);
			memcpy(copy, chat[i], len);
			answer_init(&a, ROOM);
			assert_int_equal(ollama_read_line(&a, FAMILY_CHAT, slice_of(copy, len)), ERR_UPSTREAM_BABBLE);
			assert_false(a.whole);
			answer_fini(&a);
			free(copy);
		}
}

static void ends_and_errors_are_told_apart(void **state)
{
	static const struct { const char *line; bool whole, length, odd; } ends[] = {
		{ "{\"response\":\"\",\"done\":true,\"done_reason\":\"stop\"}", true, false, false },
		{ "{\"response\":\"\",\"done\":true}", true, false, false },
		{ "{\"response\":\"\",\"done\":true,\"done_reason\":\"length\"}", true, true, false },
		{ "{\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}", true, false, true },
		{ "{\"response\":\"\",\"done\":true,\"done_reason\":\"unload\"}", true, false, true },
		{ "{\"response\":\"\",\"done\":true,\"done_reason\":null}", true, false, true },
		{ "{\"response\":\"\",\"done\":\"true\"}", false, false, false },
		{ "{\"response\":\"\",\"done\":false,\"done_reason\":\"stop\"}", false, false, false },
	};
	struct answer a;

	(void)state;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		assert_int_equal(read_all(&a, FAMILY_GENERATE, &ends[i].line, 1), ERR_OK);
		assert_true(a.whole == ends[i].whole && a.length == ends[i].length && a.odd == ends[i].odd);
		answer_fini(&a);
	}
	const char *broken[] = { generate[0], "{\"error\":\"no \\u0422\"}" };
	assert_int_equal(read_all(&a, FAMILY_GENERATE, broken, 2), ERR_OK);
	assert_false(a.whole);
	assert_true(slice_is(buf_slice(&a.error), slice_text(broken[1])));
	answer_fini(&a);
}

static void embeddings_are_kept_as_they_came(void **state)
{
	static const char *const bodies[] = {
		"{\"model\":\"e\",\"embeddings\":[[0.1,-1e-7],[]],\"total_duration\":5,\"prompt_eval_count\":2}",
		"{\"embedding\":[0.010000000000000000002]}",
	};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct answer a, b;
		enum family family = i ? FAMILY_EMBEDDINGS : FAMILY_EMBED;
		struct reply_style style = style_of(family);
		struct buf out;
		assert_int_equal(read_all(&a, family, &bodies[i], 1), ERR_OK);
		assert_true(a.whole && a.has_model == (i == 0));
		style.has_model = a.has_model;
		buf_init(&out, ROOM);
		assert_int_equal(write_whole(&style, buf_slice(&a.pieces), &out), ERR_OK);
		const char *rest = strchr(bodies[i], ',');
		assert_true(i ? slice_is(buf_slice(&out), slice_text(bodies[i])) : memmem(out.at, out.len, rest, strlen(rest)) != NULL);
		answer_init(&b, ROOM);
		assert_int_equal(ollama_read_line(&b, family, buf_slice(&out)), ERR_OK);
		assert_true(slice_is(buf_slice(&a.pieces), buf_slice(&b.pieces)));
		buf_fini(&out);
		answer_fini(&a);
		answer_fini(&b);
		for (size_t len = 0; len < strlen(bodies[i]); len++) {
			answer_init(&a, ROOM);
			assert_int_equal(ollama_read_line(&a, family, slice_of(bodies[i], len)), ERR_UPSTREAM_BABBLE);
			assert_false(a.whole);
			answer_fini(&a);
		}
	}
}

static void a_field_on_every_line_is_kept_once(void **state)
{
	struct answer a;
	struct buf fields;

	(void)state;
	answer_init(&a, ROOM);
	for (int i = 0; i < 500; i++)
		assert_int_equal(ollama_read_line(&a, FAMILY_CHAT, SLICE("{\"message\":{\"content\":\"x\"},\"done\":false,\"server\":\"s\"}")), ERR_OK);
	joined(&a, PIECE_FIELD, &fields);
	assert_true(slice_is(buf_slice(&fields), SLICE("\"server\":\"s\"")));
	assert_true(a.pieces.len < 600);
	buf_fini(&fields);
	answer_fini(&a);
}

static void more_pieces_than_a_line_holds_are_more_lines(void **state)
{
	struct answer a, b;

	(void)state;
	answer_init(&a, ROOM);
	for (int i = 0; i < 5 * LINE_SLICES; i++) {
		assert_int_equal(answer_add(&a, PIECE_CONTENT, SLICE("x")), ERR_OK);
		assert_int_equal(answer_add(&a, PIECE_LOGPROBS, SLICE("{\"t\":1}")), ERR_OK);
	}
	assert_int_equal(answer_add(&a, PIECE_LAST, SLICE("\"done_reason\":\"stop\"")), ERR_OK);
	a.whole = true;
	for (int lines = 0; lines < 2; lines++) {
		read_back(&b, &a, FAMILY_CHAT, lines);
		says_the_same(&a, &b, !lines);
		answer_fini(&b);
	}
	answer_fini(&a);
}

static void every_allocation_may_fail(void **state)
{
	bool through = false;
	int n = 0;

	(void)state;
	for (; !through && n < 200; n++) {
		struct answer a, b;
		struct reply_style style = style_of(FAMILY_CHAT);
		struct buf out;
		size_t at = 0;
		fail_at = n;
		enum err e = read_all(&a, FAMILY_CHAT, chat, CHAT_LINES), line = ERR_OK, whole = ERR_OK;
		buf_init(&out, ROOM);
		if (!e) {
			while (ollama_write_line(&style, buf_slice(&a.pieces), &at, &out, &line) && !line)
				;
			if (!line)
				whole = write_whole(&style, buf_slice(&a.pieces), &out);
		}
		through = fail_at >= 0;
		fail_at = -1;
		assert_true(e == ERR_OK || e == ERR_NO_MEMORY);
		assert_true(!through == (e || line || whole));
		assert_true(!e == a.whole);                   /* half read is never whole */
		if (!e) {
			read_back(&b, &a, FAMILY_CHAT, true);
			says_the_same(&a, &b, false);
			answer_fini(&b);
		}
		buf_fini(&out);
		answer_fini(&a);
	}
	assert_true(through && n > 5);
}

static void a_full_answer_says_so(void **state)
{
	(void)state;
	for (size_t limit = 0; limit < 600; limit++) {
		struct answer a;
		enum err e = ERR_OK;
		answer_init(&a, limit);
		for (size_t i = 0; i < CHAT_LINES && !e; i++)
			e = ollama_read_line(&a, FAMILY_CHAT, slice_text(chat[i]));
		assert_true(a.pieces.len <= limit);
		assert_int_equal(e, a.whole ? ERR_OK : ERR_TOO_LARGE);
		answer_fini(&a);
	}
}

static void times_are_written_as_go_does(void **state)
{
	struct reply_style style;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		reply_style_now(&style);
		size_t len = strlen(style.created_at);
		assert_true(len >= 20 && len <= 30 && style.created_at[len - 1] == 'Z' && style.created_at[10] == 'T');
		assert_true(len == 20 || (style.created_at[19] == '.' && style.created_at[len - 2] != '0'));
	}
}

/* ---- bytes to lines ---- */

struct heard { struct buf lines; size_t n, stop_at; };

static bool hear(void *arg, struct slice line)
{
	struct heard *h = arg;

	assert_true(line.len > 0);
	assert_int_equal(buf_put(&h->lines, line), ERR_OK);
	assert_int_equal(buf_add(&h->lines, "|", 1), ERR_OK);
	return ++h->n != h->stop_at;
}

static void lines_whatever_the_packets(void **state)
{
	static const char stream[] = "\n\r\none\ntwo\r\n\n\nthree\nrest";
	size_t len = sizeof stream - 1;

	(void)state;
	for (size_t first = 0; first <= len; first++)
		for (size_t second = first; second <= len; second++) {
			const size_t cuts[] = { 0, first, second, len };
			struct heard h = { 0 };
			struct ndjson n;
			buf_init(&h.lines, 1000);
			ndjson_init(&n, 5, hear, &h);
			for (int i = 0; i < 3; i++) {
				size_t part = cuts[i + 1] - cuts[i], taken;
				char *copy = malloc(part + !part);
				memcpy(copy, stream + cuts[i], part);
				assert_int_equal(ndjson_feed(&n, slice_of(copy, part), &taken), ERR_OK);
				assert_int_equal(taken, part);
				free(copy);
			}
			assert_true(slice_is(buf_slice(&h.lines), SLICE("one|two|three|")));
			assert_true(slice_is(ndjson_rest(&n), SLICE("rest")));
			ndjson_fini(&n);
			buf_fini(&h.lines);
		}
}

static void a_line_too_long_ends_it_and_nothing_is_lost(void **state)
{
	static const char stream[] = "ok\n123456\nno";
	size_t len = sizeof stream - 1;

	(void)state;
	for (size_t cut = 0; cut <= len; cut++) {
		struct heard h = { 0 };
		struct ndjson n;
		size_t taken = 0, fed = 0;
		struct buf left;
		enum err e;
		buf_init(&h.lines, 100);
		buf_init(&left, 100);
		ndjson_init(&n, 5, hear, &h);
		e = ndjson_feed(&n, slice_of(stream, cut), &taken);
		fed = taken;
		if (!e)
			e = ndjson_feed(&n, slice_of(stream + cut, len - cut), &taken), fed = cut + taken;
		assert_int_equal(e, ERR_TOO_LARGE);
		assert_true(slice_is(buf_slice(&h.lines), SLICE("ok|")));
		assert_int_equal(buf_put(&left, ndjson_rest(&n)), ERR_OK);
		assert_int_equal(buf_add(&left, stream + fed, len - fed), ERR_OK);
		assert_true(slice_is(buf_slice(&left), SLICE("123456\nno")));
		ndjson_fini(&n);
		buf_fini(&h.lines);
		buf_fini(&left);
	}
}

static void the_hearer_may_stop_it(void **state)
{
	struct heard h = { .stop_at = 2 };
	struct ndjson n;
	size_t taken;

	(void)state;
	buf_init(&h.lines, 100);
	ndjson_init(&n, 5, hear, &h);
	assert_int_equal(ndjson_feed(&n, SLICE("a\nb\nc\n"), &taken), ERR_OK);
	assert_int_equal(taken, 4);
	assert_int_equal(ndjson_feed(&n, SLICE("c\n"), &taken), ERR_OK);
	assert_true(slice_is(buf_slice(&h.lines), SLICE("a|b|c|")));
	fail_at = 0;
	assert_int_equal(ndjson_feed(&n, SLICE("d"), &taken), n.part.room ? ERR_OK : ERR_NO_MEMORY);
	fail_at = -1;
	ndjson_fini(&n);
	buf_fini(&h.lines);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_on_the_way_and_back), cmocka_unit_test(lines_come_to_these_pieces),
		cmocka_unit_test(text_is_found_in_all_three_shapes), cmocka_unit_test(what_is_no_answer_is_babble),
		cmocka_unit_test(ends_and_errors_are_told_apart), cmocka_unit_test(embeddings_are_kept_as_they_came),
		cmocka_unit_test(a_field_on_every_line_is_kept_once), cmocka_unit_test(more_pieces_than_a_line_holds_are_more_lines),
		cmocka_unit_test(every_allocation_may_fail), cmocka_unit_test(a_full_answer_says_so), cmocka_unit_test(times_are_written_as_go_does),
		cmocka_unit_test(lines_whatever_the_packets), cmocka_unit_test(a_line_too_long_ends_it_and_nothing_is_lost),
		cmocka_unit_test(the_hearer_may_stop_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
