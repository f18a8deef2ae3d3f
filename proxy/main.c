/* main.c - the program: configuration, store, sockets, workers, signals.
 *
 * The main thread starts everything and then waits for signals, which are blocked in all other threads: TERM and INT
 * drain and end, HUP reads the configuration again, USR1 prints the state to the log. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/admin.h"
#include "proxy/base/log.h"
#include "proxy/base/log_writer.h"
#include "proxy/base/words.h"
#include "proxy/config_try.h"
#include "proxy/health.h"
#include "proxy/history.h"
#include "proxy/keep_alive.h"
#include "proxy/listen.h"
#include "proxy/recent.h"
#include "proxy/copies.h"
#include "proxy/start_report.h"
#include "proxy/worker.h"

enum { EXIT_BAD_CONFIG = 1, EXIT_CANNOT_START = 2, LOOK_AGAIN_MS = 100, AT_LAST_MS = 5000,
       TOLD_TWICE_US = 1000000 /* timeout(1) and service managers signal a process and its group: that is once */ };

static struct shared shared;
static const struct config *config;

static int fail(const char *why)
{
	fprintf(stderr, "ollacache: %s\n", why);
	return EXIT_CANNOT_START;
}

/* Descriptors 0 to 2 that are closed would be given to the store's files or to a socket, and log lines would be written
 * into them. Before anything else is opened. */
static void occupy_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			_exit(EXIT_CANNOT_START);
}

static void apply_log(const struct config *c)
{
	log_setup((enum log_level)c->log_level, c->log_format == CONFIG_FORMAT_JSON);
}

/* Tells the service manager, if there is one (sd_notify(3): one datagram to the socket it names). */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof at.sun_path)
		return;
	memcpy(at.sun_path, path, strlen(path));
	if (*path == '@')
		at.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&at, len) < 0)
		log_line(LOG_WARN, "main", "the service manager could not be told '%s'", state);
	close(fd);
}

/* Every connection is a descriptor, and so is every upstream's. Whether it was enough, the start report says. */
static void raise_descriptor_limit(const struct config *c)
{
	struct rlimit r;
	rlim_t wanted = (rlim_t)c->server_max_connections * 2 + 1024;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max == RLIM_INFINITY || wanted < r.rlim_max ? wanted : r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

static bool open_store(const struct config *c, char *why, size_t len)
{
	const struct store_redis_options redis = { .url = c->redis_url, .prefix = c->redis_prefix, .timeout_ms = c->redis_timeout,
	                                           .retry_ms = c->redis_retry };

	switch (c->cache_store) {
	case CONFIG_STORE_OFF:      return true;
	case CONFIG_STORE_EMBEDDED: shared.store = store_embedded_open(c->cache_path, c->cache_max_size, why, len); break;
	case CONFIG_STORE_REDIS:    shared.store = store_redis_open(&redis, why, len); break;
	}
	if (shared.store)
		shared.store->errors = &shared.store_errors;
	return shared.store != NULL;
}

/* Dictionaries take part of a second: requests are answered meanwhile, without the semantic tier. */
static void *load_dictionaries(void *arg)
{
	const struct config *c = arg;
	const struct lexicon_options o = {
		.languages = c->semantic_languages, .aliases = *c->semantic_aliases ? c->semantic_aliases : NULL,
		.stopwords = *c->semantic_stopwords ? c->semantic_stopwords : NULL,
	};
	char why[512];
	struct lexicon *l = lexicon_open(&o, why, sizeof why);

	if (!l) {
		log_line(LOG_ERROR, "semantic", "%s; going on without near questions", why);
	} else {
		struct slice rest = slice_text(lexicon_notes(l)), note;
		while (slice_next(&rest, '\n', &note))
			if (note.len)
				log_line(LOG_WARN, "semantic", "%.*s", (int)note.len, note.at);
	}
	atomic_store(&shared.lexicon, l);
	atomic_store(&shared.dictionaries_settled, true);
	config_drop(c);
	return NULL;
}

/* ---- signals ---- */

static void name_key(void *arg, const char *key)
{
	(void)arg;
	log_line(LOG_WARN, "config", "%s has changed and takes effect after a restart", key);
}

static void tell(size_t worker, struct worker_order order)
{
	struct worker_order *o = malloc(sizeof *o);

	if (!o)
		abort();                     /* a worker that never hears of the end would hold it up for ever */
	*o = order;
	worker_tell(shared.worker[worker], o);
}

static void reload(void)
{
	char *text = NULL;
	size_t len;
	FILE *complaints = open_memstream(&text, &len);
	struct config *fresh = complaints ? config_reload(config, complaints) : NULL;

	if (complaints)
		fclose(complaints);
	struct slice rest = slice_text(text), line;
	while (slice_next(&rest, '\n', &line))
		if (line.len)
			log_line(LOG_ERROR, "config", "%.*s", (int)line.len, line.at);
	free(text);
	if (!fresh) {
		log_line(LOG_ERROR, "config", "not read again: the old configuration stays in force");
		return;
	}
	config_restart_keys(fresh, name_key, NULL);
	apply_log(fresh);
	budget_limit(&shared.buffered, fresh->server_max_buffered);
	hosts_limit(shared.hosts, fresh->upstream_max_in_flight);
	for (size_t i = 0; i < shared.n_workers; i++) {
		tell(i, (struct worker_order){ .config = config_hold(fresh) });
	}
	config_drop(config);
	config = fresh;
	log_line(LOG_INFO, "config", "read again");
}

/* "name 0" or "name 0.000000": nothing to tell, but of a state (store_up, upstream_up). */
static bool ends_in_zero(struct slice line)
{
	const char *value = memrchr(line.at, ' ', line.len);

	return value && !memmem(line.at, line.len, "_up", 3) && strspn(value + 1, "0.") >= (size_t)(line.at + line.len - value - 1);
}

static void print_state(void)
{
	struct metrics *cells[WORKERS_MAX];
	struct metrics_upstream upstreams[HOSTS_MAX];
	struct metrics_extra extra;
	struct buf out;

	for (size_t i = 0; i < shared.n_workers; i++)
		cells[i] = &shared.worker[i]->metrics;
	admin_extra(&shared, &extra, upstreams);
	buf_init(&out, ADMIN_BODY_MAX);
	if (!metrics_prometheus(&out, cells, (int)shared.n_workers, &extra)) {
		struct slice rest = buf_slice(&out), line;
		while (slice_next(&rest, '\n', &line))
			if (line.len > 2 && line.at[0] != '#' && !memmem(line.at, line.len, "_bucket", 7) && !ends_in_zero(line))
				log_line(LOG_INFO, "state", "%.*s", (int)line.len, line.at);
	}
	log_line(LOG_INFO, "state", "flights %zu, connections %lld", flights_count(shared.flights),
	         (long long)atomic_load(&shared.connections));
	buf_fini(&out);
}

/* Whatever is still waited for then, a disk that does not answer or a server of names, is not waited for any longer. */
static void *end_at_last(void *arg)
{
	const int64_t *drain_ms = arg;
	const struct timespec wait = { .tv_sec = (*drain_ms + AT_LAST_MS) / 1000, .tv_nsec = *drain_ms % 1000 * 1000000 };

	while (nanosleep(&wait, NULL))
		;
	log_line(LOG_ERROR, "main", "stopping at once: something did not end within %d s after server.drain_timeout; what was not yet on disk is lost",
	         AT_LAST_MS / 1000);
	log_writer_stop();
	_exit(0);
}

static void drain(void)
{
	static int64_t drain_ms;
	pthread_t at_last;

	drain_ms = config->server_drain_timeout;
	if (!pthread_create(&at_last, NULL, end_at_last, &drain_ms))
		pthread_detach(at_last);

	log_line(LOG_INFO, "main", "stopping: answers on their way have %lld s to end (server.drain_timeout); a second signal ends at once",
	         (long long)(config->server_drain_timeout / 1000));
	notify("STOPPING=1");
	atomic_store(&shared.draining, true);
	for (size_t i = 0; i < shared.n_workers; i++) {
		tell(i, (struct worker_order){ .drain = true });
	}
}

static bool all_ended(void)
{
	for (size_t i = 0; i < shared.n_workers; i++)
		if (!worker_ended(shared.worker[i]))
			return false;
	return true;
}

static void watch_signals(const sigset_t *set, const struct listening *listening)
{
	bool draining = false, reported = false;
	int64_t told_us = 0, began_us = clock_us();

	while (!draining || !all_ended()) {
		const struct timespec wait = { .tv_nsec = (draining ? LOOK_AGAIN_MS : START_REPORT_LOOK_MS) * 1000000L };
		bool late = clock_us() - began_us > START_REPORT_MS * 1000L;

		reported = reported || draining || start_report_rest(&shared, config, listening, late);
		int s = draining || !reported ? sigtimedwait(set, NULL, &wait) : sigwaitinfo(set, NULL);
		if (s == SIGHUP && !draining) {
			notify("RELOADING=1");
			reload();
			notify("READY=1");
		} else if (s == SIGUSR1) {
			print_state();
		} else if ((s == SIGTERM || s == SIGINT) && !draining) {
			draining = true;
			told_us = clock_us();
			drain();
		} else if ((s == SIGTERM || s == SIGINT) && clock_us() - told_us > TOLD_TWICE_US) {
			log_line(LOG_WARN, "main", "stopping at once: told so a second time");
			log_writer_stop();
			_exit(0);
		}
	}
}

/* ---- start and end ---- */

static int workers_wanted(const struct config *c)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return c->server_workers ? (int)c->server_workers : cores > WORKERS_MAX ? WORKERS_MAX : cores > 0 ? (int)cores : 1;
}

static void start_workers(const struct listening *l, int n)
{
	int fds[LISTEN_MAX];

	for (int i = 0; i < n; i++) {
		for (size_t a = 0; a < l->n; a++)
			fds[a] = l->fds[a][i];
		const struct worker_order order = { .listen_fds = fds, .listen_admin = l->admin, .n_listen = l->n };
		shared.worker[i] = worker_new(&shared, i, config, &order);
		shared.n_workers = (size_t)i + 1;
	}
	for (int i = 0; i < n; i++)
		worker_run(shared.worker[i]);
}

static int serve(void)
{
	struct listening listening;
	char why[512];
	sigset_t set;
	pthread_t dictionaries;
	int n = workers_wanted(config);

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	raise_descriptor_limit(config);
	shared.started_ms = wall_now();
	shared.hosts = hosts_new(config->upstream_url_list.at, config->upstream_url_list.n);
	hosts_limit(shared.hosts, config->upstream_max_in_flight);
	hosts_trust(shared.hosts, trust_of(config->upstream_tls_ca));
	shared.models = models_new(shared.hosts);
	shared.engines = engines_new(shared.hosts);
	shared.keep_alives = keep_alives_new(shared.hosts, shared.engines);
	shared.flights = flights_new();
	shared.recent = recent_new();
	budget_init(&shared.buffered, config->server_max_buffered);
	shared.copies = copies_new(&shared.buffered);
	if (!listen_open(&listening, config, n, why, sizeof why))
		return fail(why);
	if (!open_store(config, why, sizeof why)) {
		listen_forget(&listening);
		return fail(why);
	}
	if (!log_writer_start(STDERR_FILENO))
		return fail("no thread for the log");
	start_report_listening(config, &listening, (size_t)n);
	if (pthread_create(&dictionaries, NULL, load_dictionaries, (void *)(uintptr_t)config_hold(config)))
		return fail("no thread for the dictionaries");
	start_workers(&listening, n);
	notify("READY=1");
	watch_signals(&set, &listening);
	pthread_join(dictionaries, NULL);
	for (size_t i = 0; i < shared.n_workers; i++)
		worker_join(shared.worker[i]);
	for (size_t i = 0; i < shared.n_workers; i++)
		worker_free(shared.worker[i]);
	if (shared.store)
		shared.store->ops->close(shared.store);
	lexicon_close(atomic_load(&shared.lexicon));
	keep_alives_free(shared.keep_alives);
	engines_free(shared.engines);
	models_free(shared.models);
	hosts_free(shared.hosts);
	flights_free(shared.flights);
	history_free(shared.history);
	recent_free(shared.recent);
	copies_free(shared.copies);
	budget_fini(&shared.buffered);
	listen_forget(&listening);
	log_line(LOG_INFO, "main", "stopped");
	log_writer_stop();
	return 0;
}

/* The libraries are told as they were found, not as they were built with: some replies are theirs. */
static void print_version(void)
{
	printf("ollacache %s\nlibmicrohttpd %s\nlibcurl %s\nlibuv %s\n", OLLACACHE_VERSION, MHD_get_version(),
	       curl_version_info(CURLVERSION_NOW)->version, uv_version_string());
}

int main(int argc, char **argv)
{
	enum config_action action = CONFIG_RUN;
	int code = 0;

	occupy_standard_descriptors();
	curl_global_init(CURL_GLOBAL_DEFAULT);
	config = config_load(argc, argv, stderr, &action);
	switch (action) {
	case CONFIG_HELP:          config_help(stdout); goto out;
	case CONFIG_VERSION:       print_version(); goto out;
	case CONFIG_OPTIONS_TABLE: config_docs(stdout); goto out;
	case CONFIG_METRICS_TABLE: metrics_docs(stdout); goto out;
	default:                   break;
	}
	if (!config) {
		code = EXIT_BAD_CONFIG;
		goto out;
	}
	apply_log(config);
	if (((action == CONFIG_TEST || action == CONFIG_RUN) && config_try(config, stderr)) ||
	    (action == CONFIG_TEST && config_try_all(config, stderr, stdout))) {
		code = EXIT_BAD_CONFIG;
		goto out;
	}
	switch (action) {
	case CONFIG_TEST:   config_sources(stdout, config); break;
	case CONFIG_PRINT:  config_print(stdout, config); break;
	case CONFIG_HEALTH: code = health_ask(config); break;
	default:            code = serve(); break;
	}
out:
	config_drop(config);
	curl_global_cleanup();
	return code;
}
