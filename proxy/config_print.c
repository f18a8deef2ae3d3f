/* config_print.c - the configuration as a file that can be read back, as --help, and as the README's table. */
#include "proxy/config_table.h"

/* "connections, 1 to 1000000, default 10000; a change needs a restart" */
static void put_facts(FILE *out, const struct config_option *o)
{
	if (o->unit[0])
		fprintf(out, "%s, ", o->unit);
	if (o->kind == KIND_SWITCH)
		fputs("on or off, ", out);
	for (size_t i = 0; i < o->n_choices; i++)
		fprintf(out, "%s%s", o->choices[i], i + 2 < o->n_choices ? ", " : i + 2 == o->n_choices ? " or " : ", ");
	if (o->kind >= KIND_SIZE && o->kind <= KIND_RATIO) {
		config_put_number(out, o, o->least);
		fputs(" to ", out);
		config_put_number(out, o, o->most);
		fputs(", ", out);
	} else if (o->kind == KIND_NUMBERS) {
		fputs("each from ", out);
		config_put_number(out, o, o->least);
		fputs(" to ", out);
		config_put_number(out, o, o->most);
		fputs(", ", out);
	} else if (o->kind <= KIND_DIR) {
		fprintf(out, "%s of at most %.0f characters, ",
			o->kind == KIND_LIST ? "a list with commas between," :
			o->kind == KIND_FILE ? "a path" : o->kind == KIND_DIR ? "a directory's path" : "a text", o->most);
	}
	fprintf(out, "default %s", o->def[0] ? o->def : "empty");
	if (o->flags & RESTART)
		fputs("; a change needs a restart", out);
}

void config_print(FILE *out, const struct config *c)
{
	fputs("# ollacache: every option, as `ollacache --print-config` writes them.\n"
	      "# Stronger than this file are OLLACACHE_SECTION_KEY in the environment and --section.key=value.\n"
	      "# Sizes take B, KiB, MiB, GiB, TiB; times take ms, s, m, h, d.\n", out);
	for (size_t s = 0; s < config_n_sections; s++) {
		fprintf(out, "\n# ---- %s ----\n[%s]\n", config_sections[s].help, config_sections[s].name);
		for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
			if (strcmp(o->section, config_sections[s].name) != 0)
				continue;
			fprintf(out, "\n# %s\n# (", o->help);
			put_facts(out, o);
			fprintf(out, ")\n%s =", o->key);
			if (o->kind > KIND_DIR || config_text(c, o)[0])
				putc(' ', out);
			config_put_value(out, c, o);
			putc('\n', out);
		}
	}
}

/* In a cell of a table a bar would end it. */
static void put_cell(FILE *out, const char *text)
{
	for (; *text; text++)
		fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

void config_docs(FILE *out)
{
	fputs("| option | default | what it does |\n|---|---|---|\n", out);
	for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++) {
		fprintf(out, "| `%s` | ", o->name);
		if (o->def[0])
			fprintf(out, "`%s`", o->def);
		fputs(" | ", out);
		put_cell(out, o->help);
		if (o->kind == KIND_SWITCH || o->kind == KIND_CHOICE)
			fputs(" (", out);
		if (o->kind == KIND_SWITCH)
			fputs("`on`, `off`", out);
		for (size_t i = 0; i < o->n_choices; i++)
			fprintf(out, "%s`%s`", i ? ", " : "", o->choices[i]);
		if (o->kind == KIND_SWITCH || o->kind == KIND_CHOICE)
			putc(')', out);
		fprintf(out, "%s |\n", o->flags & RESTART ? " (restart)" : "");
	}
}

void config_help(FILE *out)
{
	fputs("ollacache [-c FILE] [--section.key=value ...]   serve\n"
	      "ollacache -t               check the configuration: exit 0 or 1\n"
	      "ollacache --print-config   print every option with its help, bounds, default and value\n"
	      "ollacache --health         ask a running instance: exit 0 or 1\n"
	      "ollacache --version, -v\n"
	      "ollacache --help, -h\n"
	      "\n"
	      "Without -c no file is read; with -t, --print-config and --health too, say -c as for serving.\n"
	      "An option may come from the command line, from OLLACACHE_SECTION_KEY in the environment, or from the file,\n"
	      "in this order of force. Given twice on the command line, the last wins.\n", out);
	for (size_t s = 0; s < config_n_sections; s++) {
		fprintf(out, "\n%s: %s\n", config_sections[s].name, config_sections[s].help);
		for (const struct config_option *o = config_table; o < config_table + CONFIG_IDS; o++)
			if (!strcmp(o->section, config_sections[s].name))
				fprintf(out, "  --%s=%s\n        %s\n", o->name, o->def, o->help);
	}
}
