/* uses: proxy/config.c proxy/config_value.c proxy/config_check.c proxy/own_address.c proxy/trust.c proxy/config_print.c proxy/base/arena.c proxy/base/buf.c proxy/base/err.c cache/redis_url.c */
/* libs: -lm -lnettle */
/* fuzz_config.c - configuration files: read, and if good printed and read again, which has to be good too. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proxy/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static const struct config *load(const void *bytes, size_t len)
{
	char path[64], name[] = "ollacache", c[] = "-c";
	char *argv[] = { name, c, path, NULL };
	enum config_action action;
	int fd = memfd_create("conf", 0);
	FILE *complaints = fopen("/dev/null", "w");

	check(fd >= 0 && complaints && write(fd, bytes, len) == (ssize_t)len);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	const struct config *config = config_load(3, argv, complaints, &action);
	fclose(complaints);
	close(fd);
	return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config *c = load(data, size);
	char *printed = NULL;
	size_t len = 0;

	if (!c)
		return 0;
	FILE *out = open_memstream(&printed, &len);
	check(out != NULL);
	config_print(out, c);
	fclose(out);
	if (!strstr(printed, "***")) {
		const struct config *again = load(printed, len);
		check(again != NULL && again->cache_ttl == c->cache_ttl && again->server_max_body == c->server_max_body);
		config_drop(again);
	}
	config_drop(c);
	free(printed);
	return 0;
}
