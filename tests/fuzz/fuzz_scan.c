/* uses: proxy/base/scan.c proxy/base/ask.c proxy/base/buf.c proxy/base/err.c */
/* libs: -ljansson */
/* fuzz_scan.c - objects as spans: whatever jansson takes for an object is one here too (down to SCAN_DEPTH), with the same
 * fields; text is cut where its parts decode to what it decodes to. */
#include <jansson.h>
#include <stdlib.h>

#include "proxy/base/ask.h"
#include "proxy/base/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static void cut(struct slice text)
{
	struct buf whole, parts;

	buf_init(&whole, 4 * text.len + 16);
	buf_init(&parts, 4 * text.len + 16);
	bool good = !json_decode_text(text, &whole);
	for (size_t most = 1; good && most < 15; most++) {
		parts.len = 0;
		for (struct slice rest = text; rest.len; ) {
			size_t n = scan_text_cut(rest, most);
			check(n > 0 && n <= rest.len && (n <= most || n <= 12 || ((unsigned char)rest.at[1] & 0xC0) == 0x80));
			check(!json_decode_text(slice_of(rest.at, n), &parts));
			rest = slice_of(rest.at + n, rest.len - n);
		}
		check(slice_is(buf_slice(&whole), buf_slice(&parts)));
	}
	buf_fini(&whole);
	buf_fini(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + !size);
	struct slice name, value;
	struct scan s;
	size_t n = 0;

	memcpy(copy, data, size);
	for (scan_init(&s, slice_of(copy, size)); scan_next(&s, &name, &value); n++) {
		check(name.at > copy && value.at + value.len <= copy + size && value.len > 0);
		if (scan_is_text(value))
			cut(scan_inside(value));
	}
	bool whole = scan_ended(&s);
	check(!(whole && s.bad));
	json_error_t error;
	/* jansson passes over a NUL behind a number */
	json_t *root = memchr(copy, '\0', size) ? NULL : json_loadb(copy, size, JSON_REJECT_DUPLICATES, &error);
	if (json_is_object(root) && error.position < SCAN_DEPTH)
		check(whole && n == json_object_size(root));
	json_decref(root);
	free(copy);
	return 0;
}
