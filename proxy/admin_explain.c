/* admin_explain.c - what would be done with a request, and why. It asks the store, never a model, and counts in no number
 * of requests.
 *
 * The body and the headers are those of the request to explain. Its Authorization is a matter of its own, as it may
 * decide the scope (cache.scope) while the one that came is the operator's: X-Explain-Authorization, if it is there, is
 * taken in its place; else, with admin.token set, none; else the one that came.
 *
 * One look-up gives the exact entry and the proposals; then the entries proposed are fetched one by one, for their
 * questions. Limits: EXPLAIN_BODY_MAX; at most STORE_PROPOSALS entries; SHOWN_MAX bytes of a text. */
#include <stdio.h>
#include <stdlib.h>

#include "cache/similar.h"
#include "proxy/admin.h"
#include "proxy/base/scan.h"
#include "proxy/candidates.h"
#include "proxy/host_state.h"
#include "proxy/semantic.h"

enum { SHOWN_MAX = 512, WHY_MAX = 1200, REPLY_BYTES_MAX = 2 << 20, ARENA_BYTES = WORDS_ARENA + STORE_PROPOSALS * (32 << 10) };

struct near_entry {
	uint8_t key[KEY_BYTES];
	struct words *words;                 /* NULL: they could not be read */
	struct verdict verdict;
	bool there;                          /* the entry was fetched, and the rest is known */
	char question[ENTRY_QUESTION_MAX + 1];
	int64_t age_s, ttl_s;
};

struct explain {
	struct own own;                      /* first */
	struct exchange *x;
	char endpoint[QUERY_VALUE_MAX + 1];
	struct arena arena;
	const struct lexicon *lexicon;
	struct store_query query;
	bool asks;                           /* near questions are looked for */
	const char *not_tried;               /* why they are not */
	const struct words *words;           /* NULL: not analysed */
	enum words_skip skip;
	uint8_t scope[KEY_BYTES];
	bool scoped;
	enum guards mode;
	double threshold;
	struct store_get get, one;           /* the look-up; then each entry proposed */
	struct store_proposal proposal[STORE_PROPOSALS];
	enum store_news news;
	bool exact, exact_old;
	int64_t exact_age_s, exact_ttl_s;
	bool flies;
	struct near_entry near[STORE_PROPOSALS];
	size_t n_near, at;
};

static void explain_free(struct own *own)
{
	struct explain *e = (struct explain *)own;

	buf_fini(&e->get.entry);
	buf_fini(&e->get.proposed);
	buf_fini(&e->one.entry);
	arena_fini(&e->arena);
	free(e);
}

/* ---- the answer ---- */

static enum err put_flag(struct buf *out, const char *name, bool value)
{
	return buf_addf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

static enum err put_field(struct buf *out, const char *name, struct slice value)
{
	enum err e = buf_addf(out, ",\"%s\":", name);

	return e ? e : value.at ? admin_put_text(out, value, SHOWN_MAX) : buf_addf(out, "null");
}

static const char *const mode_name[] = { [GUARDS_STRICT] = "strict", [GUARDS_STANDARD] = "standard", [GUARDS_OFF] = "off" };

static enum err put_word(struct buf *out, const struct word *w)
{
	enum err e = buf_addf(out, "{\"text\":");
	bool any = false;

	e = e ? e : admin_put_text(out, w->text, SHOWN_MAX);
	e = e ? e : buf_addf(out, ",\"lemmas\":%u,\"weight\":%.2f,\"flags\":[", w->n_terms, word_weight(w) / 4.0);
	for (size_t i = 0; i < WORD_FLAG_COUNT && !e; i++) {
		if (!(w->flags & 1u << i))
			continue;
		e = buf_addf(out, "%s\"%s\"", any ? "," : "", word_flag_name[i]);
		any = true;
	}
	e = e ? e : buf_addf(out, "]");
	if (w->role)
		e = e ? e : buf_addf(out, ",\"role\":\"%s\"", word_role_name[w->role]);
	return e ? e : buf_addf(out, "}");
}

static enum err put_words(struct buf *out, const struct words *w)
{
	enum err e = buf_addf(out, ",\"class\":\"%s\",\"classes\":[", words_class_name[w->class]);
	bool any = false;

	for (int i = 0; i < WORDS_CLASSES && !e; i++) {
		if (!(w->classes & 1u << i))
			continue;
		e = buf_addf(out, "%s\"%s\"", any ? "," : "", words_class_name[i]);
		any = true;
	}
	e = e ? e : buf_addf(out, "],\"tense\":\"%s\",\"negators\":%u,\"choice\":%s,\"keywords\":[", words_tense_name[w->tense], w->negators,
	                     w->choice ? "true" : "false");
	for (size_t i = 0; i < w->n && !e; i++) {
		e = i ? buf_add(out, ",", 1) : ERR_OK;
		e = e ? e : put_word(out, &w->word[i]);
	}
	return e ? e : buf_addf(out, "]");
}

static enum err put_semantic(struct buf *out, const struct explain *p)
{
	const struct exchange *x = p->x;
	enum err e = buf_addf(out, ",\"semantic\":{\"tried\":%s", p->asks ? "true" : "false");

	if (!p->asks)
		e = e ? e : put_field(out, "why_not", slice_text(p->not_tried));
	e = e ? e : buf_addf(out, ",\"guards\":\"%s\",\"threshold\":%.3f,\"shadow\":%s", mode_name[p->mode], p->threshold,
	                     x->config->semantic_shadow ? "true" : "false");
	if (p->words) {
		e = e ? e : put_field(out, "skip", slice_text(p->skip == WORDS_FIT ? NULL : words_skip_name[p->skip]));
		e = e ? e : put_words(out, p->words);
	}
	return e ? e : buf_addf(out, "}");
}

/* Words of one side, by what became of them: paired, or alone (only). */
static enum err put_alone(struct buf *out, const char *name, const struct words *w, const int8_t *partner)
{
	enum err e = buf_addf(out, ",\"%s\":[", name);
	bool any = false;

	for (size_t i = 0; i < w->n && !e; i++) {
		if (partner[i] != -1)
			continue;
		e = any ? buf_add(out, ",", 1) : ERR_OK;
		e = e ? e : admin_put_text(out, w->word[i].text, SHOWN_MAX);
		any = true;
	}
	return e ? e : buf_addf(out, "]");
}

static enum err put_pairing(struct buf *out, const struct words *a, const struct words *b, const struct pairing *p)
{
	enum err e = buf_addf(out, ",\"pairs\":[");
	bool any = false;

	for (size_t i = 0; i < a->n && !e; i++) {
		if (p->a[i] < 0 || (size_t)p->a[i] >= b->n)
			continue;
		e = buf_addf(out, "%s[", any ? "," : "");
		e = e ? e : admin_put_text(out, a->word[i].text, SHOWN_MAX);
		e = e ? e : buf_add(out, ",", 1);
		e = e ? e : admin_put_text(out, b->word[p->a[i]].text, SHOWN_MAX);
		e = e ? e : buf_add(out, "]", 1);
		any = true;
	}
	e = e ? e : buf_addf(out, "]");
	e = e ? e : put_alone(out, "only_asked", a, p->a);
	return e ? e : put_alone(out, "only_stored", b, p->b);
}

static enum err put_near(struct buf *out, const struct explain *p, const struct near_entry *n)
{
	const struct verdict *v = &n->verdict;
	enum err e = buf_addf(out, "{");
	bool any = false;

	e = e ? e : admin_put_key(out, "id", n->key);
	if (n->there) {
		e = e ? e : put_field(out, "question", slice_text(n->question));
		e = e ? e : buf_addf(out, ",\"age\":%lld,\"ttl\":%lld", (long long)n->age_s, (long long)n->ttl_s);
	}
	e = e ? e : put_flag(out, "there", n->there);
	if (!n->words)
		return e ? e : buf_addf(out, ",\"similarity\":null,\"near\":false,\"hit\":false,\"guards\":[]}");
	e = e ? e : buf_addf(out, ",\"similarity\":%.3f", v->similarity);
	e = e ? e : put_flag(out, "near", v->near);
	e = e ? e : put_flag(out, "hit", v->hit);
	if (v->skip != WORDS_FIT)
		e = e ? e : put_field(out, "skip", slice_text(words_skip_name[v->skip]));
	e = e ? e : buf_addf(out, ",\"guards\":[");
	for (int g = GUARD_NONE + 1; g < GUARD_COUNT && !e; g++) {
		if (!(v->guards & 1u << g))
			continue;
		e = buf_addf(out, "%s{\"name\":\"%s\",\"says\":\"%s\"}", any ? "," : "", guard_name[g], guard_says[g]);
		any = true;
	}
	e = e ? e : buf_addf(out, "]");
	if (v->skip == WORDS_FIT)
		e = e ? e : put_pairing(out, p->words, n->words, &v->pairing);
	return e ? e : buf_addf(out, "}");
}

static int by_similarity(const void *a, const void *b)
{
	const struct near_entry *m = a, *n = b;
	double d = n->verdict.similarity - m->verdict.similarity;

	return d > 0 ? 1 : d < 0 ? -1 : 0;
}

/* The one that would be served; NULL: none. The same choice as semantic_choose(). */
static const struct near_entry *chosen(const struct explain *p)
{
	const struct near_entry *best = NULL;

	for (size_t i = 0; i < p->n_near; i++)
		if (p->near[i].words && p->near[i].verdict.hit && (!best || p->near[i].verdict.similarity > best->verdict.similarity))
			best = &p->near[i];
	return best && best->there ? best : NULL;
}

static const char *no_hit(const struct explain *p)
{
	if (!p->asks)
		return p->not_tried;
	for (size_t i = 0; i < p->n_near; i++)
		if (p->near[i].words && p->near[i].verdict.near && p->near[i].verdict.guards)
			return "near questions are stored, but guards found them to differ";
	return p->n_near ? "no stored question is near enough" : "no stored question shares enough words";
}

static void why_no_digest(const struct exchange *x, char *why, size_t len)
{
	const struct shared *s = x->worker->shared;
	struct slice model = x->ask.model_full;

	for (size_t i = 0; i < hosts_count(s->hosts); i++) {
		const struct host_state state = host_state_of(s->hosts, i);
		if (state.cause == HOST_NOT_ASKED) {
			snprintf(why, len, "the cache keeps out of it: the upstream's models are not known yet: %s has not been asked", hosts_url(s->hosts, i));
			return;
		}
		if (!state.up) {
			snprintf(why, len, "the cache keeps out of it: no upstream is known to have model '%.*s', and %s is down: %s", (int)model.len,
			         model.at, hosts_url(s->hosts, i), state.why);
			return;
		}
	}
	snprintf(why, len, "the cache keeps out of it: no upstream has model '%.*s', or only a stub of one elsewhere", (int)model.len, model.at);
}

/* In the order in which a request goes through the tiers. */
static const char *what_would(const struct explain *p, char *why, size_t len)
{
	const struct exchange *x = p->x;
	const struct near_entry *hit = chosen(p);

	if (x->doubt) {
		snprintf(why, len, "the body is passed on as it came: %s", x->doubt);
		return "bypass";
	}
	if (x->bypass == BYPASS_NO_CACHE) {
		snprintf(why, len, x->wishes.only_if_cached ? "no-cache with only-if-cached: 504" : "no-cache: a new answer is asked for, and stored");
		return x->wishes.only_if_cached ? "refused" : "bypass";
	}
	if (x->bypass != BYPASS_NO) {
		if (x->bypass == BYPASS_DIGEST)
			why_no_digest(x, why, len);
		else
			snprintf(why, len, "the cache keeps out of it: %s", bypass_says[x->bypass]);
		return x->wishes.only_if_cached ? "refused" : "bypass";
	}
	if (p->exact) {
		snprintf(why, len, "the answer to this very request is stored");
		return "exact";
	}
	if (p->flies && !x->wishes.only_if_cached) {
		snprintf(why, len, "the answer to this very request is on its way; it would be shared");
		return "joined";
	}
	if (hit && !x->config->semantic_shadow) {
		snprintf(why, len, "similarity %.2f is at least %.2f, and no guard forbids", hit->verdict.similarity, p->threshold);
		return "semantic";
	}
	if (x->wishes.only_if_cached) {
		snprintf(why, len, "only-if-cached, and it is not: 504");
		return "refused";
	}
	snprintf(why, len, "%s%s%s", p->news == STORE_FAILED ? "the store does not answer; " : p->exact_old ? "the stored answer is too old; " : "",
	         p->asks ? "" : "near questions are not looked for: ", hit ? "a near question is stored, but semantic.shadow only counts it" : no_hit(p));
	return "miss";
}

static const char *why_candidates(const struct exchange *x)
{
	return x->wishes.complex != COMPLEX_NONE ? "header" : x->ask.complex_body != COMPLEX_NONE ? "body"
	     : x->ask.complex_model != COMPLEX_NONE ? "model" : x->candidates > 1 ? "auto" : "plain";
}

static enum err put_explained(struct buf *out, struct explain *p)
{
	const struct exchange *x = p->x;
	char why[WHY_MAX];
	const char *would = what_would(p, why, sizeof why);
	enum err e = buf_addf(out, "{\"would\":\"%s\"", would);

	e = e ? e : put_field(out, "why", slice_text(why));
	e = e ? e : put_field(out, "endpoint", slice_text(family_name[x->family]));
	e = e ? e : put_flag(out, "understood", !x->doubt);
	e = e ? e : put_field(out, "doubt", slice_text(x->doubt));
	e = e ? e : put_field(out, "bypass", slice_text(x->bypass == BYPASS_NO ? NULL : bypass_name[x->bypass]));
	if (x->doubt)
		return e ? e : buf_addf(out, "}");
	e = e ? e : put_field(out, "model", x->ask.model_full);
	e = e ? e : put_field(out, "digest", slice_text(*x->digest ? x->digest : NULL));
	e = e ? e : put_field(out, "question", x->ask.question);
	e = e ? e : put_flag(out, "stream", x->ask.stream);
	e = e ? e : put_field(out, "namespace", x->wishes.space);
	e = e ? e : put_flag(out, "has_tenant", x->wishes.tenant[0].len + x->wishes.tenant[1].len + x->wishes.tenant[2].len > 0);
	e = e ? e : buf_addf(out, ",\"candidates\":%u,\"candidates_why\":\"%s\",", x->candidates, why_candidates(x));
	e = e ? e : x->keyed ? admin_put_key(out, "key", x->key) : buf_addf(out, "\"key\":null");
	e = e ? e : buf_add(out, ",", 1);
	e = e ? e : p->scoped ? admin_put_key(out, "scope", p->scope) : buf_addf(out, "\"scope\":null");
	e = e ? e : buf_addf(out, ",\"exact\":");
	if (p->exact || p->exact_old)
		e = e ? e : buf_addf(out, "{\"fresh\":%s,\"age\":%lld,\"ttl\":%lld}", p->exact ? "true" : "false", (long long)p->exact_age_s,
		                     (long long)p->exact_ttl_s);
	else
		e = e ? e : buf_addf(out, "null");
	e = e ? e : put_flag(out, "flying", p->flies);
	e = e ? e : put_semantic(out, p);
	e = e ? e : buf_addf(out, ",\"nearest\":[");
	qsort(p->near, p->n_near, sizeof *p->near, by_similarity);
	for (size_t i = 0; i < p->n_near && !e; i++) {
		e = i ? buf_add(out, ",\n", 2) : ERR_OK;
		e = e ? e : put_near(out, p, &p->near[i]);
	}
	return e ? e : buf_addf(out, "]}");
}

static void reply(struct explain *p)
{
	struct buf out;

	buf_init(&out, REPLY_BYTES_MAX);
	admin_reply_json(p->x, &out, put_explained(&out, p));
}

/* ---- asking the store ---- */

static void next_near(struct explain *p);

static void got_one(struct explain *p, enum store_news news)
{
	struct near_entry *n = &p->near[p->at++];
	struct entry_meta m;
	struct slice pieces;
	int64_t now = wall_now();

	if (news != STORE_FOUND || entry_unpack(buf_slice(&p->one.entry), &m, &pieces) || m.expires_ms <= now)
		return;
	n->there = true;
	n->age_s = (now - m.created_ms) / 1000;
	n->ttl_s = (m.expires_ms - now) / 1000;
	snprintf(n->question, sizeof n->question, "%.*s", (int)m.question.len, m.question.at);
}

static void on_one(struct store_get *g, enum store_news news)
{
	struct explain *p = (struct explain *)((char *)g - offsetof(struct explain, one));
	struct exchange *x = p->x;

	got_one(p, news);
	next_near(p);
	exchange_drop(x);
}

static void next_near(struct explain *p)
{
	struct exchange *x = p->x;

	while (p->at < p->n_near && x->request) {
		buf_fini(&p->one.entry);
		buf_init(&p->one.entry, CACHE_ENTRY_BYTES(x->config));
		memcpy(p->one.key, p->near[p->at].key, KEY_BYTES);
		p->one.done = on_one;
		enum store_news news = x->worker->shared->store->ops->get(x->worker->link, &p->one);
		if (news == STORE_LATER) {
			exchange_hold(x);
			return;
		}
		got_one(p, news);
	}
	if (x->request)
		reply(p);
}

static void got(struct explain *p, enum store_news news)
{
	struct exchange *x = p->x;
	struct entry_meta m;
	struct slice pieces;
	int64_t now = wall_now();

	p->news = news;
	p->flies = flights_have(x->worker->shared->flights, x->key);
	if (news == STORE_FOUND && !entry_unpack(buf_slice(&p->get.entry), &m, &pieces)) {
		p->exact_age_s = (now - m.created_ms) / 1000;
		p->exact_ttl_s = (m.expires_ms - now) / 1000;
		p->exact = m.expires_ms > now && (x->wishes.max_age_s < 0 || now - m.created_ms < x->wishes.max_age_s * 1000);
		p->exact_old = !p->exact;
	}
	for (size_t i = 0; i < p->get.n_proposals; i++) {
		struct near_entry *n = &p->near[p->n_near++];
		memcpy(n->key, p->get.proposal[i].key, KEY_BYTES);
		if (words_unpack(p->get.proposal[i].question, &p->arena, &n->words))
			n->words = NULL;
		else
			similar_judge(p->mode, p->threshold, p->words, n->words, &n->verdict);
	}
	next_near(p);
}

static void on_got(struct store_get *g, enum store_news news)
{
	struct explain *p = (struct explain *)((char *)g - offsetof(struct explain, get));
	struct exchange *x = p->x;

	if (x->request)
		got(p, news);
	exchange_drop(x);
}

/* Why near questions are not looked for; NULL: they are. */
static const char *analyse(struct explain *p)
{
	struct exchange *x = p->x;

	p->lexicon = atomic_load(&x->worker->shared->lexicon);
	p->mode = semantic_mode(x->config);
	p->threshold = semantic_threshold(x->config, &x->wishes);
	if (!x->config->semantic_enabled)
		return "semantic.enabled is off";
	if (!p->lexicon)
		return "the dictionaries are not loaded";
	if (x->ask.not_semantic)
		return x->ask.not_semantic;
	if (!x->ask.canonical_scope.len)
		return "there is no question";
	p->words = words_of(p->lexicon, x->ask.question, &p->arena);
	if (*x->digest) {
		semantic_scope(x, p->lexicon, p->scope);
		p->scoped = true;
	}
	if (!p->words)
		return "out of memory";
	p->skip = similar_skip(p->mode, p->words);
	if (p->skip != WORDS_FIT)
		return words_skip_name[p->skip];
	if (x->wishes.semantic_off)
		return "X-Cache-Semantic is off";
	if (x->bypass != BYPASS_NO)
		return "the request bypasses the cache";
	memcpy(p->query.scope, p->scope, KEY_BYTES);
	return similar_query(p->mode, p->threshold, p->words, &p->arena, &p->query) ? NULL : "nothing can be that near";
}

static void look(struct explain *p)
{
	struct exchange *x = p->x;

	memcpy(p->get.key, x->key, KEY_BYTES);
	buf_init(&p->get.entry, CACHE_ENTRY_BYTES(x->config));
	buf_init(&p->get.proposed, SEMANTIC_PROPOSED_BYTES);
	p->get.query = p->asks ? &p->query : NULL;
	p->get.both = true;
	p->get.proposal = p->proposal;
	p->get.done = on_got;
	enum store_news news = x->worker->shared->store->ops->get(x->worker->link, &p->get);
	if (news == STORE_LATER)
		exchange_hold(x);
	else
		got(p, news);
}

/* ---- the request ---- */

static bool find_family(struct explain *p)
{
	struct exchange *x = p->x;
	struct slice name, value;
	struct scan s;

	x->family = FAMILY_GENERATE;
	for (int f = 0; f < FAMILY_COUNT; f++)
		if (!strcmp(p->endpoint, family_name[f])) {
			x->family = (enum family)f;
			return true;
		}
	if (*p->endpoint)
		return false;
	for (scan_init(&s, buf_slice(&x->body)); scan_next(&s, &name, &value); )
		if (slice_is(name, SLICE("messages")))
			x->family = FAMILY_CHAT;
	return true;
}

/* As which tenant: see above. */
static void set_tenant(struct exchange *x)
{
	const char *other = request_header(x->request, "X-Explain-Authorization");

	if (x->config->cache_scope_kind == CONFIG_SCOPE_AUTHORIZATION && (other || *x->config->admin_token))
		x->wishes.tenant[0] = slice_text(other ? other : "");
}

/* Its ask is made, or it is in doubt. */
static void explain(struct exchange *x)
{
	struct explain *p = (struct explain *)x->own;
	char why[256];

	if (x->doubt) {
		x->bypass = BYPASS_BODY;
		reply(p);
		return;
	}
	if (!x->candidates) {
		exchange_candidates_bad(x, why, sizeof why);
		admin_error(x, ERR_BAD_HEADER, why);
		return;
	}
	x->bypass = exchange_bypass(x);
	if (models_find(x->worker->shared->models, x->ask.model_full, x->digest, &x->hosts, NULL) != MODEL_KNOWN) {
		x->digest[0] = '\0';
		if (x->bypass == BYPASS_NO || x->bypass == BYPASS_NO_CACHE)
			x->bypass = BYPASS_DIGEST;
	} else {
		exchange_make_key(x);
	}
	p->not_tried = analyse(p);
	p->asks = !p->not_tried;
	if (x->bypass == BYPASS_NO && x->worker->link)
		look(p);
	else
		reply(p);
}

static void on_whole(struct exchange *x)
{
	struct explain *p = (struct explain *)x->own;
	char why[256];

	if (!wishes_read(x, why, sizeof why)) {
		admin_error(x, ERR_BAD_HEADER, why);
		return;
	}
	set_tenant(x);
	if (!find_family(p)) {
		admin_error(x, ERR_BAD_QUERY, "query: endpoint is chat, generate, embed or embeddings");
		return;
	}
	exchange_read(x, explain);
}

void admin_explain(struct exchange *x)
{
	char why[ADMIN_WHY_MAX];
	struct explain *p = calloc(1, sizeof *p);

	if (!p) {
		admin_error(x, ERR_NO_MEMORY, NULL);
		return;
	}
	*p = (struct explain){ .own = { .body_max = EXPLAIN_BODY_MAX, .whole = on_whole, .free = explain_free }, .x = x, .news = STORE_NONE };
	arena_init(&p->arena, ARENA_BYTES);
	x->own = &p->own;
	const struct query_value wanted[] = { { "endpoint", p->endpoint } };
	if (!query_read(x->request->query, wanted, 1, why))
		admin_error(x, ERR_BAD_QUERY, why);
	else if (x->request->content_length > EXPLAIN_BODY_MAX)
		admin_error(x, ERR_TOO_LARGE, NULL);
}
