/* words.c - the reading of a question; see words.h. Tokens come from words_text.c, lemmas from words_stem.c, what
 * is known beforehand from words_lists.c.
 *
 * A question is read from left to right; for each token the first that applies: quoted (kept as it is), a negator
 * (counted), a number (kept), an alias (its long form is meant), part of a question phrase (gives the class), a
 * preposition (gives the next word its role), a stop-word (dropped), a word. */
#include "proxy/base/words_inner.h"

#include <assert.h>

/* An array as long as its names, not as its enum: a name that is missing does not build, instead of being NULL. */
#define NAMES_ALL(names, count) static_assert(sizeof names / sizeof *names == (count), #names " has a name for each")

const char *const words_skip_name[] = {
	[WORDS_FIT] = "", "empty", "long", "broken", "memory", "code", "follow-up", "volatile", "payload",
};
NAMES_ALL(words_skip_name, WORDS_SKIPS);

const char *const word_role_name[] = {
	[ROLE_NONE] = "", "from", "to", "than", "before", "after", "by", "of", "with", "without", "over", "under", "for",
};
NAMES_ALL(word_role_name, WORD_ROLES);

const char *const word_flag_name[] = {
	"number", "quoted", "name", "caps", "soft", "weak", "known", "repeat", "negated", "past", "article", "foreign",
};
static_assert((1u << sizeof word_flag_name / sizeof *word_flag_name) - 1 == WORD_FLAGS, "every flag has a name");

const char *const words_tense_name[] = { "present", "past", "future" };
NAMES_ALL(words_tense_name, WORDS_TENSES);

const char *const words_class_name[] = {
	[CLASS_PLAIN] = "plain", "list", "how", "yes-no", "when", "where", "where-from", "who", "whom", "whose", "why",
	"how-long", "how-old", "how-far", "how-often",
};
NAMES_ALL(words_class_name, WORDS_CLASSES);

enum { TOPIC_TOKENS_MAX = 5 };
enum { TOKENS_MAX = WORDS_TOKENS_MAX + WORDS_TOKENS_MAX / 2 };   /* signs and operators are tokens too */

struct reader {
	const struct lexicon *l;
	struct arena *arena;
	struct words *w;
	const struct language *of[SCRIPTS];
	struct token token[TOKENS_MAX];
	size_t n, n_terms;
	bool capitals_say, names_say;         /* does writing in capitals, or with one, mean anything here? */
	uint8_t role, aliases;
	bool negated, article;                /* the next word is negated, has an article */
	bool class_gives_way;
	unsigned strong;                      /* words so far that say something */
	bool lines, lonely;                   /* as in struct text */
	bool follows, points;                 /* he, she; it, this: before anything they could stand for */
};

static const struct listed nothing;

static const struct language *language_at(const struct reader *r, const struct token *t)
{
	return r->of[t->script];
}

static const struct listed *form_of(const struct reader *r, const struct token *t)
{
	const struct language *g = language_at(r, t);
	const struct listed *it = g ? map_find(&g->forms, text_hash(t->text)) : NULL;

	return it ? it : &nothing;
}

/* What stands at token i, as a phrase of at most three words, and its length. */
static const struct listed *phrase_at(const struct reader *r, size_t i, size_t *len)
{
	const struct language *g = language_at(r, &r->token[i]);
	char text[256];

	for (size_t n = 3; g && n > 1; n--) {
		const struct listed *it;
		size_t at = 0, k;

		for (k = 0; k < n && i + k < r->n; k++) {
			struct slice s = r->token[i + k].text;

			if (at + s.len + 1 > sizeof text || r->token[i + k].flags & TOKEN_QUOTED)
				break;
			if (k)
				text[at++] = ' ';
			memcpy(text + at, s.at, s.len);
			at += s.len;
		}
		it = k == n ? map_find(&g->forms, text_hash(slice_of(text, at))) : NULL;
		if (it && (it->class || it->bits & LIST_OPENER)) {
			*len = n;
			return it;
		}
	}
	*len = 1;
	return form_of(r, &r->token[i]);
}

/* A word that counts once: of two with the same terms the heavier one stays, so that "ХДУ (Херсонський …)" has the
 * written words, not the meant ones. */
static void mark_repeat(struct words *w, struct word *word)
{
	for (size_t i = 0; i + 1 < w->n; i++) {
		struct word *old = &w->word[i];

		if (old->flags & WORD_REPEAT || !word_matches(old, word))
			continue;
		if (word_weight(word) > word_weight(old)) {
			old->flags |= WORD_REPEAT;
		} else {
			word->flags |= WORD_REPEAT;
			return;
		}
	}
}

static struct word *new_word(struct reader *r, size_t n_terms)
{
	struct words *w = r->w;
	struct word *word;

	if (w->n == WORDS_MAX || r->n_terms + n_terms > WORDS_TERMS_MAX) {
		w->skip = WORDS_LONG;
		return NULL;
	}
	word = &w->word[w->n++];
	word->n_terms = (uint8_t)n_terms;
	r->n_terms += n_terms;
	word->role = r->role;
	r->role = ROLE_NONE;
	word->flags |= (uint16_t)((r->negated ? WORD_NEGATED : 0) | (r->article ? WORD_ARTICLE : 0));
	r->negated = r->article = false;
	return word;
}

static struct slice short_text(struct slice s)
{
	if (s.len > WORD_TEXT_MAX)
		for (s.len = WORD_TEXT_MAX; (s.at[s.len] & 0xc0) == 0x80; s.len--)
			;
	return s;
}

/* Whether another of the languages has an unknown word. Then it is that word, and not a misspelt one of this language. */
static bool known_elsewhere(const struct reader *r, const struct token *t)
{
	const struct lexicon *l = r->l;

	for (size_t i = 0; i < l->n_languages; i++) {
		const struct language *g = &l->language[i];
		uint64_t term[WORD_TERMS_MAX];
		unsigned flags;

		if (g == language_at(r, t) || !g->info || g->info->script != (enum script)t->script)
			continue;
		stems_of(l->stems, g, t->text, false, term, &flags);
		if (flags & WORD_KNOWN || map_find(&g->forms, text_hash(t->text)))
			return true;
	}
	return false;
}

/* "in 2025" and "in the year 2025" */
static bool beside_year(const struct reader *r, const struct token *t)
{
	size_t i = (size_t)(t - r->token);

	return (i > 0 && t[-1].flags & TOKEN_NUMBER && t[-1].text.len == 4)
		|| (i + 1 < r->n && t[1].flags & TOKEN_NUMBER && t[1].text.len == 4);
}

static void add_word(struct reader *r, const struct token *t, uint16_t flags, const struct listed *form)
{
	uint64_t term[WORD_TERMS_MAX], *kept;
	struct listed lemma = { 0 };
	struct word *word;
	unsigned found = WORD_KNOWN;
	size_t n = 1;

	/* What is quoted is meant as it is written. */
	if (flags & (WORD_NUMBER | WORD_QUOTED) || t->flags & TOKEN_SYMBOL)
		term[0] = text_hash(t->text);
	if (!(flags & WORD_NUMBER) && !(t->flags & TOKEN_SYMBOL))
		n = terms_of(r->l, language_at(r, t), t->text, t->flags & TOKEN_CAPITALS, term, &found, &lemma);
	if (!(found & WORD_KNOWN) && known_elsewhere(r, t))
		found |= WORD_KNOWN;
	if (is_foreign(language_at(r, t), t->text))
		found |= WORD_FOREIGN;
	word = new_word(r, n);
	kept = word ? arena_alloc(r->arena, n * sizeof *kept) : NULL;
	if (!kept)
		return;
	memcpy(kept, term, n * sizeof *kept);
	word->terms = kept;
	word->text = short_text(t->text);
	word->contrast = form->contrast ? form->contrast : lemma.contrast;
	if ((form->bits | lemma.bits) & LIST_VOLATILE && !(flags & WORD_QUOTED) && r->w->skip == WORDS_FIT)
		r->w->skip = WORDS_VOLATILE;
	word->flags |= (uint16_t)(flags | found | (form->bits ? WORD_KNOWN : 0));
	if (((form->bits | lemma.bits) & LIST_WEAK || (form->bits & LIST_YEAR && beside_year(r, t)))
	    && !(form->bits & LIST_KEEP) && !(flags & (WORD_NUMBER | WORD_QUOTED | WORD_NAME | WORD_CAPS)))
		word->flags |= WORD_WEAK;
	else
		r->strong++;
	mark_repeat(r->w, word);
}

static void add_alias(struct reader *r, const struct alias *x)
{
	r->aliases++;
	for (size_t i = 0; i < x->n_words; i++) {
		const struct word *from = &x->word[i];
		struct word *word = new_word(r, from->n_terms);
		uint64_t *kept = word ? arena_alloc(r->arena, from->n_terms * sizeof *kept) : NULL;

		if (!kept)
			return;
		memcpy(kept, from->terms, from->n_terms * sizeof *kept);
		word->terms = kept;
		word->text = arena_slice(r->arena, from->text);
		word->flags |= from->flags;
		word->alias = r->aliases;
		mark_repeat(r->w, word);
	}
	r->strong++;
}

/* Capitals mean nothing where all is written so, nor a capital where all words or all nouns have one. */
static void judge_capitals(struct reader *r)
{
	unsigned words = 0, in_capitals = 0, later = 0, with_capital = 0;

	for (size_t i = 0; i < r->n; i++) {
		const struct token *t = &r->token[i];

		if (t->script == SCRIPT_OTHER || t->text.len < 2)
			continue;
		words++;
		in_capitals += (t->flags & TOKEN_CAPITALS) != 0;
		if (!(t->flags & TOKEN_FIRST) && t->text.len >= 4) {
			later++;
			with_capital += (t->flags & TOKEN_CAPITAL) != 0;
		}
	}
	r->capitals_say = in_capitals * 2 <= words || words < 3;
	r->names_say = r->capitals_say && !(later >= 4 && with_capital == later);
}

static uint16_t flags_of(const struct reader *r, const struct token *t, const struct listed *form)
{
	const struct language *g = language_at(r, t);
	uint16_t flags = 0;

	if (t->flags & TOKEN_NUMBER)
		flags |= WORD_NUMBER;
	if (t->flags & TOKEN_QUOTED)
		flags |= WORD_QUOTED;
	if (r->capitals_say && t->flags & TOKEN_CAPITALS)
		flags |= WORD_CAPS;
	if (r->names_say && t->flags & TOKEN_CAPITAL && !(t->flags & TOKEN_FIRST) && !(form->bits & LIST_POLITE)
	    && !(g && g->info && g->info->capital_nouns))
		flags |= WORD_NAME;
	return flags;
}

static void count_negator(struct words *w, const struct listed *form)
{
	uint8_t *n = form->bits & LIST_EXCEPT ? &w->absences : form->bits & LIST_CONCORD ? &w->concords : &w->negators;

	*n += *n < UINT8_MAX;
}

/* What languages join on to a word with an apostrophe: what's, they'll, didn't; l'eau, dell'arte. */
static void strip_clitics(struct reader *r, struct token *t)
{
	static const char *const suffix[] = { "'s", "'ll", "'re", "'ve", "'d", "'m" };
	const struct language *g = language_at(r, t);
	const char *quote = t->script == SCRIPT_LATIN ? memchr(t->text.at, '\'', t->text.len) : NULL;
	size_t before = quote ? (size_t)(quote - t->text.at) : 0, after = t->text.len - before;

	if (!quote || form_of(r, t) != &nothing)
		return;
	if (after == 2 && before > 2 && quote[-1] == 'n' && quote[1] == 't') {
		count_negator(r->w, &nothing);
		t->text.len = before - 1;
		return;
	}
	for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++) {
		if (slice_is(slice_of(quote, after), slice_text(suffix[i]))) {
			t->text.len = before;
			return;
		}
	}
	if (g && g->info && g->info->elides && before && after > 1) {
		const struct listed *head = map_find(&g->forms, text_hash(slice_of(t->text.at, before + 1)));

		if (head && head->bits & LIST_NEGATOR)
			count_negator(r->w, head);
		t->text = slice_of(quote + 1, after - 1);
	}
}

/* "what year" asks for a time. Small words may stand between: в якому саме році. */
static bool asks_for_time(const struct reader *r, size_t i, size_t *len)
{
	for (size_t k = i + *len; k < r->n && k < i + *len + 2; k++) {
		const struct listed *it = form_of(r, &r->token[k]);

		if (it->bits & LIST_TIME) {
			*len = k - i + 1;
			return true;
		}
		if (!(it->bits & LIST_STOP))
			break;
	}
	return false;
}

/* The first question word counts, but "can you tell me when" asks when. */
static void set_class(struct reader *r, enum words_class class, bool gives_way)
{
	struct words *w = r->w;

	if (!w->classes || r->class_gives_way) {
		w->class = class;
		r->class_gives_way = gives_way;
	}
	w->classes |= 1u << class;
}

/* Reads what starts at token i; returns how many tokens that was. */
static size_t read_token(struct reader *r, size_t i)
{
	struct token *t = &r->token[i];
	struct words *w = r->w;
	const struct listed *form, *phrase;
	const struct alias *alias;
	uint16_t flags;
	size_t len;

	if (t->flags & TOKEN_QUOTED) {
		w->quoted = (w->quoted << 7 | w->quoted >> 57) ^ text_hash(t->text);
		add_word(r, t, flags_of(r, t, &nothing), &nothing);
		return 1;
	}
	strip_clitics(r, t);
	form = form_of(r, t);
	flags = flags_of(r, t, form);
	if (form->bits & LIST_NEGATOR) {
		count_negator(w, form);
		r->negated = form->bits & LIST_DIRECT;
		if (form->role)
			r->role = form->role;
		return 1;
	}
	if (t->flags & (TOKEN_NUMBER | TOKEN_SYMBOL)) {
		add_word(r, t, flags, form);
		return 1;
	}
	alias = alias_at(r->l, t, r->n - i);
	if (alias && (!alias->capitals || t->flags & TOKEN_CAPITALS || !(form->bits & LIST_STOP))) {
		add_alias(r, alias);
		return alias->n_key;
	}
	if (flags & (WORD_CAPS | WORD_NAME)) {
		add_word(r, t, flags, form);
		return 1;
	}
	if (form->modal && !w->modal)
		w->modal = form->modal;
	w->sequence |= (form->bits & LIST_SEQUENCE) != 0;
	/* "чи" offers a choice between two things and asks for yes or no before the first. */
	if (form->bits & LIST_CHOICE && r->strong)
		w->choice = true;
	phrase = phrase_at(r, i, &len);
	if (phrase->class && !(w->choice && form->bits & LIST_CHOICE)) {
		r->role = ROLE_NONE;                  /* "in which …": of the question, not of what comes next */
		if (phrase->class == CLASS_LIST && !(phrase->bits & LIST_TELLING) && asks_for_time(r, i, &len))
			set_class(r, CLASS_WHEN, false);
		else
			set_class(r, phrase->class, phrase->bits & LIST_REQUEST || phrase->class == CLASS_YES_NO);
		return len;
	}
	if (i == 0 && form->bits & LIST_ASKING)
		set_class(r, CLASS_YES_NO, true);
	if (i == 0 && phrase->bits & LIST_OPENER)
		r->points = true;
	if (r->strong == 0) {
		r->follows |= (form->bits & LIST_FOLLOW) != 0;
		r->points |= (form->bits & LIST_POINTING) != 0;
	}
	if (form->role && r->role != ROLE_THAN)       /* "than to go" */
		r->role = form->role;
	r->article |= (form->bits & LIST_ARTICLE) != 0;
	if (form->tense && !w->tense)
		w->tense = form->tense;
	if (form->bits & LIST_CHOICE && !form->class)
		w->choice = true;                     /* "between A and B" may come first */
	if (form->bits & LIST_VOLATILE && w->skip == WORDS_FIT)
		w->skip = WORDS_VOLATILE;
	if (form->bits & LIST_KEEP || (form->bits & LIST_KEEP_LAST && t->flags & TOKEN_LAST && i > 0)
	    || (form->bits & LIST_UNIT && i > 0 && t[-1].flags & TOKEN_NUMBER) || !(form->bits & LIST_STOP)) {
		uint8_t role = form->role ? r->role : ROLE_NONE;

		if (role)
			r->role = ROLE_NONE;          /* it gives the role, it does not take it */
		add_word(r, t, flags, form);
		r->role = role;
	}
	return 1;
}

/* Signs of a program in the question. One of the first kind is enough, of the second it takes two. */
static bool is_code(struct slice s)
{
	static const char *const sure[] = { "```", "#include", "</", "();", "){", ") {", "=> {", "#!/" };
	static const char *const likely[] = { ";\n", "{", "}", "()", "=>", "->", "==", "!=", "&&", "||", "/>", "::", "+=", "$(",
		"\\n", "[0]", "[i]", "def ", "var ", "const ", "return ", "import " };
	unsigned n = 0;

	for (size_t i = 0; i < sizeof sure / sizeof *sure; i++)
		if (memmem(s.at, s.len, sure[i], strlen(sure[i])))
			return true;
	for (size_t i = 0; i < sizeof likely / sizeof *likely; i++)
		n += memmem(s.at, s.len, likely[i], strlen(likely[i])) != NULL;
	return n >= 2;
}

/* "Topic: question?" is one question, if nothing before the colon asks for work on a text. */
static bool is_topic(const struct reader *r, size_t i)
{
	size_t len;

	for (size_t k = 0; k < i; k++)
		if (form_of(r, &r->token[k])->bits & LIST_TASK)
			return false;
	return i > 0 && i <= TOPIC_TOKENS_MAX && phrase_at(r, i, &len)->class;
}

/* Behind a colon, in further lines or after an opening quotation mark stands a text to be worked on, and there every word
 * says something: "Translate: I am here", "Translate: you are there". What quotation marks enclose is compared as written. */
static bool has_payload(const struct reader *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->token[i].flags & TOKEN_PAYLOAD && !(r->token[i].flags & TOKEN_QUOTED) && !is_topic(r, i))
			return true;
	return r->lines || r->lonely;
}

static enum words_skip read_tokens(struct reader *r, struct slice text)
{
	enum words_skip skip = WORDS_FIT;
	struct token one;
	struct text t;
	enum err e = text_open(&t, r->l->model, text, true);
	size_t words = 0;

	if (e)
		return e == ERR_CORRUPT ? WORDS_BROKEN : WORDS_MEMORY;
	while (skip == WORDS_FIT && text_next(&t, &one)) {
		words += one.script != SCRIPT_OTHER || !(one.flags & (TOKEN_SYMBOL | TOKEN_NUMBER));
		if (words > WORDS_TOKENS_MAX || r->n == TOKENS_MAX) {
			skip = WORDS_LONG;
			break;
		}
		one.text = arena_slice(r->arena, one.text);
		r->token[r->n++] = one;
		if (r->arena->full)
			skip = WORDS_MEMORY;
	}
	r->lines = t.lines;
	r->lonely = t.lonely;
	text_close(&t);
	return skip;
}

struct words *words_of(const struct lexicon *l, struct slice text, struct arena *a)
{
	struct words *w = arena_alloc(a, sizeof *w);
	struct reader *r;
	bool code, payload;

	if (!w)
		return NULL;
	if (text.len > WORDS_BYTES_MAX) {
		w->skip = WORDS_LONG;
		return w;
	}
	r = arena_alloc(a, sizeof *r);
	w->word = arena_alloc(a, WORDS_MAX * sizeof *w->word);
	if (!r || !w->word) {
		w->skip = WORDS_MEMORY;
		return w;
	}
	*r = (struct reader){ .l = l, .arena = a, .w = w };
	code = text.len && is_code(text);
	w->skip = read_tokens(r, text);
	if (w->skip)
		return w;
	languages_of(l, r->token, r->n, r->of);
	judge_capitals(r);
	payload = has_payload(r);
	for (size_t i = 0; i < r->n && w->skip != WORDS_LONG;)
		i += read_token(r, i);
	if (a->full || w->skip == WORDS_LONG) {
		w->skip = a->full ? WORDS_MEMORY : WORDS_LONG;
		w->n = 0;
		return w;
	}
	if (w->n == 0)
		w->skip = WORDS_EMPTY;
	else if (code)
		w->skip = WORDS_CODE;
	else if (r->follows || (r->points && r->strong <= 2))
		w->skip = WORDS_FOLLOW_UP;
	else if (payload && w->skip == WORDS_FIT)
		w->skip = WORDS_PAYLOAD;
	return w;
}
