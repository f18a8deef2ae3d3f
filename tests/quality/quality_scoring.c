/* quality_scoring.c - is the scorer's pick better than one answer? Over DIR/NAME.jsonl, answers of known quality.
 *
 * usage: quality_scoring DIR
 *
 * Every three (and all five) of a question's candidates are picked from, by the default weights and by the four
 * criteria of the first design with equal weights and the fixed length window. The gain is the label of the pick less
 * the mean label of the three: what one answer is worth. Questions, not picks, are the independent samples: intervals
 * are 95 % bootstraps over questions. Ties go to the lower index, so the order within a three is turned from one to
 * the next. Then one of three is cut off at a random place, and we count how often it is picked; and N = 5 is run with
 * the early stop, candidates arriving in order.
 *
 * Exit 1 if a bar is missed (GAIN_SET at N = 3 by GAIN_BAR points; a cut-off candidate picked in CUT_BAR at most) or its
 * data is not there. */
#include "scoring/scoring.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANSWERS_MAX = 8, RESAMPLES = 2000, SETS_MAX = 64, CUT_LEAST = 80 };

static const char gain_set[] = "m_gsm8k_small";
static const double gain_bar = 6, cut_bar = 5;

static uint64_t seed = 20260101;

static uint64_t random_next(void)                    /* xorshift64*: the same numbers on every machine */
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 2685821657736338717u;
}

struct sample {                                      /* one mean a question */
	double *at;
	size_t n, room;
};

static void sample_add(struct sample *s, double v)
{
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 256;
		s->at = realloc(s->at, s->room * sizeof *s->at);
		if (!s->at)
			abort();
	}
	s->at[s->n++] = v;
}

static double mean(const struct sample *s)
{
	double sum = 0;

	for (size_t i = 0; i < s->n; i++)
		sum += s->at[i];
	return s->n ? sum / (double)s->n : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void interval(const struct sample *s, double *lo, double *hi)
{
	static double means[RESAMPLES];

	*lo = *hi = 0;
	if (s->n == 0)
		return;
	for (int b = 0; b < RESAMPLES; b++) {
		double sum = 0;
		for (size_t i = 0; i < s->n; i++)
			sum += s->at[random_next() % s->n];
		means[b] = sum / (double)s->n;
	}
	qsort(means, RESAMPLES, sizeof *means, by_value);
	*lo = means[RESAMPLES / 40];
	*hi = means[RESAMPLES - 1 - RESAMPLES / 40];
}

static void print_gain(const struct sample *s)
{
	double lo, hi;

	interval(s, &lo, &hi);
	printf("  %+6.1f [%+5.1f %+5.1f]", 100 * mean(s), 100 * lo, 100 * hi);
}

struct cut_count {
	unsigned trials, picked, blind_picked, old_picked;   /* with done_reason; without; the four criteria */
};

struct result {
	char name[64];
	struct sample one, first, three, old_three, five, old_five, best_three, stopped, saved;
	struct cut_count cut;
	unsigned compared, same_winner, same_answers, answers;
	double sketch, ours;                                 /* labels of the winners over the first three */
	unsigned close[CRITERIA];
};

static struct slice text_of(json_t *v)
{
	return slice_of(json_string_value(v), json_string_length(v));
}

static double pick_label(const struct scoring *s, const struct scoring_question *q, const struct candidate *all,
                         const double *label, const int *which, int n, int *picked)
{
	struct candidate c[ANSWERS_MAX];
	struct score score[ANSWERS_MAX];

	for (int i = 0; i < n; i++)
		c[i] = all[which[i]];
	*picked = scoring_pick(s, q, c, n, score);
	return label[which[*picked]];
}

/* One of three is cut at 30 to 90 % of its bytes. */
static void try_cut(const struct scoring *now, const struct scoring *old, const struct scoring_question *q,
                    const struct candidate *all, const int *which, int victim, struct cut_count *count)
{
	struct candidate c[3];
	struct score score[3];

	for (int i = 0; i < 3; i++)
		c[i] = all[which[i]];
	struct slice *t = &c[victim].text;
	if (t->len < CUT_LEAST)
		return;
	t->len = t->len * (30 + random_next() % 61) / 100;
	while (t->len && ((unsigned char)t->at[t->len] & 0xc0) == 0x80)
		t->len--;
	count->trials++;
	count->blind_picked += scoring_pick(now, q, c, 3, score) == victim;
	c[victim].cut = true;
	count->picked += scoring_pick(now, q, c, 3, score) == victim;
	count->old_picked += scoring_pick(old, q, c, 3, score) == victim;
}

static void with_early_stop(const struct scoring *s, const struct scoring_question *q, const struct candidate *all,
                            const double *label, int n, double base, struct result *r)
{
	double got = 0, used = 0;

	for (int turn = 0; turn < n; turn++) {
		struct candidate c[ANSWERS_MAX];
		struct score score[ANSWERS_MAX];
		int arrived = 0;
		while (arrived < n) {
			c[arrived] = all[(turn + arrived) % n];
			arrived++;
			if (scoring_agreed(s, q, c, arrived))
				break;
		}
		got += label[(turn + scoring_pick(s, q, c, arrived, score)) % n];
		used += arrived;
	}
	sample_add(&r->stopped, got / n - base);
	sample_add(&r->saved, 1 - used / n / n);
}

static void compare_sketch(const struct scoring *s, const struct scoring_question *q, const struct candidate *c,
                           const double *label, int n, json_t *measured, struct result *r)
{
	struct score score[ANSWERS_MAX];
	int mine = scoring_pick(s, q, c, n, score);
	json_t *theirs = json_object_get(measured, "winner"), *scores = json_object_get(measured, "scores");

	if (!json_is_integer(theirs))
		return;
	r->compared++;
	r->same_winner += mine == json_integer_value(theirs);
	r->sketch += label[json_integer_value(theirs)];
	r->ours += label[mine];
	for (int i = 0; i < n; i++) {
		json_t *one = json_array_get(scores, (size_t)i);
		for (int k = 0; k < CRITERIA; k++)
			r->close[k] += fabs(json_number_value(json_object_get(one, criterion_info[k].name)) -
			                    score[i].value[k]) < 0.05;
		r->answers++;
	}
}

static void question(const struct scoring *now, const struct scoring *old, json_t *record, struct result *r)
{
	struct scoring_question q = { .text = text_of(json_object_get(record, "question")) };
	json_t *list = json_object_get(record, "candidates");
	int n = (int)json_array_size(list), combos = 0, picked;
	struct candidate c[ANSWERS_MAX];
	double label[ANSWERS_MAX], base = 0, gain = 0, old_gain = 0, best = 0;

	if (n > ANSWERS_MAX)
		n = ANSWERS_MAX;
	for (int i = 0; i < n; i++) {
		json_t *one = json_array_get(list, (size_t)i);
		c[i] = (struct candidate){ .text = text_of(json_object_get(one, "text")), .mean_logprob = NAN };
		label[i] = json_number_value(json_object_get(one, "label"));
		base += label[i] / n;
	}
	compare_sketch(now, &q, c, label, n < 3 ? n : 3, json_object_get(record, "measured_n3"), r);
	sample_add(&r->one, base);
	sample_add(&r->first, label[0]);
	for (int i = 0; i < n; i++)
		for (int j = i + 1; j < n; j++)
			for (int k = j + 1; k < n; k++, combos++) {
				const int turned[3][3] = { { i, j, k }, { j, k, i }, { k, i, j } };
				const int *which = turned[((size_t)combos + r->one.n) % 3];
				double usual = (label[i] + label[j] + label[k]) / 3;
				gain += pick_label(now, &q, c, label, which, 3, &picked) - usual;
				old_gain += pick_label(old, &q, c, label, which, 3, &picked) - usual;
				best += fmax(label[i], fmax(label[j], label[k])) - usual;
				try_cut(now, old, &q, c, which, combos % 3, &r->cut);
			}
	if (combos) {
		sample_add(&r->three, gain / combos);
		sample_add(&r->old_three, old_gain / combos);
		sample_add(&r->best_three, best / combos);
	}
	if (n < 5)
		return;
	gain = old_gain = 0;
	for (int turn = 0; turn < n; turn++) {
		int which[ANSWERS_MAX];
		for (int i = 0; i < n; i++)
			which[i] = (turn + i) % n;
		gain += pick_label(now, &q, c, label, which, n, &picked) / n;
		old_gain += pick_label(old, &q, c, label, which, n, &picked) / n;
	}
	sample_add(&r->five, gain - base);
	sample_add(&r->old_five, old_gain - base);
	with_early_stop(now, &q, c, label, n, base, r);
}

static bool read_set(const struct scoring *now, const struct scoring *old, const char *path, struct result *r)
{
	FILE *in = fopen(path, "r");
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (!in) {
		perror(path);
		return false;
	}
	while ((len = getline(&line, &room, in)) > 0) {
		json_error_t why;
		json_t *record = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, &why);
		if (!record) {
			fprintf(stderr, "%s: %s\n", path, why.text);
			break;
		}
		question(now, old, record, r);
		json_decref(record);
	}
	free(line);
	fclose(in);
	return len <= 0;
}

static double percent(double part, double of)
{
	return of > 0 ? 100 * part / of : 0;
}

static void report(const struct result *set, int n)
{
	printf("Points gained over one answer; 95 %% intervals over questions. old: the four criteria alone, equal weights.\n");
	printf("%-24s %5s %6s %6s  %-22s  %-22s  %6s  %-22s  %-22s\n", "set", "n", "one", "first", "N=3", "N=3 old", "best",
	       "N=5", "N=5 old");
	for (int i = 0; i < n; i++) {
		const struct result *r = &set[i];
		printf("%-24s %5zu %6.1f %6.1f", r->name, r->one.n, 100 * mean(&r->one), 100 * mean(&r->first));
		if (r->three.n) {
			print_gain(&r->three);
			print_gain(&r->old_three);
			printf("  %+6.1f", 100 * mean(&r->best_three));
		}
		if (r->five.n) {
			print_gain(&r->five);
			print_gain(&r->old_five);
		}
		printf("%s\n", r->three.n ? "" : "   (fewer than three candidates)");
	}
	printf("\nOne of three cut off: how often it is picked, with done_reason / by the text alone / old; and N=5 with early stop.\n");
	printf("%-24s %7s %7s %7s %7s    %-22s %9s\n", "set", "trials", "known", "blind", "old", "gain", "saved");
	for (int i = 0; i < n; i++) {
		const struct result *r = &set[i];
		printf("%-24s %7u %6.1f%% %6.1f%% %6.1f%%", r->name, r->cut.trials, percent(r->cut.picked, r->cut.trials),
		       percent(r->cut.blind_picked, r->cut.trials), percent(r->cut.old_picked, r->cut.trials));
		if (r->stopped.n) {
			print_gain(&r->stopped);
			printf("  %6.1f%%", 100 * mean(&r->saved));
		}
		printf("\n");
	}
	printf("\nAgainst measured_n3 (first three candidates): same winner, label of the winner sketch / ours, values within 0.05.\n");
	for (int i = 0; i < n; i++) {
		const struct result *r = &set[i];
		printf("%-24s winner %5.1f%%  %5.1f / %5.1f ", r->name, percent(r->same_winner, r->compared),
		       percent(r->sketch, r->compared), percent(r->ours, r->compared));
		for (int k = 0; k < CRITERIA; k++)
			printf(" %s %.0f%%", criterion_info[k].name, percent(r->close[k], r->answers));
		printf("\n");
	}
}

static int judge(const struct result *set, int n)
{
	double trials = 0, picked = 0;
	const struct result *main_set = NULL;
	int bad = 0;

	for (int i = 0; i < n; i++) {
		trials += set[i].cut.trials;
		picked += set[i].cut.picked;
		if (strcmp(set[i].name, gain_set) == 0)
			main_set = &set[i];
	}
	if (!main_set || !trials) {
		printf("\nBAR NOT MEASURED: %s.jsonl is not there\n", gain_set);
		return 1;
	}
	bool gains = 100 * mean(&main_set->three) >= gain_bar, whole = percent(picked, trials) <= cut_bar;
	printf("\nbar: %s at N=3 %+.1f points (at least %+.1f): %s\n", gain_set, 100 * mean(&main_set->three), gain_bar,
	       gains ? "met" : "MISSED");
	printf("bar: cut-off candidate picked in %.1f %% of %.0f (at most %.1f %%): %s\n", percent(picked, trials), trials,
	       cut_bar, whole ? "met" : "MISSED");
	bad = !gains || !whole;
	return bad;
}

static int is_jsonl(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 6 && strcmp(e->d_name + len - 6, ".jsonl") == 0;
}

int main(int argc, char **argv)
{
	static struct result set[SETS_MAX];
	struct scoring_options o, four = { .length_min = 100, .length_max = 500 };
	struct lexicon_options words = { 0 };
	struct scoring *now, *old;
	struct dirent **names;
	char why[256], path[4096];
	int n = 0, bad = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: quality_scoring DIR\n");
		return 2;
	}
	struct lexicon *l = lexicon_open(&words, why, sizeof why);
	if (!l) {
		fprintf(stderr, "lexicon: %s\n", why);
		return 2;
	}
	scoring_options_init(&o);
	four.weight[CRITERION_length] = four.weight[CRITERION_keywords] = 1;
	four.weight[CRITERION_structure] = four.weight[CRITERION_forbidden] = 1;
	if (scoring_new(&o, (struct slice){ 0 }, l, &now, NULL) || scoring_new(&four, (struct slice){ 0 }, l, &old, NULL))
		return 2;
	int files = scandir(argv[1], &names, is_jsonl, alphasort);
	if (files <= 0) {
		printf("BAR NOT MEASURED: no data in %s\n", argv[1]);
		return 1;
	}
	for (int i = 0; i < files; i++) {
		if (n < SETS_MAX) {
			struct result *r = &set[n++];
			snprintf(path, sizeof path, "%s/%s", argv[1], names[i]->d_name);
			snprintf(r->name, sizeof r->name, "%.*s", (int)strlen(names[i]->d_name) - 6, names[i]->d_name);
			bad |= !read_set(now, old, path, r);
		}
		free(names[i]);
	}
	free(names);
	report(set, n);
	bad |= judge(set, n);
	for (int i = 0; i < n; i++) {
		struct sample *all[] = { &set[i].one, &set[i].first, &set[i].three, &set[i].old_three, &set[i].five,
			&set[i].old_five, &set[i].best_three, &set[i].stopped, &set[i].saved };
		for (size_t k = 0; k < sizeof all / sizeof *all; k++)
			free(all[k]->at);
	}
	scoring_free(now);
	scoring_free(old);
	lexicon_close(l);
	return bad;
}
