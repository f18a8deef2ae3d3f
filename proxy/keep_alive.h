/* keep_alive.h - what a hit's keep_alive asks of the model's host is handed on to it: the answer came from the cache, but how long
 * the model stays loaded is the client's to say all the same.
 *
 * It is handed on by a request without a prompt, as `ollama stop` sends it, in the background: no hit waits for it, and it takes no
 * place at the upstream. 0 goes to every host that has the model. Another value loads a model that is not loaded, and so it
 * goes only where a look at /api/ps (engines.h) has just told that it is. Hosts that are down are told nothing, and nothing is said
 * again. What a model is loaded with goes along, for an engine loads it anew for other options.
 *
 * Threads    keep_alive_note(): any. The rest is one worker's, for all.
 * Limits     KEEP_MODELS models at once, of which one has a request under way at each of its hosts, once in KEEP_APART_MS; of
 *            what comes meanwhile the last counts. What is longer than KEEP_VALUE_MAX or KEEP_OPTIONS_MAX is left. */
#ifndef PROXY_KEEP_ALIVE_H
#define PROXY_KEEP_ALIVE_H

#include "proxy/engines.h"

enum { KEEP_MODELS = 64, KEEP_VALUE_MAX = 64, KEEP_OPTIONS_MAX = 384, KEEP_APART_MS = 1000, KEEP_LOOK_MS = 2000 };

struct keep_alives;

struct keep_alives *keep_alives_new(struct hosts *hosts, struct engines *engines);
void keep_alives_free(struct keep_alives *ks);

/* A hit's ask.keep_alive, which is set, of a model with that digest at these hosts. */
void keep_alive_note(struct keep_alives *ks, const struct ask *ask, const char *digest, host_set hosts);

void keep_alives_start(struct keep_alives *ks, struct worker *w);      /* after engines_start() */
void keep_alives_stop(struct keep_alives *ks);   /* the loop must run on for a turn */

#endif
