/* keep_alive.c - see keep_alive.h. */
#include "proxy/keep_alive.h"

#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/worker.h"

struct note {
	char model[ENGINE_NAME_MAX];         /* in full; "": there is none here */
	char digest[DIGEST_MAX];
	char value[KEEP_VALUE_MAX], options[KEEP_OPTIONS_MAX];   /* JSON; options may be "" */
	bool unloads, embeds;
	host_set hosts;
};

struct keep {                                /* of one model */
	struct note note;
	bool wanted;                         /* the note is still to be handed on, and something will see to it */
	uint64_t noted;                      /* how often there was one */
	size_t running;                      /* requests under way */
	int64_t sent_ms;
};

struct call {                                /* to one host */
	struct engine_call call;
	struct keep_alives *all;
	struct keep *keep;
	int host;
	struct call *next, **at;
};

struct keep_alives {
	pthread_mutex_t lock;                /* of what keep has, w and whether the mail is posted */
	struct keep keep[KEEP_MODELS];
	struct hosts *hosts;
	struct engines *engines;
	struct worker *w;                    /* NULL: nobody hands on (yet, or any more) */
	struct mail mail;
	struct alarm next;
	struct call *calls;
};

static int64_t now_ms(void)
{
	return clock_us() / 1000;
}

struct keep_alives *keep_alives_new(struct hosts *hosts, struct engines *engines)
{
	struct keep_alives *ks = calloc(1, sizeof *ks);

	if (!ks)
		abort();                     /* at start */
	pthread_mutex_init(&ks->lock, NULL);
	ks->hosts = hosts;
	ks->engines = engines;
	return ks;
}

void keep_alives_free(struct keep_alives *ks)
{
	pthread_mutex_destroy(&ks->lock);
	free(ks);
}

/* ---- notes ---- */

static bool put(char *to, size_t room, struct slice s)
{
	if (s.len >= room)
		return false;
	memcpy(to, s.len ? s.at : "", s.len);
	to[s.len] = '\0';
	return true;
}

/* The model's, else a free one, else one that has nothing left to do; NULL: there is none. With the lock held. */
static struct keep *keep_of(struct keep_alives *ks, const char *model)
{
	struct keep *idle = NULL;

	for (size_t i = 0; i < KEEP_MODELS; i++) {
		struct keep *k = &ks->keep[i];
		if (!strcmp(k->note.model, model))
			return k;
		if (!k->wanted && !k->running && (!idle || k->sent_ms < idle->sent_ms))
			idle = k;
	}
	return idle && (!idle->sent_ms || now_ms() - idle->sent_ms >= KEEP_APART_MS) ? idle : NULL;
}

void keep_alive_note(struct keep_alives *ks, const struct ask *ask, const char *digest, host_set hosts)
{
	struct note n = { .unloads = ask->unloads, .hosts = hosts,
	                  .embeds = ask->family == FAMILY_EMBED || ask->family == FAMILY_EMBEDDINGS };

	if (!put(n.model, sizeof n.model, ask->model_full) || !put(n.digest, sizeof n.digest, slice_text(digest)) ||
	    !put(n.value, sizeof n.value, ask->keep_alive) || !put(n.options, sizeof n.options, ask->load_options))
		return;
	pthread_mutex_lock(&ks->lock);
	struct keep *k = ks->w ? keep_of(ks, n.model) : NULL;
	if (k) {
		k->note = n;
		k->noted++;
		if (!k->wanted)
			loop_post(&ks->w->loop, &ks->mail);
		k->wanted = true;
	}
	pthread_mutex_unlock(&ks->lock);
}

/* ---- handing on ---- */

static void look_over(struct keep_alives *ks);

static void on_done(struct engine_call *call, int status)
{
	struct call *c = (struct call *)((char *)call - offsetof(struct call, call));
	struct keep_alives *ks = c->all;

	log_line(LOG_DEBUG, "upstream", "keep_alive of a hit was handed on to %s: status %d", hosts_url(ks->hosts, (size_t)c->host), status);
	buf_fini(&call->reply);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	pthread_mutex_lock(&ks->lock);
	c->keep->running--;
	pthread_mutex_unlock(&ks->lock);
	free(c);
	look_over(ks);
}

/* A model that makes vectors is not to be asked for text, but for no vector; it is unloaded as any other. */
static enum err write_body(const struct note *n, struct buf *body)
{
	enum err e = buf_addf(body, "{\"model\":\"");

	e = e ? e : buf_put_json(body, slice_text(n->model));
	e = e ? e : buf_addf(body, "\",\"keep_alive\":%s", n->value);
	if (n->unloads)
		return e ? e : buf_addf(body, "}");
	e = e || !*n->options ? e : buf_addf(body, ",\"options\":%s", n->options);
	return e ? e : buf_addf(body, n->embeds ? ",\"input\":[]}" : "}");
}

static void send_to(struct keep_alives *ks, struct keep *k, const struct note *n, int host)
{
	struct call *c = calloc(1, sizeof *c);
	struct buf body;

	buf_init(&body, 8 * ENGINE_NAME_MAX + KEEP_VALUE_MAX + KEEP_OPTIONS_MAX);
	if (!c || write_body(n, &body)) {
		buf_fini(&body);
		free(c);
		return;
	}
	c->call.done = on_done;
	c->all = ks;
	c->keep = k;
	c->host = host;
	c->next = ks->calls;
	c->at = &ks->calls;
	if (c->next)
		c->next->at = &c->next;
	ks->calls = c;
	pthread_mutex_lock(&ks->lock);
	k->running++;
	k->sent_ms = now_ms();
	pthread_mutex_unlock(&ks->lock);
	if (n->unloads)
		engines_changed(ks->engines, host);
	engine_call_begin(&c->call, ks->w, host, n->embeds && !n->unloads ? "/api/embed" : "/api/generate", &body, true);
}

/* Where it is loaded; false: that is not known yet. */
static bool find_loaded(struct keep_alives *ks, const struct note *n, host_set *where)
{
	host_set up = hosts_well(ks->hosts, n->hosts);
	bool known = true;

	*where = n->unloads ? up : 0;
	for (size_t i = 0; i < hosts_count(ks->hosts) && !n->unloads; i++) {
		if (!(up >> i & 1))
			continue;
		if (!engines_looked(ks->engines, (int)i, KEEP_LOOK_MS))
			known = false;
		else if (engines_loaded(ks->engines, (int)i, n->digest))
			*where |= (host_set)1 << i;
	}
	return known;
}

/* When it is next to be looked at, in milliseconds; -1: something else will say. */
static int64_t hand_on(struct keep_alives *ks, struct keep *k)
{
	struct note n;
	host_set where;

	pthread_mutex_lock(&ks->lock);
	int64_t since = now_ms() - k->sent_ms;
	bool ready = k->wanted && !k->running;
	uint64_t noted = k->noted;
	if (ready)
		n = k->note;
	pthread_mutex_unlock(&ks->lock);
	if (!ready)
		return -1;
	if (k->sent_ms && since < KEEP_APART_MS)
		return KEEP_APART_MS - since;
	if (!find_loaded(ks, &n, &where))
		return -1;                       /* a look's end will */
	pthread_mutex_lock(&ks->lock);
	bool same = k->noted == noted;
	k->wanted = !same;
	pthread_mutex_unlock(&ks->lock);
	if (!same)
		return 0;
	for (size_t i = 0; i < hosts_count(ks->hosts); i++)
		if (where >> i & 1)
			send_to(ks, k, &n, (int)i);
	return -1;
}

static void on_next(struct alarm *a)
{
	look_over((struct keep_alives *)((char *)a - offsetof(struct keep_alives, next)));
}

static void look_over(struct keep_alives *ks)
{
	int64_t soonest = -1;

	if (!ks->w)
		return;
	for (size_t i = 0; i < KEEP_MODELS; i++) {
		int64_t ms = hand_on(ks, &ks->keep[i]);
		if (ms >= 0 && (soonest < 0 || ms < soonest))
			soonest = ms;
	}
	if (soonest >= 0)
		alarm_set(&ks->w->alarms, &ks->next, soonest, on_next);
}

static void on_noted(struct mail *m)
{
	look_over((struct keep_alives *)((char *)m - offsetof(struct keep_alives, mail)));
}

static void on_look(void *arg)
{
	look_over(arg);
}

/* ---- life ---- */

void keep_alives_start(struct keep_alives *ks, struct worker *w)
{
	ks->mail.run = on_noted;
	engines_on_look(ks->engines, on_look, ks);
	pthread_mutex_lock(&ks->lock);
	ks->w = w;
	pthread_mutex_unlock(&ks->lock);
}

void keep_alives_stop(struct keep_alives *ks)
{
	struct worker *w = ks->w;

	engines_on_look(ks->engines, NULL, NULL);
	pthread_mutex_lock(&ks->lock);
	ks->w = NULL;                            /* mail that is under way finds this */
	pthread_mutex_unlock(&ks->lock);
	alarm_clear(&w->alarms, &ks->next);
	while (ks->calls) {
		struct call *c = ks->calls;
		engine_call_stop(&c->call);
		ks->calls = c->next;
		free(c);
	}
}
