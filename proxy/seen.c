/* seen.c - see seen.h. */
#include "proxy/seen.h"

#include <stdlib.h>

struct seen { struct seen_line line[SEEN_LINES]; };

static size_t place(const uint8_t raw[KEY_BYTES])
{
	return (size_t)(raw[0] | raw[1] << 8) % SEEN_LINES;
}

struct seen *seen_new(void)
{
	struct seen *s = calloc(1, sizeof *s);

	if (!s)
		abort();                     /* at start */
	return s;
}

void seen_free(struct seen *s)
{
	free(s);
}

void seen_clear(struct seen *s)
{
	memset(s->line, 0, sizeof s->line);
}

const struct seen_line *seen_find(const struct seen *s, const uint8_t raw[KEY_BYTES], uint64_t generation, const void *config)
{
	const struct seen_line *l = &s->line[place(raw)];

	return l->model_len && l->generation == generation && generation && l->config == config &&
	       !memcmp(l->raw, raw, KEY_BYTES) ? l : NULL;
}

void seen_add(struct seen *s, const struct seen_line *line)
{
	s->line[place(line->raw)] = *line;
}
