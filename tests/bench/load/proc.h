/* proc.h - what a process costs: CPU and memory of it and its children, as the kernel counts them.
 *
 * CPU is the scheduler's nanoseconds of every thread (/proc/PID/task/TID/schedstat), where the kernel has them;
 * the clock ticks of /proc/PID/stat are too coarse for one request. Memory is the proportional set size. */
#ifndef BENCH_PROC_H
#define BENCH_PROC_H

#include <stdint.h>

enum { FAMILY = 64 };

struct family {
	int pid[FAMILY], n;
};

/* pid and all that descend from it, now. pid 0 is nobody. */
struct family family_of(int pid);
int64_t family_cpu_ns(const struct family *f);
/* KiB */
double family_pss(const struct family *f);

#endif
