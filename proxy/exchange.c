/* exchange.c - the life of a request; see exchange.h. The only file that knows the whole story. */
#include "proxy/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/key.h"
#include "proxy/base/log.h"
#include "proxy/candidates.h"
#include "proxy/semantic.h"
#include "proxy/recent.h"
#include "proxy/route.h"
#include "proxy/seen.h"
#include "proxy/virtual.h"

enum {
	EXCHANGE_MAGIC = 0x45786368,
	SPARE_EXCHANGES = 256,
	BODY_FREE = 4 << 10,             /* bodies so small are bounded by server.max_connections: not worth two locks */
	BODY_STEP = 256 << 10,           /* by which a chunked body's share of the budget grows */
};

const char *const step_name[STEPS] = {
	[STEP_ROUTE] = "route", [STEP_BODY] = "body", [STEP_PARSE] = "parse", [STEP_DIGEST] = "digest", [STEP_LOOKUP] = "lookup",
	[STEP_JOIN] = "join", [STEP_SEEK] = "seek", [STEP_FORWARD] = "forward", [STEP_STREAM] = "stream", [STEP_PASS] = "pass",
	[STEP_ADMIN] = "admin", [STEP_FINISH] = "finish",
};

static void start_lookup(struct exchange *x);

/* ---- holding ---- */

static void check(const struct exchange *x)
{
	assert(x && x->magic == EXCHANGE_MAGIC && x->refs > 0);
}

void exchange_hold(struct exchange *x)
{
	check(x);
	x->refs++;
}

/* A few are kept: an exchange is too large for malloc's quick lists. Under a sanitizer none is, so that it sees each. */
static void exchange_free(struct worker *w, struct exchange *x)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	free(x);
	(void)w;
#else
	if (w->n_spare >= SPARE_EXCHANGES) {
		free(x);
		return;
	}
	x->next = w->spare;
	w->spare = x;
	w->n_spare++;
#endif
}

static void bury(struct burial *b)
{
	struct exchange *x = (struct exchange *)((char *)b - offsetof(struct exchange, burial));
	struct worker *w = x->worker;

	if (x->wake.posted || x->alone.posted || x->room.posted || x->models.mail.posted || x->share.mail.posted) {
		loop_bury(&w->loop, b);          /* a mail is under way: it finds a finished exchange, then we go */
		return;
	}
	*x->prev = x->next;
	if (x->next)
		x->next->prev = x->prev;
	w->n_exchanges--;
	buf_fini(&x->body);
	buf_fini(&x->lines_out);
	buf_fini(&x->explained);
	buf_fini(&x->get.entry);
	buf_fini(&x->get.proposed);
	semantic_free(x->near);
	candidates_free(x);
	admin_free(x);
	arena_fini(&x->arena);
	config_drop(x->config);
	x->magic = 0;
	exchange_free(w, x);
}

void exchanges_forget(struct worker *w)
{
	while (w->spare) {
		struct exchange *x = w->spare;
		w->spare = x->next;
		free(x);
	}
}

void exchange_drop(struct exchange *x)
{
	check(x);
	if (--x->refs)
		return;
	if (!x->share_free)
		budget_leave(&x->worker->shared->buffered, &x->share);
	alarm_clear(&x->worker->alarms, &x->wait);
	alarm_clear(&x->worker->alarms, &x->share_alarm);
	alarm_clear(&x->worker->alarms, &x->heartbeat);
	loop_bury(&x->worker->loop, &x->burial);
}

void exchange_step(struct exchange *x, enum step step)
{
	int64_t now = clock_us();

	x->step_us[x->step] += now - x->entered_us;
	x->entered_us = now;
	x->step = step;
	log_line(LOG_DEBUG, "step", "%llu %s", (unsigned long long)x->number, step_name[step]);
}

/* ---- mail ---- */

#define OWNER(m, member) ((struct exchange *)((char *)(m) - offsetof(struct exchange, member)))

static void on_wake(struct mail *m)
{
	struct exchange *x = OWNER(m, wake);

	if (x->flight && x->request)
		exchange_pump(x);
}

static void on_alone(struct mail *m)
{
	struct exchange *x = OWNER(m, alone);

	if (x->lead_flight)
		fetch_stop(x);
}

static void on_room(struct mail *m)
{
	struct exchange *x = OWNER(m, room);

	if (x->lead_flight)
		fetch_room(x);
}

/* Called under the flight's lock, from any thread. */
static void post_wake(void *arg)  { struct exchange *x = arg; loop_post(&x->worker->loop, &x->wake); }
static void post_alone(void *arg) { struct exchange *x = arg; loop_post(&x->worker->loop, &x->alone); }
static void post_room(void *arg)  { struct exchange *x = arg; loop_post(&x->worker->loop, &x->room); }

/* ---- route ---- */

static struct exchange *exchange_new(struct request *r, struct worker *w)
{
	struct exchange *x = w->spare;

	if (x) {
		w->spare = x->next;
		w->n_spare--;
	} else if (!(x = malloc(sizeof *x))) {
		return NULL;
	}
	memset(x, 0, offsetof(struct exchange, get));
	x->get.entry = x->get.proposed = (struct buf){ 0 };
	x->get.query = NULL;
	x->get.n_proposals = 0;
	x->get.link_private = NULL;
	x->note[0] = x->status_text[0] = '\0';
	x->magic = EXCHANGE_MAGIC;
	x->refs = 1;
	x->worker = w;
	x->config = config_hold(w->config);
	x->request = r;
	x->upload_length = r->content_length;
	x->number = atomic_fetch_add(&w->shared->requests_seen, 1) + 1;
	x->next = w->exchanges;
	x->prev = &w->exchanges;
	if (x->next)
		x->next->prev = &x->next;
	w->exchanges = x;
	w->n_exchanges++;
	x->burial.bury = bury;
	x->wake.run = on_wake;
	x->alone.run = on_alone;
	x->room.run = on_room;
	x->reader = (struct flight_reader){ .wake = post_wake, .arg = x };
	x->result = RESULT_NONE;
	x->candidates = 1;
	x->dialect = &dialect_ollama;
	x->end = "";
	x->begun_us = x->entered_us = r->begun_us;
	arena_init(&x->arena, EXCHANGE_ARENA_LEAST);
	buf_init(&x->body, x->config->server_max_body);
	buf_init(&x->lines_out, SIZE_MAX / 4);
	r->owner = x;
	return x;
}

static void forbid(struct exchange *x)
{
	x->status = 403;
	x->origin = ORIGIN_NONE;
	x->end = "forbidden";
	request_reply(x->request, 403, NULL, 0, NULL, 0, false);
}

static void preflight(struct exchange *x, const struct route *route)
{
	struct header h[CORS_HEADERS_MAX];
	size_t n = origin_preflight(x->origin, x->request, route ? "POST" : NULL, h);

	x->status = 204;
	request_reply(x->request, 204, h, n, NULL, 0, false);
}

static void on_share(struct mail *m);
static void on_share_late(struct alarm *a);

/* A body to keep: its share of the budget first. Not to be had at once: reading waits. */
static void begin_body(struct exchange *x)
{
	int64_t length = x->request->content_length;
	struct budget *b = &x->worker->shared->buffered;

	exchange_step(x, STEP_BODY);
	x->share.loop = &x->worker->loop;
	x->share.mail.run = on_share;
	uint64_t wants = length >= 0 ? (uint64_t)length : BODY_STEP;
	if (length >= 0 && length <= BODY_FREE) {
		x->share_free = BODY_FREE;
		return;
	}
	if (length > (int64_t)x->config->server_max_body || wants > x->config->server_max_buffered) {
		x->bypass = BYPASS_TOO_LARGE;
		pass_begin(x);
		return;
	}
	if (!budget_take(b, &x->share, wants, true)) {
		if (!x->share.waits) {
			x->bypass = BYPASS_TOO_LARGE;
			pass_begin(x);
			return;
		}
		alarm_set(&x->worker->alarms, &x->share_alarm, x->config->server_idle_timeout, on_share_late);
	} else if (length > 0 && buf_reserve(&x->body, (size_t)length)) {
		reply_error(x, ERR_NO_MEMORY, NULL);
	}
}

static void on_share(struct mail *m)
{
	struct exchange *x = OWNER(m, share.mail);

	alarm_clear(&x->worker->alarms, &x->share_alarm);
	if (x->request && x->step == STEP_BODY && !x->share.waits)
		request_more(x->request);
}

/* Nobody gave anything back for that long: it streams through instead, which needs no share. */
static void on_share_late(struct alarm *a)
{
	struct exchange *x = OWNER(a, share_alarm);

	budget_leave(&x->worker->shared->buffered, &x->share);
	if (!x->request || x->step != STEP_BODY)
		return;
	x->bypass = BYPASS_TOO_LARGE;
	pass_begin(x);
	request_more(x->request);
}

static void count_ask(struct exchange *x)
{
	x->counted = true;
	metric_add(&x->worker->metrics, requests, 1);
}

static void on_begin(struct request *r, void *arg)
{
	struct worker *w = arg;
	struct exchange *x = exchange_new(r, w);
	char why[256];

	if (!x) {
		request_abort(r);
		return;
	}
	const struct route *route = route_find(r);
	x->route_name = route ? family_name[route->family] : admin_is_own(r) ? "own" : "pass";
	if (atomic_load(&w->shared->draining)) {
		reply_error(x, ERR_DRAINING, NULL);
		return;
	}
	if (!host_allowed(x->config, r)) {
		forbid(x);
		return;
	}
	if (admin_is_own(r)) {
		exchange_step(x, STEP_ADMIN);
		admin_begin(x);
		return;
	}
	x->origin = origin_judge(x->config, r);
	if (x->origin == ORIGIN_FORBIDDEN) {
		forbid(x);
		return;
	}
	if (x->origin != ORIGIN_NONE && !strcmp(r->method, "OPTIONS")) {
		preflight(x, route_of_path(r->path));
		return;
	}
	if (!route) {
		metric_add(&w->metrics, passed_requests, 1);
		x->lists = virtual_is_list(x->config, r);
		x->shows = virtual_is_show(r);
		if (x->shows)
			begin_body(x);
		else
			pass_begin(x);
		return;
	}
	x->is_ask = true;
	x->family = route->family;
	count_ask(x);
	if (!wishes_read(x, why, sizeof why)) {
		reply_error(x, ERR_BAD_HEADER, why);
		return;
	}
	begin_body(x);
}

/* ---- body ---- */

static size_t on_body(struct request *r, struct slice bytes)
{
	struct exchange *x = r->owner;
	struct budget *b = &x->worker->shared->buffered;

	x->body_bytes += bytes.len;
	if (x->pass)
		return pass_body(x, bytes);
	if (x->own)
		return admin_body(x, bytes);
	if (x->step != STEP_BODY)
		return bytes.len;
	if (x->share.waits) {
		x->body_bytes -= bytes.len;
		return 0;
	}
	while (x->body.len + bytes.len > x->share.bytes + x->share_free) {
		/* a chunked body that grew past its share: waiting for more while holding some could end in everybody waiting */
		if (x->body.len + bytes.len > x->config->server_max_body || !budget_take(b, &x->share, BODY_STEP, false)) {
			x->bypass = BYPASS_TOO_LARGE;
			pass_begin(x);
			return pass_body(x, bytes);
		}
	}
	if (buf_put(&x->body, bytes))
		reply_error(x, ERR_NO_MEMORY, NULL);
	return bytes.len;
}

/* ---- parse ---- */

/* Header, body, model name: the first that is there decides. */
bool exchange_candidates(struct exchange *x, char *text, size_t len)
{
	int tag = x->wishes.complex != COMPLEX_NONE ? x->wishes.complex
	        : x->ask.complex_body != COMPLEX_NONE ? x->ask.complex_body : x->ask.complex_model;

	bool generation = x->ask.family == FAMILY_CHAT || x->ask.family == FAMILY_GENERATE;
	if (!generation || (!x->ask.generates && tag != COMPLEX_BAD))
		return true;                     /* a tag where nothing is generated says nothing */
	if (tag == COMPLEX_NONE)
		tag = candidates_auto(x) ? COMPLEX_DEFAULT : 1;
	if (tag == COMPLEX_DEFAULT)
		tag = (int)x->config->complex_candidates;
	if (tag < 1 || tag > x->config->complex_max_candidates) {
		snprintf(text, len, "complex takes true, false or a number of answers from 1 to %lld (complex.max_candidates)",
		         (long long)x->config->complex_max_candidates);
		return false;
	}
	x->candidates = (unsigned)tag;
	return true;
}

enum bypass exchange_bypass(const struct exchange *x)
{
	const struct rules rules = { .models = x->config->cache_models, .deterministic_only = x->config->cache_deterministic_only,
	                             .enabled = x->config->cache_store != CONFIG_STORE_OFF, .ttl_ms = x->config->cache_ttl };

	return policy_bypass(&rules, &x->wishes, &x->ask);
}

static void set_style(struct exchange *x, struct slice model, enum family family)
{
	struct buf escaped;

	buf_init(&escaped, 6 * model.len + 1);
	if (!buf_put_json(&escaped, model))
		x->style.model = arena_slice(&x->arena, buf_slice(&escaped));
	buf_fini(&escaped);
	x->style.family = family;
	x->style.has_model = true;
}

static void on_digests(struct mail *m);
static void on_digests_late(struct alarm *a);

static void step_digest(struct exchange *x)
{
	struct hosts *h = x->worker->shared->hosts;

	exchange_step(x, STEP_DIGEST);
	enum models_news news = models_find(h, x->ask.model_full, x->digest, &x->hosts);
	if (news == MODELS_NOT_LEARNT) {
		x->models = (struct models_waiter){ .mail.run = on_digests, .loop = &x->worker->loop };
		alarm_set(&x->worker->alarms, &x->wait, DIGEST_WAIT_MS, on_digests_late);
		models_wait(h, &x->models);
		return;
	}
	if (news == MODEL_UNKNOWN) {
		x->bypass = BYPASS_DIGEST;
		x->hosts = 0;
	}
	start_lookup(x);
}

static void on_digests(struct mail *m)
{
	struct exchange *x = OWNER(m, models.mail);

	if (x->step != STEP_DIGEST || !alarm_is_set(&x->wait))
		return;                          /* the client left, or the wait was over first */
	alarm_clear(&x->worker->alarms, &x->wait);
	step_digest(x);
}

static void on_digests_late(struct alarm *a)
{
	struct exchange *x = OWNER(a, wait);

	models_unwait(x->worker->shared->hosts, &x->models);
	if (x->step != STEP_DIGEST)
		return;
	x->bypass = BYPASS_DIGEST;
	start_lookup(x);
}

static void step_parse(struct exchange *x)
{
	char why[160];

	exchange_step(x, STEP_PARSE);
	x->arena.limit = EXCHANGE_ARENA_LEAST + EXCHANGE_ARENA * x->body.len;
	x->doubt = x->dialect->parse(buf_slice(&x->body), x->family, &x->arena, &x->ask);
	if (x->doubt) {
		x->bypass = BYPASS_BODY;
		pass_begin(x);
		pass_body_whole(x);
		return;
	}
	set_style(x, x->ask.model, x->family);
	x->wishes.space = arena_slice(&x->arena, x->wishes.space);
	x->wishes.tenant = arena_slice(&x->arena, x->wishes.tenant);
	if (x->arena.full) {
		reply_error(x, ERR_NO_MEMORY, NULL);     /* without its tenant a request would be keyed as anybody's */
		return;
	}
	if (!exchange_candidates(x, why, sizeof why)) {
		reply_error(x, ERR_BAD_HEADER, why);
		return;
	}
	x->bypass = exchange_bypass(x);
	if (x->bypass == BYPASS_NO || x->bypass == BYPASS_NO_CACHE)
		step_digest(x);
	else
		start_lookup(x);
}

/* ---- look-up ---- */

void exchange_make_key(struct exchange *x)
{
	const struct key_parts parts = {
		.family = x->family, .candidates = x->candidates, .tenant = x->wishes.tenant, .space = x->wishes.space,
		.digest = slice_text(x->digest), .form = x->ask.canonical,
	};

	key_make(&parts, x->key);
	x->keyed = true;
}

static void remember(struct exchange *x)
{
	struct seen_line line = { .generation = models_generation(x->worker->shared->hosts), .config = x->config,
	                          .stream = x->ask.stream, .family = (uint8_t)x->family };

	if (!x->seen_made || x->bypass != BYPASS_NO || !x->style.model.len || x->style.model.len > SEEN_MODEL_MAX)
		return;
	memcpy(line.raw, x->seen_key, KEY_BYTES);
	memcpy(line.key, x->key, KEY_BYTES);
	line.model_len = (uint8_t)x->style.model.len;
	memcpy(line.model, x->style.model.at, x->style.model.len);
	seen_add(x->worker->seen, &line);
}

static bool fresh_enough(const struct exchange *x, const struct entry_meta *m)
{
	int64_t now = wall_now();

	return m->expires_ms > now && (x->wishes.max_age_s < 0 || now - m->created_ms < x->wishes.max_age_s * 1000);
}

/* The entry just got, if it may be served; counts and drops a corrupt one. */
static bool open_entry(struct exchange *x, struct entry_meta *m, struct slice *pieces)
{
	enum err e = entry_unpack(buf_slice(&x->get.entry), m, pieces);

	if (e || m->mark != entry_mark(x->get.key)) {
		metric_add(&x->worker->metrics, corrupt_entries, 1);
		log_line(LOG_WARN, "cache", "a stored entry was not whole, or not at its place, and is dropped");
		x->worker->shared->store->ops->drop(x->worker->link, x->get.key, NULL, NULL);
		return false;
	}
	return fresh_enough(x, m);
}

static void serve_entry(struct exchange *x, const struct entry_meta *m, struct slice pieces)
{
	char type[FLIGHT_TYPE_MAX];

	x->stored_ms = m->created_ms;
	x->expires_ms = m->expires_ms;
	x->style.has_model = m->has_model;
	snprintf(type, sizeof type, "%.*s", (int)m->content_type.len, m->content_type.at);
	reply_saved(x, m->eval_count, m->eval_ns + m->prompt_eval_ns);
	exchange_step(x, STEP_STREAM);
	reply_answer(x, pieces, m->stream == x->ask.stream ? type : NULL);
}

static void got_exact(struct exchange *x, enum store_news news)
{
	struct entry_meta m;
	struct slice pieces;

	metric_observe_us(&x->worker->metrics, lookup_seconds, TIER_EXACT, clock_us() - x->get_began_us);
	if (news == STORE_FOUND && open_entry(x, &m, &pieces)) {
		x->result = RESULT_EXACT;
		serve_entry(x, &m, pieces);
		return;
	}
	if (!x->keyed) {                         /* the short way did not lead to an answer: the long one */
		step_parse(x);
		return;
	}
	exchange_join(x);
}

static void on_got(struct store_get *g, enum store_news news)
{
	struct exchange *x = OWNER(g, get);

	x->getting = false;
	if (x->request)
		got_exact(x, news);
	exchange_drop(x);
}

/* Asks the store for key; the news come to got_exact(), now or later. */
static void get_exact(struct exchange *x, const uint8_t key[KEY_BYTES])
{
	struct worker *w = x->worker;

	memcpy(x->get.key, key, KEY_BYTES);
	buf_fini(&x->get.entry);
	buf_init(&x->get.entry, CACHE_ENTRY_BYTES(x->config));
	x->get.query = NULL;
	x->get.done = on_got;
	x->get_began_us = clock_us();
	enum store_news news = w->shared->store->ops->get(w->link, &x->get);
	if (news == STORE_LATER) {
		x->getting = true;
		exchange_hold(x);
		return;
	}
	got_exact(x, news);
}

/* For log.level = debug: what the look-up is for, or why there is none. */
static void log_decision(const struct exchange *x)
{
	char hex[2 * KEY_BYTES + 1] = "none";

	if (!log_on(LOG_DEBUG))
		return;
	if (x->keyed)
		key_hex(x->key, hex);
	log_line(LOG_DEBUG, "cache", "%llu %s model %.*s digest %.12s candidates %u key %s%s%s", (unsigned long long)x->number,
	         family_name[x->family], (int)x->ask.model_full.len, x->ask.model_full.len ? x->ask.model_full.at : "",
	         *x->digest ? x->digest : "none", x->candidates, hex, x->bypass == BYPASS_NO ? "" : ", bypassed: ", bypass_name[x->bypass]);
}

static void start_lookup(struct exchange *x)
{
	exchange_step(x, STEP_LOOKUP);
	if (x->bypass == BYPASS_NO || x->bypass == BYPASS_NO_CACHE)
		exchange_make_key(x);
	log_decision(x);
	remember(x);
	exchange_lookup(x);
}

void exchange_lookup(struct exchange *x)
{
	buf_fini(&x->get.entry);
	if (x->bypass != BYPASS_NO) {
		if (x->wishes.only_if_cached && x->bypass != BYPASS_NO_CACHE) {
			reply_error(x, ERR_NOT_CACHED, NULL);
			return;
		}
		exchange_join(x);
		return;
	}
	get_exact(x, x->key);
}

/* A request seen before, byte for byte: its key is known without parsing. Plain wishes only. */
static bool short_way(struct exchange *x)
{
	const struct wishes *w = &x->wishes;

	if (x->body.len == 0 || x->body.len > SEEN_BODY_MAX || !x->worker->link)
		return false;
	const char *tag = request_header(x->request, "X-Complex");
	const struct slice parts[] = { x->request->path, w->tenant, w->space, slice_text(tag ? tag : ""), buf_slice(&x->body) };
	key_of(parts, sizeof parts / sizeof *parts, x->seen_key);
	x->seen_made = true;
	if (w->no_cache || w->no_store || w->semantic_off || w->semantic_threshold > 0)
		return false;
	const struct seen_line *line =
		seen_find(x->worker->seen, x->seen_key, models_generation(x->worker->shared->hosts), x->config);
	if (!line)
		return false;
	exchange_step(x, STEP_LOOKUP);
	x->style.family = (enum family)line->family;
	memcpy(x->model_room, line->model, line->model_len);
	x->style.model = slice_of(x->model_room, line->model_len);
	x->ask.stream = line->stream;
	x->ask.family = (enum family)line->family;
	get_exact(x, line->key);
	return true;
}

/* /api/show of NAME@complex is asked as NAME. */
static void pass_shown(struct exchange *x)
{
	struct buf body;

	buf_init(&body, x->config->server_max_body + VIRTUAL_SHOW_MAX);
	if (virtual_show(buf_slice(&x->body), &body)) {
		buf_fini(&x->body);
		x->body = body;
		x->upload_length = (int64_t)body.len;
	}
	pass_begin(x);
	pass_body_whole(x);
}

static void on_whole(struct request *r)
{
	struct exchange *x = r->owner;

	if (x->pass) {
		pass_body_whole(x);
		return;
	}
	if (x->own) {
		admin_whole(x);
		return;
	}
	if (x->step != STEP_BODY || request_replied(r))
		return;
	if (x->shows)
		pass_shown(x);
	else if (!short_way(x))
		step_parse(x);
}

/* ---- join ---- */

/* Nothing of this ask may be shared: it gets a flight of its own, which nobody finds. */
static bool alone(const struct exchange *x)
{
	return x->bypass != BYPASS_NO;
}

static void lead(struct exchange *x)
{
	const struct flight_leader leader = { .alone = post_alone, .room = post_room, .arg = x };

	exchange_hold(x);
	x->led = true;
	x->lead_flight = x->flight;
	flight_hold(x->lead_flight);
	flight_lead(x->flight, &leader);
}

static void step_seek(struct exchange *x);

void exchange_join(struct exchange *x)
{
	bool leads;

	exchange_step(x, STEP_JOIN);
	buf_fini(&x->get.entry);
	if (x->wishes.only_if_cached && x->bypass == BYPASS_NO_CACHE) {
		reply_error(x, ERR_NOT_CACHED, NULL);
		return;
	}
	x->reader.whole = !x->ask.stream;
	candidates_heartbeat(x);
	x->flight = flight_join(x->worker->shared->flights, alone(x) ? NULL : x->key, CACHE_PIECES_BYTES(x->config), &x->reader, &leads);
	if (!x->flight) {
		reply_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	if (leads) {
		lead(x);
		enum err e = fetch_prepare(x);
		if (e)
			fetch_fail(x, e);
		else
			step_seek(x);
		/* reads at once what a stored answer has brought, else says that it waits */
		if (x->request && x->flight)
			exchange_pump(x);
		return;
	}
	if (x->wishes.only_if_cached && !flight_landed(x->flight)) {
		flight_drop(x->flight, &x->reader);
		x->flight = NULL;
		reply_error(x, ERR_NOT_CACHED, NULL);
		return;
	}
	exchange_step(x, STEP_STREAM);
	x->result = flight_landed(x->flight) ? RESULT_EXACT : RESULT_JOINED;
	exchange_pump(x);
}

/* ---- seek: the leader looks once more, then for near questions ---- */

/* Gives a stored answer to the flight, and so to everyone who reads it. */
static bool fly_entry(struct exchange *x, enum flight_origin origin)
{
	struct entry_meta m;
	struct slice pieces;
	struct flight_head head = { .origin = origin, .status = 200, .similarity = x->similarity };

	if (!open_entry(x, &m, &pieces))
		return false;
	head.created_ms = m.created_ms;
	head.expires_ms = m.expires_ms;
	head.stream = m.stream;
	snprintf(head.content_type, sizeof head.content_type, "%.*s", (int)m.content_type.len, m.content_type.at);
	if (origin == FLIGHT_SEMANTIC)
		recent_add(x->worker->shared->recent, x->get.key, x->similarity, x->ask.question, m.question, x->ask.model_full);
	struct answer *a = flight_open(x->lead_flight);
	enum err e = buf_put(&a->pieces, pieces);
	a->whole = !e;
	a->has_model = m.has_model;
	a->eval_count = m.eval_count;
	a->eval_ns = m.eval_ns;
	a->prompt_eval_ns = m.prompt_eval_ns;
	flight_shut(x->lead_flight);
	if (e)
		return false;
	flight_set_head(x->lead_flight, &head);
	flight_finish(x->lead_flight, ERR_OK);
	flight_unlist(x->lead_flight);                /* it is in the store: who comes now looks there */
	fetch_done(x);
	return true;
}

static void forward(struct exchange *x)
{
	if (x->wishes.only_if_cached) {
		fetch_fail(x, ERR_NOT_CACHED);
		return;
	}
	exchange_step(x, STEP_FORWARD);
	if (x->result == RESULT_NONE)
		x->result = x->bypass == BYPASS_NO ? RESULT_MISS : RESULT_BYPASS;
	fetch_start(x);
}

static void got_near(struct exchange *x, enum store_news news)
{
	if (semantic_chosen(x->near)) {
		metric_observe_us(&x->worker->metrics, lookup_seconds, TIER_SEMANTIC, clock_us() - x->get_began_us);
		x->similarity = semantic_similarity(x->near);
		if (news == STORE_FOUND && fly_entry(x, FLIGHT_SEMANTIC))
			return;
		x->similarity = 0;
	}
	forward(x);
}

static void on_got_near(struct store_get *g, enum store_news news)
{
	struct exchange *x = OWNER(g, get);

	x->getting = false;
	if (x->lead_flight)
		got_near(x, news);
	exchange_drop(x);
}

/* The news of the second look: the entry itself, or near questions to choose from. */
static void got_second(struct exchange *x, enum store_news news)
{
	if (news == STORE_FOUND) {
		if (fly_entry(x, FLIGHT_STORED))
			return;
	}
	if (!x->near || !semantic_choose(x->near, x, &x->get)) {
		if (x->near)
			metric_observe_us(&x->worker->metrics, lookup_seconds, TIER_SEMANTIC, clock_us() - x->get_began_us);
		forward(x);
		return;
	}
	/* a near question was chosen: its answer */
	buf_fini(&x->get.entry);
	memcpy(x->get.key, semantic_key(x->near), KEY_BYTES);
	x->get.query = NULL;
	x->get.done = on_got_near;
	enum store_news then = x->worker->shared->store->ops->get(x->worker->link, &x->get);
	if (then == STORE_LATER) {
		x->getting = true;
		exchange_hold(x);
		return;
	}
	got_near(x, then);
}

static void on_got_second(struct store_get *g, enum store_news news)
{
	struct exchange *x = OWNER(g, get);

	x->getting = false;
	if (x->lead_flight)
		got_second(x, news);
	exchange_drop(x);
}

static void step_seek(struct exchange *x)
{
	exchange_step(x, STEP_SEEK);
	if (x->bypass != BYPASS_NO) {
		if (x->bypass == BYPASS_NO_CACHE)
			x->near = semantic_analyse(x);       /* it will be stored: others may be near to it */
		forward(x);
		return;
	}
	x->near = semantic_analyse(x);
	memcpy(x->get.key, x->key, KEY_BYTES);
	buf_fini(&x->get.entry);
	buf_init(&x->get.entry, CACHE_ENTRY_BYTES(x->config));
	buf_fini(&x->get.proposed);
	buf_init(&x->get.proposed, SEMANTIC_PROPOSED_BYTES);
	x->get.query = semantic_query(x->near);
	x->get.done = on_got_second;
	x->get_began_us = clock_us();
	enum store_news news = x->worker->shared->store->ops->get(x->worker->link, &x->get);
	if (news == STORE_LATER) {
		x->getting = true;
		exchange_hold(x);
		return;
	}
	got_second(x, news);
}

/* ---- stream: a reader and its flight ---- */

static void leave_flight(struct exchange *x)
{
	if (!x->flight)
		return;
	struct flight *f = x->flight;
	x->flight = NULL;
	flight_drop(f, &x->reader);
}

/* Followers that have sent nothing start again, once, when the one they followed fails. */
void exchange_restart(struct exchange *x)
{
	x->restarted = true;
	flight_drop(x->flight, &x->reader);
	x->flight = NULL;
	semantic_free(x->near);
	x->near = NULL;
	x->reader = (struct flight_reader){ .wake = post_wake, .arg = x };
	x->result = RESULT_NONE;
	x->similarity = 0;
	start_lookup(x);
}

static void learn_origin(struct exchange *x)
{
	struct flight_head head = flight_get_head(x->flight);

	x->style.has_model = head.has_model;
	snprintf(x->note, sizeof x->note, "%s", head.note);
	if (head.origin == FLIGHT_UPSTREAM)
		return;
	if (x->result == RESULT_NONE || x->result == RESULT_JOINED || x->result == RESULT_MISS)
		x->result = head.origin == FLIGHT_SEMANTIC ? RESULT_SEMANTIC : RESULT_EXACT;
	x->similarity = head.similarity;
	x->stored_ms = head.created_ms;
	x->expires_ms = head.expires_ms;
}

static void saved_by(struct exchange *x)
{
	const struct answer *a = flight_answer(x->flight);

	if (x->result == RESULT_JOINED || x->result == RESULT_SEMANTIC || x->result == RESULT_EXACT)
		reply_saved(x, a->eval_count, a->eval_ns + a->prompt_eval_ns);
}

/* Of an answer too large to share each gets one of its own. */
static void restart_alone(struct exchange *x)
{
	x->bypass = BYPASS_TOO_LARGE;
	exchange_restart(x);
}

/* The flight failed. What the upstream itself said goes to everyone as it came; else our own words. */
static void pump_failed(struct exchange *x, enum err e)
{
	const struct answer *a = flight_answer(x->flight);
	struct flight_head head = flight_get_head(x->flight);
	bool passed = e == ERR_PASSED;

	if (!x->head_sent && !x->led && e == ERR_TOO_LARGE) {
		restart_alone(x);
		return;
	}
	if (!x->head_sent && !passed && !x->led && !x->restarted && e != ERR_NOT_CACHED) {
		exchange_restart(x);
		return;
	}
	if (!x->head_sent && passed && (head.status != 200 || !head.stream)) {
		char *copy = malloc(a->error.len + 1);
		if (copy)
			memcpy(copy, a->error.at, a->error.len);
		reply_whole(x, head.status, head.content_type, copy, copy ? a->error.len : 0, false);
		return;
	}
	if (!x->head_sent && !passed) {
		reply_error(x, e, NULL);
		return;
	}
	if (!x->head_sent && !x->ask.stream) {
		char *copy = malloc(a->error.len + 1);
		if (copy)
			memcpy(copy, a->error.at, a->error.len);
		reply_whole(x, 500, NULL, copy, copy ? a->error.len : 0, false);
		return;
	}
	if (!x->head_sent)
		reply_begin(x, 200, reply_stream_type(x), -1);
	struct buf line;
	buf_init(&line, SIZE_MAX / 4);
	enum err full = passed ? buf_put(&line, buf_slice(&a->error)) : x->dialect->write_error(slice_text(err_info[e].text), &line);
	full = full ? full : buf_add(&line, "\n", 1);
	if (!full)
		(void)!request_write(x->request, buf_slice(&line));      /* a failure has broken the reply, as is meant */
	buf_fini(&line);
	x->end = err_info[e].name;
	/* a stream kept alive for candidates that all failed must not look whole */
	request_end(x->request, passed && x->candidates == 1);
}

/* Lines of what was read; true while the client has room. */
static bool write_lines(struct exchange *x, struct slice pieces)
{
	size_t at = 0;
	enum err e = ERR_OK;

	reply_style_now(&x->style);
	x->lines_out.len = 0;
	while (!e && x->dialect->write_line(&x->style, pieces, &at, &x->lines_out, &e) && !e) {
		if (x->lines_out.len)
			e = request_write(x->request, buf_slice(&x->lines_out));
		x->lines_out.len = 0;
	}
	if (e) {
		x->end = err_info[e].name;
		request_end(x->request, false);
	}
	if (x->lines_out.room > STREAM_WINDOW)
		buf_fini(&x->lines_out);
	return !e && request_queued(x->request) < STREAM_WINDOW;
}

static void pump_stream(struct exchange *x)
{
	struct buf pieces;
	enum flight_news news = FLIGHT_WAIT;
	enum err why = ERR_OK;
	bool room = true;

	buf_init(&pieces, SIZE_MAX / 4);
	while (room && x->request) {
		pieces.len = 0;
		news = flight_read(x->flight, &x->reader, &pieces, &why);
		if (news != FLIGHT_MORE)
			break;
		alarm_clear(&x->worker->alarms, &x->heartbeat);
		if (!x->head_sent) {
			learn_origin(x);
			reply_begin(x, 200, reply_stream_type(x), -1);
		}
		room = write_lines(x, buf_slice(&pieces));
	}
	buf_fini(&pieces);
	if (!x->request)
		return;
	if (news == FLIGHT_END) {
		if (!x->head_sent) {
			learn_origin(x);
			reply_begin(x, 200, reply_stream_type(x), -1);
		}
		saved_by(x);
		request_end(x->request, true);
	} else if (news == FLIGHT_FAILED) {
		pump_failed(x, why);
	}
}

void exchange_pump(struct exchange *x)
{
	enum err why;

	if (x->reader.raw || !x->flight || (request_replied(x->request) && !x->head_sent))
		return;
	if (x->step != STEP_STREAM && !x->lead_flight)
		exchange_step(x, STEP_STREAM);
	if (!x->reader.whole) {
		pump_stream(x);
		return;
	}
	switch (flight_read(x->flight, &x->reader, NULL, &why)) {
	case FLIGHT_END:
		if (request_replied(x->request))
			break;
		learn_origin(x);
		saved_by(x);
		struct flight_head head = flight_get_head(x->flight);
		reply_answer(x, buf_slice(&flight_answer(x->flight)->pieces), head.stream ? NULL : head.content_type);
		break;
	case FLIGHT_FAILED:
		if (!request_replied(x->request))
			pump_failed(x, why);
		break;
	case FLIGHT_OVER:
		/* this answer will not be kept whole: one of its own, passed through. Who leads had asked for one object and is
		 * sent a stream of them */
		if (request_replied(x->request))
			break;
		if (x->led)
			reply_error(x, ERR_UPSTREAM_BABBLE, NULL);
		else
			restart_alone(x);
		break;
	case FLIGHT_MORE:
	case FLIGHT_WAIT:
		break;
	}
}

/* ---- the client ---- */

static void on_writable(struct request *r)
{
	struct exchange *x = r->owner;

	if (x->pass)
		pass_writable(x);
	if (x->lead_flight)
		fetch_writable(x);
	if (x->request && x->flight && x->head_sent)
		exchange_pump(x);
}

static void stop_waiting(struct exchange *x)
{
	struct worker *w = x->worker;

	if (x->models.waits)
		models_unwait(w->shared->hosts, &x->models);
	alarm_clear(&w->alarms, &x->wait);
	alarm_clear(&w->alarms, &x->share_alarm);
	alarm_clear(&w->alarms, &x->heartbeat);
	if (!x->share_free)
		budget_leave(&w->shared->buffered, &x->share);
	if (x->getting && !x->lead_flight) {
		w->shared->store->ops->cancel(w->link, &x->get);
		x->getting = false;
		exchange_drop(x);
	}
	if (x->pass)
		pass_stop(x);
}

static void on_gone(struct request *r, enum err why)
{
	struct exchange *x = r->owner;

	x->client_gone = true;
	x->end = err_info[why].name;
	metric_add(&x->worker->metrics, client_gone, 1);
	exchange_hold(x);
	stop_waiting(x);
	leave_flight(x);
	if (x->lead_flight)
		post_room(x);                    /* an upstream that waited for this client waits for nobody now */
	exchange_drop(x);
}

static void on_done(struct request *r, bool sent)
{
	struct exchange *x = r->owner;

	exchange_hold(x);
	if (!x->client_gone) {
		if (!sent && !*x->end)
			x->end = err_info[ERR_CLIENT_GONE].name;
		stop_waiting(x);
		leave_flight(x);
	}
	exchange_step(x, STEP_FINISH);
	exchange_account(x, sent);
	x->request = NULL;
	r->owner = NULL;
	if (x->lead_flight)
		post_room(x);
	exchange_drop(x);
	exchange_drop(x);
}

const struct request_ops exchange_ops = {
	.begin = on_begin,
	.body = on_body,
	.whole = on_whole,
	.writable = on_writable,
	.gone = on_gone,
	.done = on_done,
};
