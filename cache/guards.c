/* guards.c - see guards.h. Each guard is a function that says whether it forbids; the table calls them in order. */
#include "cache/guards.h"

const char *const guard_name[GUARD_COUNT] = {
	"",
#define X(name, says) #name,
	GUARDS(X)
#undef X
};

const char *const guard_says[GUARD_COUNT] = {
	"",
#define X(name, says) says,
	GUARDS(X)
#undef X
};

struct case_ {
	enum guards mode;
	const struct words *a, *b;
	const struct pairing *p;
	unsigned strong_a, strong_b;          /* strong words left over */
	unsigned weak_a, weak_b;              /* weak words left over */
	unsigned soft;                        /* soft ones, on both sides */
};

static const struct word *partner(const struct case_ *c, size_t i)
{
	return c->p->a[i] >= 0 ? &c->b->word[c->p->a[i]] : NULL;
}

/* Something is marked on one word of a pair only. When that happens one way round for one word and the other way
 * round for another, the mark has moved. */
static bool moved(const struct case_ *c, bool (*marked)(const struct word *, unsigned), unsigned what)
{
	bool lost = false, gained = false;

	for (size_t i = 0; i < c->a->n; i++) {
		const struct word *w = &c->a->word[i], *v = partner(c, i);

		if (!v || marked(w, what) == marked(v, what))
			continue;
		if (marked(w, what))
			lost = true;
		else
			gained = true;
	}
	return lost && gained;
}

static bool is_negated(const struct word *w, unsigned unused)
{
	(void)unused;
	return w->flags & WORD_NEGATED;
}

/* How often the verb is negated. In a language that heaps negators up (ніколи не, ne … jamais) they are one, or what
 * they stand beside says how many. */
static unsigned negations(const struct words *w)
{
	return w->negators ? w->negators : w->concords > 0;
}

/* Two negators are not none: neither in "ніколи не", which is one negation, nor in "not without". */
static bool guard_neg(const struct case_ *c)
{
	return negations(c->a) != negations(c->b) || c->a->absences != c->b->absences || moved(c, is_negated, 0);
}

/* Is it the same time that is asked about? "When was it founded" may do without its auxiliary. */
static bool other_time(const struct case_ *c)
{
	if (c->a->tense != c->b->tense
	    && (c->a->class != CLASS_WHEN || c->a->tense == TENSE_FUTURE || c->b->tense == TENSE_FUTURE))
		return true;
	for (size_t i = 0; i < c->a->n; i++) {
		const struct word *v = partner(c, i);

		if (v && (c->a->word[i].flags ^ v->flags) & WORD_PAST)
			return true;
	}
	return false;
}

/* What, how and yes/no may stand for each other: their keywords say what is asked for. */
static bool guard_qc(const struct case_ *c)
{
	const unsigned mix = 1u << CLASS_PLAIN | 1u << CLASS_LIST | 1u << CLASS_HOW | 1u << CLASS_YES_NO;

	return (c->a->classes & ~mix) != (c->b->classes & ~mix) || other_time(c)
		|| (c->a->modal != c->b->modal && c->a->class == CLASS_YES_NO && c->b->class == CLASS_YES_NO);
}

static bool same_number(const struct word *w, const struct word *v)
{
	return w->terms[0] == v->terms[0];
}

static size_t next_number(const struct words *w, size_t i)
{
	while (i < w->n && !(w->word[i].flags & WORD_NUMBER))
		i++;
	return i;
}

/* The same numbers, each as often; their order is another guard's. */
static bool guard_num(const struct case_ *c)
{
	bool used[WORDS_MAX] = { false };
	size_t i, j, left = 0;

	for (j = next_number(c->b, 0); j < c->b->n; j = next_number(c->b, j + 1))
		left++;
	for (i = next_number(c->a, 0); i < c->a->n; i = next_number(c->a, i + 1)) {
		for (j = next_number(c->b, 0); j < c->b->n; j = next_number(c->b, j + 1))
			if (!used[j] && same_number(&c->a->word[i], &c->b->word[j]))
				break;
		if (j == c->b->n)
			return true;
		used[j] = true;
		left--;
	}
	return left > 0;
}

static bool all_quoted_paired(const struct words *w, const int8_t *pair)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->word[i].flags & WORD_QUOTED && pair[i] == -1)
			return false;
	return true;
}

/* Quotation marks on one side only are a matter of style, if all that stands in them is on the other side too. */
static bool guard_quo(const struct case_ *c)
{
	if (c->a->quoted == c->b->quoted)
		return false;
	if (c->a->quoted && c->b->quoted)
		return true;
	return !all_quoted_paired(c->a, c->p->a) || !all_quoted_paired(c->b, c->p->b);
}

static bool keeps_place(const struct word *w)
{
	return w->flags & (WORD_NAME | WORD_CAPS | WORD_NUMBER | WORD_QUOTED);
}

static bool is_cyrillic(struct slice s)
{
	return s.len && ((unsigned char)s.at[0] & 0xfc) == 0xd0;   /* U+0400 to U+04FF */
}

/* Have two words, and nothing else, traded places? "Does a dog chase a cat", "does a cat chase a dog". Neighbours may
 * (kitchen light, light kitchen), unless both have an article (is a tomato a fruit) or are all there is (what can kill
 * a shark). Where cases tell who does what, word order is free, but then a trade shows in the endings of both: кіт їсть мишу, миша їсть кота. */
static bool traded(const struct case_ *c)
{
	size_t at[2], n = 0;
	bool bare;

	if (c->a->n != c->b->n || (c->a->choice && c->b->choice))
		return false;
	for (size_t i = 0; i < c->a->n; i++) {
		if (c->p->a[i] == (int8_t)i || (c->p->a[i] == -2 && c->p->b[i] == -2))
			continue;
		if (n == 2 || c->p->a[i] < 0)
			return false;
		at[n++] = i;
	}
	if (n < 2)
		return false;
	bare = c->p->n == 2 && (c->a->class == CLASS_LIST || c->a->class == CLASS_WHO);
	for (size_t k = 0; k < 2; k++) {
		const struct word *w = &c->a->word[at[k]];

		if (w->role || partner(c, at[k])->role)
			return false;                 /* "in the kitchen" may stand anywhere */
		if (is_cyrillic(w->text) ? slice_is(w->text, partner(c, at[k])->text)
				: at[1] - at[0] < 2 && !bare && !(w->flags & partner(c, at[k])->flags & WORD_ARTICLE))
			return false;
	}
	return true;
}

/* Names, numbers and quoted words that both have must come in one order, unless both offer a choice. */
static bool guard_order(const struct case_ *c)
{
	int last = -1;
	size_t i, j = 0;

	if (traded(c))
		return true;
	if (c->a->choice && c->b->choice)
		return false;
	for (i = 0; i < c->a->n; i++) {
		const struct word *v = partner(c, i);

		if (!v || !(keeps_place(&c->a->word[i]) || keeps_place(v) || (c->a->sequence && c->b->sequence)))
			continue;
		if (c->p->a[i] < last)
			return true;
		last = c->p->a[i];
	}
	/* Repeats have no partner: 5 - 3 + 5 is not 5 - 5 + 3. */
	for (i = next_number(c->a, 0); i < c->a->n; i = next_number(c->a, i + 1), j++) {
		j = next_number(c->b, j);
		if (j == c->b->n)
			break;
		if (!same_number(&c->a->word[i], &c->b->word[j]))
			return true;
	}
	return false;
}

static bool in_order(const struct case_ *c)
{
	int last = -1;

	for (size_t i = 0; i < c->a->n; i++) {
		if (c->p->a[i] < 0)
			continue;
		if (c->p->a[i] < last)
			return false;
		last = c->p->a[i];
	}
	return true;
}

static bool has_role(const struct word *w, unsigned role)
{
	return w->role == role;
}

static bool opposed(unsigned a, unsigned b)
{
	static const uint8_t pairs[][2] = {
		{ ROLE_FROM, ROLE_TO }, { ROLE_BEFORE, ROLE_AFTER }, { ROLE_WITH, ROLE_WITHOUT },
		{ ROLE_OVER, ROLE_UNDER }, { ROLE_FROM, ROLE_FOR },
	};

	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if ((a == pairs[i][0] && b == pairs[i][1]) || (a == pairs[i][1] && b == pairs[i][0]))
			return true;
	return false;
}

static bool guard_swap(const struct case_ *c)
{
	for (size_t i = 0; i < c->a->n; i++) {
		const struct word *v = partner(c, i);

		if (v && opposed(c->a->word[i].role, v->role))
			return true;
	}
	/* "Was Tom hit by Jerry" is "did Jerry hit Tom", never "did Tom hit Jerry". */
	for (size_t i = 0; i < c->a->n; i++) {
		const struct word *v = partner(c, i);

		if (v && (c->a->word[i].role == ROLE_BY) != (v->role == ROLE_BY) && in_order(c))
			return true;
	}
	for (unsigned role = ROLE_FROM; role < WORD_ROLES; role++)
		if (moved(c, has_role, role))
			return true;
	return false;
}

static bool guard_extra(const struct case_ *c)
{
	return c->mode == GUARDS_STRICT && (c->strong_a || c->strong_b);
}

static bool guard_sub(const struct case_ *c)
{
	return (c->strong_a && c->strong_b) || (c->weak_a && c->weak_b);
}

static bool name_left(const struct words *w, const int8_t *pair)
{
	for (size_t i = 0; i < w->n; i++)
		if (pair[i] == -1 && w->word[i].flags & (WORD_NAME | WORD_CAPS | WORD_QUOTED))
			return true;
	return false;
}

/* Of what an alias stands for a third may be left out, but no name. */
static bool alias_broken(const struct words *w, const int8_t *pair)
{
	unsigned words[256] = { 0 }, left[256] = { 0 };

	for (size_t i = 0; i < w->n; i++) {
		words[w->word[i].alias]++;
		left[w->word[i].alias] += pair[i] == -1;
	}
	for (size_t k = 1; k < 256; k++)
		if (left[k] * 3 > words[k])
			return true;
	return false;
}

static bool guard_ent(const struct case_ *c)
{
	return name_left(c->a, c->p->a) || name_left(c->b, c->p->b)
		|| alias_broken(c->a, c->p->a) || alias_broken(c->b, c->p->b);
}

/* A left-over word whose opposite is anywhere on the other side. */
static bool has_opposite(const struct words *w, const int8_t *pair, const struct words *other)
{
	for (size_t i = 0; i < w->n; i++) {
		if (pair[i] != -1 || !w->word[i].contrast)
			continue;
		for (size_t j = 0; j < other->n; j++)
			if (other->word[j].contrast == (w->word[i].contrast ^ 1))
				return true;
	}
	return false;
}

static bool guard_contrast(const struct case_ *c)
{
	return has_opposite(c->a, c->p->a, c->b) || has_opposite(c->b, c->p->b, c->a);
}

/* Pairs that say something: weak words do not, a word meant by an alias on both sides does. */
static unsigned evidence(const struct case_ *c)
{
	unsigned n = 0;

	for (size_t i = 0; i < c->a->n; i++) {
		const struct word *v = partner(c, i);

		n += v && !(c->a->word[i].flags & v->flags & WORD_WEAK);
	}
	return n;
}

/* How many pairs are enough? When both ask alike two words that are the same will do, and three when others are
 * left over; when one is no question at all (a title, a command) or the kinds differ, it takes more. */
static unsigned needed(const struct case_ *c, unsigned alike)
{
	enum words_class a = c->a->class, b = c->b->class;

	if (a == b)
		return alike;
	if (c->mode == GUARDS_STANDARD || a == CLASS_PLAIN || b == CLASS_PLAIN)
		return 3;
	return 4;
}

static bool left_over(const struct case_ *c)
{
	return c->strong_a || c->strong_b || c->weak_a || c->weak_b || c->soft;
}

static bool guard_short(const struct case_ *c)
{
	return !left_over(c) && evidence(c) < needed(c, 2);
}

static bool guard_evid(const struct case_ *c)
{
	return left_over(c) && evidence(c) < needed(c, 3);
}

static bool (*const guard_of[GUARD_COUNT])(const struct case_ *) = {
	NULL,
#define X(name, says) guard_##name,
	GUARDS(X)
#undef X
};

static void count_left(const struct words *w, const int8_t *pair, unsigned *strong, unsigned *weak, unsigned *soft)
{
	for (size_t i = 0; i < w->n; i++) {
		if (pair[i] != -1)
			continue;
		if (w->word[i].flags & WORD_SOFT)
			++*soft;
		else if (w->word[i].flags & WORD_WEAK)
			++*weak;
		else
			++*strong;
	}
}

unsigned guards_verdicts(enum guards mode, const struct words *a, const struct words *b, const struct pairing *p)
{
	struct case_ c = { .mode = mode, .a = a, .b = b, .p = p };
	unsigned verdicts = 0;

	count_left(a, p->a, &c.strong_a, &c.weak_a, &c.soft);
	count_left(b, p->b, &c.strong_b, &c.weak_b, &c.soft);
	for (unsigned i = GUARD_NONE + 1; i < GUARD_COUNT; i++)
		if (guard_of[i](&c))
			verdicts |= 1u << i;
	return verdicts;
}

enum guard guards_first(unsigned verdicts)
{
	return verdicts ? (enum guard)__builtin_ctz(verdicts) : GUARD_NONE;
}
