/* asked.c - what does a question let one expect: a letter, a number, a date?
 *
 * Limits  only the last QUESTION_TAIL bytes of the question are read, once for its lines and once a phrase. */
#include "scoring/bytes.h"
#include "scoring/round.h"

enum { QUESTION_TAIL = 16 << 10 };

static bool contains(struct slice s, const char *what)
{
	return memmem(s.at, s.len, what, strlen(what)) != NULL;
}

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
	bytes_fold(tail, folded);
	struct slice text = slice_of(folded, tail.len);
	for (unsigned i = 0; i < sizeof dates / sizeof *dates && !a->date; i++)
		a->date = contains(text, dates[i]);
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers && !a->number; i++)
		a->number = contains(text, numbers[i]);
}
