/* exchange_stored.c - a large answer that is whole, on its way to one client: a window at a time, out of the copy that
 * everybody shares who is being given it (copies.h). A stream is made line by line as it leaves; one object is its head, which
 * is the client's own, and its rest, which is not.
 *
 * Limits     of one client: READER_WINDOW and one line. */
#include "proxy/exchange.h"

struct copy *stored_share(struct exchange *x, const struct answer_id *id, struct buf *bytes, struct slice *part)
{
	size_t from = (size_t)(part->at - bytes->at);
	struct copy *c = copies_share(x->worker->shared->copies, id, bytes);

	if (c)
		*part = slice_of(copy_bytes(c).at + from, part->len);
	return c;
}

/* Lines of some more of the pieces; false when all have been written. */
static bool more_lines(struct exchange *x)
{
	struct stored *s = &x->stored;
	struct buf part;

	buf_init(&part, SIZE_MAX / 4);
	enum err e = pieces_part(s->rest, &s->at, &s->in, LINE_TEXT_MAX, &part);
	if (!e && part.len)
		exchange_write_lines(x, buf_slice(&part));
	else if (e)
		request_end(x->request, false);
	bool more = !e && part.len;
	buf_fini(&part);
	return more;
}

static bool more_bytes(struct exchange *x)
{
	struct stored *s = &x->stored;
	size_t n = s->rest.len - s->at;

	n = n < LINE_TEXT_MAX ? n : LINE_TEXT_MAX;
	if (n && request_write(x->request, slice_of(s->rest.at + s->at, n)))
		return false;                /* the reply is broken */
	s->at += n;
	return n;
}

void stored_pump(struct exchange *x)
{
	while (x->request && request_queued(x->request) < READER_WINDOW)
		if (!(x->streamed ? more_lines(x) : more_bytes(x))) {
			request_end(x->request, true);
			return;
		}
}

void stored_drop(struct exchange *x)
{
	if (x->stored.copy)
		copy_drop(x->stored.copy);
	x->stored = (struct stored){ 0 };
}

static bool begin_stream(struct exchange *x, struct slice pieces, const struct answer_id *id, struct buf *owner)
{
	x->stored = (struct stored){ .copy = stored_share(x, id, owner, &pieces) };
	if (!x->stored.copy)
		return false;
	x->stored.rest = pieces;
	return true;
}

static bool begin_object(struct exchange *x, struct slice pieces, const struct answer_id *id)
{
	struct copies *cs = x->worker->shared->copies;
	struct answer_id whole = *id;
	struct buf rest;

	whole.whole = true;
	x->stored = (struct stored){ .copy = copies_get(cs, &whole) };
	if (!x->stored.copy) {
		buf_init(&rest, SIZE_MAX / 4);
		if (!buf_reserve(&rest, pieces.len) && !x->dialect->write_whole_rest(x->style.family, pieces, &rest))
			x->stored.copy = copies_share(cs, &whole, &rest);
		buf_fini(&rest);
	}
	if (!x->stored.copy)
		return false;
	x->stored.rest = copy_bytes(x->stored.copy);
	return true;
}

void stored_reply(struct exchange *x, struct slice pieces, const char *content_type, const struct answer_id *id, struct buf *owner)
{
	bool stream = x->ask.stream;
	struct buf head;

	buf_init(&head, SIZE_MAX / 4);
	bool there = stream ? begin_stream(x, pieces, id, owner) : begin_object(x, pieces, id);
	if (!there || (!stream && x->dialect->write_whole_head(&x->style, &head))) {
		buf_fini(&head);
		reply_error(x, ERR_REPLIES_FULL, NULL);
		return;
	}
	if (owner)
		buf_fini(owner);             /* an object's rest is a copy of its own */
	exchange_lighten(x);
	reply_begin(x, 200, content_type, stream ? -1 : (int64_t)(head.len + x->stored.rest.len));
	x->streamed = stream;
	if (head.len)
		(void)!request_write(x->request, buf_slice(&head));      /* a failure has broken the reply */
	buf_fini(&head);
	stored_pump(x);
}
