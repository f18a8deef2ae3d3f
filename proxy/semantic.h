/* semantic.h - the semantic side of one exchange: its question as words, what the store proposes, and the choice. */
#ifndef PROXY_SEMANTIC_H
#define PROXY_SEMANTIC_H

#include "cache/guards.h"
#include "cache/store.h"
#include "proxy/exchange.h"

enum { SEMANTIC_PROPOSED_BYTES = 512 << 10 };

struct semantic;

/* What the configuration and a request's headers make of the tier; also for explain. */
enum guards semantic_mode(const struct config *c);
double semantic_threshold(const struct config *c, const struct wishes *w);
void semantic_scope(const struct exchange *x, const struct lexicon *l, uint8_t scope[KEY_BYTES]);

/* Has its question words that age: today, now, the latest? False also while there are no dictionaries. */
bool semantic_ages(const struct exchange *x);

/* NULL: the tier does not apply to this ask, or its question cannot be compared. */
struct semantic *semantic_analyse(struct exchange *x);
/* All look-ups are done: from here on only semantic_item() is asked for, and only what it takes is kept. */
void semantic_settle(struct semantic *n);
void semantic_free(struct semantic *n);

/* What to ask the store; NULL if the look-up is not wanted (or n is NULL), though the answer may be stored with its words. */
const struct store_query *semantic_query(const struct semantic *n);

/* Room for what the store proposes; NULL as above. */
struct store_proposal *semantic_proposals(struct semantic *n);

/* Chooses among the proposals; counts what guards forbade. False: none will do. */
bool semantic_choose(struct semantic *n, struct exchange *x, const struct store_get *g);
bool semantic_chosen(const struct semantic *n);
const uint8_t *semantic_key(const struct semantic *n);
double semantic_similarity(const struct semantic *n);

/* Puts the question into an item to be stored. */
void semantic_item(const struct semantic *n, struct store_item *item);

#endif
