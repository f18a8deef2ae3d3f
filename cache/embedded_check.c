/* embedded_check.c - whether LMDB may believe the embedded store's file; see embedded.h.
 *
 * LMDB has no checksums and trusts what it reads: one changed number in a page (a failing disk, a copy made while the file
 * was written) lets it read and write past that page or ends the process by an assertion, and does so again after every
 * start. So a file that is not as we left it is gone through once before LMDB opens it: every page that can be reached
 * from the newest head is of the kind it is reached as, is reached once only and not free besides, and its records fill it
 * without a gap or an overlap. What records hold is not looked at: who reads them checks them (embedded_tables.c,
 * entry.c), and an order that is wrong costs a miss.
 *
 * The format is LMDB's version 1 as 64-bit little-endian machines write it: 16 bytes head a page, 8 a record; values too long
 * for a page lie in pages of their own; the duplicates of a key lie in a page inside its record or in a tree. Runs before
 * the store has threads; holds a bit for each page; every page costs about a microsecond when it is in memory. */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "cache/embedded.h"

enum { PAGE_HEAD = 16, NODE_HEAD = 8, DB_BYTES = 48, DEPTH_MAX = 32, KEY_MAX = 511, PAGE_MOST = 65536, LOOK_AT_CLOCK = 1024 };
enum { IS_BRANCH = 1, IS_LEAF = 2, IS_OVERFLOW = 4, IS_META = 8, IS_DIRTY = 16, IS_LEAF2 = 32, IS_INSIDE = 64 };    /* a page */
enum { NODE_BIG = 1, NODE_DB = 2, NODE_DUPS = 4 };                                                               /* a record */
enum { META_VERSION_AT = 20, META_DBS_AT = 40, META_TXN_AT = 144, FIRST_PAGE = 2 };
static const uint64_t no_page = UINT64_MAX;

struct db {                                     /* as it lies in the file */
	uint32_t value_bytes;                 /* of duplicates, if all are as long */
	uint16_t flags, depth;
	uint64_t branches, leaves, overflows, entries, root;
};
_Static_assert(sizeof(struct db) == DB_BYTES, "the layout of LMDB's record of a tree");

enum kind { FREE_PAGES, TABLES, TABLE, DUPLICATES };

struct tree {
	enum kind kind;
	struct db db;
	uint64_t entries;                     /* counted */
};

struct look {
	const uint8_t *map;
	size_t page;                          /* bytes of one */
	uint64_t pages, txn, looked;
	uint64_t last_free_txn;
	uint8_t *seen;                        /* a bit for each page */
	uint16_t *node_at;                    /* bytes of the record that begins there, in halves; zeroes between pages */
	struct timespec until;
	bool late;
};

static uint16_t u16(const uint8_t *at)
{
	uint16_t n;

	memcpy(&n, at, sizeof n);
	return n;
}

static uint64_t u64(const uint8_t *at)
{
	uint64_t n;

	memcpy(&n, at, sizeof n);
	return n;
}

static bool is_late(struct look *l)
{
	struct timespec now;

	if (++l->looked % LOOK_AT_CLOCK == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		l->late = now.tv_sec > l->until.tv_sec ||
			  (now.tv_sec == l->until.tv_sec && now.tv_nsec >= l->until.tv_nsec);
	}
	return l->late;
}

/* Pages are reached once. */
static bool reach(struct look *l, uint64_t page, uint64_t n)
{
	if (page < FIRST_PAGE || page >= l->pages || n == 0 || n > l->pages - page)
		return false;
	for (; n; n--, page++) {
		if (l->seen[page / 8] & 1 << page % 8)
			return false;
		l->seen[page / 8] |= (uint8_t)(1 << page % 8);
	}
	return true;
}

/* The page that is reached as that kind, or NULL. */
static const uint8_t *page_of(struct look *l, uint64_t number, uint16_t flags)
{
	const uint8_t *p = number < l->pages ? l->map + number * l->page : NULL;

	return p && u64(p) == number && u16(p + 10) == flags ? p : NULL;
}

static bool tree_sound(struct look *l, struct tree *t);

/* A value with pages of its own. */
static const uint8_t *overflow(struct look *l, const uint8_t *data, uint64_t bytes)
{
	const uint8_t *p = page_of(l, u64(data), IS_OVERFLOW);
	uint32_t pages;

	if (!p)
		return NULL;
	memcpy(&pages, p + 12, sizeof pages);
	if (pages < (PAGE_HEAD - 1 + bytes) / l->page + 1 || !reach(l, u64(p), pages))
		return NULL;
	return p + PAGE_HEAD;
}

/* A list of free pages, the largest first, that belong to an older transaction each than the next list. */
static bool free_sound(struct look *l, const uint8_t *key, const uint8_t *list, uint64_t bytes)
{
	uint64_t txn = u64(key), n = bytes < 8 ? UINT64_MAX : u64(list), last = l->pages;

	if (n > bytes / 8 - 1 || txn <= l->last_free_txn || txn > l->txn)
		return false;
	l->last_free_txn = txn;
	for (uint64_t i = 1; i <= n; i++) {
		uint64_t page = u64(list + 8 * i);
		if (page >= last || !reach(l, page, 1))
			return false;
		last = page;
	}
	return true;
}

/* Values of 8 bytes each behind a page's head; the head's two marks count them. */
static bool values_sound(const uint8_t *p, size_t bytes, uint64_t *entries)
{
	uint16_t lower = u16(p + 12), upper = u16(p + 14);
	size_t n = lower < PAGE_HEAD ? 0 : (lower - PAGE_HEAD) / 2u;

	*entries += n;
	return n > 0 && lower % 2 == 0 && u16(p + 8) == 8 && PAGE_HEAD + 8 * n <= bytes && upper + 6 * n == bytes;
}

static bool subtree_sound(struct look *l, enum kind kind, const uint8_t *data, uint64_t bytes, uint64_t *entries)
{
	struct tree t = { .kind = kind };

	if (bytes != DB_BYTES)
		return false;
	memcpy(&t.db, data, DB_BYTES);
	if (kind == DUPLICATES && (t.db.value_bytes != 8 || t.db.root == no_page || !(t.db.flags & MDB_DUPFIXED)))
		return false;
	*entries += t.db.entries;
	return tree_sound(l, &t);
}

/* The duplicates of one key: one value, a page of them inside the record, or a tree. */
static bool duplicates_sound(struct look *l, struct tree *t, uint16_t flags, const uint8_t *data, uint64_t bytes)
{
	switch (flags) {
	case 0:
		t->entries++;
		return bytes == 8;
	case NODE_DUPS:
		return bytes >= PAGE_HEAD && u16(data + 10) == (IS_LEAF | IS_DIRTY | IS_LEAF2 | IS_INSIDE) &&
		       values_sound(data, bytes, &t->entries);
	case NODE_DUPS | NODE_DB:
		return subtree_sound(l, DUPLICATES, data, bytes, &t->entries);
	default:
		return false;
	}
}

/* A record of a leaf; data and bytes as in the page. */
static bool record_sound(struct look *l, struct tree *t, const uint8_t *key, uint16_t flags, uint64_t bytes)
{
	uint16_t key_bytes = u16(key - 2);
	const uint8_t *data = key + key_bytes;
	bool numbers = t->kind == FREE_PAGES || t->db.flags & MDB_INTEGERKEY;

	if (numbers ? key_bytes != 8 : key_bytes == 0 || key_bytes > KEY_MAX)
		return false;
	if (t->kind == TABLES) {
		uint64_t inside = 0;
		t->entries++;
		return flags == NODE_DB && subtree_sound(l, TABLE, data, bytes, &inside);
	}
	if (t->kind == TABLE && t->db.flags & MDB_DUPSORT)
		return duplicates_sound(l, t, flags, data, bytes);
	t->entries++;
	if (flags == NODE_BIG)
		data = overflow(l, data, bytes);
	else if (flags)
		data = NULL;
	return data && (t->kind != FREE_PAGES || free_sound(l, key, data, bytes));
}

static bool page_sound(struct look *l, struct tree *t, uint64_t number, unsigned level);

/* Record i of a page; its bytes go into node_at. Those of a branch name pages one level down. */
static bool node_sound(struct look *l, struct tree *t, const uint8_t *p, unsigned i, unsigned level)
{
	size_t at = u16(p + PAGE_HEAD + 2 * i), upper = u16(p + 14), bytes = NODE_HEAD;
	bool leaf = level == t->db.depth;

	if (at < upper || at % 2 || at + NODE_HEAD > l->page || l->node_at[at / 2])
		return false;
	const uint8_t *node = p + at;
	uint16_t flags = u16(node + 4), key_bytes = u16(node + 6);
	uint64_t low = u16(node) | (uint64_t)u16(node + 2) << 16;
	bytes += key_bytes + (!leaf ? 0 : flags & NODE_BIG ? sizeof(uint64_t) : low);
	if (bytes > l->page - at)
		return false;
	l->node_at[at / 2] = (uint16_t)((bytes + 1) / 2);
	if (leaf)
		return true;
	bool numbers = t->kind == FREE_PAGES || t->kind == DUPLICATES || t->db.flags & MDB_INTEGERKEY;
	return i == 0 ? key_bytes <= KEY_MAX : numbers ? key_bytes == 8 : key_bytes > 0 && key_bytes <= KEY_MAX;
}

/* A page of records: they lie one behind the other from `upper` to its end. */
static bool page_sound(struct look *l, struct tree *t, uint64_t number, unsigned level)
{
	bool leaf = level == t->db.depth, sound = true;
	const uint8_t *p;

	if (is_late(l))
		return false;
	if (leaf && t->kind == DUPLICATES) {
		p = page_of(l, number, IS_LEAF | IS_LEAF2);
		return p && reach(l, number, 1) && values_sound(p, l->page, &t->entries);
	}
	p = page_of(l, number, leaf ? IS_LEAF : IS_BRANCH);
	if (!p || !reach(l, number, 1))
		return false;
	size_t lower = u16(p + 12), upper = u16(p + 14), at = upper;
	if (lower < PAGE_HEAD + (leaf ? 2 : 4) || lower % 2 || upper % 2 || lower > upper || upper > l->page)
		return false;
	unsigned n = (unsigned)(lower - PAGE_HEAD) / 2, inside = 0;
	for (unsigned i = 0; i < n && sound; i++)
		sound = node_sound(l, t, p, i, level);
	for (; sound && at < l->page && l->node_at[at / 2]; inside++)
		at += 2u * l->node_at[at / 2];
	memset(l->node_at + upper / 2, 0, (l->page - upper) / 2 * sizeof *l->node_at);
	sound = sound && at == l->page && inside == n;
	for (unsigned i = 0; i < n && sound; i++) {
		const uint8_t *node = p + u16(p + PAGE_HEAD + 2 * i);
		uint64_t low = u16(node) | (uint64_t)u16(node + 2) << 16;
		uint16_t high = u16(node + 4);
		sound = leaf ? record_sound(l, t, node + NODE_HEAD, high, low) :
			       page_sound(l, t, low | (uint64_t)high << 32, level + 1);
	}
	return sound;
}

static bool tree_sound(struct look *l, struct tree *t)
{
	if (t->db.root == no_page)
		return t->db.depth == 0 && t->db.entries == 0;
	if (t->db.depth == 0 || t->db.depth > DEPTH_MAX)
		return false;
	return page_sound(l, t, t->db.root, 1) && t->entries == t->db.entries;
}

/* The newest head's trees; true also for another version of LMDB's, which it refuses itself. */
static bool head_sound(struct look *l)
{
	const uint8_t *head = l->map, *other = l->map + l->page;
	struct tree t = { .kind = FREE_PAGES };

	if (!(u16(head + 10) & IS_META) || !(u16(other + 10) & IS_META))
		return false;
	if (u64(other + META_TXN_AT) > u64(head + META_TXN_AT))
		head = other;
	l->txn = u64(head + META_TXN_AT);
	if (head[META_VERSION_AT] != 1)
		return true;
	memcpy(&t.db, head + META_DBS_AT, DB_BYTES);
	if (t.db.value_bytes != l->page || t.db.flags != MDB_INTEGERKEY || !tree_sound(l, &t))
		return false;
	t = (struct tree){ .kind = TABLES };
	memcpy(&t.db, head + META_DBS_AT + DB_BYTES, DB_BYTES);
	return t.db.flags == 0 && tree_sound(l, &t);
}

enum check embedded_check(int fd, uint64_t bytes, uint32_t page, unsigned ms)
{
	struct look l = { .page = page, .pages = bytes / page };
	void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	enum check result = CHECK_UNDECIDED;

	if (map == MAP_FAILED)
		return result;
	madvise(map, bytes, MADV_WILLNEED);            /* in the order of the disk, where trees go to and fro */
	l.map = map;
	l.seen = calloc(l.pages / 8 + 1, 1);
	l.node_at = calloc(PAGE_MOST / 2 + 1, sizeof *l.node_at);
	clock_gettime(CLOCK_MONOTONIC, &l.until);
	l.until.tv_sec += ms / 1000;
	if (l.seen && l.node_at && l.pages > FIRST_PAGE)
		result = head_sound(&l) ? CHECK_SOUND : l.late ? CHECK_UNDECIDED : CHECK_DAMAGED;
	free(l.seen);
	free(l.node_at);
	munmap(map, bytes);
	return result;
}
