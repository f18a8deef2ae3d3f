/* models.c - see models.h.
 *
 * Looks are numbered when they are wanted. A look answers all that was wanted before it began, and nothing that was wanted
 * while it was under way: what it saw may be older. */
#include "proxy/models.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <xxhash.h>

#include "proxy/dialect.h"

enum { NAME_MAX_BYTES = 512 };                /* a longer name is no model's */

struct model { char *name; char digest[DIGEST_MAX]; };

struct list {                                /* of one host */
	struct model *models;                /* sorted by name */
	size_t n;
	XXH128_hash_t sum;                   /* of the list as it came: the same is not read again */
	bool known;                          /* it has told its models once */
	bool settled;                        /* the first look has ended, whichever way */
	uint64_t wanted, begun, ended;       /* looks, by the number under which each was wanted */
};

struct models {
	pthread_mutex_t lock;
	struct hosts *hosts;
	size_t n;
	struct list list[HOSTS_MAX];
	uint64_t wants;                      /* how often looks were wanted: numbers them */
	struct models_waiter *waiters;
	_Atomic uint64_t changes;            /* of any list */
	void (*on_wanted)(void *arg);
	void *on_wanted_arg;
};

struct models *models_new(struct hosts *hosts)
{
	struct models *m = calloc(1, sizeof *m);

	if (!m)
		abort();                     /* at start */
	pthread_mutex_init(&m->lock, NULL);
	m->hosts = hosts;
	m->n = hosts_count(hosts);
	return m;
}

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->models[i].name);
	free(l->models);
	l->models = NULL;
	l->n = 0;
}

void models_free(struct models *m)
{
	for (size_t i = 0; i < m->n; i++)
		list_free(&m->list[i]);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

size_t models_count(struct models *m, int host)
{
	pthread_mutex_lock(&m->lock);
	size_t n = m->list[host].n;
	pthread_mutex_unlock(&m->lock);
	return n;
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

/* Of the hosts that are up the first that has the model decides; if none of them has it, the others' memory holds. */
static const char *choose(const struct models *m, const char *name, host_set up)
{
	for (int among_up = 1; among_up >= 0; among_up--)
		for (size_t i = 0; i < m->n; i++) {
			const char *digest = (int)(up >> i & 1) == among_up ? digest_of(&m->list[i], name) : NULL;
			if (digest)
				return digest;
		}
	return NULL;
}

/* May a look that was wanted before `since` still tell of a model that is not known? */
static bool may_tell(const struct models *m, uint64_t since)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct list *l = &m->list[i];
		if (!l->settled || (l->ended < l->wanted && l->ended < since))
			return true;
	}
	return false;
}

/* With the lock held. */
static void wait_for(struct models *m, struct models_waiter *w)
{
	w->waits = true;
	w->next = m->waiters;
	w->at = &m->waiters;
	if (w->next)
		w->next->at = &w->next;
	m->waiters = w;
}

static void stop_waiting(struct models_waiter *w)
{
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	w->waits = false;
}

static bool name_of(struct slice model_full, char *name, size_t room)
{
	if (model_full.len >= room)
		return false;
	memcpy(name, model_full.at, model_full.len);
	name[model_full.len] = '\0';
	return true;
}

enum models_news models_find(struct models *m, struct slice model_full, char digest[DIGEST_MAX], host_set *have, struct models_waiter *w)
{
	char name[NAME_MAX_BYTES];
	host_set up = hosts_all_up(m->hosts);
	enum models_news news = MODEL_UNKNOWN;

	*have = 0;
	if (!name_of(model_full, name, sizeof name))
		return MODEL_UNKNOWN;
	pthread_mutex_lock(&m->lock);
	const char *chosen = choose(m, name, up);
	for (size_t i = 0; i < m->n && chosen; i++) {
		const char *theirs = digest_of(&m->list[i], name);
		if (theirs && !strcmp(theirs, chosen))
			*have |= (host_set)1 << i;
	}
	if (chosen) {
		memcpy(digest, chosen, DIGEST_MAX);
		news = MODEL_KNOWN;
	} else {
		if (w && !w->look)
			w->look = m->wants + 1;      /* looks that are wanted later are not waited for */
		if (may_tell(m, w ? w->look : m->wants + 1))
			news = MODELS_NOT_LEARNT;
		if (news == MODELS_NOT_LEARNT && w)
			wait_for(m, w);
	}
	pthread_mutex_unlock(&m->lock);
	return news;
}

bool models_has(struct models *m, int host, struct slice model_full, const char *digest)
{
	char name[NAME_MAX_BYTES];

	if (!name_of(model_full, name, sizeof name))
		return false;
	pthread_mutex_lock(&m->lock);
	const char *now = digest_of(&m->list[host], name);
	bool has = now && !strcmp(now, digest);
	pthread_mutex_unlock(&m->lock);
	return has;
}

host_set models_hosts(struct models *m, struct slice model_full)
{
	char name[NAME_MAX_BYTES];
	host_set have = 0;

	if (!name_of(model_full, name, sizeof name))
		return 0;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->n; i++)
		if (digest_of(&m->list[i], name))
			have |= (host_set)1 << i;
	pthread_mutex_unlock(&m->lock);
	return have;
}

uint64_t models_generation(struct models *m)
{
	uint64_t changes = atomic_load_explicit(&m->changes, memory_order_acquire);

	/* both only grow, so their sum is another whenever one of them is */
	return changes ? changes + hosts_changes(m->hosts) : 0;
}

/* ---- looks ---- */

/* With the lock held. */
static void want(struct models *m, int host)
{
	m->list[host].wanted = ++m->wants;
	if (m->on_wanted)
		m->on_wanted(m->on_wanted_arg);
}

void models_want_look(struct models *m, int host)
{
	pthread_mutex_lock(&m->lock);
	want(m, host);
	pthread_mutex_unlock(&m->lock);
}

void models_wait_look(struct models *m, struct models_waiter *w, int host)
{
	pthread_mutex_lock(&m->lock);
	want(m, host);
	w->one = true;
	w->host = host;
	w->look = m->wants;
	wait_for(m, w);
	pthread_mutex_unlock(&m->lock);
}

void models_wait_next_look(struct models *m, struct models_waiter *w, int host)
{
	pthread_mutex_lock(&m->lock);
	w->one = true;
	w->host = host;
	w->look = 0;
	wait_for(m, w);
	pthread_mutex_unlock(&m->lock);
}

void models_unwait(struct models *m, struct models_waiter *w)
{
	pthread_mutex_lock(&m->lock);
	if (w->waits)
		stop_waiting(w);
	pthread_mutex_unlock(&m->lock);
}

void models_on_wanted(struct models *m, void (*call)(void *arg), void *arg)
{
	pthread_mutex_lock(&m->lock);
	m->on_wanted = call;
	m->on_wanted_arg = arg;
	pthread_mutex_unlock(&m->lock);
}

bool models_look_wanted(struct models *m, int host)
{
	pthread_mutex_lock(&m->lock);
	bool wanted = m->list[host].wanted > m->list[host].begun;
	pthread_mutex_unlock(&m->lock);
	return wanted;
}

void models_look_begins(struct models *m, int host)
{
	pthread_mutex_lock(&m->lock);
	m->list[host].begun = m->list[host].wanted;
	pthread_mutex_unlock(&m->lock);
}

/* What is missing, empty or answered by somebody else says nothing of the weights: such a model has no digest. */
static const char *digest_in(json_t *item)
{
	const char *digest = json_string_value(json_object_get(item, "digest"));
	const char *remote = json_string_value(json_object_get(item, "remote_host"));

	return digest && *digest && strlen(digest) < DIGEST_MAX && !(remote && *remote) ? digest : NULL;
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
		const char *name = json_string_value(json_object_get(item, "name")), *digest = digest_in(item);
		struct slice full = name && *name ? model_full_name(&names, slice_text(name)) : (struct slice){ 0 };
		if (!full.len || !digest)
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

static bool same_models(const struct list *l, const struct model *models, size_t n)
{
	bool same = n == l->n && l->known;

	for (size_t k = 0; same && k < n; k++)
		same = !strcmp(models[k].name, l->models[k].name) && !strcmp(models[k].digest, l->models[k].digest);
	return same;
}

/* Takes the models over. With the lock held. */
static void replace(struct models *m, struct list *l, struct model *models, size_t n, XXH128_hash_t sum)
{
	if (!same_models(l, models, n))
		atomic_fetch_add_explicit(&m->changes, 1, memory_order_release);
	list_free(l);
	l->models = models;
	l->n = n;
	l->sum = sum;
	l->known = true;
}

/* With the lock held. */
static void tell_waiters(struct models *m, int host, bool answered)
{
	for (struct models_waiter *w = m->waiters, *next; w; w = next) {
		next = w->next;
		if (w->one && (w->host != host || w->look > m->list[host].ended))
			continue;
		stop_waiting(w);
		w->answered = answered;
		loop_post(w->loop, &w->mail);
	}
}

bool models_look_ended(struct models *m, int host, struct slice tags)
{
	struct list *l = &m->list[host];
	struct model *models = NULL;
	size_t n = 0;
	XXH128_hash_t sum = { 0, 0 };

	if (tags.at)
		sum = XXH3_128bits(tags.at, tags.len);
	/* only this thread writes to it, so it may look without the lock */
	bool same = tags.at && l->known && XXH128_isEqual(sum, l->sum);
	if (tags.at && !same)
		models = parse_tags(tags, &n);
	pthread_mutex_lock(&m->lock);
	if (models)
		replace(m, l, models, n, sum);
	l->settled = true;
	l->ended = l->begun;
	tell_waiters(m, host, same || models);
	pthread_mutex_unlock(&m->lock);
	return same || models;
}
