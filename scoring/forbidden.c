/* forbidden.c - the operator's list of words and phrases an answer should not have.
 *
 * Every beginning of every phrase ("a", "a b", "a b c") is a hash in one table, marked where a phrase ends. From each
 * word of an answer the table is followed as long as it knows the run, at most FORBIDDEN_WORDS steps, however long the
 * list. Words are whole, without case (those of words_bag: any script); a phrase found twice counts once.
 *
 * Limits  FORBIDDEN_BYTES, FORBIDDEN_PHRASES and FORBIDDEN_WORDS at set-up; the words of SCORED_BYTES of an answer. */
#include "scoring/round.h"

#include <math.h>
#include <stdlib.h>

struct place {
	uint64_t run;                    /* 0: empty */
	uint32_t phrase;                 /* 1 and up: this run is a phrase; 0: only the beginning of one */
};

struct forbidden {
	size_t room, used;               /* of place; room is a power of two */
	struct place *place;
	uint32_t phrases;
};

static uint64_t run_of(uint64_t run, uint64_t token)
{
	uint64_t h = hash_mix(run, token);

	return h + (h == 0);
}

/* Where run is, or the empty place where it would be. */
static struct place *find(const struct forbidden *f, uint64_t run)
{
	size_t at = run & (f->room - 1);

	while (f->place[at].run && f->place[at].run != run)
		at = (at + 1) & (f->room - 1);
	return &f->place[at];
}

static bool grow(struct forbidden *f)
{
	struct forbidden more = { .room = f->room ? 2 * f->room : 64 };

	more.place = calloc(more.room, sizeof *more.place);
	if (!more.place)
		return false;
	for (size_t i = 0; i < f->room; i++)
		if (f->place[i].run)
			*find(&more, f->place[i].run) = f->place[i];
	free(f->place);
	f->place = more.place;
	f->room = more.room;
	return true;
}

static enum err add(struct forbidden *f, const struct bag *bag)
{
	uint64_t run = FORBIDDEN_WORDS;
	struct place *p = NULL;

	if (bag->n > FORBIDDEN_WORDS || f->phrases == FORBIDDEN_PHRASES)
		return ERR_TOO_LARGE;
	for (size_t i = 0; i < bag->n; i++) {
		if (2 * (f->used + 1) > f->room && !grow(f))
			return ERR_NO_MEMORY;
		run = run_of(run, bag->token[i]);
		p = find(f, run);
		f->used += !p->run;
		p->run = run;
	}
	if (!p->phrase)
		p->phrase = ++f->phrases;
	return ERR_OK;
}

enum err forbidden_new(struct slice list, const struct lexicon *l, struct forbidden **made, unsigned *skipped)
{
	struct forbidden *f;
	struct slice line;
	enum err e = ERR_OK;

	*made = NULL;
	*skipped = 0;
	if (list.len > FORBIDDEN_BYTES)
		return ERR_TOO_LARGE;
	f = calloc(1, sizeof *f);
	if (!f)
		return ERR_NO_MEMORY;
	while (!e && line_next(&list, &line)) {
		struct arena a;
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#')
			continue;
		arena_init(&a, 1 << 20);
		struct bag *bag = line.len > FORBIDDEN_WORDS * 1024 ? NULL : words_bag(l, line, &a);
		if (!bag)
			e = line.len > FORBIDDEN_WORDS * 1024 ? ERR_TOO_LARGE : ERR_NO_MEMORY;
		else if (bag->n == 0)
			++*skipped;
		else
			e = add(f, bag);
		arena_fini(&a);
	}
	if (!e && f->phrases) {
		*made = f;
		return ERR_OK;
	}
	forbidden_free(f);
	return e;
}

void forbidden_free(struct forbidden *f)
{
	if (f)
		free(f->place);
	free(f);
}

/* How many of the list's phrases are in the text. seen: a zeroed byte for each phrase. */
static unsigned found_in(const struct forbidden *f, const struct bag *bag, char *seen)
{
	unsigned n = 0;

	for (size_t i = 0; i < bag->n; i++) {
		uint64_t run = FORBIDDEN_WORDS;
		for (size_t k = i; k < bag->n; k++) {
			run = run_of(run, bag->token[k]);
			const struct place *p = find(f, run);
			if (!p->run)
				break;
			if (p->phrase && !seen[p->phrase]) {
				seen[p->phrase] = 1;
				n++;
			}
		}
	}
	return n;
}

void score_forbidden(struct round *r)
{
	const struct forbidden *f = r->scoring->forbidden;
	double value[CANDIDATES_MAX];

	for (int i = 0; i < r->n; i++) {
		value[i] = 1;
		if (!f || !r->reading[i].in)
			continue;
		char *seen = arena_alloc(&r->arena, f->phrases + 1);
		if (!seen || !r->reading[i].bag)
			return;
		unsigned n = found_in(f, r->reading[i].bag, seen);
		value[i] = ldexp(1, -(int)(n < 1000 ? n : 1000));
	}
	for (int i = 0; i < r->n; i++)
		if (r->reading[i].in)
			round_set(r, i, CRITERION_forbidden, value[i]);
}
