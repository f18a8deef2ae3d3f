/* round.h - inside scoring/ only: what the criteria share while N answers are being compared.
 *
 * A round is one call of scoring_pick(): its arena holds what was read from the answers, each of which is read
 * once. A criterion is a function of the round that sets its value for every candidate that is in, and whether
 * it is active. */
#ifndef SCORING_ROUND_H
#define SCORING_ROUND_H

#include "scoring/scoring.h"

enum {
	FINAL_MAX = 160,                 /* bytes of a final answer after normalising */
	ANSWER_TAIL = 16 << 10,          /* a final answer is looked for in the last bytes of an answer */
	LOOP_TAIL = 8 << 10,
	SHORT_CHARS = 40,                /* a text this short is its own final answer */
	VALUE_MAX = 120,                 /* bytes of a final answer as written; a longer one is prose */
};

/* What an answer comes to. len 0: nothing. */
struct final {
	char at[FINAL_MAX];
	size_t len;
};

/* What a question lets one expect. */
struct asked {
	unsigned options;                /* multiple choice: how many, 0: it is not */
	bool cyrillic_options;           /* А Б В rather than A B C */
	bool number, date;               /* asks for a number; for a date */
};

struct reading {
	bool in;                         /* did not fail */
	struct slice text;               /* without white space around it */
	size_t chars;                    /* code points of text */
	const struct bag *bag;           /* NULL: no memory */
};

enum round_kind { ROUND_TEXT, ROUND_JSON, ROUND_CALLS };   /* CALLS: at least one candidate calls a tool */

struct round {
	const struct scoring *scoring;
	const struct scoring_question *question;
	const struct candidate *candidate;
	struct score *score;
	int n, alive;
	enum round_kind kind;
	struct reading reading[CANDIDATES_MAX];
	struct arena arena;
};

#define CRITERION(name, weight, function, help) void function(struct round *r);
#include "scoring/criteria.def"
#undef CRITERION

static inline void round_set(struct round *r, int i, enum criterion k, double value)
{
	r->score[i].value[k] = value;
	r->score[i].active[k] = true;
}

/* The parts of struct scoring that criteria read. */
struct forbidden;
struct scoring {
	struct scoring_options options;
	const struct lexicon *lexicon;
	struct forbidden *forbidden;     /* NULL: none */
};

/* forbidden.c */
must_use enum err forbidden_new(struct slice list, const struct lexicon *l, struct forbidden **made, unsigned *skipped);
void forbidden_free(struct forbidden *f);

/* asked.c */
void asked_read(struct slice question, struct asked *a);

/* alike.c: both are false, and *out means nothing, if there is no such thing. */
bool alike_letter(const struct asked *a, struct slice value, struct final *out);   /* "(C)", "c. text", "Option B" */
bool alike_value(const struct asked *a, struct slice value, struct final *out);    /* as all who mean it must write it */

/* final.c */
void final_of_text(const struct asked *a, struct slice text, bool cut, struct final *out);
void final_of_json(const struct asked *a, struct slice text, struct final *out);     /* its "answer", if it has one */

/* agreement.c: the final answer of a candidate of any kind. */
void final_of(const struct scoring_question *q, const struct asked *a, const struct candidate *c, struct final *out);

/* lines.c: text seen as lines, some of them inside code fences. */
struct fence {
	char mark;                       /* ` or ~; 0: outside */
	size_t run;                      /* marks that opened it */
	bool data;                       /* it is said to hold json or text, not code */
};
bool line_next(struct slice *rest, struct slice *line);       /* without its line end; false after the last */
bool fence_line(struct fence *f, struct slice line);          /* takes one line; true if it opens or closes a fence */
struct slice text_trim(struct slice s);                       /* without white space of any kind around it */
size_t text_chars(struct slice s);                            /* code points */
bool line_is_list_item(struct slice line);
bool line_is_heading(struct slice line);
bool line_is_code(struct slice line);                         /* a guess: it reads like a program */

/* json.c */
bool json_hash(struct slice text, uint64_t *hash);            /* false: not one JSON value. Equal values, equal hashes */
int json_calls(struct slice items, uint64_t *hash);           /* how many tool calls; -1: broken. Ids do not count */

/* The end of splitmix64 (Steele et al. 2014) over both; which is first counts. */
static inline uint64_t hash_mix(uint64_t h, uint64_t v)
{
	h = (h * 0xff51afd7ed558ccdu ^ v) + 0x9e3779b97f4a7c15u;
	h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
	h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
	return h ^ (h >> 31);
}

#endif
