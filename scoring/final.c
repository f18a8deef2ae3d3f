/* final.c - what does an answer come to? The final answer of a text, normalised so that equal ones are equal bytes.
 *
 * Looked for in this order, the last of its kind in the text: \boxed{}, JSON "answer", #### x, "answer is" or
 * "answer:" (in several languages), the letter of a multiple choice, a short text as a whole, the last number when
 * the question asks for one. Code has none: two programs may be right in different words, and wrong in the same.
 *
 * Limits  only the last ANSWER_TAIL bytes are read, and of the question the last QUESTION_TAIL; every search is
 *         one pass over them, or a bounded number of passes (TRIES).
 * Ideas   the marks are those of the common benchmarks (MATH, GSM8K, MMLU) and of what models say unasked. */
#include "scoring/round.h"

#include "proxy/base/ask.h"

#include <stdio.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

enum {
	QUESTION_TAIL = 16 << 10,
	TRIES = 8,                       /* marks looked at, from the last one back */
	VALUE_MAX = 120,                 /* bytes of a value as written; a longer one is prose */
	AFTER_MAX = 240,                 /* bytes that may follow a value that is words: else it was a heading */
	SENTENCE_MAX = 300,              /* the last number, and a letter in brackets, are looked for in so many last bytes */
	OPTIONS_MAX = 26,
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A byte of a word: ASCII letters and digits, and all of other alphabets. */
static bool is_word(char c)
{
	return is_digit(c) || (c | 32) - 'a' + 0u < 26u || (unsigned char)c >= 0x80;
}

static struct slice last_bytes(struct slice s, size_t most)
{
	if (s.len <= most)
		return s;
	s.at += s.len - most;
	s.len = most;
	while (s.len && ((unsigned char)s.at[0] & 0xc0) == 0x80)
		s.at++, s.len--;
	return s;
}

static struct slice from_byte(struct slice s, size_t i)
{
	return i < s.len ? slice_of(s.at + i, s.len - i) : slice_of(s.at + s.len, 0);
}

static bool starts(struct slice s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.at, with, len) == 0;
}

/* Case away, byte for byte: a letter whose other case has another length stays, so that a place in the folded
 * text is the same place in the text. */
static void fold(struct slice s, char *to)
{
	int32_t i = 0, len = (int32_t)s.len;

	while (i < len) {
		int32_t at = i, out = at;
		UChar32 c;
		U8_NEXT(s.at, i, len, c);
		if (c >= 0)
			c = u_foldCase(c, U_FOLD_CASE_DEFAULT);
		if (c >= 0 && U8_LENGTH(c) == i - at)
			U8_APPEND_UNSAFE(to, out, c);
		else
			memcpy(to + at, s.at + at, (size_t)(i - at));
	}
}

static size_t find_last(struct slice s, const char *what, size_t before)
{
	size_t len = strlen(what);

	for (size_t i = before < s.len ? before : s.len; i-- > 0;)
		if (s.at[i] == what[0] && s.len - i >= len && memcmp(s.at + i, what, len) == 0)
			return i;
	return SIZE_MAX;
}

static bool contains(struct slice s, const char *what)
{
	return memmem(s.at, s.len, what, strlen(what)) != NULL;
}

/* ---- the question ---- */

/* "A. text", "(B) text", "в) text": the letter's number in its alphabet, else -1. */
static int option_line(struct slice line, bool *cyrillic)
{
	static const char *const letters = "АБВГДЕЄЖЗИ";
	struct slice s = text_trim(line);

	if (s.len && s.at[0] == '(')
		s = from_byte(s, 1);
	if (s.len < 3)
		return -1;
	int letter = -1;
	size_t took = 1;
	if (s.at[0] >= 'A' && s.at[0] <= 'Z') {
		letter = s.at[0] - 'A';
		*cyrillic = false;
	} else if ((unsigned char)s.at[0] == 0xd0) {
		for (size_t i = 0; letters[i]; i += 2)
			if (memcmp(letters + i, s.at, 2) == 0)
				letter = (int)i / 2;
		took = 2;
		*cyrillic = true;
	}
	if (letter < 0 || s.len < took + 2 || !strchr(".):", s.at[took]) || !is_space(s.at[took + 1]))
		return -1;
	return letter;
}

void asked_read(struct slice question, struct asked *a)
{
	static const char *const numbers[] = {
		"how many", "how much", "how old", "how long", "how far", "how fast", "how tall", "what number",
		"what is the number", "what is the total", "what is the sum", "what is the average", "what is the value",
		"what is the probability", "what percent", "calculate", "compute", "evaluate", "what year", "which year",
		"what time", "скільки", "яка кількість", "яке число", "яка сума", "яка ціна", "який відсоток", "обчисли",
		"порахуй", "розрахуй", "чому дорівнює", "якому році", "котра година", "о котрій", "сколько",
	};
	static const char *const dates[] = { "date", "mm/dd", "yyyy", "дата", "дату", "якого числа" };
	char folded[QUESTION_TAIL];
	struct slice tail = last_bytes(question, QUESTION_TAIL), line, rest = tail;
	bool cyrillic = false;

	*a = (struct asked){ 0 };
	while (line_next(&rest, &line)) {
		int letter = option_line(line, &cyrillic);
		if (letter == 0)
			a->options = 1;
		else if (letter > 0 && (unsigned)letter == a->options && cyrillic == a->cyrillic_options)
			a->options++;
		if (letter == 0)
			a->cyrillic_options = cyrillic;
	}
	if (a->options < 2)
		a->options = 0;
	fold(tail, folded);
	struct slice text = slice_of(folded, tail.len);
	for (unsigned i = 0; i < sizeof dates / sizeof *dates && !a->date; i++)
		a->date = contains(text, dates[i]);
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers && !a->number; i++)
		a->number = contains(text, numbers[i]);
}

/* ---- normalising ---- */

struct out {
	char at[VALUE_MAX + 1];
	size_t len;
};

static void put(struct out *o, char c)
{
	if (o->len < VALUE_MAX)
		o->at[o->len++] = c;
}

/* Takes Markdown, TeX and typography away, and case; one space for any white space. */
static void plain(struct slice s, struct out *o)
{
	static const struct { const char *from, *to; } same[] = {
		{ "\\text{", "{" }, { "\\mathrm{", "{" }, { "\\textbf{", "{" }, { "\\mathbf{", "{" }, { "\\dfrac", "\\frac" },
		{ "\\left", "" }, { "\\right", "" }, { "\\,", "" }, { "\\!", "" }, { "\\;", "" }, { "\\(", "" }, { "\\)", "" },
		{ "\\[", "" }, { "\\]", "" }, { "\\%", "%" }, { "\\$", "" }, { "^\\circ", "" }, { "**", "" }, { "__", "" },
		{ "’", "'" }, { "ʼ", "'" }, { "`", "" }, { "“", "" }, { "”", "" }, { "„", "" }, { "«", "" }, { "»", "" },
		{ "−", "-" }, { "–", "-" }, { "—", "-" }, { "\xc2\xa0", " " }, { "\xe2\x80\xaf", " " }, { "€", "" }, { "£", "" },
		{ "₴", "" }, { "¥", "" }, { "$", "" }, { "\"", "" }, { "*", "" },
	};
	char folded[VALUE_MAX];

	if (s.len > VALUE_MAX)
		s.len = VALUE_MAX;
	fold(s, folded);
	struct slice in = slice_of(folded, s.len);
	o->len = 0;
	while (in.len) {
		unsigned i = 0, n = sizeof same / sizeof *same;
		while (i < n && !starts(in, same[i].from))
			i++;
		if (i < n) {
			for (const char *t = same[i].to; *t; t++)
				put(o, *t);
			in = from_byte(in, strlen(same[i].from));
		} else {
			char c = is_space(in.at[0]) ? ' ' : in.at[0];
			if (c != ' ' || (o->len && o->at[o->len - 1] != ' '))
				put(o, c);
			in = from_byte(in, 1);
		}
	}
}

/* Digits that go on after a separator at i, as in 12.50: where they end; i if there are none. */
static size_t digits_after(const struct out *o, size_t i)
{
	size_t k = i + 1;

	while (k < o->len && is_digit(o->at[k]))
		k++;
	return k > i + 1 ? k : i;
}

/* Numbers in one form: 1,875 and 1 875 are 1875; 3,50 and 3.5 are 3.5; 05 is 5; 12.00 is 12. What has the same
 * separator twice is a list or a date (1,4,9 and 05.06.2024), and keeps it. */
static void numbers_alike(struct out *o)
{
	struct out made = { .len = 0 };
	char chain = 0;                                      /* the separator of the list or date we are in */

	for (size_t i = 0; i < o->len;) {
		bool opens = i == 0 || (!is_digit(o->at[i - 1]) && (o->at[i - 1] != '.' || chain == '.'));
		if (!is_digit(o->at[i]) || !opens) {
			if (o->at[i] != chain)
				chain = 0;
			put(&made, o->at[i++]);
			continue;
		}
		size_t from = made.len, n = 0;
		for (; i < o->len && is_digit(o->at[i]); i++, n++)
			put(&made, o->at[i]);
		while (n <= 3 && !chain && i < o->len && (o->at[i] == ',' || o->at[i] == ' ' || o->at[i] == '\'') &&
		       digits_after(o, i) == i + 4) {
			for (size_t k = 1; k <= 3; k++)
				put(&made, o->at[i + k]);
			i += 4;
		}
		while (made.len - from > 1 && made.at[from] == '0') {
			memmove(made.at + from, made.at + from + 1, made.len - from - 1);
			made.len--;
		}
		if (i == o->len || (o->at[i] != '.' && o->at[i] != ','))
			continue;
		size_t end = digits_after(o, i), point = made.len;
		if (chain == o->at[i] || (end < o->len && o->at[end] == o->at[i] && digits_after(o, end) > end))
			chain = o->at[i];
		if (chain || end == i)
			continue;
		put(&made, '.');
		for (i++; i < end; i++)
			put(&made, o->at[i]);
		while (made.len > point && (made.at[made.len - 1] == '0' || made.len - 1 == point))
			made.len--;
	}
	*o = made;
}

/* "10 hours", "75 %": the number alone. Anything with two numbers stays as it is. */
static void number_alone(struct out *o)
{
	size_t i = 0, words = 0;

	if (i < o->len && (o->at[i] == '-' || o->at[i] == '+'))
		i++;
	if (i == o->len || !is_digit(o->at[i]))
		return;
	while (i < o->len && (is_digit(o->at[i]) || (o->at[i] == '.' && i + 1 < o->len && is_digit(o->at[i + 1]))))
		i++;
	size_t end = i;
	if (i < o->len && o->at[i] == '%')
		i++;
	if (i < o->len && o->at[i] != ' ')
		return;
	for (; i < o->len; i++) {
		if (o->at[i] == ' ')
			words++;
		else if (!is_word(o->at[i]) || is_digit(o->at[i]))
			return;
	}
	if (words <= 3)
		o->len = end;
}

/* "that 50 people got on": when a number was asked for and there is one, it is the answer. The same for a date. */
static void asked_number(const struct asked *a, struct out *o)
{
	size_t from = 0, end = 0, numbers = 0, seps = 0;

	if (!a->number && !a->date)
		return;
	for (size_t i = 0; i < o->len;) {
		if (!is_digit(o->at[i])) {
			i++;
			continue;
		}
		numbers++;
		from = i > 0 && o->at[i - 1] == '-' && (i == 1 || o->at[i - 2] == ' ') ? i - 1 : i;
		for (seps = 0; i < o->len && (is_digit(o->at[i]) || (i + 1 < o->len && strchr("./:-", o->at[i]) &&
		                                                       is_digit(o->at[i + 1]))); i++)
			seps += !is_digit(o->at[i]);
		end = i;
	}
	if (numbers != 1 || (a->date && seps != 2) || (from && is_word(o->at[from - 1])) || (end < o->len && is_word(o->at[end])) ||
	    memchr(o->at, '\\', o->len) || memchr(o->at, '^', o->len))
		return;
	o->len = end - from;
	memmove(o->at, o->at + from, o->len);
}

static void strip(struct out *o)
{
	static const char *const articles[] = { "the ", "a ", "an " };
	bool more = true;
	size_t from = 0;

	while (more && from < o->len) {
		char a = o->at[from], z = o->at[o->len - 1];
		bool round = memchr(o->at + from, '(', o->len - from) != NULL;
		bool braces = memchr(o->at + from, '{', o->len - from) != NULL;
		more = true;
		if (strchr(" .,;:!?'_", z) || (z == ')' && !round) || (z == '}' && !braces) || z == '\\')
			o->len--;
		else if (strchr(" ,;:!?'_", a) || (a == '.' && !(from + 1 < o->len && is_digit(o->at[from + 1]))))
			from++;
		else if (o->len - from > 2 && ((a == '(' && z == ')') || (a == '{' && z == '}') || (a == '[' && z == ']')) &&
		         !memchr(o->at + from + 1, a, o->len - from - 1))
			from++, o->len--;
		else
			more = false;
	}
	for (unsigned i = 0; i < 3; i++)
		if (starts(slice_of(o->at + from, o->len - from), articles[i]) && o->len - from > strlen(articles[i]) + 1)
			from += strlen(articles[i]);
	o->len -= from;
	memmove(o->at, o->at + from, o->len);
}

/* The letter a value names in a multiple choice: "(C)", "c. text", "Option B", "F: text". */
static bool letter_of(const struct asked *a, struct slice s, struct final *out)
{
	static const char *const before[] = { "option ", "choice ", "letter ", "варіант ", "літера ", "**", "(", "[", "\\text{",
		"$", "*", "\"", " ", "«", ":", "_" };
	static const char *const twins[] = { "A", "а", "B", "в", "C", "с", "E", "е" };   /* Latin letters in a Cyrillic choice */
	char folded[VALUE_MAX];

	if (!a->options)
		return false;
	if (s.len > VALUE_MAX)
		s.len = VALUE_MAX;
	fold(s, folded);
	for (unsigned i = 0; i < sizeof before / sizeof *before;) {
		if (s.len && starts(slice_of(folded, s.len), before[i])) {
			size_t len = strlen(before[i]);
			s = from_byte(s, len);
			memmove(folded, folded + len, s.len);
			i = 0;
		} else {
			i++;
		}
	}
	if (s.len == 0)
		return false;
	size_t took = 1;
	bool upper = s.at[0] >= 'A' && s.at[0] <= 'Z', fine = upper || (s.at[0] >= 'a' && s.at[0] <= 'z');
	if (fine && !a->cyrillic_options)
		fine = (unsigned)(folded[0] - 'a') < a->options;
	if (!fine && a->cyrillic_options && s.len >= 2 && (unsigned char)s.at[0] == 0xd0) {
		took = 2;
		fine = true;
		upper = folded[1] != s.at[1] || folded[0] != s.at[0];
	}
	if (!fine || (s.len > took && is_word(s.at[took])))
		return false;
	/* a small letter, or one that opens a sentence ("A dog"), counts only if punctuation says so */
	if (s.len > took && s.at[took] == ' ' && (!upper || (took == 1 && s.at[0] == 'A')))
		return false;
	out->len = took;
	memcpy(out->at, folded, took);
	for (unsigned i = 0; a->cyrillic_options && took == 1 && i < 8; i += 2)
		if (s.at[0] == twins[i][0]) {
			out->len = 2;
			memcpy(out->at, twins[i + 1], 2);
		}
	return true;
}

/* The value as everyone would have to write it for it to be the same. Empty if nothing is left. */
static bool normalise(const struct asked *a, struct slice value, struct final *out)
{
	struct out o;

	value = text_trim(value);
	if (letter_of(a, value, out))
		return true;
	if (value.len == 0 || value.len > VALUE_MAX)
		return false;
	plain(value, &o);
	const char *equals = o.len ? memrchr(o.at, '=', o.len) : NULL;
	if (equals && equals + 1 < o.at + o.len) {                    /* x = 5, 2 + 3 = 5 */
		o.len -= (size_t)(equals + 1 - o.at);
		memmove(o.at, equals + 1, o.len);
	}
	strip(&o);
	numbers_alike(&o);
	number_alone(&o);
	asked_number(a, &o);
	strip(&o);
	bool says = false;
	for (size_t i = 0; i < o.len; i++)
		says |= is_word(o.at[i]);
	if (!says)
		return false;
	out->len = o.len;
	memcpy(out->at, o.at, o.len);
	return true;
}

static bool has_digit(const struct final *f)
{
	for (size_t i = 0; i < f->len; i++)
		if (is_digit(f->at[i]))
			return true;
	return false;
}

/* ---- the marks ---- */

static bool boxed(const struct asked *a, struct slice s, struct final *out)
{
	size_t at = SIZE_MAX;

	for (int i = 0; i < TRIES && (at = find_last(s, "\\boxed{", at)) != SIZE_MAX; i++) {
		struct slice inside = from_byte(s, at + 7);
		int depth = 1;
		size_t n = 0;
		for (; n < inside.len && depth; n++)
			depth += (inside.at[n] == '{') - (inside.at[n] == '}');
		if (depth == 0 && normalise(a, slice_of(inside.at, n - 1), out))
			return true;
	}
	return false;
}

static bool json_answer(const struct asked *a, struct slice s, struct final *out)
{
	size_t at = SIZE_MAX;

	for (int i = 0; i < TRIES && (at = find_last(s, "\"answer\"", at)) != SIZE_MAX; i++) {
		struct slice v = text_trim(from_byte(s, at + 8));
		if (v.len == 0 || v.at[0] != ':')
			continue;
		v = text_trim(from_byte(v, 1));
		size_t n = 0;
		if (v.len && v.at[0] == '"') {
			v = from_byte(v, 1);
			while (n < v.len && n <= VALUE_MAX && v.at[n] != '"')
				n += v.at[n] == '\\' ? 2 : 1;
			if (n >= v.len || v.at[n] != '"')
				continue;                                /* cut inside: no answer yet */
		} else {
			while (n < v.len && (is_word(v.at[n]) || strchr("+-.", v.at[n])))
				n++;
			if (n == v.len || starts(v, "null"))
				continue;
		}
		struct buf text;
		buf_init(&text, 2 * VALUE_MAX);
		bool found = json_decode_text(slice_of(v.at, n), &text) == ERR_OK && normalise(a, buf_slice(&text), out);
		buf_fini(&text);
		if (found)
			return true;
	}
	return false;
}

/* GSM8K's "#### 42". A heading of level four looks the same, so it must hold a number or be the last line. */
static bool hashes(const struct asked *a, struct slice s, struct final *out)
{
	size_t at = SIZE_MAX;

	for (int i = 0; i < TRIES && (at = find_last(s, "####", at)) != SIZE_MAX; i++) {
		struct slice rest = from_byte(s, at + 4), line;
		if (at && s.at[at - 1] != '\n')
			continue;
		if (!line_next(&rest, &line) || (line.len && line.at[0] == '#') || !normalise(a, line, out))
			continue;
		if (text_trim(rest).len == 0 || (is_digit(out->at[0]) && out->len <= 20))
			return true;
	}
	return false;
}

/* Where a value ends: at a line end, or a full stop that is not inside a number. */
static struct slice value_end(struct slice s)
{
	size_t n = 0;

	while (n < s.len && n <= VALUE_MAX && s.at[n] != '\n') {
		bool stop = s.at[n] == '.' || s.at[n] == '!' || s.at[n] == '?' || s.at[n] == ';';
		if (stop && n > 1 && (n + 1 == s.len || is_space(s.at[n + 1]) || s.at[n + 1] == '*' || s.at[n + 1] == '"'))
			break;
		n++;
	}
	return slice_of(s.at, n);
}

static const char *const nouns[] = { "answer", "відповідь", "відповіддю", "ответ", "ответом", "odpowiedź", "antwort",
	"réponse", "respuesta" };
static const char *const links[] = { ":", "is", "=", "—", "–", "-", "would be", "will be", "must be", "should be", "was",
	"є", "така:", "буде", "это", "ist", "lautet", "est", "es" };

/* After the noun: the link, and the value behind it. False if what follows is not "answer is" in any form. */
static bool linked(struct slice text, struct slice folded, size_t at, struct slice *value)
{
	size_t from = at;

	while (at < folded.len && (folded.at[at] == ' ' || folded.at[at] == '*' || folded.at[at] == '_'))
		at++;
	if (at > from && (starts(from_byte(folded, at), "to ") || starts(from_byte(folded, at), "for ") ||
	                  starts(from_byte(folded, at), "на "))) {        /* the answer to your question is … */
		size_t k = at;
		while (k < folded.len && k < at + VALUE_MAX && !strchr(".\n:", folded.at[k]) &&
		       !starts(from_byte(folded, k), " is "))
			k++;
		if (k < folded.len && folded.at[k] != '.' && folded.at[k] != '\n')
			at = k + (folded.at[k] == ' ');
	}
	for (unsigned i = 0; i < sizeof links / sizeof *links; i++) {
		size_t len = strlen(links[i]);
		if (!starts(from_byte(folded, at), links[i]))
			continue;
		bool wordy = is_word(links[i][len - 1]);
		if (wordy && at + len < folded.len && is_word(folded.at[at + len]))
			continue;
		at += len;
		while (at < folded.len && (is_space(folded.at[at]) || strchr("*:_.", folded.at[at])))
			at++;
		*value = from_byte(text, at);
		return value->len > 0;
	}
	return false;
}

static bool answer_is(const struct asked *a, struct slice text, struct slice folded, struct final *out)
{
	size_t before = SIZE_MAX;

	for (int i = 0; i < TRIES; i++) {
		size_t at = SIZE_MAX, len = 0;
		for (unsigned k = 0; k < sizeof nouns / sizeof *nouns; k++) {
			size_t found = find_last(folded, nouns[k], before);
			if (found != SIZE_MAX && (at == SIZE_MAX || found > at)) {
				at = found;
				len = strlen(nouns[k]);
			}
		}
		if (at == SIZE_MAX)
			return false;
		before = at;
		struct slice rest;
		if ((at && is_word(folded.at[at - 1])) || (at + len < folded.len && is_word(folded.at[at + len])) ||
		    !linked(text, folded, at + len, &rest))
			continue;
		struct slice value = value_end(rest);
		if (letter_of(a, rest, out))
			return true;
		if (a->options || !normalise(a, value, out))
			continue;
		size_t after = rest.len - value.len;
		if (a->date || a->number ? has_digit(out) : after <= AFTER_MAX)
			return true;
	}
	return false;
}

/* A letter without the words: the text is or opens with it, or its end says "(C)" or "option C". */
static bool choice(const struct asked *a, struct slice text, struct final *out)
{
	if (!a->options)
		return false;
	if (letter_of(a, value_end(text), out) && (text.len <= SHORT_CHARS || !is_space(text.at[1])))
		return true;
	struct slice tail = last_bytes(text, SENTENCE_MAX);
	for (size_t i = tail.len; i-- > 0;) {
		bool marked = tail.at[i] == '(' || starts(from_byte(tail, i), "ption ") || starts(from_byte(tail, i), "аріант ");
		struct slice at = from_byte(tail, i);
		if (!marked)
			continue;
		const char *space = tail.at[i] == '(' ? tail.at + i : memchr(at.at, ' ', at.len);
		struct slice letter = from_byte(at, (size_t)(space + 1 - at.at));
		bool upper = letter.len && ((letter.at[0] >= 'A' && letter.at[0] <= 'Z') || (unsigned char)letter.at[0] >= 0x80);
		if (upper && (tail.at[i] != '(' || memchr(letter.at, ')', letter.len < 3 ? letter.len : 3)) &&
		    letter_of(a, letter, out))
			return true;
	}
	return false;
}

/* The last number of the last lines; a date when a date was asked for. */
static bool last_number(const struct asked *a, struct slice text, struct final *out)
{
	struct slice tail = last_bytes(text, SENTENCE_MAX);
	size_t end = tail.len;

	while (end) {
		while (end && !is_digit(tail.at[end - 1]))
			end--;
		size_t from = end, parts = 0;
		while (from && (is_digit(tail.at[from - 1]) ||
		                (from > 1 && strchr("/,.:-", tail.at[from - 1]) && is_digit(tail.at[from - 2])))) {
			from--;
			parts += strchr("/.-", tail.at[from]) != NULL;
		}
		if (from == end)
			return false;
		bool glued = from && (is_word(tail.at[from - 1]) || tail.at[from - 1] == '#');   /* x2, #5 */
		if (from && tail.at[from - 1] == '-' && (from == 1 || !is_word(tail.at[from - 2])))
			from--;
		if (!glued && (!a->date || parts == 2))
			return normalise(a, slice_of(tail.at + from, end - from), out);
		end = from;
	}
	return false;
}

/* ---- the whole ---- */

/* The end of the text without what stands in code fences. False if that is code, or nothing. */
static bool prose(struct slice text, char *to, size_t *len)
{
	struct slice rest = text, line;
	struct fence f = { 0 };
	size_t n = 0, lines = 0, code = 0;

	while (line_next(&rest, &line)) {
		if (fence_line(&f, line) || f.mark)
			continue;
		lines += text_trim(line).len > 0;
		code += line_is_code(line);
		line = last_bytes(line, ANSWER_TAIL - 1);
		if (n + line.len + 1 > ANSWER_TAIL) {               /* keep the end; halved, so that moving costs little */
			size_t keep = n < ANSWER_TAIL / 2 ? n : ANSWER_TAIL / 2;
			if (keep + line.len + 1 > ANSWER_TAIL)
				keep = ANSWER_TAIL - line.len - 1;
			memmove(to, to + n - keep, keep);
			n = keep;
		}
		memcpy(to + n, line.at, line.len);
		n += line.len;
		to[n++] = '\n';
	}
	*len = n;
	return lines > 0 && 2 * code <= lines;
}

void final_of_text(const struct asked *a, struct slice text, bool cut, struct final *out)
{
	char kept[ANSWER_TAIL], folded[ANSWER_TAIL];
	struct slice tail = last_bytes(text, ANSWER_TAIL);
	size_t len = 0;

	out->len = 0;
	if (boxed(a, tail, out) || json_answer(a, tail, out))
		return;
	out->len = 0;
	if (!prose(text, kept, &len))
		return;
	struct slice said = text_trim(slice_of(kept, len));
	if (said.len == 0)
		return;
	fold(said, folded);
	if (hashes(a, said, out) || answer_is(a, said, slice_of(folded, said.len), out) || choice(a, said, out))
		return;
	out->len = 0;
	if (cut)
		return;                                             /* what follows reads the end, and this is not the end */
	if (said.len <= 4 * SHORT_CHARS && text_chars(said) <= SHORT_CHARS && said.len == text.len &&
	    normalise(a, said, out))
		return;
	out->len = 0;
	if ((a->number || a->date) && !a->options && last_number(a, said, out))
		return;
	out->len = 0;
}

void final_of_json(const struct asked *a, struct slice text, struct final *out)
{
	if (!json_answer(a, last_bytes(text, ANSWER_TAIL), out))
		out->len = 0;
}
