/* alike.c - two ways to write one answer become the same bytes: case, Markdown, TeX, quotes, forms of numbers, units
 * after a number, the letter of a multiple choice.
 *
 * Limits  a value longer than VALUE_MAX is prose, not an answer; nothing here reads further. */
#include "scoring/bytes.h"
#include "scoring/round.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

void bytes_fold(struct slice s, char *to)
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
	bytes_fold(s, folded);
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

bool alike_letter(const struct asked *a, struct slice s, struct final *out)
{
	static const char *const before[] = { "option ", "choice ", "letter ", "варіант ", "літера ", "**", "(", "[", "\\text{",
		"$", "*", "\"", " ", "«", ":", "_" };
	static const char *const twins[] = { "A", "а", "B", "в", "C", "с", "E", "е" };   /* Latin letters in a Cyrillic choice */
	char folded[VALUE_MAX];

	if (!a->options)
		return false;
	if (s.len > VALUE_MAX)
		s.len = VALUE_MAX;
	bytes_fold(s, folded);
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

bool alike_value(const struct asked *a, struct slice value, struct final *out)
{
	struct out o;

	value = text_trim(value);
	if (alike_letter(a, value, out))
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
