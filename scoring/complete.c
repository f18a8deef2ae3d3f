/* complete.c - did the answer come to its end? What the upstream says (done_reason) counts first; then what shows:
 * nothing there, a code fence left open, a sentence without its end. For a format: is it JSON; for tools: are the
 * calls well-formed. */
#include "scoring/round.h"

enum { SHORT_WORDS = 12 };               /* a line of so few words may stand without a full stop: a name, a title */

static bool ends_with(struct slice s, const char *what)
{
	size_t len = strlen(what);

	return s.len >= len && memcmp(s.at + s.len - len, what, len) == 0;
}

enum ending { ENDS_CLOSED, ENDS_OPEN, ENDS_DANGLING };

/* How a line ends: with a full stop or the like; with a word; with what calls for more. */
static enum ending ending_of(struct slice line)
{
	static const char *const closed[] = { ".", "!", "?", "…", "。", "！", "？", ")", "]", "}", "\"", "'", "`", "*", "_", "~", "|",
		">", "»", "”", "’", "$", "%", ";" };
	static const char *const dangling[] = { ",", "(", "[", "{", "=", "+", "-", "–", "—", "/", "\\", "&", "<", "«", "“", ":" };
	struct slice s = text_trim(line);

	for (unsigned i = 0; i < sizeof dangling / sizeof *dangling; i++)
		if (ends_with(s, dangling[i]))
			return ENDS_DANGLING;
	for (unsigned i = 0; i < sizeof closed / sizeof *closed; i++)
		if (ends_with(s, closed[i]))
			return ENDS_CLOSED;
	if (s.len >= 3 && ((unsigned char)s.at[s.len - 1] & 0xc0) == 0x80) {     /* an emoji or another sign closes too */
		size_t n = 1;
		while (n < 4 && n < s.len && ((unsigned char)s.at[s.len - n] & 0xc0) == 0x80)
			n++;
		unsigned char lead = (unsigned char)s.at[s.len - n];
		if (lead == 0xf0 || (lead == 0xe2 && n == 3))
			return ENDS_CLOSED;
	}
	return ENDS_OPEN;
}

static size_t words_in(struct slice s, bool *stop)
{
	size_t n = 0;

	*stop = false;
	for (size_t i = 0; i < s.len; i++) {
		bool space = s.at[i] == ' ' || s.at[i] == '\t';
		n += !space && (i == 0 || s.at[i - 1] == ' ' || s.at[i - 1] == '\t');
		*stop |= space && i > 1 && strchr(".!?", s.at[i - 1]) && (unsigned char)s.at[i - 2] > '9';
	}
	return n;
}

static bool is_rule(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!strchr("-=*_ ", s.at[i]) || !s.at[i])
			return false;
	return s.len >= 3;
}

/* A last line that ends with a word is the middle of a sentence, unless lines here do so by habit (verse, lists of
 * names, code), or it is too short to be a sentence. */
static bool mid_sentence(struct slice last, struct slice before, bool braces)
{
	struct slice s = text_trim(last);
	enum ending end = ending_of(s);
	bool stop, link = memmem(s.at, s.len, "://", 3) != NULL && !memchr(s.at, ' ', s.len);

	if (braces)
		return !ends_with(s, "}") && !ends_with(s, "]");
	if (end == ENDS_CLOSED || is_rule(s) || line_is_heading(s) || link)
		return false;
	if (end == ENDS_DANGLING)
		return true;
	if (line_is_code(last) && (before.len == 0 || line_is_code(before)))
		return false;
	size_t words = words_in(s, &stop);
	if (stop)
		return true;
	if (before.len && ending_of(before) == ENDS_OPEN && !line_is_heading(before))
		return false;
	if (before.len && line_is_list_item(last) && line_is_list_item(before))
		return ending_of(before) == ENDS_CLOSED;
	return words > SHORT_WORDS;
}

static double text_complete(struct slice text)
{
	struct slice rest = text, line, last = { 0 }, before = { 0 };
	struct fence f = { 0 };
	bool fenced = false;

	if (text.len == 0)
		return 0;
	while (line_next(&rest, &line)) {
		bool turned = fence_line(&f, line);
		if (text_trim(line).len == 0)
			continue;
		before = last;
		last = line;
		fenced = turned && !f.mark;
	}
	if (f.mark)
		return 0;
	return !fenced && mid_sentence(last, before, text.at[0] == '{') ? 0.3 : 1;
}

void score_complete(struct round *r)
{
	uint64_t hash;

	for (int i = 0; i < r->n; i++) {
		const struct candidate *c = &r->candidate[i];
		double value;
		if (!r->reading[i].in)
			continue;
		if (c->cut)
			value = 0;
		else if (c->tool_calls.len)
			value = json_calls(c->tool_calls, &hash) > 0;
		else if (r->kind == ROUND_JSON)
			value = json_hash(r->reading[i].text, &hash);
		else
			value = text_complete(r->reading[i].text);
		round_set(r, i, CRITERION_complete, value);
	}
}
