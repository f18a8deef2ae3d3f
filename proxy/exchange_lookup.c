/* exchange_lookup.c - from a whole body to the flight its answer comes from: parse, digest, lookup, join, seek. */
#include <stdio.h>
#include <stdlib.h>

#include "cache/key.h"
#include "proxy/base/log.h"
#include "proxy/candidates.h"
#include "proxy/exchange.h"
#include "proxy/keep_alive.h"
#include "proxy/recent.h"
#include "proxy/semantic.h"

/* ---- parse ---- */

/* Header, body, model name: the first that is there decides. */
unsigned exchange_candidates(const struct exchange *x)
{
	int tag = x->wishes.complex != COMPLEX_NONE ? x->wishes.complex
	        : x->ask.complex_body != COMPLEX_NONE ? x->ask.complex_body : x->ask.complex_model;

	bool generation = x->ask.family == FAMILY_CHAT || x->ask.family == FAMILY_GENERATE;
	if (!generation || (!x->ask.generates && tag != COMPLEX_BAD))
		return 1;                        /* a tag where nothing is generated says nothing */
	if (tag == COMPLEX_NONE)
		tag = candidates_auto(x) ? COMPLEX_DEFAULT : 1;
	if (tag == COMPLEX_DEFAULT)
		tag = (int)x->config->complex_candidates;
	return tag < 1 || tag > x->config->complex_max_candidates ? 0 : (unsigned)tag;
}

void exchange_candidates_bad(const struct exchange *x, char *text, size_t len)
{
	snprintf(text, len, "complex takes true, false or a number of answers from 1 to %lld (complex.max_candidates)",
	         (long long)x->config->complex_max_candidates);
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
	struct models *m = x->worker->shared->models;

	exchange_step(x, STEP_DIGEST);
	if (!x->digest_wait.loop)
		x->digest_wait = (struct models_waiter){ .mail.run = on_digests, .loop = &x->worker->loop };
	enum models_news news = models_find(m, x->ask.model_full, x->digest, &x->hosts, &x->digest_wait);
	if (news == MODELS_NOT_LEARNT) {
		if (!alarm_is_set(&x->wait))     /* not set anew while it waits for another look */
			alarm_set(&x->worker->alarms, &x->wait, DIGEST_WAIT_MS, on_digests_late);
		return;
	}
	alarm_clear(&x->worker->alarms, &x->wait);
	if (news == MODEL_UNKNOWN) {
		x->bypass = BYPASS_DIGEST;
		x->hosts = 0;
	}
	exchange_start_lookup(x);
}

static void on_digests(struct mail *m)
{
	struct exchange *x = EXCHANGE_OF(m, digest_wait.mail);

	if (x->step != STEP_DIGEST || !alarm_is_set(&x->wait))
		return;                          /* the client left, or the wait was over first */
	step_digest(x);
}

static void on_digests_late(struct alarm *a)
{
	struct exchange *x = EXCHANGE_OF(a, wait);

	models_unwait(x->worker->shared->models, &x->digest_wait);
	if (x->step != STEP_DIGEST)
		return;
	x->bypass = BYPASS_DIGEST;
	exchange_start_lookup(x);
}

void exchange_parsed(struct exchange *x)
{
	char why[160];

	if (x->doubt) {
		x->bypass = BYPASS_BODY;
		pass_begin(x, true);
		return;
	}
	set_style(x, x->ask.model, x->family);
	x->wishes.space = arena_slice(&x->arena, x->wishes.space);
	for (size_t i = 0; i < TENANT_PARTS; i++)
		x->wishes.tenant[i] = arena_slice(&x->arena, x->wishes.tenant[i]);
	if (x->arena.full) {
		reply_error(x, ERR_NO_MEMORY, NULL);     /* without its tenant a request would be keyed as anybody's */
		return;
	}
	if (!x->candidates) {
		exchange_candidates_bad(x, why, sizeof why);
		reply_error(x, ERR_BAD_HEADER, why);
		return;
	}
	x->bypass = exchange_bypass(x);
	if (x->bypass == BYPASS_NO || x->bypass == BYPASS_NO_CACHE)
		step_digest(x);
	else
		exchange_start_lookup(x);
}

/* ---- look-up ---- */

void exchange_make_key(struct exchange *x)
{
	const struct key_parts parts = {
		.family = x->family, .candidates = x->candidates, .scope = slice_text(x->config->cache_scope),
		.tenant = x->wishes.tenant, .space = x->wishes.space,
		.digest = slice_text(x->digest), .form = x->ask.canonical,
	};

	key_make(&parts, x->key);
	x->keyed = true;
}

static void remember(struct exchange *x)
{
	struct seen_line line = { .generation = models_generation(x->worker->shared->models), .config = x->config,
	                          .stream = x->ask.stream, .family = (uint8_t)x->family };

	/* the short way reads no keep_alive, which is to be handed on */
	if (!x->marked || x->ask.keep_alive.len || x->bypass != BYPASS_NO || !x->style.model.len || x->style.model.len > SEEN_MODEL_MAX)
		return;
	memcpy(line.mark, x->seen_mark, SEEN_MARK);
	memcpy(line.key, x->key, KEY_BYTES);
	line.model_len = (uint8_t)x->style.model.len;
	memcpy(line.model, x->style.model.at, x->style.model.len);
	seen_add(x->worker->seen, &line);
}

bool exchange_fresh_enough(const struct exchange *x, int64_t created_ms, int64_t expires_ms)
{
	int64_t now = wall_now();

	return expires_ms > now && (x->wishes.max_age_s < 0 || now - created_ms < x->wishes.max_age_s * 1000);
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
	return exchange_fresh_enough(x, m->created_ms, m->expires_ms);
}

/* Nothing but what its line is found by says how this request is to be answered. */
static bool is_plain(const struct exchange *x)
{
	return x->origin == ORIGIN_NONE && x->request->http11 && x->wishes.max_age_s < 0;
}

/* The line of a request that came the short way, if its reply can be another's too. */
static struct seen_line *own_line(const struct exchange *x)
{
	if (x->keyed || !is_plain(x))
		return NULL;
	return seen_find(x->worker->seen, x->seen_mark, models_generation(x->worker->shared->models), x->config);
}

static bool can_take(const struct exchange *x, const struct seen_reply *again)
{
	return again->reply && request_can_take(x->request, again->reply);
}

/* A hit of any kind: what it asks of the model behind it. */
void exchange_keep_alive(struct exchange *x)
{
	if (x->ask.keep_alive.len)
		keep_alive_note(x->worker->shared->keep_alives, &x->ask, x->digest, x->hosts);
}

static struct answer_id entry_id(const struct exchange *x, const struct entry_meta *m)
{
	struct answer_id id = { .version = m->sum };

	memcpy(id.key, x->get.key, KEY_BYTES);
	return id;
}

static void give_again(struct exchange *x, const struct seen_reply *again)
{
	reply_saved(x, again->tokens, again->ns);
	exchange_step(x, STEP_STREAM);
	x->result = RESULT_EXACT;
	x->status = 200;
	x->streamed = x->ask.stream;
	request_reply_made(x->request, again->reply);
}

static void serve_entry(struct exchange *x, const struct entry_meta *m, struct slice pieces)
{
	char type[FLIGHT_TYPE_MAX];
	struct seen_line *line = own_line(x);
	const struct answer_id id = entry_id(x, m);
	struct seen_reply again = { .version = x->store_version, .sum = m->sum, .second = wall_now() / 1000,
	                            .expires_ms = m->expires_ms, .place = x->get.place, .tokens = m->eval_count,
	                            .ns = m->eval_ns + m->prompt_eval_ns };

	if (line && can_take(x, &line->again) && line->again.sum == m->sum && line->again.second == again.second) {
		line->again.version = again.version;
		line->again.place = again.place;
		give_again(x, &line->again);
		return;
	}
	x->stored_ms = m->created_ms;
	x->expires_ms = m->expires_ms;
	x->style.has_model = m->has_model;
	snprintf(type, sizeof type, "%.*s", (int)m->content_type.len, m->content_type.at);
	reply_saved(x, again.tokens, again.ns);
	exchange_keep_alive(x);
	exchange_step(x, STEP_STREAM);
	x->keep = line ? &again : NULL;
	reply_answer(x, pieces, m->stream == x->ask.stream ? type : NULL, &id, &x->get.entry);
	x->keep = NULL;
	if (again.reply)
		seen_keep(x->worker->seen, line, &again);
}

/* Not answered from the store by its key alone. */
static void go_on(struct exchange *x)
{
	if (x->keyed)
		exchange_join(x);
	else
		exchange_parse(x);               /* the short way did not lead to an answer: the long one */
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
	go_on(x);
}

static void on_got(struct store_get *g, enum store_news news)
{
	struct exchange *x = EXCHANGE_OF(g, get);

	x->getting = false;
	if (x->request)
		got_exact(x, news);
	exchange_drop(x);
}

/* 0: the store cannot know. */
static uint64_t store_version(const struct worker *w)
{
	const struct store_ops *ops = w->shared->store->ops;

	return ops->version ? ops->version(w->link) : 0;
}

/* Asks the store for x->get. STORE_LATER: the news come to done(), and the exchange is held until then. */
static enum store_news ask_store(struct exchange *x, void (*done)(struct store_get *, enum store_news))
{
	struct worker *w = x->worker;

	x->get.done = done;
	enum store_news news = w->shared->store->ops->get(w->link, &x->get);
	if (news == STORE_LATER) {
		x->getting = true;
		exchange_hold(x);
	}
	return news;
}

/* A newer answer than the store may say it has. */
static bool is_landing(const struct exchange *x, const uint8_t key[KEY_BYTES])
{
	return x->worker->shared->store->ops->puts_late && flights_landing(x->worker->shared->flights, key);
}

/* Asks the store for key; the news come to got_exact(), now or later. */
static void get_exact(struct exchange *x, const uint8_t key[KEY_BYTES])
{
	if (is_landing(x, key)) {
		go_on(x);
		return;
	}
	memcpy(x->get.key, key, KEY_BYTES);
	buf_fini(&x->get.entry);
	buf_init(&x->get.entry, CACHE_ENTRY_BYTES(x->config));
	x->get.query = NULL;
	x->get_began_us = clock_us();
	x->store_version = store_version(x->worker);
	enum store_news news = ask_store(x, on_got);
	if (news != STORE_LATER)
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

void exchange_start_lookup(struct exchange *x)
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

/* The reply that was given to these bytes a moment ago, if the store would say the same again. */
static bool reply_again(struct exchange *x, const struct seen_reply *again)
{
	struct worker *w = x->worker;
	int64_t now = wall_now();

	if (!can_take(x, again) || again->second != now / 1000 || again->expires_ms <= now || !again->version ||
	    again->version != store_version(w) || !is_plain(x))
		return false;
	w->shared->store->ops->used(w->link, again->place);
	give_again(x, again);
	metric_observe_us(&w->metrics, lookup_seconds, TIER_EXACT, x->step_us[STEP_LOOKUP]);
	return true;
}

/* A request seen before, byte for byte: its key is known without parsing. Plain wishes only. */
bool exchange_short_way(struct exchange *x)
{
	const struct wishes *w = &x->wishes;

	if (x->body.len == 0 || x->body.len > SEEN_BODY_MAX || !x->worker->link)
		return false;
	const char *tag = request_header(x->request, "X-Complex");
	const struct slice parts[] = { x->request->path, w->tenant[0], w->tenant[1], w->tenant[2], w->space, slice_text(tag ? tag : ""),
	                               buf_slice(&x->body) };
	_Static_assert(TENANT_PARTS == 3, "all parts of a tenant are marked");
	seen_mark(x->worker->seen, parts, sizeof parts / sizeof *parts, x->seen_mark);
	x->marked = true;
	if (w->no_cache || w->no_store || w->semantic_off || w->semantic_threshold > 0)
		return false;
	const struct seen_line *line =
		seen_find(x->worker->seen, x->seen_mark, models_generation(x->worker->shared->models), x->config);
	if (!line)
		return false;
	exchange_step(x, STEP_LOOKUP);
	x->style.family = (enum family)line->family;
	memcpy(x->model_room, line->model, line->model_len);
	x->style.model = slice_of(x->model_room, line->model_len);
	x->ask.stream = line->stream;
	x->ask.family = (enum family)line->family;
	if (!reply_again(x, &line->again))
		get_exact(x, line->key);
	return true;
}

/* ---- join ---- */

/* Nothing of this ask may be shared, or those that it would share with were given what it may not be, again and again: it gets a
 * flight of its own, which nobody finds. */
static bool alone(const struct exchange *x)
{
	return x->bypass != BYPASS_NO || x->refusals >= REFUSALS_MAX;
}

static void lead(struct exchange *x)
{
	const struct flight_leader leader = { .alone = exchange_post_alone, .room = exchange_post_room, .arg = x };

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
	const struct rules rules = { .ttl_ms = x->config->cache_ttl };
	x->reader.whole = !x->ask.stream;
	x->reader.fresh = x->wishes.max_age_s == 0;
	x->reader.landed_only = x->wishes.only_if_cached;        /* nobody else is to wait for an answer it does not ask for */
	x->reader.ttl_ms = policy_ttl_ms(&rules, &x->wishes);
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
	exchange_step(x, STEP_STREAM);
	x->result = flight_landed(x->flight) ? RESULT_EXACT : RESULT_JOINED;
	exchange_pump(x);
}

/* ---- seek: the leader looks once more, then for near questions ---- */

/* Gives a stored answer to the flight, and so to everyone who reads it. */
static void drop_copy(void *copy)
{
	copy_drop(copy);
}

/* A large entry is not copied into the flight: there may be many of the same, of questions that are near to one. */
static enum err put_pieces(struct exchange *x, struct answer *a, struct entry_meta *m, struct slice pieces)
{
	const struct answer_id id = entry_id(x, m);

	if (pieces.len <= STORED_PACED)
		return buf_put(&a->pieces, pieces);
	struct copy *copy = stored_share(x, &id, &x->get.entry, &pieces);
	if (!copy)
		return ERR_REPLIES_FULL;
	flight_lend(x->lead_flight, pieces, &id, drop_copy, copy);
	return entry_peek(copy_bytes(copy), m);       /* its texts have moved with the entry */
}

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
	flight_set_head(x->lead_flight, &head);
	flight_unlist(x->lead_flight);                /* it is in the store: who comes now looks there, and finds what is for him */
	struct answer *a = flight_open(x->lead_flight);
	enum err e = put_pieces(x, a, &m, pieces);
	a->whole = !e;
	a->has_model = m.has_model;
	a->eval_count = m.eval_count;
	a->eval_ns = m.eval_ns;
	a->prompt_eval_ns = m.prompt_eval_ns;
	flight_shut(x->lead_flight);
	if (e)
		return false;
	if (origin == FLIGHT_SEMANTIC)
		recent_add(x->worker->shared->recent, x->get.key, x->similarity, x->ask.question, m.question, x->ask.model_full);
	flight_finish(x->lead_flight, ERR_OK);
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
	struct exchange *x = EXCHANGE_OF(g, get);

	x->getting = false;
	if (x->lead_flight)
		got_near(x, news);
	exchange_drop(x);
}

/* The news of the second look: the entry itself, or near questions to choose from. */
static void got_second(struct exchange *x, enum store_news news)
{
	metric_add(&x->worker->metrics, near_bounded, x->get.bounded);
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
	enum store_news then = ask_store(x, on_got_near);
	if (then != STORE_LATER)
		got_near(x, then);
}

static void on_got_second(struct store_get *g, enum store_news news)
{
	struct exchange *x = EXCHANGE_OF(g, get);

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
	x->get.both = x->wishes.max_age_s >= 0;        /* what is found may be too old */
	x->get.proposal = semantic_proposals(x->near);
	x->get.bounded = false;                /* not every way through a store sets it */
	x->get_began_us = clock_us();
	enum store_news news = ask_store(x, on_got_second);
	if (news != STORE_LATER)
		got_second(x, news);
}
