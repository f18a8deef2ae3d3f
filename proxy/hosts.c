/* hosts.c - see hosts.h. One lock: what is under it is a handful of words, touched once or twice a request.
 *
 * Who waits stands in one of a few lines, by the set of hosts it may use, and has a number. A place that is given back
 * goes to the least number among the lines' first ones that may have it: lines of which nobody may are not looked into,
 * and who waits behind others is not looked at, however many there are. Only when more different sets wait than there are
 * lines do some share one, and are looked through. */
#include "proxy/hosts.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/host_state.h"

struct host {
	char *url;
	bool up;
	int64_t in_flight;                   /* places taken */
	int64_t passing;                     /* requests without a place: they make it busy, and no more */
	int fails;                           /* in a row */
	int64_t avoid_until;                 /* now_ms() */
};

enum { LINE_BITS = 5, LINES = 1 << LINE_BITS };

struct host_line {
	struct host_ticket *first, **last;
	host_set all;                        /* who waits in it may use no others */
	bool mixed;                          /* they may use different ones */
};

struct hosts {
	pthread_mutex_t lock;
	struct host host[HOSTS_MAX];
	size_t n;
	struct host_states *states;
	struct trust authorities;            /* owned */
	_Atomic uint64_t changes;
	int64_t limit;
	size_t after;                        /* where the next look for the least busy begins */
	struct host_line line[LINES];
	size_t waiting;
	uint64_t turns;                      /* the number of the next to wait */
};

static int64_t now_ms(void)
{
	return clock_us() / 1000;
}

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
	free((char *)(uintptr_t)h->authorities.file);
	free((char *)(uintptr_t)h->authorities.directory);
	host_states_free(h->states);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const char *copy(const char *text)
{
	const char *copied = text ? strdup(text) : NULL;

	if (text && !copied)
		abort();                     /* at start */
	return copied;
}

void hosts_trust(struct hosts *h, struct trust authorities)
{
	h->authorities = (struct trust){ .file = copy(authorities.file), .directory = copy(authorities.directory) };
}

size_t hosts_count(const struct hosts *h) { return h->n; }
struct trust hosts_authorities(const struct hosts *h) { return h->authorities; }
struct host_states *hosts_states(const struct hosts *h) { return h->states; }
uint64_t hosts_changes(const struct hosts *h) { return atomic_load_explicit(&h->changes, memory_order_acquire); }
const char *hosts_url(const struct hosts *h, size_t i) { return h->host[i].url; }

host_set hosts_all(const struct hosts *h)
{
	return h->n < HOSTS_MAX ? ((host_set)1 << h->n) - 1 : UINT32_MAX;
}

static host_set all_up(const struct hosts *h)
{
	host_set up = 0;

	for (size_t i = 0; i < h->n; i++)
		if (h->host[i].up)
			up |= (host_set)1 << i;
	return up;
}

bool hosts_up(struct hosts *h, size_t i)
{
	return hosts_all_up(h) >> i & 1;
}

host_set hosts_all_up(struct hosts *h)
{
	pthread_mutex_lock(&h->lock);
	host_set up = all_up(h);
	pthread_mutex_unlock(&h->lock);
	return up;
}

/* ---- the choice ---- */

static host_set all_well(const struct hosts *h, int64_t now)
{
	host_set well = all_up(h);

	for (size_t i = 0; i < h->n; i++)
		if (h->host[i].avoid_until > now)
			well &= ~((host_set)1 << i);
	return well;
}

host_set hosts_well(struct hosts *h, host_set may)
{
	pthread_mutex_lock(&h->lock);
	host_set well = all_well(h, now_ms()) & may;
	pthread_mutex_unlock(&h->lock);
	return well;
}

/* Those of `may` that are worth asking now: what is well, else what is up though it failed a moment ago, else all of them, for
 * what is held to be down may have come back. */
static host_set worth_asking(const struct hosts *h, host_set may, int64_t now)
{
	host_set up = all_up(h) & may, well = all_well(h, now) & may;

	return well ? well : up ? up : may & hosts_all(h);
}

static host_set with_room(const struct hosts *h)
{
	host_set room = 0;

	for (size_t i = 0; i < h->n; i++)
		if (!h->limit || h->host[i].in_flight < h->limit)
			room |= (host_set)1 << i;
	return room;
}

/* The least busy of these, which are not none. */
static int least_busy(const struct hosts *h, host_set these)
{
	int best = -1;

	for (size_t k = 0; k < h->n; k++) {
		size_t i = (h->after + k) % h->n;
		const struct host *host = &h->host[i], *than = &h->host[best < 0 ? 0 : best];
		if (these >> i & 1 && (best < 0 || host->in_flight + host->passing < than->in_flight + than->passing))
			best = (int)i;
	}
	return best;
}

static int64_t avoid_ms(const struct host *host)
{
	return (int64_t)AVOID_FIRST_MS << (host->fails - 1);
}

/* Gives the ticket one of these. One request at a time tries a host that had failed: it is passed over by the others until
 * that one has told how it went. */
static void take(struct hosts *h, struct host_ticket *t, host_set these, int64_t now)
{
	t->host = t->in_order ? __builtin_ctz(these) : least_busy(h, these);
	struct host *host = &h->host[t->host];
	if (t->no_place)
		host->passing++;
	else
		host->in_flight++;
	t->trial = host->fails && host->avoid_until <= now && !t->untold;
	if (t->trial)
		host->avoid_until = now + avoid_ms(host);
	h->after = ((size_t)t->host + 1) % h->n;
}

/* ---- the lines ---- */

static void line_add(struct hosts *h, struct host_ticket *t)
{
	size_t place = t->may * UINT32_C(0x9e3779b1) >> (32 - LINE_BITS);
	struct host_line *l = &h->line[place];

	for (size_t k = 1; l->first && l->all != t->may && k < LINES; k++)
		l = &h->line[(place + k) % LINES];
	l->mixed = l->first && (l->mixed || l->all != t->may);
	l->all = l->first ? l->all | t->may : t->may;
	t->waits = true;
	t->turn = h->turns++;
	t->line = l;
	t->next = NULL;
	t->at = l->last;
	*l->last = t;
	l->last = &t->next;
	h->waiting++;
}

static void line_remove(struct hosts *h, struct host_ticket *t)
{
	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	else
		t->line->last = t->at;
	t->waits = false;
	h->waiting--;
}

/* Who has waited longest of those for whom there is room. */
static struct host_ticket *next_for(const struct hosts *h, host_set room, int64_t now)
{
	struct host_ticket *best = NULL;

	for (size_t i = 0; i < LINES; i++) {
		const struct host_line *l = &h->line[i];
		if (!l->first || (!l->mixed && !(worth_asking(h, l->all, now) & room)))
			continue;
		struct host_ticket *t = l->first;
		while (t && !(worth_asking(h, t->may, now) & room))
			t = t->next;
		if (t && (!best || t->turn < best->turn))
			best = t;
	}
	return best;
}

/* After anything that may have made room for some of who waits. */
static void let_in(struct hosts *h)
{
	int64_t now = h->waiting ? now_ms() : 0;
	struct host_ticket *next;
	host_set room;

	while (h->waiting && (room = with_room(h)) && (next = next_for(h, room, now))) {
		take(h, next, worth_asking(h, next->may, now) & room, now);
		line_remove(h, next);
		loop_post(next->loop, &next->mail);
	}
}

/* ---- what is told ---- */

void hosts_limit(struct hosts *h, int64_t places)
{
	pthread_mutex_lock(&h->lock);
	h->limit = places;
	let_in(h);
	pthread_mutex_unlock(&h->lock);
}

void hosts_set_up(struct hosts *h, size_t i, bool up)
{
	pthread_mutex_lock(&h->lock);
	if (h->host[i].up != up)
		atomic_fetch_add_explicit(&h->changes, 1, memory_order_release);
	h->host[i].up = up;
	let_in(h);
	pthread_mutex_unlock(&h->lock);
}

void hosts_worked(struct hosts *h, const struct host_ticket *t)
{
	struct host *host = &h->host[t->host];

	pthread_mutex_lock(&h->lock);
	if (host->fails) {
		host->fails = 0;
		host->avoid_until = 0;
		let_in(h);
	}
	pthread_mutex_unlock(&h->lock);
}

/* Of several that fail at the same time the first counts. */
bool hosts_failed(struct hosts *h, const struct host_ticket *t, bool hung)
{
	struct host *host = &h->host[t->host];

	pthread_mutex_lock(&h->lock);
	bool first = host->fails == 0;
	if (hung)
		host->fails = AVOID_DOUBLINGS + 1;
	else if (host->fails == 0 || (t->trial && host->fails <= AVOID_DOUBLINGS))
		host->fails++;
	host->avoid_until = now_ms() + avoid_ms(host);
	let_in(h);                               /* who waited for this one alone may have another now */
	pthread_mutex_unlock(&h->lock);
	return first;
}

/* ---- places ---- */

bool hosts_take(struct hosts *h, struct host_ticket *t)
{
	int64_t now = now_ms();

	pthread_mutex_lock(&h->lock);
	t->host = -1;
	let_in(h);                               /* who waited has a host before who comes, that was passed over until now */
	host_set these = worth_asking(h, t->may, now) & (t->no_place ? UINT32_MAX : with_room(h));
	if (these)
		take(h, t, these, now);
	else
		line_add(h, t);
	bool taken = t->host >= 0;
	pthread_mutex_unlock(&h->lock);
	return taken;
}

void hosts_give(struct hosts *h, struct host_ticket *t)
{
	pthread_mutex_lock(&h->lock);
	assert(t->host >= 0);
	int64_t *taken = t->no_place ? &h->host[t->host].passing : &h->host[t->host].in_flight;
	assert(*taken > 0);
	--*taken;
	t->host = -1;
	let_in(h);
	pthread_mutex_unlock(&h->lock);
}

void hosts_leave(struct hosts *h, struct host_ticket *t)
{
	pthread_mutex_lock(&h->lock);
	if (t->waits)
		line_remove(h, t);
	pthread_mutex_unlock(&h->lock);
}

size_t hosts_waiting(struct hosts *h)
{
	pthread_mutex_lock(&h->lock);
	size_t n = h->waiting;
	pthread_mutex_unlock(&h->lock);
	return n;
}
