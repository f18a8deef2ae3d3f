/* prompt_cut.h - did the engine read the whole prompt? One that is longer than the context is cut without a word, and what is
 * answered then is no answer to what was asked.
 *
 * The engine says how many tokens it read. How many the prompt has only its own tokenizer knows; but no tokenizer puts more
 * than some characters into one token, so a text has at least so many. What this cannot tell is taken to be whole: a false
 * alarm would keep a good answer out of the cache. */
#ifndef PROXY_PROMPT_CUT_H
#define PROXY_PROMPT_CUT_H

#include "proxy/base/ask.h"

struct prompt_size {
	uint64_t least_tokens;       /* of the texts that a prompt is made of */
	uint64_t num_ctx;            /* options.num_ctx; 0: not set */
};

/* Of a chat's or generation's canonical form (ask.canonical). Looks at PROMPT_LOOK_MAX bytes of text: what is behind them only
 * makes it longer. */
enum { PROMPT_LOOK_MAX = 1 << 20 };
struct prompt_size prompt_size_of(struct slice canonical);

/* Read: prompt_eval_count; 0: the engine did not say. Context: the engine's by a look at it, in tokens; 0: not known. */
bool prompt_was_cut(const struct prompt_size *size, uint64_t read, uint64_t context);

#endif
