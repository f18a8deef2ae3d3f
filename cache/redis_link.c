/* redis_link.c - a connection to Redis on libuv; see redis_link.h.
 *
 * The adapter between hiredis and libuv is our own: errors of a watched socket reach hiredis (the packaged one swallows
 * them, and a refused connection never ends), and writing waits for redis_link_flush(), so that all commands of one
 * turn of the loop leave in one write. What belongs to one connection is a struct redis_conn of its own, which hiredis
 * may outlive us with: it forgets its link when the link gives it up. */
#include "cache/redis_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cache/store.h"

enum { CONNECT_MS = 1000, PAUSE_FIRST_MS = 20 };       /* a connection and its greeting; the first pause */
enum { READER_KEEP = 256 << 10 };

struct redis_conn {
	struct redis_link *link;              /* NULL: given up */
	redisAsyncContext *ac;
	uv_poll_t poll;
	int events;
	bool connected, dirty, flushing;
	struct redis_call *calls, **last;
};

struct redis_resolve {                        /* a look-up of a name; it cannot always be cancelled, so it may outlive */
	uv_getaddrinfo_t req;
	struct redis_link *link;
};

static void attempt(struct redis_link *l);
static void on_timer(uv_timer_t *t);

static void lost(struct redis_link *l, bool free_it, const char *why);

static bool has_come(const struct redis_conn *c)
{
	char byte;

	return recv(c->ac->c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Nothing was asked and yet something came: whatever it is, the next reply would be taken for another's, and hiredis ends
 * the process over it. */
static bool speaks_unasked(const struct redis_conn *c)
{
	return c->connected && c->link && !c->ac->replies.head && has_come(c);
}

static void poll_again(struct redis_conn *c);

static const char unasked[] = "it speaks without being asked";

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct redis_conn *c = poll->data;

	if (status < 0)                                /* hiredis finds the error when it reads */
		events = UV_READABLE | UV_WRITABLE;
	if (c->ac && events & UV_READABLE && speaks_unasked(c)) {
		lost(c->link, true, unasked);
		return;
	}
	if (c->ac && events & UV_READABLE)
		redisAsyncHandleRead(c->ac);
	if (c->ac && events & UV_WRITABLE)
		redisAsyncHandleWrite(c->ac);
	if (c->ac && status < 0)                       /* libuv has stopped, but words may stand before the error */
		poll_again(c);
}

static void poll_again(struct redis_conn *c)
{
	if (c->events)
		uv_poll_start(&c->poll, c->events, on_poll);
	else
		uv_poll_stop(&c->poll);
}

static void poll_for(struct redis_conn *c, int event, bool on)
{
	int events = on ? c->events | event : c->events & ~event;

	if (events == c->events)
		return;
	c->events = events;
	poll_again(c);
}

static void ev_add_read(void *conn)
{
	poll_for(conn, UV_READABLE, true);
}

static void ev_del_read(void *conn)
{
	poll_for(conn, UV_READABLE, false);
}

static void ev_add_write(void *conn)
{
	struct redis_conn *c = conn;

	if (c->connected && !c->flushing)
		c->dirty = true;                       /* gathered until the flush */
	else
		poll_for(c, UV_WRITABLE, true);
}

static void ev_del_write(void *conn)
{
	poll_for(conn, UV_WRITABLE, false);
}

static void conn_free(uv_handle_t *poll)
{
	free(poll->data);
}

static void ev_cleanup(void *conn)
{
	struct redis_conn *c = conn;

	c->ac = NULL;
	uv_close((uv_handle_t *)&c->poll, conn_free);
}

static void pause_then_try(struct redis_link *l)
{
	l->pause_ms = l->pause_ms ? l->pause_ms * 2 : PAUSE_FIRST_MS;
	if (l->pause_ms > l->retry_ms)
		l->pause_ms = l->retry_ms;
	/* spread by a quarter, so that the links of many workers do not come all at once */
	int64_t spread = l->pause_ms / 4 + 1, ms = l->pause_ms - (int64_t)((uint64_t)clock_us() % (uint64_t)spread);
	uv_timer_start(&l->timer, on_timer, (uint64_t)(ms > 0 ? ms : 1), 0);
}

/* The connection is over: its calls get no reply, and after a pause there will be another. */
static void lost(struct redis_link *l, bool free_it, const char *why)
{
	struct redis_conn *c = l->conn;
	struct redis_call *call;
	char reason[STORE_CAUSE_MAX];                  /* why may be in what is freed here */

	snprintf(reason, sizeof reason, "%s", why);
	l->stage = REDIS_DOWN;
	l->conn = NULL;
	if (c) {
		l->doomed = c->calls;
		c->calls = NULL;
		c->link = NULL;
		if (free_it)
			redisAsyncFree(c->ac);
	}
	if (l->closing) {
		l->doomed = NULL;
		return;
	}
	pause_then_try(l);
	l->changed(l, reason);
	while ((call = l->doomed)) {                   /* one of them may close the link, which forgets the others */
		l->doomed = call->next;
		call->done(call, NULL);
	}
}

static void on_reply(redisAsyncContext *ac, void *reply, void *none)
{
	struct redis_conn *c = ac->data;
	struct redis_link *l = c->link;

	(void)none;
	if (!l)
		return;
	if (!reply) {                                  /* hiredis has given the connection up, and frees it itself */
		lost(l, false, ac->errstr && *ac->errstr ? ac->errstr : "the connection is lost");
		return;
	}
	if (!ac->replies.head && ac->c.reader->pos < ac->c.reader->len) {       /* more than was asked for */
		lost(l, true, unasked);
		return;
	}
	struct redis_call *call = c->calls;
	c->calls = call->next;
	if (!c->calls)
		c->last = &c->calls;
	call->done(call, reply);
}

bool redis_send(struct redis_link *l, struct redis_call *call, int argc, const char **argv, const size_t *lens)
{
	struct redis_conn *c = l->conn;

	if (!c || !c->connected || redisAsyncCommandArgv(c->ac, on_reply, NULL, argc, argv, lens) != REDIS_OK)
		return false;
	call->next = NULL;
	call->due = loop_now(l->loop) + l->timeout_ms;
	*c->last = call;
	c->last = &call->next;
	if (l->stage == REDIS_UP && !uv_is_active((uv_handle_t *)&l->timer))
		uv_timer_start(&l->timer, on_timer, (uint64_t)l->timeout_ms, 0);
	return true;
}

bool redis_send_words(struct redis_link *l, struct redis_call *call, int argc, const char **argv)
{
	size_t lens[8];

	for (int i = 0; i < argc; i++)
		lens[i] = strlen(argv[i]);
	return redis_send(l, call, argc, argv, lens);
}

/* What was queued inside a callback of hiredis is written by the loop: a write that fails frees what hiredis still
 * looks at, and so would giving up at once. */
static void write_or_end(struct redis_link *l, bool ok)
{
	if (ok) {
		l->conn->dirty = false;
		poll_for(l->conn, UV_WRITABLE, true);
	} else {
		uv_timer_start(&l->timer, on_timer, 0, 0);
	}
}

void redis_link_flush(struct redis_link *l)
{
	struct redis_conn *c = l->conn;

	if (!c || !c->dirty)
		return;
	c->dirty = false;
	c->flushing = true;
	redisAsyncHandleWrite(c->ac);                  /* on an error this ends in lost(); c lives until the loop turns */
	c->flushing = false;
}

int redis_link_peer(const struct redis_link *l, struct sockaddr_storage *address, const char **path)
{
	socklen_t len = sizeof *address;

	*path = NULL;
	if (!l->conn || getpeername(l->conn->ac->c.fd, (struct sockaddr *)address, &len))
		return -1;
	if (address->ss_family == AF_UNIX)       /* by the name it was found with: the server's own may be relative */
		*path = l->url->hosts[(l->attempt - 1) % l->url->n_hosts].name;
	return 0;
}

void redis_link_drop(struct redis_link *l, const char *why)
{
	if (l->conn)
		lost(l, true, why);
}

static struct redis_link *greeting_of(struct redis_call *call, int nth)
{
	return (struct redis_link *)(void *)((char *)(call - nth) - offsetof(struct redis_link, greet));
}
enum { GREET_AUTH, GREET_SELECT, GREET_CLUSTER, GREET_ROLE, GREET_FUNCTION, GREET_PING };

/* A part of the greeting without which there is no talking. */
static bool greeted(struct redis_link *l, const redisReply *reply)
{
	if (!reply)
		return false;
	if (reply->type == REDIS_REPLY_ERROR) {
		redis_link_drop(l, reply->str);
		return false;
	}
	return true;
}

static void on_auth(struct redis_call *call, const redisReply *reply)
{
	(void)greeted(greeting_of(call, GREET_AUTH), reply);
}

static void on_select(struct redis_call *call, const redisReply *reply)
{
	(void)greeted(greeting_of(call, GREET_SELECT), reply);
}

static void on_cluster(struct redis_call *call, const redisReply *reply)
{
	struct redis_link *l = greeting_of(call, GREET_CLUSTER);

	/* said to a stranger's connection instead of any answer, and then it is closed */
	if (reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "DENIED", 6) == 0)
		redis_link_drop(l, "it is in protected mode: give it a password, and redis.url the same");
	else if (reply && reply->type == REDIS_REPLY_STRING && strstr(reply->str, "cluster_enabled:1"))
		redis_link_drop(l, "this is a Redis Cluster, which is not supported: use one node or Sentinel");
}

static void on_role(struct redis_call *call, const redisReply *reply)
{
	struct redis_link *l = greeting_of(call, GREET_ROLE);

	if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements && reply->element[0]->str &&
	    strcmp(reply->element[0]->str, "master") != 0 && l->url->sentinels)
		redis_link_drop(l, "Sentinel named a server that is not the master");
}

static void on_function(struct redis_call *call, const redisReply *reply)
{
	struct redis_link *l = greeting_of(call, GREET_FUNCTION);

	l->loading = false;
	if (!reply)
		return;
	l->has_function = reply->type != REDIS_REPLY_ERROR;
	if (l->has_function || strncmp(reply->str, "NOAUTH", 6) != 0)     /* that, PING will tell */
		l->loaded(l, l->has_function ? NULL : reply->str);
}

static void on_pong(struct redis_call *call, const redisReply *reply)
{
	struct redis_link *l = greeting_of(call, GREET_PING);

	/* a user who may not PING may do other things; that is as good an answer */
	bool answers = reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) == 0;
	if (!answers && !greeted(l, reply))
		return;
	uv_timer_stop(&l->timer);
	l->stage = REDIS_UP;
	l->pause_ms = 0;
	l->changed(l, NULL);
}

void redis_link_reload(struct redis_link *l)
{
	const char *load[] = { "FUNCTION", "LOAD", "REPLACE", l->function };

	if (l->loading || l->stage != REDIS_UP)
		return;                                /* whoever misses it next tries again */
	l->greet[GREET_FUNCTION].done = on_function;
	l->loading = redis_send_words(l, &l->greet[GREET_FUNCTION], 4, load);
	if (l->loading)
		write_or_end(l, true);
}

static void greet(struct redis_link *l)
{
	const struct redis_url *u = l->url;
	char db[16];
	bool ok = true;

	l->loading = true;
	l->stage = REDIS_GREETING;
	snprintf(db, sizeof db, "%u", u->db);
	const char *auth[] = { "AUTH", u->user ? u->user : u->password, u->password }, *select[] = { "SELECT", db };
	const char *cluster[] = { "INFO", "cluster" }, *role[] = { "ROLE" };
	const char *load[] = { "FUNCTION", "LOAD", "REPLACE", l->function }, *ping[] = { "PING" };
	const struct { int nth, argc; const char **argv; bool wanted; void (*done)(struct redis_call *, const redisReply *); } say[] = {
		{ GREET_AUTH, u->user ? 3 : 2, auth, u->password, on_auth },
		{ GREET_SELECT, 2, select, u->db > 0, on_select },
		{ GREET_CLUSTER, 2, cluster, true, on_cluster },
		{ GREET_ROLE, 1, role, u->sentinels, on_role },
		{ GREET_FUNCTION, 4, load, l->function, on_function },
		{ GREET_PING, 1, ping, true, on_pong },
	};
	for (size_t i = 0; i < sizeof say / sizeof *say && ok; i++)
		if (say[i].wanted) {
			l->greet[say[i].nth].done = say[i].done;
			ok = redis_send_words(l, &l->greet[say[i].nth], say[i].argc, say[i].argv);
		}
	write_or_end(l, ok);
}

static void connect_to(struct redis_link *l, const char *host, int port);

static void on_master(struct redis_call *call, const redisReply *reply)
{
	struct redis_link *l = greeting_of(call, 0);
	char host[256];

	if (!reply)
		return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || !reply->element[0]->str || !reply->element[1]->str) {
		redis_link_drop(l, reply->type == REDIS_REPLY_ERROR ? reply->str : "no Sentinel knows the master");
		return;
	}
	snprintf(host, sizeof host, "%s", reply->element[0]->str);
	uint64_t port;
	if (!slice_number(slice_text(reply->element[1]->str), UINT16_MAX, &port)) {
		redis_link_drop(l, "Sentinel names a port that is none");
		return;
	}
	struct redis_conn *c = l->conn;
	l->conn = NULL;
	c->link = NULL;
	c->calls = NULL;
	redisAsyncFree(c->ac);
	l->stage = REDIS_CONNECTING;
	connect_to(l, host, (int)port);
}

static void ask_sentinel(struct redis_link *l)
{
	const char *ask[] = { "SENTINEL", "get-master-addr-by-name", l->url->master };

	l->greet[0].done = on_master;
	write_or_end(l, redis_send_words(l, &l->greet[0], 3, ask));
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	struct redis_conn *c = ac->data;
	struct redis_link *l = c->link;

	if (!l)
		return;
	if (status != REDIS_OK) {
		lost(l, false, ac->errstr && *ac->errstr ? ac->errstr : "cannot be reached");
		return;
	}
	c->connected = true;
	poll_for(c, UV_WRITABLE, false);
	if (l->stage == REDIS_SENTINEL)
		ask_sentinel(l);
	else
		greet(l);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	struct redis_conn *c = ac->data;

	(void)status;
	if (c->link)
		lost(c->link, false, ac->errstr && *ac->errstr ? ac->errstr : "the connection was closed");
}

/* A connection to an address in numbers, or to a unix socket (port 0): neither waits. */
static void connect_now(struct redis_link *l, const char *address, int port)
{
	redisAsyncContext *ac = port ? redisAsyncConnect(address, port) : redisAsyncConnectUnix(address);
	struct redis_conn *c = ac && !ac->err ? calloc(1, sizeof *c) : NULL;

	if (!c || uv_poll_init(&l->loop->uv, &c->poll, ac->c.fd)) {
		lost(l, false, ac && ac->err ? ac->errstr : "out of memory");
		free(c);
		if (ac)
			redisAsyncFree(ac);
		return;
	}
	c->link = l;
	c->ac = ac;
	c->last = &c->calls;
	c->poll.data = c;
	ac->data = c;
	ac->ev.data = c;
	ac->ev.addRead = ev_add_read;
	ac->ev.delRead = ev_del_read;
	ac->ev.addWrite = ev_add_write;
	ac->ev.delWrite = ev_del_write;
	ac->ev.cleanup = ev_cleanup;
	ac->c.reader->maxbuf = READER_KEEP;            /* else every gathering of replies would be read into a new buffer */
	l->conn = c;
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
	redisAsyncSetConnectCallback(ac, on_connect);
	ev_add_write(c);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
	struct redis_resolve *r = req->data;
	struct redis_link *l = r->link;
	char address[64];
	size_t n = 0;

	if (l) {
		l->resolve = NULL;
		for (struct addrinfo *a = found; a; a = a->ai_next)
			n++;
		struct addrinfo *a = found;
		/* each host has its turn once a round: its addresses go by rounds, or two hosts would never get past one each */
		for (size_t skip = n ? (l->attempt - 1) / l->url->n_hosts % n : 0; skip > 0; skip--)
			a = a->ai_next;
		if (status < 0 || !a || uv_ip_name(a->ai_addr, address, sizeof address))
			lost(l, false, status < 0 ? uv_strerror(status) : "the host has no address");
		else
			connect_now(l, address, ntohs(a->ai_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_port :
						      ((struct sockaddr_in *)(void *)a->ai_addr)->sin_port));
	}
	uv_freeaddrinfo(found);
	free(r);
}

static void connect_to(struct redis_link *l, const char *host, int port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	char service[16];

	if (port == 0) {
		connect_now(l, host, 0);
		return;
	}
	struct redis_resolve *r = calloc(1, sizeof *r);
	snprintf(service, sizeof service, "%d", port);
	if (r) {
		r->link = l;
		r->req.data = r;
	}
	if (!r || uv_getaddrinfo(&l->loop->uv, &r->req, on_resolved, host, service, &hints)) {
		free(r);
		lost(l, false, "out of memory");
		return;
	}
	l->resolve = r;
}

static void attempt(struct redis_link *l)
{
	const struct redis_host *h = &l->url->hosts[l->attempt++ % l->url->n_hosts];

	l->stage = l->url->sentinels ? REDIS_SENTINEL : REDIS_CONNECTING;
	uv_timer_start(&l->timer, on_timer, CONNECT_MS, 0);
	connect_to(l, h->name, h->port);
}

static void on_timer(uv_timer_t *t)
{
	struct redis_link *l = t->data;

	if (l->stage == REDIS_DOWN) {
		attempt(l);
	} else if (l->stage != REDIS_UP) {
		if (l->resolve) {
			l->resolve->link = NULL;
			uv_cancel((uv_req_t *)&l->resolve->req);
			l->resolve = NULL;
		}
		lost(l, true, "no connection in time");
	} else if (l->conn->calls) {
		int64_t left = l->conn->calls->due - loop_now(l->loop);
		if (left <= 0 && has_come(l->conn))
			left = 1;                      /* it was us who were late: timers come before what has been received */
		if (left <= 0)
			redis_link_drop(l, "no answer within redis.timeout");
		else
			uv_timer_start(&l->timer, on_timer, (uint64_t)left, 0);
	}
}

void redis_link_hurry(struct redis_link *l)
{
	l->pause_ms = 0;
	if (l->stage == REDIS_DOWN && !l->closing)
		uv_timer_start(&l->timer, on_timer, 0, 0);
}

void redis_link_open(struct redis_link *l, struct loop *loop)
{
	l->loop = loop;
	l->attempt = (size_t)clock_us();               /* of several hosts, links begin with different ones */
	uv_timer_init(&loop->uv, &l->timer);
	l->timer.data = l;
	uv_unref((uv_handle_t *)&l->timer);
	attempt(l);
}

static void on_closed(uv_handle_t *timer)
{
	struct redis_link *l = timer->data;

	l->closed(l);
}

void redis_link_close(struct redis_link *l)
{
	l->closing = true;
	l->doomed = NULL;
	if (l->resolve) {
		l->resolve->link = NULL;
		uv_cancel((uv_req_t *)&l->resolve->req);
		l->resolve = NULL;
	}
	lost(l, true, "");
	uv_close((uv_handle_t *)&l->timer, on_closed);
}
