/* curl_loop.h - libcurl's multi interface on a worker's loop: its sockets, its timer, its new handles.
 *
 * Curl's sockets are in an epoll set of their own, which the loop watches as one. A connection that has ended its
 * transfer stays in the set, marked idle: using it again costs no system call. What is heard of it meanwhile (its end,
 * mostly) takes it out; curl finds the end by itself when it looks for a connection to use.
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
	int epoll_fd;
	uv_poll_t poll;
	uv_timer_t timer;
	uv_idle_t fresh;                     /* runs once when handles were added */
	struct curl_socket *sockets;         /* by descriptor */
	size_t n_sockets;
	int closing;
	void (*closed)(void *arg);
};

/* Out of descriptors or memory, at start, it ends the process. */
void curl_loop_init(struct curl_loop *l, struct loop *loop, void (*moved)(void *arg), void *arg);
/* Ends the multi handle, which must have no transfer left; closed() comes from the loop, later. */
void curl_loop_fini(struct curl_loop *l, void (*closed)(void *arg));

/* An easy handle about to be used in it: after every curl_easy_reset(). */
void curl_loop_own(struct curl_loop *l, CURL *easy);
/* Handles were added: they set off before the loop sleeps, never before this returns. */
void curl_loop_set_off(struct curl_loop *l);
/* Lets curl do at once what it has put off to its timer. */
void curl_loop_act(struct curl_loop *l);

#endif
