/* log.c - see log.h. A line is put together on the stack and leaves whole. */
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
static log_sink *_Atomic log_to;

void log_setup(enum log_level most, bool json)
{
	atomic_store_explicit(&log_json, json, memory_order_relaxed);
	atomic_store_explicit(&log_most, (int)most, memory_order_relaxed);
}

void log_redirect(log_sink *sink)
{
	atomic_store(&log_to, sink);
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

/* How many bytes at the front of s, of `room` at most, stand for themselves in every format. */
static size_t plain_run(struct slice s, size_t room)
{
	size_t n = 0;

	while (n < s.len && n < room && (unsigned char)s.at[n] >= ' ' && (unsigned char)s.at[n] < 0x7f && s.at[n] != '"' && s.at[n] != '\\')
		n++;
	return n;
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
		size_t room = sizeof e->line - TAIL_BYTES - e->len;
		size_t plain = plain_run(s, room > CHARACTER_ROOM ? room - CHARACTER_ROOM : 0);

		memcpy(e->line + e->len, s.at, plain);
		e->len += plain;
		s.at += plain;
		s.len -= plain;
		if (!s.len)
			break;
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

/* "2026-01-02T03:04:05", made once a second in each thread: a line costs less than its calendar would. */
static const char *date_of(time_t second)
{
	static _Thread_local char text[32];
	static _Thread_local time_t of = -1;
	struct tm utc;

	if (second != of && gmtime_r(&second, &utc)) {
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
		of = second;
	}
	return text;
}

void log_begin(struct log_entry *e, enum log_level level, const char *component)
{
	struct timespec now;

	e->on = log_on(level);
	e->cut = false;
	e->len = 0;
	if (!e->on)
		return;
	e->json = atomic_load_explicit(&log_json, memory_order_relaxed);
	e->level = level;
	clock_gettime(CLOCK_REALTIME, &now);
	e->us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	int ms = (int)(now.tv_nsec / 1000000);
	const char fraction[] = { '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', 0 };
	if (e->json)
		put_text(e, "{\"time\":\"");
	put_text(e, date_of(now.tv_sec));
	put_text(e, fraction);
	put_text(e, e->json ? "\",\"level\":\"" : " ");
	put_text(e, level_name[level]);
	if (e->json)
		put_text(e, "\",\"component\":\"");
	else
		put_text(e, strlen(level_name[level]) == 4 ? "  " : " ");    /* the components stand below each other */
	put_text(e, component);
	put_text(e, e->json ? "\"" : ":");
}

void log_text(struct log_entry *e, const char *key, struct slice value)
{
	if (!e->on || e->cut)
		return;
	bool quoted = e->json || value.len > LOG_VALUE_MAX || !bare(value);
	size_t before = open_field(e, key);
	if (quoted)
		put_text(e, "\"");
	put_escaped(e, value, LOG_VALUE_MAX, quoted);
	if (quoted)
		put_text(e, "\"");
	close_field(e, before);
}

enum { DIGITS = 24 };                   /* of any int64_t, a sign and an end */

/* The digits of value, written from the end of the room they have towards its front. */
static char *decimal(char *end, int64_t value)
{
	uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;

	*--end = 0;
	do
		*--end = (char)('0' + left % 10);
	while (left /= 10);
	if (value < 0)
		*--end = '-';
	return end;
}

void log_int(struct log_entry *e, const char *key, int64_t value)
{
	char number[DIGITS];

	put_field(e, key, decimal(number + sizeof number, value));
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
	char number[DIGITS + 4], *digits = decimal(number + DIGITS, microseconds / 1000);
	int part = (int)(microseconds < 0 ? -(microseconds % 1000) : microseconds % 1000);

	memcpy(number + DIGITS - 1, (char[]){ '.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10), 0 }, 5);
	put_field(e, key, digits);
}

/* Ends the line. put() has kept TAIL_BYTES back. */
static void close_line(struct log_entry *e)
{
	const char *tail = e->json ? e->cut ? ",\"cut\":true}\n" : "}\n" : e->cut ? " cut=true\n" : "\n";
	size_t len = strlen(tail);

	memcpy(e->line + e->len, tail, len);
	e->len += len;
}

static void send_line(struct log_entry *e)
{
	log_sink *sink = atomic_load_explicit(&log_to, memory_order_acquire);

	if (sink)
		sink(e->line, e->len, e->us, e->level == LOG_ERROR);
	else
		write_line(e->line, e->len);
	e->on = false;
}

void log_end(struct log_entry *e)
{
	if (!e->on)
		return;
	close_line(e);
	send_line(e);
}

static void compose(struct log_entry *e, enum log_level level, const char *component, const char *format, va_list args)
{
	char message[LOG_MESSAGE_MAX];
	int len = vsnprintf(message, sizeof message, format, args);

	log_begin(e, level, component);
	if (!e->on || len < 0) {
		e->on = false;
		return;
	}
	struct slice text = slice_of(message, (size_t)len < sizeof message ? (size_t)len : sizeof message - 1);
	size_t before = e->json ? open_field(e, "message") : e->len;
	put_text(e, e->json ? "\"" : " ");
	put_escaped(e, text, sizeof message, e->json);
	if (e->json)
		put_text(e, "\"");
	close_field(e, before);
	close_line(e);
}

void log_compose(struct log_entry *e, enum log_level level, const char *component, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	compose(e, level, component, format, args);
	va_end(args);
}

void log_write(enum log_level level, const char *component, const char *format, ...)
{
	struct log_entry e;
	va_list args;

	va_start(args, format);
	compose(&e, level, component, format, args);
	va_end(args);
	if (e.on)
		send_line(&e);
}
