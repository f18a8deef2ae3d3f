/* redis_url.h - where Redis is: redis.url taken apart. Owns its texts; redis_url_fini() frees them. */
#ifndef CACHE_REDIS_URL_H
#define CACHE_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REDIS_SENTINELS_MAX = 16 };

struct redis_host {
	char *name;                           /* of a host, or the path of a unix socket */
	uint16_t port;                        /* 0: a unix socket */
};

struct redis_url {
	struct redis_host hosts[REDIS_SENTINELS_MAX];
	size_t n_hosts;
	bool sentinels;                       /* hosts are Sentinels, who are asked for `master` */
	char *master, *user, *password;       /* NULL: none */
	unsigned db;
};

/* False: why says of redis.url what is wrong with it ("cannot be understood: …"); never with the password in it. */
bool redis_url_read(struct redis_url *u, const char *text, char *why, size_t len);
void redis_url_fini(struct redis_url *u);

#endif
