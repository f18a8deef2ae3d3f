/* ollama.h - parts of the Ollama dialect for the table in ollama_ask.c: the reply side (ollama_answer.c) and variants of an ask
 * (ollama_vary.c); see dialect.h. */
#ifndef PROXY_OLLAMA_H
#define PROXY_OLLAMA_H

#include "proxy/dialect.h"

must_use enum err ollama_read_line(struct answer *answer, enum family family, struct slice line);
bool ollama_write_line(const struct reply_style *style, struct slice pieces, size_t *at, struct buf *out, enum err *error);
must_use enum err ollama_write_whole_head(const struct reply_style *style, struct buf *out);
must_use enum err ollama_write_whole_rest(enum family family, struct slice pieces, struct buf *out);
must_use enum err ollama_write_empty(const struct reply_style *style, struct buf *out);
must_use enum err ollama_write_error(struct slice message, struct buf *out);
must_use enum err ollama_vary_begin(struct ask *ask, struct arena *arena);
must_use enum err ollama_vary(const struct ask *ask, const struct variant *v, struct buf *rest);

#endif
