/* structure.c - is the answer laid out? Lists, headings or bold, code or tables, paragraphs. Worth little (0.05): it
 * breaks ties between answers that are otherwise alike.
 *
 * Limits  the first SCORED_BYTES of each answer. */
#include "scoring/round.h"

/* **bold** or __bold__, closed in the same line. */
static bool has_bold(struct slice line)
{
	for (size_t i = 0; i + 1 < line.len; i++) {
		char c = line.at[i];
		if ((c != '*' && c != '_') || line.at[i + 1] != c)
			continue;
		for (size_t k = i + 3; k + 1 < line.len; k++)
			if (line.at[k] == c && line.at[k + 1] == c)
				return line.at[i + 2] != ' ';
		return false;
	}
	return false;
}

/* The line under a table's head: |---|:-:| */
static bool is_table_rule(struct slice line)
{
	struct slice s = text_trim(line);
	size_t bars = 0, dashes = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (!strchr("|-: ", s.at[i]) || !s.at[i])
			return false;
		bars += s.at[i] == '|';
		dashes += s.at[i] == '-';
	}
	return bars > 0 && dashes > 1;
}

static double structure_of(struct slice text)
{
	struct slice rest = text, line;
	struct fence f = { 0 };
	unsigned items = 0;
	bool marked = false, block = false, gap = false, blank = false;

	while (line_next(&rest, &line)) {
		if (fence_line(&f, line)) {
			block = true;
			continue;
		}
		if (f.mark)
			continue;
		if (text_trim(line).len == 0) {
			blank = true;
			continue;
		}
		gap |= blank;
		items += line_is_list_item(line);
		marked = marked || line_is_heading(line) || has_bold(line);
		block = block || is_table_rule(line);
	}
	return 0.4 * (items >= 2) + 0.2 * marked + 0.2 * block + 0.2 * gap;
}

void score_structure(struct round *r)
{
	if (r->kind != ROUND_TEXT)
		return;
	for (int i = 0; i < r->n; i++) {
		struct slice text = r->reading[i].text;
		if (text.len > SCORED_BYTES)
			text.len = SCORED_BYTES;
		if (r->reading[i].in)
			round_set(r, i, CRITERION_structure, structure_of(text));
	}
}
