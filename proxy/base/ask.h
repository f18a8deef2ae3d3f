/* ask.h - a question and an answer in no dialect: what every layer talks about.
 *
 * An ask is what a dialect made of a request; its slices live in the exchange's arena.
 *
 * An answer is a list of pieces in the order they came. A piece's bytes are JSON as the upstream wrote it
 * (text without its quotes, arrays without their brackets, fields as "name":value), so that replaying loses
 * nothing: no number is rounded, no escape rewritten, no field we do not know is dropped. Text pieces that
 * follow one another are merged, which makes the pieces of a plain answer two: its text and its last fields.
 *
 * Ownership  struct answer owns its pieces; struct answer_view lends somebody else's.
 * Limits     the buf of an answer is born with its limit (cache.max_entry). */
#ifndef BASE_ASK_H
#define BASE_ASK_H

#include "proxy/base/arena.h"

enum { KEY_BYTES = 32, DIGEST_MAX = 72 };

/* So much text, as JSON, is in one line of a stream that is not the upstream's own: many clients take each piece they read for
 * whole lines, and read 8 KiB or more at once. */
enum { LINE_TEXT_MAX = 6 << 10 };

/* Which template the upstream puts the question through; answers are never shared between families. */
enum family { FAMILY_CHAT, FAMILY_GENERATE, FAMILY_EMBED, FAMILY_EMBEDDINGS, FAMILY_COUNT };
extern const char *const family_name[FAMILY_COUNT];

/* The options by which the answers to one ask vary. */
enum varied { VARIED_TEMPERATURE, VARIED_TOP_P, VARIED_SEED, VARIED_NUM_PREDICT, VARIED };

struct ask {
	enum family family;
	bool stream;                 /* how this client wants its answer */
	bool generates;              /* false: an empty prompt or message list (load, unload), embeddings excepted */
	bool debug;                  /* _debug_render_only: never cached */
	bool deterministic;          /* temperature 0 or a fixed seed */
	bool length_set;             /* the request itself set num_predict: an answer cut there is what was asked for */
	bool tools, format;          /* the request has tools, a format */
	struct slice model;          /* as the client wrote it */
	struct slice model_plain;    /* the same without @complex */
	struct slice model_full;     /* with its tag, folded as Ollama folds it: the name digests are known by */
	struct slice question;       /* text of the last user message, or the prompt; empty if there is none */
	const char *not_semantic;    /* why the semantic tier does not apply to this ask; NULL: it does */
	int64_t num_predict;         /* as the client set it; meaningful if length_set */
	bool seed_set, temperature_set, top_p_set;

	/* complex as tagged in the body or the model's name: -1 not tagged, else the number (0 is not a number
	 * of answers: an error for whoever decides) or true (COMPLEX_DEFAULT) */
	int complex_body, complex_model;

	struct slice keep_alive;     /* as JSON; empty: not set. It is no part of the form, and does nothing to the answer */
	bool unloads;                /* it is a time of 0 */
	struct slice load_options;   /* with a keep_alive: of the options, as JSON, what a model is loaded with; empty: none is set */

	struct slice canonical;      /* whole canonical form: the body of the key */
	struct slice canonical_scope;   /* the same with the question's text taken out; empty if not semantic */
	struct slice forward;        /* the body for the upstream: the client's own bytes where nothing had to be removed */
	struct slice several;        /* what each body begins with if several answers are asked for; empty: one is */
	struct slice own[VARIED];    /* the options that vary, as the client wrote them; at NULL: it did not. With `several` */
};
enum { COMPLEX_NONE = -1, COMPLEX_DEFAULT = -2, COMPLEX_BAD = -3 };

enum piece_kind {
	PIECE_THINKING = 1,          /* JSON text, no quotes */
	PIECE_CONTENT,               /* JSON text, no quotes */
	PIECE_TOOL_CALLS,            /* array items, no brackets */
	PIECE_LOGPROBS,              /* array items, no brackets */
	PIECE_MESSAGE_FIELD,         /* "name":value inside message, which we do not know */
	PIECE_FIELD,                 /* "name":value at the top of a line, which we do not know */
	PIECE_LAST,                  /* the fields of the last object after done:true, comma-separated */
	PIECE_BODY,                  /* embeddings: the fields of the whole reply but for model, comma-separated */
	PIECE_KINDS
};

/* Names the bytes of one answer while they are in memory: an entry by its key and its checksum, a flight by a number. */
struct answer_id {
	uint8_t key[KEY_BYTES];
	uint64_t version;
	bool whole;                  /* written as the rest of one object; else pieces */
};

struct answer {
	struct buf pieces;           /* [kind u8][len u32 LE][bytes] … */
	size_t last;                 /* where the last piece begins: answer_add()'s own */
	bool whole;                  /* done:true came (for embeddings: the whole object) */
	bool length;                 /* done_reason is length */
	bool odd;                    /* done_reason is neither stop nor length: never stored */
	bool has_model;              /* the upstream's reply names a model */
	bool says;                   /* there is a text that is not all blank, a thought, a tool call or a vector in it */
	uint64_t eval_count, eval_ns, prompt_eval_ns;
	uint64_t prompt_tokens;      /* that the engine has read; 0: it does not say */
	struct buf error;            /* the upstream's {"error":…} inside a stream, as it came; empty: none */
};

void answer_init(struct answer *a, size_t limit_bytes);
void answer_fini(struct answer *a);

/* Appends a piece, merging text with text of the same kind before it; empty text is nothing. Errors: TOO_LARGE,
 * NO_MEMORY; the pieces are then as they were. */
must_use enum err answer_add(struct answer *a, enum piece_kind kind, struct slice bytes);

/* Walks pieces: *at starts at 0. False at the end, or where the bytes are not pieces. */
bool pieces_next(struct slice pieces, size_t *at, enum piece_kind *kind, struct slice *bytes);

/* Appends the next of the pieces, or the next part of one, from where *at and *in stand (0, 0 at first), and moves those: at most
 * `most` bytes of text, cut between characters; what is not text is never cut. Nothing is appended at the end. Errors: NO_MEMORY,
 * TOO_LARGE. */
must_use enum err pieces_part(struct slice pieces, size_t *at, size_t *in, size_t most, struct buf *out);

/* Appends the pieces with no text longer than `most` bytes of JSON, cut between characters. Errors: TOO_LARGE, NO_MEMORY;
 * out is then as it was. */
must_use enum err pieces_split(struct slice pieces, size_t most, struct buf *out);

/* Appends the text of all pieces of one kind, decoded from JSON to UTF-8. Errors as below. */
must_use enum err pieces_text(struct slice pieces, enum piece_kind kind, struct buf *out);

/* Appends the inside of a JSON string, decoded to UTF-8; lone surrogates become U+FFFD. Errors: BAD_JSON (an escape
 * that is none), TOO_LARGE, NO_MEMORY; out is then as it was. */
must_use enum err json_decode_text(struct slice json, struct buf *out);

/* The escape a slice begins with (its backslash first): how many bytes it takes, 0 if it is none. *c is what it means; half of
 * a surrogate pair without the other means itself. */
size_t json_escape_read(struct slice s, uint32_t *c);

/* Writes a character in UTF-8; returns how many bytes. */
size_t utf8_write(char out[4], uint32_t c);

#endif
