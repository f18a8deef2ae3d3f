/* listen.c - see listen.h. First every entry becomes the addresses it stands for, then each is bound: only with all of
 * them known can it be told whether [::] needs 0.0.0.0 beside it. */
#include "proxy/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096, ENTRIES_MAX = 2 * LISTEN_MAX };

/* One address to bind. */
struct place {
	struct sockaddr_storage at;
	socklen_t len;
	const char *entry;                   /* as the configuration has it */
	size_t of;                           /* the same for all places of an entry */
	bool admin;
	bool spare;                          /* the machine may be without it: another place of this entry is enough */
	int error;                           /* why it was left out; 0: it was not */
};
struct places {
	struct place at[LISTEN_MAX];
	size_t n;
};

static const char *option(const struct place *p)
{
	return p->admin ? "admin.listen" : "server.listen";
}

static uint16_t port_of(const struct sockaddr_storage *at)
{
	return ntohs(at->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)at)->sin6_port : ((const struct sockaddr_in *)at)->sin_port);
}

static void set_port(struct sockaddr_storage *at, uint16_t port)
{
	if (at->ss_family == AF_INET6)
		((struct sockaddr_in6 *)at)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)at)->sin_port = htons(port);
}

static bool any_six(const struct sockaddr_storage *at)
{
	return at->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)at)->sin6_addr);
}

static void describe(const struct sockaddr_storage *at, char *text, size_t len)
{
	char number[INET6_ADDRSTRLEN] = "";

	if (at->ss_family == AF_UNIX) {
		snprintf(text, len, "unix:%s", ((const struct sockaddr_un *)at)->sun_path);
		return;
	}
	inet_ntop(at->ss_family, at->ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)at)->sin6_addr
	                                                   : (const void *)&((const struct sockaddr_in *)at)->sin_addr, number, sizeof number);
	snprintf(text, len, at->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", number, port_of(at));
}

/* ---- which addresses ---- */

/* An address that is there already is not bound twice. */
static bool add(struct places *all, const struct place *p, char *why, size_t len)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct place *q = &all->at[i];
		if (q->len != p->len || memcmp(&q->at, &p->at, p->len) || (p->at.ss_family != AF_UNIX && !port_of(&p->at)))
			continue;
		if (q->admin != p->admin)
			snprintf(why, len, "%s: '%s' is in %s already; leave it empty to have the admin endpoints there too", option(p),
			         p->entry, option(q));
		return q->admin == p->admin;
	}
	if (all->n == LISTEN_MAX) {
		snprintf(why, len, "%s: more than %d addresses to listen on", option(p), LISTEN_MAX);
		return false;
	}
	all->at[all->n++] = *p;
	return true;
}

static bool add_name(struct places *all, struct place p, const struct config_address *a, char *why, size_t len)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
	bool ok = true;
	char port[8];

	snprintf(port, sizeof port, "%u", a->port);
	int e = getaddrinfo(a->host, port, &hints, &list);
	if (e) {
		snprintf(why, len, "%s: no address is known for '%s': %s", option(&p), a->host, gai_strerror(e));
		return false;
	}
	p.spare = list->ai_next != NULL;
	for (const struct addrinfo *i = list; i && ok; i = i->ai_next) {
		memset(&p.at, 0, sizeof p.at);
		memcpy(&p.at, i->ai_addr, i->ai_addrlen);
		p.len = i->ai_addrlen;
		ok = add(all, &p, why, len);
	}
	freeaddrinfo(list);
	return ok;
}

static bool add_entry(struct places *all, const char *entry, size_t of, bool admin, char *why, size_t len)
{
	struct place p = { .entry = entry, .of = of, .admin = admin };
	struct config_address a;

	if (!config_address(entry, &a)) {
		snprintf(why, len, "%s: '%s' is not an address", option(&p), entry);
		return false;
	}
	if (!a.is_unix)
		return add_name(all, p, &a, why, len);
	struct sockaddr_un *at = (struct sockaddr_un *)&p.at;
	at->sun_family = AF_UNIX;
	memcpy(at->sun_path, a.path, sizeof at->sun_path);
	p.len = sizeof *at;
	return add(all, &p, why, len);
}

static bool has_four(const struct places *all, uint16_t port)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->at[i].at.ss_family == AF_INET && port && port_of(&all->at[i].at) == port)
			return true;
	return false;
}

/* [::] takes IPv4 too, unless the configuration itself says which addresses of that port are wanted there. */
static bool add_four_beside_six(struct places *all, char *why, size_t len)
{
	bool ok = true;
	size_t n = all->n;

	for (size_t i = 0; i < n && ok; i++) {
		struct place p = all->at[i];
		const uint16_t port = any_six(&p.at) ? port_of(&p.at) : 0;
		if (!any_six(&p.at) || has_four(all, port))
			continue;
		struct sockaddr_in *four = (struct sockaddr_in *)&p.at;
		memset(&p.at, 0, sizeof p.at);
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		p.len = sizeof *four;
		all->at[i].spare = p.spare = true;
		ok = add(all, &p, why, len);
	}
	return ok;
}

/* ---- binding ---- */

static int bind_tcp(const struct place *p, bool shared_port)
{
	int one = 1, fd = socket(p->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (shared_port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	if (p->at.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, (const struct sockaddr *)&p->at, p->len) || listen(fd, BACKLOG)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* The machine is without this address, or without its whole family. */
static bool absent(int error)
{
	return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

static bool is_any(const struct sockaddr_storage *at)
{
	return any_six(at) || (at->ss_family == AF_INET && ((const struct sockaddr_in *)at)->sin_addr.s_addr == htonl(INADDR_ANY));
}

/* An address of ours that holds the port of this one; NULL: it is somebody else's doing. */
static const struct place *overlaps(const struct places *all, const struct place *p)
{
	for (const struct place *q = all->at; q < p; q++)
		if (q->at.ss_family == p->at.ss_family && p->at.ss_family != AF_UNIX && port_of(&q->at) == port_of(&p->at) &&
		    (is_any(&q->at) || is_any(&p->at)))
			return q;
	return NULL;
}

static void say_why(const struct places *all, const struct place *p, int error, char *why, size_t len)
{
	const struct place *ours = overlaps(all, p);
	char text[128];

	describe(&p->at, text, sizeof text);
	if (error == EADDRINUSE && ours) {
		snprintf(why, len, "%s: '%s' and '%s' overlap: leave one of them out", option(p), ours->entry, p->entry);
	} else if (error == EADDRINUSE) {
		snprintf(why, len, "%s: %s is in use by another process: end that one%s, or choose another address with --%s=…", option(p), text,
		         p->at.ss_family == AF_UNIX ? "" : " (`ss -ltnp` names it)", option(p));
	} else if (error == EACCES && p->at.ss_family != AF_UNIX) {
		snprintf(why, len, "%s: %s is not permitted: ports below 1024 are for root, or for a program with CAP_NET_BIND_SERVICE", option(p), text);
	} else if (error == EADDRNOTAVAIL) {
		snprintf(why, len, "%s: this machine does not have the address of %s", option(p), text);
	} else {
		snprintf(why, len, "%s: cannot listen on %s: %s", option(p), text, strerror(error));
	}
}

static bool open_tcp(struct listening *l, size_t i, struct place *p, int workers)
{
	if (port_of(&p->at)) {
		/* a second instance of the same user could share the port: only a socket that does not share tells */
		int probe = bind_tcp(p, false);
		if (probe < 0)
			return false;
		close(probe);
	}
	for (int w = 0; w < workers; w++) {
		l->fds[i][w] = bind_tcp(p, true);
		if (l->fds[i][w] < 0)
			return false;
		struct sockaddr_storage bound;
		socklen_t len = sizeof bound;
		if (!port_of(&p->at) && !getsockname(l->fds[i][w], (struct sockaddr *)&bound, &len))
			set_port(&p->at, port_of(&bound));
	}
	char text[100];
	describe(&p->at, text, sizeof text);
	snprintf(l->text[i], sizeof l->text[i], "http://%s", text);
	return true;
}

static bool open_unix(struct listening *l, size_t i, const struct place *p, int workers, mode_t mode)
{
	const struct sockaddr *at = (const struct sockaddr *)&p->at;
	const char *path = ((const struct sockaddr_un *)&p->at)->sun_path;
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	if (!stat(path, &st) && S_ISSOCK(st.st_mode)) {
		/* one that nobody answers was left behind by a process that was killed */
		if (connect(fd, at, p->len) == 0 || errno == EAGAIN) {
			close(fd);
			errno = EADDRINUSE;
			return false;
		}
		unlink(path);
	}
	/* by the umask, not by chmod(): at no moment may more people connect. No other thread runs yet */
	mode_t before = umask(0777 & ~mode);
	bool ok = !bind(fd, at, p->len) && !listen(fd, BACKLOG);
	int saved = errno;
	umask(before);
	if (!ok) {
		close(fd);
		errno = saved;
		return false;
	}
	snprintf(l->unlink_at_end[i], sizeof l->unlink_at_end[i], "%s", path);
	l->fds[i][0] = fd;
	for (int w = 1; w < workers; w++)
		l->fds[i][w] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	describe(&p->at, l->text[i], sizeof l->text[i]);
	return true;
}

static void close_all(struct listening *l, size_t i, int workers)
{
	for (int w = 0; w < workers; w++)
		if (l->fds[i][w] >= 0)
			close(l->fds[i][w]);
}

static bool open_place(struct listening *l, struct place *p, int workers, mode_t mode)
{
	size_t i = l->n;

	l->fds[i] = malloc((size_t)workers * sizeof(int));
	if (!l->fds[i])
		abort();
	for (int w = 0; w < workers; w++)
		l->fds[i][w] = -1;
	l->admin[i] = p->admin;
	if (p->at.ss_family == AF_UNIX ? open_unix(l, i, p, workers, mode) : open_tcp(l, i, p, workers)) {
		l->n++;
		return true;
	}
	int saved = errno;
	close_all(l, i, workers);
	free(l->fds[i]);
	errno = saved;
	return false;
}

static bool gather(struct places *all, const struct config *c, char *why, size_t len)
{
	size_t of = 0;
	bool ok = true;

	if (c->server_listen_list.n + c->admin_listen_list.n > ENTRIES_MAX) {
		snprintf(why, len, "server.listen, admin.listen: more than %d addresses to listen on", LISTEN_MAX);
		return false;
	}
	for (size_t i = 0; i < c->server_listen_list.n && ok; i++)
		ok = add_entry(all, c->server_listen_list.at[i], of++, false, why, len);
	for (size_t i = 0; i < c->admin_listen_list.n && ok; i++)
		ok = add_entry(all, c->admin_listen_list.at[i], of++, true, why, len);
	return ok && add_four_beside_six(all, why, len);
}

bool listen_check(const struct config *c, char *why, size_t len)
{
	struct places all = { .n = 0 };

	return gather(&all, c, why, len);
}

bool listen_open(struct listening *l, const struct config *c, int workers, char *why, size_t len)
{
	struct places all = { .n = 0 };
	size_t bound[ENTRIES_MAX] = { 0 };          /* by entry */
	uint16_t picked[ENTRIES_MAX] = { 0 };       /* the port that port 0 of this entry became */
	bool ok = gather(&all, c, why, len);

	memset(l, 0, sizeof *l);
	for (struct place *p = all.at; p < all.at + all.n && ok; p++) {
		if (p->at.ss_family != AF_UNIX && !port_of(&p->at))
			set_port(&p->at, picked[p->of]);
		if (open_place(l, p, workers, config_mode(c->server_socket_mode))) {
			bound[p->of]++;
			picked[p->of] = p->at.ss_family == AF_UNIX ? 0 : port_of(&p->at);
		} else if (!(ok = p->spare && absent(errno))) {
			say_why(&all, p, errno, why, len);
		} else {
			p->error = errno;
		}
	}
	for (struct place *p = all.at; p < all.at + all.n && ok; p++)
		if (!(ok = bound[p->of] > 0))
			say_why(&all, p, p->error, why, len);
	for (size_t i = 0; i < l->n && !ok; i++)
		close_all(l, i, workers);
	if (!ok)
		listen_forget(l);
	return ok;
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
