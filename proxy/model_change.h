/* model_change.h - a request passing that may change the models of an upstream: did it, by its reply?
 *
 * Ollama tells of a failure by the status, or, once a stream has begun, by a line {"error":…} of a reply with status 200.
 *
 * Ownership  embedded in its owner. Threads: its worker's. Limits: a line of LINE_MOST bytes; a longer one tells nothing. */
#ifndef PROXY_MODEL_CHANGE_H
#define PROXY_MODEL_CHANGE_H

#include "proxy/ndjson.h"

struct model_change {
	struct ndjson lines;
	bool failed, blind;
};

void model_change_begin(struct model_change *c);
void model_change_bytes(struct model_change *c, struct slice bytes);    /* of the reply's body */
/* The reply is over. True: it changed something, or may have, for all that is known. */
bool model_change_done(struct model_change *c, int status);

#endif
