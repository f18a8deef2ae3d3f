/* words_text.c - bytes to tokens: UTF-8 in, folded words with what their writing says out.
 *
 * Words end where ICU says (UAX #29, root locale, so that every machine cuts alike). What that loses is mended
 * here: C++ and C#, .NET, operators between numbers, signs of number, currency and percent. Quotation marks are
 * paired beforehand; one without its pair says nothing.
 *
 * Bounds  memory and time are proportional to the bytes given; the callers limit those. */
#include "proxy/base/words_inner.h"

#include <stdlib.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/ustring.h>
#include <unicode/utf16.h>

static inline uint64_t rotl(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

struct sip {
	uint64_t a, b, c, d;
};

static inline void sip_round(struct sip *s)
{
	s->a += s->b;
	s->c += s->d;
	s->b = rotl(s->b, 13) ^ s->a;
	s->d = rotl(s->d, 16) ^ s->c;
	s->a = rotl(s->a, 32) + s->d;
	s->c += s->b;
	s->d = rotl(s->d, 21) ^ s->a;
	s->b = rotl(s->b, 17) ^ s->c;
	s->c = rotl(s->c, 32);
}

uint64_t text_hash(struct slice s)
{
	const uint64_t key0 = 0x6b6579776f726473, key1 = 0x6f6c6c6163616368;
	struct sip h = { key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d,
		key0 ^ 0x6c7967656e657261, key1 ^ 0x7465646279746573 };
	size_t i = 0;
	uint64_t m;

	do {
		m = 0;
		for (size_t j = 0; j < 8 && i + j < s.len; j++)
			m |= (uint64_t)(unsigned char)s.at[i + j] << 8 * j;
		if (i + 8 > s.len)
			m |= (uint64_t)s.len << 56;
		h.d ^= m;
		sip_round(&h);
		sip_round(&h);
		h.a ^= m;
		i += 8;
	} while (i <= s.len);
	h.c ^= 0xff;
	for (int j = 0; j < 4; j++)
		sip_round(&h);
	m = h.a ^ h.b ^ h.c ^ h.d;
	return m ? m : 1;                             /* 0 means "none" to the maps */
}

static bool is_apostrophe(UChar c)
{
	return c == '\'' || c == '`' || c == 0x2019 || c == 0x2018 || c == 0x02bc || c == 0x02b9 || c == 0x2032;
}

/* Between letters every apostrophe is the same one: об’єкт, об`єкт. Dashes before digits are minus signs. */
static void unify(UChar *at, int32_t len)
{
	for (int32_t i = 0; i < len; i++) {
		if (is_apostrophe(at[i]) && i > 0 && i + 1 < len && u_isalpha(at[i - 1]) && u_isalpha(at[i + 1]))
			at[i] = '\'';
		else if (at[i] >= 0x2010 && at[i] <= 0x2015)
			at[i] = '-';
		else if (at[i] == 0x2212)
			at[i] = '-';
	}
}

static bool closes(UChar open, UChar c)
{
	switch (open) {
	case 0x00ab: return c == 0x00bb;                      /* « » */
	case 0x201e: return c == 0x201c || c == 0x201d || c == '"';
	case 0x201c: return c == 0x201d || c == '"';
	case 0x2018: return c == 0x2019;
	default:     return c == open;
	}
}

static bool opens(UChar c)
{
	return c == '"' || c == '\'' || c == '`' || c == 0x00ab || c == 0x201e || c == 0x201c || c == 0x2018;
}

static bool letter_at(const struct text *t, int32_t i)
{
	return i >= 0 && i < t->len && u_isalnum(t->at[i]);
}

/* Marks what stands in quotation marks. A mark is looked for once, so the time is linear: when the partner of a
 * kind is missing, later marks of that kind are missing theirs too. */
static void mark_quotes(struct text *t)
{
	UChar lonely[8];
	int n_lonely = 0;

	for (int32_t i = 0; i < t->len; i++) {
		UChar c = t->at[i];
		int32_t end;
		bool known = false;

		if (!opens(c) || letter_at(t, i - 1))
			continue;
		for (int k = 0; k < n_lonely; k++)
			known |= lonely[k] == c;
		if (known)
			continue;
		for (end = i + 1; end < t->len; end++)
			if (closes(c, t->at[end]) && !letter_at(t, end + 1))
				break;
		if (end == t->len) {
			lonely[n_lonely++] = c;               /* seven kinds open, so eight places do */
			t->lonely |= !is_apostrophe(c);
			continue;
		}
		memset(t->quoted + i, 1, (size_t)(end - i));
		i = end;
	}
}

static bool ends_line(UChar c)
{
	return c == '\n' || c == '\r' || c == 0x2028 || c == 0x2029;
}

/* Does text stand on more than one line? */
static bool has_lines(const struct text *t)
{
	bool before = false, ended = false;

	for (int32_t i = 0; i < t->len; i++) {
		bool space = u_isUWhiteSpace(t->at[i]);

		if (!space && ended)
			return true;
		before |= !space;
		ended |= before && ends_line(t->at[i]);
	}
	return false;
}

enum err text_open(struct text *t, const UBreakIterator *model, struct slice bytes, bool strict)
{
	UErrorCode e = U_ZERO_ERROR;
	enum err result = ERR_NO_MEMORY;

	*t = (struct text){ .first = true };
	t->at = malloc((bytes.len + 1) * sizeof *t->at);      /* UTF-16 never has more units than UTF-8 bytes */
	t->quoted = calloc(bytes.len + 1, 1);
	if (!t->at || !t->quoted)
		goto failed;
	if (strict)
		u_strFromUTF8(t->at, (int32_t)bytes.len, &t->len, bytes.at ? bytes.at : "", (int32_t)bytes.len, &e);
	else
		u_strFromUTF8WithSub(t->at, (int32_t)bytes.len, &t->len, bytes.at ? bytes.at : "", (int32_t)bytes.len,
			0xfffd, NULL, &e);
	if (U_FAILURE(e)) {
		result = ERR_CORRUPT;
		goto failed;
	}
	e = U_ZERO_ERROR;                             /* a warning says the text is not NUL-ended */
	t->fold = unorm2_getNFKCCasefoldInstance(&e);
	t->words = ubrk_clone(model, &e);
	if (U_FAILURE(e))
		goto failed;
	unify(t->at, t->len);
	ubrk_setText(t->words, t->at, t->len, &e);
	if (U_FAILURE(e))
		goto failed;
	mark_quotes(t);
	t->lines = has_lines(t);
	return ERR_OK;
failed:
	text_close(t);
	return result;
}

void text_close(struct text *t)
{
	if (t->words)
		ubrk_close(t->words);
	free(t->at);
	free(t->quoted);
	*t = (struct text){ 0 };
}

size_t text_fold(const UNormalizer2 *fold, const UChar *at, int32_t len, char *to, size_t size)
{
	UChar folded[2 * TOKEN_UNITS_MAX + 32];
	UErrorCode e = U_ZERO_ERROR;
	int32_t i, n, bytes = 0;

	for (i = 0; i < len && (size_t)i < size && at[i] < 0x80; i++)
		to[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + 32 : at[i]);
	if (i == len)
		return (size_t)i;
	n = unorm2_normalize(fold, at, len, folded, (int32_t)(sizeof folded / sizeof *folded), &e);
	if (U_FAILURE(e))
		return 0;
	/* Stress marks over Cyrillic have no composed form and so are still there: за́мок. Digits of any script
	 * are digits. */
	for (int32_t j = i = 0; j < n; j++) {
		UChar c = folded[j];

		if (c == 0x0301)
			continue;
		folded[i++] = c > 0x7f && u_isdigit(c) ? (UChar)('0' + u_charDigitValue(c)) : c;
	}
	e = U_ZERO_ERROR;
	u_strToUTF8(to, (int32_t)size, &bytes, folded, i, &e);
	return U_FAILURE(e) ? 0 : (size_t)bytes;
}

static enum script script_of(UChar32 c)
{
	UErrorCode e = U_ZERO_ERROR;

	if (c < 0x80)
		return (c | 32) >= 'a' && (c | 32) <= 'z' ? SCRIPT_LATIN : SCRIPT_OTHER;
	switch (uscript_getScript(c, &e)) {
	case USCRIPT_LATIN:    return SCRIPT_LATIN;
	case USCRIPT_CYRILLIC: return SCRIPT_CYRILLIC;
	default:               return SCRIPT_OTHER;
	}
}

/* What the writing of at[from..to) says. */
static void look(const struct text *t, int32_t from, int32_t to, struct token *token)
{
	int letters = 0, capitals = 0;

	for (int32_t i = from; i < to;) {
		UChar32 c;

		U16_NEXT(t->at, i, to, c);
		if (u_isdigit(c))
			token->flags |= TOKEN_NUMBER;
		if (!u_isalpha(c))
			continue;
		if (!letters++)
			token->script = (uint8_t)script_of(c);
		capitals += u_isupper(c);
		if (letters == 1 && capitals)
			token->flags |= TOKEN_CAPITAL;
	}
	if (letters > 1 && capitals == letters)
		token->flags |= TOKEN_CAPITALS;
	if (t->quoted[from])
		token->flags |= TOKEN_QUOTED;
}

/* A colon that sets off what follows: not one of a time, an address, a path, a smiley or an operator. */
static bool sets_off(const struct text *t, int32_t i)
{
	UChar before = i > 0 ? t->at[i - 1] : ':', after = i + 1 < t->len ? t->at[i + 1] : ':';

	if (t->at[i] == 0xff1a)
		return true;
	return t->at[i] == ':' && before != ':' && !(after < 0x80 && strchr(":/\\()=", (char)after))
		&& !(u_isdigit(before) && u_isdigit(after));
}

static bool is_space(UChar c)
{
	return c == ' ' || c == '\t' || c == 0xa0 || c == 0x202f || c == 0x2009;
}

/* The operator at i stands between two operands, each a number or a single letter: 2+2, 10 - 12, x > 5. */
static bool is_operator(const struct text *t, int32_t i)
{
	UChar c = t->at[i];
	int32_t end;

	if (!t->after_operand || !((c < 0x80 && c && strchr("+-*/^=<>", (char)c)) || c == 0xd7 || c == 0xf7))
		return false;
	for (i++; i < t->len && is_space(t->at[i]); i++)
		;
	if (i < t->len && t->at[i] == '-')
		i++;
	for (end = i; letter_at(t, end); end++)
		;
	return end > i && (u_isdigit(t->at[i]) || end - i == 1);
}

static bool ends_sentence(UChar c)
{
	return c == '.' || c == '!' || c == '?' || c == 0x2026 || c == '\n' || c == ':' || c == 0x3002 || c == 0x061f;
}

/* Nothing but space between i and the next word? Then the word before i is not the last of its clause. */
static bool clause_goes_on(const struct text *t, int32_t i)
{
	while (i < t->len && is_space(t->at[i]))
		i++;
	return letter_at(t, i) || (i < t->len && t->at[i] > 0x7f);
}

static void take(struct text *t, struct token *token, int32_t from, int32_t to)
{
	if (to - from > TOKEN_UNITS_MAX)
		to = from + TOKEN_UNITS_MAX;
	token->text = slice_of(t->folded, text_fold(t->fold, t->at + from, to - from, t->folded, sizeof t->folded));
}

bool text_next(struct text *t, struct token *token)
{
	*token = (struct token){ 0 };
	while (t->next < t->len) {
		int32_t from = t->next, to = ubrk_following(t->words, from);
		UChar c = t->at[from];

		if (to == UBRK_DONE)
			to = t->len;
		t->next = to;
		if (ubrk_getRuleStatus(t->words) >= UBRK_WORD_NUMBER) {
			/* C++, C#, .NET: part of the name, if nothing else is joined on */
			int32_t end = to;

			look(t, from, to, token);
			while (!(token->flags & TOKEN_NUMBER) && end < t->len && end - to < 2
			       && (t->at[end] == '+' || t->at[end] == '#'))
				end++;
			if (end > to && !(t->at[to] == '+' && end - to == 1) && !letter_at(t, end))
				t->next = to = end;
			if (from > 0 && t->at[from - 1] == '.'
			    && (from == 1 || is_space(t->at[from - 2])))
				from--;
			if (from > 0 && t->at[from - 1] == '-' && token->flags & TOKEN_NUMBER && !t->after_operand
			    && (from == 1 || is_space(t->at[from - 2])))
				from--;
			take(t, token, from, to);
			for (; t->looked < to; t->looked++)
				if (sets_off(t, t->looked))
					token->flags |= TOKEN_PAYLOAD;
			if (t->first)
				token->flags |= TOKEN_FIRST;
			if (!clause_goes_on(t, to))
				token->flags |= TOKEN_LAST;
			t->first = false;
			t->after_operand = token->flags & TOKEN_NUMBER || to - from == 1;
			if (token->text.len)
				return true;
			continue;
		}
		if (is_operator(t, from)) {
			token->flags = TOKEN_NUMBER;
			t->after_operand = false;
		} else if (u_charType(c) == U_CURRENCY_SYMBOL || c == '%' || c == 0x2116) {
			token->flags = TOKEN_SYMBOL;
			t->after_operand = t->after_operand && c == '%';
		} else {
			if (ends_sentence(c))
				t->first = true;
			if (!is_space(c))
				t->after_operand = false;
			continue;
		}
		if (t->quoted[from])
			token->flags |= TOKEN_QUOTED;
		take(t, token, from, to);
		if (token->text.len)
			return true;
	}
	return false;
}
