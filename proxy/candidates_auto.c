/* candidates_auto.c - complex.auto: does a question look like one that several answers would serve better?
 *
 * By its length in characters, or by a marker of comparison, analysis or importance. A marker is a word or a phrase, folded,
 * found at the beginning of a word; one that ends in * takes any ending (inflected languages), any other only whole words. */
#include <stdlib.h>
#include <unicode/ucasemap.h>

#include "proxy/candidates.h"

enum { LOOKED_AT = 16 << 10, FOLDED_ROOM = 3 * LOOKED_AT, MARKER_MAX = 256 };

extern const char _binary_proxy_markers_txt_start[], _binary_proxy_markers_txt_end[];

/* Looks at no more of it than it takes to know. */
static bool longer_than(struct slice s, size_t most)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len && n <= most; i++)
		n += ((unsigned char)s.at[i] & 0xC0) != 0x80;
	return n > most;
}

static bool is_letter(unsigned char c)
{
	return c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'';
}

static size_t fold(struct slice s, char *to, size_t room)
{
	UErrorCode error = U_ZERO_ERROR;
	UCaseMap *map = ucasemap_open("", 0, &error);
	int32_t n = U_SUCCESS(error) ? ucasemap_utf8FoldCase(map, to, (int32_t)room, s.at, (int32_t)s.len, &error) : 0;

	ucasemap_close(map);
	return U_SUCCESS(error) && n > 0 ? (size_t)n : 0;
}

static bool found(struct slice text, struct slice marker)
{
	bool any_ending = marker.len && marker.at[marker.len - 1] == '*';
	const char *at = text.at, *end = text.at + text.len;

	marker.len -= any_ending;
	while (marker.len && (at = memmem(at, (size_t)(end - at), marker.at, marker.len))) {
		const char *after = at + marker.len;
		bool begins = at == text.at || !is_letter((unsigned char)at[-1]);
		bool ends = any_ending || after == end || !is_letter((unsigned char)*after);
		if (begins && ends)
			return true;
		at++;
	}
	return false;
}

bool candidates_auto(const struct exchange *x)
{
	const struct config *c = x->config;
	struct slice question = x->ask.question, rest, line;
	bool is = false;

	if (!c->complex_auto || question.len == 0)
		return false;
	if (longer_than(question, (size_t)c->complex_auto_min_chars))
		return true;
	if (question.len > LOOKED_AT)
		question.len = LOOKED_AT;
	char *text = malloc(FOLDED_ROOM), marker[MARKER_MAX];
	size_t len = text ? fold(question, text, FOLDED_ROOM) : 0;
	rest = c->complex_auto_markers_content.len ? c->complex_auto_markers_content
	     : slice_of(_binary_proxy_markers_txt_start, (size_t)(_binary_proxy_markers_txt_end - _binary_proxy_markers_txt_start));
	while (!is && len && slice_next(&rest, '\n', &line)) {
		if (line.len && line.at[line.len - 1] == '\r')
			line.len--;
		if (line.len == 0 || line.at[0] == '#')
			continue;
		size_t n = fold(line, marker, sizeof marker);
		is = n && found(slice_of(text, len), slice_of(marker, n));
	}
	free(text);
	return is;
}
