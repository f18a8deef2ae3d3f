/* redis_url.c - takes redis.url apart; see redis_url.h.
 *
 *   redis://[user:password@]host[:port][/db]
 *   unix://[user:password@]/path[?db=N]
 *   redis+sentinel://[user:password@]h1[:p1],h2[:p2]/name[/db]
 *   redis://h1[:p1],redis://h2[:p2][/db]          Sentinels of the master "mymaster" */
#include "cache/redis_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/buf.h"

enum { REDIS_PORT = 6379, SENTINEL_PORT = 26379, DB_MAX = 16383 };

void redis_url_fini(struct redis_url *u)
{
	for (size_t i = 0; i < u->n_hosts; i++)
		free(u->hosts[i].name);
	free(u->master);
	free(u->user);
	free(u->password);
	*u = (struct redis_url){ 0 };
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A copy with %41 made A. */
static char *unescape(struct slice s)
{
	char *text = malloc(s.len + 1);
	size_t n = 0;

	for (size_t i = 0; text && i < s.len; i++) {
		int high = s.at[i] == '%' && i + 2 < s.len ? hex(s.at[i + 1]) : -1;
		int low = high >= 0 ? hex(s.at[i + 2]) : -1;
		text[n++] = low >= 0 ? (char)(high << 4 | low) : s.at[i];
		i += low >= 0 ? 2 : 0;
	}
	if (text)
		text[n] = 0;
	return text;
}

static bool takes(struct slice *s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (s->len < n || memcmp(s->at, prefix, n) != 0)
		return false;
	*s = slice_of(s->at + n, s->len - n);
	return true;
}

/* Splits s at the last (or first) c: *after is what follows, s what comes before. */
static bool split(struct slice *s, char c, bool last, struct slice *after)
{
	const char *at = !s->len ? NULL : last ? memrchr(s->at, c, s->len) : memchr(s->at, c, s->len);

	if (!at)
		return false;
	*after = slice_of(at + 1, (size_t)(s->at + s->len - at - 1));
	s->len = (size_t)(at - s->at);
	return true;
}

static bool host_read(struct redis_url *u, struct slice s, uint16_t port)
{
	struct slice after;
	uint64_t n = port;

	if (u->n_hosts == REDIS_SENTINELS_MAX)
		return false;
	if (s.len && s.at[0] == '[') {                 /* [::1]:6379 */
		s = slice_of(s.at + 1, s.len - 1);
		if (!split(&s, ']', false, &after) || (after.len && (after.at[0] != ':' ||
		    !slice_number(slice_of(after.at + 1, after.len - 1), 65535, &n))))
			return false;
	} else if (split(&s, ':', true, &after) && !slice_number(after, 65535, &n)) {
		return false;
	}
	if (n == 0 || s.len == 0)
		return false;
	u->hosts[u->n_hosts].port = (uint16_t)n;
	u->hosts[u->n_hosts].name = unescape(s);
	return u->hosts[u->n_hosts++].name;
}

static bool login_read(struct redis_url *u, struct slice *s)
{
	struct slice rest = *s, login, password = { 0 };

	if (!split(&rest, '@', true, &login))
		return true;
	*s = login;
	if (!split(&rest, ':', false, &password)) {
		password = rest;                       /* a lone word is a password, as in redis-cli's own URLs */
		rest.len = 0;
	}
	u->password = unescape(password);
	u->user = rest.len ? unescape(rest) : NULL;
	return u->password && (u->user || !rest.len);
}

static bool db_read(struct redis_url *u, struct slice s)
{
	uint64_t n = 0;

	if (s.len && !slice_number(s, DB_MAX, &n))
		return false;
	u->db = (unsigned)n;
	return true;
}

static bool unix_read(struct redis_url *u, struct slice s)
{
	struct slice query;

	if (split(&s, '?', false, &query) && (!takes(&query, "db=") || !db_read(u, query)))
		return false;
	if (s.len == 0 || s.at[0] != '/' || s.len > 100)       /* sockaddr_un has 108 */
		return false;
	u->hosts[0].name = unescape(s);
	u->n_hosts = 1;
	return u->hosts[0].name;
}

static bool tcp_read(struct redis_url *u, struct slice s, bool sentinel)
{
	struct slice path = { 0 }, db, part, hosts = s;

	if (!sentinel && memchr(s.at, ',', s.len))
		sentinel = true;
	else if (!sentinel)
		hosts = s;
	u->sentinels = sentinel;
	for (struct slice rest = s; slice_next(&rest, ',', &part); ) {
		takes(&part, "redis://");
		if (!rest.at)
			split(&part, '/', false, &path);
		hosts = part;
		if (!host_read(u, hosts, sentinel ? SENTINEL_PORT : REDIS_PORT))
			return false;
	}
	if (!sentinel)
		return db_read(u, path);
	db = (struct slice){ 0 };
	uint64_t n;
	if (!slice_number(path, DB_MAX, &n)) {         /* name[/db]; a number alone is the db */
		split(&path, '/', false, &db);
		u->master = path.len ? unescape(path) : strdup("mymaster");
	} else {
		db = path;
		u->master = strdup("mymaster");
	}
	return u->master && db_read(u, db);
}

bool redis_url_read(struct redis_url *u, const char *text, char *why, size_t len)
{
	struct slice s = slice_text(text);
	bool ok = false, is_unix = false, sentinel = false;

	*u = (struct redis_url){ 0 };
	if (takes(&s, "rediss://")) {
		snprintf(why, len, "needs TLS for rediss://, which this program does not have; use a local stunnel or a unix "
			 "socket");
		return false;
	}
	if (takes(&s, "redis://") || (is_unix = takes(&s, "unix://")) || (sentinel = takes(&s, "redis+sentinel://")))
		ok = login_read(u, &s) && s.len > 0 && (is_unix ? unix_read(u, s) : tcp_read(u, s, sentinel));
	if (!ok) {
		redis_url_fini(u);
		snprintf(why, len, "cannot be understood: it is redis://[user:password@]host[:port][/db], "
			 "unix:///path[?db=N] or redis+sentinel://host:port,host:port/name[/db]");
	}
	return ok;
}
