/* log.h - lines to stderr, for people or for machines: free text by component, and named fields for the one line
 * every request leaves.
 *
 * Format   text: `2026-01-02T03:04:05.678Z info  request: client=127.0.0.1 result=exact`. json: one object a line with
 *          time, level, component, then message or the fields.
 * Safety   whatever a stranger sent cannot end a line, open a field or steer a terminal: control characters, broken
 *          UTF-8 and characters that turn the direction of writing come out escaped (CWE-117).
 * Limits   a value is cut after LOG_VALUE_MAX bytes, a message after LOG_MESSAGE_MAX, fields that do not fit into
 *          LOG_LINE_MAX are left out and `cut=true` says so.
 * Threads  all; a line is one write(), or goes whole to where log_redirect() says, so lines of two threads never mix.
 *          log_setup() at any time. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proxy/base/buf.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum { LOG_LINE_MAX = 4096, LOG_MESSAGE_MAX = 2048, LOG_VALUE_MAX = 256 };

/* Which lines are written from now on, and how. Before the first call: LOG_INFO, text. */
void log_setup(enum log_level most, bool json);

/* Where whole lines go, each with its newline and its time in microseconds since 1970, in place of standard error; NULL:
 * back to that. at_once: it should not wait for others. */
typedef void log_sink(const char *line, size_t len, int64_t us, bool at_once);
void log_redirect(log_sink *sink);

extern _Atomic int log_most;

static inline bool log_on(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_most, memory_order_relaxed);
}

/* One line of free text; arguments are not looked at when the level is off. component is a constant of ours. */
#define log_line(level, ...) (log_on(level) ? log_write(level, __VA_ARGS__) : (void)0)
void log_write(enum log_level level, const char *component, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A line of fields: log_begin(), any of the others, log_end() writes it. Keys are constants of ours. */
struct log_entry {
	bool on, json, cut;
	enum log_level level;
	int64_t us;
	size_t len;
	char line[LOG_LINE_MAX];
};

void log_begin(struct log_entry *e, enum log_level level, const char *component);
void log_text(struct log_entry *e, const char *key, struct slice value);
void log_int(struct log_entry *e, const char *key, int64_t value);
void log_real(struct log_entry *e, const char *key, double value);      /* three decimals */
void log_flag(struct log_entry *e, const char *key, bool value);
void log_ms(struct log_entry *e, const char *key, int64_t microseconds); /* in milliseconds, three decimals */
void log_end(struct log_entry *e);

/* Only makes the line that log_write() would write: e->line, e->len. */
void log_compose(struct log_entry *e, enum log_level level, const char *component, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
