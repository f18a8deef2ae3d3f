/* uses: proxy/base/buf.c proxy/base/err.c */
/* libs: -ljansson */
/* test_log.c - lines of the log: one a call, whatever a stranger put into it, in both formats. Written into a file in
 * memory and read back; JSON by jansson, so that it is JSON and not just looks like it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/mman.h>

#include "proxy/base/log.c"

static char logged[1 << 20];

static int start(void **state)
{
	(void)state;
	log_fd = memfd_create("log", MFD_CLOEXEC);
	log_setup(LOG_INFO, false);
	return log_fd < 0 || fcntl(log_fd, F_SETFL, O_APPEND);      /* or two threads' writes may land on one place */
}

static int stop(void **state)
{
	(void)state;
	return close(log_fd);
}

/* What was written so far, and from here on nothing. */
static const char *read_back(void)
{
	ssize_t n = pread(log_fd, logged, sizeof logged - 1, 0);

	assert_true(n >= 0);
	logged[n] = 0;
	assert_int_equal(ftruncate(log_fd, 0), 0);
	assert_int_equal(lseek(log_fd, 0, SEEK_SET), 0);
	return logged;
}

/* One line of text format without its time, which must look like one. */
static const char *line_text(void)
{
	static const char time_like[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
	const char *line = read_back();

	for (size_t i = 0; time_like[i]; i++)
		assert_true(time_like[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == time_like[i]);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);      /* one newline, at the end */
	logged[strlen(logged) - 1] = 0;
	return line + sizeof time_like - 1;
}

static json_t *line_json(void)
{
	const char *line = read_back();
	json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(o);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	return o;
}

#define assert_field(o, key, text) assert_string_equal(json_string_value(json_object_get(o, key)), text)

static void free_text_has_level_and_component(void **state)
{
	(void)state;
	log_line(LOG_WARN, "upstream", "%s is down for %d s", "http://a", 3);
	assert_string_equal(line_text(), "warn  upstream: http://a is down for 3 s");
	log_line(LOG_INFO, "state", "%s", "total{kind=\"a\"} 5 \\ \n");     /* quotes end nothing here: they stay readable */
	assert_string_equal(line_text(), "info  state: total{kind=\"a\"} 5 \\\\ \\n");
	log_setup(LOG_INFO, true);
	log_line(LOG_ERROR, "store", "cannot \"write\"");
	json_t *o = line_json();
	assert_field(o, "level", "error");
	assert_field(o, "component", "store");
	assert_field(o, "message", "cannot \"write\"");
	assert_int_equal(strlen(json_string_value(json_object_get(o, "time"))), strlen("2026-01-02T03:04:05.678Z"));
	json_decref(o);
}

static void a_level_that_is_off_costs_no_arguments(void **state)
{
	int looked = 0;
	struct log_entry e;

	(void)state;
	log_line(LOG_DEBUG, "cache", "%d", ++looked);
	assert_int_equal(looked, 0);
	log_begin(&e, LOG_DEBUG, "cache");
	log_text(&e, "a", SLICE("b"));
	log_int(&e, "n", 1);
	log_end(&e);
	assert_string_equal(read_back(), "");
	log_setup(LOG_DEBUG, false);
	log_line(LOG_DEBUG, "cache", "%d", ++looked);
	assert_string_equal(line_text(), "debug cache: 1");
	log_setup(LOG_ERROR, false);
	log_line(LOG_WARN, "cache", "quiet");
	assert_string_equal(read_back(), "");
}

static void put_fields(struct log_entry *e)
{
	log_begin(e, LOG_INFO, "request");
	log_text(e, "client", SLICE("127.0.0.1"));
	log_text(e, "model", SLICE("llama 3"));
	log_text(e, "none", SLICE(""));
	log_int(e, "bytes", -42);
	log_real(e, "similarity", 0.8333);
	log_real(e, "odd", 0.0 / 0.0);
	log_flag(e, "stream", true);
	log_ms(e, "lookup_ms", 1234);
	log_end(e);
}

static void fields_are_named_in_both_formats(void **state)
{
	struct log_entry e;

	(void)state;
	put_fields(&e);
	assert_string_equal(line_text(), "info  request: client=127.0.0.1 model=\"llama 3\" none=\"\" bytes=-42 "
					 "similarity=0.833 odd=null stream=true lookup_ms=1.234");
	log_setup(LOG_INFO, true);
	put_fields(&e);
	json_t *o = line_json();
	assert_int_equal(json_object_size(o), 3 + 8);
	assert_field(o, "client", "127.0.0.1");
	assert_field(o, "model", "llama 3");
	assert_field(o, "none", "");
	assert_int_equal(json_integer_value(json_object_get(o, "bytes")), -42);
	assert_true(json_number_value(json_object_get(o, "similarity")) == 0.833);
	assert_true(json_is_null(json_object_get(o, "odd")));
	assert_true(json_is_true(json_object_get(o, "stream")));
	assert_true(json_number_value(json_object_get(o, "lookup_ms")) == 1.234);
	json_decref(o);
}

/* Newlines, terminal escapes, fields of one's own, direction marks: CWE-117 and its friends. */
static void a_stranger_can_neither_end_the_line_nor_steer_the_terminal(void **state)
{
	static const struct { struct slice value; const char *shown, *decoded; } cases[] = {
		{ SLICE("a\n2026-01-01T00:00:00.000Z error x: y"), "\"a\\n2026-01-01T00:00:00.000Z error x: y\"", NULL },
		{ SLICE("a b=c"), "\"a b=c\"", NULL },
		{ SLICE("a=b"), "\"a=b\"", NULL },
		{ SLICE("say \"hi\" \\"), "\"say \\\"hi\\\" \\\\\"", NULL },
		{ SLICE("\x1b[31mred"), "\"\\u001b[31mred\"", NULL },
		{ SLICE("\r\t\x7f"), "\"\\r\\t\\u007f\"", NULL },
		{ SLICE("\xc2\x9b" "31m"), "\"\\u009b31m\"", NULL },                  /* CSI in one character */
		{ SLICE("\xe2\x80\xae" "gpj.exe"), "\"\\u202egpj.exe\"", NULL },      /* right to left */
		{ SLICE("\xe2\x80\xa8x"), "\"\\u2028x\"", NULL },                     /* line separator */
		{ SLICE("Які факультети"), "\"Які факультети\"", NULL },
		{ SLICE("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"", NULL },
		{ SLICE("\xff\xc3("), "\"\\xff\\xc3(\"", "\xef\xbf\xbd\xef\xbf\xbd(" },
		{ SLICE("\xc0\xaf"), "\"\\xc0\\xaf\"", "\xef\xbf\xbd\xef\xbf\xbd" },  /* overlong */
		{ SLICE("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },   /* surrogate */
		{ SLICE("\xe2\x80"), "\"\\xe2\\x80\"", "\xef\xbf\xbd\xef\xbf\xbd" },  /* cut short */
	};
	struct log_entry e;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char expected[200];
		log_setup(LOG_INFO, false);
		log_begin(&e, LOG_INFO, "request");
		log_text(&e, "q", cases[i].value);
		log_end(&e);
		snprintf(expected, sizeof expected, "info  request: q=%s", cases[i].shown);
		assert_string_equal(line_text(), expected);

		log_setup(LOG_INFO, true);
		log_begin(&e, LOG_INFO, "request");
		log_text(&e, "q", cases[i].value);
		log_end(&e);
		json_t *o = line_json();
		assert_int_equal(json_object_size(o), 4);
		assert_field(o, "q", cases[i].decoded ? cases[i].decoded : cases[i].value.at);
		json_decref(o);

		log_setup(LOG_INFO, false);
		log_line(LOG_INFO, "request", "%s", cases[i].value.at);
		line_text();
	}
}

static void no_control_character_gets_through(void **state)
{
	struct log_entry e;

	(void)state;
	for (int json = 0; json < 2; json++) {
		log_setup(LOG_INFO, json);
		for (int c = 0; c < 0x20; c++) {
			char byte = (char)c;
			log_begin(&e, LOG_INFO, "request");
			log_text(&e, "q", slice_of(&byte, 1));
			log_end(&e);
			const char *line = read_back();
			for (size_t i = 0; i + 1 < strlen(line); i++)
				assert_true((unsigned char)line[i] >= 0x20);
		}
	}
}

static void a_nul_in_a_value_is_shown(void **state)
{
	struct log_entry e;

	(void)state;
	log_begin(&e, LOG_INFO, "request");
	log_text(&e, "q", slice_of("a\0b", 3));
	log_end(&e);
	assert_string_equal(line_text(), "info  request: q=\"a\\u0000b\"");
}

static void values_are_cut_between_characters(void **state)
{
	char value[LOG_VALUE_MAX + 3], expected[LOG_VALUE_MAX + 64];
	struct log_entry e;

	(void)state;
	memset(value, 'a', sizeof value);
	memcpy(value + LOG_VALUE_MAX - 1, "ї", 2);                        /* across the limit */
	log_begin(&e, LOG_INFO, "request");
	log_text(&e, "q", slice_of(value, sizeof value));
	log_end(&e);
	snprintf(expected, sizeof expected, "info  request: q=\"%.*s…\"", LOG_VALUE_MAX - 1, value);
	assert_string_equal(line_text(), expected);
	log_begin(&e, LOG_INFO, "request");
	log_text(&e, "q", slice_of(value, LOG_VALUE_MAX - 1));            /* as long as it may be */
	log_end(&e);
	snprintf(expected, sizeof expected, "info  request: q=%.*s", LOG_VALUE_MAX - 1, value);
	assert_string_equal(line_text(), expected);
}

/* Whatever does not fit, the line ends, and JSON is JSON. */
static void a_line_is_bounded_and_whole(void **state)
{
	char value[LOG_VALUE_MAX], key[16];
	struct log_entry e;

	(void)state;
	memset(value, 1, sizeof value);                                   /* six bytes each, escaped */
	for (int json = 0; json < 2; json++) {
		log_setup(LOG_INFO, json);
		log_begin(&e, LOG_INFO, "request");
		for (int i = 0; i < 100; i++) {
			snprintf(key, sizeof key, "k%d", i);
			log_text(&e, key, slice_of(value, sizeof value));
			log_int(&e, (snprintf(key, sizeof key, "n%d", i), key), i);
		}
		log_end(&e);
		if (json) {
			json_t *o = line_json();
			assert_true(json_is_true(json_object_get(o, "cut")));
			assert_non_null(json_object_get(o, "k1"));
			json_decref(o);
		} else {
			const char *line = line_text();
			assert_string_equal(line + strlen(line) - strlen(" cut=true"), " cut=true");
			assert_true(strlen(line) < LOG_LINE_MAX);
		}
	}
}

static void a_message_that_grows_when_escaped_is_cut_not_lost(void **state)
{
	char long_text[3 * LOG_MESSAGE_MAX];

	(void)state;
	memset(long_text, '\x1b', sizeof long_text - 1);
	memcpy(long_text, "begins ", 7);
	long_text[sizeof long_text - 1] = 0;
	for (int json = 0; json < 2; json++) {
		log_setup(LOG_INFO, json);
		log_line(LOG_INFO, "x", "%s", long_text);
		if (json) {
			json_t *o = line_json();
			const char *message = json_string_value(json_object_get(o, "message"));
			assert_true(!strncmp(message, "begins ", 7) && strlen(message) > 300);
			json_decref(o);
		} else {
			assert_int_equal(strncmp(line_text(), "info  x: begins \\u001b", 20), 0);
		}
	}
}

enum { WRITERS = 3, LINES = 300 };

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++) {
		struct log_entry e;
		log_begin(&e, LOG_INFO, "t");
		log_int(&e, "writer", *(int *)arg);
		log_int(&e, "line", i);
		log_text(&e, "pad", SLICE("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
		log_end(&e);
	}
	return NULL;
}

static void *change_setup(void *arg)
{
	(void)arg;
	for (int i = 0; i < LINES; i++)
		log_setup(i % 2 ? LOG_INFO : LOG_DEBUG, false);
	return NULL;
}

static void lines_of_two_threads_never_mix(void **state)
{
	pthread_t threads[WRITERS + 1];
	int numbers[WRITERS], next[WRITERS] = { 0 }, lines = 0;

	(void)state;
	for (int i = 0; i < WRITERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
	}
	assert_int_equal(pthread_create(&threads[WRITERS], NULL, change_setup, NULL), 0);
	for (int i = 0; i <= WRITERS; i++)
		pthread_join(threads[i], NULL);
	const char *at = read_back();
	for (; *at; at = strchr(at, '\n') + 1, lines++) {
		int writer, line;
		const char *fields = strstr(at, " info  t: ");
		assert_non_null(fields);
		assert_int_equal(sscanf(fields, " info  t: writer=%d line=%d pad=xxx", &writer, &line), 2);
		assert_in_range(writer, 0, WRITERS - 1);
		assert_int_equal(line, next[writer]++);
	}
	assert_int_equal(lines, WRITERS * LINES);
}

static void a_log_nobody_reads_is_no_reason_to_stop(void **state)
{
	int fd = log_fd;

	(void)state;
	log_fd = -1;
	log_line(LOG_ERROR, "x", "into nothing");
	log_fd = fd;
	assert_string_equal(read_back(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(free_text_has_level_and_component, start, stop),
		cmocka_unit_test_setup_teardown(a_level_that_is_off_costs_no_arguments, start, stop),
		cmocka_unit_test_setup_teardown(fields_are_named_in_both_formats, start, stop),
		cmocka_unit_test_setup_teardown(a_stranger_can_neither_end_the_line_nor_steer_the_terminal, start, stop),
		cmocka_unit_test_setup_teardown(no_control_character_gets_through, start, stop),
		cmocka_unit_test_setup_teardown(a_nul_in_a_value_is_shown, start, stop),
		cmocka_unit_test_setup_teardown(values_are_cut_between_characters, start, stop),
		cmocka_unit_test_setup_teardown(a_line_is_bounded_and_whole, start, stop),
		cmocka_unit_test_setup_teardown(a_message_that_grows_when_escaped_is_cut_not_lost, start, stop),
		cmocka_unit_test_setup_teardown(lines_of_two_threads_never_mix, start, stop),
		cmocka_unit_test_setup_teardown(a_log_nobody_reads_is_no_reason_to_stop, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
