/* log.c - see log.h. A line is put together on the stack and leaves in one write(). */
#include "proxy/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Room kept back so that an entry can always be closed: `,"cut":true}` and a newline. */
enum { TAIL_BYTES = 16 };
/* Room for one more character: its escape, the sign that the rest was cut, a quote. */
enum { CHARACTER_ROOM = 16 };

static const char *const level_name[] = { "error", "warn", "info", "debug" };

_Atomic int log_most = LOG_INFO;
static _Atomic bool log_json = false;
static int log_fd = STDERR_FILENO;

void log_setup(enum log_level most, bool json)
{
	atomic_store_explicit(&log_json, json, memory_order_relaxed);
	atomic_store_explicit(&log_most, (int)most, memory_order_relaxed);
}

/* A line that cannot be written is lost: there is nowhere left to say so, and serving matters more. */
static void write_line(const char *line, size_t len)
{
	while (len) {
		ssize_t n = write(log_fd, line, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		line += n;
		len -= (size_t)n;
	}
}

static void put(struct log_entry *e, const char *bytes, size_t len)
{
	if (len > sizeof e->line - TAIL_BYTES - e->len) {
		e->cut = true;
		return;
	}
	memcpy(e->line + e->len, bytes, len);
	e->len += len;
}

static void put_text(struct log_entry *e, const char *text)
{
	put(e, text, strlen(text));
}

/* The length of the UTF-8 character at the front of s and its code point; 0 if the bytes are not one (RFC 3629). */
static size_t character(struct slice s, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *b = (const unsigned char *)s.at;
	size_t len = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;

	if (len == 0 || len > s.len)
		return 0;
	*code = len == 1 ? b[0] : b[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (b[i] >> 6 != 2)
			return 0;
		*code = *code << 6 | (b[i] & 0x3f);
	}
	return *code < least[len] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff) ? 0 : len;
}

/* Controls (C0, DEL, C1), line and paragraph separators, and what turns the direction of writing. */
static bool steers(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 || code == 0x200e ||
	       code == 0x200f || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

/* Appends at most `most` bytes of s and no more than fit, whole characters, escaped as the format asks. Where no quotes
 * stand around it, one inside means nothing and stays readable. */
static void put_escaped(struct log_entry *e, struct slice s, size_t most, bool quoted)
{
	size_t all = s.len;
	char escape[16];

	if (s.len > most) {
		s.len = most;
		while (s.len && (s.at[s.len] & 0xc0) == 0x80)     /* not in the middle of a character */
			s.len--;
	}
	bool cut = s.len < all;
	while (s.len) {
		uint32_t code = 0;
		size_t len = character(s, &code);

		if (sizeof e->line - TAIL_BYTES - e->len < CHARACTER_ROOM) {
			cut = true;
			break;
		}
		if (len == 0) {
			/* JSON has no way to hold a byte that is not a character */
			snprintf(escape, sizeof escape, e->json ? "\\ufffd" : "\\x%02x", (unsigned char)s.at[0]);
			put_text(e, escape);
			len = 1;
		} else if (code == '\n') {
			put_text(e, "\\n");
		} else if (code == '\t') {
			put_text(e, "\\t");
		} else if (code == '\r') {
			put_text(e, "\\r");
		} else if ((code == '"' && quoted) || code == '\\') {
			put(e, (char[]){ '\\', (char)code }, 2);
		} else if (steers(code)) {
			snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code);
			put_text(e, escape);
		} else {
			put(e, s.at, len);
		}
		s.at += len;
		s.len -= len;
	}
	if (cut)
		put_text(e, "…");
}

/* Bare values are those that cannot be taken for anything else: no spaces, quotes, escapes or equals signs. */
static bool bare(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.at[i] <= ' ' || (unsigned char)s.at[i] >= 0x7f || strchr("\"\\=", s.at[i]))
			return false;
	return s.len > 0;
}

/* Opens a field; what follows up to close_field() is kept whole or not at all. */
static size_t open_field(struct log_entry *e, const char *key)
{
	size_t before = e->len;

	if (e->json) {
		put_text(e, ",\"");
		put_text(e, key);
		put_text(e, "\":");
	} else {
		put_text(e, " ");
		put_text(e, key);
		put_text(e, "=");
	}
	return before;
}

static void close_field(struct log_entry *e, size_t before)
{
	if (e->cut)
		e->len = before;
}

static void put_field(struct log_entry *e, const char *key, const char *plain)
{
	if (!e->on || e->cut)
		return;
	size_t before = open_field(e, key);
	put_text(e, plain);
	close_field(e, before);
}

void log_begin(struct log_entry *e, enum log_level level, const char *component)
{
	struct timespec now;
	struct tm utc;
	char head[160], day[32];

	e->on = log_on(level);
	e->cut = false;
	e->len = 0;
	if (!e->on)
		return;
	e->json = atomic_load_explicit(&log_json, memory_order_relaxed);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(head, sizeof head,
		 e->json ? "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"component\":\"%.60s\"" : "%s.%03dZ %-5s %.60s:",
		 day, (int)(now.tv_nsec / 1000000), level_name[level], component);
	put_text(e, head);
}

void log_text(struct log_entry *e, const char *key, struct slice value)
{
	if (!e->on || e->cut)
		return;
	bool quoted = e->json || !bare(value);
	size_t before = open_field(e, key);
	if (quoted)
		put_text(e, "\"");
	put_escaped(e, value, LOG_VALUE_MAX, quoted);
	if (quoted)
		put_text(e, "\"");
	close_field(e, before);
}

void log_int(struct log_entry *e, const char *key, int64_t value)
{
	char number[32];

	snprintf(number, sizeof number, "%lld", (long long)value);
	put_field(e, key, number);
}

void log_real(struct log_entry *e, const char *key, double value)
{
	char number[32];

	/* neither infinities nor NaN are JSON, and a figure this large is a mistake */
	if (!(value > -1e15 && value < 1e15)) {
		put_field(e, key, "null");
		return;
	}
	snprintf(number, sizeof number, "%.3f", value);
	put_field(e, key, number);
}

void log_flag(struct log_entry *e, const char *key, bool value)
{
	put_field(e, key, value ? "true" : "false");
}

void log_ms(struct log_entry *e, const char *key, int64_t microseconds)
{
	log_real(e, key, (double)microseconds / 1000);
}

void log_end(struct log_entry *e)
{
	if (!e->on)
		return;
	const char *tail = e->json ? e->cut ? ",\"cut\":true}\n" : "}\n" : e->cut ? " cut=true\n" : "\n";
	size_t len = strlen(tail);
	memcpy(e->line + e->len, tail, len);           /* put() has kept TAIL_BYTES back */
	write_line(e->line, e->len + len);
	e->on = false;
}

void log_write(enum log_level level, const char *component, const char *format, ...)
{
	struct log_entry e;
	char message[LOG_MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(message, sizeof message, format, args);
	va_end(args);
	if (len < 0)
		return;
	log_begin(&e, level, component);
	if (!e.on)
		return;
	struct slice text = slice_of(message, (size_t)len < sizeof message ? (size_t)len : sizeof message - 1);
	size_t before = e.json ? open_field(&e, "message") : e.len;
	put_text(&e, e.json ? "\"" : " ");
	put_escaped(&e, text, sizeof message, e.json);
	if (e.json)
		put_text(&e, "\"");
	close_field(&e, before);
	log_end(&e);
}
