/* config.h - every option of options.def: read from command line, environment and file (in this order of force),
 * checked, printed, and read again on SIGHUP.
 *
 * Ownership  a configuration never changes once loaded; it is counted, and whoever works by it holds it. A reload makes
 *            a new one; a request keeps the one it started with.
 * Threads    hold, drop and reading: any. Loading and reloading: one at a time.
 * Limits     a file has CONFIG_FILE_BYTES at most, and so has each file an option names; CONFIG_ARENA_BYTES bounds all
 *            a configuration keeps. */
#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "proxy/base/arena.h"

/* What the file is called where nobody says otherwise. It is read only with -c: `ollacache` alone would otherwise mean
 * something else in every directory, and `--print-config >proxy.conf` would read what it is about to replace. */
#define CONFIG_USUAL_FILE "proxy.conf"

enum { CONFIG_FILE_BYTES = 4 << 20, CONFIG_ARENA_BYTES = 32 << 20 };

struct config_list {
	const char **at;             /* without the spaces around them; empty parts are left out */
	size_t n;
};
struct config_numbers {
	double *at;
	size_t n;
};
enum config_scope { CONFIG_SCOPE_AUTHORIZATION, CONFIG_SCOPE_SHARED, CONFIG_SCOPE_HEADER };

#define SECTION(name, help)
#define OPTION(section, key, kind, def, least, most, unit, flags, help)
#define VALUE(constant, text) constant,
#define CHOICE(section, key, def, flags, help, values) enum config_##section##_##key { values };
#include "proxy/options.def"
#undef CHOICE
#undef VALUE
#undef OPTION

enum config_id {
#define OPTION(section, key, kind, def, least, most, unit, flags, help) CONFIG_ID_##section##_##key,
#define CHOICE(section, key, def, flags, help, values) CONFIG_ID_##section##_##key,
#include "proxy/options.def"
#undef CHOICE
#undef OPTION
	CONFIG_IDS
};

/* Where a value came from, so that a mistake found late still names its line. */
struct config_origin {
	enum { CONFIG_FROM_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_ENVIRONMENT, CONFIG_FROM_COMMAND_LINE } from;
	int line;
};

struct config {
#define CONFIG_FIELD_TEXT(name) const char *name;
#define CONFIG_FIELD_LIST(name) const char *name; struct config_list name##_list;
#define CONFIG_FIELD_NUMBERS(name) const char *name; struct config_numbers name##_numbers;
#define CONFIG_FIELD_FILE(name) const char *name; struct slice name##_content;
#define CONFIG_FIELD_DIR(name) const char *name;
#define CONFIG_FIELD_SIZE(name) uint64_t name;
#define CONFIG_FIELD_TIME(name) int64_t name;
#define CONFIG_FIELD_COUNT(name) int64_t name;
#define CONFIG_FIELD_RATIO(name) double name;
#define CONFIG_FIELD_SWITCH(name) bool name;
#define OPTION(section, key, kind, def, least, most, unit, flags, help) CONFIG_FIELD_##kind(section##_##key)
#define CHOICE(section, key, def, flags, help, values) enum config_##section##_##key section##_##key;
#include "proxy/options.def"
#undef CHOICE
#undef OPTION
#undef SECTION
	enum config_scope cache_scope_kind;
	const char *cache_scope_header;      /* NULL unless cache_scope_kind is HEADER */

	const char *file;                    /* NULL: none was given */

	/* the rest is config.c's */
	int argc;
	char **argv;
	struct config_origin origin[CONFIG_IDS];
	bool refused[CONFIG_IDS], waits_for_restart[CONFIG_IDS];
	struct arena arena;
	_Atomic unsigned holds;
};

/* What the command line asks of the program. HELP, VERSION and the tables read no configuration. */
enum config_action {
	CONFIG_RUN, CONFIG_TEST, CONFIG_PRINT, CONFIG_HEALTH, CONFIG_VERSION, CONFIG_HELP, CONFIG_OPTIONS_TABLE,
	CONFIG_METRICS_TABLE
};

/* Reads everything. Every mistake becomes one line in complaints; NULL if there was any. argv must live as long as the
 * program does. The result has one hold. */
struct config *config_load(int argc, char **argv, FILE *complaints, enum config_action *action);

/* Reads everything again. Options that need a restart keep old's value; config_restart_keys() names those that would
 * have changed. NULL: mistakes, old stays in force. */
struct config *config_reload(const struct config *old, FILE *complaints);

/* The text of an option's default. */
const char *config_default(enum config_id id);

/* The first option whose secret stands in a file that everybody on this machine may read; NULL: there is none. */
const char *config_exposed(const struct config *c);
#define CONFIG_EXPOSED_ADVICE "put it into the environment (a file of mode 0600, as systemd's EnvironmentFile=) or make this file 0600"

/* Says what the configuration was made of: for -t. */
void config_sources(FILE *out, const struct config *c);

/* Calls each(arg, "section.key") for every option that waits for a restart; returns how many. */
size_t config_restart_keys(const struct config *c, void (*each)(void *arg, const char *name), void *arg);

const struct config *config_hold(const struct config *c);   /* returns c */
void config_drop(const struct config *c);                   /* NULL is fine */

/* One address of server_listen or admin_listen, taken apart. */
struct config_address {
	bool is_unix;
	char host[256];              /* name or number without brackets; empty if is_unix */
	uint16_t port;
	char path[108];              /* of a unix socket, as sockaddr_un takes it */
};
bool config_address(const char *entry, struct config_address *a);   /* false: not an address */

/* The bits of server_socket_mode: 0660 and the like, of 0777 at most; -1: not a mode. */
int config_mode(const char *text);

/* Every option with its help, unit, bounds, default and value, as a file that can be read back. Secrets as ***. */
void config_print(FILE *out, const struct config *c);
void config_docs(FILE *out);                                /* the README's table */
void config_help(FILE *out);                                /* --help */

#endif
