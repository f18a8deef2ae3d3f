/* host_state.c - see host_state.h. */
#include "proxy/host_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/log.h"

enum { SAME_DOWN_APART_MS = 10000 };             /* two lines on one that stays down for changing causes */

const char *const host_cause_name[] = {
	[HOST_OK] = "ok", [HOST_NOT_ASKED] = "not-asked-yet", [HOST_NO_NAME] = "dns", [HOST_REFUSED] = "refused",
	[HOST_UNREACHABLE] = "unreachable", [HOST_SLOW_CONNECT] = "connect-timeout", [HOST_TLS] = "tls", [HOST_SILENT] = "timeout",
	[HOST_CLOSED] = "closed", [HOST_NOT_HTTP] = "not-http", [HOST_STATUS] = "status", [HOST_NO_LIST] = "no-list",
};
static_assert(sizeof host_cause_name / sizeof *host_cause_name == HOST_CAUSES, "every cause has a name");

static const char *const says[] = {
	[HOST_OK] = "", [HOST_NOT_ASKED] = "it has not been asked yet", [HOST_NO_NAME] = "its name cannot be resolved",
	[HOST_REFUSED] = "the connection was refused", [HOST_UNREACHABLE] = "no connection could be made",
	[HOST_SLOW_CONNECT] = "no connection was made in time (upstream.connect_timeout)", [HOST_TLS] = "TLS failed",
	[HOST_SILENT] = "GET /api/tags was not answered in time", [HOST_CLOSED] = "it closed the connection without a whole answer to GET /api/tags",
	[HOST_NOT_HTTP] = "its answer to GET /api/tags is not HTTP", [HOST_STATUS] = "its answer to GET /api/tags has status",
	[HOST_NO_LIST] = "its answer to GET /api/tags is not a list of models",
};
static_assert(sizeof says / sizeof *says == HOST_CAUSES, "every cause has a clause");

struct host_states {
	pthread_mutex_t lock;
	size_t n;
	struct one { struct host_state now; int64_t logged_ms; } one[HOSTS_MAX];
};

struct host_states *host_states_new(size_t n)
{
	struct host_states *s = calloc(1, sizeof *s);

	if (!s)
		abort();                     /* at start */
	pthread_mutex_init(&s->lock, NULL);
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		s->one[i].now = (struct host_state){ .cause = HOST_NOT_ASKED, .since_ms = wall_now() };
		snprintf(s->one[i].now.why, HOST_WHY_MAX, "%s", says[HOST_NOT_ASKED]);
	}
	return s;
}

void host_states_free(struct host_states *s)
{
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static bool has_no_connection(enum host_cause cause)
{
	return cause >= HOST_NO_NAME && cause <= HOST_TLS;
}

static void say_up(struct hosts *h, size_t i, const struct host_state *before, int64_t now)
{
	if (before->cause == HOST_NOT_ASKED)
		log_line(LOG_DEBUG, "upstream", "%s is up", hosts_url(h, i));
	else
		log_line(LOG_WARN, "upstream", "%s is up again, after %lld s", hosts_url(h, i), (long long)(now - before->since_ms + 500) / 1000);
}

/* With the lock held; unlocks it, then tells what has changed. */
static void change(struct hosts *h, struct host_states *s, size_t i, const struct host_state *to)
{
	struct one *o = &s->one[i];
	const struct host_state before = o->now;
	int64_t now = wall_now();
	bool turned = to->up != before.up || before.cause == HOST_NOT_ASKED;
	bool another = to->cause != before.cause || strcmp(to->why, before.why) != 0;
	bool says_so = turned || (another && now - o->logged_ms >= SAME_DOWN_APART_MS);

	if (another)
		o->now = *to;
	o->now.since_ms = turned ? now : before.since_ms;
	if (says_so)
		o->logged_ms = now;
	if (turned)
		hosts_set_up(h, i, to->up);
	pthread_mutex_unlock(&s->lock);
	if (says_so && to->up)
		say_up(h, i, &before, now);
	else if (says_so)
		log_line(LOG_WARN, "upstream", "%s is down: %s", hosts_url(h, i), to->why);
}

void host_up(struct hosts *h, size_t i)
{
	struct host_states *s = hosts_states(h);
	const struct host_state to = { .up = true, .cause = HOST_OK };

	pthread_mutex_lock(&s->lock);
	change(h, s, i, &to);
}

void host_down(struct hosts *h, size_t i, enum host_cause cause, const char *detail)
{
	struct host_states *s = hosts_states(h);
	struct host_state to = { .cause = cause };
	const char *between = !detail || !*detail ? "" : cause == HOST_STATUS ? " " : ": ";

	int n = snprintf(to.why, sizeof to.why, "%s%s%s", says[cause], between, detail ? detail : "");
	for (size_t end = n < (int)sizeof to.why ? (size_t)n : sizeof to.why - 1; end && to.why[end - 1] == ' '; end--)
		to.why[end - 1] = '\0';         /* as OpenSSL leaves them */
	pthread_mutex_lock(&s->lock);
	change(h, s, i, &to);
}

/* A host that is down for what it said of its models stays so: whatever else it answers, that is not mended. */
void host_replied(struct hosts *h, size_t i)
{
	struct host_states *s = hosts_states(h);
	const struct host_state to = { .up = true, .cause = HOST_OK };

	pthread_mutex_lock(&s->lock);
	if (has_no_connection(s->one[i].now.cause))
		change(h, s, i, &to);
	else
		pthread_mutex_unlock(&s->lock);
}

struct host_state host_state_of(struct hosts *h, size_t i)
{
	struct host_states *s = hosts_states(h);

	pthread_mutex_lock(&s->lock);
	struct host_state state = s->one[i].now;
	pthread_mutex_unlock(&s->lock);
	return state;
}
