/* exchange_body.c - a body that is kept until it is whole, to be understood: its share of server.max_buffered, which grows as
 * it comes. Where there is none to be had, or the client is too slow with it, the body streams through instead, as what is
 * too large to keep does; nobody is refused for it. */
#include "proxy/exchange.h"

#include <stdlib.h>

#include "proxy/destination.h"

enum {
	BODY_FREE = 4 << 10,             /* bodies so small are bounded by server.max_connections: not worth two locks */
	SHARE_STEP = 64 << 10,           /* by which a share grows, and by a quarter of itself */
	SHARE_WAIT_MS = 1000,            /* for more, while reading pauses */
	/* what holds a share must come on: so much each time somebody looks */
	PROGRESS_LOOK_MS = 5000,
	PROGRESS_BYTES = 64 << 10,
};

static void on_share(struct mail *m);
static void on_share_alarm(struct alarm *a);

bool exchange_share_take(struct exchange *x, uint64_t bytes, bool patient)
{
	struct budget *b = &x->worker->shared->buffered;

	if (!x->shares) {
		x->shares = true;
		x->share.loop = &x->worker->loop;
		x->share.mail.run = on_share;
		memcpy(x->share.client, x->request->client, sizeof x->share.client);
	}
	if (budget_take(b, &x->share, bytes, patient))
		return true;
	if (patient)
		alarm_set(&x->worker->alarms, &x->share_alarm, SHARE_WAIT_MS, on_share_alarm);
	return false;
}

void exchange_share_back(struct exchange *x)
{
	if (x->parsing)
		return;                      /* it is still in use: on_worked() gives it back */
	if (x->shares && (x->share.waits || x->share.bytes))
		budget_leave(&x->worker->shared->buffered, &x->share);
	alarm_clear(&x->worker->alarms, &x->share_alarm);
}

static void watch_progress(struct exchange *x)
{
	x->progress_from = x->body_bytes;
	alarm_set(&x->worker->alarms, &x->share_alarm, PROGRESS_LOOK_MS, on_share_alarm);
}

/* What was read goes first; its share is given back when it has been sent on. */
static void pass_instead(struct exchange *x)
{
	alarm_clear(&x->worker->alarms, &x->share_alarm);
	x->bypass = BYPASS_TOO_LARGE;
	pass_begin(x, false);
}

static void on_share(struct mail *m)
{
	struct exchange *x = EXCHANGE_OF(m, share.mail);

	if (!x->request || x->share.waits)
		return;
	if (x->step == STEP_BODY) {
		watch_progress(x);
		request_more(x->request);
	} else if (x->step == STEP_PARSE && !x->parsing) {
		alarm_clear(&x->worker->alarms, &x->share_alarm);
		exchange_parse_now(x);
	}
}

static void on_share_alarm(struct alarm *a)
{
	struct exchange *x = EXCHANGE_OF(a, share_alarm);
	bool waited = x->share.waits;

	if (waited)
		budget_unwait(&x->worker->shared->buffered, &x->share);
	if (x->request && x->step == STEP_PARSE && waited) {
		x->bypass = BYPASS_TOO_LARGE;
		pass_begin(x, true);
		return;
	}
	if (!x->request || x->step != STEP_BODY)
		return;
	if (!waited && x->body_bytes - x->progress_from >= PROGRESS_BYTES) {
		watch_progress(x);
		return;
	}
	pass_instead(x);
	request_more(x->request);
}

/* So much of it is kept; of a body that is only looked into for its model that is enough. */
static size_t most_kept(const struct exchange *x)
{
	size_t most = (size_t)x->config->server_max_body;

	return x->peeks && most > DESTINATION_PEEK ? DESTINATION_PEEK : most;
}

void exchange_body_begin(struct exchange *x)
{
	int64_t length = x->request->content_length;

	exchange_step(x, STEP_BODY);
	if (x->peeks)
		return;                          /* whatever its length: its beginning is looked into */
	if (length > (int64_t)x->config->server_max_body ||
	    (length > BODY_FREE && (uint64_t)length * (1 + PARSE_COST) > budget_most(&x->worker->shared->buffered)))
		pass_instead(x);
	else if (length > 0)
		x->body.limit = (size_t)length;
}

/* How much more of the budget is asked for, of which `needs` are wanted at once. */
static uint64_t next_step(const struct exchange *x, uint64_t needs)
{
	uint64_t step = x->share.bytes / 4 > SHARE_STEP ? x->share.bytes / 4 : SHARE_STEP;
	int64_t length = x->request->content_length;
	uint64_t left = length < 0 ? step : (uint64_t)length - x->share.bytes;

	step = step < left ? step : left;
	return step > needs ? step : needs;
}

size_t exchange_body(struct exchange *x, struct slice bytes)
{
	size_t len = x->body.len + bytes.len;

	if (x->share.waits) {
		x->body_bytes -= bytes.len;
		return 0;
	}
	if (len > most_kept(x)) {
		pass_instead(x);
		return pass_body(x, bytes);
	}
	if (len > BODY_FREE && len > x->share.bytes) {
		bool first = !x->shares;
		if (!exchange_share_take(x, next_step(x, len - x->share.bytes), true)) {
			x->body_bytes -= bytes.len;
			return 0;
		}
		if (first)
			watch_progress(x);
	}
	if (buf_put(&x->body, bytes))
		reply_error(x, ERR_NO_MEMORY, NULL);
	return bytes.len;
}
