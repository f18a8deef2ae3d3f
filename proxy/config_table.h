/* config_table.h - options.def as a table, and values by it: for the files of config alone. */
#ifndef PROXY_CONFIG_TABLE_H
#define PROXY_CONFIG_TABLE_H

#include "proxy/config.h"

enum config_kind {
	KIND_TEXT, KIND_LIST, KIND_NUMBERS, KIND_FILE, KIND_DIR, KIND_SIZE, KIND_TIME, KIND_COUNT, KIND_RATIO,
	KIND_SWITCH, KIND_CHOICE
};
enum config_flag { LIVE = 0, RESTART = 1, SECRET = 2, URL = 4 };

struct config_option {
	const char *section, *key, *name;    /* name: section.key */
	enum config_kind kind;
	const char *def;
	double least, most;
	const char *unit;
	unsigned flags;
	const char *help;
	const char *const *choices;
	size_t n_choices;
	size_t at, more;                     /* offsets in struct config: the field, and _list, _numbers or _content */
};
extern const struct config_option config_table[CONFIG_IDS];

struct config_section {
	const char *name, *help;
};
extern const struct config_section config_sections[];
extern const size_t config_n_sections;

enum { CONFIG_WHY = 400 };

/* Sets c's field from text (copied). False: why says what is wrong with it. */
bool config_set(struct config *c, const struct config_option *o, const char *text, char why[static CONFIG_WHY]);

/* Gives `to` the value `from` has. False: out of memory. */
bool config_copy(struct config *to, const struct config *from, const struct config_option *o);

bool config_same(const struct config *a, const struct config *b, const struct config_option *o);

/* Writes the value as config_set() would read it; of a secret, or a password in a URL, `***`. */
void config_put_value(FILE *out, const struct config *c, const struct config_option *o);

bool config_has_secret(const struct config *c, const struct config_option *o);

/* Writes a bound or another number in the option's own unit: 64MiB, 10s, 0.5. */
void config_put_number(FILE *out, const struct config_option *o, double v);

/* The text of a TEXT, LIST, NUMBERS, FILE or DIR option. */
static inline const char *config_text(const struct config *c, const struct config_option *o)
{
	return *(const char *const *)(const void *)((const char *)c + o->at);
}

/* What the bounds do not say: addresses, URLs, values that must fit each other; reads the files options name.
 * Returns the number of mistakes, each a line in complaints. */
int config_check(struct config *c, FILE *complaints);

/* "FILE:LINE: section.key: …", "environment OLLACACHE_…: …" or "--section.key: …" by where its value came from. */
void config_complain(FILE *complaints, const struct config *c, enum config_id id, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The whole file into the configuration's arena, with a NUL after it. NULL: errno says why; EFBIG past the limit. */
char *config_read_file(struct config *c, const char *path, size_t *len);

/* OLLACACHE_SECTION_KEY */
void config_environment_name(const struct config_option *o, char *to, size_t room);

#endif
