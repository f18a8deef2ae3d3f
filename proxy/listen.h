/* listen.h - the sockets clients come to: bound before any worker starts, so that "in use" is told in words.
 *
 * A name stands for every address it has, and [::] for both families, as with Ollama: it becomes [::] and 0.0.0.0, each
 * a socket of its own, so that an IPv4 client is never seen under an IPv6 address. On a machine without IPv6 what is
 * left of a name, and 0.0.0.0 of [::], is enough. */
#ifndef PROXY_LISTEN_H
#define PROXY_LISTEN_H

#include "proxy/config.h"

enum { LISTEN_MAX = 64 };

/* One listening socket per worker and address. TCP: as many bound to one port (SO_REUSEPORT), the kernel spreads
 * connections; unix: one socket, shared. Says in why what went wrong; then nothing is left open. */
struct listening {
	size_t n;                            /* addresses */
	int *fds[LISTEN_MAX];                /* fds[address][worker] */
	bool admin[LISTEN_MAX];
	char text[LISTEN_MAX][128];          /* with the port picked for 0; of a unix socket its path */
	char unlink_at_end[LISTEN_MAX][108]; /* unix paths */
};
bool listen_open(struct listening *l, const struct config *c, int workers, char *why, size_t len);
/* Whether every entry is an address that is known, and none is there twice for different ends; binds nothing. */
bool listen_check(const struct config *c, char *why, size_t len);
void listen_forget(struct listening *l);     /* at the end: removes unix sockets, frees; workers have closed theirs */

#endif
