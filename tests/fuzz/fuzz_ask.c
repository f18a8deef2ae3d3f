/* uses: proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c proxy/base/ask.c proxy/base/canonical.c proxy/base/scan.c proxy/base/arena.c proxy/base/buf.c proxy/base/err.c cache/key.c */
/* libs: -ljansson -lnettle -licuuc -lm */
/* fuzz_ask.c - request bodies: parsed, keyed and varied. The first byte picks the family. What is understood has a name, is
 * forwarded as one JSON object that is understood again and as the same question, and so is each candidate's body. */
#include <jansson.h>
#include <stdlib.h>

#include "cache/key.h"
#include "proxy/dialect.h"
#include "tests/json_alike.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

/* What is understood is what jansson reads; what is said to be no JSON, it cannot read. */
static void check_read(struct slice body, const struct ask *ask, const char *doubt)
{
	static const char *const left_out[] = { "stream", "keep_alive", "complex", "model" };
	json_error_t error;
	json_t *read = memchr(body.at, '\0', body.len) ? NULL : json_loadb(body.at, body.len, JSON_REJECT_DUPLICATES, &error);

	if (!doubt) {
		json_t *form = json_loadb(ask->canonical.at, ask->canonical.len, JSON_REJECT_DUPLICATES, &error);
		check(json_is_object(read) && json_is_object(form));
		for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++) {
			json_object_del(read, left_out[i]);
			json_object_del(form, left_out[i]);
		}
		check(json_alike(read, form));
		json_decref(form);
	} else if (!strcmp(doubt, "not JSON") || !strcmp(doubt, "key twice")) {
		check(!json_is_object(read));
	}
	json_decref(read);
}

/* The canonical form of a body we made ourselves, which has to be understood. */
static void check_same(const struct ask *ask, struct slice body)
{
	struct arena arena;
	struct ask again;

	arena_init(&arena, (256 << 10) + 16 * body.len);
	check(!dialect_ollama.parse(body, ask->family, &arena, &again));
	check(slice_is(again.canonical, ask->canonical));
	check(slice_is(again.canonical_scope, ask->canonical_scope));
	check(again.complex_body == COMPLEX_NONE && slice_is(again.model_full, ask->model_full));
	arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct variant v = { true, true, true, true, 0.7, 0.9, 1234, 77 };
	struct arena arena;
	struct ask ask;
	struct buf out;
	uint8_t key[KEY_BYTES];

	if (size < 1)
		return 0;
	struct slice body = slice_of((const char *)data + 1, size - 1);
	arena_init(&arena, (256 << 10) + 16 * body.len);
	buf_init(&out, 2 * body.len + (64 << 10));
	const char *doubt = dialect_ollama.parse(body, (enum family)(data[0] % FAMILY_COUNT), &arena, &ask);
	check_read(body, &ask, doubt);
	if (!doubt) {
		const struct key_parts parts = { .family = ask.family, .candidates = 1, .form = ask.canonical };
		key_make(&parts, key);
		check(!arena.full && ask.model.len && ask.canonical.len && ask.forward.len);
		check(ask.model_plain.len <= ask.model.len && (ask.model_full.len || !ask.model_plain.len));
		check(!ask.not_semantic == (ask.canonical_scope.len > 0));
		if (ask.model_plain.len && !memchr(ask.model_plain.at, '@', ask.model_plain.len))
			check_same(&ask, ask.forward);
		enum err e = dialect_ollama.vary(&ask, &v, &out);
		check(e == ERR_OK || e == ERR_BAD_JSON || e == ERR_TOO_LARGE);
		if (!e) {
			json_error_t error;
			json_t *root = json_loadb(out.at, out.len, 0, &error);
			check(json_is_object(root));
			check(json_integer_value(json_object_get(json_object_get(root, "options"), "seed")) == 1234);
			check(json_is_false(json_object_get(root, "stream")));
			json_decref(root);
		}
	}
	buf_fini(&out);
	arena_fini(&arena);
	return 0;
}
