/* config.c - reads the configuration from its four places; see config.h. Weakest first, each overwriting what was
 * there: defaults, file, environment, command line. All of them are read to the end, so that every mistake is told at
 * once. */
#include "proxy/config_table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/base/log.h"

static_assert((int)CONFIG_LOG_ERROR == (int)LOG_ERROR && (int)CONFIG_LOG_WARN == (int)LOG_WARN &&
	      (int)CONFIG_LOG_INFO == (int)LOG_INFO && (int)CONFIG_LOG_DEBUG == (int)LOG_DEBUG, "levels of log.h");

extern char **environ;

enum { NAME_MAX_BYTES = 64, LINE_SHOWN = 60 };
#define ENVIRONMENT_PREFIX "OLLACACHE_"

/* One reading: what it fills in, where mistakes go, how many there were. */
struct reading {
	struct config *c;
	FILE *complaints;
	int mistakes;
};

/* ---- names ---- */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Insertions, deletions and replacements between two names (Levenshtein), names cut at NAME_MAX_BYTES. */
static size_t distance(struct slice a, struct slice b)
{
	size_t row[NAME_MAX_BYTES + 1];

	a.len = least(a.len, NAME_MAX_BYTES);
	b.len = least(b.len, NAME_MAX_BYTES);
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t above = row[j];
			row[j] = least(least(above, row[j - 1]) + 1, corner + (a.at[i - 1] != b.at[j - 1]));
			corner = above;
		}
	}
	return row[b.len];
}

/* The option somebody may have meant. A right key in the wrong section is nearer than its letters say. */
static const struct config_option *nearest(struct slice section, struct slice key)
{
	const struct config_option *best = NULL;
	size_t best_cost = 2 + key.len / 3;

	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
		size_t cost = distance(key, slice_text(o->key)) + least(2, distance(section, slice_text(o->section)));
		if (cost < best_cost || (cost == best_cost && !best)) {
			best = o;
			best_cost = cost;
		}
	}
	return best;
}

static const struct config_option *find(struct slice section, struct slice key)
{
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++)
		if (slice_is(section, slice_text(o->section)) && slice_is(key, slice_text(o->key)))
			return o;
	return NULL;
}

void config_environment_name(const struct config_option *o, char *to, size_t room)
{
	snprintf(to, room, ENVIRONMENT_PREFIX "%s_%s", o->section, o->key);
	for (char *t = to; *t; t++)
		if (*t >= 'a' && *t <= 'z')
			*t -= 'a' - 'A';
}

/* ---- complaints ---- */

static void put_place(FILE *f, const struct config *c, struct config_origin at, const char *name)
{
	char environment[2 * NAME_MAX_BYTES];

	switch (at.from) {
	case CONFIG_FROM_FILE:
		fprintf(f, "%s:%d: %s: ", c->file, at.line, name);
		break;
	case CONFIG_FROM_ENVIRONMENT:
		for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
			if (!strcmp(o->name, name)) {
				config_environment_name(o, environment, sizeof environment);
				fprintf(f, "environment %s: ", environment);
			}
		}
		break;
	case CONFIG_FROM_COMMAND_LINE:
		fprintf(f, "--%s: ", name);
		break;
	case CONFIG_FROM_DEFAULT:
		fprintf(f, "%s: ", name);
		break;
	}
}

void config_complain(FILE *complaints, const struct config *c, enum config_id id, const char *format, ...)
{
	va_list args;

	put_place(complaints, c, c->origin[id], config_table[id].name);
	va_start(args, format);
	vfprintf(complaints, format, args);
	va_end(args);
	putc('\n', complaints);
}

static void unknown(struct reading *r, const char *place, struct slice section, struct slice key, bool as_environment)
{
	const struct config_option *o = nearest(section, key);
	char name[2 * NAME_MAX_BYTES] = "";

	if (o && as_environment)
		config_environment_name(o, name, sizeof name);
	else if (o)
		snprintf(name, sizeof name, "%s", o->name);
	fprintf(r->complaints, "%s: unknown option '%.*s%s%.*s'", place, (int)least(section.len, LINE_SHOWN), section.at,
		section.len ? "." : "", (int)least(key.len, LINE_SHOWN), key.at);
	if (o)
		fprintf(r->complaints, ", did you mean '%s'?", name);
	putc('\n', r->complaints);
	r->mistakes++;
}

static void set(struct reading *r, const struct config_option *o, const char *text, struct config_origin from)
{
	char why[CONFIG_WHY];

	r->c->origin[o - config_table] = from;
	r->c->refused[o - config_table] = !config_set(r->c, o, text, why);
	if (!r->c->refused[o - config_table])
		return;
	config_complain(r->complaints, r->c, (enum config_id)(o - config_table), "%s", why);
	r->mistakes++;
}

/* ---- the file ---- */

char *config_read_file(struct config *c, const char *path, size_t *len)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	struct buf b;
	enum err e = ERR_OK;

	if (!f)
		return NULL;
	buf_init(&b, CONFIG_FILE_BYTES);
	for (size_t n = 1; n && !e;) {
		char piece[4096];
		n = fread(piece, 1, sizeof piece, f);
		e = buf_add(&b, piece, n);
	}
	int error = ferror(f) ? errno : e == ERR_TOO_LARGE ? EFBIG : e ? ENOMEM : 0;
	fclose(f);
	if (!error && !(text = arena_text(&c->arena, buf_slice(&b))))
		error = ENOMEM;
	*len = b.len;
	buf_fini(&b);
	errno = error;
	return text;
}

static void wrong_line(struct reading *r, int line, const char *what)
{
	fprintf(r->complaints, "%s:%d: %s\n", r->c->file, line, what);
	r->mistakes++;
}

/* Takes quotes and a comment off a value, in place; NULL if a quote is not closed or something follows it. */
static char *plain_value(char *value)
{
	if (*value != '"') {
		for (char *t = value; *t; t++) {
			if (*t == '#' && (t == value || t[-1] == ' ' || t[-1] == '\t')) {
				*t = 0;
				break;
			}
		}
		for (size_t len = strlen(value); len && strchr(" \t", value[len - 1]); len--)
			value[len - 1] = 0;
		return value;
	}
	char *to = value, *from = value + 1;
	for (; *from && *from != '"'; from++) {
		if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
			from++;
		*to++ = *from;
	}
	if (!*from)
		return NULL;
	from += 1 + strspn(from + 1, " \t");
	if (*from && *from != '#')
		return NULL;
	*to = 0;
	return value;
}

static void read_option(struct reading *r, struct slice section, char *text, int line)
{
	char *equals = strchr(text, '='), place[NAME_MAX_BYTES + 4096];
	struct slice key;

	if (!equals) {
		wrong_line(r, line, "expected 'key = value', '[section]' or '# comment'");
		return;
	}
	key = slice_trim(slice_of(text, (size_t)(equals - text)));
	const struct config_option *o = find(section, key);
	snprintf(place, sizeof place, "%.4000s:%d", r->c->file, line);
	if (!o) {
		unknown(r, place, section, key, false);
		return;
	}
	const struct config_origin *before = &r->c->origin[o - config_table];
	if (before->from == CONFIG_FROM_FILE) {
		fprintf(r->complaints, "%s: %s: is given twice, first in line %d\n", place, o->name, before->line);
		r->mistakes++;
		return;
	}
	char *value = plain_value(equals + 1 + strspn(equals + 1, " \t"));
	if (!value) {
		wrong_line(r, line, "a value in quotes must end with its quote");
		return;
	}
	set(r, o, value, (struct config_origin){ CONFIG_FROM_FILE, line });
}

/* [name]; false: not a section, and what follows it is not looked at. */
static bool read_section(struct reading *r, char *text, int line, struct slice *section)
{
	const struct config_section *best = NULL;
	char *end = strchr(text, ']');
	size_t best_cost = 3;

	if (!end || !strchr("#", end[1 + strspn(end + 1, " \t")])) {
		wrong_line(r, line, "a section is written '[name]'");
		return false;
	}
	*section = slice_trim(slice_of(text + 1, (size_t)(end - text - 1)));
	for (size_t i = 0; i < config_n_sections; i++) {
		size_t cost = distance(*section, slice_text(config_sections[i].name));
		if (cost == 0)
			return true;
		if (cost < best_cost) {
			best_cost = cost;
			best = &config_sections[i];
		}
	}
	fprintf(r->complaints, "%s:%d: unknown section '%.*s'", r->c->file, line, (int)least(section->len, LINE_SHOWN),
		section->at);
	if (best)
		fprintf(r->complaints, ", did you mean '%s'?", best->name);
	putc('\n', r->complaints);
	r->mistakes++;
	return false;
}

static void read_file(struct reading *r)
{
	static const char mark[] = "\xef\xbb\xbf";      /* some editors begin UTF-8 with it */
	size_t len;
	char *text = config_read_file(r->c, r->c->file, &len);
	struct slice section = { 0 };
	bool known = true;

	if (!text) {
		fprintf(r->complaints, "%s: cannot be read: %s\n", r->c->file, strerror(errno));
		r->mistakes++;
		return;
	}
	if (memchr(text, 0, len)) {
		fprintf(r->complaints, "%s: has a NUL byte in it; is it a configuration file?\n", r->c->file);
		r->mistakes++;
		return;
	}
	if (!strncmp(text, mark, sizeof mark - 1))
		text += sizeof mark - 1;
	for (int line = 1; text; line++) {
		char *next = strchr(text, '\n');
		if (next) {
			*next = 0;
			if (next > text && next[-1] == '\r')
				next[-1] = 0;
		}
		text += strspn(text, " \t");
		if (*text == '[')
			known = read_section(r, text, line, &section);
		else if (*text && *text != '#' && known && !section.at)
			wrong_line(r, line, "comes before the first '[section]'");
		else if (*text && *text != '#' && known)
			read_option(r, section, text, line);
		text = next ? next + 1 : NULL;
	}
}

/* ---- environment and command line ---- */

static bool starts(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* Kubernetes and Docker's links put NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_SERVICE_PORT_WORD, NAME_PORT=tcp://…,
 * NAME_PORT_6379_TCP and NAME_PORT_6379_TCP_ADDR, _PORT, _PROTO into the environment for every service around, also for
 * those called ollacache or ollacache-something: they are not meant for us. No option has such a name. */
static bool of_a_service(const char *entry)
{
	const char *equals = strchr(entry, '='), *at = strstr(entry, "_SERVICE_");

	if (at && at < equals && (starts(at, "_SERVICE_HOST=") || starts(at, "_SERVICE_PORT=") || starts(at, "_SERVICE_PORT_")))
		return true;
	for (at = strstr(entry, "_PORT"); at && at < equals; at = strstr(at + 1, "_PORT")) {
		const char *value = equals + 1, *after = at + strlen("_PORT");
		if (*after == '=' && (starts(value, "tcp://") || starts(value, "udp://") || starts(value, "sctp://")))
			return true;
		size_t digits = *after == '_' ? strspn(after + 1, "0123456789") : 0;
		after += digits + 1;
		if (digits && (starts(after, "_TCP") || starts(after, "_UDP") || starts(after, "_SCTP")))
			return true;
	}
	return false;
}

static void unknown_environment(struct reading *r, const char *entry, size_t len)
{
	const size_t prefix = sizeof ENVIRONMENT_PREFIX - 1;
	char place[2 * NAME_MAX_BYTES], lower[NAME_MAX_BYTES] = "";
	size_t n = 0;

	for (; n < sizeof lower && n + prefix < len; n++) {
		char c = entry[prefix + n];
		lower[n] = c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
	}
	snprintf(place, sizeof place, "environment %.*s", (int)least(len, NAME_MAX_BYTES), entry);
	const char *line = memchr(lower, '_', n);
	size_t cut = line ? (size_t)(line - lower) : 0;
	unknown(r, place, slice_of(lower, cut), slice_of(lower + cut + (line != NULL), n - cut - (line != NULL)), true);
}

static void read_environment(struct reading *r)
{
	for (char **entry = environ; entry && *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		bool known = false;

		if (!equals || !starts(*entry, ENVIRONMENT_PREFIX) || of_a_service(*entry))
			continue;
		for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS && !known; o++) {
			char name[2 * NAME_MAX_BYTES];
			config_environment_name(o, name, sizeof name);
			known = slice_is(slice_text(name), slice_of(*entry, (size_t)(equals - *entry)));
			if (known)
				set(r, o, equals + 1, (struct config_origin){ CONFIG_FROM_ENVIRONMENT, 0 });
		}
		if (!known)
			unknown_environment(r, *entry, (size_t)(equals - *entry));
	}
}

static const struct {
	const char *word;
	enum config_action action;
} actions[] = {
	{ "-t", CONFIG_TEST }, { "-v", CONFIG_VERSION }, { "-V", CONFIG_VERSION }, { "--print-config", CONFIG_PRINT }, { "--health", CONFIG_HEALTH },
	{ "--version", CONFIG_VERSION }, { "--help", CONFIG_HELP }, { "-h", CONFIG_HELP },
	{ "--print-options-table", CONFIG_OPTIONS_TABLE }, { "--print-metrics-table", CONFIG_METRICS_TABLE },
};

static bool is_action(const char *word, enum config_action *action)
{
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
		if (!strcmp(word, actions[i].word)) {
			*action = actions[i].action;
			return true;
		}
	}
	return false;
}

/* The words that are not options by name: what to do, and which file to read. */
static void read_orders(struct reading *r, enum config_action *action)
{
	struct config *c = r->c;

	*action = CONFIG_RUN;
	for (int i = 1; i < c->argc; i++) {
		const char *word = c->argv[i];

		if (is_action(word, action))
			continue;
		if (!strcmp(word, "-c") && i + 1 < c->argc) {
			c->file = c->argv[++i];
		} else if (!strcmp(word, "-c")) {
			fprintf(r->complaints, "-c: needs the name of a file\n");
			r->mistakes++;
		} else if (!starts(word, "--")) {
			fprintf(r->complaints, "%.*s: not an option; --help lists them\n", LINE_SHOWN, word);
			r->mistakes++;
		}
	}
}

static void read_command_line(struct reading *r)
{
	for (int i = 1; i < r->c->argc; i++) {
		const char *word = r->c->argv[i], *equals = strchr(word, '='), *dot;
		enum config_action action;

		if (!strcmp(word, "-c"))
			i++;
		if (!starts(word, "--") || is_action(word, &action))
			continue;
		word += 2;
		struct slice name = slice_of(word, equals ? (size_t)(equals - word) : strlen(word));
		dot = memchr(name.at, '.', name.len);
		struct slice section = slice_of(name.at, dot ? (size_t)(dot - name.at) : 0);
		struct slice key = dot ? slice_of(dot + 1, name.len - section.len - 1) : name;
		const struct config_option *o = find(section, key);
		if (!o) {
			unknown(r, "command line", section, key, false);
		} else if (!equals) {
			fprintf(r->complaints, "--%s: needs a value: --%s=%s\n", o->name, o->name, o->def);
			r->mistakes++;
		} else {
			set(r, o, equals + 1, (struct config_origin){ CONFIG_FROM_COMMAND_LINE, 0 });
		}
	}
}

/* ---- a whole configuration ---- */

static struct config *read_all(int argc, char **argv, FILE *complaints, enum config_action *action)
{
	struct reading r = { .c = calloc(1, sizeof(struct config)), .complaints = complaints };

	if (!r.c) {
		fprintf(complaints, "out of memory\n");
		return NULL;
	}
	arena_init(&r.c->arena, CONFIG_ARENA_BYTES);
	atomic_init(&r.c->holds, 1);
	r.c->argc = argc;
	r.c->argv = argv;
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++)
		set(&r, o, o->def, (struct config_origin){ CONFIG_FROM_DEFAULT, 0 });
	read_orders(&r, action);
	bool reads = *action == CONFIG_RUN || *action == CONFIG_TEST || *action == CONFIG_PRINT || *action == CONFIG_HEALTH;
	if (reads && r.c->file)
		read_file(&r);
	if (reads) {
		read_environment(&r);
		read_command_line(&r);
	}
	r.mistakes += config_check(r.c, complaints);
	if (!r.mistakes)
		return r.c;
	config_drop(r.c);
	return NULL;
}

struct config *config_load(int argc, char **argv, FILE *complaints, enum config_action *action)
{
	return read_all(argc, argv, complaints, action);
}

struct config *config_reload(const struct config *old, FILE *complaints)
{
	enum config_action action;
	struct config *c = read_all(old->argc, old->argv, complaints, &action);

	for (size_t i = 0; c && i < CONFIG_IDS; i++) {
		const struct config_option *o = &config_table[i];
		if (!(o->flags & RESTART) || config_same(old, c, o))
			continue;
		c->waits_for_restart[i] = true;
		if (!config_copy(c, old, o)) {
			fprintf(complaints, "out of memory\n");
			config_drop(c);
			c = NULL;
		}
	}
	return c;
}

size_t config_restart_keys(const struct config *c, void (*each)(void *arg, const char *name), void *arg)
{
	size_t n = 0;

	for (size_t i = 0; i < CONFIG_IDS; i++) {
		if (c->waits_for_restart[i]) {
			each(arg, config_table[i].name);
			n++;
		}
	}
	return n;
}

const char *config_default(enum config_id id)
{
	return config_table[id].def;
}

const char *config_exposed(const struct config *c)
{
	struct stat st;

	if (!c->file || stat(c->file, &st) || !(st.st_mode & S_IROTH))
		return NULL;
	for (size_t i = 0; i < CONFIG_IDS; i++)
		if (c->origin[i].from == CONFIG_FROM_FILE && config_has_secret(c, &config_table[i]))
			return config_table[i].name;
	return NULL;
}

void config_sources(FILE *out, const struct config *c)
{
	size_t from[CONFIG_FROM_COMMAND_LINE + 1] = { 0 };

	for (size_t i = 0; i < CONFIG_IDS; i++)
		from[c->origin[i].from]++;
	if (c->file)
		fprintf(out, "%s: %zu option%s", c->file, from[CONFIG_FROM_FILE], from[CONFIG_FROM_FILE] == 1 ? "" : "s");
	else
		fputs("no file, only built-in defaults", out);
	if (from[CONFIG_FROM_ENVIRONMENT])
		fprintf(out, ", %zu from the environment", from[CONFIG_FROM_ENVIRONMENT]);
	if (from[CONFIG_FROM_COMMAND_LINE])
		fprintf(out, ", %zu from the command line", from[CONFIG_FROM_COMMAND_LINE]);
	fputs(": good\n", out);
	if (!c->file && !access(CONFIG_USUAL_FILE, F_OK))
		fprintf(out, "%s in this directory was not looked at: -t -c %s does that\n", CONFIG_USUAL_FILE, CONFIG_USUAL_FILE);
	if (config_exposed(c))
		fprintf(out, "%s: everybody on this machine can read the secret in %s: " CONFIG_EXPOSED_ADVICE "\n", c->file, config_exposed(c));
}

const struct config *config_hold(const struct config *c)
{
	atomic_fetch_add_explicit(&((struct config *)c)->holds, 1, memory_order_relaxed);
	return c;
}

void config_drop(const struct config *c)
{
	struct config *mine = (struct config *)c;

	if (!mine || atomic_fetch_sub_explicit(&mine->holds, 1, memory_order_acq_rel) != 1)
		return;
	arena_fini(&mine->arena);
	free(mine);
}
