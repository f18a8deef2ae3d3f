/* peer.c - see peer.h.
 *
 * Of a plain connection curl's descriptor is duplicated and curl's part of it ended, which takes its memory and its look-ups
 * out of the way; one with TLS stays curl's, to be read and written by curl_easy_recv() and curl_easy_send(). */
#include "proxy/peer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/curl_loop.h"

enum { TLS_BUFFER = 4096 };              /* curl reads no more at once */
enum { AGAIN_MS = 1 };                   /* not at once: a fast one would leave no turn to the others */
enum { LOOK_MS = PEER_IDLE_MS / 8 };     /* how often unused ones that are too old are looked for */

struct peer {
	struct peers *cs;
	struct peer_user *user;          /* NULL: unused */
	int host;
	CURL *easy;                      /* while it is being made; with TLS to its end */
	bool tls;
	int fd;                          /* -1: not yet */
	uv_poll_t poll;                  /* from then on */
	int events;                      /* it is watched for */
	struct alarm again;              /* TLS may hold bytes back that the socket no longer tells of */
	int64_t since;                   /* loop_now() when it became unused */
	struct peer *newer, *older;      /* among the unused ones of its host */
};

struct peers {
	struct loop *loop;
	struct alarms *alarms;
	const struct hosts *hosts;
	struct curl_loop curl;
	struct {
		CURLU *url;              /* read once; NULL: it is none, and curl will say so of the text */
		char *authority;
		bool tls;
		struct peer *newest, *oldest;    /* unused */
	} host[HOSTS_MAX];
	size_t n_idle;
	struct alarm look;
	CURLSH *share;                   /* TLS sessions, to be resumed */
};

/* ---- the end of one ---- */

static void on_poll_closed(uv_handle_t *h)
{
	free(h->data);
}

static void leave_idle(struct peer *c)
{
	struct peers *cs = c->cs;

	*(c->newer ? &c->newer->older : &cs->host[c->host].newest) = c->older;
	*(c->older ? &c->older->newer : &cs->host[c->host].oldest) = c->newer;
	c->newer = c->older = NULL;
	cs->n_idle--;
}

void peer_close(struct peer *c)
{
	struct peers *cs = c->cs;

	if (!c->user)
		leave_idle(c);
	alarm_clear(cs->alarms, &c->again);
	if (c->fd >= 0)
		uv_close((uv_handle_t *)&c->poll, on_poll_closed);       /* before its descriptor may be another's */
	if (c->fd >= 0 && !c->tls)
		close(c->fd);
	if (c->easy) {
		curl_multi_remove_handle(cs->curl.multi, c->easy);
		curl_easy_cleanup(c->easy);
	}
	if (c->fd < 0)
		free(c);
}

/* ---- watching ---- */

/* Nothing is to come of an unused one: neither its end nor bytes, which would be taken for the answer to the next request. */
static bool dead(struct peer *c)
{
	char byte;

	return peer_read(c, &byte, 1) >= 0 || errno != EAGAIN;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct peer *c = poll->data;
	struct loop *loop = c->cs->loop;

	if (!c->user) {
		if (status || dead(c))
			peer_close(c);
		return;
	}
	int ready = (events & UV_READABLE ? PEER_READ : 0) | (events & UV_WRITABLE ? PEER_WRITE : 0);
	if (status) {
		/* libuv looks away from a socket with an error; what came before it is still to be read */
		int wanted = c->events;
		c->events = 0;
		peer_watch(c, wanted);
		ready = wanted;
	}
	c->user->on_ready(c->user, ready & c->events);
	loop_settle(loop);                       /* what this one brought leaves before the next is looked at */
}

static void on_again(struct alarm *a)
{
	struct peer *c = (struct peer *)((char *)a - offsetof(struct peer, again));

	if (c->events & PEER_READ)
		c->user->on_ready(c->user, PEER_READ);
}

void peer_watch(struct peer *c, int events)
{
	if (events == c->events)
		return;
	if (c->tls && events & ~c->events & PEER_READ)
		alarm_set(c->cs->alarms, &c->again, AGAIN_MS, on_again);
	c->events = events;
	if (events)
		uv_poll_start(&c->poll, (events & PEER_READ ? UV_READABLE : 0) | (events & PEER_WRITE ? UV_WRITABLE : 0), on_ready);
	else
		uv_poll_stop(&c->poll);
}

/* ---- bytes ---- */

static ssize_t read_tls(struct peer *c, char *to, size_t max)
{
	size_t sum = 0, n = 0;
	CURLcode code;

	while ((code = curl_easy_recv(c->easy, to + sum, max - sum, &n)) == CURLE_OK && n > 0 && sum + n < max)
		sum += n;
	sum += code ? 0 : n;
	if (code == CURLE_AGAIN)
		alarm_clear(c->cs->alarms, &c->again);
	else
		alarm_set(c->cs->alarms, &c->again, AGAIN_MS, on_again);       /* more, its end, or why it broke */
	if (sum || !code)
		return (ssize_t)sum;
	errno = code == CURLE_AGAIN ? EAGAIN : EPROTO;
	return -1;
}

ssize_t peer_read(struct peer *c, char *to, size_t max)
{
	return c->tls ? read_tls(c, to, max) : recv(c->fd, to, max, 0);
}

ssize_t peer_write(struct peer *c, const struct iovec *parts, size_t n)
{
	ssize_t sum = 0;

	if (!c->tls) {
		struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = n };
		return sendmsg(c->fd, &m, MSG_NOSIGNAL);
	}
	for (size_t i = 0; i < n; i++) {
		size_t sent = 0;
		CURLcode code = curl_easy_send(c->easy, parts[i].iov_base, parts[i].iov_len, &sent);
		if (code && sum == 0) {
			errno = code == CURLE_AGAIN ? EAGAIN : EPROTO;
			return -1;
		}
		sum += (ssize_t)sent;
		if (code || sent < parts[i].iov_len)
			break;
	}
	return sum;
}

/* ---- making one ---- */

static enum err adopt(struct peer *c)
{
	struct peers *cs = c->cs;
	curl_socket_t fd = CURL_SOCKET_BAD;

	curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &fd);
	if (fd != CURL_SOCKET_BAD && !c->tls) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		curl_multi_remove_handle(cs->curl.multi, c->easy);
		curl_easy_cleanup(c->easy);
		c->easy = NULL;
	}
	if (fd < 0)
		return ERR_UPSTREAM_DOWN;
	if (uv_poll_init(&cs->loop->uv, &c->poll, fd)) {
		if (!c->tls)
			close(fd);
		return ERR_NO_MEMORY;
	}
	c->poll.data = c;
	c->fd = fd;
	return ERR_OK;
}

static void on_moved(void *arg)
{
	struct peers *cs = arg;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(cs->curl.multi, &left))) {
		struct peer *c = NULL;
		CURLcode code = m->data.result;
		enum err e;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		if (code == CURLE_OK) {
			e = adopt(c);
		} else {
			log_line(LOG_DEBUG, "upstream", "%s: %s", hosts_url(cs->hosts, (size_t)c->host), curl_easy_strerror(code));
			e = code == CURLE_OUT_OF_MEMORY ? ERR_NO_MEMORY : ERR_UPSTREAM_DOWN;
		}
		c->user->on_open(c->user, e);
	}
}

struct peer *peer_dial(struct peers *cs, int host, int64_t ms, struct peer_user *user)
{
	struct peer *c = calloc(1, sizeof *c);
	CURL *easy = curl_easy_init();

	if (!c || !easy)
		goto fail;
	*c = (struct peer){ .cs = cs, .user = user, .host = host, .easy = easy, .tls = cs->host[host].tls, .fd = -1 };
	curl_loop_own(&cs->curl, easy);
	curl_easy_setopt(easy, CURLOPT_SHARE, cs->share);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, c);
	curl_easy_setopt(easy, CURLOPT_URL, hosts_url(cs->hosts, (size_t)host));
	curl_easy_setopt(easy, CURLOPT_CURLU, cs->host[host].url);
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);      /* what TLS offers to speak */
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)ms);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)TLS_BUFFER);
	if (curl_multi_add_handle(cs->curl.multi, easy) == CURLM_OK)
		return c;
fail:
	curl_easy_cleanup(easy);
	free(c);
	return NULL;
}

/* ---- unused ones ---- */

struct peer *peer_take(struct peers *cs, int host, struct peer_user *user)
{
	struct peer *c;

	while ((c = cs->host[host].newest)) {
		if (!dead(c)) {                  /* the loop may not have told yet */
			leave_idle(c);
			c->user = user;
			return c;
		}
		peer_close(c);
	}
	return NULL;
}

static struct peer *oldest(struct peers *cs)
{
	struct peer *found = NULL;

	for (size_t i = 0; i < HOSTS_MAX; i++) {
		struct peer *c = cs->host[i].oldest;
		if (c && (!found || c->since < found->since))
			found = c;
	}
	return found;
}

static void on_look(struct alarm *a)
{
	struct peers *cs = (struct peers *)((char *)a - offsetof(struct peers, look));
	struct peer *c;

	while ((c = oldest(cs)) && loop_now(cs->loop) - c->since >= PEER_IDLE_MS - LOOK_MS)
		peer_close(c);
	if (c)
		alarm_set(cs->alarms, a, LOOK_MS, on_look);
}

void peer_keep(struct peer *c)
{
	struct peers *cs = c->cs;
	struct peer **newest = &cs->host[c->host].newest;

	if (cs->n_idle >= PEER_IDLE_MOST)
		peer_close(oldest(cs));
	peer_watch(c, PEER_READ);
	alarm_clear(cs->alarms, &c->again);
	c->user = NULL;
	c->since = loop_now(cs->loop);
	c->older = *newest;
	*(c->older ? &c->older->newer : &cs->host[c->host].oldest) = c;
	*newest = c;
	cs->n_idle++;
	if (!alarm_is_set(&cs->look))
		alarm_set(cs->alarms, &cs->look, LOOK_MS, on_look);
}

/* ---- all of them ---- */

static char *authority_of(CURLU *url)
{
	char *host = NULL, *port = NULL, *both = NULL;
	bool named = !curl_url_get(url, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT);

	if (curl_url_get(url, CURLUPART_HOST, &host, 0) || asprintf(&both, "%s%s%s", host, named ? ":" : "", named ? port : "") < 0)
		abort();
	curl_free(host);
	curl_free(port);
	return both;
}

const char *peers_authority(const struct peers *cs, int host)
{
	return cs->host[host].authority ? cs->host[host].authority : "";
}

struct peers *peers_new(struct loop *loop, struct alarms *alarms, const struct hosts *hosts)
{
	struct peers *cs = calloc(1, sizeof *cs);

	if (!cs)
		abort();
	cs->loop = loop;
	cs->alarms = alarms;
	cs->hosts = hosts;
	for (size_t i = 0; i < hosts_count(hosts); i++) {
		char *scheme = NULL;
		CURLU *url = curl_url();
		if (!url)
			abort();
		if (curl_url_set(url, CURLUPART_URL, hosts_url(hosts, i), 0)) {
			curl_url_cleanup(url);
			continue;
		}
		cs->host[i].url = url;
		cs->host[i].authority = authority_of(url);
		cs->host[i].tls = !curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) && !strcmp(scheme, "https");
		curl_free(scheme);
	}
	cs->share = curl_share_init();
	if (!cs->share || curl_share_setopt(cs->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION))
		abort();
	curl_loop_init(&cs->curl, loop, on_moved, cs);
	return cs;
}

static void free_peers(void *arg)
{
	struct peers *cs = arg;

	curl_share_cleanup(cs->share);
	free(cs);
}

void peers_free(struct peers *cs)
{
	alarm_clear(cs->alarms, &cs->look);
	for (size_t i = 0; i < HOSTS_MAX; i++) {
		while (cs->host[i].newest)
			peer_close(cs->host[i].newest);
		curl_url_cleanup(cs->host[i].url);
		free(cs->host[i].authority);
	}
	curl_loop_fini(&cs->curl, free_peers);
}
