/* journal.c - see journal.h: a ring and two tables under a lock. */
#include "proxy/journal.h"

#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

struct journal {
	pthread_mutex_t lock;
	size_t added;
	struct journal_line line[JOURNAL_LAST];
	struct journal_model model[JOURNAL_MODELS + 1];  /* the first is for all without a place of their own */
	size_t n_models;
	struct journal_sums host[HOSTS_MAX];
};

struct journal *journal_new(void)
{
	struct journal *j = calloc(1, sizeof *j);

	if (!j)
		abort();                     /* at start */
	pthread_mutex_init(&j->lock, NULL);
	j->n_models = 1;
	return j;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	pthread_mutex_destroy(&j->lock);
	free(j);
}

static void copy(char *to, struct slice s, size_t most)
{
	size_t n = s.len < most ? s.len : most;

	while (n < s.len && n && (s.at[n] & 0xc0) == 0x80)     /* not in the middle of a character */
		n--;
	if (n)
		memcpy(to, s.at, n);
	to[n] = '\0';
}

static bool served(const struct journal_line *line)
{
	return line->timed != RESULT_REFUSED && line->timed != RESULT_FAILED;
}

/* One name for all ways to write it: Ollama takes a name in any case and adds :latest. */
static void model_name(char *to, struct slice model)
{
	static const struct slice latest = { ":latest", 7 };

	if (model.len > latest.len && slice_is_nocase(slice_of(model.at + model.len - latest.len, latest.len), latest))
		model.len -= latest.len;
	copy(to, model, JOURNAL_MODEL_MAX);
}

static struct journal_model *find_model(struct journal_model *table, size_t *n, const char *name, bool may_add)
{
	for (size_t i = 0; i < *n; i++)
		if (!strcasecmp(table[i].name, name))
			return &table[i];
	if (!may_add || *n > JOURNAL_MODELS)
		return &table[0];
	memcpy(table[*n].name, name, strlen(name) + 1);
	return &table[(*n)++];
}

static void count(struct journal_sums *to, const struct journal_line *line, const struct journal_news *news)
{
	to->kind[line->timed]++;
	if (line->timed == RESULT_MISS || line->timed == RESULT_BYPASS)
		to->generated_us += (uint64_t)line->total_us;
	to->tokens_saved += news->tokens_saved;
	to->gpu_ns_saved += news->gpu_ns_saved;
}

void journal_add(struct journal *j, const struct journal_line *line, const struct journal_news *news)
{
	pthread_mutex_lock(&j->lock);
	struct journal_line *to = &j->line[j->added++ % JOURNAL_LAST];
	*to = *line;
	copy(to->method, news->method, JOURNAL_METHOD_MAX);
	copy(to->path, news->path, JOURNAL_PATH_MAX);
	model_name(to->model, news->model);
	if (news->counted)
		count(&find_model(j->model, &j->n_models, to->model, served(to))->sums, to, news);
	if (line->host >= 0)
		count(&j->host[line->host], to, news);
	pthread_mutex_unlock(&j->lock);
}

/* ---- for who looks ---- */

static void add_sums(struct journal_sums *to, const struct journal_sums *more)
{
	for (int k = 0; k < metric_result_count; k++)
		to->kind[k] += more->kind[k];
	to->generated_us += more->generated_us;
	to->tokens_saved += more->tokens_saved;
	to->gpu_ns_saved += more->gpu_ns_saved;
}

/* The newest of both. */
static void add_lines(struct journal_view *view, const struct journal *j)
{
	struct journal_line both[JOURNAL_LAST];
	size_t n = j->added < JOURNAL_LAST ? j->added : JOURNAL_LAST, a = 0, b = 0, m = 0;

	while (m < JOURNAL_LAST && (a < view->n_last || b < n)) {
		const struct journal_line *mine = b < n ? &j->line[(j->added - 1 - b) % JOURNAL_LAST] : NULL;
		const struct journal_line *had = a < view->n_last ? &view->last[a] : NULL;
		bool take_mine = mine && (!had || mine->at_ms > had->at_ms);
		both[m++] = take_mine ? *mine : *had;
		a += !take_mine;
		b += take_mine;
	}
	memcpy(view->last, both, m * sizeof *both);
	view->n_last = m;
}

void journal_read(struct journal *j, struct journal_view *view)
{
	if (!view->n_models)
		view->n_models = 1;
	pthread_mutex_lock(&j->lock);
	add_lines(view, j);
	for (size_t i = 0; i < j->n_models; i++)
		add_sums(&find_model(view->model, &view->n_models, j->model[i].name, true)->sums, &j->model[i].sums);
	for (size_t i = 0; i < HOSTS_MAX; i++)
		add_sums(&view->host[i], &j->host[i]);
	pthread_mutex_unlock(&j->lock);
}
