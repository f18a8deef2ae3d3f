/* start_report.h - what somebody who has just started the program wants to know, in a few lines of the log: where it
 * listens, which upstreams answer with how many models, where answers are kept, where the dashboard is.
 *
 * The first line leaves at once. The rest waits until every upstream has been asked, START_REPORT_MS at most.
 * Threads  the main thread. */
#ifndef PROXY_START_REPORT_H
#define PROXY_START_REPORT_H

#include "proxy/listen.h"
#include "proxy/worker.h"

enum { START_REPORT_MS = 3000, START_REPORT_LOOK_MS = 20 };

void start_report_listening(const struct config *c, const struct listening *l, size_t workers);

/* Tells the rest if it can be told now, or if `late`. False: it is to be called again. */
bool start_report_rest(const struct shared *s, const struct config *c, const struct listening *l, bool late);

#endif
