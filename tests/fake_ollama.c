/* fake_ollama.c - an upstream for tests: speaks as a recorded Ollama does, in exact bytes, and misbehaves when
 * asked. Its parts are in tests/fake/, its manual is tests/fake/README.md. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/fake/fake.h"


static void on_stop(int sig)
{
	(void)sig;
	fake.stop = true;
}

static void port_write(const char *path)
{
	struct str tmp = { 0 };
	FILE *f;

	str_fmt(&tmp, "%s.tmp", path);
	f = fopen(tmp.at, "w");
	if (!f || fprintf(f, "%u\n", listener_port(false)) < 0 || fclose(f) || rename(tmp.at, path)) {
		perror(path);
		exit(2);
	}
	str_free(&tmp);
}

static const char usage[] =
	"usage: fake_ollama --listen HOST:PORT|unix:/path [option …]\n"
	"  --listen WHERE     where to serve; port 0 picks a free one\n"
	"  --control WHERE    a second place that serves /fake/… also while the first is down\n"
	"  --port-file FILE   write the port there once it listens\n"
	"  --play DIR         answer with the recordings of DIR (NAME.req, NAME.http)\n"
	"  --record FILE      append every finished request as a line of JSON\n"
	"  --always WORDS     directives (NAME=value …) that hold for every request, weaker than its own\n"
	"  --slots N          generations at once; the others queue without a byte (0: no limit)\n"
	"  --keep BYTES       how much of a body is kept and parsed (4 MiB)\n"
	"  --log N            how many requests the log keeps (20000)\n"
	"  --no-origin        do not judge Origin and Host\n";

int main(int argc, char **argv)
{
	const char *port_file = NULL;
	struct rlimit files = { 0 };
	bool listening = false;
	struct sigaction stop = { .sa_handler = on_stop };

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	fake.epoll = epoll_create1(EPOLL_CLOEXEC);
	models_default();
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		bool ok = true;

		if (!strcmp(name, "--no-origin")) {
			fake.check_origin = false;
			continue;
		}
		if (!value) {
			fputs(usage, stderr);
			return 1;
		}
		i++;
		if (!strcmp(name, "--listen"))
			ok = listening = listener_add(value, false);
		else if (!strcmp(name, "--control"))
			ok = listener_add(value, true);
		else if (!strcmp(name, "--port-file"))
			port_file = value;
		else if (!strcmp(name, "--play"))
			ok = play_load(value);
		else if (!strcmp(name, "--record"))
			fake.record = value;
		else if (!strcmp(name, "--always"))
			fake.always = value;
		else if (!strcmp(name, "--slots"))
			fake.slots = atol(value);
		else if (!strcmp(name, "--keep"))
			fake.keep_bytes = strtoull(value, NULL, 10);
		else if (!strcmp(name, "--log"))
			fake.log_max = strtoull(value, NULL, 10);
		else
			ok = false;
		if (!ok) {
			fprintf(stderr, "fake_ollama: %s %s\n%s", name, value, usage);
			return 1;
		}
	}
	if (!listening) {
		fputs(usage, stderr);
		return 1;
	}
	printf("fake_ollama: port %u\n", listener_port(false));
	fflush(stdout);
	if (port_file)
		port_write(port_file);
	fake_loop();
	return 0;
}
