/* confirm.c - see confirm.h. */
#include "proxy/confirm.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/base/log.h"

struct confirm {
	struct models_waiter waiter;
	struct worker *worker;
	struct confirm *next, **at;          /* among the worker's */
	struct burial burial;
	bool over;
	uint8_t key[KEY_BYTES];
	int host;
	int64_t until;                       /* loop_now() */
	char digest[DIGEST_MAX];
	size_t model_len;
	char model[];
};

static void bury(struct burial *b)
{
	struct confirm *c = (struct confirm *)((char *)b - offsetof(struct confirm, burial));

	if (c->waiter.mail.posted)
		loop_bury(&c->worker->loop, b);  /* its mail is under way: once more, next turn */
	else
		free(c);
}

static void end(struct confirm *c)
{
	struct worker *w = c->worker;

	c->over = true;
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	w->n_confirms--;
	models_unwait(w->shared->models, &c->waiter);
	loop_bury(&w->loop, &c->burial);
}

static void drop(struct worker *w, const uint8_t key[KEY_BYTES], struct slice model, const char *why)
{
	log_line(LOG_INFO, "cache", "an answer of %.*s is not kept: %s", (int)model.len, model.at, why);
	metric_label(&w->metrics, unstored_answers, UNSTORED_UNCONFIRMED);
	w->shared->store->ops->drop(w->link, key, NULL, NULL);
}

static void on_looked(struct mail *m)
{
	struct confirm *c = (struct confirm *)((char *)m - offsetof(struct confirm, waiter.mail));
	struct worker *w = c->worker;
	struct slice model = slice_of(c->model, c->model_len);

	if (c->over)
		return;                          /* the worker ends */
	if (!c->waiter.answered && loop_now(&w->loop) < c->until) {
		models_wait_next_look(w->shared->models, &c->waiter, c->host);
		return;
	}
	if (!c->waiter.answered)
		drop(w, c->key, model, "its upstream could not be asked whether the model was replaced meanwhile");
	else if (!models_has(w->shared->models, c->host, model, c->digest))
		drop(w, c->key, model, "the model was replaced meanwhile");
	end(c);
}

void confirm_begin(struct worker *w, const uint8_t key[KEY_BYTES], int host, struct slice model_full, const char *digest)
{
	struct confirm *c = w->n_confirms < CONFIRMS_MOST && host >= 0 ? calloc(1, sizeof *c + model_full.len) : NULL;
	int64_t life = w->config->upstream_health_interval;

	if (!c) {
		drop(w, key, model_full, "too many wait to be confirmed");
		return;
	}
	c->waiter = (struct models_waiter){ .mail.run = on_looked, .loop = &w->loop };
	c->worker = w;
	c->burial.bury = bury;
	memcpy(c->key, key, KEY_BYTES);
	c->host = host;
	c->until = loop_now(&w->loop) + (life > UNCONFIRMED_LEAST_MS ? life : UNCONFIRMED_LEAST_MS);
	snprintf(c->digest, sizeof c->digest, "%s", digest);
	c->model_len = model_full.len;
	memcpy(c->model, model_full.at, model_full.len);
	c->next = w->confirms;
	c->at = &w->confirms;
	if (c->next)
		c->next->at = &c->next;
	w->confirms = c;
	w->n_confirms++;
	models_wait_look(w->shared->models, &c->waiter, host);
}

void confirm_stop_all(struct worker *w)
{
	while (w->confirms)
		end(w->confirms);
}
