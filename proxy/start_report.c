/* start_report.c - see start_report.h. */
#include "proxy/start_report.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/host_state.h"
#include "proxy/models.h"

enum { DESCRIPTORS_ASIDE = 128 };                /* store, log, listening, upstreams that are asked now and then */

void start_report_listening(const struct config *c, const struct listening *l, size_t workers)
{
	char from[300] = "built-in defaults", where[2000] = "";
	size_t at = 0;

	if (c->file)
		snprintf(from, sizeof from, "%.250s", c->file);
	for (size_t i = 0; i < l->n && at < sizeof where; i++)
		at += (size_t)snprintf(where + at, sizeof where - at, "%s%s%s", i ? ", " : "", l->text[i], l->admin[i] ? " (admin)" : "");
	log_line(LOG_INFO, "main", "ollacache %s (%s) listens on %s, %zu worker%s", OLLACACHE_VERSION, from, where, workers, workers == 1 ? "" : "s");
	if (!c->file && !access(CONFIG_USUAL_FILE, F_OK))
		log_line(LOG_INFO, "main", "%s in this directory is not read: -c %s does that", CONFIG_USUAL_FILE, CONFIG_USUAL_FILE);
	if (config_exposed(c))
		log_line(LOG_WARN, "config", "%s: everybody on this machine can read the secret in %s: " CONFIG_EXPOSED_ADVICE, c->file, config_exposed(c));
}

/* Whoever starts it for the first time has no Ollama running, or looks for it from inside a container. */
static void say_nobody_answers(const struct config *c)
{
	const struct config_list *urls = &c->upstream_url_list;

	if (!strcmp(c->upstream_url, config_default(CONFIG_ID_upstream_url)))
		log_line(LOG_WARN, "main", "no Ollama at %s: start it (`ollama serve`) or say where it is (upstream.url; in a container 127.0.0.1 is the "
		         "container itself); in the source's directory `make demo` shows everything without one", urls->at[0]);
	else
		log_line(LOG_WARN, "main", "no upstream answers: check that Ollama runs and that upstream.url%s is right (in a container 127.0.0.1 is the "
		         "container itself); stored answers are given meanwhile", urls->n == 1 ? "" : " (each of them)");
}

static void report_upstreams(const struct shared *s, const struct config *c)
{
	size_t up = 0, unknown = 0;

	for (size_t i = 0; i < hosts_count(s->hosts); i++) {
		const struct host_state state = host_state_of(s->hosts, i);
		size_t n = models_count(s->models, (int)i);

		up += state.up;
		unknown += state.cause == HOST_NOT_ASKED;
		if (state.up && n)
			log_line(LOG_INFO, "main", "upstream %s: %zu model%s", hosts_url(s->hosts, i), n, n == 1 ? "" : "s");
		else if (state.up)
			log_line(LOG_WARN, "main", "upstream %s: no models yet; `ollama pull llama3.2` gets one", hosts_url(s->hosts, i));
		else if (state.cause == HOST_NOT_ASKED)
			log_line(LOG_INFO, "main", "upstream %s: no answer so far", hosts_url(s->hosts, i));
	}
	if (!up && !unknown)
		say_nobody_answers(c);
}

static void report_store(const struct shared *s, const struct config *c)
{
	struct store_state state = s->store ? s->store->ops->state(s->store) : (struct store_state){ 0 };

	switch (c->cache_store) {
	case CONFIG_STORE_OFF:
		log_line(LOG_INFO, "main", "store: off, no answer is kept");
		break;
	case CONFIG_STORE_EMBEDDED:
		log_line(LOG_INFO, "main", "store: %s with %llu answer%s", c->cache_path, (unsigned long long)state.entries, state.entries == 1 ? "" : "s");
		break;
	case CONFIG_STORE_REDIS:
		if (state.up)
			log_line(LOG_INFO, "main", "store: Redis, connected");
		else
			log_line(LOG_WARN, "main", "store: Redis does not answer: until it does, no answer is kept or found; check redis.url");
		break;
	}
}

static void report_dashboard(const struct config *c, const struct listening *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const char *text = l->text[i];

		if (strncmp(text, "http://", 7) != 0 || (c->admin_listen_list.n && !l->admin[i]))
			continue;
		/* an address that stands for all is asked on this machine */
		const char *any = !strncmp(text + 7, "0.0.0.0:", 8) ? text + 14 : !strncmp(text + 7, "[::]:", 5) ? text + 11 : NULL;
		if (any)
			log_line(LOG_INFO, "main", "dashboard: http://localhost%s/ollacache/", any);
		else
			log_line(LOG_INFO, "main", "dashboard: %s/ollacache/", text);
		return;
	}
}

/* Told only where clients can really run into it: each connection is a descriptor, and one more while it is not a hit. */
static void report_descriptors(const struct config *c)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur != RLIM_INFINITY && (int64_t)r.rlim_cur < c->server_max_connections + DESCRIPTORS_ASIDE)
		log_line(LOG_WARN, "main", "at most %llu files may be open, too few for server.max_connections = %lld: raise the limit (`ulimit -n`, "
		         "LimitNOFILE=) or lower the option", (unsigned long long)r.rlim_cur, (long long)c->server_max_connections);
}

bool start_report_rest(const struct shared *s, const struct config *c, const struct listening *l, bool late)
{
	bool redis = c->cache_store == CONFIG_STORE_REDIS;

	for (size_t i = 0; i < hosts_count(s->hosts) && !late; i++)
		if (host_state_of(s->hosts, i).cause == HOST_NOT_ASKED)
			return false;
	if (redis && !late && !s->store->ops->state(s->store).up)
		return false;
	report_upstreams(s, c);
	report_store(s, c);
	report_dashboard(c, l);
	report_descriptors(c);
	return true;
}
