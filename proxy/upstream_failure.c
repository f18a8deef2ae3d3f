/* upstream_failure.c - what a failure says: to the client, of the host, and of whether another may be asked; see
 * upstream_private.h. */
#include <stdio.h>

#include "proxy/base/log.h"
#include "proxy/host_state.h"
#include "proxy/upstream_private.h"

enum { NOT_FOUND = 404 };

static const char *url_of(const struct private *t)
{
	return hosts_url(t->u->hosts, (size_t)t->pub.host);
}

/* Only what is asked of a model says that a host which had failed is well again: others answer though the models hang. */
bool transfer_tells(const struct private *t)
{
	return !t->rq.uncounted && (t->rq.kind == TRANSFER_GENERATION || t->rq.kind == TRANSFER_GENERATION_PASSED);
}

void failure_say_why(struct private *t, enum err e)
{
	char *to = t->pub.why;
	const char *url = t->pub.host >= 0 ? url_of(t) : "";
	struct host_state state;

	switch (e) {
	case ERR_UPSTREAM_DOWN:
		state = host_state_of(t->u->hosts, (size_t)t->pub.host);
		snprintf(to, UPSTREAM_WHY_MAX, "the upstream %s could not be reached: %s; check that Ollama runs and that upstream.url is right",
		         url, *state.why ? state.why : "no connection could be made");
		break;
	case ERR_UPSTREAM_BROKE:
		snprintf(to, UPSTREAM_WHY_MAX, "the upstream %s closed the connection before its answer was complete; try again", url);
		break;
	case ERR_UPSTREAM_BABBLE:
		snprintf(to, UPSTREAM_WHY_MAX, "the upstream %s sent something that is not an answer; check upstream.url", url);
		break;
	case ERR_UPSTREAM_SLOW:
		snprintf(to, UPSTREAM_WHY_MAX, "the upstream %s sent nothing for too long (upstream.%s)", url,
		         t->pub.status || t->http.heard ? "idle_timeout" : t->rq.answer_ms ? "answer_timeout" : "first_byte_timeout");
		break;
	default:
		*to = '\0';
	}
}

void failure_hold_against(struct private *t, enum err e, int status)
{
	struct hosts *h = t->u->hosts;

	if (t->rq.uncounted)
		return;                          /* how it answers a look is told by who looks */
	if (!hosts_failed(h, &t->ticket, e == ERR_UPSTREAM_SLOW) || hosts_count(h) == 1)
		return;
	if (e)
		log_line(LOG_WARN, "upstream", "%s failed (%s): others are asked first for a while", url_of(t), err_info[e].name);
	else
		log_line(LOG_WARN, "upstream", "%s answered with %d: others are asked first for a while", url_of(t), status);
}

bool failure_speaks_against(enum err e)
{
	return e == ERR_UPSTREAM_DOWN || e == ERR_UPSTREAM_BROKE || e == ERR_UPSTREAM_BABBLE || e == ERR_UPSTREAM_SLOW;
}

bool failure_is_busy(int status)
{
	return status == 502 || status == 503 || status == 504;
}

bool failure_refuses(const struct private *t, int status)
{
	return failure_is_busy(status) || (status == NOT_FOUND && t->rq.seeks);
}

host_set failure_left(const struct private *t, enum err e)
{
	const struct hosts *h = t->u->hosts;
	host_set left = t->ticket.may & ~t->tried & ~((host_set)1 << t->pub.host) & hosts_all(h);

	if (t->pub.status || t->http.upload_begun || (e && !failure_speaks_against(e)))
		return 0;
	if (e == ERR_UPSTREAM_DOWN)
		return left;
	if (!e)
		left = hosts_well(t->u->hosts, left);    /* a reply is better than another's silence */
	if (!e && t->refused == NOT_FOUND)
		return left;                     /* nothing was done there */
	return t->again || t->rq.kind == TRANSFER_CHANGE ? 0 : left;
}
