/* ndjson.h - bytes to lines, whatever the packets.
 *
 * Lines come without their newline; empty ones are left out. A line over max_line ends it: ERR_TOO_LARGE, and what
 * was held back can be had by ndjson_rest(). on_line may stop the feeding by returning false. */
#ifndef PROXY_NDJSON_H
#define PROXY_NDJSON_H

#include "proxy/base/buf.h"

struct ndjson {
	bool (*on_line)(void *arg, struct slice line);
	void *arg;
	struct buf part;             /* the beginning of a line; its limit is the longest line */
};

void ndjson_init(struct ndjson *n, size_t max_line, bool (*on_line)(void *arg, struct slice line), void *arg);
void ndjson_fini(struct ndjson *n);
/* Errors: TOO_LARGE, NO_MEMORY. *taken: how many of the bytes are used up or kept; on error the rest is the caller's. */
must_use enum err ndjson_feed(struct ndjson *n, struct slice bytes, size_t *taken);
/* A last line without a newline, as it stands; empty if there is none. */
struct slice ndjson_rest(const struct ndjson *n);

#endif
