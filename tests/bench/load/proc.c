/* proc.c - see proc.h. */
#include "tests/bench/load/proc.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int parent_of(int pid)
{
	char path[64], line[512], *p;
	int parent = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	if (fgets(line, sizeof line, f) && (p = strrchr(line, ')')) && sscanf(p + 1, " %*c %d", &parent) != 1)
		parent = 0;
	fclose(f);
	return parent;
}

struct family family_of(int pid)
{
	struct family f = { .n = 0 };
	DIR *d = opendir("/proc");
	struct dirent *e;

	if (pid > 0)
		f.pid[f.n++] = pid;
	/* Children have higher numbers than their parents except after a wrap: three passes reach grandchildren. */
	for (int pass = 0; d && pid > 0 && pass < 3; pass++) {
		rewinddir(d);
		while ((e = readdir(d)) && f.n < FAMILY) {
			int p = atoi(e->d_name), up = p > 0 ? parent_of(p) : 0, ours = 0, known = 0;
			for (int i = 0; up && i < f.n; i++) {
				ours |= f.pid[i] == up;
				known |= f.pid[i] == p;
			}
			if (ours && !known)
				f.pid[f.n++] = p;
		}
	}
	if (d)
		closedir(d);
	return f;
}

static int64_t ticks_ns(int pid)
{
	char path[64], line[512], *p;
	long long user = 0, sys = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	if (fgets(line, sizeof line, f) && (p = strrchr(line, ')')) &&
	    sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &sys) != 2)
		user = sys = 0;
	fclose(f);
	return (user + sys) * (1000000000 / sysconf(_SC_CLK_TCK));
}

static int64_t cpu_ns(int pid)
{
	char path[320];
	long long ns, total = 0;
	struct dirent *e;

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
		FILE *f = fopen(path, "r");
		if (f && fscanf(f, "%lld", &ns) == 1)
			total += ns;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return total ? total : ticks_ns(pid);
}

int64_t family_cpu_ns(const struct family *f)
{
	int64_t total = 0;

	for (int i = 0; i < f->n; i++)
		total += cpu_ns(f->pid[i]);
	return total;
}

double family_pss(const struct family *f)
{
	double total = 0, kib;
	char path[64], line[256];

	for (int i = 0; i < f->n; i++) {
		snprintf(path, sizeof path, "/proc/%d/smaps_rollup", f->pid[i]);
		FILE *in = fopen(path, "r");
		while (in && fgets(line, sizeof line, in))
			if (sscanf(line, "Pss: %lf", &kib) == 1)
				total += kib;
		if (in)
			fclose(in);
	}
	return total;
}
