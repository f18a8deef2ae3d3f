/* uses: proxy/ollama_answer.c proxy/ndjson.c proxy/base/ask.c proxy/base/scan.c proxy/base/buf.c proxy/base/err.c */
/* libs: -ljansson -lm */
/* fuzz_answer.c - bytes of an upstream: cut into packets, into lines, read, and written again. The first byte picks the
 * family, the second the packets' size. What was read as an answer comes back as the same answer, in lines, in parts, whole. */
#include <stdlib.h>

#include "proxy/base/scan.h"
#include "proxy/ndjson.h"
#include "proxy/ollama.h"

/* An answer as one object. */
static enum err write_whole(const struct reply_style *style, struct slice pieces, struct buf *out)
{
	enum err e = ollama_write_whole_head(style, out);

	return e ? e : ollama_write_whole_rest(style->family, pieces, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_MAX_BYTES = 4096, ROOM = 1 << 20 };

struct reading { struct answer answer; enum family family; bool bad; };

static void check(int ok)
{
	if (!ok)
		abort();
}

static bool on_line(void *arg, struct slice line)
{
	struct reading *r = arg;

	check(line.len > 0 && line.len <= LINE_MAX_BYTES && !memchr(line.at, '\n', line.len));
	if (ollama_read_line(&r->answer, r->family, line))
		r->bad = true;
	return !r->bad;
}

static void text_of(const struct answer *a, enum piece_kind kind, struct buf *out)
{
	enum piece_kind k;
	struct slice bytes;
	size_t at = 0;

	buf_init(out, ROOM);
	while (pieces_next(buf_slice(&a->pieces), &at, &k, &bytes))
		if (k == kind)
			check(!buf_put(out, bytes));
	check(at == a->pieces.len);
}

static void check_same(const struct answer *a, const struct answer *b)
{
	static const enum piece_kind kinds[] = { PIECE_THINKING, PIECE_CONTENT, PIECE_BODY };
	struct buf x, y;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		text_of(a, kinds[i], &x);
		text_of(b, kinds[i], &y);
		check(slice_is(buf_slice(&x), buf_slice(&y)));
		buf_fini(&x);
		buf_fini(&y);
	}
	check(a->whole == b->whole && a->length == b->length && a->odd == b->odd);
}

static void write_again(const struct reading *r)
{
	struct reply_style style = { .family = r->family, .model = SLICE("m"), .has_model = true, .created_at = "t" };
	bool generation = r->family == FAMILY_CHAT || r->family == FAMILY_GENERATE;
	struct answer again;
	struct buf out, parts;
	enum err e = ERR_OK;
	size_t at = 0;

	buf_init(&out, ROOM);
	buf_init(&parts, ROOM);
	answer_init(&again, ROOM);
	check(!pieces_split(buf_slice(&r->answer.pieces), 16, &parts));
	while (generation && ollama_write_line(&style, buf_slice(&parts), &at, &out, &e)) {
		check(!e && out.len && out.at[out.len - 1] == '\n');
		check(!ollama_read_line(&again, r->family, buf_slice(&out)));
		out.len = 0;
	}
	if (generation)
		check_same(&r->answer, &again);
	answer_fini(&again);
	out.len = 0;
	if (r->answer.whole) {
		answer_init(&again, ROOM);
		check(!write_whole(&style, buf_slice(&r->answer.pieces), &out));
		check(!ollama_read_line(&again, r->family, buf_slice(&out)));
		check_same(&r->answer, &again);
		answer_fini(&again);
	}
	buf_fini(&parts);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading r = { .bad = false };
	struct ndjson n;
	size_t at = 2, taken;

	if (size < 2)
		return 0;
	r.family = (enum family)(data[0] % FAMILY_COUNT);
	answer_init(&r.answer, ROOM);
	ndjson_init(&n, LINE_MAX_BYTES, on_line, &r);
	for (size_t packet = data[1] % 64 + 1; at < size && !r.bad; ) {
		size_t len = size - at < packet ? size - at : packet;
		char *copy = malloc(len);
		memcpy(copy, data + at, len);
		if (ndjson_feed(&n, slice_of(copy, len), &taken))
			r.bad = true;
		free(copy);
		at += len;
	}
	if (!r.bad && ndjson_rest(&n).len && ollama_read_line(&r.answer, r.family, ndjson_rest(&n)))
		r.bad = true;
	if (!r.bad && !r.answer.error.len && r.answer.pieces.len < ROOM / 8)
		write_again(&r);
	ndjson_fini(&n);
	answer_fini(&r.answer);
	return 0;
}
