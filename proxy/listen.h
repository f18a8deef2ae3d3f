/* listen.h - the sockets clients come to: bound before any worker starts, so that "in use" is told in words. */
#ifndef PROXY_LISTEN_H
#define PROXY_LISTEN_H

#include "proxy/config.h"

enum { LISTEN_MAX = 32 };

/* One listening socket per worker and address. TCP: as many bound to one port (SO_REUSEPORT), the kernel spreads
 * connections; unix: one socket, shared. Says in why what went wrong; then nothing is left open. */
struct listening {
	size_t n;                            /* addresses */
	int *fds[LISTEN_MAX];                /* fds[address][worker] */
	bool admin[LISTEN_MAX];
	char text[LISTEN_MAX][320];          /* with the port picked for 0 */
	char unlink_at_end[LISTEN_MAX][108]; /* unix paths */
};
bool listen_open(struct listening *l, const struct config *c, int workers, char *why, size_t len);
void listen_forget(struct listening *l);     /* at the end: removes unix sockets, frees; workers have closed theirs */

#endif
