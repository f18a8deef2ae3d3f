/* config_value.c - options.def as a table, and one value between its text and its field. Everything that reads or
 * prints a number goes through one list of suffixes, so that a year cannot mean two things. */
#include "proxy/config_table.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* Units options.def writes its bounds in. */
#define KiB 1024.0
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)
#define TiB (1024 * GiB)
#define SECOND 1000.0
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define SECTION(name, help)
#define OPTION(section, key, kind, def, least, most, unit, flags, help)
#define VALUE(constant, text) [constant] = text,
#define CHOICE(section, key, def, flags, help, values) \
	static const char *const choices_##section##_##key[] = { values }; \
	static_assert(sizeof(enum config_##section##_##key) == sizeof(unsigned), "a choice is stored as one");
#include "proxy/options.def"
#undef CHOICE
#undef VALUE
#undef OPTION
#undef SECTION

#define MORE_TEXT(name) 0
#define MORE_LIST(name) offsetof(struct config, name##_list)
#define MORE_NUMBERS(name) offsetof(struct config, name##_numbers)
#define MORE_FILE(name) offsetof(struct config, name##_content)
#define MORE_DIR(name) 0
#define MORE_SIZE(name) 0
#define MORE_TIME(name) 0
#define MORE_COUNT(name) 0
#define MORE_RATIO(name) 0
#define MORE_SWITCH(name) 0

const struct config_option config_table[CONFIG_IDS] = {
#define SECTION(name, help)
#define OPTION(section, key, kind, def, least, most, unit, flags, help) \
	{ #section, #key, #section "." #key, KIND_##kind, def, least, most, unit, flags, help, NULL, 0, \
	  offsetof(struct config, section##_##key), MORE_##kind(section##_##key) },
#define CHOICE(section, key, def, flags, help, values) \
	{ #section, #key, #section "." #key, KIND_CHOICE, def, 0, 0, "", flags, help, choices_##section##_##key, \
	  sizeof choices_##section##_##key / sizeof(char *), offsetof(struct config, section##_##key), 0 },
#include "proxy/options.def"
#undef CHOICE
#undef OPTION
#undef SECTION
};

const struct config_section config_sections[] = {
#define SECTION(name, help) { #name, help },
#define OPTION(section, key, kind, def, least, most, unit, flags, help)
#define CHOICE(section, key, def, flags, help, values)
#include "proxy/options.def"
#undef CHOICE
#undef OPTION
#undef SECTION
};
const size_t config_n_sections = sizeof config_sections / sizeof *config_sections;

static const struct {
	const char *suffix;
	enum config_kind kind;
	double times;
} suffixes[] = {                                /* of each kind, from the smallest */
	{ "", KIND_SIZE, 1 }, { "B", KIND_SIZE, 1 }, { "KiB", KIND_SIZE, KiB }, { "MiB", KIND_SIZE, MiB },
	{ "GiB", KIND_SIZE, GiB }, { "TiB", KIND_SIZE, TiB },
	{ "ms", KIND_TIME, 1 }, { "s", KIND_TIME, SECOND }, { "m", KIND_TIME, MINUTE }, { "h", KIND_TIME, HOUR },
	{ "d", KIND_TIME, DAY },
	{ "", KIND_COUNT, 1 }, { "", KIND_RATIO, 1 }, { "", KIND_NUMBERS, 1 },
};
static const char *const kind_is[] = {
	[KIND_SIZE] = "a size such as 64MiB (B, KiB, MiB, GiB, TiB)", [KIND_TIME] = "a time such as 10s (ms, s, m, h, d)",
	[KIND_COUNT] = "a whole number", [KIND_RATIO] = "a number such as 0.5", [KIND_NUMBERS] = "a number such as 0.5",
};

static void *field(struct config *c, size_t at)
{
	return (char *)c + at;
}

static const void *const_field(const struct config *c, size_t at)
{
	return (const char *)c + at;
}

/* Digits, perhaps a point and more digits, then a suffix of the option's kind. Anything else strtod() knows, such as
 * nan, 0x10 or 1e9, is not a number here. */
static bool number(const struct config_option *o, struct slice s, double *v)
{
	size_t digits = strspn(s.at, "0123456789"), end = digits, fraction = 0;

	if (s.at[end] == '.' && o->kind != KIND_COUNT) {
		fraction = strspn(s.at + end + 1, "0123456789");
		end += 1 + fraction;
		if (!fraction)
			return false;
	}
	if (digits == 0 || digits > 18 || end > s.len)
		return false;
	char text[64];
	if (end >= sizeof text)
		return false;
	memcpy(text, s.at, end);
	text[end] = 0;
	*v = strtod(text, NULL);
	struct slice suffix = slice_trim(slice_of(s.at + end, s.len - end));
	if (suffix.len == 0 && *v <= 0)
		return true;                         /* nothing has no unit */
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		if (suffixes[i].kind == o->kind && slice_is(suffix, slice_text(suffixes[i].suffix))) {
			*v *= suffixes[i].times;
			return true;
		}
	}
	return false;
}

void config_put_number(FILE *out, const struct config_option *o, double v)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		double times = suffixes[i].times;
		if (suffixes[i].kind == o->kind && v >= times && floor(v / times) * times == v)
			best = i;
	}
	if (o->kind == KIND_RATIO || o->kind == KIND_NUMBERS || best == SIZE_MAX) {
		char text[64];
		for (int digits = 0; digits <= 20; digits++) {          /* the shortest that reads back the same; never 1e+06 */
			snprintf(text, sizeof text, "%.*f", digits, v);
			if (strtod(text, NULL) == v)
				break;
		}
		fputs(text, out);
		return;
	}
	fprintf(out, "%.0f%s", v / suffixes[best].times, suffixes[best].suffix);
}

/* A sentence of at most CONFIG_WHY, written piece by piece. */
static void explain_bounds(const struct config_option *o, char why[static CONFIG_WHY])
{
	FILE *f = fmemopen(why, CONFIG_WHY, "w");

	why[0] = 0;
	if (!f)
		return;
	fputs("must be from ", f);
	config_put_number(f, o, o->least);
	fputs(" to ", f);
	config_put_number(f, o, o->most);
	fputs(o->unit[0] ? " " : "", f);
	fputs(o->unit, f);
	fclose(f);
}

static bool bounded_number(const struct config_option *o, struct slice s, double *v, char why[static CONFIG_WHY])
{
	if (!number(o, s, v)) {
		snprintf(why, CONFIG_WHY, "'%.*s' is not %s", (int)(s.len < 60 ? s.len : 60), s.at, kind_is[o->kind]);
		return false;
	}
	if (!(*v >= o->least && *v <= o->most)) {
		explain_bounds(o, why);
		return false;
	}
	return true;
}

static size_t parts(const char *text)
{
	struct slice rest = slice_text(text), part;
	size_t n = 0;

	while (slice_next(&rest, ',', &part))
		n += part.len > 0;
	return n;
}

static bool set_list(struct config *c, const struct config_option *o, const char *text)
{
	struct config_list *list = field(c, o->more);
	struct slice rest = slice_text(text), part;
	size_t n = parts(text);

	*list = (struct config_list){ 0 };
	if (n && !(list->at = arena_alloc(&c->arena, n * sizeof *list->at)))
		return false;
	while (slice_next(&rest, ',', &part))
		if (part.len && !(list->at[list->n++] = arena_text(&c->arena, part)))
			return false;
	return true;
}

static bool set_numbers(struct config *c, const struct config_option *o, const char *text, char why[static CONFIG_WHY])
{
	struct config_numbers *numbers = field(c, o->more);
	struct slice rest = slice_text(text), part;
	size_t n = parts(text);

	*numbers = (struct config_numbers){ 0 };
	if (n && !(numbers->at = arena_alloc(&c->arena, n * sizeof *numbers->at))) {
		snprintf(why, CONFIG_WHY, "out of memory");
		return false;
	}
	while (slice_next(&rest, ',', &part))
		if (part.len && !bounded_number(o, part, &numbers->at[numbers->n++], why))
			return false;
	return true;
}

/* What config_put_value() writes in place of a secret is not one. */
static bool masked(const struct config_option *o, const char *text)
{
	return ((o->flags & SECRET) && !strcmp(text, "***")) || ((o->flags & URL) && strstr(text, "***@"));
}

static bool set_text(struct config *c, const struct config_option *o, const char *text, char why[static CONFIG_WHY])
{
	size_t len = strlen(text);

	if (masked(o, text)) {
		snprintf(why, CONFIG_WHY, "*** stands for a secret that was not printed; write the secret itself");
		return false;
	}
	if (o->kind == KIND_NUMBERS)
		len = 0;                             /* its bounds are those of each number */
	if (o->kind != KIND_NUMBERS && ((double)len < o->least || (double)len > o->most)) {
		snprintf(why, CONFIG_WHY, len == 0 ? "must not be empty" : "must have from %.0f to %.0f characters", o->least,
			 o->most);
		return false;
	}
	char *copy = arena_text(&c->arena, slice_text(text));
	if (!copy || (o->kind == KIND_LIST && !set_list(c, o, text))) {
		snprintf(why, CONFIG_WHY, "out of memory");
		return false;
	}
	*(const char **)field(c, o->at) = copy;
	return o->kind != KIND_NUMBERS || set_numbers(c, o, text, why);
}

static bool set_choice(struct config *c, const struct config_option *o, const char *text, char why[static CONFIG_WHY])
{
	for (unsigned i = 0; i < o->n_choices; i++) {
		if (!strcmp(text, o->choices[i])) {
			memcpy(field(c, o->at), &i, sizeof i);
			return true;
		}
	}
	int n = snprintf(why, CONFIG_WHY, "'%.60s' is none of", text);
	for (size_t i = 0; i < o->n_choices; i++)
		n += snprintf(why + n, (size_t)(CONFIG_WHY - n), "%s %s", i ? "," : "", o->choices[i]);
	return false;
}

bool config_set(struct config *c, const struct config_option *o, const char *text, char why[static CONFIG_WHY])
{
	double v = 0;

	for (const char *t = text; *t; t++) {
		if ((unsigned char)*t < 0x20 || *t == 0x7f) {
			snprintf(why, CONFIG_WHY, "must not have control characters in it");
			return false;
		}
	}
	switch (o->kind) {
	case KIND_TEXT: case KIND_LIST: case KIND_NUMBERS: case KIND_FILE: case KIND_DIR:
		return set_text(c, o, text, why);
	case KIND_CHOICE:
		return set_choice(c, o, text, why);
	case KIND_SWITCH:
		if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0) {
			snprintf(why, CONFIG_WHY, "'%.60s' is neither on nor off", text);
			return false;
		}
		*(bool *)field(c, o->at) = !strcmp(text, "on");
		return true;
	case KIND_SIZE: case KIND_TIME: case KIND_COUNT: case KIND_RATIO:
		break;
	}
	if (!bounded_number(o, slice_text(text), &v, why))
		return false;
	if (o->kind == KIND_RATIO)
		*(double *)field(c, o->at) = v;
	else if (o->kind == KIND_SIZE)
		*(uint64_t *)field(c, o->at) = (uint64_t)(v + 0.5);
	else
		*(int64_t *)field(c, o->at) = (int64_t)(v + 0.5);
	return true;
}

static bool is_text(const struct config_option *o)
{
	return o->kind <= KIND_DIR;
}

static size_t size_of(const struct config_option *o)
{
	return o->kind == KIND_SWITCH ? sizeof(bool) : o->kind == KIND_CHOICE ? sizeof(unsigned) : sizeof(int64_t);
}

bool config_copy(struct config *to, const struct config *from, const struct config_option *o)
{
	char why[CONFIG_WHY];

	static_assert(sizeof(double) == sizeof(int64_t), "every number has one size");
	if (!is_text(o)) {
		memcpy(field(to, o->at), const_field(from, o->at), size_of(o));
		return true;
	}
	if (!config_set(to, o, config_text(from, o), why))
		return false;
	if (o->kind == KIND_FILE) {
		const struct slice *content = const_field(from, o->more);
		struct slice *copy = field(to, o->more);
		*copy = arena_slice(&to->arena, *content);
		return copy->len == content->len;
	}
	return true;
}

bool config_same(const struct config *a, const struct config *b, const struct config_option *o)
{
	return is_text(o) ? !strcmp(config_text(a, o), config_text(b, o))
			  : !memcmp(const_field(a, o->at), const_field(b, o->at), size_of(o));
}

/* Quoted where the bare text would be read as something else. */
static void put_text(FILE *out, const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || (!strchr(" \t\"#", text[0]) && !strchr(" \t", text[len - 1]) && !strstr(text, " #") &&
			 !strstr(text, "\t#"))) {
		fputs(text, out);
		return;
	}
	putc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', out);
		putc(*text, out);
	}
	putc('"', out);
}

/* Of scheme://user:password@host: where the password begins, and its end at the last @ before the path (RFC 3986, 3.2.1).
 * NULL: there is none. */
static const char *password(const char *url, const char **end)
{
	const char *host = strstr(url, "://"), *at = NULL;

	host = host ? host + 3 : url;
	for (const char *t = host; *t && *t != '/' && *t != '?'; t++)
		if (*t == '@')
			at = t;
	const char *colon = at ? memchr(host, ':', (size_t)(at - host)) : NULL;
	*end = at;
	return colon ? colon + 1 : NULL;
}

static void put_url(FILE *out, const char *url)
{
	const char *end, *secret = password(url, &end);

	if (secret)
		fprintf(out, "%.*s***%s", (int)(secret - url), url, end);
	else
		put_text(out, url);
}

bool config_has_secret(const struct config *c, const struct config_option *o)
{
	const char *end;

	return ((o->flags & SECRET) && config_text(c, o)[0]) || ((o->flags & URL) && password(config_text(c, o), &end));
}

void config_put_value(FILE *out, const struct config *c, const struct config_option *o)
{
	unsigned choice;

	if ((o->flags & SECRET) && config_text(c, o)[0]) {
		fputs("***", out);
		return;
	}
	if (o->flags & URL) {
		put_url(out, config_text(c, o));
		return;
	}
	switch (o->kind) {
	case KIND_TEXT: case KIND_LIST: case KIND_NUMBERS: case KIND_FILE: case KIND_DIR:
		put_text(out, config_text(c, o));
		break;
	case KIND_SIZE:
		config_put_number(out, o, (double)*(const uint64_t *)const_field(c, o->at));
		break;
	case KIND_TIME: case KIND_COUNT:
		config_put_number(out, o, (double)*(const int64_t *)const_field(c, o->at));
		break;
	case KIND_RATIO:
		config_put_number(out, o, *(const double *)const_field(c, o->at));
		break;
	case KIND_SWITCH:
		fputs(*(const bool *)const_field(c, o->at) ? "on" : "off", out);
		break;
	case KIND_CHOICE:
		memcpy(&choice, const_field(c, o->at), sizeof choice);
		fputs(o->choices[choice], out);
		break;
	}
}
