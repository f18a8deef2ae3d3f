/* listen.c - see listen.h. */
#include "proxy/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static int bind_tcp(const struct addrinfo *a, bool shared_port)
{
	int one = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (shared_port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static void set_port(struct addrinfo *a, uint16_t port)
{
	if (a->ai_family == AF_INET6)
		((struct sockaddr_in6 *)a->ai_addr)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)a->ai_addr)->sin_port = htons(port);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage s;
	socklen_t len = sizeof s;

	if (getsockname(fd, (struct sockaddr *)&s, &len))
		return 0;
	return ntohs(s.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&s)->sin6_port : ((struct sockaddr_in *)&s)->sin_port);
}

static bool open_tcp(struct listening *l, size_t i, const struct config_address *a, int workers, char *why, size_t len)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
	char port[8];
	uint16_t picked = a->port;

	snprintf(port, sizeof port, "%u", a->port);
	int e = getaddrinfo(*a->host ? a->host : NULL, port, &hints, &list);
	if (e) {
		snprintf(why, len, "cannot listen on %s:%u: %s", a->host, a->port, gai_strerror(e));
		return false;
	}
	if (a->port) {
		/* a second instance of the same user could share the port: only a socket that does not share tells */
		int probe = bind_tcp(list, false);
		if (probe < 0) {
			snprintf(why, len, "cannot listen on %s:%u: %s", a->host, a->port,
			         errno == EADDRINUSE ? "the port is in use by another process" : strerror(errno));
			freeaddrinfo(list);
			return false;
		}
		close(probe);
	}
	bool ok = true;
	for (int w = 0; w < workers && ok; w++) {
		set_port(list, picked);
		l->fds[i][w] = bind_tcp(list, true);
		ok = l->fds[i][w] >= 0;
		if (!ok)
			snprintf(why, len, "cannot listen on %s:%u: %s", a->host, picked, strerror(errno));
		else if (!picked)
			picked = port_of(l->fds[i][w]);
	}
	snprintf(l->text[i], sizeof l->text[i], strchr(a->host, ':') ? "http://[%s]:%u" : "http://%s:%u", a->host, picked);
	freeaddrinfo(list);
	return ok;
}

static bool open_unix(struct listening *l, size_t i, const struct config_address *a, int workers, char *why, size_t len)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(at.sun_path, a->path, sizeof at.sun_path);
	if (!stat(a->path, &st) && S_ISSOCK(st.st_mode)) {
		/* one that nobody answers was left behind by a process that was killed */
		if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0 || errno == EAGAIN) {
			snprintf(why, len, "cannot listen on unix:%s: it is in use by another process", a->path);
			close(fd);
			return false;
		}
		unlink(a->path);
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, BACKLOG)) {
		snprintf(why, len, "cannot listen on unix:%s: %s", a->path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	memcpy(l->unlink_at_end[i], a->path, sizeof l->unlink_at_end[i]);
	l->fds[i][0] = fd;
	for (int w = 1; w < workers; w++)
		l->fds[i][w] = dup(fd);
	snprintf(l->text[i], sizeof l->text[i], "unix:%s", a->path);
	return true;
}

static bool open_one(struct listening *l, const char *entry, bool admin, int workers, char *why, size_t len)
{
	struct config_address a;
	size_t i = l->n;

	if (i == LISTEN_MAX) {
		snprintf(why, len, "more than %d addresses to listen on", LISTEN_MAX);
		return false;
	}
	if (!config_address(entry, &a)) {
		snprintf(why, len, "cannot listen on %s: not an address", entry);
		return false;
	}
	l->fds[i] = malloc((size_t)workers * sizeof(int));
	if (!l->fds[i])
		abort();
	for (int w = 0; w < workers; w++)
		l->fds[i][w] = -1;
	l->admin[i] = admin;
	l->n++;
	return a.is_unix ? open_unix(l, i, &a, workers, why, len) : open_tcp(l, i, &a, workers, why, len);
}

bool listen_open(struct listening *l, const struct config *c, int workers, char *why, size_t len)
{
	bool ok = true;

	*l = (struct listening){ 0 };
	for (size_t i = 0; i < c->server_listen_list.n && ok; i++)
		ok = open_one(l, c->server_listen_list.at[i], false, workers, why, len);
	for (size_t i = 0; i < c->admin_listen_list.n && ok; i++)
		ok = open_one(l, c->admin_listen_list.at[i], true, workers, why, len);
	if (ok)
		return true;
	for (size_t i = 0; i < l->n; i++)
		for (int w = 0; w < workers; w++)
			if (l->fds[i][w] >= 0)
				close(l->fds[i][w]);
	listen_forget(l);
	return false;
}

void listen_forget(struct listening *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (*l->unlink_at_end[i])
			unlink(l->unlink_at_end[i]);
		free(l->fds[i]);
	}
	l->n = 0;
}
