/* uses: cache/entry.c proxy/base/ask.c proxy/base/scan.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/words_pack.c proxy/ollama_answer.c */
/* libs: -lxxhash -lm */
/* fuzz_entry.c - stored bytes: entries, opened as they came and with their checksum made right, and packed words. Nothing
 * they say is believed; what opens packs again to the same. */
#include <stdlib.h>
#include <xxhash.h>

#include "cache/entry.h"
#include "proxy/base/words.h"
#include "proxy/ollama.h"

/* An answer as one object. */
static enum err write_whole(const struct reply_style *style, struct slice pieces, struct buf *out)
{
	enum err e = ollama_write_whole_head(style, out);

	return e ? e : ollama_write_whole_rest(style->family, pieces, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 1 << 20, SUM_AT = 8, SUMMED_FROM = 16 };

static void check(int ok)
{
	if (!ok)
		abort();
}

static void open_entry(struct slice raw)
{
	struct reply_style style = { .family = FAMILY_CHAT, .model = SLICE("m"), .has_model = true, .created_at = "t" };
	struct entry_meta m, peeked;
	struct slice pieces;
	struct buf out;
	enum err e = ERR_OK;
	size_t at = 0;

	enum err peek = entry_peek(raw, &peeked);
	if (entry_unpack(raw, &m, &pieces))
		return;
	check(!peek && peeked.created_ms == m.created_ms && slice_is(peeked.question, m.question));
	check(pieces.at >= raw.at && pieces.at + pieces.len == raw.at + raw.len);
	buf_init(&out, ROOM);
	while (ollama_write_line(&style, pieces, &at, &out, &e) && !e)
		;
	out.len = 0;
	(void)!write_whole(&style, pieces, &out);
	out.len = 0;
	(void)!pieces_text(pieces, PIECE_CONTENT, &out);
	out.len = 0;
	(void)!pieces_split(pieces, 7, &out);
	out.len = 0;
	if (!entry_pack(&out, &m, pieces)) {
		struct entry_meta again;
		struct slice same;
		check(!entry_unpack(buf_slice(&out), &again, &same) && slice_is(same, pieces) && again.expires_ms == m.expires_ms);
	}
	buf_fini(&out);
}

static void open_words(struct slice raw)
{
	struct arena a;
	struct words *w;
	struct buf out;

	arena_init(&a, 1 << 20);
	buf_init(&out, WORDS_PACK_MAX);
	if (!words_unpack(raw, &a, &w)) {
		check(w->n <= WORDS_MAX);
		check(!words_pack(&out, w) && slice_is(buf_slice(&out), raw));
	}
	buf_fini(&out);
	arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + !size);

	memcpy(copy, data, size);
	open_entry(slice_of(copy, size));
	open_words(slice_of(copy, size));
	if (size >= SUMMED_FROM) {
		uint64_t sum = XXH3_64bits(copy + SUMMED_FROM, size - SUMMED_FROM);
		for (int i = 0; i < 4; i++)
			copy[4 + i] = (char)(size >> 8 * i);
		for (int i = 0; i < 8; i++)
			copy[SUM_AT + i] = (char)(sum >> 8 * i);
		open_entry(slice_of(copy, size));
	}
	free(copy);
	return 0;
}
