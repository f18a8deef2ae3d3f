/* uses: cache/store_embedded.c cache/embedded_writer.c cache/embedded_pending.c cache/embedded_tables.c cache/embedded_file.c cache/embedded_check.c cache/store_redis.c cache/redis_walk.c cache/redis_near.c cache/redis_health.c cache/redis_count.c cache/redis_ear.c cache/redis_link.c cache/redis_url.c cache/redis_function.c cache/near.c cache/entry.c proxy/base/buf.c proxy/base/err.c proxy/base/loop.c proxy/base/log.c */
/* libs: -luv -llmdb -lhiredis -lxxhash -lpthread -lcmocka -lm */
/* bench_store.c - how long a look-up takes: get and query, at several sizes, on both stores.
 *
 *   bench_store [entries ...]        default: 1000 100000
 *
 * Entries are 1 KB, in one scope, with six words each out of 20,000 by Zipf's law, which is what questions look like.
 * Times are microseconds a look-up, on one link: one after the other (median, 99th percentile), and the rate with 64
 * under way, where a store answers later. */
#include <math.h>

#include "tests/unit/redis_world.h"

enum { VOCABULARY = 20000, WORDS = 6, LOOKUPS = 20000, UNDER_WAY = 64 };

static double zipf[VOCABULARY];
static uint64_t state = 88172645463325252ull;

static double dice(void)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (double)(state >> 11) / 9007199254740992.0;
}

static unsigned zipf_word(void)
{
	double x = dice() * zipf[VOCABULARY - 1];
	unsigned low = 0, high = VOCABULARY - 1;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		if (zipf[mid] < x)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void question_of(struct words *w, unsigned number)
{
	state = number * 2654435761ull + 88172645463325252ull;
	dice(), dice(), dice();
	w->n = 0;
	while (w->n < WORDS) {
		unsigned word = zipf_word();
		bool there = false;
		for (size_t i = 0; i < w->n; i++)
			there |= w->term[i] == term_of(word);
		if (!there)
			word_add(w, word, 4);
	}
}

static size_t waiting, refused;

static void stored(void *arg, bool ok)
{
	(void)arg;
	waiting--;
	refused += !ok;
}

static double fill(struct world *w, unsigned n)
{
	static char entry[1024];
	struct words words;
	int64_t from = clock_us();

	for (unsigned i = 0; i < n; i++) {
		question_of(&words, i);
		struct store_item item = item_of(i, slice_of(entry, sizeof entry), in_an_hour(), &words, 0,
						 SLICE("the packed words of a question, as long as they usually are: about a hundred "
						       "bytes or a little more"));
		w->store->ops->put(w->link, &item, stored, NULL);
		waiting++;
		while (waiting > 500)
			turn(w);
	}
	while (waiting)
		turn(w);
	return (double)n / (double)(clock_us() - from) * 1e6;
}

static int by_size(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

enum what { SAME_KEY, ANY_KEY, NEAR };
static const char *const what_name[] = { "get, one key", "get, any key", "query" };

static void measure(struct world *w, const char *store, unsigned n, enum what what)
{
	static int32_t ns[LOOKUPS];
	static struct got got[UNDER_WAY];
	struct words words;
	struct store_query q;
	size_t found = 0;
	int lookups = what == NEAR ? LOOKUPS / 10 : LOOKUPS;

	for (int i = 0; i < lookups; i++) {
		unsigned number = what == SAME_KEY ? 1 : (unsigned)(i * 7919ull % n);
		question_of(&words, number);
		q = query_of(&words, 0, 70);
		int64_t from = now_ns();
		enum store_news news = get_by(w, w->link, &got[0], what == NEAR ? 90000000 : number, what == NEAR ? &q : NULL);
		ns[i] = (int32_t)(now_ns() - from);
		found += what == NEAR ? proposed(&got[0], number) : news == STORE_FOUND;
		got_fini(&got[0]);
	}
	qsort(ns, (size_t)lookups, sizeof *ns, by_size);
	double median = ns[lookups / 2] / 1e3, high = ns[lookups * 99 / 100] / 1e3;
	double rate = 0;
	int64_t from = clock_us();
	for (int i = 0; i < lookups; i += UNDER_WAY) {
		for (unsigned j = 0; j < UNDER_WAY; j++) {
			unsigned number = what == SAME_KEY ? 1 : (unsigned)((unsigned)i + j) * 7919u % n;
			get_begin(w, w->link, &got[j], what == NEAR ? 90000000 : number, what == NEAR ? &q : NULL);
		}
		for (unsigned j = 0; j < UNDER_WAY; j++) {
			while (!got[j].times)
				turn(w);
			got_fini(&got[j]);
		}
		rate += UNDER_WAY;
	}
	rate = rate / (double)(clock_us() - from) * 1e6;
	printf("%-9s %8u  %-13s %9.2f %9.2f %12.0f   %5.1f %%\n", store, n, what_name[what], median, high, rate,
	       100.0 * (double)found / lookups);
	fflush(stdout);
}

static void bench(struct world *w, const char *name, unsigned n)
{
	printf("%-9s %8u  %-13s %9s %9s %12.0f\n", name, n, "put", "", "", fill(w, n));
	for (enum what what = SAME_KEY; what <= NEAR; what++)
		measure(w, name, n, what);
	if (refused)
		printf("%zu puts were refused\n", refused);
	refused = 0;
}

static void one_size(unsigned n)
{
	struct world w = { 0 };
	struct server server;
	char why[256];

	dir_make(w.dir);
	world_begin(&w, store_embedded_open(w.dir, 8ull << 30, why, sizeof why));
	alarm(0);
	bench(&w, "embedded", n);
	world_end(&w);
	dir_remove(w.dir);

	memset(&w, 0, sizeof w);
	dir_make(w.dir);
	server_start(&server, w.dir);
	world_begin(&w, server_open(&server, 60000));
	alarm(0);
	until_up(&w);
	bench(&w, "redis", n);
	world_end(&w);
	server_stop(&server);
	dir_remove(w.dir);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < VOCABULARY; i++)
		zipf[i] = (i ? zipf[i - 1] : 0) + 1.0 / (i + 1);
	printf("%-9s %8s  %-13s %9s %9s %12s   %s\n", "store", "entries", "what", "median us", "99 % us", "a second", "found");
	if (argc < 2) {
		one_size(1000);
		one_size(100000);
	}
	for (int i = 1; i < argc; i++)
		one_size((unsigned)strtoul(argv[i], NULL, 10));
	return 0;
}
