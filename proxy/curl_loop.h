/* curl_loop.h - libcurl's multi interface on a worker's loop: its sockets and its timer.
 *
 * A handle that was added sets off by curl's own timer: before the loop sleeps, never before curl_multi_add_handle() returns.
 *
 * Threads  its worker's. */
#ifndef PROXY_CURL_LOOP_H
#define PROXY_CURL_LOOP_H

#include <curl/curl.h>

#include "proxy/base/loop.h"

struct curl_loop {
	struct loop *loop;
	CURLM *multi;
	void (*moved)(void *arg);            /* something may have ended: curl_multi_info_read() is to be looked at */
	void *arg;
	uv_timer_t timer;
	struct curl_socket **sockets;        /* by descriptor; NULL: not watched */
	size_t n_sockets;
	size_t open;                         /* handles of the loop's that are to be closed before closed() */
	void (*closed)(void *arg);
};

/* Out of memory, at start, it ends the process. */
void curl_loop_init(struct curl_loop *l, struct loop *loop, void (*moved)(void *arg), void *arg);
/* Ends the multi handle, which must have no transfer left; closed() comes from the loop, later. */
void curl_loop_fini(struct curl_loop *l, void (*closed)(void *arg));

/* An easy handle about to be used in it, and what is noted of it, which lives as long. */
struct curl_owned {
	struct curl_loop *loop;
	int error;                           /* errno: why its last socket was not to be had; 0: it was */
};
void curl_loop_own(struct curl_loop *l, CURL *easy, struct curl_owned *owned);

#endif
