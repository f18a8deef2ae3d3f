/* hosts.c - see hosts.h. One lock: what is under it is a handful of words, touched once or twice a request.
 *
 * Who waits stands in one of a few lines, by the set of hosts it may use, and has a number. A place that is given back
 * goes to the least number among the lines' first ones that may have it: lines of which nobody may are not looked into,
 * and who waits behind others is not looked at, however many there are. */
#include "proxy/hosts.h"

#include <assert.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proxy/dialect.h"

struct model { char *name; char digest[DIGEST_MAX]; };

struct host {
	char *url;
	bool up;
	int64_t in_flight;
	struct model *models;                /* sorted by name */
	size_t n_models;
};

enum { LINE_BITS = 5, LINES = 1 << LINE_BITS };

struct host_line {
	struct host_ticket *first, **last;
	host_set all;                        /* who waits in it may use no others; sets of one place in the table share it */
};

struct hosts {
	pthread_mutex_t lock;
	struct host host[HOSTS_MAX];
	size_t n;
	struct host_line line[LINES];
	uint64_t turns;                      /* the number of the next to wait */
	struct models_waiter *waiters;
	bool learnt;                         /* some host has told its models once */
	unsigned doubts, doubts_begun;       /* counted, and how many a check under way has seen */
	unsigned doubts_settled;
	uint64_t generation;
	_Atomic uint64_t known_generation;   /* the same for readers without the lock; 0: in doubt */
	void (*on_doubt)(void *arg);
	void *on_doubt_arg;
};

struct hosts *hosts_new(const char *const *urls, size_t n)
{
	struct hosts *h = calloc(1, sizeof *h);

	if (!h)
		abort();
	pthread_mutex_init(&h->lock, NULL);
	h->n = n < HOSTS_MAX ? n : HOSTS_MAX;
	for (size_t i = 0; i < LINES; i++)
		h->line[i].last = &h->line[i].first;
	h->doubts = 1;                       /* nothing is known until the first check has ended */
	for (size_t i = 0; i < h->n; i++) {
		h->host[i].url = strdup(urls[i]);
		if (!h->host[i].url)
			abort();
		size_t len = strlen(h->host[i].url);
		while (len && h->host[i].url[len - 1] == '/')
			h->host[i].url[--len] = '\0';
	}
	return h;
}

static void models_free(struct host *host)
{
	for (size_t i = 0; i < host->n_models; i++)
		free(host->models[i].name);
	free(host->models);
	host->models = NULL;
	host->n_models = 0;
}

void hosts_free(struct hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		models_free(&h->host[i]);
		free(h->host[i].url);
	}
	pthread_mutex_destroy(&h->lock);
	free(h);
}

size_t hosts_count(const struct hosts *h) { return h->n; }
const char *hosts_url(const struct hosts *h, size_t i) { return h->host[i].url; }

bool hosts_up(struct hosts *h, size_t i)
{
	pthread_mutex_lock(&h->lock);
	bool up = h->host[i].up;
	pthread_mutex_unlock(&h->lock);
	return up;
}

void hosts_set_up(struct hosts *h, size_t i, bool up)
{
	pthread_mutex_lock(&h->lock);
	h->host[i].up = up;
	pthread_mutex_unlock(&h->lock);
}

/* The least busy of those that may be taken: first among those that are up, then among all, for what is held to be
 * down may have come back; tried ones last. */
static int pick(const struct hosts *h, const struct host_ticket *t, int64_t limit)
{
	int best = -1;
	int64_t best_rank = INT64_MAX;

	for (size_t i = 0; i < h->n; i++) {
		const struct host *host = &h->host[i];
		if (!(t->may >> i & 1) || (limit && host->in_flight >= limit))
			continue;
		int64_t rank = host->in_flight + (host->up ? 0 : INT64_C(1) << 40) + (t->tried >> i & 1 ? INT64_C(1) << 41 : 0);
		if (rank < best_rank) {
			best_rank = rank;
			best = (int)i;
		}
	}
	return best;
}

static void line_add(struct hosts *h, struct host_ticket *t)
{
	struct host_line *l = &h->line[t->may * UINT32_C(0x9e3779b1) >> (32 - LINE_BITS)];

	t->waits = true;
	t->turn = h->turns++;
	t->line = l;
	t->next = NULL;
	t->at = l->last;
	*l->last = t;
	l->last = &t->next;
	l->all |= t->may;
}

static void line_remove(struct host_ticket *t)
{
	struct host_line *l = t->line;

	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	else
		l->last = t->at;
	if (!l->first)
		l->all = 0;
	t->waits = false;
}

bool hosts_take(struct hosts *h, struct host_ticket *t, int64_t limit)
{
	pthread_mutex_lock(&h->lock);
	t->host = pick(h, t, limit);
	if (t->host >= 0)
		h->host[t->host].in_flight++;
	else
		line_add(h, t);
	bool taken = t->host >= 0;
	pthread_mutex_unlock(&h->lock);
	return taken;
}

static host_set with_room(const struct hosts *h, int64_t limit)
{
	host_set room = 0;

	for (size_t i = 0; i < h->n; i++)
		if (!limit || h->host[i].in_flight < limit)
			room |= (host_set)1 << i;
	return room;
}

/* Who has waited longest of those that may use one of these; NULL: nobody. */
static struct host_ticket *next_for(const struct hosts *h, host_set these)
{
	struct host_ticket *best = NULL;

	for (size_t i = 0; i < LINES; i++) {
		struct host_ticket *t = h->line[i].all & these ? h->line[i].first : NULL;
		while (t && !(t->may & these))
			t = t->next;
		if (t && (!best || t->turn < best->turn))
			best = t;
	}
	return best;
}

void hosts_give(struct hosts *h, struct host_ticket *t, int64_t limit)
{
	struct host_ticket *next;

	pthread_mutex_lock(&h->lock);
	assert(t->host >= 0 && h->host[t->host].in_flight > 0);
	h->host[t->host].in_flight--;
	t->host = -1;
	while ((next = next_for(h, with_room(h, limit)))) {      /* several, when the limit has been raised */
		next->host = pick(h, next, limit);
		h->host[next->host].in_flight++;
		line_remove(next);
		loop_post(next->loop, &next->mail);
	}
	pthread_mutex_unlock(&h->lock);
}

void hosts_leave(struct hosts *h, struct host_ticket *t)
{
	pthread_mutex_lock(&h->lock);
	if (t->waits)
		line_remove(t);
	pthread_mutex_unlock(&h->lock);
}

/* ---- models ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct model *)a)->name, ((const struct model *)b)->name);
}

static const char *digest_of(const struct host *host, const char *name)
{
	struct model wanted = { .name = (char *)(uintptr_t)name };
	const struct model *m =
		host->n_models ? bsearch(&wanted, host->models, host->n_models, sizeof *host->models, by_name) : NULL;

	return m ? m->digest : NULL;
}

enum models_news models_find(struct hosts *h, struct slice model_full, char digest[DIGEST_MAX], host_set *have)
{
	char name[512];
	const char *chosen = NULL;

	*have = 0;
	if (model_full.len >= sizeof name)
		return MODEL_UNKNOWN;
	memcpy(name, model_full.at, model_full.len);
	name[model_full.len] = '\0';
	pthread_mutex_lock(&h->lock);
	if (h->doubts != h->doubts_settled) {
		pthread_mutex_unlock(&h->lock);
		return MODELS_NOT_LEARNT;
	}
	for (int up = 1; up >= 0 && !chosen; up--)          /* hosts that are up decide; the others' memory holds if none is */
		for (size_t i = 0; i < h->n && !chosen; i++)
			if (h->host[i].up == up)
				chosen = digest_of(&h->host[i], name);
	for (size_t i = 0; i < h->n && chosen; i++) {
		const char *theirs = digest_of(&h->host[i], name);
		if (theirs && !strcmp(theirs, chosen))
			*have |= 1u << i;
	}
	if (chosen)
		memcpy(digest, chosen, DIGEST_MAX);
	pthread_mutex_unlock(&h->lock);
	return chosen ? MODEL_KNOWN : MODEL_UNKNOWN;
}

uint64_t models_generation(struct hosts *h)
{
	return atomic_load_explicit(&h->known_generation, memory_order_acquire);
}

void models_wait(struct hosts *h, struct models_waiter *w)
{
	pthread_mutex_lock(&h->lock);
	w->waits = true;
	w->next = h->waiters;
	h->waiters = w;
	if (h->doubts == h->doubts_settled) {       /* it ended between the look and the wait */
		h->waiters = w->next;
		w->waits = false;
		loop_post(w->loop, &w->mail);
	}
	pthread_mutex_unlock(&h->lock);
}

void models_unwait(struct hosts *h, struct models_waiter *w)
{
	pthread_mutex_lock(&h->lock);
	for (struct models_waiter **at = &h->waiters; w->waits && *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			w->waits = false;
			break;
		}
	pthread_mutex_unlock(&h->lock);
}

void models_doubt(struct hosts *h)
{
	pthread_mutex_lock(&h->lock);
	h->doubts++;
	atomic_store_explicit(&h->known_generation, 0, memory_order_release);
	if (h->on_doubt)
		h->on_doubt(h->on_doubt_arg);
	pthread_mutex_unlock(&h->lock);
}

void models_on_doubt(struct hosts *h, void (*call)(void *arg), void *arg)
{
	pthread_mutex_lock(&h->lock);
	h->on_doubt = call;
	h->on_doubt_arg = arg;
	pthread_mutex_unlock(&h->lock);
}

void hosts_check_begins(struct hosts *h)
{
	pthread_mutex_lock(&h->lock);
	h->doubts_begun = h->doubts;
	pthread_mutex_unlock(&h->lock);
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

void hosts_learnt(struct hosts *h, size_t i, struct slice tags)
{
	size_t n = 0;
	struct model *models = tags.at ? parse_tags(tags, &n) : NULL;
	struct host *host = &h->host[i];

	pthread_mutex_lock(&h->lock);
	host->up = models != NULL;
	if (models) {
		bool same = n == host->n_models && h->learnt;
		for (size_t k = 0; same && k < n; k++)
			same = !strcmp(models[k].name, host->models[k].name) && !strcmp(models[k].digest, host->models[k].digest);
		if (!same) {
			h->generation++;
			if (h->doubts == h->doubts_settled)
				atomic_store_explicit(&h->known_generation, h->generation, memory_order_release);
		}
		models_free(host);
		host->models = models;
		host->n_models = n;
		h->learnt = true;
	}
	pthread_mutex_unlock(&h->lock);
}

void hosts_check_ended(struct hosts *h)
{
	pthread_mutex_lock(&h->lock);
	if (h->generation == 0)
		h->generation = 1;           /* 0 says "in doubt" */
	h->doubts_settled = h->doubts_begun;
	if (h->doubts_settled == h->doubts) {
		atomic_store_explicit(&h->known_generation, h->generation, memory_order_release);
		while (h->waiters) {
			struct models_waiter *w = h->waiters;
			h->waiters = w->next;
			w->waits = false;
			loop_post(w->loop, &w->mail);
		}
	} else if (h->on_doubt) {
		h->on_doubt(h->on_doubt_arg);    /* doubted again meanwhile */
	}
	pthread_mutex_unlock(&h->lock);
}
