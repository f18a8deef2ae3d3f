/* canonical.h - JSON in one form: the same bytes for whatever is the same to a reader.
 *
 * The form has no space; text in UTF-8 with only the escapes it cannot do without; numbers by value (0, 0.0 and -0 are one,
 * 1e2 is 100, 0.5 is 5e-1). Fields and items keep their order: putting fields in an order of his own is up to the caller.
 *
 * Reading is strict (RFC 8259), and stricter where readers of JSON differ, because a key made of what two of them read
 * differently would mix answers up: no name twice in one object, no NUL, no half of a surrogate pair, nothing that is not
 * UTF-8 (RFC 3629), no number beyond 64 bits or a double's range. jansson, which could do the reading, takes seven times
 * as long over a question, and every question waits for it (tests/fuzz/fuzz_ask.c holds the two against each other).
 *
 * Limits     SCAN_DEPTH levels of nesting, NAMES_MOST names an object (canonical.c), CANONICAL_NUMBER digits a number that is not whole; what is written may be
 *            CANONICAL_GROWTH times as long as what is read (1e18 in digits). */
#ifndef BASE_CANONICAL_H
#define BASE_CANONICAL_H

#include "proxy/base/buf.h"

enum { CANONICAL_NUMBER = 100, CANONICAL_GROWTH = 6 };

/* Appends the form of one JSON value, space around it allowed. Returns NULL, or what is wrong with it, in words that stay;
 * out is then as it was. *decimals: how many whole numbers were written otherwise than as digits (1.0, 1e2), which is
 * another thing to a reader who wants an integer. */
const char *canonical_write(struct slice json, struct buf *out, size_t *decimals);

#endif
