/* config_try.c - see config_try.h. */
#include "proxy/config_try.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unicode/uloc.h>

#include "proxy/base/words.h"
#include "proxy/config_table.h"
#include "proxy/listen.h"
#include "scoring/scoring.h"

static int wrong(const struct config *c, FILE *complaints, enum config_id id, const char *what, const char *why)
{
	config_complain(complaints, c, id, "%s%s%s", what, *what && *why ? ": " : "", why);
	return 1;
}

static int try_languages(const struct config *c, FILE *complaints)
{
	int mistakes = 0;

	for (size_t i = 0; i < c->semantic_languages_list.n; i++)
		if (!*uloc_getISO3Language(c->semantic_languages_list.at[i]))
			mistakes += wrong(c, complaints, CONFIG_ID_semantic_languages, c->semantic_languages_list.at[i], "there is no such language");
	return mistakes;
}

static int try_aliases(const struct config *c, FILE *complaints)
{
	json_error_t error = { .line = 0 };
	char why[JSON_ERROR_TEXT_LENGTH + 32] = "";

	if (!*c->semantic_aliases)
		return 0;
	json_t *all = json_loadb(c->semantic_aliases_content.at, c->semantic_aliases_content.len, JSON_REJECT_DUPLICATES, &error);
	if (!all)
		snprintf(why, sizeof why, "line %d: %s", error.line, error.text);
	else if (!json_is_object(all))
		snprintf(why, sizeof why, "is not a JSON object of short and long forms");
	else if (json_object_size(all) == 0)
		snprintf(why, sizeof why, "has no alias in it");
	json_decref(all);
	return *why ? wrong(c, complaints, CONFIG_ID_semantic_aliases, c->semantic_aliases, why) : 0;
}

/* Of the files that are looked for there, at least one. */
static int try_stopwords(const struct config *c, FILE *complaints)
{
	const char *dir = c->semantic_stopwords;
	char path[1200], why[600] = "has none of the files that are read from it:";
	size_t at = strlen(why);

	if (!*dir)
		return 0;
	for (size_t i = 0; i < c->semantic_languages_list.n; i++) {
		const char *language = c->semantic_languages_list.at[i];

		snprintf(path, sizeof path, "%.1000s/%.60s.txt", dir, language);
		FILE *f = fopen(path, "re");
		if (f) {
			fclose(f);
			return 0;
		}
		if (errno != ENOENT)
			return wrong(c, complaints, CONFIG_ID_semantic_stopwords, path, strerror(errno));
		if (at < sizeof why)
			at += (size_t)snprintf(why + at, sizeof why - at, " %.60s.txt", language);
	}
	return wrong(c, complaints, CONFIG_ID_semantic_stopwords, dir, why);
}

static int try_store(const struct config *c, FILE *complaints)
{
	struct stat st;

	if (c->cache_store != CONFIG_STORE_EMBEDDED || stat(c->cache_path, &st) || S_ISDIR(st.st_mode))
		return 0;
	return wrong(c, complaints, CONFIG_ID_cache_path, c->cache_path, "is not a directory");
}

int config_try(const struct config *c, FILE *complaints)
{
	return try_languages(c, complaints) + try_aliases(c, complaints) + try_stopwords(c, complaints) + try_store(c, complaints);
}

static int try_forbidden(const struct config *c, const struct lexicon *l, FILE *complaints, FILE *notes)
{
	struct scoring_options o;
	struct scoring *scoring;
	unsigned skipped = 0;

	scoring_options_init(&o);
	enum err e = scoring_new(&o, c->scoring_forbidden_content, l, &scoring, &skipped);
	if (e)
		return wrong(c, complaints, CONFIG_ID_scoring_forbidden, c->scoring_forbidden, err_info[e].text);
	scoring_free(scoring);
	if (skipped)
		fprintf(notes, "scoring.forbidden: %s: %u line%s without a word left out\n", c->scoring_forbidden, skipped, skipped == 1 ? "" : "s");
	return 0;
}

int config_try_all(const struct config *c, FILE *complaints, FILE *notes)
{
	const struct lexicon_options o = {
		.languages = c->semantic_languages, .aliases = *c->semantic_aliases ? c->semantic_aliases : NULL,
		.stopwords = *c->semantic_stopwords ? c->semantic_stopwords : NULL,
	};
	char why[512];
	int mistakes = 0;

	if (!listen_check(c, why, sizeof why)) {
		fprintf(complaints, "%s\n", why);
		mistakes++;
	}
	struct lexicon *l = lexicon_open(&o, why, sizeof why);
	if (!l) {
		fprintf(complaints, "semantic: %s\n", why);
		return mistakes + 1;
	}
	fputs(lexicon_notes(l), notes);
	mistakes += try_forbidden(c, l, complaints, notes);
	lexicon_close(l);
	return mistakes;
}
