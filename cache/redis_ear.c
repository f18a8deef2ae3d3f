/* redis_ear.c - see redis_ear.h. A stream of libuv's and hiredis' reader: nothing is ever asked on it after the greeting,
 * and what comes is not looked at but for that it comes. */
#include "cache/redis_ear.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/base/log.h"

static void on_closed(uv_handle_t *h)
{
	struct redis_ear *e = h->data;

	e->stage = EAR_CLOSED;
	if (e->ending)
		e->closed(e);
}

void redis_ear_close(struct redis_ear *e)
{
	e->refused = false;
	if (e->stage == EAR_CLOSED || e->stage == EAR_CLOSING)
		return;
	e->stage = EAR_CLOSING;
	if (e->reader)
		redisReaderFree(e->reader);
	e->reader = NULL;
	uv_close(&e->at.handle, on_closed);
}

bool redis_ear_end(struct redis_ear *e)
{
	e->ending = true;
	redis_ear_close(e);
	return e->stage != EAR_CLOSED;
}

/* An error that will be the same next time: not one of a full or busy server, or of an ear that was just cut off. */
static bool for_good(const char *error)
{
	static const char *const beginnings[] = { "NOPERM", "NOAUTH", "WRONGPASS", "DENIED", "ERR unknown", "ERR syntax" };

	for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
		if (!strncasecmp(error, beginnings[i], strlen(beginnings[i])))
			return true;
	return false;
}

/* It is tried again when the link's owner next opens it. */
static void deaf(struct redis_ear *e, const char *why)
{
	log_line(LOG_DEBUG, "store", "redis: does not tell of changes: %s", why);
	redis_ear_close(e);
}

static bool say(struct redis_ear *e, int argc, const char **argv)
{
	char *text;
	int len = redisFormatCommandArgv(&text, argc, argv, NULL);

	if (len < 0)
		return false;
	uv_buf_t b = uv_buf_init(text, (unsigned)len);
	bool sent = uv_try_write(&e->at.stream, &b, 1) == len;       /* a new connection has room for a few words */
	redisFreeCommand(text);
	return sent;
}

/* ---- asking: by the link's own connection ---- */

static void on_tracking(struct redis_call *call, const redisReply *r)
{
	struct redis_ear *e = (struct redis_ear *)(void *)((char *)(call - 1) - offsetof(struct redis_ear, call));

	e->calls--;
	if (e->stage != EAR_ASKING || !r)
		return;                          /* the link has gone down, and closes it */
	if (r->type == REDIS_REPLY_ERROR) {
		deaf(e, r->str);
		e->refused = for_good(r->str);
		return;
	}
	e->changes++;                            /* what it did not hear meanwhile */
	e->stage = EAR_HEARS;
}

static void on_tracking_off(struct redis_call *call, const redisReply *r)
{
	struct redis_ear *e = (struct redis_ear *)(void *)((char *)call - offsetof(struct redis_ear, call));

	(void)r;
	e->calls--;
}

static bool link_says(struct redis_ear *e, int nth, void (*done)(struct redis_call *, const redisReply *), int argc, const char **argv)
{
	bool sent;

	e->call[nth].done = done;
	sent = redis_send_words(e->link, &e->call[nth], argc, argv);
	e->calls += sent;
	return sent;
}

static void ask(struct redis_ear *e)
{
	char id[32];
	/* off first: the server takes the same prefix no second time */
	const char *off[] = { "CLIENT", "TRACKING", "OFF" };
	const char *on[] = { "CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", "PREFIX", e->prefix };

	snprintf(id, sizeof id, "%lld", e->id);
	e->stage = EAR_ASKING;
	e->reader->fn = NULL;                    /* from now on it is enough that something comes */
	if (!link_says(e, 0, on_tracking_off, 3, off) || !link_says(e, 1, on_tracking, 8, on))
		deaf(e, "the link is down");
	else
		redis_link_flush(e->link);
}

/* ---- hearing ---- */

static void greeted(struct redis_ear *e, const redisReply *r)
{
	if (r->type == REDIS_REPLY_ERROR) {
		char why[128];
		snprintf(why, sizeof why, "%s", r->str);
		deaf(e, why);
		e->refused = for_good(why);
		return;
	}
	if (r->type == REDIS_REPLY_INTEGER)
		e->id = r->integer;
	if (--e->greetings == 0)
		ask(e);
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct redis_ear *e = stream->data;
	void *reply = NULL;

	if (n == 0)
		return;
	if (n < 0 || redisReaderFeed(e->reader, b->base, (size_t)n) != REDIS_OK) {
		deaf(e, n < 0 ? uv_strerror((int)n) : "no memory");
		return;
	}
	while (e->reader) {
		bool built = e->reader->fn != NULL;
		if (redisReaderGetReply(e->reader, &reply) != REDIS_OK) {
			deaf(e, "what it says is not understood");
			return;
		}
		if (!reply)
			return;
		e->changes++;
		if (built) {
			greeted(e, reply);
			freeReplyObject(reply);
		}
	}
}

static void on_room(uv_handle_t *h, size_t wanted, uv_buf_t *b)
{
	struct redis_ear *e = h->data;

	(void)wanted;
	*b = uv_buf_init(e->in, sizeof e->in);
}

static void on_connected(uv_connect_t *c, int status)
{
	struct redis_ear *e = c->data;
	const struct redis_url *u = e->link->url;
	const char *auth[] = { "AUTH", u->user ? u->user : u->password, u->password }, *id[] = { "CLIENT", "ID" };
	const char *subscribe[] = { "SUBSCRIBE", "__redis__:invalidate" };

	if (e->stage != EAR_OPENING)
		return;                          /* it is being closed */
	e->stage = EAR_GREETING;
	e->reader = status ? NULL : redisReaderCreate();
	e->greetings = u->password ? 3 : 2;
	if (!e->reader || (u->password && !say(e, u->user ? 3 : 2, auth)) || !say(e, 2, id) || !say(e, 2, subscribe) ||
	    uv_read_start(&e->at.stream, on_room, on_bytes))
		deaf(e, status ? uv_strerror(status) : "it could not be greeted");
}

uint64_t redis_ear_version(const struct redis_ear *e)
{
	uv_os_fd_t fd;
	char first;

	if (e->stage != EAR_HEARS || uv_fileno(&e->at.handle, &fd))
		return 0;
	/* what has been said counts now, not when its turn on the loop comes */
	if (recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
		return 0;
	return e->changes;
}

void redis_ear_open(struct redis_ear *e)
{
	struct sockaddr_storage there;
	const char *path;
	int failed;

	if (e->stage != EAR_CLOSED || e->refused || e->ending || e->calls || !redis_link_up(e->link))
		return;
	if (redis_link_peer(e->link, &there, &path))
		return;
	uv_loop_t *loop = &e->link->loop->uv;
	failed = path ? uv_pipe_init(loop, &e->at.pipe, 0) : uv_tcp_init(loop, &e->at.tcp);
	if (failed)
		return;
	e->stage = EAR_OPENING;
	e->at.handle.data = e->connecting.data = e;
	uv_unref(&e->at.handle);
	if (path)
		uv_pipe_connect(&e->connecting, &e->at.pipe, path, on_connected);
	else
		failed = uv_tcp_connect(&e->connecting, &e->at.tcp, (struct sockaddr *)&there, on_connected);
	if (failed)
		deaf(e, uv_strerror(failed));
}
