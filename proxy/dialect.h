/* dialect.h - what a way of talking fills in: requests to asks, replies to answers, and back.
 *
 * A dialect never waits and knows no connection; exchange.c never parses. Everything here is pure: bytes in,
 * bytes out, and may run on any thread.
 *
 * Reading a reply    read_line() takes one line of a stream or one whole object: the same fields mean the same.
 * Writing a reply    a writer walks stored pieces (base/ask.h): line by line for a stream, at once for an object. */
#ifndef PROXY_DIALECT_H
#define PROXY_DIALECT_H

#include "proxy/base/ask.h"

/* What a reply says of itself whoever reads it. */
struct reply_style {
	enum family family;
	struct slice model;          /* as this client wrote it, the inside of a JSON string */
	bool has_model;              /* the upstream's own reply named its model */
	char created_at[40];         /* RFC 3339 with nanoseconds, as Ollama writes it */
};

/* One answer of several (complex requests): what differs from the client's own parameters. */
struct variant {
	bool has_temperature, has_top_p, has_seed, has_num_predict;
	double temperature, top_p;
	uint64_t seed;
	int64_t num_predict;
};

struct dialect {
	const char *name;

	/* Body to ask. NULL: understood. Else the reason for doubt, a short text: the body passes as it came. The
	 * ask's slices live in the arena or in body, which must live as long. */
	const char *(*parse)(struct slice body, enum family family, struct arena *arena, struct ask *ask);

	/* The body for one of several answers - not streamed, with the variant's parameters - is what all begin with, which may be
	 * long (ask->several, in the arena), and the rest, which is not. */
	enum err (*vary_begin)(struct ask *ask, struct arena *arena);
	enum err (*vary)(const struct ask *ask, const struct variant *v, struct buf *rest);

	/* One line or object of a reply, added to the answer. ERR_OK also for an error line (answer->error says).
	 * UPSTREAM_BABBLE: not an object of this family; TOO_LARGE, NO_MEMORY: the answer is full. */
	enum err (*read_line)(struct answer *answer, enum family family, struct slice line);

	/* The next line of a stream from pieces at *at, with its newline, appended to out. False when there is none.
	 * What is not the last piece yet (a live stream) is written too; `error` reports a full out. */
	bool (*write_line)(const struct reply_style *style, struct slice pieces, size_t *at, struct buf *out, enum err *error);

	/* The whole answer as one object: what is this client's own first, then what is the same for all. */
	enum err (*write_whole_head)(const struct reply_style *style, struct buf *out);
	enum err (*write_whole_rest)(enum family family, struct slice pieces, struct buf *out);

	/* A line that keeps a stream alive and says nothing. */
	enum err (*write_empty)(const struct reply_style *style, struct buf *out);

	/* {"error":…} in this dialect, no newline. */
	enum err (*write_error)(struct slice message, struct buf *out);
};

extern const struct dialect dialect_ollama;

/* created_at for now. */
void reply_style_now(struct reply_style *style);

/* A model's name in full: folded, with its tag, without the default registry and namespace. Empty if the arena is full. */
struct slice model_full_name(struct arena *arena, struct slice name);

/* Takes `@complex` or `@complex=N` off a model's name. Returns what it says (COMPLEX_NONE, _DEFAULT, _BAD or N). */
int model_complex_suffix(struct slice *name);

#endif
