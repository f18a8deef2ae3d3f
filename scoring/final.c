/* final.c - what does an answer come to? The final answer of a text, normalised so that equal ones are equal bytes.
 *
 * Looked for in this order, the last of its kind in the text: \boxed{}, JSON "answer", #### x, "answer is" or
 * "answer:" (in several languages), the letter of a multiple choice, a short text as a whole, the last number when
 * the question asks for one. Code has none: two programs may be right in different words, and wrong in the same.
 *
 * Limits  only the last ANSWER_TAIL bytes are read (of prose: outside code fences); every search is one pass over them, or a bounded number of passes (TRIES).
 * Ideas   the marks are those of the common benchmarks (MATH, GSM8K, MMLU) and of what models say unasked. */
#include "scoring/bytes.h"
#include "scoring/round.h"

#include "proxy/base/ask.h"

enum {
	TRIES = 8,                       /* marks looked at, from the last one back */
	AFTER_MAX = 240,                 /* bytes that may follow a value that is words: else it was a heading */
	SENTENCE_MAX = 300,              /* the last number, and a letter in brackets, are looked for in so many last bytes */
};

static size_t find_last(struct slice s, const char *what, size_t before)
{
	size_t len = strlen(what);

	for (size_t i = before < s.len ? before : s.len; i-- > 0;)
		if (s.at[i] == what[0] && s.len - i >= len && memcmp(s.at + i, what, len) == 0)
			return i;
	return SIZE_MAX;
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
		if (depth == 0 && alike_value(a, slice_of(inside.at, n - 1), out))
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
		bool found = json_decode_text(slice_of(v.at, n), &text) == ERR_OK && alike_value(a, buf_slice(&text), out);
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
		if (!line_next(&rest, &line) || (line.len && line.at[0] == '#') || !alike_value(a, line, out))
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
		if (alike_letter(a, rest, out))
			return true;
		if (a->options || !alike_value(a, value, out))
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
	if (alike_letter(a, value_end(text), out) && (text.len <= SHORT_CHARS || !is_space(text.at[1])))
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
		    alike_letter(a, letter, out))
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
			return alike_value(a, slice_of(tail.at + from, end - from), out);
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
	bytes_fold(said, folded);
	if (hashes(a, said, out) || answer_is(a, said, slice_of(folded, said.len), out) || choice(a, said, out))
		return;
	out->len = 0;
	if (cut)
		return;                                             /* what follows reads the end, and this is not the end */
	if (said.len <= 4 * SHORT_CHARS && text_chars(said) <= SHORT_CHARS && said.len == text.len &&
	    alike_value(a, said, out))
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
