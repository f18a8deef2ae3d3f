/* top_rows.c - see top_rows.h: a binary heap. */
#include "proxy/top_rows.h"

#include <stdio.h>
#include <stdlib.h>

#include "cache/key.h"

static int compare(uint64_t rank, const uint8_t key[KEY_BYTES], uint64_t other_rank, const uint8_t other[KEY_BYTES])
{
	return rank != other_rank ? (rank < other_rank ? -1 : 1) : memcmp(key, other, KEY_BYTES);
}

static int by_order(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;

	return compare(x->rank, x->row.key, y->rank, y->row.key);
}

enum err top_rows_init(struct top_rows *t, size_t most)
{
	*t = (struct top_rows){ .most = most, .at = calloc(most, sizeof *t->at) };
	return t->at ? ERR_OK : ERR_NO_MEMORY;
}

void top_rows_fini(struct top_rows *t)
{
	for (size_t i = 0; i < t->n; i++)
		free((void *)(uintptr_t)t->at[i].row.entry_head.at);
	free(t->at);
	*t = (struct top_rows){ 0 };
}

static void swap(struct top_row *a, struct top_row *b)
{
	struct top_row was = *a;

	*a = *b;
	*b = was;
}

static void sift_up(struct top_rows *t, size_t i)
{
	for (; i && by_order(&t->at[(i - 1) / 2], &t->at[i]) < 0; i = (i - 1) / 2)
		swap(&t->at[(i - 1) / 2], &t->at[i]);
}

static void sift_down(struct top_rows *t, size_t i)
{
	for (;;) {
		size_t last = i, left = 2 * i + 1, right = left + 1;
		if (left < t->n && by_order(&t->at[last], &t->at[left]) < 0)
			last = left;
		if (right < t->n && by_order(&t->at[last], &t->at[right]) < 0)
			last = right;
		if (last == i)
			return;
		swap(&t->at[i], &t->at[last]);
		i = last;
	}
}

enum err top_rows_offer(struct top_rows *t, uint64_t rank, const struct store_row *row)
{
	bool full = t->n == t->most;

	t->seen++;
	if (t->after && compare(rank, row->key, t->after_rank, t->after_key) <= 0)
		return ERR_OK;
	t->cut |= full;
	if (full && compare(rank, row->key, t->at[0].rank, t->at[0].row.key) >= 0)
		return ERR_OK;
	size_t len = row->entry_head.len < ENTRY_PEEK_BYTES ? row->entry_head.len : ENTRY_PEEK_BYTES;
	char *head = malloc(len + 1);
	if (!head)
		return ERR_NO_MEMORY;
	memcpy(head, row->entry_head.at, len);
	struct top_row new = { .rank = rank, .row = *row };
	new.row.entry_head = slice_of(head, len);
	if (full) {
		free((void *)(uintptr_t)t->at[0].row.entry_head.at);
		t->at[0] = new;
		sift_down(t, 0);
	} else {
		t->at[t->n] = new;
		sift_up(t, t->n++);
	}
	return ERR_OK;
}

void top_rows_sort(struct top_rows *t)
{
	qsort(t->at, t->n, sizeof *t->at, by_order);
}

void top_rows_cursor(const struct top_rows *t, char to[TOP_CURSOR_MAX + 1])
{
	*to = '\0';
	if (!t->cut || !t->n)
		return;
	const struct top_row *last = &t->at[t->n - 1];
	snprintf(to, TOP_CURSOR_MAX + 1, "%016llx+", (unsigned long long)last->rank);
	key_hex(last->row.key, to + 17);
}

bool top_rows_go_on(struct top_rows *t, const char *cursor)
{
	char *end;

	if (strlen(cursor) != TOP_CURSOR_MAX || cursor[16] != '+' || strspn(cursor, "0123456789abcdef") != 16)
		return false;
	t->after_rank = strtoull(cursor, &end, 16);
	t->after = key_parse(slice_text(cursor + 17), t->after_key);
	return t->after && end == cursor + 16;
}
