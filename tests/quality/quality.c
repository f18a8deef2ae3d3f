/* quality.c - how well near questions are told apart, on labelled pairs: what `make quality` runs.
 *
 *   quality [-l LANGUAGES] [-d FILE] DATA_FOLDER | PAIRS.tsv …
 *
 * Every *.jsonl of a folder is a set: objects with a, b, label (1: one answer serves both), lang, and measured, the
 * scores of an earlier sketch. Each pair is judged in the three modes at 0.70, with the rules for its language
 * (-l: with these for all). Prints recall, precision, false-positive rate and false hits, writes the pairs judged
 * otherwise than by the sketch, or wrongly, to FILE, and checks the bar. Exit code 1 if that is missed, 2 if
 * there is no data. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/similar.h"

#define THRESHOLD 0.70

enum { MODES = 3, SETS_MAX = 64, NAME_MAX_ = 48 };

static const char *const mode_name[MODES] = {
	[GUARDS_STRICT] = "strict", [GUARDS_STANDARD] = "standard", [GUARDS_OFF] = "off",
};
static const char *const measured_name[MODES] = { "strict", "standard", "jaccard" };

struct counts {
	unsigned positives, negatives, hits, false_hits;
};

struct set {
	char name[NAME_MAX_];
	struct counts mode[MODES], measured[MODES];
};

static struct set sets[SETS_MAX];
static size_t n_sets;
static unsigned differences, by_guard[GUARD_COUNT], by_skip[WORDS_SKIPS];

static struct lexicon *lexicon_for(const char *languages)
{
	static struct {
		char languages[32];
		struct lexicon *l;
	} open[16];
	struct lexicon_options o = { .languages = languages };
	char why[256];
	size_t i;

	for (i = 0; i < 16 && open[i].l; i++)
		if (!strcmp(open[i].languages, languages))
			return open[i].l;
	if (i == 16 || strlen(languages) >= sizeof open[i].languages) {
		fprintf(stderr, "quality: too many languages\n");
		exit(2);
	}
	strcpy(open[i].languages, languages);
	open[i].l = lexicon_open(&o, why, sizeof why);
	if (!open[i].l) {
		fprintf(stderr, "quality: %s\n", why);
		exit(2);
	}
	fputs(lexicon_notes(open[i].l), stderr);
	return open[i].l;
}

static struct set *set_of(const char *name)
{
	for (size_t i = 0; i < n_sets; i++)
		if (!strcmp(sets[i].name, name))
			return &sets[i];
	if (n_sets == SETS_MAX)
		exit(2);
	snprintf(sets[n_sets].name, NAME_MAX_, "%s", name);
	return &sets[n_sets++];
}

static void add(struct counts *c, bool same, bool hit)
{
	if (same) {
		c->positives++;
		c->hits += hit;
	} else {
		c->negatives++;
		c->false_hits += hit;
	}
}

static void judge(const struct lexicon *l, struct slice a, struct slice b, struct verdict out[MODES])
{
	struct words *w, *v;
	struct arena memory;

	arena_init(&memory, 2 * WORDS_ARENA);
	w = words_of(l, a, &memory);
	v = words_of(l, b, &memory);
	if (!w || !v)
		abort();
	for (int mode = 0; mode < MODES; mode++)
		similar_judge((enum guards)mode, THRESHOLD, w, v, &out[mode]);
	arena_fini(&memory);
}

static const char *reason(const struct verdict *v)
{
	return v->skip ? words_skip_name[v->skip] : guard_name[v->guard];
}

/* One pair: counted in its set, and in that of its language. */
static void pair(const char *set, const char *lang, const char *a, const char *b, bool same, const json_t *measured,
	const char *languages, FILE *list)
{
	struct verdict v[MODES];
	char part[NAME_MAX_];

	judge(lexicon_for(languages ? languages : !strcmp(lang, "uk") || !strcmp(lang, "en") ? "uk,en" : lang),
		slice_text(a), slice_text(b), v);
	snprintf(part, sizeof part, "%s %s", set, lang);
	for (int mode = 0; mode < MODES; mode++) {
		bool was = json_number_value(json_object_get(measured, measured_name[mode])) >= THRESHOLD;

		for (int k = 0; k < 2; k++) {
			add(&set_of(k ? part : set)->mode[mode], same, v[mode].hit);
			if (measured)
				add(&set_of(k ? part : set)->measured[mode], same, was);
		}
		if ((measured && was != v[mode].hit) || (!measured && same != v[mode].hit)) {
			differences += measured != NULL;
			if (list)
				fprintf(list, "%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\n", part, mode_name[mode],
					same ? "same" : "different", v[mode].hit ? "hit" : "-", v[mode].similarity,
					reason(&v[mode]), a, b);
		} else if (list && !same && v[mode].hit) {
			fprintf(list, "%s\t%s\tdifferent\tHIT\t%.2f\t\t%s\t%s\n", part, mode_name[mode],
				v[mode].similarity, a, b);
		}
	}
	by_guard[v[GUARDS_STRICT].near ? v[GUARDS_STRICT].guard : 0]++;
	by_skip[v[GUARDS_STRICT].skip]++;
}

static void read_jsonl(const char *path, const char *set, const char *languages, FILE *list)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;

	if (!f) {
		perror(path);
		exit(2);
	}
	while (getline(&line, &room, f) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		const char *a = json_string_value(json_object_get(o, "a")), *b = json_string_value(json_object_get(o, "b"));
		const char *lang = json_string_value(json_object_get(o, "lang"));

		if (a && b && lang)
			pair(set, lang, a, b, json_integer_value(json_object_get(o, "label")) == 1,
				json_object_get(o, "measured"), languages, list);
		json_decref(o);
	}
	free(line);
	fclose(f);
}

/* label, language, a, b. */
static void read_tsv(const char *path, const char *languages, FILE *list)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;

	if (!f) {
		perror(path);
		exit(2);
	}
	while (getline(&line, &room, f) > 0) {
		char *label = strtok(line, "\t\n"), *lang = strtok(NULL, "\t\n");
		char *a = strtok(NULL, "\t\n"), *b = strtok(NULL, "\t\n");

		if (b && *label != '#')
			pair("own pairs", lang, a, b, *label == '1', NULL, languages, list);
	}
	free(line);
	fclose(f);
}

static size_t read_folder(const char *path, const char *languages, FILE *list)
{
	struct dirent **entry;
	int n = scandir(path, &entry, NULL, alphasort);
	size_t found = 0;

	for (int i = 0; i < n; i++) {
		char file[1024], set[NAME_MAX_];
		size_t len = strlen(entry[i]->d_name);

		if (len > 6 && !strcmp(entry[i]->d_name + len - 6, ".jsonl")) {
			snprintf(file, sizeof file, "%s/%s", path, entry[i]->d_name);
			snprintf(set, sizeof set, "%.*s", (int)(len - 6 < 30 ? len - 6 : 30), entry[i]->d_name);
			read_jsonl(file, set, languages, list);
			found++;
		}
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return found;
}

static double share(unsigned n, unsigned of)
{
	return of ? (double)n / of : 0;
}

static void print_row(const char *set, const char *mode, const struct counts *c, const struct counts *was)
{
	printf("%-20s %-9s %5u %6u  %.3f  %.3f  %.4f %5u", set, mode, c->positives, c->negatives,
		share(c->hits, c->positives), share(c->hits, c->hits + c->false_hits), share(c->false_hits, c->negatives),
		c->false_hits);
	if (was->positives + was->negatives)
		printf("   (%.3f  %.4f %5u)", share(was->hits, was->positives), share(was->false_hits, was->negatives),
			was->false_hits);
	printf("\n");
}

static int later(const void *a, const void *b)
{
	return strcmp(((const struct set *)a)->name, ((const struct set *)b)->name);
}

static void print_table(void)
{
	qsort(sets, n_sets, sizeof *sets, later);
	printf("%-20s %-9s %5s %6s  %-6s %-6s %-6s %5s   (the sketch: recall, rate, false)\n", "set", "mode", "same", "differ",
		"recall", "prec.", "rate", "false");
	for (size_t i = 0; i < n_sets; i++)
		for (int mode = MODES - 1; mode >= 0; mode--)
			print_row(sets[i].name, mode_name[mode], &sets[i].mode[mode], &sets[i].measured[mode]);
	printf("\nstrict, near enough but forbidden:");
	for (int i = 1; i < GUARD_COUNT; i++)
		printf(" %s %u", guard_name[i], by_guard[i]);
	printf("\nnot for the tier:");
	for (int i = 1; i < WORDS_SKIPS; i++)
		printf(" %s %u", words_skip_name[i], by_skip[i]);
	printf("\n%u verdicts differ from the sketch's\n", differences);
}

static bool expect(const char *what, bool ok)
{
	printf("%-4s %s\n", ok ? "ok" : "MISS", what);
	return ok;
}

static bool mission(void)
{
	static const char *const asked[] = { "Які є факультети в ХДУ?", "Скільки факультетів у Херсонському університеті?",
		"Які факультети є в ХДУ?" };
	bool ok = true;

	for (int i = 0; i < 3; i++) {
		for (int j = 0; j < 3; j++) {
			struct verdict v[MODES];

			judge(lexicon_for("uk,en"), slice_text(asked[i]), slice_text(asked[j]), v);
			ok &= v[GUARDS_STRICT].hit && v[GUARDS_STANDARD].hit && v[GUARDS_OFF].hit;
		}
	}
	return ok;
}

/* What SEMANTIC.md asks for; sets that are not there are not asked. */
static bool bar(void)
{
	bool ok = expect("the mission's three questions are one", mission());

	for (size_t i = 0; i < n_sets; i++) {
		const struct counts *c = &sets[i].mode[GUARDS_STRICT];

		if (!strcmp(sets[i].name, "uk_authored"))
			ok &= expect("uk_authored: no false hit, recall .5 or more",
				!c->false_hits && share(c->hits, c->positives) >= .5);
		if (!strcmp(sets[i].name, "ha_intents uk"))
			ok &= expect("ha_intents, Ukrainian: no false hit", !c->false_hits);
		if (!strcmp(sets[i].name, "adversarial"))
			ok &= expect("adversarial: no false hit", !c->false_hits);
		if (!strcmp(sets[i].name, "ha_intents"))
			ok &= expect("ha_intents: false .007 or less, recall .15 or more",
				share(c->false_hits, c->negatives) <= .007 && share(c->hits, c->positives) >= .15);
		if (!strcmp(sets[i].name, "own pairs"))
			ok &= expect("own pairs: no false hit", !c->false_hits);
	}
	return ok;
}

int main(int argc, char **argv)
{
	const char *languages = NULL;
	FILE *list = NULL;
	size_t found = 0;
	int i;

	for (i = 1; i + 1 < argc && argv[i][0] == '-'; i += 2) {
		if (argv[i][1] == 'l')
			languages = argv[i + 1];
		else if (argv[i][1] == 'd')
			list = fopen(argv[i + 1], "we");
	}
	for (; i < argc; i++) {
		size_t len = strlen(argv[i]);

		if (len > 4 && !strcmp(argv[i] + len - 4, ".tsv")) {
			read_tsv(argv[i], languages, list);
			found++;
		} else {
			found += read_folder(argv[i], languages, list);
		}
	}
	if (list)
		fclose(list);
	if (!found) {
		fprintf(stderr, "quality: no data: name a folder with *.jsonl, or a .tsv\n");
		return 2;
	}
	print_table();
	printf("\n");
	return bar() ? 0 : 1;
}
