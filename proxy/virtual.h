/* virtual.h - the models that are not there: NAME@complex, as clients list and look them up.
 *
 * `ollama run NAME@complex` asks /api/show first, so the suffix is taken off there; with complex.list_models = on the
 * two lists of models name every model a second time, so that a chat UI can offer it. */
#ifndef PROXY_VIRTUAL_H
#define PROXY_VIRTUAL_H

#include "proxy/config.h"
#include "proxy/server.h"

enum { VIRTUAL_SHOW_MAX = 64 << 10, VIRTUAL_LIST_MAX = 16 << 20 };

/* A request to /api/show whose body may name such a model. */
bool virtual_is_show(const struct request *r);
/* The body with the suffixes off; false: nothing to take off (or not JSON), out is empty. */
bool virtual_show(struct slice body, struct buf *out);

/* A request whose reply is a list of models, when they are to be listed. */
bool virtual_is_list(const struct config *c, const struct request *r);
/* The list with every generating model named twice; false: not a list, out is empty. */
bool virtual_list(struct slice body, struct buf *out);

#endif
