/* ndjson.c - see ndjson.h. A line that lies whole in the bytes fed is handed on in place. */
#include "proxy/ndjson.h"

void ndjson_init(struct ndjson *n, size_t max_line, bool (*on_line)(void *arg, struct slice line), void *arg)
{
	*n = (struct ndjson){ .on_line = on_line, .arg = arg };
	buf_init(&n->part, max_line);
}

void ndjson_fini(struct ndjson *n)
{
	buf_fini(&n->part);
}

static bool hand_on(struct ndjson *n, struct slice line)
{
	if (line.len && line.at[line.len - 1] == '\r')
		line.len--;
	return line.len == 0 || n->on_line(n->arg, line);
}

enum err ndjson_feed(struct ndjson *n, struct slice bytes, size_t *taken)
{
	*taken = 0;
	while (*taken < bytes.len) {
		const char *from = bytes.at + *taken;
		size_t left = bytes.len - *taken;
		const char *end = memchr(from, '\n', left);
		size_t len = end ? (size_t)(end - from) : left;
		bool on = true;

		if (!end || n->part.len) {
			enum err e = buf_add(&n->part, from, len);
			if (e)
				return e;
		} else if (len > n->part.limit) {
			return ERR_TOO_LARGE;
		}
		*taken += len + (end != NULL);
		if (!end)
			break;
		if (n->part.len) {
			struct slice line = buf_slice(&n->part);
			n->part.len = 0;
			on = hand_on(n, line);
		} else {
			on = hand_on(n, slice_of(from, len));
		}
		if (!on)
			break;
	}
	return ERR_OK;
}

struct slice ndjson_rest(const struct ndjson *n)
{
	return buf_slice(&n->part);
}
