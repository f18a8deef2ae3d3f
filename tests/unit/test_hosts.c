/* uses: proxy/host_state.c proxy/base/log.c proxy/base/loop.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c proxy/base/canonical.c proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -luv -licuuc -ljansson -lnettle -lm -lpthread */
/* test_hosts.c - places at upstreams (the least busy, in order of asking, none lost whoever leaves when), also from several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proxy/hosts.c"
#include "proxy/route.c"
#include "proxy/seen.c"

static int dropped;                              /* replies that seen.c has let go */
void reply_drop(struct reply *reply)
{
	dropped += reply != NULL;
}

static const char *const urls[] = { "http://a/", "http://b//", "http://c" };
static struct loop loop;

static int open_loop(void **state)
{
	(void)state;
	loop_init(&loop);
	return 0;
}

static int close_loop(void **state)
{
	(void)state;
	loop_fini(&loop);
	return 0;
}

static int told;
static void tell(struct mail *m)
{
	(void)m;
	told++;
}

static void turn(void)
{
	uv_run(&loop.uv, UV_RUN_NOWAIT);
}

static struct host_ticket ticket(host_set may)
{
	return (struct host_ticket){ .mail.run = tell, .loop = &loop, .may = may, .host = -1 };
}

static int64_t busy(const struct hosts *h)
{
	int64_t n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += h->host[i].in_flight + h->host[i].passing;
	return n;
}

static void nobody_waits(const struct hosts *h)
{
	for (size_t i = 0; i < LINES; i++) {
		assert_null(h->line[i].first);
		assert_ptr_equal(h->line[i].last, &h->line[i].first);
	}
	assert_int_equal(h->waiting, 0);
}

static void the_least_busy_of_those_that_are_up(void **state)
{
	struct hosts *h = hosts_new(urls, 3);
	struct host_ticket t[8];

	(void)state;
	assert_string_equal(hosts_url(h, 0), "http://a");
	assert_string_equal(hosts_url(h, 1), "http://b");
	assert_int_equal(hosts_all(h), 7);
	hosts_set_up(h, 1, true);
	hosts_set_up(h, 2, true);
	assert_int_equal(hosts_all_up(h), 6);
	for (int i = 0; i < 8; i++)
		t[i] = ticket(UINT32_MAX);
	for (int i = 0; i < 4; i++)
		assert_true(hosts_take(h, &t[i]));
	assert_int_equal(h->host[0].in_flight, 0);       /* held to be down: only when nothing else is left */
	assert_int_equal(h->host[1].in_flight, 2);
	assert_int_equal(h->host[2].in_flight, 2);
	t[4].may = 1;
	assert_true(hosts_take(h, &t[4]));
	assert_int_equal(t[4].host, 0);
	hosts_limit(h, 2);
	assert_false(hosts_take(h, &t[5]));              /* the line of those that are up, rather than one that is down */
	hosts_give(h, &t[0]);
	assert_true(t[5].host > 0);
	hosts_leave(h, &t[5]);
	for (int i = 1; i < 6; i++)
		hosts_give(h, &t[i]);
	assert_int_equal(busy(h), 0);
	turn();
	hosts_free(h);
}

static void equals_take_turns(void **state)
{
	struct hosts *h = hosts_new(urls, 3);
	struct host_ticket t = ticket(UINT32_MAX);
	int seen[3] = { 0 };

	(void)state;
	for (int i = 0; i < 3; i++)
		hosts_set_up(h, (size_t)i, true);
	for (int i = 0; i < 9; i++) {
		assert_true(hosts_take(h, &t));
		seen[t.host]++;
		hosts_give(h, &t);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(seen[i], 3);
	t.in_order = true;                               /* what changes models: always the first that has it */
	for (int i = 0; i < 3; i++) {
		assert_true(hosts_take(h, &t));
		assert_int_equal(t.host, 0);
		hosts_give(h, &t);
	}
	hosts_free(h);
}

/* The limit is the balancer's: whoever gives back, and without a place too, nobody is let in beyond it. */
static void the_limit_holds_whoever_gives_back(void **state)
{
	enum { N = 12 };
	struct hosts *h = hosts_new(urls, 1);
	struct host_ticket t[N], pass = ticket(UINT32_MAX);
	int inside = 0;

	(void)state;
	hosts_limit(h, 2);
	pass.no_place = true;
	for (int i = 0; i < N; i++) {
		t[i] = ticket(UINT32_MAX);
		assert_int_equal(hosts_take(h, &t[i]), i < 2);
	}
	assert_int_equal(hosts_waiting(h), N - 2);
	assert_true(hosts_take(h, &pass));
	hosts_give(h, &pass);
	hosts_set_up(h, 0, true);
	hosts_worked(h, &t[0]);
	assert_int_equal(busy(h), 2);
	assert_int_equal(hosts_waiting(h), N - 2);
	hosts_limit(h, 4);                               /* raised: two more, and no others */
	assert_int_equal(busy(h), 4);
	hosts_limit(h, 3);                               /* lowered: what is taken stays */
	hosts_give(h, &t[0]);
	assert_int_equal(busy(h), 3);
	hosts_give(h, &t[1]);
	assert_int_equal(busy(h), 3);
	hosts_limit(h, 0);
	for (int i = 0; i < N; i++)
		inside += t[i].host >= 0;
	assert_int_equal(inside, N - 2);
	assert_int_equal(hosts_waiting(h), 0);
	for (int i = 2; i < N; i++)
		hosts_give(h, &t[i]);
	assert_int_equal(busy(h), 0);
	turn();
	hosts_free(h);
}

/* The host a question goes to, given back at once. */
static int one_goes_to(struct hosts *h)
{
	struct host_ticket t = ticket(UINT32_MAX);

	assert_true(hosts_take(h, &t));
	int host = t.host;
	hosts_give(h, &t);
	return host;
}

static void who_failed_is_passed_over_for_a_while(void **state)
{
	struct hosts *h = hosts_new(urls, 2);
	struct host_ticket a = ticket(1), also = ticket(1), both = ticket(3), waiting = ticket(3);

	(void)state;
	hosts_set_up(h, 0, true);
	hosts_set_up(h, 1, true);
	assert_true(hosts_take(h, &a));
	assert_true(hosts_take(h, &also));
	hosts_failed(h, &a, false);
	hosts_failed(h, &also, false);                   /* at the same time: it counts once */
	assert_int_equal(h->host[0].fails, 1);
	hosts_give(h, &a);
	hosts_give(h, &also);
	for (int i = 0; i < 4; i++)
		assert_int_equal(one_goes_to(h), 1);
	/* rather in line for the other one than there */
	hosts_limit(h, 1);
	assert_true(hosts_take(h, &both));
	assert_int_equal(both.host, 1);
	assert_false(hosts_take(h, &waiting));
	assert_true(hosts_take(h, &a));                  /* but who may have no other has it */
	assert_int_equal(a.host, 0);
	hosts_give(h, &a);
	hosts_give(h, &both);
	assert_int_equal(waiting.host, 1);
	hosts_give(h, &waiting);
	hosts_limit(h, 0);
	/* the while is over: one tries it, the others still pass it over */
	h->host[0].avoid_until = 0;
	h->after = 0;
	assert_true(hosts_take(h, &both));
	assert_int_equal(both.host, 0);
	assert_true(both.trial);
	for (int i = 0; i < 4; i++)
		assert_int_equal(one_goes_to(h), 1);
	int64_t before = h->host[0].avoid_until;
	hosts_failed(h, &both, false);                   /* twice as long */
	assert_int_equal(h->host[0].fails, 2);
	assert_true(h->host[0].avoid_until > before);
	hosts_worked(h, &both);
	assert_int_equal(h->host[0].fails, 0);
	hosts_give(h, &both);
	int seen[2] = { 0 };
	for (int i = 0; i < 4; i++)
		seen[one_goes_to(h)]++;
	assert_int_equal(seen[0], 2);
	/* waited for in vain: not again soon; and never longer than the longest */
	assert_true(hosts_take(h, &a));
	for (int i = 0; i < 20; i++)
		hosts_failed(h, &a, true);
	assert_true(h->host[0].avoid_until <= now_ms() + ((int64_t)AVOID_FIRST_MS << AVOID_DOUBLINGS));
	assert_true(h->host[0].avoid_until > now_ms() + ((int64_t)AVOID_FIRST_MS << (AVOID_DOUBLINGS - 1)));
	hosts_give(h, &a);
	/* both failed: whichever, not none */
	assert_true(hosts_take(h, &both));
	assert_int_equal(both.host, 1);
	hosts_failed(h, &both, false);
	hosts_give(h, &both);
	assert_true(hosts_take(h, &both));
	hosts_give(h, &both);
	turn();
	hosts_free(h);
}

/* Who waits for a host that goes down is let in where there is room. */
static void who_waits_goes_where_room_comes(void **state)
{
	struct hosts *h = hosts_new(urls, 2);
	struct host_ticket a = ticket(1), b = ticket(2), both = ticket(3);

	(void)state;
	hosts_limit(h, 1);
	hosts_set_up(h, 1, true);
	assert_true(hosts_take(h, &b));
	assert_false(hosts_take(h, &both));
	hosts_set_up(h, 0, true);                        /* it came back */
	assert_int_equal(both.host, 0);
	hosts_give(h, &both);
	assert_true(hosts_take(h, &a));
	hosts_failed(h, &a, false);
	hosts_give(h, &a);
	assert_false(hosts_take(h, &both));              /* for the well one */
	hosts_failed(h, &b, false);
	assert_int_equal(both.host, 0);                  /* that is none better any more */
	hosts_give(h, &both);
	hosts_give(h, &b);
	nobody_waits(h);
	turn();
	hosts_free(h);
}

/* More different sets than lines: some share one, and nobody is forgotten. */
static void more_sets_than_lines(void **state)
{
	enum { N = 100, HOSTS = 7 };
	static const char *const seven[HOSTS] = { "http://1", "http://2", "http://3", "http://4", "http://5", "http://6", "http://7" };
	struct hosts *h = hosts_new(seven, HOSTS);
	struct host_ticket holds[HOSTS], *t = calloc(N, sizeof *t);

	(void)state;
	assert_non_null(t);
	told = 0;
	hosts_limit(h, 1);
	for (int i = 0; i < HOSTS; i++) {
		hosts_set_up(h, (size_t)i, true);
		holds[i] = ticket((host_set)1 << i);
		assert_true(hosts_take(h, &holds[i]));
	}
	for (int i = 0; i < N; i++) {
		t[i] = ticket((host_set)i + 1);
		assert_false(hosts_take(h, &t[i]));
	}
	for (int i = 0; i < HOSTS; i++)
		hosts_give(h, &holds[i]);
	for (int left = N; left > 0;) {
		int before = left;
		for (int i = 0; i < N; i++)
			if (t[i].host >= 0) {
				assert_true(t[i].may >> t[i].host & 1);
				hosts_give(h, &t[i]);
				left--;
			}
		assert_true(left < before);
	}
	nobody_waits(h);
	assert_int_equal(busy(h), 0);
	turn();
	assert_int_equal(told, N);
	free(t);
	hosts_free(h);
}

static void places_go_to_who_waits_longest(void **state)
{
	struct hosts *h = hosts_new(urls, 1);
	struct host_ticket t[5];

	(void)state;
	hosts_limit(h, 1);
	told = 0;
	for (int i = 0; i < 5; i++) {
		t[i] = ticket(UINT32_MAX);
		assert_int_equal(hosts_take(h, &t[i]), i == 0);
	}
	hosts_leave(h, &t[2]);                           /* from the middle */
	hosts_leave(h, &t[4]);                           /* and the end */
	hosts_leave(h, &t[4]);
	struct host_ticket last = ticket(UINT32_MAX);
	assert_false(hosts_take(h, &last));
	hosts_give(h, &t[0]);
	assert_int_equal(t[1].host, 0);
	assert_int_equal(t[3].host, -1);
	/* it was given a place, and leaves before it has heard of it: the place is its to give back */
	hosts_leave(h, &t[1]);
	hosts_give(h, &t[1]);
	assert_int_equal(t[3].host, 0);
	hosts_give(h, &t[3]);
	assert_int_equal(last.host, 0);
	hosts_give(h, &last);
	assert_int_equal(busy(h), 0);
	nobody_waits(h);
	turn();
	assert_int_equal(told, 3);
	hosts_free(h);
}

/* Of different lines too, each by its number; who may not have the place is passed over. */
static void lines_of_different_hosts_are_one_line(void **state)
{
	enum { N = 200 };
	struct hosts *h = hosts_new(urls, 3);
	struct host_ticket holds[3], *t = calloc(N, sizeof *t);
	unsigned seed = 1;

	(void)state;
	assert_non_null(t);
	hosts_limit(h, 1);
	told = 0;
	for (int i = 0; i < 3; i++) {
		holds[i] = ticket((host_set)1 << i);
		assert_true(hosts_take(h, &holds[i]));
	}
	for (int i = 0; i < N; i++) {
		t[i] = ticket(1 + (host_set)rand_r(&seed) % 7);
		assert_false(hosts_take(h, &t[i]));
	}
	for (int i = 0; i < N; i += 5)
		hosts_leave(h, &t[i]);
	for (int left = N - N / 5; left > 0; left--) {
		struct host_ticket *holder = &holds[rand_r(&seed) % 3];
		int host = holder->host, first = -1;
		for (int i = 0; i < N && first < 0; i++)
			if (t[i].waits && t[i].may >> host & 1)
				first = i;
		if (first < 0) {                         /* nobody left who may: on with the others */
			for (int i = 0; i < 3 && first < 0; i++)
				for (int k = 0; k < N && first < 0; k++)
					if (t[k].waits && t[k].may >> holds[i].host & 1) {
						first = k;
						holder = &holds[i];
					}
			host = holder->host;
		}
		assert_true(first >= 0);
		hosts_give(h, holder);
		assert_int_equal(t[first].host, host);
		assert_false(t[first].waits);
		*holder = ticket((host_set)1 << host);
		holder->host = host;                     /* its place is now the ticket's; it is given back in its name */
		t[first].host = -1;
	}
	for (int i = 0; i < 3; i++)
		hosts_give(h, &holds[i]);
	assert_int_equal(busy(h), 0);
	nobody_waits(h);
	turn();
	assert_int_equal(told, N - N / 5);
	free(t);
	hosts_free(h);
}

/* However many wait: those behind the first ones are on pages that cannot be read while places come and go. */
static void who_is_far_behind_is_not_looked_at(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 16 * page / sizeof(struct host_ticket);
	struct hosts *h = hosts_new(urls, 2);
	char *far = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct host_ticket a = ticket(1), b = ticket(2), near[4], other, *behind = (struct host_ticket *)(void *)far;

	(void)state;
	assert_ptr_not_equal(far, MAP_FAILED);
	hosts_limit(h, 1);
	told = 0;
	assert_true(hosts_take(h, &a));
	assert_true(hosts_take(h, &b));
	for (int i = 0; i < 4; i++) {
		near[i] = ticket(1);
		assert_false(hosts_take(h, &near[i]));
	}
	for (size_t i = 0; i < n; i++) {
		behind[i] = ticket(1);
		assert_false(hosts_take(h, &behind[i]));
	}
	other = ticket(2);
	assert_false(hosts_take(h, &other));
	assert_int_equal(mprotect(far, 16 * page, PROT_NONE), 0);
	hosts_give(h, &b);                            /* the last in line is the first who may have it */
	assert_int_equal(other.host, 1);
	hosts_give(h, &other);                        /* nobody may */
	hosts_give(h, &a);
	assert_int_equal(near[0].host, 0);
	hosts_leave(h, &near[1]);
	hosts_give(h, &near[0]);
	assert_int_equal(mprotect(far, 16 * page, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(near[2].host, 0);
	hosts_give(h, &near[2]);
	hosts_give(h, &near[3]);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(behind[i].host, 0);
		hosts_give(h, &behind[i]);
	}
	nobody_waits(h);
	assert_int_equal(busy(h), 0);
	turn();
	assert_int_equal(told, n + 4);
	munmap(far, 16 * page);
	hosts_free(h);
}

enum { THREADS = 3, ROUNDS = 4000 };
struct letters { struct host_ticket ticket; };
struct hand { struct hosts *h; unsigned seed; pthread_t thread; struct letters *letters; };

/* Takes and leaves, whether it was its turn or not. Its letters stay until the loop has run the mail that is under way. */
static void *work(void *arg)
{
	struct hand *hand = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct host_ticket *t = &hand->letters[i].ticket;
		hand->seed = hand->seed * 1103515245 + 12345;
		*t = ticket(hand->seed >> 20 & 3 ? UINT32_MAX : 2);
		hosts_take(hand->h, t);
		hosts_leave(hand->h, t);
		if (t->host >= 0)
			hosts_give(hand->h, t);
	}
	return NULL;
}

static void seen_requests_are_known_while_nothing_has_changed(void **state)
{
	struct seen *s = seen_new();
	struct seen_line line = { .mark = { 7, 9 }, .key = { 1 }, .generation = 4, .config = urls, .model_len = 1, .model = "m" };
	uint8_t other[SEEN_MARK] = { 7, 9, 1 };

	(void)state;
	assert_null(seen_find(s, line.mark, 4, urls));
	seen_add(s, &line);
	assert_non_null(seen_find(s, line.mark, 4, urls));
	assert_null(seen_find(s, line.mark, 5, urls));    /* a digest has changed */
	assert_null(seen_find(s, line.mark, 0, urls));    /* in doubt */
	assert_null(seen_find(s, line.mark, 4, s));       /* another configuration */
	assert_null(seen_find(s, other, 4, urls));       /* of the same place */
	memcpy(line.mark, other, sizeof other);
	seen_add(s, &line);
	assert_non_null(seen_find(s, other, 4, urls));
	seen_clear(s);
	assert_null(seen_find(s, other, 4, urls));
	line.generation = 0;
	seen_add(s, &line);
	assert_null(seen_find(s, other, 0, urls));
	seen_free(s);
}

/* Whatever differs in a request makes another mark, wherever one part ends and the next begins. */
static void marks_tell_requests_apart(void **state)
{
	static char body[3000];
	struct seen *s = seen_new(), *t = seen_new();
	struct slice parts[] = { SLICE("/api/chat"), SLICE(""), slice_of(body, sizeof body) };
	uint8_t mark[SEEN_MARK], other[SEEN_MARK];

	(void)state;
	seen_mark(s, parts, 3, mark);
	for (size_t i = 0; i < sizeof body; i++) {
		body[i] ^= (char)(1 << i % 8);
		seen_mark(s, parts, 3, other);
		assert_memory_not_equal(mark, other, SEEN_MARK);
		body[i] ^= (char)(1 << i % 8);
	}
	for (size_t len = 0; len < sizeof body; len++) {
		parts[2].len = len;
		seen_mark(s, parts, 3, other);
		assert_memory_not_equal(mark, other, SEEN_MARK);
	}
	parts[2].len = sizeof body;
	seen_mark(s, parts, 3, other);
	assert_memory_equal(mark, other, SEEN_MARK);
	parts[0].len--;
	parts[1] = SLICE("t");
	seen_mark(s, parts, 3, other);
	assert_memory_not_equal(mark, other, SEEN_MARK);
	parts[0].len++;
	parts[1] = SLICE("");
	seen_mark(t, parts, 3, other);                   /* nobody outside knows what a mark will be */
	assert_memory_not_equal(mark, other, SEEN_MARK);
	seen_free(s);
	seen_free(t);
}

static void kept_replies_are_let_go_once(void **state)
{
	struct seen *s = seen_new();
	struct seen_line line = { .mark = { 1 }, .generation = 4, .config = urls, .model_len = 1, .model = "m" };
	struct seen_reply small = { .reply = (struct reply *)&line, .bytes = 1000 }, large = small;

	(void)state;
	dropped = 0;
	large.bytes = SEEN_REPLIES_BYTES;
	for (uint8_t i = 1; i < 4; i++) {
		line.mark[0] = i;
		seen_add(s, &line);
		seen_keep(s, seen_find(s, line.mark, 4, urls), &small);
	}
	assert_int_equal(dropped, 0);
	assert_int_equal(s->bytes, 3000);
	seen_keep(s, seen_find(s, line.mark, 4, urls), &small);
	assert_int_equal(dropped, 1);                    /* the one it takes the place of */
	seen_add(s, &line);
	assert_int_equal(dropped, 2);
	seen_keep(s, seen_find(s, line.mark, 4, urls), &large);
	assert_int_equal(dropped, 4);                    /* beyond what is kept in all: the others go */
	assert_int_equal(s->bytes, SEEN_REPLIES_BYTES);
	seen_clear(s);
	assert_int_equal(dropped, 5);
	assert_int_equal(s->bytes, 0);
	seen_free(s);
	assert_int_equal(dropped, 5);
}

static void routes_are_exact(void **state)
{
	static const struct { const char *method, *path; int family; bool changes; } cases[] = {
		{ "POST", "/api/chat", FAMILY_CHAT, false }, { "POST", "/api/generate", FAMILY_GENERATE, false }, { "POST", "/api/embed", FAMILY_EMBED, false },
		{ "POST", "/api/embeddings", FAMILY_EMBEDDINGS, false }, { "GET", "/api/chat", -1, false }, { "post", "/api/chat", -1, false },
		{ "POST", "/api/chat/", -1, false }, { "POST", "//api/chat", -1, false }, { "POST", "/api/Chat", -1, false }, { "POST", "/api/%63hat", -1, false },
		{ "POST", "/api/pull", -1, true }, { "DELETE", "/api/delete", -1, true }, { "POST", "/api/create", -1, true }, { "POST", "/api/copy", -1, true },
		{ "GET", "/api/pull", -1, false }, { "OPTIONS", "/api/delete", -1, false }, { "POST", "/api/push", -1, false }, { "POST", "", -1, false },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct request r = { .method = cases[i].method, .path = slice_text(cases[i].path) };
		const struct route *route = route_find(&r);
		assert_int_equal(route ? (int)route->family : -1, cases[i].family);
		assert_int_equal(route_changes_models(&r), cases[i].changes);
	}
}

static void threads_take_and_leave(void **state)
{
	struct hosts *h = hosts_new(urls, 2);
	struct hand hand[THREADS];

	(void)state;
	hosts_limit(h, 1);
	for (int i = 0; i < THREADS; i++) {
		hand[i] = (struct hand){ .h = h, .seed = (unsigned)i * 99 + 1, .letters = calloc(ROUNDS, sizeof *hand[i].letters) };
		assert_non_null(hand[i].letters);
		assert_int_equal(pthread_create(&hand[i].thread, NULL, work, &hand[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(hand[i].thread, NULL);
	turn();
	assert_int_equal(busy(h), 0);
	nobody_waits(h);
	for (int i = 0; i < THREADS; i++)
		free(hand[i].letters);
	hosts_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_busy_of_those_that_are_up), cmocka_unit_test(equals_take_turns),
		cmocka_unit_test(the_limit_holds_whoever_gives_back), cmocka_unit_test(who_failed_is_passed_over_for_a_while),
		cmocka_unit_test(who_waits_goes_where_room_comes), cmocka_unit_test(more_sets_than_lines),
		cmocka_unit_test(places_go_to_who_waits_longest),
		cmocka_unit_test(lines_of_different_hosts_are_one_line), cmocka_unit_test(who_is_far_behind_is_not_looked_at),
		cmocka_unit_test(seen_requests_are_known_while_nothing_has_changed), cmocka_unit_test(marks_tell_requests_apart), cmocka_unit_test(kept_replies_are_let_go_once),
		cmocka_unit_test(routes_are_exact),
		cmocka_unit_test(threads_take_and_leave),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
