/* redis_world.h - a redis-server of a test's own, on a unix socket in the test's directory. */
#ifndef TESTS_REDIS_WORLD_H
#define TESTS_REDIS_WORLD_H

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <sys/prctl.h>

#include "tests/unit/store_world.h"

struct server {
	pid_t pid;
	char socket[96], url[160];
};

/* Asks the server something, outside of the store. The caller frees. */
static inline redisReply *server_ask(const struct server *s, const char *command)
{
	struct timeval wait = { 10, 0 };
	redisContext *c = redisConnectUnixWithTimeout(s->socket, wait);
	redisReply *r = c && !c->err ? redisCommand(c, command) : NULL;

	if (c)
		redisFree(c);
	return r;
}

static inline void server_tell(const struct server *s, const char *command)
{
	redisReply *r = server_ask(s, command);

	assert_non_null(r);
	if (r->type == REDIS_REPLY_ERROR)
		fail_msg("%s: %s", command, r->str);
	freeReplyObject(r);
}

static inline void server_start(struct server *s, const char *dir)
{
	int ready[2];

	snprintf(s->socket, sizeof s->socket, "%.60s/redis.sock", dir);
	snprintf(s->url, sizeof s->url, "unix://%s", s->socket);
	assert_int_equal(pipe(ready), 0);
	s->pid = fork();
	if (s->pid == 0) {
		dup2(ready[1], 1);
		close(ready[0]);
		alarm(0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);      /* a test that crashes must not leave a server behind */
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", s->socket, "--save", "", "--dir", dir,
		       "--daemonize", "no", "--loglevel", "notice", (char *)NULL);
		_exit(127);
	}
	close(ready[1]);
	FILE *out = fdopen(ready[0], "r");
	char line[512];
	bool up = false;
	while (!up && fgets(line, sizeof line, out))
		up = strstr(line, "accept connections");
	if (!up)
		fail_msg("redis-server could not be started; is it installed?");
	fclose(out);
}

static inline void server_stop(struct server *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
}

static inline struct store *server_open(const struct server *s, int64_t timeout_ms)
{
	char why[256] = "";
	struct store_redis_options o = { .url = s->url, .prefix = "oc:", .timeout_ms = timeout_ms, .retry_ms = 100 };
	struct store *store = store_redis_open(&o, why, sizeof why);

	if (!store)
		fail_msg("%s", why);
	return store;
}

/* Turns the loop until both links are up (a get of nothing does not fail any more), as seen by a call that costs nothing. */
static inline void until_up(struct world *w)
{
	for (;;) {
		enum store_news a = get_text(w, w->link, 4000000, NULL), b = get_text(w, w->other, 4000000, NULL);
		if (a == STORE_NONE && b == STORE_NONE)
			return;
		turn(w);
	}
}

#endif
