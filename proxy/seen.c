/* seen.c - see seen.h. */
#include "proxy/seen.h"

#include <nettle/umac.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct seen {
	struct umac128_ctx umac;
	size_t bytes;                /* of the replies */
	struct seen_line line[SEEN_LINES];
};

static size_t place(const uint8_t mark[SEEN_MARK])
{
	return (size_t)(mark[0] | mark[1] << 8) % SEEN_LINES;
}

struct seen *seen_new(void)
{
	/* a line is anywhere in it: if its pages came one by one, each of the first thousands of questions would wait for two */
	struct seen *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	uint8_t key[UMAC_KEY_SIZE];

	if (s == MAP_FAILED || getentropy(key, sizeof key))
		abort();                     /* at start */
	umac128_set_key(&s->umac, key);
	explicit_bzero(key, sizeof key);
	return s;
}

void seen_mark(struct seen *s, const struct slice *parts, size_t n, uint8_t mark[SEEN_MARK])
{
	static const uint8_t nonce[UMAC_MIN_NONCE_SIZE];     /* always this one: nobody ever sees a mark */

	for (size_t i = 0; i < n; i++) {
		uint64_t len = parts[i].len;
		umac128_update(&s->umac, sizeof len, (const uint8_t *)&len);
		umac128_update(&s->umac, parts[i].len, (const uint8_t *)parts[i].at);
	}
	umac128_set_nonce(&s->umac, sizeof nonce, nonce);
	umac128_digest(&s->umac, SEEN_MARK, mark);
}

static void forget_reply(struct seen *s, struct seen_line *l)
{
	s->bytes -= l->again.bytes;
	reply_drop(l->again.reply);
	l->again = (struct seen_reply){ 0 };
}

static void forget_replies(struct seen *s)
{
	for (size_t i = 0; i < SEEN_LINES; i++)
		forget_reply(s, &s->line[i]);
}

void seen_free(struct seen *s)
{
	forget_replies(s);
	munmap(s, sizeof *s);
}

void seen_clear(struct seen *s)
{
	forget_replies(s);
	memset(s->line, 0, sizeof s->line);
}

struct seen_line *seen_find(struct seen *s, const uint8_t mark[SEEN_MARK], uint64_t generation, const void *config)
{
	struct seen_line *l = &s->line[place(mark)];

	return l->model_len && l->generation == generation && generation && l->config == config &&
	       !memcmp(l->mark, mark, SEEN_MARK) ? l : NULL;
}

void seen_add(struct seen *s, const struct seen_line *line)
{
	struct seen_line *l = &s->line[place(line->mark)];

	forget_reply(s, l);
	*l = *line;
}

void seen_keep(struct seen *s, struct seen_line *line, const struct seen_reply *again)
{
	forget_reply(s, line);
	if (s->bytes + again->bytes > SEEN_REPLIES_BYTES)
		forget_replies(s);           /* most are of a second that has passed */
	s->bytes += again->bytes;
	line->again = *again;
}
