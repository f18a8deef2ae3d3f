/* uses: proxy/base/buf.c proxy/base/err.c proxy/base/ask.c proxy/base/scan.c */
/* libs: -lpthread */
/* test_flight.c - one answer and its readers: who leads, what each reads, what is kept past the limit, who is told when all
 * have left, and the same with a leader and readers on threads of their own (for TSan and ASan). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/flight.c"
#include "tests/unit/torture.h"

enum { SMALL = 64 << 10, LARGE = 4 << 20 };
static const uint8_t key_a[KEY_BYTES] = { 1, 2 }, key_b[KEY_BYTES] = { 1, 2, 3 };   /* of one bucket */

static void count_call(void *arg)
{
	++*(int *)arg;
}

static void ignore(void *arg)
{
	(void)arg;
}
#define READER .wake = ignore

static void add(struct flight *f, enum piece_kind kind, const char *text)
{
	assert_int_equal(answer_add(flight_open(f), kind, slice_text(text)), ERR_OK);
	flight_shut(f);
}

/* n letters, in steps; returns what flight_shut() said last. */
static size_t add_text(struct flight *f, size_t n)
{
	char step[1000];
	size_t behind = 0;

	for (; n; ) {
		size_t len = n < sizeof step ? n : sizeof step;
		memset(step, 'a' + (int)(n / sizeof step % 26), len);
		assert_int_equal(answer_add(flight_open(f), PIECE_CONTENT, slice_of(step, len)), ERR_OK);
		behind = flight_shut(f);
		n -= len;
	}
	return behind;
}

/* All there is to read now, as one run of text; the news that ended it. */
static enum flight_news drain(struct flight *f, struct flight_reader *r, struct buf *text)
{
	struct buf pieces;
	enum flight_news news;
	enum err why;

	buf_init(&pieces, SIZE_MAX / 4);
	while ((news = flight_read(f, r, &pieces, &why)) == FLIGHT_MORE) {
		assert_true(pieces.len <= FLIGHT_READ_MAX + 1024);
		assert_int_equal(pieces_text(buf_slice(&pieces), PIECE_CONTENT, text), ERR_OK);
		pieces.len = 0;
	}
	buf_fini(&pieces);
	return news;
}

static void one_key_has_one_leader(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[4] = { 0 };
	bool leads;

	(void)state;
	struct flight *a = flight_join(fs, key_a, SMALL, &r[0], &leads);
	assert_true(leads);
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[1], &leads), a);
	assert_false(leads);
	struct flight *b = flight_join(fs, key_b, SMALL, &r[2], &leads);
	assert_true(leads);
	assert_ptr_not_equal(a, b);
	struct flight *own = flight_join(fs, NULL, SMALL, &r[3], &leads);
	assert_true(leads);
	assert_int_equal(flights_count(fs), 2);
	flight_drop(a, &r[0]);
	flight_drop(a, &r[1]);
	flight_drop(own, &r[3]);
	assert_int_equal(flights_count(fs), 1);
	flight_drop(b, &r[2]);
	flights_free(fs);
}

static void no_memory_is_no_flight(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r = { 0 };
	bool leads;

	(void)state;
	torture_begin(1);
	assert_null(flight_join(fs, key_a, SMALL, &r, &leads));
	assert_int_equal(flights_count(fs), 0);
	assert_true(torture_end());
	flights_free(fs);
}

static void every_piece_reaches_every_reader_whenever_it_joins(void **state)
{
	static const struct { enum piece_kind kind; const char *text; } come[] = {
		{ PIECE_THINKING, "hm" }, { PIECE_THINKING, "m" }, { PIECE_CONTENT, "one" }, { PIECE_LOGPROBS, "{\"a\":1}" },
		{ PIECE_CONTENT, "two" }, { PIECE_TOOL_CALLS, "{}" }, { PIECE_TOOL_CALLS, "{\"b\":2}" }, { PIECE_FIELD, "\"x\":1" },
		{ PIECE_MESSAGE_FIELD, "\"y\":2" }, { PIECE_CONTENT, "three" }, { PIECE_LAST, "" },
	};
	enum { N = sizeof come / sizeof *come };

	(void)state;
	for (size_t joins = 0; joins <= N; joins++) {
		struct flights *fs = flights_new();
		struct flight_reader lead = { READER, .raw = true }, r = { READER };
		struct buf got;
		enum err why;
		bool leads;
		struct flight *f = flight_join(fs, key_a, SMALL, &lead, &leads);
		buf_init(&got, SMALL);
		for (size_t i = 0; i <= N; i++) {
			if (i == joins)
				assert_ptr_equal(flight_join(fs, key_a, SMALL, &r, &leads), f);
			if (i >= joins)
				while (flight_read(f, &r, &got, &why) == FLIGHT_MORE)
					;
			if (i < N)
				add(f, come[i].kind, come[i].text);
		}
		flight_finish(f, ERR_OK);
		assert_true(flight_landed(f));
		while (flight_read(f, &r, &got, &why) == FLIGHT_MORE)
			;
		assert_int_equal(flight_read(f, &r, &got, &why), FLIGHT_END);
		/* the same pieces, though text may be parted otherwise: compared kind by kind */
		for (int kind = 1; kind < PIECE_KINDS; kind++) {
			struct buf want, have;
			buf_init(&want, SMALL);
			buf_init(&have, SMALL);
			struct slice bytes;
			enum piece_kind k;
			size_t at = 0, n_want = 0, n_have = 0;
			while (pieces_next(buf_slice(&flight_answer(f)->pieces), &at, &k, &bytes))
				if ((int)k == kind) {
					n_want++;
					assert_int_equal(buf_put(&want, bytes), ERR_OK);
				}
			at = 0;
			while (pieces_next(buf_slice(&got), &at, &k, &bytes))
				if ((int)k == kind) {
					n_have++;
					assert_int_equal(buf_put(&have, bytes), ERR_OK);
				}
			assert_int_equal(at, got.len);
			assert_true(slice_is(buf_slice(&want), buf_slice(&have)));
			if (kind != PIECE_CONTENT && kind != PIECE_THINKING)
				assert_int_equal(n_want, n_have);
			buf_fini(&want);
			buf_fini(&have);
		}
		buf_fini(&got);
		flight_drop(f, &r);
		flight_drop(f, &lead);
		flights_free(fs);
	}
}

static void wakes_once_who_waits(void **state)
{
	struct flights *fs = flights_new();
	int woken = 0;
	struct flight_reader r = { .wake = count_call, .arg = &woken };
	struct buf out;
	enum err why;
	bool leads;

	(void)state;
	buf_init(&out, SMALL);
	struct flight *f = flight_join(fs, key_a, SMALL, &r, &leads);
	add(f, PIECE_CONTENT, "a");
	assert_int_equal(woken, 0);                      /* it has not said that it waits */
	assert_int_equal(flight_read(f, &r, &out, &why), FLIGHT_MORE);
	assert_int_equal(flight_read(f, &r, &out, &why), FLIGHT_WAIT);
	add(f, PIECE_CONTENT, "b");
	add(f, PIECE_CONTENT, "c");
	assert_int_equal(woken, 1);
	assert_int_equal(flight_read(f, &r, &out, &why), FLIGHT_MORE);
	assert_int_equal(flight_read(f, &r, &out, &why), FLIGHT_WAIT);
	flight_finish(f, ERR_UPSTREAM_BROKE);
	assert_int_equal(woken, 2);
	assert_int_equal(flight_read(f, &r, &out, &why), FLIGHT_FAILED);
	assert_int_equal(why, ERR_UPSTREAM_BROKE);
	buf_fini(&out);
	flight_drop(f, &r);
	flights_free(fs);
}

static void what_came_before_a_failure_is_read_first(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r = { 0 };
	struct buf text;
	bool leads;

	(void)state;
	buf_init(&text, SMALL);
	struct flight *f = flight_join(fs, key_a, SMALL, &r, &leads);
	add(f, PIECE_CONTENT, "half");
	flight_finish(f, ERR_UPSTREAM_BROKE);
	assert_int_equal(drain(f, &r, &text), FLIGHT_FAILED);
	assert_true(slice_is(buf_slice(&text), SLICE("half")));
	buf_fini(&text);
	flight_drop(f, &r);
	flights_free(fs);
}

static void a_failed_flight_is_joined_by_nobody_a_landed_one_until_unlisted(void **state)
{
	for (int failed = 0; failed < 2; failed++) {
		struct flights *fs = flights_new();
		struct flight_reader r[3] = { 0 };
		bool leads;

		(void)state;
		struct flight *f = flight_join(fs, key_a, SMALL, &r[0], &leads);
		flight_finish(f, failed ? ERR_UPSTREAM_BROKE : ERR_OK);
		struct flight *g = flight_join(fs, key_a, SMALL, &r[1], &leads);
		assert_int_equal(leads, failed);
		assert_int_equal(g == f, !failed);
		flight_unlist(f);
		flight_unlist(f);                        /* twice does no harm */
		struct flight *h = flight_join(fs, key_a, SMALL, &r[2], &leads);
		assert_int_equal(leads, !failed);
		flight_drop(f, &r[0]);
		flight_drop(g, &r[1]);
		flight_drop(h, &r[2]);
		flights_free(fs);
	}
}

/* Removed from the store between an answer's landing and its leader's hearing that it is stored, it is not given any more. */
static void what_landed_is_unlisted_when_the_store_loses_it(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[5] = { 0 };
	bool leads;

	(void)state;
	struct flight *landed = flight_join(fs, key_a, SMALL, &r[0], &leads);
	struct flight *flying = flight_join(fs, key_b, SMALL, &r[1], &leads);
	flight_finish(landed, ERR_OK);
	flights_unlist_landed(fs);
	assert_int_equal(flights_count(fs), 1);
	struct flight *anew = flight_join(fs, key_a, SMALL, &r[2], &leads);
	assert_true(leads && anew != landed);
	assert_ptr_equal(flight_join(fs, key_b, SMALL, &r[3], &leads), flying);
	assert_false(leads);
	flight_unlist(landed);                           /* as its leader does, late: the new one stays listed */
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[4], &leads), anew);
	flight_drop(landed, &r[0]);
	flight_drop(flying, &r[1]);
	flight_drop(flying, &r[3]);
	flight_drop(anew, &r[2]);
	flight_drop(anew, &r[4]);
	flights_free(fs);
}

/* A refresh flies alone; once it has landed, and until the store has its answer, those who ask are given it, not an older one. */
static void a_refresh_is_found_from_its_landing_on(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[5] = { 0 };
	bool leads;

	(void)state;
	struct flight *older = flight_join(fs, key_a, SMALL, &r[0], &leads);
	struct flight *refresh = flight_join(fs, NULL, SMALL, &r[1], &leads);
	assert_true(leads);
	assert_false(flights_landing(fs, key_a));
	flight_finish(refresh, ERR_OK);
	assert_false(flights_landing(fs, key_a));
	flight_relist(refresh, key_a);
	flight_relist(refresh, key_a);                   /* twice does no harm */
	assert_true(flights_landing(fs, key_a));
	assert_false(flights_landing(fs, key_b));
	assert_int_equal(flights_count(fs), 1);
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[2], &leads), refresh);
	assert_false(leads);
	flight_finish(older, ERR_OK);                    /* not found any more: it is not landing, nor does it end what is */
	assert_true(flights_landing(fs, key_a));
	flight_unlist(refresh);
	assert_false(flights_landing(fs, key_a));
	struct flight *anew = flight_join(fs, key_a, SMALL, &r[3], &leads);
	assert_true(leads);
	assert_false(flights_landing(fs, key_a));
	flight_finish(anew, ERR_OK);
	flight_relist(anew, key_a);                      /* it is listed already */
	assert_true(flights_landing(fs, key_a));
	flights_unlist_landed(fs);
	assert_false(flights_landing(fs, key_a));
	flight_drop(older, &r[0]);
	flight_drop(refresh, &r[1]);
	flight_drop(refresh, &r[2]);
	flight_drop(anew, &r[3]);
	flights_free(fs);
}

static void who_wants_nothing_old_joins_what_flies_but_not_what_landed(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[4] = { [1].fresh = true, [2].fresh = true };
	bool leads;

	(void)state;
	struct flight *f = flight_join(fs, key_a, SMALL, &r[0], &leads);
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[1], &leads), f);
	flight_finish(f, ERR_OK);
	struct flight *g = flight_join(fs, key_a, SMALL, &r[2], &leads);
	assert_true(leads && g != f);
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[3], &leads), g);
	flight_drop(f, &r[0]);
	flight_drop(f, &r[1]);
	flight_drop(g, &r[2]);
	flight_drop(g, &r[3]);
	flights_free(fs);
}

static void who_waits_for_no_answer_joins_only_what_landed(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[6] = { [0].landed_only = true, [2].landed_only = true, [3].landed_only = true,
	                              [4] = { .landed_only = true, .fresh = true } };
	bool leads;

	(void)state;
	struct flight *first = flight_join(fs, key_a, SMALL, &r[0], &leads);
	assert_true(leads);
	assert_int_equal(flights_count(fs), 0);          /* nobody is to wait for what it may not find */
	struct flight *f = flight_join(fs, key_a, SMALL, &r[1], &leads);
	assert_true(leads && f != first);
	struct flight *own = flight_join(fs, key_a, SMALL, &r[2], &leads);
	assert_true(leads && own != f);
	assert_int_equal(flights_count(fs), 1);
	flight_finish(f, ERR_OK);
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[3], &leads), f);
	assert_false(leads);
	struct flight *fresh = flight_join(fs, key_a, SMALL, &r[4], &leads);
	assert_true(leads && fresh != f);
	assert_true(flights_landing(fs, key_a));         /* and it takes nothing from those who come after it */
	flight_drop(first, &r[0]);
	flight_drop(f, &r[1]);
	flight_drop(own, &r[2]);
	flight_drop(f, &r[3]);
	flight_drop(fresh, &r[4]);
	flights_free(fs);
}

static void it_is_kept_for_as_long_as_any_reader_wants(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[] = { { .ttl_ms = 20 }, { .ttl_ms = 0 }, { .ttl_ms = 500 }, { .ttl_ms = 30 }, { .ttl_ms = 9000 } };
	static const int64_t longest[] = { 20, 20, 500, 500, 500 };
	bool leads;
	struct flight *f = NULL;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		if (i == 4)
			flight_finish(f, ERR_OK);        /* the last one came too late to be counted */
		f = flight_join(fs, key_a, SMALL, &r[i], &leads);
		assert_int_equal(leads, i == 0);
		assert_int_equal(flight_ttl_ms(f), longest[i]);
	}
	flight_drop(f, &r[2]);                           /* what it wanted stays */
	assert_int_equal(flight_ttl_ms(f), 500);
	for (size_t i = 0; i < 5; i++)
		if (i != 2)
			flight_drop(f, &r[i]);
	flights_free(fs);
}

static void the_last_to_leave_gives_the_answer_up(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r[3] = { 0 };
	int alone = 0;
	const struct flight_leader leader = { .alone = count_call, .arg = &alone };
	bool leads;

	(void)state;
	struct flight *f = flight_join(fs, key_a, SMALL, &r[0], &leads);
	flight_hold(f);
	flight_lead(f, &leader);
	assert_ptr_equal(flight_join(fs, key_a, SMALL, &r[1], &leads), f);
	flight_drop(f, &r[0]);
	assert_int_equal(alone, 0);
	flight_drop(f, &r[1]);
	assert_int_equal(alone, 1);
	assert_int_equal(flights_count(fs), 0);          /* whoever asks now does not join what is being given up */
	struct flight *g = flight_join(fs, key_a, SMALL, &r[2], &leads);
	assert_true(leads);
	assert_ptr_not_equal(f, g);
	flight_finish(f, ERR_CLIENT_GONE);
	flight_drop(f, NULL);
	flight_drop(g, &r[2]);
	assert_int_equal(alone, 1);
	flights_free(fs);
}

/* What a leader and its readers hear is posted, and arrives later: whatever has happened to the flight by then, the message
 * finds it and changes nothing. */
enum message { MESSAGE_ALONE, MESSAGE_ROOM, MESSAGE_WAKE, MESSAGES };
enum event { EVENT_LANDED, EVENT_LANDED_OVER, EVENT_FAILED, EVENT_GIVEN_UP, EVENTS };

static void happen(struct flight *f, enum event event)
{
	if (event == EVENT_LANDED_OVER)
		add_text(f, SMALL + 1);
	if (event == EVENT_LANDED || event == EVENT_LANDED_OVER) {
		flight_open(f)->whole = true;
		flight_shut(f);
	}
	assert_true(flight_finish(f, event == EVENT_FAILED ? ERR_UPSTREAM_BROKE : event == EVENT_GIVEN_UP ? ERR_CLIENT_GONE : ERR_OK));
}

static void a_message_that_comes_late_changes_nothing(void **state)
{
	(void)state;
	for (enum message message = 0; message < MESSAGES; message++)
		for (enum event event = 0; event < EVENTS; event++) {
			struct flights *fs = flights_new();
			int posted[MESSAGES] = { 0 };
			struct flight_reader r = { .wake = count_call, .arg = &posted[MESSAGE_WAKE] }, own = { READER };
			struct flight_leader leader = { .alone = count_call, .room = count_call, .arg = &posted[message] };
			enum flight_news end = event == EVENT_LANDED || event == EVENT_LANDED_OVER ? FLIGHT_END : FLIGHT_FAILED;
			struct buf text;
			enum err why;
			bool leads;

			buf_init(&text, LARGE);
			struct flight *f = flight_join(fs, key_a, SMALL, &r, &leads);
			flight_hold(f);
			flight_lead(f, &leader);
			add_text(f, message == MESSAGE_ROOM ? 2 * FLIGHT_WINDOW : 10);
			flight_join(fs, key_a, SMALL, &own, &leads);
			drain(f, &own, &text);               /* waits; the leader hears of the room that it has made */
			drain(f, &r, &text);
			if (message == MESSAGE_ALONE) {
				flight_drop(f, &own);
				flight_drop(f, &r);
			}
			happen(f, event);
			assert_true(posted[message] > 0);
			posted[MESSAGE_ALONE] = posted[MESSAGE_ROOM] = 0;

			/* it arrives */
			assert_false(flight_finish(f, ERR_CLIENT_GONE));
			assert_int_equal(flight_behind(f), 0);
			assert_int_equal(flight_landed(f), event == EVENT_LANDED);
			if (message != MESSAGE_ALONE) {
				assert_int_equal(drain(f, &r, &text), end);
				assert_int_equal(flight_read(f, &r, &text, &why), end);
				assert_int_equal(why, event == EVENT_FAILED ? ERR_UPSTREAM_BROKE : event == EVENT_GIVEN_UP ? ERR_CLIENT_GONE : ERR_OK);
				flight_drop(f, &own);
				flight_drop(f, &r);
			}
			assert_int_equal(posted[MESSAGE_ALONE] + posted[MESSAGE_ROOM], 0);     /* and no other follows it */
			buf_fini(&text);
			flight_unlist(f);
			flight_drop(f, NULL);
			flights_free(fs);
		}
}

/* A leader that waits looks again without adding: what readers have taken since is let go of. */
static void who_waits_for_room_finds_it(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r = { READER };
	struct buf text;
	bool leads;

	(void)state;
	buf_init(&text, LARGE);
	for (size_t bytes = SMALL / 2; bytes <= 2 * SMALL; bytes *= 4) {         /* within its limit, and past it */
		struct flight_reader reader = r;
		struct flight *f = flight_join(fs, key_a, SMALL, &reader, &leads);
		assert_true(add_text(f, bytes) > FLIGHT_WINDOW);
		assert_true(flight_behind(f) > FLIGHT_WINDOW);
		drain(f, &reader, &text);
		assert_true(flight_behind(f) <= FLIGHT_WINDOW);
		flight_drop(f, &reader);
	}
	buf_fini(&text);
	flights_free(fs);
}

static void a_raw_reader_goes_on_from_what_has_come(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r = { READER, .raw = true };
	struct buf text;
	enum err why;
	bool leads;

	(void)state;
	for (int pieces = 0; pieces < 4; pieces++) {
		struct flight_reader raw = r;
		struct flight *f = flight_join(fs, key_a, SMALL, &raw, &leads);
		buf_init(&text, SMALL);
		for (int i = 0; i < pieces; i++)
			add(f, i == 1 ? PIECE_LOGPROBS : PIECE_CONTENT, "old");
		assert_int_equal(flight_read(f, &raw, &text, &why), FLIGHT_WAIT);
		flight_unraw(f, &raw);
		assert_int_equal(flight_read(f, &raw, &text, &why), FLIGHT_WAIT);
		add(f, PIECE_CONTENT, "new");
		assert_int_equal(drain(f, &raw, &text), FLIGHT_WAIT);
		assert_true(slice_is(buf_slice(&text), SLICE("new")));
		buf_fini(&text);
		flight_drop(f, &raw);
	}
	flights_free(fs);
}

/* ---- nobody reads ---- */

static void what_nobody_reads_is_waited_with(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader slow = { READER }, fast = { READER }, whole = { READER, .whole = true };
	int room = 0;
	const struct flight_leader leader = { .alone = count_call, .room = count_call, .arg = &room };
	size_t all = 0;
	struct buf text;
	bool leads;

	(void)state;
	buf_init(&text, LARGE);
	struct flight *f = flight_join(fs, key_a, LARGE, &slow, &leads);
	flight_lead(f, &leader);
	assert_true(add_text(f, FLIGHT_WINDOW / 2) <= FLIGHT_WINDOW);
	assert_true(add_text(f, FLIGHT_WINDOW) > FLIGHT_WINDOW);         /* the only one does not read */
	assert_int_equal(room, 0);
	all += FLIGHT_WINDOW * 3 / 2;

	assert_int_equal(drain(f, &slow, &text), FLIGHT_WAIT);
	assert_true(room > 0);
	flight_open(f);
	assert_int_equal(flight_shut(f), 0);

	/* one that keeps up is not held up by one that does not */
	flight_join(fs, key_a, LARGE, &fast, &leads);
	assert_false(leads);
	for (int i = 0; i < 8; i++) {
		all += FLIGHT_WINDOW;
		assert_true(add_text(f, FLIGHT_WINDOW) <= FLIGHT_WINDOW + PIECE_HEAD);
		text.len = 0;
		assert_int_equal(drain(f, &fast, &text), FLIGHT_WAIT);
		flight_open(f);
		assert_int_equal(flight_shut(f), 0);
	}
	/* it leaves: the leader looks again, and finds the other one far behind */
	assert_true(add_text(f, 2 * FLIGHT_WINDOW) > FLIGHT_WINDOW);
	all += 2 * FLIGHT_WINDOW;
	room = 0;
	flight_drop(f, &fast);
	assert_true(room > 0);
	flight_open(f);
	assert_true(flight_shut(f) > 8 * FLIGHT_WINDOW);

	/* who wants all of it wants it fetched */
	room = 0;
	flight_join(fs, key_a, LARGE, &whole, &leads);
	assert_true(room > 0);
	assert_int_equal(add_text(f, 2 * FLIGHT_WINDOW), 0);
	all += 2 * FLIGHT_WINDOW;
	flight_finish(f, ERR_OK);
	assert_true(flight_landed(f));                   /* and nothing of it was lost by waiting */
	assert_int_equal(flight_answer(f)->pieces.len, PIECE_HEAD + all);
	buf_fini(&text);
	flight_drop(f, &whole);
	flight_drop(f, &slow);
	flights_free(fs);
}

/* ---- past the limit ---- */

static void past_its_limit_it_keeps_a_window(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader raw = { READER, .raw = true }, slow = { READER }, whole = { READER, .whole = true }, late = { READER };
	int room = 0;
	const struct flight_leader leader = { .alone = count_call, .room = count_call, .arg = &room };
	struct buf text;
	enum err why;
	bool leads;

	(void)state;
	buf_init(&text, 2 * LARGE);
	struct flight *f = flight_join(fs, key_a, SMALL, &raw, &leads);
	flight_lead(f, &leader);
	flight_join(fs, key_a, SMALL, &slow, &leads);
	flight_join(fs, key_a, SMALL, &whole, &leads);
	add(f, PIECE_THINKING, "short");                 /* a first piece not worth cutting */
	assert_int_equal(add_text(f, SMALL / 2), 0);
	assert_int_equal(flight_read(f, &whole, NULL, &why), FLIGHT_WAIT);
	assert_true(add_text(f, 2 * FLIGHT_WINDOW) > FLIGHT_WINDOW);     /* the leader is to wait */
	assert_int_equal(flight_read(f, &whole, NULL, &why), FLIGHT_OVER);
	assert_ptr_not_equal(flight_join(fs, key_a, SMALL, &late, &leads), f);
	assert_true(leads);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(drain(f, &slow, &text), FLIGHT_WAIT);
		assert_true(room > 0);
		room = 0;
		flight_open(f);
		assert_true(flight_shut(f) <= FLIGHT_WINDOW);            /* all was read: the leader may go on */
		assert_true(add_text(f, FLIGHT_WINDOW * 3 / 2) > FLIGHT_WINDOW);
		assert_true(flight_answer(f)->pieces.len <= 2 * FLIGHT_WINDOW);
	}
	add(f, PIECE_LAST, "\"done_reason\":\"stop\"");
	flight_finish(f, ERR_OK);
	assert_false(flight_landed(f));                  /* what is left of it is not to be stored */
	assert_int_equal(drain(f, &slow, &text), FLIGHT_END);
	assert_int_equal(text.len, SMALL / 2 + 2 * FLIGHT_WINDOW + 40 * (FLIGHT_WINDOW * 3 / 2));
	buf_fini(&text);
	flight_drop(f, &slow);
	flight_drop(f, &whole);
	flight_drop(f, &raw);
	assert_int_equal(flights_count(fs), 1);
	for (size_t i = 0; i < BUCKETS; i++)
		if (fs->bucket[i])
			flight_drop(fs->bucket[i], &late);
	flights_free(fs);
}

static void readers_at_different_places_each_read_all(void **state)
{
	enum { READERS = 5, STEPS_N = 600 };
	struct flights *fs = flights_new();
	struct flight_reader r[READERS] = { 0 };
	struct buf text[READERS];
	struct flight *f = NULL;
	size_t total = 0;
	unsigned seed = 1;
	bool leads;

	(void)state;
	for (int i = 0; i < READERS; i++) {
		r[i].wake = ignore;
		f = flight_join(fs, key_a, SMALL, &r[i], &leads);
		buf_init(&text[i], 4 * LARGE);
	}
	for (int step = 0; step < STEPS_N; step++) {
		seed = seed * 1103515245 + 12345;
		size_t n = seed >> 16 & 0x1fff;
		add_text(f, n);
		total += n;
		if (seed >> 29 == 0)
			add(f, seed >> 28 & 1 ? PIECE_LOGPROBS : PIECE_THINKING, "{}");
		for (int i = 0; i < READERS; i++)
			if (step % (i * i * 8 + 1) == 0)         /* some read every step, some seldom */
				drain(f, &r[i], &text[i]);
	}
	flight_finish(f, ERR_OK);
	for (int i = 0; i < READERS; i++) {
		assert_int_equal(drain(f, &r[i], &text[i]), FLIGHT_END);
		assert_int_equal(text[i].len, total);
		assert_memory_equal(text[i].at, text[0].at, total);
	}
	for (int i = 0; i < READERS; i++) {
		buf_fini(&text[i]);
		flight_drop(f, &r[i]);
	}
	flights_free(fs);
}

static void one_that_is_whole_by_then_is_read_whole(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader whole = { .whole = true }, raw = { .raw = true };
	enum err why;
	bool leads;
	char *long_text = calloc(1, SMALL + 1);

	(void)state;
	memset(long_text, 'x', SMALL);
	struct flight *f = flight_join(fs, key_a, SMALL, &raw, &leads);
	flight_join(fs, key_a, SMALL, &whole, &leads);
	struct answer *a = flight_open(f);
	assert_int_equal(answer_add(a, PIECE_CONTENT, slice_text(long_text)), ERR_OK);
	a->whole = true;
	assert_int_equal(flight_shut(f), 0);
	flight_finish(f, ERR_OK);
	assert_int_equal(flight_read(f, &whole, NULL, &why), FLIGHT_END);
	assert_true(flight_answer(f)->pieces.len > SMALL);
	free(long_text);
	flight_drop(f, &whole);
	flight_drop(f, &raw);
	flights_free(fs);
}

static void joining_between_over_and_unlisted_starts_anew(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r = { 0 }, late = { 0 };
	bool leads;

	(void)state;
	struct flight *f = flight_join(fs, key_a, SMALL, &r, &leads);
	f->over = true;                                  /* as flight_shut() leaves it for a moment before it has unlisted it */
	struct flight *g = flight_join(fs, key_a, SMALL, &late, &leads);
	assert_true(leads);
	assert_ptr_not_equal(f, g);
	flight_unlist(f);
	assert_int_equal(flights_count(fs), 1);          /* the new one stays */
	flight_drop(f, &r);
	flight_drop(g, &late);
	flights_free(fs);
}

static void a_full_buffer_fails_the_reader_alone(void **state)
{
	struct flights *fs = flights_new();
	struct flight_reader r = { READER }, other = { READER };
	struct buf small, text;
	enum err why;
	bool leads;

	(void)state;
	buf_init(&small, 8);
	buf_init(&text, SMALL);
	struct flight *f = flight_join(fs, key_a, SMALL, &r, &leads);
	flight_join(fs, key_a, SMALL, &other, &leads);
	add(f, PIECE_CONTENT, "more than eight");
	assert_int_equal(flight_read(f, &r, &small, &why), FLIGHT_FAILED);
	assert_int_equal(why, ERR_TOO_LARGE);
	assert_int_equal(drain(f, &other, &text), FLIGHT_WAIT);
	assert_true(slice_is(buf_slice(&text), SLICE("more than eight")));
	buf_fini(&small);
	buf_fini(&text);
	flight_drop(f, &r);
	flight_drop(f, &other);
	flights_free(fs);
}

/* ---- every allocation failing once ---- */

enum { STEPS = 60, STEP_BYTES = 900 };
struct follower { struct flight_reader r; size_t had; bool over; enum err why; };

static char letter_of(size_t at)
{
	return (char)('a' + at / 700 % 26);
}

/* All there is to read now: whole pieces, whatever fails, and each byte the one that belongs there. */
static void follow(struct flight *f, struct follower *o)
{
	enum flight_news news = FLIGHT_MORE;
	struct buf out;

	buf_init(&out, SIZE_MAX / 4);
	while (!o->over && news == FLIGHT_MORE) {
		size_t at = 0;
		enum piece_kind kind;
		struct slice bytes;
		out.len = 0;
		news = flight_read(f, &o->r, &out, &o->why);
		while (pieces_next(buf_slice(&out), &at, &kind, &bytes))
			for (size_t i = 0; i < bytes.len && kind == PIECE_CONTENT; i++)
				if (bytes.at[i] != letter_of(o->had++))
					fail_msg("byte %zu is another's", o->had - 1);
		assert_int_equal(at, out.len);
		o->over = news == FLIGHT_END || news == FLIGHT_FAILED || news == FLIGHT_OVER;
	}
	buf_fini(&out);
}

/* One leads and adds; three follow: from the start, from somewhere in the middle and late in reading, and one that wants
 * it whole. */
static enum err fly(struct flights *fs, size_t limit, struct follower o[3])
{
	struct flight_reader lead = { READER, .raw = true };
	char step[STEP_BYTES];
	enum err e = ERR_OK;
	bool leads;
	struct flight *f = flight_join(fs, key_a, limit, &lead, &leads);

	for (int i = 0; i < 3; i++)
		o[i] = (struct follower){ .r = { READER, .whole = i == 2 } };
	if (!f)
		return ERR_NO_MEMORY;
	assert_true(leads);
	for (size_t n = 0; n < STEPS && !e; n++) {
		if (n == 0 || n == 5)
			for (int i = n ? 1 : 0; i < 3; i += 2)
				assert_ptr_equal(flight_join(fs, key_a, limit, &o[i].r, &leads), f);
		for (size_t i = 0; i < sizeof step; i++)
			step[i] = letter_of(n * sizeof step + i);
		e = answer_add(flight_open(f), PIECE_CONTENT, slice_of(step, sizeof step));
		if (!e && n % 10 == 3)
			e = answer_add(&f->answer, PIECE_TOOL_CALLS, SLICE("{}"));
		flight_shut(f);
		follow(f, &o[0]);
		follow(f, &o[2]);
		if (n > 30)
			follow(f, &o[1]);
	}
	flight_finish(f, e);
	for (int i = 0; i < 3; i++) {
		if (!o[i].r.prev)
			continue;                      /* it was over before this one came */
		follow(f, &o[i]);
		assert_true(o[i].over);
		flight_drop(f, &o[i].r);
	}
	flight_drop(f, &lead);
	return e;
}

static void every_allocation_fails_once(void **state)
{
	static const size_t limits[] = { LARGE, 10000 };
	struct follower o[3];

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		struct flights *fs = flights_new();
		bool failed = true;
		int n;
		for (n = 1; failed; n++) {
			torture_begin(n);
			enum err e = fly(fs, limits[k], o);
			failed = torture_end();
			assert_true(e == ERR_OK || (e == ERR_NO_MEMORY && failed));
			for (int i = 0; i < 3 && !e; i++)
				assert_true(o[i].why == ERR_OK || (o[i].why == ERR_NO_MEMORY && failed));
			assert_int_equal(flights_count(fs), 0);
			assert_int_equal(fly(fs, limits[k], o), ERR_OK);       /* and again with memory enough */
			assert_int_equal(o[0].had, STEPS * STEP_BYTES);
			assert_int_equal(o[1].had, STEPS * STEP_BYTES);
		}
		assert_in_range(n, 10, 10000);
		flights_free(fs);
	}
}

/* ---- on threads ---- */

enum { THREADS = 3, ROUNDS = 400, LINES = 60 };

struct bell {
	pthread_mutex_t lock;
	pthread_cond_t rung;
	int rings;
};

static void ring(void *arg)
{
	struct bell *b = arg;

	pthread_mutex_lock(&b->lock);
	b->rings++;
	pthread_cond_signal(&b->rung);
	pthread_mutex_unlock(&b->lock);
}

static void wait_for(struct bell *b)
{
	pthread_mutex_lock(&b->lock);
	while (b->rings == 0)
		pthread_cond_wait(&b->rung, &b->lock);
	b->rings = 0;
	pthread_mutex_unlock(&b->lock);
}

struct crew { struct flights *fs; _Atomic int wrong; };
struct hand { struct crew *crew; unsigned seed; pthread_t thread; int led, followed, whole; };

static unsigned next_random(struct hand *h)
{
	h->seed = h->seed * 1103515245 + 12345;
	return h->seed >> 16;
}

/* The text of every flight: each part says where it is, and is as long as only it is. */
static int line_of(char *to, size_t room, int i)
{
	return snprintf(to, room, "%d;%0*d", i, i * 7 % 40 + 1, 7);
}

static bool is_the_text(struct slice s)
{
	char want[LINES * 64];
	size_t len = 0;

	for (int i = 0; i < LINES; i++)
		len += (size_t)line_of(want + len, sizeof want - len, i);
	return slice_is(s, slice_of(want, len));
}

/* LINES parts, then the end or a failure; its own client may have left before. */
static void lead_one(struct hand *h, struct flight *f, struct flight_reader *r)
{
	struct buf text;
	unsigned how = next_random(h) % 4;
	const struct flight_leader leader = { .alone = r->wake, .room = r->wake, .arg = r->arg };

	h->led++;
	flight_hold(f);
	flight_lead(f, &leader);
	if (how == 0)
		flight_drop(f, r);                       /* its own client has left: it goes on for the others */
	for (int i = 0; i < LINES; i++) {
		char line[64];
		line_of(line, sizeof line, i);
		struct answer *a = flight_open(f);
		if (answer_add(a, PIECE_CONTENT, slice_text(line)))
			h->crew->wrong++;
		flight_shut(f);
	}
	flight_finish(f, how == 1 ? ERR_UPSTREAM_BROKE : ERR_OK);
	if (how != 0) {
		buf_init(&text, LARGE);
		r->raw = false;
		enum flight_news news = drain(f, r, &text);
		bool over = r->whole && news == FLIGHT_OVER;
		if (!over && news != (how == 1 ? FLIGHT_FAILED : FLIGHT_END))
			h->crew->wrong++;
		if (!r->whole && !is_the_text(buf_slice(&text)))
			h->crew->wrong++;
		buf_fini(&text);
		flight_drop(f, r);
	}
	flight_unlist(f);
	flight_drop(f, NULL);
}

static void follow_one(struct hand *h, struct flight *f, struct flight_reader *r, struct bell *b)
{
	struct buf pieces, text;
	int leaves = (int)(next_random(h) % 40);         /* how often it waits before it loses patience */
	enum err why;

	h->followed++;
	buf_init(&pieces, LARGE);
	buf_init(&text, LARGE);
	for (;;) {
		enum flight_news news = flight_read(f, r, &pieces, &why);
		if (news == FLIGHT_WAIT) {
			if (leaves-- == 0)
				break;
			wait_for(b);
			continue;
		}
		if (news == FLIGHT_END) {
			h->whole++;
			if (r->whole && pieces_text(buf_slice(&flight_answer(f)->pieces), PIECE_CONTENT, &text))
				h->crew->wrong++;
			if (!r->whole && pieces_text(buf_slice(&pieces), PIECE_CONTENT, &text))
				h->crew->wrong++;
			if (!is_the_text(buf_slice(&text)))
				h->crew->wrong++;
		}
		if (news != FLIGHT_MORE)
			break;
	}
	buf_fini(&pieces);
	buf_fini(&text);
	flight_drop(f, r);
}

static void *work(void *arg)
{
	struct hand *h = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct bell b = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
		struct flight_reader r = { .wake = ring, .arg = &b, .whole = next_random(h) % 3 == 0 };
		/* small limits now and then, so that flights are passed, trimmed and unlisted while others join */
		size_t limit = next_random(h) % 2 ? LARGE : 300;
		bool leads;
		struct flight *f = flight_join(h->crew->fs, i % 2 ? key_a : key_b, limit, &r, &leads);
		if (!f)
			h->crew->wrong++;
		else if (leads)
			lead_one(h, f, &r);
		else
			follow_one(h, f, &r, &b);
		pthread_mutex_destroy(&b.lock);
		pthread_cond_destroy(&b.rung);
	}
	return NULL;
}

static void threads_join_lead_and_leave_as_they_like(void **state)
{
	struct crew crew = { flights_new(), 0 };
	struct hand hand[THREADS] = { 0 };
	int led = 0;

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		hand[i] = (struct hand){ .crew = &crew, .seed = (unsigned)i * 77 + 5 };
		assert_int_equal(pthread_create(&hand[i].thread, NULL, work, &hand[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(hand[i].thread, NULL);
		assert_int_equal(hand[i].led + hand[i].followed, ROUNDS);
		led += hand[i].led;
	}
	assert_int_equal(crew.wrong, 0);
	assert_true(led > 0);
	assert_int_equal(flights_count(crew.fs), 0);
	flights_free(crew.fs);
}

struct turn { struct flight_put put; unsigned called; };

static void count_turn(struct flight_put *p)
{
	((struct turn *)p)->called++;
}

static void of_answers_that_wait_for_the_store_the_last_is_next(void **state)
{
	struct flights *fs = flights_new();
	struct turn t[5] = { 0 };

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		memcpy(t[i].put.key, i == 4 ? key_b : key_a, KEY_BYTES);
		t[i].put.go = count_turn;
	}
	assert_true(flights_put_begin(fs, &t[0].put));
	assert_true(flights_put_begin(fs, &t[4].put));           /* another key, of the same bucket */
	assert_false(flights_put_begin(fs, &t[1].put));
	assert_false(flights_put_begin(fs, &t[2].put));
	assert_true(t[1].put.superseded && t[1].called == 1 && t[2].called == 0);
	flights_put_end(fs, &t[0].put);
	assert_true(t[2].called == 1 && !t[2].put.superseded);
	assert_false(flights_put_begin(fs, &t[3].put));
	flights_put_end(fs, &t[4].put);
	flights_put_end(fs, &t[2].put);
	assert_true(t[3].called == 1 && t[2].called == 1);
	flights_put_end(fs, &t[3].put);
	for (size_t i = 0; i < 3; i++)
		t[i] = (struct turn){ .put.go = count_turn };
	assert_true(flights_put_begin(fs, &t[0].put));
	assert_false(flights_put_begin(fs, &t[1].put));
	flights_put_leave(fs, &t[1].put);
	assert_false(flights_put_begin(fs, &t[2].put));
	assert_true(t[1].called == 0);
	flights_put_end(fs, &t[0].put);
	assert_true(t[2].called == 1);
	flights_put_leave(fs, &t[2].put);                        /* though its turn had come */
	t[0] = (struct turn){ .put.go = count_turn };
	assert_true(flights_put_begin(fs, &t[0].put));           /* nothing is left under way */
	flights_put_end(fs, &t[0].put);
	flights_free(fs);
}

int main(void)
{
	torture_of((const char *[]){ NULL });
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_key_has_one_leader),
		cmocka_unit_test(no_memory_is_no_flight),
		cmocka_unit_test(every_piece_reaches_every_reader_whenever_it_joins),
		cmocka_unit_test(wakes_once_who_waits),
		cmocka_unit_test(what_came_before_a_failure_is_read_first),
		cmocka_unit_test(a_failed_flight_is_joined_by_nobody_a_landed_one_until_unlisted),
		cmocka_unit_test(who_waits_for_no_answer_joins_only_what_landed),
		cmocka_unit_test(it_is_kept_for_as_long_as_any_reader_wants),
		cmocka_unit_test(the_last_to_leave_gives_the_answer_up),
		cmocka_unit_test(a_message_that_comes_late_changes_nothing),
		cmocka_unit_test(who_waits_for_room_finds_it),
		cmocka_unit_test(a_raw_reader_goes_on_from_what_has_come),
		cmocka_unit_test(what_nobody_reads_is_waited_with),
		cmocka_unit_test(past_its_limit_it_keeps_a_window),
		cmocka_unit_test(readers_at_different_places_each_read_all),
		cmocka_unit_test(one_that_is_whole_by_then_is_read_whole),
		cmocka_unit_test(what_landed_is_unlisted_when_the_store_loses_it),
		cmocka_unit_test(a_refresh_is_found_from_its_landing_on),
		cmocka_unit_test(who_wants_nothing_old_joins_what_flies_but_not_what_landed),
		cmocka_unit_test(joining_between_over_and_unlisted_starts_anew),
		cmocka_unit_test(a_full_buffer_fails_the_reader_alone),
		cmocka_unit_test(every_allocation_fails_once),
		cmocka_unit_test(of_answers_that_wait_for_the_store_the_last_is_next),
		cmocka_unit_test(threads_join_lead_and_leave_as_they_like),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
