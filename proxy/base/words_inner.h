/* words_inner.h - what the files of words.c share among themselves; nobody else includes it. */
#ifndef BASE_WORDS_INNER_H
#define BASE_WORDS_INNER_H

#include <unicode/ubrk.h>
#include <unicode/unorm2.h>

#include "proxy/base/words.h"

/* --- text: bytes to tokens (words_text.c) ------------------------------------------------------------- */

enum script { SCRIPT_OTHER, SCRIPT_LATIN, SCRIPT_CYRILLIC, SCRIPTS };

enum token_flag {
	TOKEN_NUMBER = 1,                     /* has a digit, or is an operator between two operands */
	TOKEN_SYMBOL = 2,                     /* a currency sign, % */
	TOKEN_QUOTED = 4,
	TOKEN_CAPITAL = 8,                    /* its first letter is one */
	TOKEN_CAPITALS = 16,                  /* two letters or more, all of them are */
	TOKEN_FIRST = 32,                     /* of a sentence */
	TOKEN_LAST = 64,                      /* of a clause: punctuation or the end follows */
	TOKEN_PAYLOAD = 128,                  /* the first after a colon, or it holds one */
};

struct token {
	struct slice text;                    /* folded UTF-8 */
	uint8_t flags;
	uint8_t script;
};

/* A text being cut into tokens. Everything it needs is allocated by text_open(); next never allocates. */
struct text {
	UBreakIterator *words;
	const UNormalizer2 *fold;
	UChar *at;                            /* the text in UTF-16, apostrophes unified */
	uint8_t *quoted;                      /* a flag for every unit of it; NULL: quotes are not wanted */
	int32_t len, next;
	bool first;                           /* the next word is the first of a sentence */
	bool after_operand;                   /* a number or a single letter */
	bool lines, lonely;                   /* there is a second line; a quotation mark has no partner */
	int32_t looked;                       /* up to here colons have been looked for */
	char folded[1024];                    /* the last token's text */
};
enum { TOKEN_UNITS_MAX = 200 };               /* UTF-16 units; a longer word is cut there */

/* strict: broken UTF-8 is an error (ERR_CORRUPT), else U+FFFD. Its memory comes from malloc: a text ends before
 * its exchange does. */
must_use enum err text_open(struct text *t, const UBreakIterator *model, struct slice bytes, bool strict);
bool text_next(struct text *t, struct token *token);   /* token->text is good until the next call */
void text_close(struct text *t);

/* Folds (NFKC_Casefold, without stress marks) len units into UTF-8. 0: does not fit. */
size_t text_fold(const UNormalizer2 *fold, const UChar *at, int32_t len, char *to, size_t size);

/* SipHash-2-4 with a fixed key: the same everywhere, and no two words that meet by accident or design. */
uint64_t text_hash(struct slice s);

/* --- lists (words_lists.c) ---------------------------------------------------------------------------- */

enum list_bit {
	LIST_STOP = 1, LIST_WEAK = 2, LIST_NEGATOR = 4, LIST_KEEP = 8, LIST_KEEP_LAST = 16, LIST_POLITE = 32,
	LIST_TIME = 64, LIST_CHOICE = 128, LIST_VOLATILE = 256, LIST_FOLLOW = 512, LIST_POINTING = 1024,
	LIST_OPENER = 2048, LIST_TELLING = 4096,   /* the question word may be a bare count: no time of day is meant */
	LIST_DIRECT = 8192,                   /* a negator that belongs to the very next word */
	LIST_YEAR = 16384,                    /* says nothing beside a number of four digits */
	LIST_REQUEST = 65536,                 /* tell me: any question word after it says better what is asked */
	LIST_SEQUENCE = 131072,               /* then, first */
	LIST_UNIT = 262144,                   /* not a stop-word right after a number: 7 am */
	LIST_ARTICLE = 524288,
	LIST_CONCORD = 1 << 20,               /* a negator that others may repeat */
	LIST_EXCEPT = 1 << 21,                /* a negator of what comes next, not of the verb: without, except */
	LIST_TASK = 1 << 22,                  /* asks for work on a text: translate, correct */
	LIST_ASKING = 32768,                  /* a question that begins with it wants yes or no */
};

struct listed {                               /* what the lists say of a word or a lemma */
	uint32_t bits;
	uint8_t role;
	uint8_t class;
	uint8_t tense, modal;
	uint16_t contrast;
	uint64_t same;                        /* the term that stands for its synonyms; 0: itself */
};

struct map {                                  /* hash → listed; open addressing */
	uint64_t *key;
	struct listed *listed;
	size_t n, room;
};

struct language_info {
	const char *code;
	enum script script;
	const char *stemmer;                  /* libstemmer's name; NULL: the dictionary's lemmas */
	const char *letters;                  /* found in this language and not in its neighbours */
	bool capital_nouns;                   /* a capital does not make a name */
	bool elides;                          /* l'eau, dell'arte */
};

struct language {
	const struct language_info *info;
	char code[4];
	struct map forms, lemmas;             /* words as written, and lemmas, each by its hash */
	struct stemmer *stemmer;
};

struct alias {
	uint64_t key[6];                      /* hashes of the words of the short form */
	uint8_t n_key, n_words;
	bool capitals;                        /* the short form is written in capitals */
	struct word word[12];
	char *text;                           /* of the words */
	uint64_t *terms;
	uint32_t older;                       /* index + 1 of another whose first word is the same; 0: none */
};

enum { LANGUAGES_MAX = 16, ALIASES_MAX = 4096, LIST_FILE_MAX = 1 << 20 };

struct lexicon {
	struct language language[LANGUAGES_MAX];
	size_t n_languages;
	struct alias *alias;
	size_t n_aliases, aliases_room;
	struct map alias_first;               /* hash of a short form's first word → index + 1 of the newest, in `same` */
	const UNormalizer2 *fold;
	UBreakIterator *model;                /* only ever cloned */
	struct stems *stems;
	uint64_t mark;
	struct buf notes;
};

const struct listed *map_find(const struct map *m, uint64_t key);   /* NULL: not there */
struct listed *map_put(struct map *m, uint64_t key);                /* found or new, zeroed; NULL: no memory */
void map_fini(struct map *m);

/* Reads the built-in list of a language, then dir/CODE.txt if there is one. */
must_use bool lists_load(struct lexicon *l, struct language *g, const char *dir, char *why, size_t len);
/* A whole file; *text is the caller's to free. Not there: true, with *text NULL, and why says so. */
must_use bool list_file_read(const char *path, char **text, size_t *n, char *why, size_t len);
must_use bool aliases_load(struct lexicon *l, const char *file, char *why, size_t len);
void aliases_fini(struct lexicon *l);
/* The alias whose short form starts at token[0], or NULL. */
const struct alias *alias_at(const struct lexicon *l, const struct token *token, size_t n);
extern const struct language_info language_info[];

/* --- lemmas (words_stem.c) ---------------------------------------------------------------------------- */

struct stems *stems_open(const UNormalizer2 *fold);
void stems_close(struct stems *s);
/* Finds the dictionary and the stemmer of g and sets g->stemmer (which stems owns); tells in notes what is missing. */
must_use bool stems_add(struct stems *s, struct language *g, const char *dir, struct buf *notes, uint64_t *mark);
/* The terms of a folded word, sorted, at least one; flags: WORD_KNOWN if a dictionary has it, WORD_PAST. Any thread. */
size_t stems_of(struct stems *s, const struct language *g, struct slice folded, bool capitals,
	uint64_t term[WORD_TERMS_MAX], unsigned *flags);

/* --- shared by words.c and words_bag.c ---------------------------------------------------------------- */

/* The language of each script in a text, NULL where none is configured. */
void languages_of(const struct lexicon *l, const struct token *token, size_t n, const struct language *of[SCRIPTS]);
/* Has it letters of another language, and none of g's own? */
bool is_foreign(const struct language *g, struct slice word);
/* stems_of(), then synonyms folded. bits: what lists say of the lemmas, or of some of them. */
size_t terms_of(const struct lexicon *l, const struct language *g, struct slice folded, bool capitals,
	uint64_t term[WORD_TERMS_MAX], unsigned *flags, struct listed *listed);

#endif
