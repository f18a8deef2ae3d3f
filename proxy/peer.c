/* peer.c - see peer.h.
 *
 * Of a plain connection curl's descriptor is duplicated and curl's part of it ended, which takes its memory and its look-ups
 * out of the way; one with TLS stays curl's, to be read and written by curl_easy_recv() and curl_easy_send(). */
#include "proxy/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/curl_loop.h"
#include "proxy/host_state.h"

enum { TLS_BUFFER = 4096 };              /* curl reads no more at once */
enum { AGAIN_MS = 1 };                   /* not at once: a fast one would leave no turn to the others */
enum { LOOK_MS = PEER_IDLE_MS / 8 };     /* how often unused ones that are too old are looked for */

struct peer {
	struct peers *peers;
	struct peer_user *user;          /* NULL: unused */
	int host;
	CURL *easy;                      /* while it is being made; with TLS to its end */
	struct curl_owned owned;
	bool tls;
	int fd;                          /* -1: not yet */
	uv_poll_t poll;                  /* from then on */
	int events;                      /* it is watched for */
	struct alarm again;              /* TLS may hold bytes back that the socket no longer tells of */
	int64_t since;                   /* loop_now() when it became unused */
	struct peer *newer, *older;      /* among the unused ones of its host */
	char why[CURL_ERROR_SIZE];       /* what curl says of a connection it could not make */
};

struct peers {
	struct loop *loop;
	struct alarms *alarms;
	struct hosts *hosts;
	struct curl_loop curl;
	struct {
		CURLU *url;              /* read once; NULL: it is none, and curl will say so of the text */
		char *authority, *base;
		bool tls;
		struct peer *newest, *oldest;    /* unused */
		bool renew;              /* the last connection failed: its name may have another address by now */
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

static void leave_idle(struct peer *peer)
{
	struct peers *peers = peer->peers;

	*(peer->newer ? &peer->newer->older : &peers->host[peer->host].newest) = peer->older;
	*(peer->older ? &peer->older->newer : &peers->host[peer->host].oldest) = peer->newer;
	peer->newer = peer->older = NULL;
	peers->n_idle--;
}

void peer_close(struct peer *peer)
{
	struct peers *peers = peer->peers;

	if (!peer->user)
		leave_idle(peer);
	alarm_clear(peers->alarms, &peer->again);
	if (peer->fd >= 0)
		uv_close((uv_handle_t *)&peer->poll, on_poll_closed);    /* before its descriptor may be another's */
	if (peer->fd >= 0 && !peer->tls)
		close(peer->fd);
	if (peer->easy) {
		curl_multi_remove_handle(peers->curl.multi, peer->easy);
		curl_easy_cleanup(peer->easy);
	}
	if (peer->fd < 0)
		free(peer);
}

/* ---- watching ---- */

/* Nothing is to come of an unused one: neither its end nor bytes, which would be taken for the answer to the next request. */
static bool dead(struct peer *peer)
{
	char byte;

	return peer_read(peer, &byte, 1) >= 0 || errno != EAGAIN;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct peer *peer = poll->data;
	struct loop *loop = peer->peers->loop;

	if (!peer->user) {
		if (status || dead(peer))
			peer_close(peer);
		return;
	}
	int ready = (events & UV_READABLE ? PEER_READ : 0) | (events & UV_WRITABLE ? PEER_WRITE : 0);
	if (status) {
		/* libuv looks away from a socket with an error; what came before it is still to be read */
		int wanted = peer->events;
		peer->events = 0;
		peer_watch(peer, wanted);
		ready = wanted;
	}
	peer->user->on_ready(peer->user, ready & peer->events);
	loop_settle(loop);                       /* what this one brought leaves before the next is looked at */
}

static void on_again(struct alarm *a)
{
	struct peer *peer = (struct peer *)((char *)a - offsetof(struct peer, again));

	if (peer->events & PEER_READ)
		peer->user->on_ready(peer->user, PEER_READ);
}

void peer_watch(struct peer *peer, int events)
{
	if (events == peer->events)
		return;
	if (peer->tls && events & ~peer->events & PEER_READ)
		alarm_set(peer->peers->alarms, &peer->again, AGAIN_MS, on_again);
	peer->events = events;
	if (events)
		uv_poll_start(&peer->poll, (events & PEER_READ ? UV_READABLE : 0) | (events & PEER_WRITE ? UV_WRITABLE : 0), on_ready);
	else
		uv_poll_stop(&peer->poll);
}

/* ---- bytes ---- */

static ssize_t tls_failed(CURLcode code)
{
	errno = code == CURLE_AGAIN ? EAGAIN : EPROTO;
	return -1;
}

static ssize_t read_tls(struct peer *peer, char *to, size_t max)
{
	size_t sum = 0, n = 0;
	CURLcode code;

	while ((code = curl_easy_recv(peer->easy, to + sum, max - sum, &n)) == CURLE_OK && n > 0 && sum + n < max)
		sum += n;
	sum += code ? 0 : n;
	if (code == CURLE_AGAIN)
		alarm_clear(peer->peers->alarms, &peer->again);
	else
		alarm_set(peer->peers->alarms, &peer->again, AGAIN_MS, on_again);      /* more, its end, or why it broke */
	if (sum || !code)
		return (ssize_t)sum;
	return tls_failed(code);
}

ssize_t peer_read(struct peer *peer, char *to, size_t max)
{
	return peer->tls ? read_tls(peer, to, max) : recv(peer->fd, to, max, 0);
}

ssize_t peer_write(struct peer *peer, const struct iovec *parts, size_t n)
{
	ssize_t sum = 0;

	if (!peer->tls) {
		struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = n };
		return sendmsg(peer->fd, &m, MSG_NOSIGNAL);
	}
	for (size_t i = 0; i < n; i++) {
		size_t sent = 0;
		CURLcode code = curl_easy_send(peer->easy, parts[i].iov_base, parts[i].iov_len, &sent);
		if (code && sum == 0)
			return tls_failed(code);
		sum += (ssize_t)sent;
		if (code || sent < parts[i].iov_len)
			break;
	}
	return sum;
}

/* ---- making one ---- */

static enum err adopt(struct peer *peer)
{
	struct peers *peers = peer->peers;
	curl_socket_t fd = CURL_SOCKET_BAD;

	curl_easy_getinfo(peer->easy, CURLINFO_ACTIVESOCKET, &fd);
	if (fd != CURL_SOCKET_BAD && !peer->tls) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		curl_multi_remove_handle(peers->curl.multi, peer->easy);
		curl_easy_cleanup(peer->easy);
		peer->easy = NULL;
	}
	if (fd < 0)
		return ERR_NO_DESCRIPTORS;
	if (uv_poll_init(&peers->loop->uv, &peer->poll, fd)) {
		if (!peer->tls)
			close(fd);
		return ERR_NO_MEMORY;
	}
	peer->poll.data = peer;
	peer->fd = fd;
	return ERR_OK;
}

/* Why there is no connection, and what is to be said beside it. */
static enum host_cause cause_of(const struct peer *peer, CURLcode code, const char **detail)
{
	long os_error = 0;
	curl_off_t resolved_us = 0;

	*detail = NULL;
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return HOST_NO_NAME;
	case CURLE_OPERATION_TIMEDOUT:
		curl_easy_getinfo(peer->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved_us);
		return resolved_us ? HOST_SLOW_CONNECT : HOST_NO_NAME;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(peer->easy, CURLINFO_OS_ERRNO, &os_error);
		if (os_error == ECONNREFUSED)
			return HOST_REFUSED;
		*detail = os_error ? strerror((int)os_error) : NULL;
		return HOST_UNREACHABLE;
	case CURLE_SSL_CONNECT_ERROR: case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_CERTPROBLEM: case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE: case CURLE_SSL_ISSUER_ERROR: case CURLE_SSL_INVALIDCERTSTATUS:
		*detail = *peer->why ? peer->why : curl_easy_strerror(code);
		return HOST_TLS;
	default:
		*detail = *peer->why ? peer->why : curl_easy_strerror(code);
		return HOST_UNREACHABLE;
	}
}

/* Nothing of it is the upstream's: this process has no descriptor left, or this machine no port. A name may not have been looked
 * up for want of one, which nobody tells, so one is asked for here. */
static bool is_ours(const struct peer *peer, CURLcode code)
{
	int error = peer->owned.error;
	long os_error = 0;

	curl_easy_getinfo(peer->easy, CURLINFO_OS_ERRNO, &os_error);
	if (error == EMFILE || error == ENFILE || error == ENOBUFS || (code == CURLE_COULDNT_CONNECT && os_error == EADDRNOTAVAIL))
		return true;
	if (code != CURLE_COULDNT_RESOLVE_HOST)
		return false;
	int fd = eventfd(0, EFD_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static enum err not_made(struct peer *peer, CURLcode code)
{
	const char *detail;

	if (code == CURLE_OUT_OF_MEMORY)
		return ERR_NO_MEMORY;
	if (is_ours(peer, code))
		return ERR_NO_DESCRIPTORS;
	enum host_cause cause = cause_of(peer, code, &detail);
	host_down(peer->peers->hosts, (size_t)peer->host, cause, detail);
	return ERR_UPSTREAM_DOWN;
}

static void on_moved(void *arg)
{
	struct peers *peers = arg;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(peers->curl.multi, &left))) {
		struct peer *peer = NULL;
		enum err e;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;          /* only then it is there */
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&peer);
		e = code == CURLE_OK ? adopt(peer) : not_made(peer, code);
		peers->host[peer->host].renew = code != CURLE_OK;
		peer->user->on_open(peer->user, e);
	}
}

struct peer *peer_dial(struct peers *peers, int host, int64_t ms, struct peer_user *user)
{
	struct peer *peer = calloc(1, sizeof *peer);
	CURL *easy = curl_easy_init();
	const struct trust authorities = hosts_authorities(peers->hosts);

	if (!peer || !easy)
		goto fail;
	*peer = (struct peer){ .peers = peers, .user = user, .host = host, .easy = easy, .tls = peers->host[host].tls, .fd = -1 };
	curl_loop_own(&peers->curl, easy, &peer->owned);
	curl_easy_setopt(easy, CURLOPT_SHARE, peers->share);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, peer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, peer->why);
	curl_easy_setopt(easy, CURLOPT_URL, hosts_url(peers->hosts, (size_t)host));
	curl_easy_setopt(easy, CURLOPT_CURLU, peers->host[host].url);
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);      /* what TLS offers to speak */
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)ms);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)TLS_BUFFER);
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, peers->host[host].renew ? 0L : (long)PEER_NAME_S);
	if (authorities.file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, authorities.file);
	if (authorities.directory)
		curl_easy_setopt(easy, CURLOPT_CAPATH, authorities.directory);
	if (curl_multi_add_handle(peers->curl.multi, easy) == CURLM_OK)
		return peer;
fail:
	curl_easy_cleanup(easy);
	free(peer);
	return NULL;
}

/* ---- unused ones ---- */

struct peer *peer_take(struct peers *peers, int host, struct peer_user *user)
{
	struct peer *peer;

	while ((peer = peers->host[host].newest)) {
		if (!dead(peer)) {               /* the loop may not have told yet */
			leave_idle(peer);
			peer->user = user;
			return peer;
		}
		peer_close(peer);
	}
	return NULL;
}

static struct peer *oldest(struct peers *peers)
{
	struct peer *found = NULL;

	for (size_t i = 0; i < HOSTS_MAX; i++) {
		struct peer *peer = peers->host[i].oldest;
		if (peer && (!found || peer->since < found->since))
			found = peer;
	}
	return found;
}

static void on_look(struct alarm *a)
{
	struct peers *peers = (struct peers *)((char *)a - offsetof(struct peers, look));
	struct peer *peer;

	while ((peer = oldest(peers)) && loop_now(peers->loop) - peer->since >= PEER_IDLE_MS - LOOK_MS)
		peer_close(peer);
	if (peer)
		alarm_set(peers->alarms, a, LOOK_MS, on_look);
}

void peer_keep(struct peer *peer)
{
	struct peers *peers = peer->peers;
	struct peer **newest = &peers->host[peer->host].newest;

	if (peers->n_idle >= PEER_IDLE_MOST)
		peer_close(oldest(peers));
	peer_watch(peer, PEER_READ);
	alarm_clear(peers->alarms, &peer->again);
	peer->user = NULL;
	peer->since = loop_now(peers->loop);
	peer->older = *newest;
	*(peer->older ? &peer->older->newer : &peers->host[peer->host].oldest) = peer;
	*newest = peer;
	peers->n_idle++;
	if (!alarm_is_set(&peers->look))
		alarm_set(peers->alarms, &peers->look, LOOK_MS, on_look);
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

static char *base_of(CURLU *url)
{
	char *path = NULL;

	if (curl_url_get(url, CURLUPART_PATH, &path, 0))
		abort();
	char *base = strdup(path);
	if (!base)
		abort();
	for (size_t len = strlen(base); len && base[len - 1] == '/'; len--)
		base[len - 1] = '\0';
	curl_free(path);
	return base;
}

const char *peers_base(const struct peers *peers, int host)
{
	return peers->host[host].base ? peers->host[host].base : "";
}

const char *peers_authority(const struct peers *peers, int host)
{
	return peers->host[host].authority ? peers->host[host].authority : "";
}

struct peers *peers_new(struct loop *loop, struct alarms *alarms, struct hosts *hosts)
{
	struct peers *peers = calloc(1, sizeof *peers);

	if (!peers)
		abort();
	peers->loop = loop;
	peers->alarms = alarms;
	peers->hosts = hosts;
	for (size_t i = 0; i < hosts_count(hosts); i++) {
		char *scheme = NULL;
		CURLU *url = curl_url();
		if (!url)
			abort();
		if (curl_url_set(url, CURLUPART_URL, hosts_url(hosts, i), 0)) {
			curl_url_cleanup(url);
			continue;
		}
		peers->host[i].url = url;
		peers->host[i].authority = authority_of(url);
		peers->host[i].base = base_of(url);
		peers->host[i].tls = !curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) && !strcmp(scheme, "https");
		curl_free(scheme);
	}
	peers->share = curl_share_init();
	if (!peers->share || curl_share_setopt(peers->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION))
		abort();
	curl_loop_init(&peers->curl, loop, on_moved, peers);
	return peers;
}

static void free_peers(void *arg)
{
	struct peers *peers = arg;

	curl_share_cleanup(peers->share);
	free(peers);
}

void peers_free(struct peers *peers)
{
	alarm_clear(peers->alarms, &peers->look);
	for (size_t i = 0; i < HOSTS_MAX; i++) {
		while (peers->host[i].newest)
			peer_close(peers->host[i].newest);
		curl_url_cleanup(peers->host[i].url);
		free(peers->host[i].authority);
		free(peers->host[i].base);
	}
	curl_loop_fini(&peers->curl, free_peers);
}
