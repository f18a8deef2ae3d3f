/* models.c - see models.h. */
#include "proxy/models.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proxy/dialect.h"

struct model { char *name; char digest[DIGEST_MAX]; };

struct list {                                /* of one host */
	struct model *models;                /* sorted by name */
	size_t n;
};

struct models {
	pthread_mutex_t lock;
	struct hosts *hosts;
	size_t n;
	struct list list[HOSTS_MAX];
	struct models_waiter *waiters;
	bool learnt;                         /* some host has told its models once */
	unsigned doubts, doubts_begun;       /* counted, and how many a check under way has seen */
	unsigned doubts_settled;
	uint64_t generation;
	_Atomic uint64_t known_generation;   /* the same for readers without the lock; 0: in doubt */
	void (*on_doubt)(void *arg);
	void *on_doubt_arg;
};

struct models *models_new(struct hosts *hosts)
{
	struct models *m = calloc(1, sizeof *m);

	if (!m)
		abort();
	pthread_mutex_init(&m->lock, NULL);
	m->hosts = hosts;
	m->n = hosts_count(hosts);
	m->doubts = 1;                       /* nothing is known until the first check has ended */
	return m;
}

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->models[i].name);
	free(l->models);
	*l = (struct list){ 0 };
}

void models_free(struct models *m)
{
	for (size_t i = 0; i < m->n; i++)
		list_free(&m->list[i]);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct model *)a)->name, ((const struct model *)b)->name);
}

static const char *digest_of(const struct list *list, const char *name)
{
	struct model wanted = { .name = (char *)(uintptr_t)name };
	const struct model *found = list->n ? bsearch(&wanted, list->models, list->n, sizeof *list->models, by_name) : NULL;

	return found ? found->digest : NULL;
}

enum models_news models_find(struct models *m, struct slice model_full, char digest[DIGEST_MAX], host_set *have)
{
	char name[512];
	const char *chosen = NULL;
	host_set all_up = hosts_all_up(m->hosts);

	*have = 0;
	if (model_full.len >= sizeof name)
		return MODEL_UNKNOWN;
	memcpy(name, model_full.at, model_full.len);
	name[model_full.len] = '\0';
	pthread_mutex_lock(&m->lock);
	if (m->doubts != m->doubts_settled) {
		pthread_mutex_unlock(&m->lock);
		return MODELS_NOT_LEARNT;
	}
	for (int up = 1; up >= 0 && !chosen; up--)          /* hosts that are up decide; the others' memory holds if none is */
		for (size_t i = 0; i < m->n && !chosen; i++)
			if ((int)(all_up >> i & 1) == up)
				chosen = digest_of(&m->list[i], name);
	for (size_t i = 0; i < m->n && chosen; i++) {
		const char *theirs = digest_of(&m->list[i], name);
		if (theirs && !strcmp(theirs, chosen))
			*have |= 1u << i;
	}
	if (chosen)
		memcpy(digest, chosen, DIGEST_MAX);
	pthread_mutex_unlock(&m->lock);
	return chosen ? MODEL_KNOWN : MODEL_UNKNOWN;
}

uint64_t models_generation(struct models *m)
{
	return atomic_load_explicit(&m->known_generation, memory_order_acquire);
}

void models_wait(struct models *m, struct models_waiter *w)
{
	pthread_mutex_lock(&m->lock);
	w->waits = true;
	w->next = m->waiters;
	m->waiters = w;
	if (m->doubts == m->doubts_settled) {       /* it ended between the look and the wait */
		m->waiters = w->next;
		w->waits = false;
		loop_post(w->loop, &w->mail);
	}
	pthread_mutex_unlock(&m->lock);
}

void models_unwait(struct models *m, struct models_waiter *w)
{
	pthread_mutex_lock(&m->lock);
	for (struct models_waiter **at = &m->waiters; w->waits && *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			w->waits = false;
			break;
		}
	pthread_mutex_unlock(&m->lock);
}

void models_doubt(struct models *m)
{
	pthread_mutex_lock(&m->lock);
	m->doubts++;
	atomic_store_explicit(&m->known_generation, 0, memory_order_release);
	if (m->on_doubt)
		m->on_doubt(m->on_doubt_arg);
	pthread_mutex_unlock(&m->lock);
}

void models_on_doubt(struct models *m, void (*call)(void *arg), void *arg)
{
	pthread_mutex_lock(&m->lock);
	m->on_doubt = call;
	m->on_doubt_arg = arg;
	pthread_mutex_unlock(&m->lock);
}

void models_check_begins(struct models *m)
{
	pthread_mutex_lock(&m->lock);
	m->doubts_begun = m->doubts;
	pthread_mutex_unlock(&m->lock);
}

/* The list of /api/tags as a sorted table; NULL if it is not one. */
static struct model *parse_tags(struct slice tags, size_t *n)
{
	json_error_t error;
	json_t *root = json_loadb(tags.at, tags.len, 0, &error), *list = json_object_get(root, "models"), *item;
	struct arena names;
	size_t i, most = json_array_size(list) < MODELS_MAX ? json_array_size(list) : MODELS_MAX;
	struct model *models = json_is_array(list) ? calloc(most + 1, sizeof *models) : NULL;

	*n = 0;
	arena_init(&names, SIZE_MAX / 2);
	for (i = 0; models && i < most; i++) {
		item = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(item, "name"));
		const char *digest = json_string_value(json_object_get(item, "digest"));
		struct slice full = name && *name ? model_full_name(&names, slice_text(name)) : (struct slice){ 0 };
		if (!full.len || !digest || strlen(digest) >= DIGEST_MAX)
			continue;
		models[*n].name = strndup(full.at, full.len);
		if (!models[*n].name)
			break;
		memcpy(models[*n].digest, digest, strlen(digest) + 1);
		(*n)++;
	}
	arena_fini(&names);
	json_decref(root);
	if (models)
		qsort(models, *n, sizeof *models, by_name);
	return models;
}

bool models_learnt(struct models *m, size_t i, struct slice tags)
{
	size_t n = 0;
	struct model *models = tags.at ? parse_tags(tags, &n) : NULL;
	struct list *list = &m->list[i];

	pthread_mutex_lock(&m->lock);
	if (models) {
		bool same = n == list->n && m->learnt;
		for (size_t k = 0; same && k < n; k++)
			same = !strcmp(models[k].name, list->models[k].name) && !strcmp(models[k].digest, list->models[k].digest);
		if (!same) {
			m->generation++;
			if (m->doubts == m->doubts_settled)
				atomic_store_explicit(&m->known_generation, m->generation, memory_order_release);
		}
		list_free(list);
		list->models = models;
		list->n = n;
		m->learnt = true;
	}
	pthread_mutex_unlock(&m->lock);
	return models != NULL;
}

void models_check_ended(struct models *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->generation == 0)
		m->generation = 1;           /* 0 says "in doubt" */
	m->doubts_settled = m->doubts_begun;
	if (m->doubts_settled == m->doubts) {
		atomic_store_explicit(&m->known_generation, m->generation, memory_order_release);
		while (m->waiters) {
			struct models_waiter *w = m->waiters;
			m->waiters = w->next;
			w->waits = false;
			loop_post(w->loop, &w->mail);
		}
	} else if (m->on_doubt) {
		m->on_doubt(m->on_doubt_arg);    /* doubted again meanwhile */
	}
	pthread_mutex_unlock(&m->lock);
}
