/* log_writer.h - takes log lines off the threads that serve: a bounded ring each, one thread that writes.
 *
 * Between log_writer_start() and log_writer_stop() a line is copied into a ring and leaves with others in one write():
 * at once after a pause, else within LOG_BATCH_MS; an error does not wait. Lines keep their order in each thread, and
 * those of several threads that leave together are put in order by their time.
 *
 * Bounds   LOG_RING_BYTES a thread that called log_writer_join(), as much for all others together. A line that does not
 *          fit, or that cannot be written, is dropped and counted; once lines can be written again one says how many.
 * Waiting  nobody but the writer's own thread ever waits for whoever reads the log.
 * Crashes  on a signal that ends the process (abort, a fault) what lies in the rings is written as far as it can be
 *          without waiting.
 * Threads  start and stop: one at a time, while no other thread logs. log_writer_lost(): any. */
#ifndef BASE_LOG_WRITER_H
#define BASE_LOG_WRITER_H

#include <stdbool.h>
#include <stdint.h>

enum { LOG_RING_BYTES = 512 << 10, LOG_RINGS_MAX = 257, LOG_BATCH_MS = 20, LOG_LAST_MS = 500 };

/* Lines go to fd from now on. False: no thread, and lines are written as they were before. */
bool log_writer_start(int fd);

/* The calling thread gets a ring of its own, until log_writer_stop(). Without memory it shares the common one. */
void log_writer_join(void);

/* Writes what there is, for LOG_LAST_MS at most, and ends the thread. */
void log_writer_stop(void);

uint64_t log_writer_lost(void);          /* lines that were dropped since the start */

#endif
