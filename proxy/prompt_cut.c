/* prompt_cut.c - see prompt_cut.h.
 *
 * Characters a token: in prose about 4.5 of English (5.3 is the most in any recorded reply), 2 to 4 of Ukrainian, 1 to 2 of
 * Chinese or Japanese, for vocabularies from 32,000 to 256,000 tokens. Half as much again is allowed for: 8, 5 and 3. Runs of
 * one character - indentation, rules, dots - have tokens of their own and count as one. Ollama cuts a prompt to about half of the
 * context (1,027 of 2,048 tokens, recorded), which is then 9 characters of English a token, or 35 when the prompt was far too
 * long; older engines cut to the context's size. */
#include "proxy/prompt_cut.h"

#include "proxy/base/scan.h"

enum { ASCII_A_TOKEN = 8, TWO_BYTES_A_TOKEN = 5, MORE_BYTES_A_TOKEN = 3, TOKENS_SLACK = 32 };

struct letters { uint64_t ascii, two, more, looked; };

/* The inside of a JSON string in canonical form: one character, an escape or UTF-8, at a time. */
static void count_letters(struct letters *n, struct slice text)
{
	uint32_t before = 0;

	for (size_t i = 0; i < text.len && n->looked < PROMPT_LOOK_MAX; ) {
		uint32_t c = (unsigned char)text.at[i];
		size_t len = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
		bool escaped = c == '\\';
		if (escaped)
			len = json_escape_read(slice_of(text.at + i, text.len - i), &c);
		if (escaped ? c < 0x80 : len == 1)
			n->ascii += c != before;
		else if (escaped ? c < 0x800 : len == 2)
			n->two++;
		else
			n->more++;
		before = c;
		i += len ? len : 1;
		n->looked += len;
	}
}

static void count_text(struct letters *n, struct slice value)
{
	if (scan_is_text(value))
		count_letters(n, scan_inside(value));
}

static void count_messages(struct letters *n, struct slice list)
{
	struct slice message, name, value;
	struct scan items, fields;

	for (scan_items_init(&items, list); scan_item(&items, &message); )
		for (scan_init(&fields, message); scan_next(&fields, &name, &value); )
			if (slice_is(name, SLICE("content")))
				count_text(n, value);
}

static uint64_t num_ctx_of(struct slice options)
{
	struct slice name, value;
	struct scan s;
	uint64_t n = 0;

	for (scan_init(&s, options); scan_next(&s, &name, &value); )
		if (slice_is(name, SLICE("num_ctx")) && !slice_number(value, UINT32_MAX, &n))
			n = 0;
	return n;
}

struct prompt_size prompt_size_of(struct slice canonical)
{
	struct prompt_size size = { 0 };
	struct letters n = { 0 };
	struct slice name, value;
	struct scan s;

	for (scan_init(&s, canonical); scan_next(&s, &name, &value); ) {
		if (slice_is(name, SLICE("prompt")) || slice_is(name, SLICE("system")) || slice_is(name, SLICE("suffix")))
			count_text(&n, value);
		else if (slice_is(name, SLICE("messages")) && scan_is_array(value))
			count_messages(&n, value);
		else if (slice_is(name, SLICE("options")) && scan_is_object(value))
			size.num_ctx = num_ctx_of(value);
	}
	size.least_tokens = n.ascii / ASCII_A_TOKEN + n.two / TWO_BYTES_A_TOKEN + n.more / MORE_BYTES_A_TOKEN;
	return size;
}

bool prompt_was_cut(const struct prompt_size *size, uint64_t read, uint64_t context)
{
	if (read == 0)
		return false;
	if (size->least_tokens > read + TOKENS_SLACK)
		return true;
	/* A prompt that just fills the context leaves no room for an answer: it was made to fit. What is looked up may be the context of
	 * another time: more than that says nothing. */
	return read == context || (size->num_ctx && read >= size->num_ctx);
}
