/* words_pack.c - an analysis as bytes and back. They lie beside an answer in a store, so reading trusts nothing.
 *
 * Layout, numbers little-endian: version, skip, class, choice and sequence, tense, modal (a byte each), classes (4),
 * negators, concords, absences (a byte each), quoted (8), n (1); then for each word flags (2), role, alias (1 each), contrast (2), n_terms, length of text (1 each),
 * terms (8 each), text. Nothing follows. */
#include <unicode/utf8.h>

#include "proxy/base/words.h"

enum { PACK_VERSION = 2, HEAD_BYTES = 22, WORD_HEAD_BYTES = 8 };

static void put(unsigned char *to, uint64_t n, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (unsigned char)(n >> 8 * i);
}

static uint64_t get(const char *from, int bytes)
{
	uint64_t n = 0;

	for (int i = 0; i < bytes; i++)
		n |= (uint64_t)(unsigned char)from[i] << 8 * i;
	return n;
}

enum err words_pack(struct buf *out, const struct words *w)
{
	unsigned char head[HEAD_BYTES], term[8];
	size_t before = out->len;
	enum err e;

	head[0] = PACK_VERSION;
	head[1] = (unsigned char)w->skip;
	head[2] = (unsigned char)w->class;
	head[3] = (unsigned char)(w->choice | w->sequence << 1);
	head[4] = (unsigned char)w->tense;
	head[5] = (unsigned char)w->modal;
	put(head + 6, w->classes, 4);
	head[10] = w->negators;
	head[11] = w->concords;
	head[12] = w->absences;
	put(head + 13, w->quoted, 8);
	head[21] = (unsigned char)w->n;
	e = buf_add(out, head, sizeof head);
	for (size_t i = 0; i < w->n && !e; i++) {
		const struct word *word = &w->word[i];
		unsigned char of_word[WORD_HEAD_BYTES];

		put(of_word, word->flags, 2);
		of_word[2] = word->role;
		of_word[3] = word->alias;
		put(of_word + 4, word->contrast, 2);
		of_word[6] = word->n_terms;
		of_word[7] = (unsigned char)word->text.len;
		e = buf_add(out, of_word, sizeof of_word);
		for (size_t k = 0; k < word->n_terms && !e; k++) {
			put(term, word->terms[k], 8);
			e = buf_add(out, term, sizeof term);
		}
		if (!e)
			e = buf_put(out, word->text);
	}
	if (e)
		out->len = before;
	return e;
}

static bool is_utf8(struct slice s)
{
	for (size_t i = 0; i < s.len;) {
		UChar32 c;

		U8_NEXT(s.at, i, s.len, c);
		if (c < 0)
			return false;
	}
	return true;
}

/* Takes one word off *raw. */
static enum err unpack_word(struct slice *raw, struct arena *a, struct word *w)
{
	uint64_t *term;
	size_t len;

	if (raw->len < WORD_HEAD_BYTES)
		return ERR_CORRUPT;
	w->flags = (uint16_t)get(raw->at, 2);
	w->role = (uint8_t)raw->at[2];
	w->alias = (uint8_t)raw->at[3];
	w->contrast = (uint16_t)get(raw->at + 4, 2);
	w->n_terms = (uint8_t)raw->at[6];
	w->text.len = (uint8_t)raw->at[7];
	len = WORD_HEAD_BYTES + 8u * w->n_terms + w->text.len;
	if (w->flags & ~WORD_FLAGS || w->role >= WORD_ROLES || w->n_terms < 1 || w->n_terms > WORD_TERMS_MAX
	    || w->text.len > WORD_TEXT_MAX || raw->len < len)
		return ERR_CORRUPT;
	w->text.at = raw->at + len - w->text.len;
	if (!is_utf8(w->text))
		return ERR_CORRUPT;
	term = arena_alloc(a, w->n_terms * sizeof *term);
	if (!term)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < w->n_terms; i++) {
		term[i] = get(raw->at + WORD_HEAD_BYTES + 8 * i, 8);
		if (term[i] == 0 || (i && term[i] <= term[i - 1]))
			return ERR_CORRUPT;
	}
	w->terms = term;
	*raw = slice_of(raw->at + len, raw->len - len);
	return ERR_OK;
}

enum err words_unpack(struct slice raw, struct arena *a, struct words **to)
{
	struct words *w;
	size_t terms = 0;

	*to = NULL;
	if (raw.len < HEAD_BYTES || raw.len > WORDS_PACK_MAX || raw.at[0] != PACK_VERSION)
		return ERR_CORRUPT;
	w = arena_alloc(a, sizeof *w);
	if (!w)
		return ERR_NO_MEMORY;
	*w = (struct words){
		.skip = (enum words_skip)(unsigned char)raw.at[1], .class = (enum words_class)(unsigned char)raw.at[2],
		.choice = raw.at[3] & 1, .sequence = raw.at[3] >> 1 & 1, .tense = (enum words_tense)(unsigned char)raw.at[4],
		.modal = (enum words_modal)(unsigned char)raw.at[5], .classes = (unsigned)get(raw.at + 6, 4),
		.negators = (uint8_t)raw.at[10], .concords = (uint8_t)raw.at[11], .absences = (uint8_t)raw.at[12],
		.quoted = get(raw.at + 13, 8), .n = (unsigned char)raw.at[21],
	};
	if (w->skip >= WORDS_SKIPS || w->class >= WORDS_CLASSES || w->classes >> WORDS_CLASSES
	    || raw.at[3] & ~3 || w->tense >= WORDS_TENSES || w->modal >= WORDS_MODALS
	    || w->n > WORDS_MAX)
		return ERR_CORRUPT;
	raw = slice_of(raw.at + HEAD_BYTES, raw.len - HEAD_BYTES);
	w->word = arena_alloc(a, (w->n ? w->n : 1) * sizeof *w->word);
	if (!w->word)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < w->n; i++) {
		enum err e = unpack_word(&raw, a, &w->word[i]);

		if (e)
			return e;
		terms += w->word[i].n_terms;
	}
	if (raw.len || terms > WORDS_TERMS_MAX)
		return ERR_CORRUPT;
	*to = w;
	return ERR_OK;
}
