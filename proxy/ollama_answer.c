/* ollama_answer.c - replies of Ollama's generations and embeddings as pieces, and pieces as replies.
 *
 * Read: a line's text may stand in `message`, in `delta` (each an object with content, or a text) or in `response`,
 * whatever the endpoint. What comes in one line is kept in the order thinking, content, tool calls, logprobs.
 * Written: as Ollama writes it for the family, fields in its order. Text, numbers and unknown fields are the
 * upstream's own bytes; only model and created_at are made anew. */
#include "proxy/ollama.h"

#include <stdio.h>
#include <time.h>

#include "proxy/base/scan.h"

enum { LINE_SLICES = 64, FIELDS_REMEMBERED = 16 };

/* ---- reading ---- */

struct line {
	struct slice thinking, content, tool_calls, logprobs;
	struct slice done_reason;
	bool done, is_answer;
};

static bool known_last(struct slice name)
{
	return slice_is(name, SLICE("model")) || slice_is(name, SLICE("created_at")) || slice_is(name, SLICE("message")) ||
	       slice_is(name, SLICE("delta")) || slice_is(name, SLICE("response")) || slice_is(name, SLICE("thinking")) ||
	       slice_is(name, SLICE("done")) || slice_is(name, SLICE("logprobs"));
}

static uint64_t number(struct slice value)
{
	uint64_t n;

	return slice_number(value, UINT64_MAX / 2, &n) ? n : 0;
}

/* Adds "name":value as a piece unless just that was seen among the first ones: some servers repeat a field on every line. */
static enum err add_field(struct answer *a, enum piece_kind kind, struct slice name, struct slice value)
{
	/* name and value lie in one line, so the span from the quote before name to the end of value is the field */
	struct slice field = slice_of(name.at - 1, (size_t)(value.at + value.len - name.at) + 1), old;
	enum piece_kind k;
	size_t at = 0;

	for (int i = 0; i < FIELDS_REMEMBERED && pieces_next(buf_slice(&a->pieces), &at, &k, &old); i++)
		if (k == kind && slice_is(old, field))
			return ERR_OK;
	return answer_add(a, kind, field);
}

static enum err read_message(struct answer *a, struct slice message, struct line *l)
{
	struct slice name, value;
	struct scan s;
	enum err e = ERR_OK;

	l->is_answer = true;
	if (scan_is_text(message)) {
		l->content = scan_inside(message);
		return ERR_OK;
	}
	if (!scan_is_object(message))
		return slice_is(message, SLICE("null")) ? ERR_OK : ERR_UPSTREAM_BABBLE;
	for (scan_init(&s, message); !e && scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("content")) && scan_is_text(value))
			l->content = scan_inside(value);
		else if (slice_is(name, SLICE("thinking")) && scan_is_text(value))
			l->thinking = scan_inside(value);
		else if (slice_is(name, SLICE("tool_calls")) && scan_is_array(value))
			l->tool_calls = scan_inside(value);
		else if (slice_is(name, SLICE("role")) && slice_is(value, SLICE("\"assistant\"")))
			;
		else if (!slice_is(value, SLICE("null")))
			e = add_field(a, PIECE_MESSAGE_FIELD, name, value);
	}
	return s.bad ? ERR_UPSTREAM_BABBLE : e;
}

/* Is there anything in a JSON text but blanks and ends of lines? */
static bool says_something(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == ' ')
			continue;
		if (text.at[i] != '\\' || ++i == text.len || !strchr("nrt", text.at[i]))
			return true;
	}
	return false;
}

static bool has_digit(struct slice json)
{
	for (size_t i = 0; i < json.len; i++)
		if (json.at[i] >= '0' && json.at[i] <= '9')
			return true;
	return false;
}

static enum err add_text(struct answer *a, enum piece_kind kind, struct slice s)
{
	return s.len ? answer_add(a, kind, s) : ERR_OK;
}

static void read_number(struct answer *a, struct slice name, struct slice value)
{
	if (slice_is(name, SLICE("eval_count")))
		a->eval_count = number(value);
	else if (slice_is(name, SLICE("eval_duration")))
		a->eval_ns = number(value);
	else if (slice_is(name, SLICE("prompt_eval_duration")))
		a->prompt_eval_ns = number(value);
	else if (slice_is(name, SLICE("prompt_eval_count")))
		a->prompt_tokens = number(value);
}

/* Second pass over an object's fields: those we do not know, or (last) all that ends an answer. */
static enum err add_fields(struct answer *a, struct slice json, bool last)
{
	struct slice name, value;
	struct scan s;
	struct buf fields;
	enum err e = ERR_OK;

	buf_init(&fields, a->pieces.limit);
	for (scan_init(&s, json); !e && scan_next(&s, &name, &value); ) {
		if (known_last(name))
			continue;
		if (!last) {
			e = add_field(a, PIECE_FIELD, name, value);
			continue;
		}
		read_number(a, name, value);
		e = buf_addf(&fields, "%s\"%.*s\":", fields.len ? "," : "", (int)name.len, name.at);
		e = e ? e : buf_put(&fields, value);
	}
	if (last && !e)
		e = answer_add(a, PIECE_LAST, buf_slice(&fields));
	buf_fini(&fields);
	return e;
}

static enum err keep_error(struct answer *a, struct slice json)
{
	a->error.len = 0;
	return buf_put(&a->error, json);
}

static enum err read_generation(struct answer *a, struct slice json)
{
	struct line l = { 0 };
	struct slice name, value;
	struct scan s;
	enum err e = ERR_OK;
	bool unknown = false;

	for (scan_init(&s, json); !e && scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("error")))
			return keep_error(a, json);
		if (slice_is(name, SLICE("message")) || slice_is(name, SLICE("delta"))) {
			e = read_message(a, value, &l);
		} else if (slice_is(name, SLICE("response"))) {
			l.is_answer = true;
			if (scan_is_text(value))
				l.content = scan_inside(value);
		} else if (slice_is(name, SLICE("thinking")) && scan_is_text(value)) {
			l.thinking = scan_inside(value);
		} else if (slice_is(name, SLICE("logprobs")) && scan_is_array(value)) {
			l.logprobs = scan_inside(value);
		} else if (slice_is(name, SLICE("done"))) {
			l.is_answer = true;
			l.done = scan_is_true(value);
		} else if (slice_is(name, SLICE("done_reason"))) {
			l.done_reason = value;
		} else if (slice_is(name, SLICE("model"))) {
			a->has_model = true;
		} else if (!slice_is(name, SLICE("created_at"))) {
			unknown = true;
		}
	}
	if (e)
		return e;
	if (!scan_ended(&s) || !l.is_answer || a->whole)
		return ERR_UPSTREAM_BABBLE;
	a->says = a->says || l.tool_calls.len || says_something(l.content) || says_something(l.thinking);
	e = add_text(a, PIECE_THINKING, l.thinking);
	e = e ? e : add_text(a, PIECE_CONTENT, l.content);
	e = e ? e : add_text(a, PIECE_TOOL_CALLS, l.tool_calls);
	e = e ? e : add_text(a, PIECE_LOGPROBS, l.logprobs);
	if (!e && (l.done || unknown))
		e = add_fields(a, json, l.done);
	if (!e && l.done) {
		a->whole = true;
		a->length = slice_is(l.done_reason, SLICE("\"length\""));
		a->odd = l.done_reason.len && !a->length && !slice_is(l.done_reason, SLICE("\"stop\""));
	}
	return e;
}

static enum err read_embedding(struct answer *a, struct slice json)
{
	struct slice name, value;
	struct scan s;
	struct buf body;
	enum err e = ERR_OK;
	bool is_answer = false;

	buf_init(&body, a->pieces.limit);
	for (scan_init(&s, json); !e && scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("error"))) {
			buf_fini(&body);
			return keep_error(a, json);
		}
		if (slice_is(name, SLICE("model"))) {
			a->has_model = true;
			continue;
		}
		if (slice_is(name, SLICE("embeddings")) || slice_is(name, SLICE("embedding"))) {
			is_answer = true;
			a->says = a->says || has_digit(value);
		}
		read_number(a, name, value);
		e = buf_addf(&body, "%s\"%.*s\":", body.len ? "," : "", (int)name.len, name.at);
		e = e ? e : buf_put(&body, value);
	}
	if (!e)
		e = scan_ended(&s) && is_answer ? answer_add(a, PIECE_BODY, buf_slice(&body)) : ERR_UPSTREAM_BABBLE;
	a->whole = !e;
	buf_fini(&body);
	return e;
}

enum err ollama_read_line(struct answer *a, enum family family, struct slice line)
{
	return family == FAMILY_CHAT || family == FAMILY_GENERATE ? read_generation(a, line) : read_embedding(a, line);
}

/* ---- writing ---- */

void reply_style_now(struct reply_style *style)
{
	/* the text of a second is made once a thread, not once a line */
	static _Thread_local struct { time_t second; size_t len; char text[24]; } made;
	struct timespec now;
	char *to = style->created_at;
	long left;

	clock_gettime(CLOCK_REALTIME, &now);
	if (made.len == 0 || now.tv_sec != made.second) {
		struct tm t;
		gmtime_r(&now.tv_sec, &t);
		made.len = strftime(made.text, sizeof made.text, "%Y-%m-%dT%H:%M:%S", &t);
		made.second = now.tv_sec;
	}
	memcpy(to, made.text, made.len);
	to += made.len;
	if (now.tv_nsec) {
		*to++ = '.';
		/* nine digits from the left; Go cuts trailing zeros */
		for (left = now.tv_nsec; left; left = left % 100000000 * 10)
			*to++ = (char)('0' + left / 100000000);
	}
	*to++ = 'Z';
	*to = '\0';
}

/* Text or array items gathered from several pieces, without copying them yet. */
struct gathered {
	struct slice part[LINE_SLICES];
	size_t n, bytes;
};

static bool gather(struct gathered *g, struct slice s)
{
	if (g->n == LINE_SLICES)
		return false;
	g->part[g->n++] = s;
	g->bytes += s.len;
	return true;
}

static enum err put_gathered(struct buf *out, const struct gathered *g, const char *between)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < g->n && !e; i++) {
		if (i)
			e = buf_add(out, between, strlen(between));
		e = e ? e : buf_put(out, g->part[i]);
	}
	return e;
}

/* {"model":…, */
static enum err put_model(struct buf *out, const struct reply_style *style)
{
	enum err e = buf_add(out, "{", 1);

	if (style->has_model) {
		e = e ? e : buf_put(out, SLICE("\"model\":\""));
		e = e ? e : buf_put(out, style->model);
		e = e ? e : buf_put(out, SLICE("\","));
	}
	return e;
}

/* {"model":…,"created_at":…, */
static enum err put_head(struct buf *out, const struct reply_style *style)
{
	enum err e = put_model(out, style);

	e = e ? e : buf_put(out, SLICE("\"created_at\":\""));
	e = e ? e : buf_put(out, slice_text(style->created_at));
	return e ? e : buf_put(out, SLICE("\","));
}

/* The text part of an object, as the family writes it: `response` or `message`, a comma behind it. */
static enum err put_message(struct buf *out, enum family family, const struct gathered *content, const struct gathered *thinking,
                            const struct gathered *tool_calls, const struct gathered *fields)
{
	bool chat = family == FAMILY_CHAT;
	enum err e = buf_put(out, chat ? SLICE("\"message\":{\"role\":\"assistant\",\"content\":\"") : SLICE("\"response\":\""));

	e = e ? e : put_gathered(out, content, "");
	e = e ? e : buf_add(out, "\"", 1);
	if (!e && thinking->n) {
		e = buf_put(out, SLICE(",\"thinking\":\""));
		e = e ? e : put_gathered(out, thinking, "");
		e = e ? e : buf_add(out, "\"", 1);
	}
	if (!e && tool_calls->n) {
		e = buf_put(out, SLICE(",\"tool_calls\":["));
		e = e ? e : put_gathered(out, tool_calls, ",");
		e = e ? e : buf_add(out, "]", 1);
	}
	if (!e && fields->n) {
		e = buf_add(out, ",", 1);
		e = e ? e : put_gathered(out, fields, ",");
	}
	return e ? e : (chat ? buf_put(out, SLICE("},")) : buf_add(out, ",", 1));
}

static enum err put_logprobs(struct buf *out, const struct gathered *logprobs)
{
	if (!logprobs->n)
		return ERR_OK;
	enum err e = buf_put(out, SLICE(",\"logprobs\":["));
	e = e ? e : put_gathered(out, logprobs, ",");
	return e ? e : buf_add(out, "]", 1);
}

static enum err put_fields(struct buf *out, const struct gathered *fields)
{
	enum err e = put_gathered(out, fields, ",");

	return e || !fields->n ? e : buf_add(out, ",", 1);
}

static const struct gathered nothing;

static enum err put_last(struct buf *out, const struct reply_style *style, struct slice last)
{
	enum err e = put_head(out, style);

	e = e ? e : put_message(out, style->family, &nothing, &nothing, &nothing, &nothing);
	e = e ? e : buf_put(out, SLICE("\"done\":true"));
	if (!e && last.len) {
		e = buf_add(out, ",", 1);
		e = e ? e : buf_put(out, last);
	}
	return e ? e : buf_put(out, SLICE("}\n"));
}

bool ollama_write_line(const struct reply_style *style, struct slice pieces, size_t *at, struct buf *out, enum err *error)
{
	struct gathered content = { .n = 0 }, thinking = { .n = 0 }, tool_calls = { .n = 0 }, logprobs = { .n = 0 };
	struct gathered fields = { .n = 0 }, message_fields = { .n = 0 };
	enum piece_kind kind;
	struct slice bytes;
	size_t next = *at, taken = *at;
	bool full = false;

	*error = ERR_OK;
	while (!full && pieces_next(pieces, &next, &kind, &bytes)) {
		size_t so_far = content.bytes + thinking.bytes + logprobs.bytes;
		if (so_far && so_far + bytes.len > LINE_TEXT_MAX)
			break;
		switch (kind) {
		case PIECE_THINKING:
			/* thinking comes before content; a line holds both only in that order */
			full = content.n || tool_calls.n || !gather(&thinking, bytes);
			break;
		case PIECE_CONTENT:       full = thinking.n || tool_calls.n || !gather(&content, bytes); break;
		case PIECE_TOOL_CALLS:    full = !gather(&tool_calls, bytes); break;
		case PIECE_LOGPROBS:      full = !gather(&logprobs, bytes); break;
		case PIECE_FIELD:         full = !gather(&fields, bytes); break;
		case PIECE_MESSAGE_FIELD: full = !gather(&message_fields, bytes); break;
		case PIECE_LAST:
			if (taken == *at) {
				*at = next;
				*error = put_last(out, style, bytes);
				return true;
			}
			full = true;
			break;
		case PIECE_BODY:
		case PIECE_KINDS:
			break;
		}
		if (!full)
			taken = next;
	}
	if (taken == *at)
		return false;
	*at = taken;
	enum err e = put_head(out, style);
	e = e ? e : put_message(out, style->family, &content, style->family == FAMILY_CHAT ? &thinking : &nothing,
	                        style->family == FAMILY_CHAT ? &tool_calls : &nothing, &message_fields);
	if (!e && style->family == FAMILY_GENERATE && thinking.n) {
		e = buf_put(out, SLICE("\"thinking\":\""));
		e = e ? e : put_gathered(out, &thinking, "");
		e = e ? e : buf_put(out, SLICE("\","));
	}
	e = e ? e : put_fields(out, &fields);
	e = e ? e : buf_put(out, SLICE("\"done\":false"));
	e = e ? e : put_logprobs(out, &logprobs);
	*error = e ? e : buf_put(out, SLICE("}\n"));
	return true;
}

/* Appends all pieces of one kind; before, between and after only if there are any. */
static enum err put_all(struct buf *out, struct slice pieces, enum piece_kind kind, const char *before, const char *between,
                        const char *after)
{
	enum piece_kind k;
	struct slice bytes;
	size_t at = 0, n = 0;
	enum err e = ERR_OK;

	while (!e && pieces_next(pieces, &at, &k, &bytes)) {
		if (k != kind)
			continue;
		const char *sep = n++ ? between : before;
		e = buf_add(out, sep, strlen(sep));
		e = e ? e : buf_put(out, bytes);
	}
	return e || !n ? e : buf_add(out, after, strlen(after));
}

static bool is_embedding(enum family family)
{
	return family == FAMILY_EMBED || family == FAMILY_EMBEDDINGS;
}

enum err ollama_write_whole_head(const struct reply_style *style, struct buf *out)
{
	return is_embedding(style->family) ? put_model(out, style) : put_head(out, style);
}

enum err ollama_write_whole_rest(enum family family, struct slice pieces, struct buf *out)
{
	enum err e;

	if (is_embedding(family)) {
		e = put_all(out, pieces, PIECE_BODY, "", ",", "");
		return e ? e : buf_add(out, "}", 1);
	}
	bool chat = family == FAMILY_CHAT;
	e = buf_put(out, chat ? SLICE("\"message\":{\"role\":\"assistant\",\"content\":\"") : SLICE("\"response\":\""));
	e = e ? e : put_all(out, pieces, PIECE_CONTENT, "", "", "");
	e = e ? e : buf_add(out, "\"", 1);
	e = e ? e : put_all(out, pieces, PIECE_THINKING, ",\"thinking\":\"", "", "\"");
	if (chat) {
		e = e ? e : put_all(out, pieces, PIECE_TOOL_CALLS, ",\"tool_calls\":[", ",", "]");
		e = e ? e : put_all(out, pieces, PIECE_MESSAGE_FIELD, ",", ",", "");
		e = e ? e : buf_add(out, "}", 1);
	}
	e = e ? e : put_all(out, pieces, PIECE_FIELD, ",", ",", "");
	e = e ? e : buf_put(out, SLICE(",\"done\":true"));
	e = e ? e : put_all(out, pieces, PIECE_LAST, ",", ",", "");
	e = e ? e : put_all(out, pieces, PIECE_LOGPROBS, ",\"logprobs\":[", ",", "]");
	return e ? e : buf_add(out, "}", 1);
}

enum err ollama_write_empty(const struct reply_style *style, struct buf *out)
{
	enum err e = put_head(out, style);

	e = e ? e : put_message(out, style->family, &nothing, &nothing, &nothing, &nothing);
	return e ? e : buf_put(out, SLICE("\"done\":false}\n"));
}

enum err ollama_write_error(struct slice message, struct buf *out)
{
	enum err e = buf_put(out, SLICE("{\"error\":\""));

	e = e ? e : buf_put_json(out, message);
	return e ? e : buf_put(out, SLICE("\"}"));
}
