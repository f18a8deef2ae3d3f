/* config_check.c - what bounds cannot say about a configuration: addresses, URLs, names, files, values that must fit
 * each other. Reads the files that options name, so that a reload takes all of them or none. */
#include "proxy/config_table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/redis_url.h"
#include "proxy/own_address.h"
#include "proxy/trust.h"

struct check {
	struct config *c;
	FILE *complaints;
	int mistakes;
};

/* Of a value that was refused already, and left a weaker one behind, nothing more is said. */
static bool refused(const struct check *k, enum config_id id)
{
	return k->c->refused[id];
}

#define wrong_id(k, id, ...) \
	((void)(refused(k, id) || (config_complain((k)->complaints, (k)->c, id, __VA_ARGS__), (k)->mistakes++)))
#define wrong(k, id, ...) wrong_id(k, CONFIG_ID_##id, __VA_ARGS__)
/* a and b do not go together */
#define wrong_pair(k, a, b, ...) \
	((void)(refused(k, CONFIG_ID_##b) || (wrong(k, a, __VA_ARGS__), 0)))

static bool only(const char *text, size_t len, const char *characters)
{
	return strspn(text, characters) >= len;
}

/* Letters, digits, dots, dashes, underscores: names and IPv4 numbers alike. */
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
/* of a URL's path (RFC 3986, 3.3) */
#define PATH_CHARACTERS NAME_CHARACTERS "/~!$&'()*+,;=:@%"
#define TOKEN_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"   /* RFC 9110, 5.6.2 */

/* HOST or [IPv6], its end in *end. */
static bool host(const char *text, struct slice *name, const char **end)
{
	struct in6_addr six;
	char number[INET6_ADDRSTRLEN];

	if (*text != '[') {
		size_t len = strspn(text, NAME_CHARACTERS);
		*name = slice_of(text, len);
		*end = text + len;
		return len > 0 && len < 256;
	}
	const char *close = strchr(text, ']');
	if (!close || (size_t)(close - text) > sizeof number)
		return false;
	*name = slice_of(text + 1, (size_t)(close - text - 1));
	memcpy(number, name->at, name->len);
	number[name->len] = 0;
	*end = close + 1;
	return inet_pton(AF_INET6, number, &six) == 1;
}

bool config_address(const char *entry, struct config_address *a)
{
	struct slice name;
	const char *end;
	uint64_t port;

	*a = (struct config_address){ 0 };
	if (!strncmp(entry, "unix:", 5)) {
		size_t len = strlen(entry + 5);
		if (len == 0 || len >= sizeof a->path)
			return false;
		a->is_unix = true;
		memcpy(a->path, entry + 5, len);
		return true;
	}
	if (!host(entry, &name, &end) || *end != ':' || !slice_number(slice_text(end + 1), UINT16_MAX, &port))
		return false;
	memcpy(a->host, name.at, name.len);
	a->port = (uint16_t)port;
	return true;
}

int config_mode(const char *text)
{
	char *end;
	long mode = strtol(text, &end, 8);

	return *end || text == end || strspn(text, "01234567") != strlen(text) || mode > 0777 ? -1 : (int)mode;
}

static bool has_twice(const struct config_list *list, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (!strcmp(list->at[i], list->at[j]))
			return true;
	return false;
}

static void check_listen(struct check *k, const struct config_list *list, enum config_id id)
{
	struct config_address a;

	for (size_t i = 0; i < list->n; i++) {
		if (!config_address(list->at[i], &a)) {
			wrong_id(k, id, "'%.120s' is not HOST:PORT, [IPv6]:PORT or unix:/PATH", list->at[i]);
		} else if (has_twice(list, i) && (a.is_unix || a.port)) {
			wrong_id(k, id, "'%.120s' is given twice", list->at[i]);
		}
	}
}

/* http(s)://HOST[:PORT][/PATH], its host and port in *a. */
static bool upstream(const char *url, struct config_address *a)
{
	bool tls = !strncmp(url, "https://", 8);
	const char *end;
	struct slice name;
	uint64_t port = tls ? 443 : 80;

	*a = (struct config_address){ 0 };
	if (!tls && strncmp(url, "http://", 7) != 0)
		return false;
	if (!host(strstr(url, "://") + 3, &name, &end))
		return false;
	if (*end == ':') {
		size_t digits = strspn(end + 1, "0123456789");
		if (!slice_number(slice_of(end + 1, digits), UINT16_MAX, &port) || port == 0)
			return false;
		end += 1 + digits;
	}
	memcpy(a->host, name.at, name.len);
	a->port = (uint16_t)port;
	return !*end || (*end == '/' && only(end, strlen(end), PATH_CHARACTERS) && !strstr(end, "/.") && !strstr(end, "//"));
}

static bool leads_back(const struct config_list *listen, const struct config_address *a)
{
	struct config_address own;

	for (size_t i = 0; i < listen->n; i++)
		if (config_address(listen->at[i], &own) && !own.is_unix && own_address(a, &own))
			return true;
	return false;
}

static void check_upstream(struct check *k)
{
	const struct config_list *list = &k->c->upstream_url_list;
	struct config_address a;

	if (list->n == 0)
		wrong(k, upstream_url, "must name at least one upstream");
	for (size_t i = 0; i < list->n; i++) {
		if (!upstream(list->at[i], &a))
			wrong(k, upstream_url, "'%.120s' is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]", list->at[i]);
		else if (has_twice(list, i))
			wrong(k, upstream_url, "'%.120s' is given twice", list->at[i]);
		else if (leads_back(&k->c->server_listen_list, &a) || leads_back(&k->c->admin_listen_list, &a))
			wrong(k, upstream_url, "'%.120s' is where this proxy itself listens; give the address of Ollama", list->at[i]);
	}
}

static void check_tls_ca(struct check *k)
{
	char why[CONFIG_WHY];

	if (k->c->upstream_tls_ca[0] && !trust_check(k->c->upstream_tls_ca, why, sizeof why))
		wrong(k, upstream_tls_ca, "%s", why);
}

/* A name or a number as it stands in a Host header, without the port; * is any run of characters. An IPv6 number has
 * several colons, a name with a port one. */
static bool host_pattern(const char *text)
{
	const char *colon = strchr(text, ':');

	return only(text, strlen(text), NAME_CHARACTERS "*:") && (!colon || strchr(colon + 1, ':'));
}

static void check_server(struct check *k)
{
	const struct config *c = k->c;

	if (c->server_listen_list.n == 0)
		wrong(k, server_listen, "must name at least one address");
	check_listen(k, &c->server_listen_list, CONFIG_ID_server_listen);
	check_listen(k, &c->admin_listen_list, CONFIG_ID_admin_listen);
	if (config_mode(c->server_socket_mode) < 0)
		wrong(k, server_socket_mode, "'%s' is not a mode such as 0660: three octal digits, with a 0 before them", c->server_socket_mode);
	for (size_t i = 0; i < c->server_allowed_hosts_list.n; i++)
		if (!host_pattern(c->server_allowed_hosts_list.at[i]))
			wrong(k, server_allowed_hosts, "'%.120s' is not a host's name: without a scheme, a port or a path, such as chat.example",
			      c->server_allowed_hosts_list.at[i]);
	for (size_t i = 0; i < c->server_origins_list.n; i++)
		if (!strchr(c->server_origins_list.at[i], '*') && !strstr(c->server_origins_list.at[i], "://"))
			wrong(k, server_origins, "'%.120s' has neither a scheme (https://…) nor a *",
			      c->server_origins_list.at[i]);
	if (c->server_max_body > c->server_max_buffered)
		wrong_pair(k, server_max_body, server_max_buffered, "is more than server.max_buffered, so that not one such body could be read");
}

static void check_cache(struct check *k)
{
	struct config *c = k->c;

	c->cache_scope_header = NULL;
	if (!strcmp(c->cache_scope, "authorization")) {
		c->cache_scope_kind = CONFIG_SCOPE_AUTHORIZATION;
	} else if (!strcmp(c->cache_scope, "shared")) {
		c->cache_scope_kind = CONFIG_SCOPE_SHARED;
	} else if (!strncmp(c->cache_scope, "header:", 7) && c->cache_scope[7] &&
		   only(c->cache_scope + 7, strlen(c->cache_scope + 7), TOKEN_CHARACTERS)) {
		c->cache_scope_kind = CONFIG_SCOPE_HEADER;
		c->cache_scope_header = c->cache_scope + 7;
	} else {
		wrong(k, cache_scope, "'%.120s' is none of authorization, shared, header:NAME", c->cache_scope);
	}
	if (c->cache_models_list.n == 0)
		wrong(k, cache_models, "must have at least one pattern; * means every model");
	for (size_t i = 0; i < c->cache_models_list.n; i++)
		if (!strcmp(c->cache_models_list.at[i], "!"))
			wrong(k, cache_models, "a ! needs the pattern it excludes right after it");
	if (c->cache_store == CONFIG_STORE_EMBEDDED && c->cache_max_entry > c->cache_max_size)
		wrong_pair(k, cache_max_entry, cache_max_size, "is more than cache.max_size, so that such an answer could not be kept");
}

static void check_redis(struct check *k)
{
	struct redis_url url;
	char why[256];

	/* by the store's own reader, so that it is refused here or not at all; not shown: there may be a password in it */
	if (redis_url_read(&url, k->c->redis_url, why, sizeof why))
		redis_url_fini(&url);
	else
		wrong(k, redis_url, "%s", why);
	if (strpbrk(k->c->redis_prefix, "{}* ?[]\\"))
		wrong(k, redis_prefix, "must not have spaces or any of {}*?[]\\ in it, which mean something to Redis");
}

static void check_semantic(struct check *k)
{
	const struct config_list *languages = &k->c->semantic_languages_list;
	struct stat st;

	if (languages->n == 0)
		wrong(k, semantic_languages, "must name at least one language");
	for (size_t i = 0; i < languages->n; i++) {
		size_t len = strlen(languages->at[i]);
		if (len < 2 || len > 3 || !only(languages->at[i], len, "abcdefghijklmnopqrstuvwxyz"))
			wrong(k, semantic_languages, "'%.60s' is not the code of a language such as uk or en",
			      languages->at[i]);
	}
	if (!k->c->semantic_stopwords[0])
		return;
	if (stat(k->c->semantic_stopwords, &st))
		wrong(k, semantic_stopwords, "%.400s: %s", k->c->semantic_stopwords, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		wrong(k, semantic_stopwords, "%.400s: is not a directory", k->c->semantic_stopwords);
}

static void check_complex(struct check *k)
{
	const struct config *c = k->c;

	if (c->complex_candidates > c->complex_max_candidates)
		wrong_pair(k, complex_candidates, complex_max_candidates, "is more than complex.max_candidates");
	if (c->complex_min_finished > c->complex_max_candidates)
		wrong_pair(k, complex_min_finished, complex_max_candidates, "is more than complex.max_candidates");
	for (size_t i = 0; i < c->complex_num_predicts_numbers.n; i++) {
		double n = c->complex_num_predicts_numbers.at[i];
		if ((double)(int64_t)n != n)         /* NOLINT: whole or not is the question */
			wrong(k, complex_num_predicts, "%g is not a whole number of tokens", n);
	}
}

static void check_scoring(struct check *k)
{
	const struct config *c = k->c;
	double all = c->scoring_weight_length + c->scoring_weight_keywords + c->scoring_weight_structure +
		     c->scoring_weight_forbidden + c->scoring_weight_agreement + c->scoring_weight_consensus +
		     c->scoring_weight_complete + c->scoring_weight_repetition;

	if (!(all > 0))
		wrong(k, scoring_weight_length, "all weights are 0: nothing is left to choose an answer by");
	if (c->scoring_length_min > c->scoring_length_max)
		wrong_pair(k, scoring_length_min, scoring_length_max, "is more than scoring.length_max");
}

/* Printable ASCII without spaces: what fits behind "Bearer " without a way to write it wrong. */
static void check_admin(struct check *k)
{
	for (const char *t = k->c->admin_token; *t; t++) {
		if (*t <= ' ' || *t > '~') {
			wrong(k, admin_token, "must be printable ASCII without spaces");
			return;
		}
	}
}

static bool has_line(struct slice text)
{
	struct slice line;

	while (slice_next(&text, '\n', &line)) {
		line = slice_trim(line);
		if (line.len && line.at[0] != '#')
			return true;
	}
	return false;
}

static void read_files(struct check *k)
{
	for (size_t i = 0; i < CONFIG_IDS; i++) {
		const struct config_option *o = &config_table[i];
		struct slice *content = (void *)((char *)k->c + o->more);

		if (o->kind != KIND_FILE)
			continue;
		*content = (struct slice){ 0 };
		const char *path = config_text(k->c, o);
		if (!path[0])
			continue;
		content->at = config_read_file(k->c, path, &content->len);
		if (content->at && (i == CONFIG_ID_semantic_aliases || has_line(*content)))
			continue;
		if (content->at) {
			wrong_id(k, (enum config_id)i, "%.400s: has no line in it but comments", path);
			continue;
		}
		*content = (struct slice){ 0 };
		wrong_id(k, (enum config_id)i, "%.400s: %s", path, errno == EFBIG ? "is larger than 4 MiB" : strerror(errno));
	}
}

int config_check(struct config *c, FILE *complaints)
{
	struct check k = { .c = c, .complaints = complaints };

	check_server(&k);
	check_upstream(&k);
	check_tls_ca(&k);
	check_cache(&k);
	check_redis(&k);
	check_semantic(&k);
	check_complex(&k);
	check_scoring(&k);
	check_admin(&k);
	read_files(&k);
	return k.mistakes;
}
