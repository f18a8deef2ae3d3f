/* uses: proxy/base/log.c proxy/base/log_writer.c proxy/base/buf.c proxy/base/err.c */
/* test_log_writer.c - lines that many threads hand over and one writes: whole, in order, and none waited for. The log is
 * a pipe that nobody reads until the test says so, a file that is full, or one that a dying process leaves behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/base/log_writer.h"

enum { WRITERS = 3, LINES = 400, PATIENCE_MS = 20000 };

static int ends[2];
static char *text;
static size_t len;

static int open_pipe(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	log_setup(LOG_INFO, false);
	text = NULL;
	len = 0;
	return pipe2(ends, O_CLOEXEC) || !log_writer_start(ends[1]);
}

static int close_pipe(void **state)
{
	(void)state;
	log_writer_stop();
	free(text);
	return close(ends[0]);
}

/* Appends what comes to `text` until `wanted` is in it, or, with NULL, until the other end is closed. */
static void read_until(const char *wanted)
{
	while (!wanted || !text || !strstr(text, wanted)) {
		struct pollfd p = { .fd = ends[0], .events = POLLIN };
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		text = realloc(text, len + 65537);
		assert_non_null(text);
		ssize_t n = read(ends[0], text + len, 65536);
		assert_true(n >= 0);
		len += (size_t)n;
		text[len] = 0;
		if (n == 0)
			return;
	}
}

/* Stops the writer and reads what is left. */
static void read_all(void)
{
	log_writer_stop();
	close(ends[1]);
	read_until(NULL);
}

static void *write_lines(void *arg)
{
	if (*(int *)arg)                          /* the first one uses the ring that all share */
		log_writer_join();
	for (int i = 0; i < LINES; i++)
		log_line(LOG_INFO, "t", "writer %d line %d %s", *(int *)arg, i, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	return NULL;
}

static void start_threads(pthread_t *threads, int *numbers)
{
	for (int i = 0; i < WRITERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
	}
}

static void every_line_of_every_thread_comes_whole_and_in_order(void **state)
{
	pthread_t threads[WRITERS];
	int numbers[WRITERS], next[WRITERS] = { 0 }, writer, line, all = 0;
	char last[32] = "";

	(void)state;
	start_threads(threads, numbers);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	read_until("writer 1 line 399");          /* by itself: nobody has stopped anything */
	read_all();
	for (const char *at = text; *at; at = strchr(at, '\n') + 1, all++) {
		assert_non_null(strchr(at, '\n'));
		assert_int_equal(sscanf(at + 24, " info  t: writer %d line %d xxx", &writer, &line), 2);
		assert_int_equal(line, next[writer]++);
		snprintf(last, sizeof last, "%.24s", at);
	}
	assert_int_equal(all, WRITERS * LINES);
	assert_int_equal(log_writer_lost(), 0);
}

/* The kind of all stalled readers: whoever logs goes on, whatever fits is kept, and what was lost is said. */
static void a_pipe_nobody_reads_holds_nobody_up_and_the_loss_is_told(void **state)
{
	char wide[LOG_MESSAGE_MAX];
	unsigned long long lost = 0;
	int number, next = -1, there = 0;

	(void)state;
	memset(wide, 'w', sizeof wide);
	wide[sizeof wide - 1] = 0;
	uint64_t before = log_writer_lost();
	for (int i = 0; i < 1000; i++)            /* two megabytes: more than the pipe and the ring hold */
		log_line(LOG_INFO, "t", "number %d %s", i, wide);
	assert_true(log_writer_lost() > before);
	lost = log_writer_lost() - before;
	read_until("lost: they");
	log_line(LOG_INFO, "t", "number 1000 after");
	read_until("number 1000 after");
	read_all();
	for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
		unsigned long long told;

		assert_non_null(strchr(at, '\n'));
		if (sscanf(at + 24, " warn  log: %llu log lines were lost", &told) == 1) {
			assert_int_equal(told, lost);
			continue;
		}
		assert_int_equal(sscanf(at + 24, " info  t: number %d ", &number), 1);
		assert_true(number > next);
		next = number;
		there++;
	}
	assert_int_equal((uint64_t)there + lost, 1001);
}

static void the_end_does_not_wait_for_a_reader(void **state)
{
	struct timespec began, now;

	(void)state;
	for (int i = 0; i < 20000; i++)
		log_line(LOG_INFO, "t", "number %d, which nobody will read", i);
	clock_gettime(CLOCK_MONOTONIC, &began);
	log_writer_stop();
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_true(now.tv_sec - began.tv_sec < PATIENCE_MS / 1000);
	/* the thread may still be about to give up the last lines: it ends once somebody reads */
	close(ends[1]);
}

static void a_reader_that_has_gone_is_survived(void **state)
{
	(void)state;
	uint64_t before = log_writer_lost();
	close(ends[0]);
	ends[0] = open("/dev/null", O_RDONLY);
	log_line(LOG_ERROR, "t", "into nothing");
	for (int i = 0; i < PATIENCE_MS && log_writer_lost() == before; i++)
		poll(NULL, 0, 1);
	assert_true(log_writer_lost() > before);
	log_writer_stop();
	close(ends[1]);
}

/* A disk that is full in the middle of a line, and has room again later. In a process of its own: the limit is. */
static void a_line_the_disk_had_no_room_for_ends_before_the_next_begins(void **state)
{
	char name[] = "/tmp/test_log_writer.XXXXXX", read_back[8192];
	int fd = mkstemp(name), status;

	(void)state;
	log_writer_stop();                        /* the fixture's; fork() takes no threads along */
	close(ends[1]);
	assert_true(fd >= 0);
	pid_t child = fork();
	if (child == 0) {
		const struct rlimit full = { 1000, RLIM_INFINITY }, more = { RLIM_INFINITY, RLIM_INFINITY };
		char wide[700];
		memset(wide, 'w', sizeof wide);
		wide[sizeof wide - 1] = 0;
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &full);
		if (!log_writer_start(fd))
			_exit(1);
		log_line(LOG_ERROR, "t", "first %s", wide);
		log_line(LOG_ERROR, "t", "second %s", wide);
		for (int i = 0; i < PATIENCE_MS && log_writer_lost() == 0; i++)
			poll(NULL, 0, 1);
		setrlimit(RLIMIT_FSIZE, &more);
		log_line(LOG_ERROR, "t", "third");
		log_writer_stop();
		_exit(log_writer_lost() == 1 ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	ssize_t n = pread(fd, read_back, sizeof read_back - 1, 0);
	assert_true(n > 1000);
	read_back[n] = 0;
	assert_non_null(strstr(read_back, "ww\n"));
	char *third = strstr(read_back, "t: third\n");
	assert_non_null(third);
	while (third > read_back && third[-1] != '\n')
		third--;
	assert_int_equal(strncmp(third, "20", 2), 0);      /* a line of its own */
	assert_non_null(strstr(read_back, "warn  log: 1 log line was lost"));
	close(fd);
	unlink(name);
}

static void die(int how)
{
	log_line(LOG_INFO, "t", "the first leaves at once");
	for (int i = 0; i < 100; i++)
		log_line(LOG_INFO, "t", "last words %d", i);
	if (how == SIGSEGV)
		raise(SIGSEGV);
	abort();
}

static void a_crash_leaves_the_last_lines(void **state)
{
	static const int how[] = { SIGABRT, SIGSEGV };

	(void)state;
	log_writer_stop();
	for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
		int status;
		pid_t child = fork();
		if (child == 0) {
			const struct rlimit no_core = { 0, 0 };
			setrlimit(RLIMIT_CORE, &no_core);
			signal(SIGABRT, SIG_DFL);             /* cmocka has handlers of its own */
			signal(SIGSEGV, SIG_DFL);
			if (!log_writer_start(ends[1]))
				_exit(1);
			die(how[i]);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), how[i]);
		len = 0;
		if (text)
			*text = 0;
		read_until("last words 99\n");
		assert_non_null(strstr(text, "last words 0\n"));
	}
	close(ends[1]);
}

static void it_starts_again_after_it_was_stopped(void **state)
{
	(void)state;
	log_writer_stop();
	assert_true(log_writer_start(ends[1]));
	log_writer_join();
	log_line(LOG_INFO, "t", "again");
	read_all();
	assert_non_null(strstr(text, "t: again\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_line_of_every_thread_comes_whole_and_in_order, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(a_pipe_nobody_reads_holds_nobody_up_and_the_loss_is_told, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(a_reader_that_has_gone_is_survived, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(a_line_the_disk_had_no_room_for_ends_before_the_next_begins, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(a_crash_leaves_the_last_lines, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(it_starts_again_after_it_was_stopped, open_pipe, close_pipe),
		/* the last, because its thread may outlive it */
		cmocka_unit_test_setup_teardown(the_end_does_not_wait_for_a_reader, open_pipe, close_pipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
