/* words.h - text to words: what a question asks about, in a form in which other wordings of it look the same.
 *
 * A question becomes the sequence of its keywords. Each has one or more terms (64-bit hashes of its lemmas;
 * two words match when they share one), flags, and what the guards need to know: the role a preposition gives
 * it, which contrast it stands in. Stop-words are gone; question words have become the question's class;
 * negators are counted. The semantic cache compares such sequences (cache/similar.h), the scorer looks for
 * the question's keywords in answers. No policy here: a reason to skip a question is told, not acted upon.
 *
 * Terms and packed analyses are the same in every process that has the same lists and dictionaries, so they
 * may be kept in a shared store; words_mark() tells when they are not comparable.
 *
 * Ownership  a lexicon is opened once and closed after its last user. What words_of() and its like return
 *            lives in the caller's arena.
 * Threads    everything takes a const lexicon and may be called from several threads at once. Dictionaries
 *            and stemmers are not thread-safe: they are used under one lock, behind a bounded table of words
 *            already seen (one handle per thread would cost 40 MB each).
 * Limits     questions: WORDS_BYTES_MAX, WORDS_TOKENS_MAX, WORDS_MAX; longer ones are told by `skip` before
 *            any costly work. Answers: BAG_BYTES_MAX, BAG_TOKENS_MAX; the rest is not looked at.
 * Ideas      UAX #29 (words), NFKC_Casefold (UAX #31), Snowball and hunspell for lemmas. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include "proxy/base/arena.h"

enum {
	WORDS_BYTES_MAX = 4096,               /* of a question */
	WORDS_TOKENS_MAX = 60,                /* words as written */
	WORDS_MAX = 64,                       /* keywords, with what aliases expand to */
	WORD_TERMS_MAX = 8,
	WORDS_TERMS_MAX = 256,                /* in all */
	WORDS_PACK_MAX = 16384,               /* bytes of a packed analysis */
	WORDS_ARENA = 64 << 10,               /* an arena with this limit is enough for one words_of() */
	BAG_BYTES_MAX = 1 << 20,
	BAG_TOKENS_MAX = 20000,
};

struct lexicon;

struct lexicon_options {
	const char *languages;                /* "uk,en": the first is taken when a text does not say. NULL: that */
	/* File: JSON object, "short form": "long form"; adds to the built-in ones. NULL: none. */
	const char *aliases;
	const char *stopwords;                /* directory of LANG.txt; see words_lists.c. NULL: none */
	const char *dictionaries;             /* directory of LANG_COUNTRY.aff and .dic; NULL: the system's */
};

/* Takes up to half a second (dictionaries): never on a request's path. A dictionary that is not there is no
 * error (see lexicon_notes()). A language without lists or a
 * stemmer is none either: its words are compared as written. NULL with a sentence in why: a file that cannot be
 * read or understood, a language that is not two or three small letters, no memory. */
struct lexicon *lexicon_open(const struct lexicon_options *o, char *why, size_t len);
void lexicon_close(struct lexicon *l);

/* Sentences for the log, one a line: what is missing and what that costs. "" when nothing is. */
const char *lexicon_notes(const struct lexicon *l);

/* Why a question is not for the semantic tier. EMPTY: no keyword is left (emoji, punctuation, all stop-words). */
enum words_skip {
	WORDS_FIT,
	WORDS_EMPTY, WORDS_LONG, WORDS_BROKEN, WORDS_MEMORY,   /* nothing was analysed: n is 0 */
	/* Analysed all the same. PAYLOAD: an instruction and, behind a colon or in lines of its own, what it is about: there every
	 * word counts as it is written, stop-words too. */
	WORDS_CODE, WORDS_FOLLOW_UP, WORDS_VOLATILE, WORDS_PAYLOAD,
	WORDS_SKIPS
};
extern const char *const words_skip_name[WORDS_SKIPS];

enum words_class {                            /* what is asked for */
	CLASS_PLAIN,                          /* no question word: a request, a yes/no question */
	CLASS_LIST,                           /* what, which, how many */
	CLASS_HOW, CLASS_YES_NO,
	CLASS_WHEN, CLASS_WHERE, CLASS_WHERE_FROM, CLASS_WHO, CLASS_WHOM, CLASS_WHOSE, CLASS_WHY,
	CLASS_HOW_LONG, CLASS_HOW_OLD, CLASS_HOW_FAR, CLASS_HOW_OFTEN,
	WORDS_CLASSES
};
extern const char *const words_class_name[WORDS_CLASSES];

/* The tense of the auxiliary: is, was, will; є, був, буде. Without one it is the present. */
enum words_tense { TENSE_PRESENT, TENSE_PAST, TENSE_FUTURE, WORDS_TENSES };
extern const char *const words_tense_name[WORDS_TENSES];

/* Whether something can be done or ought to be: can, may; must, should; можна; треба, варто. */
enum words_modal { MODAL_NONE, MODAL_CAN, MODAL_OUGHT, WORDS_MODALS };

enum word_flag {
	WORD_NUMBER = 1, WORD_QUOTED = 2,
	WORD_NAME = 4,                        /* capitalised in the middle of a sentence */
	WORD_CAPS = 8,                        /* two or more letters, all capitals */
	WORD_SOFT = 16,                       /* not written but meant: from an alias */
	WORD_WEAK = 32,                       /* says little: good, kind, use */
	WORD_KNOWN = 64,                      /* in a dictionary or a list */
	WORD_REPEAT = 128,                    /* another word of the same question has the same terms and counts */
	WORD_NEGATED = 256,                   /* right after a negator */
	WORD_PAST = 512,                      /* a verb in the past tense (where the dictionary tells: Ukrainian) */
	WORD_ARTICLE = 1024,                  /* right after a, the, my */
	WORD_FOREIGN = 2048,                  /* its letters are those of another language than the question's */
	WORD_FLAGS = 4095
};
enum { WORD_FLAG_COUNT = 12 };
extern const char *const word_flag_name[WORD_FLAG_COUNT];        /* by the number of the bit */

enum word_role {
	ROLE_NONE, ROLE_FROM, ROLE_TO, ROLE_THAN, ROLE_BEFORE, ROLE_AFTER, ROLE_BY, ROLE_OF, ROLE_WITH, ROLE_WITHOUT,
	ROLE_OVER, ROLE_UNDER, ROLE_FOR,
	WORD_ROLES
};
extern const char *const word_role_name[WORD_ROLES];

struct word {
	struct slice text;                    /* folded; at most WORD_TEXT_MAX bytes, cut at a character */
	const uint64_t *terms;                /* sorted; 1 to WORD_TERMS_MAX */
	uint8_t n_terms;
	uint8_t role;                         /* given by the preposition before it */
	uint16_t flags;
	uint8_t alias;                        /* soft words with the same number come from one alias; 0: none */
	uint16_t contrast;                    /* 0: none; else the words with contrast ^ 1 mean the opposite */
};
enum { WORD_TEXT_MAX = 96 };

struct words {
	enum words_skip skip;
	enum words_class class;               /* of the first question word */
	unsigned classes;                     /* all of them: bits 1 << class */
	/* Those of the verb (не, not), each of which turns the meaning; those a language may heap up, which turn it once
	 * (ніколи, ne … pas, nunca); and what is left out (без, except). */
	uint8_t negators, concords, absences;
	enum words_tense tense;
	enum words_modal modal;               /* the first */
	bool sequence;                        /* "first … then": the order of all words says something */
	bool choice;                          /* "between", "vs", "or": the order of what it names says nothing */
	uint64_t quoted;                      /* hash of all quoted text; 0: none */
	size_t n;
	struct word *word;                    /* in the order of the text */
};

/* Never fails: what cannot be analysed says so in skip. NULL only when not even the struct fits the arena. */
struct words *words_of(const struct lexicon *l, struct slice text, struct arena *a);

/* 4 strong, 1 weak or soft: the weight of a word in quarters. */
static inline unsigned word_weight(const struct word *w)
{
	return w->flags & (WORD_WEAK | WORD_SOFT) ? 1 : 4;
}

bool word_matches(const struct word *a, const struct word *b);   /* they share a term */

/* Says which lists, dictionaries and rules made an analysis. Analyses with different marks are not to be
 * compared: put it into the scope of the look-up. */
uint64_t words_mark(const struct lexicon *l);

/* An analysis as bytes, to be kept beside a stored answer: versioned, the same on every machine. Unpack
 * believes nothing: ERR_CORRUPT unless raw is one whole analysis within the limits above. The words' text
 * points into raw, the rest into the arena. */
must_use enum err words_pack(struct buf *out, const struct words *w);
must_use enum err words_unpack(struct slice raw, struct arena *a, struct words **w);

/* For scoring. A bag is a text as a sequence of token hashes, folded but not stemmed, punctuation left out.
 * Costs about 0.4 µs a word. NULL: arena full. Any text will do; broken UTF-8 is read as U+FFFD. */
struct bag {
	size_t n;
	uint64_t *token;                      /* in the order of the text */
};
struct bag *words_bag(const struct lexicon *l, struct slice text, struct arena *a);

/* How many of the question's keywords (repeats not counted, an alias counted as one) are in the text, in
 * whatever form. Sets *of to the number looked for; 0 when the question was skipped or has none. */
size_t words_found(const struct lexicon *l, const struct words *question, struct slice text, size_t *of);

#endif
