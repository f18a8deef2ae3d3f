/* health.c - see health.h. */
#include "proxy/health.h"

#include <curl/curl.h>
#include <string.h>

enum { HEALTH_SECONDS = 5 };

static size_t print(char *bytes, size_t size, size_t n, void *arg)
{
	return fwrite(bytes, size, n, arg) * size;
}

int health_ask(const struct config *c)
{
	const struct config_list *list = c->admin_listen_list.n ? &c->admin_listen_list : &c->server_listen_list;
	struct config_address a;
	char url[400];
	long status = 0;
	CURL *curl = curl_easy_init();

	if (!curl || !list->n || !config_address(list->at[0], &a))
		return 1;
	/* an instance that listens everywhere is asked on this machine */
	const char *host = a.is_unix ? "localhost" : !*a.host || !strcmp(a.host, "0.0.0.0") ? "127.0.0.1"
	                 : !strcmp(a.host, "::") ? "localhost" : a.host;
	snprintf(url, sizeof url, strchr(host, ':') ? "http://[%s]:%u/ollacache/health" : "http://%s:%u/ollacache/health", host,
	         a.is_unix ? 80 : a.port);
	if (a.is_unix)
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, a.path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)HEALTH_SECONDS);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, print);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, stdout);
	CURLcode code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	if (code != CURLE_OK)
		fprintf(stderr, "ollacache: %s: %s\n", url, curl_easy_strerror(code));
	return code == CURLE_OK && status == 200 ? 0 : 1;
}
