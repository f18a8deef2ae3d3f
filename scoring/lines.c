/* lines.c - an answer as lines: fences, lists, headings, lines that read like code. Markdown as models write it
 * (CommonMark with any indentation), not a parser of it. */
#include "scoring/round.h"

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool line_next(struct slice *rest, struct slice *line)
{
	if (rest->len == 0)
		return false;
	const char *end = memchr(rest->at, '\n', rest->len);
	size_t len = end ? (size_t)(end - rest->at) : rest->len, took = end ? len + 1 : len;

	*line = slice_of(rest->at, len && rest->at[len - 1] == '\r' ? len - 1 : len);
	*rest = slice_of(rest->at + took, rest->len - took);
	return true;
}

struct slice text_trim(struct slice s)
{
	while (s.len && is_space(s.at[0]))
		s.at++, s.len--;
	while (s.len && is_space(s.at[s.len - 1]))
		s.len--;
	return s;
}

size_t text_chars(struct slice s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += ((unsigned char)s.at[i] & 0xc0) != 0x80;
	return n;
}

bool fence_line(struct fence *f, struct slice line)
{
	static const char *const data[] = { "json", "text", "txt", "markdown", "md" };
	struct slice s = text_trim(line);
	size_t run = 0;

	if (s.len < 3 || (s.at[0] != '`' && s.at[0] != '~'))
		return false;
	while (run < s.len && s.at[run] == s.at[0])
		run++;
	if (run < 3)
		return false;
	struct slice info = text_trim(slice_of(s.at + run, s.len - run));
	if (f->mark) {
		if (s.at[0] != f->mark || run < f->run || info.len)
			return false;
		*f = (struct fence){ 0 };
		return true;
	}
	if (s.at[0] == '`' && info.len && memchr(info.at, '`', info.len))
		return false;                                    /* ```code``` inside a line */
	*f = (struct fence){ .mark = s.at[0], .run = run };
	for (unsigned i = 0; i < sizeof data / sizeof *data; i++)
		f->data |= slice_is_nocase(info, slice_text(data[i]));
	return true;
}

bool line_is_list_item(struct slice line)
{
	struct slice s = text_trim(line);
	size_t n = 0;

	if (s.len >= 2 && (s.at[0] == '-' || s.at[0] == '*' || s.at[0] == '+'))
		return s.at[1] == ' ' || s.at[1] == '\t';
	if (s.len >= 4 && memcmp(s.at, "•", 3) == 0)
		return true;
	while (n < s.len && n < 4 && is_digit(s.at[n]))
		n++;
	return n && n + 1 < s.len && (s.at[n] == '.' || s.at[n] == ')') && is_space(s.at[n + 1]);
}

bool line_is_heading(struct slice line)
{
	struct slice s = text_trim(line);
	size_t n = 0;

	while (n < s.len && s.at[n] == '#')
		n++;
	return n >= 1 && n <= 6 && n + 1 < s.len && s.at[n] == ' ';
}

/* Keywords that open a statement, and what must follow somewhere in the line for it not to be a sentence. */
static const struct { const char *word, *with; } statements[] = {
	{ "def ", "(" }, { "return ", "" }, { "for ", ":({" }, { "if ", ":({" }, { "elif ", ":" }, { "else:", "" },
	{ "while ", ":({" }, { "import ", "" }, { "from ", "" }, { "class ", ":{" }, { "try:", "" }, { "except", ":" },
	{ "with ", ":" }, { "assert ", "" }, { "#include", "" }, { "function ", "(" }, { "const ", "=" },
	{ "let ", "=" }, { "var ", "=" }, { "public ", "({;" }, { "private ", "({;" }, { "static ", "({;=" }, { "int ", "=;(" },
	{ "SELECT ", "" }, { "@", "" }, { "//", "" }, { "yield ", "" }, { "print(", "" }, { "raise ", "" },
};

bool line_is_code(struct slice line)
{
	struct slice s = text_trim(line);
	bool indented = line.len >= 4 && (line.at[0] == '\t' || memcmp(line.at, "    ", 4) == 0);

	if (s.len == 0)
		return false;
	char last = s.at[s.len - 1];
	if (last == ';' || last == '{' || last == '}' || slice_is(s, SLICE("pass")) || slice_is(s, SLICE("return")) ||
	    slice_is(s, SLICE("break")))
		return true;
	for (unsigned i = 0; i < sizeof statements / sizeof *statements; i++) {
		size_t len = strlen(statements[i].word);
		if (s.len < len || memcmp(s.at, statements[i].word, len) != 0)
			continue;
		const char *with = statements[i].with;
		bool found = !*with && (indented || last != '.');
		for (; *with && !found; with++)
			found = memchr(s.at, *with, s.len) != NULL && last != '.';
		if (found)
			return true;
	}
	/* an indented assignment or call: name, then = ( . [ */
	size_t n = 0;
	while (n < s.len && (is_digit(s.at[n]) || s.at[n] == '_' || (s.at[n] | 32) - 'a' + 0u < 26u))
		n++;
	if (!n || n == s.len || is_digit(s.at[0]))
		return false;
	if (s.at[n] == '(' || s.at[n] == '[' || s.at[n] == '.')
		return indented && n + 1 < s.len && s.at[n + 1] != ' ';
	size_t eq = n + (s.at[n] == ' ');
	return indented && eq < s.len && (s.at[eq] == '=' || (eq + 1 < s.len && s.at[eq + 1] == '='));
}
