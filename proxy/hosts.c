/* hosts.c - see hosts.h. One lock: what is under it is a handful of words, touched once or twice a request.
 *
 * Who waits stands in one of a few lines, by the set of hosts it may use, and has a number. A place that is given back
 * goes to the least number among the lines' first ones that may have it: lines of which nobody may are not looked into,
 * and who waits behind others is not looked at, however many there are. */
#include "proxy/hosts.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/host_state.h"

struct host {
	char *url;
	bool up;
	int64_t in_flight;
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
	struct host_states *states;
	_Atomic uint64_t changes;
	struct host_line line[LINES];
	uint64_t turns;                      /* the number of the next to wait */
};

struct hosts *hosts_new(const char *const *urls, size_t n)
{
	struct hosts *h = calloc(1, sizeof *h);

	if (!h)
		abort();
	pthread_mutex_init(&h->lock, NULL);
	h->n = n < HOSTS_MAX ? n : HOSTS_MAX;
	h->states = host_states_new(h->n);
	for (size_t i = 0; i < LINES; i++)
		h->line[i].last = &h->line[i].first;
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

void hosts_free(struct hosts *h)
{
	for (size_t i = 0; i < h->n; i++)
		free(h->host[i].url);
	host_states_free(h->states);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

size_t hosts_count(const struct hosts *h) { return h->n; }
struct host_states *hosts_states(const struct hosts *h) { return h->states; }
uint64_t hosts_changes(const struct hosts *h) { return atomic_load_explicit(&h->changes, memory_order_acquire); }
const char *hosts_url(const struct hosts *h, size_t i) { return h->host[i].url; }

bool hosts_up(struct hosts *h, size_t i)
{
	pthread_mutex_lock(&h->lock);
	bool up = h->host[i].up;
	pthread_mutex_unlock(&h->lock);
	return up;
}

host_set hosts_all_up(struct hosts *h)
{
	host_set up = 0;

	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->n; i++)
		if (h->host[i].up)
			up |= (host_set)1 << i;
	pthread_mutex_unlock(&h->lock);
	return up;
}

void hosts_set_up(struct hosts *h, size_t i, bool up)
{
	pthread_mutex_lock(&h->lock);
	if (h->host[i].up != up)
		atomic_fetch_add_explicit(&h->changes, 1, memory_order_release);
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
