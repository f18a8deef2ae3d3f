/* top_rows.h - of many stored entries the few that come first in an order, found in one pass and bounded memory.
 *
 * Entries are ranked by a number, the smallest first, then by their key, so that the order is a total one and a page can
 * begin just behind the last row of the page before it.
 *
 * Ownership  rows are copied.
 * Threads    one at a time.
 * Limits     `most` rows, the front of an entry (ENTRY_PEEK_BYTES) each; an offer takes log2(most) steps. */
#ifndef PROXY_TOP_ROWS_H
#define PROXY_TOP_ROWS_H

#include "cache/entry.h"
#include "cache/store.h"

struct top_row {
	uint64_t rank;
	struct store_row row;                /* entry_head: a copy */
};

struct top_rows {
	struct top_row *at;                  /* a heap, the last in order at its top; after top_rows_sort(): in order */
	size_t n, most;
	uint64_t seen;                       /* offered, taken or not */
	bool cut;                            /* some were not taken because others come first: there is a next page */
	bool after;                          /* only what comes behind this: */
	uint64_t after_rank;
	uint8_t after_key[KEY_BYTES];
};

must_use enum err top_rows_init(struct top_rows *t, size_t most);
void top_rows_fini(struct top_rows *t);
must_use enum err top_rows_offer(struct top_rows *t, uint64_t rank, const struct store_row *row);
void top_rows_sort(struct top_rows *t);

/* The cursor that goes on behind the last row, and back; "" where there is nothing more. */
enum { TOP_CURSOR_MAX = 16 + 1 + 2 * KEY_BYTES };
void top_rows_cursor(const struct top_rows *t, char to[TOP_CURSOR_MAX + 1]);
bool top_rows_go_on(struct top_rows *t, const char *cursor);

#endif
