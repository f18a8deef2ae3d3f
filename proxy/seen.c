/* seen.c - see seen.h. */
#include "proxy/seen.h"

#include <stdlib.h>
#include <sys/mman.h>

struct seen {
	struct seen_line line[SEEN_LINES];
	size_t bytes;                /* of the replies */
};

static size_t place(const uint8_t raw[KEY_BYTES])
{
	return (size_t)(raw[0] | raw[1] << 8) % SEEN_LINES;
}

struct seen *seen_new(void)
{
	/* a line is anywhere in it: if its pages came one by one, each of the first thousands of questions would wait for two */
	struct seen *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (s == MAP_FAILED)
		abort();                     /* at start */
	return s;
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

struct seen_line *seen_find(struct seen *s, const uint8_t raw[KEY_BYTES], uint64_t generation, const void *config)
{
	struct seen_line *l = &s->line[place(raw)];

	return l->model_len && l->generation == generation && generation && l->config == config &&
	       !memcmp(l->raw, raw, KEY_BYTES) ? l : NULL;
}

void seen_add(struct seen *s, const struct seen_line *line)
{
	struct seen_line *l = &s->line[place(line->raw)];

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
