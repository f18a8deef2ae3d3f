/* flight.c - see flight.h.
 *
 * Two locks: the table's, for finding and listing, and the flight's own, for its answer and readers. Where both are
 * needed the table's is taken first. */
#include "cache/flight.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proxy/base/scan.h"

enum { FLIGHT_MAGIC = 0x466c6768, BUCKETS = 1024, PIECE_HEAD = 5 };
enum state { FLYING, LANDED, FAILED };

struct flights {
	pthread_mutex_t lock;
	struct flight *bucket[BUCKETS];
	struct flight_put *put[BUCKETS];     /* on their way into the store */
	size_t n;
	uint64_t n_made;
	_Atomic size_t n_landing;            /* of them: landed; read without the lock */
};

struct flight {
	unsigned magic;
	struct flights *table;
	uint8_t key[KEY_BYTES];
	struct flight *next;                 /* in its bucket; guarded by the table's lock, as are listed, landing and refs */
	bool listed;
	bool landing;                        /* landed and listed */
	unsigned refs;

	pthread_mutex_t lock;                /* guards all below */
	enum state state;
	enum err why;
	struct answer answer;
	struct answer_id id;
	void (*release)(void *);             /* of lent pieces; NULL: they are its own */
	void *holder;
	uint64_t base;                       /* how much was cut off the front of the pieces */
	size_t limit;
	bool over;                           /* past its limit */
	bool held;                           /* its leader was told to wait: is to hear of every change */
	int64_t ttl_ms;
	struct flight_head head;
	struct flight_leader leader;
	struct flight_reader *readers;
};

struct flights *flights_new(void)
{
	struct flights *fs = calloc(1, sizeof *fs);

	if (!fs)
		abort();                     /* at start; nothing can work without it */
	pthread_mutex_init(&fs->lock, NULL);
	return fs;
}

void flights_free(struct flights *fs)
{
	assert(fs->n == 0);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

size_t flights_count(struct flights *fs)
{
	pthread_mutex_lock(&fs->lock);
	size_t n = fs->n;
	pthread_mutex_unlock(&fs->lock);
	return n;
}

static struct flight **bucket_of(struct flights *fs, const uint8_t *key)
{
	return &fs->bucket[(key[0] | key[1] << 8) % BUCKETS];
}

static struct flight_put **put_bucket(struct flights *fs, const uint8_t *key)
{
	return &fs->put[(key[0] | key[1] << 8) % BUCKETS];
}

/* What is on its way under key; NULL: nothing. With the table's lock held. */
static struct flight_put *find_put(struct flights *fs, const uint8_t *key)
{
	struct flight_put *p = *put_bucket(fs, key);

	while (p && memcmp(p->key, key, KEY_BYTES) != 0)
		p = p->next;
	return p;
}

/* With the table's lock held. */
static struct flight *find(struct flights *fs, const uint8_t *key)
{
	struct flight *f = *bucket_of(fs, key);

	while (f && memcmp(f->key, key, KEY_BYTES) != 0)
		f = f->next;
	return f;
}

bool flights_have(struct flights *fs, const uint8_t key[KEY_BYTES])
{
	pthread_mutex_lock(&fs->lock);
	bool have = find(fs, key) != NULL;
	pthread_mutex_unlock(&fs->lock);
	return have;
}

bool flights_landing(struct flights *fs, const uint8_t key[KEY_BYTES])
{
	if (atomic_load_explicit(&fs->n_landing, memory_order_acquire) == 0)
		return false;
	pthread_mutex_lock(&fs->lock);
	const struct flight *f = find(fs, key);
	bool landing = f && f->landing;
	pthread_mutex_unlock(&fs->lock);
	return landing;
}

static struct flight *flight_new(struct flights *fs, size_t limit)
{
	struct flight *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->magic = FLIGHT_MAGIC;
	f->table = fs;
	f->limit = limit;
	f->id.version = ++fs->n_made;
	pthread_mutex_init(&f->lock, NULL);
	/* a line may take the pieces past the limit once before they are cut; the line itself is bounded by its reader */
	answer_init(&f->answer, SIZE_MAX / 4);
	return f;
}

/* A leader that waits looks again. With the flight's lock held. */
static void tell_room(struct flight *f)
{
	if (f->held && f->leader.room)
		f->leader.room(f->leader.arg);
}

static void reader_link(struct flight *f, struct flight_reader *r)
{
	r->next = f->readers;
	r->prev = &f->readers;
	if (r->next)
		r->next->prev = &r->next;
	f->readers = r;
	if (f->state == FLYING && r->ttl_ms > f->ttl_ms)
		f->ttl_ms = r->ttl_ms;
	tell_room(f);
}

/* With the table's lock held. */
static void list(struct flight *f, const uint8_t *key)
{
	struct flight **bucket = bucket_of(f->table, key);

	memcpy(f->key, key, KEY_BYTES);
	f->next = *bucket;
	*bucket = f;
	f->listed = true;
	f->table->n++;
}

/* With the table's lock held, and the flight listed. */
static void set_landing(struct flight *f, bool landing)
{
	if (f->landing == landing)
		return;
	f->landing = landing;
	atomic_fetch_add_explicit(&f->table->n_landing, landing ? 1 : (size_t)-1, memory_order_release);
}

/* With the table's lock held. */
static void unlist(struct flight *f)
{
	if (!f->listed)
		return;
	struct flight **at = bucket_of(f->table, f->key);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	set_landing(f, false);
	f->listed = false;
	f->table->n--;
}

/* Looking whether its front is still there and becoming its reader is one act: a moment later it may be gone. */
static bool link_unless_over(struct flight *f, struct flight_reader *r)
{
	pthread_mutex_lock(&f->lock);
	bool linked = !f->over;
	if (linked)
		reader_link(f, r);
	pthread_mutex_unlock(&f->lock);
	return linked;
}

struct flight *flight_join(struct flights *fs, const uint8_t key[KEY_BYTES], size_t limit, struct flight_reader *r, bool *leads)
{
	struct flight *f = NULL;

	pthread_mutex_lock(&fs->lock);
	if (key)
		f = find(fs, key);
	if (r->landed_only && !(f && f->landing && !r->fresh))
		f = NULL, key = NULL;
	if (f && ((r->fresh && f->landing) || !link_unless_over(f, r))) {
		unlist(f);                   /* old for this reader, or over: then its leader is just about to */
		f = NULL;
	}
	*leads = !f;
	if (!f && (f = flight_new(fs, limit)) && key)
		list(f, key);
	if (f) {
		f->refs++;
		if (*leads)
			reader_link(f, r);   /* nobody else knows it: the table's lock is still held */
	}
	pthread_mutex_unlock(&fs->lock);
	return f;
}

void flight_hold(struct flight *f)
{
	pthread_mutex_lock(&f->table->lock);
	assert(f->magic == FLIGHT_MAGIC && f->refs > 0);
	f->refs++;
	pthread_mutex_unlock(&f->table->lock);
}

void flight_unlist(struct flight *f)
{
	pthread_mutex_lock(&f->table->lock);
	unlist(f);
	pthread_mutex_unlock(&f->table->lock);
}

void flight_relist(struct flight *f, const uint8_t key[KEY_BYTES])
{
	pthread_mutex_lock(&f->table->lock);
	if (!f->listed) {
		struct flight *before = find(f->table, key);
		if (before)
			unlist(before);
		list(f, key);
		set_landing(f, true);
	}
	pthread_mutex_unlock(&f->table->lock);
}

bool flights_put_begin(struct flights *fs, struct flight_put *p)
{
	pthread_mutex_lock(&fs->lock);
	struct flight_put *before = find_put(fs, p->key), **bucket = put_bucket(fs, p->key);
	if (before && before->waits) {
		before->waits->superseded = true;
		before->waits->go(before->waits);
	}
	if (before) {
		before->waits = p;
	} else {
		p->next = *bucket;
		*bucket = p;
	}
	pthread_mutex_unlock(&fs->lock);
	return !before;
}

/* Who waits for it is the next. With the table's lock held. */
static void put_end(struct flights *fs, struct flight_put *p)
{
	struct flight_put **at = put_bucket(fs, p->key), *next = p->waits;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (!next)
		return;
	next->next = p->next;
	*at = next;
	next->go(next);
}

void flights_put_end(struct flights *fs, struct flight_put *p)
{
	pthread_mutex_lock(&fs->lock);
	put_end(fs, p);
	pthread_mutex_unlock(&fs->lock);
}

void flights_put_leave(struct flights *fs, struct flight_put *p)
{
	pthread_mutex_lock(&fs->lock);
	struct flight_put *now = find_put(fs, p->key);
	if (now == p)
		put_end(fs, p);                      /* its turn has come meanwhile */
	else if (now && now->waits == p)
		now->waits = NULL;
	pthread_mutex_unlock(&fs->lock);
}

void flights_unlist_landed(struct flights *fs)
{
	pthread_mutex_lock(&fs->lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct flight *f = fs->bucket[i], *next; f; f = next) {
			next = f->next;
			if (f->landing)
				unlist(f);
		}
	pthread_mutex_unlock(&fs->lock);
}

/* Cuts what every reader has had off the front. With the flight's lock held. */
static void trim(struct flight *f)
{
	uint64_t end = f->base + f->answer.pieces.len, least = end;
	const struct flight_reader *slowest = NULL;

	for (const struct flight_reader *r = f->readers; r; r = r->next)
		if (!r->raw && !r->whole && (r->at < least || (r->at == least && slowest && r->in < slowest->in))) {
			least = r->at;
			slowest = r;
		}
	size_t cut = (size_t)(least - f->base);
	if (slowest && cut + slowest->in < FLIGHT_WINDOW / 4)
		return;                      /* moving bytes costs: only in large steps */
	if (cut == 0)
		return;
	buf_cut(&f->answer.pieces, cut);
	buf_shrink(&f->answer.pieces);       /* it was as large as the limit */
	f->base += cut;
	f->answer.last = f->answer.last >= cut ? f->answer.last - cut : SIZE_MAX;
}

/* One long piece of text: what all have read of it goes, its head moves up. With the flight's lock held. */
static void trim_inside(struct flight *f)
{
	struct buf *p = &f->answer.pieces;
	size_t least = SIZE_MAX, at = 0;
	enum piece_kind kind;
	struct slice bytes;

	if (!pieces_next(buf_slice(p), &at, &kind, &bytes) || bytes.len < FLIGHT_WINDOW / 4)
		return;
	for (const struct flight_reader *r = f->readers; r; r = r->next)
		if (!r->raw && !r->whole)
			least = r->at > f->base ? least : r->in < least ? r->in : least;
	if (least == SIZE_MAX || least < FLIGHT_WINDOW / 4)
		return;
	char head[PIECE_HEAD] = { (char)kind };
	for (int i = 0; i < 4; i++)
		head[1 + i] = (char)((bytes.len - least) >> 8 * i);
	memmove(p->at + PIECE_HEAD, p->at + PIECE_HEAD + least, p->len - PIECE_HEAD - least);
	memcpy(p->at, head, sizeof head);
	p->len -= least;
	/* the piece keeps its place, the pieces behind it move: so do the readers in them */
	for (struct flight_reader *r = f->readers; r; r = r->next) {
		if (r->at == f->base)
			r->in -= least;
		else
			r->at -= least;
	}
	if (f->answer.last > 0 && f->answer.last != SIZE_MAX)
		f->answer.last -= least;
}

/* How far the reader that is furthest is behind: an answer nobody takes is not to be fetched. With the flight's lock held. */
static size_t nearest(const struct flight *f)
{
	uint64_t end = f->base + f->answer.pieces.len, most = 0;

	for (const struct flight_reader *r = f->readers; r; r = r->next) {
		if (r->raw || r->whole)
			return 0;            /* takes all that comes */
		uint64_t at = r->at + (r->in ? PIECE_HEAD + r->in : 0);
		most = at > most ? at : most;
	}
	return f->readers ? (size_t)(end - most) : 0;
}

static void wake_all(struct flight *f)
{
	for (struct flight_reader *r = f->readers; r; r = r->next)
		if (r->waiting) {
			r->waiting = false;
			r->wake(r->arg);
		}
}

void flight_drop(struct flight *f, struct flight_reader *r)
{
	bool last;

	pthread_mutex_lock(&f->table->lock);
	assert(f->magic == FLIGHT_MAGIC && f->refs > 0);
	pthread_mutex_lock(&f->lock);
	if (r) {
		*r->prev = r->next;
		if (r->next)
			r->next->prev = r->prev;
		r->waiting = false;
		if (!f->readers && f->state == FLYING) {
			/* whoever asks from here on must not join an answer that is about to be given up */
			unlist(f);
			if (f->leader.alone)
				f->leader.alone(f->leader.arg);
		} else {
			tell_room(f);
		}
	}
	last = --f->refs == 0;
	if (last)
		unlist(f);
	pthread_mutex_unlock(&f->lock);
	pthread_mutex_unlock(&f->table->lock);
	if (!last)
		return;
	f->magic = 0;
	if (f->release) {
		f->answer.pieces = (struct buf){ 0 };
		f->release(f->holder);
	}
	answer_fini(&f->answer);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void flight_lead(struct flight *f, const struct flight_leader *leader)
{
	pthread_mutex_lock(&f->lock);
	f->leader = leader ? *leader : (struct flight_leader){ 0 };
	pthread_mutex_unlock(&f->lock);
}

void flight_set_head(struct flight *f, const struct flight_head *head)
{
	pthread_mutex_lock(&f->lock);
	f->head = *head;
	wake_all(f);
	pthread_mutex_unlock(&f->lock);
}

int64_t flight_ttl_ms(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	int64_t ttl_ms = f->ttl_ms;
	pthread_mutex_unlock(&f->lock);
	return ttl_ms;
}

struct flight_head flight_get_head(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	struct flight_head head = f->head;
	head.has_model = f->answer.has_model;
	pthread_mutex_unlock(&f->lock);
	return head;
}

void flight_lend(struct flight *f, struct slice pieces, const struct answer_id *id, void (*release)(void *), void *holder)
{
	assert(f->answer.pieces.len == 0 && !f->release);
	buf_fini(&f->answer.pieces);
	f->answer.pieces = (struct buf){ .at = (char *)(uintptr_t)pieces.at, .len = pieces.len, .room = pieces.len, .limit = pieces.len };
	f->id = *id;
	f->release = release;
	f->holder = holder;
}

struct answer_id flight_id(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	struct answer_id id = f->id;
	pthread_mutex_unlock(&f->lock);
	return id;
}

struct answer *flight_open(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	assert(f->magic == FLIGHT_MAGIC && f->state == FLYING);
	return &f->answer;
}

/* How far the readers are behind for whom the leader may have to wait; it is to hear of every change if it does. With the
 * flight's lock held. */
static size_t measure(struct flight *f)
{
	size_t behind;

	if (f->over) {
		trim(f);
		trim_inside(f);              /* after it: what it looks into must be the first piece */
		behind = f->answer.pieces.len;
	} else {
		behind = f->answer.whole ? 0 : nearest(f);
	}
	f->held = behind > FLIGHT_WINDOW;
	return behind;
}

size_t flight_behind(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	size_t behind = f->state == FLYING ? measure(f) : 0;
	pthread_mutex_unlock(&f->lock);
	return behind;
}

size_t flight_shut(struct flight *f)
{
	/* one that is whole by now is read as it is: its last line is bounded, and cutting would leave some without it */
	bool passed = !f->over && !f->answer.whole && f->answer.pieces.len > f->limit;

	if (passed)
		f->over = true;
	size_t behind = measure(f);
	wake_all(f);
	pthread_mutex_unlock(&f->lock);
	if (passed)
		flight_unlist(f);            /* takes no new followers */
	return behind;
}

bool flight_finish(struct flight *f, enum err e)
{
	pthread_mutex_lock(&f->table->lock);
	pthread_mutex_lock(&f->lock);
	assert(f->magic == FLIGHT_MAGIC);
	bool first = f->state == FLYING;
	if (first) {
		f->state = e ? FAILED : LANDED;
		f->why = e;
		if (e || f->over)
			unlist(f);
		else if (f->listed)
			set_landing(f, true);
		f->leader = (struct flight_leader){ 0 };
		wake_all(f);
	}
	pthread_mutex_unlock(&f->lock);
	pthread_mutex_unlock(&f->table->lock);
	return first;
}

bool flight_landed(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	bool landed = f->state == LANDED && !f->over;
	pthread_mutex_unlock(&f->lock);
	return landed;
}

const struct answer *flight_answer(struct flight *f)
{
	return &f->answer;
}

void flight_unraw(struct flight *f, struct flight_reader *r)
{
	pthread_mutex_lock(&f->lock);
	size_t at = 0, before = 0;
	enum piece_kind kind;
	struct slice bytes = { 0 };

	while (pieces_next(buf_slice(&f->answer.pieces), &at, &kind, &bytes))
		before = at - PIECE_HEAD - bytes.len;
	r->raw = false;
	r->at = f->base + (at ? before : 0);
	r->in = at ? bytes.len : 0;
	pthread_mutex_unlock(&f->lock);
}

/* One piece, or the rest of one, behind where the reader stands. */
static enum err read_piece(struct flight *f, struct flight_reader *r, size_t *left, struct buf *out, bool *got)
{
	struct slice all = buf_slice(&f->answer.pieces), bytes;
	size_t at = (size_t)(r->at - f->base), next = at;
	enum piece_kind kind;

	*got = false;
	if (!pieces_next(all, &next, &kind, &bytes))
		return ERR_OK;
	if (r->in == bytes.len && next < all.len) {          /* this one was had whole and can grow no more */
		r->at = f->base + next;
		r->in = 0;
		at = next;
		if (!pieces_next(all, &next, &kind, &bytes))
			return ERR_OK;
	}
	struct slice rest = slice_of(bytes.at + r->in, bytes.len - r->in);
	bool text = kind == PIECE_CONTENT || kind == PIECE_THINKING;
	if (rest.len == 0 && (text || r->in))
		return ERR_OK;
	if (text && rest.len > *left)
		rest.len = scan_text_cut(rest, *left);
	char head[PIECE_HEAD] = { (char)kind };
	for (int i = 0; i < 4; i++)
		head[1 + i] = (char)(rest.len >> 8 * i);
	enum err e = buf_reserve(out, sizeof head + rest.len);     /* a head without its bytes would be no piece */
	e = e ? e : buf_add(out, head, sizeof head);
	e = e ? e : buf_put(out, rest);
	if (e)
		return e;
	r->in += rest.len;
	*left -= rest.len < *left ? rest.len : *left;
	*got = true;
	if (r->in == bytes.len && !text) {                   /* only text grows; an empty piece must not be read twice */
		r->at = f->base + next;
		r->in = 0;
	}
	return ERR_OK;
}

enum flight_news flight_read(struct flight *f, struct flight_reader *r, struct buf *out, enum err *why)
{
	enum flight_news news = FLIGHT_WAIT;
	size_t left = FLIGHT_READ_MAX;
	bool got = true, any = false;

	*why = ERR_OK;
	pthread_mutex_lock(&f->lock);
	assert(f->magic == FLIGHT_MAGIC);
	if (!r->raw && !r->whole) {
		while (got && left && !*why) {
			*why = read_piece(f, r, &left, out, &got);
			any |= got;
		}
		if (any)
			news = FLIGHT_MORE;
		if (any)
			tell_room(f);
	} else if (r->whole && f->over) {
		news = FLIGHT_OVER;
	}
	if (*why)
		news = FLIGHT_FAILED;
	if (news == FLIGHT_WAIT && f->state != FLYING) {
		news = f->state == LANDED ? FLIGHT_END : FLIGHT_FAILED;
		*why = f->why;
	}
	r->waiting = news == FLIGHT_WAIT;
	pthread_mutex_unlock(&f->lock);
	return news;
}
