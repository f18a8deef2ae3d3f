/* store_redis.c - entries in Redis; see store.h, redis_link.h and redis_function.c.
 *
 * An entry is one string under prefix + key in hex, with its time to live. `prefix` + "index" is a sorted set of all
 * keys by their end of life: it is there to be counted, and what it says is approximate (what Redis evicts by its own
 * maxmemory-policy stays in it until its time has come). Near questions are kept and looked up by a function on the
 * server, asked on a link of its own (redis_near.c). What of the server works, and is said of it, is in redis_health.c.
 *
 * Errors   whatever the server says that is not an answer is STORE_FAILED, or stored = false, and counted; nothing of it
 *          ends a connection but silence and, for a master that has become a replica, READONLY.
 * Threads  a link belongs to its loop; between links only a few counters are shared.
 * Limits   a link has at most OPS_MAX operations under way, beyond that it says STORE_FAILED at once. */
#include <stdio.h>
#include <stdlib.h>

#include <hiredis/hiredis.h>

#include "cache/redis_function.h"
#include "cache/redis_store.h"
#include "proxy/base/log.h"

enum { CHECK_MS = 300 };

static struct redis *of(struct store *store)
{
	return (struct redis *)store;                  /* its first member */
}

void redis_failed(struct redis *s)
{
	if (s->store.errors)
		atomic_fetch_add_explicit(s->store.errors, 1, memory_order_relaxed);
}

void redis_changed(struct redis *s)
{
	atomic_fetch_add_explicit(&s->changes, 1, memory_order_release);
}

void command_add(struct command *c, const void *at, size_t len)
{
	c->at[c->n] = at;
	c->len[c->n++] = len;
}

void command_word(struct command *c, const char *text)
{
	command_add(c, text, strlen(text));
}

/* prefix + key in hex; returns its length. */
size_t redis_entry_name(const struct redis *s, char to[NAME_BYTES], const uint8_t key[KEY_BYTES])
{
	static const char digit[] = "0123456789abcdef";
	char *at = to + s->prefix_len;

	memcpy(to, s->prefix, s->prefix_len);
	for (int i = 0; i < KEY_BYTES; i++) {
		*at++ = digit[key[i] >> 4];
		*at++ = digit[key[i] & 15];
	}
	*at = 0;
	return s->prefix_len + KEY_HEX;
}

bool redis_key_read(uint8_t key[KEY_BYTES], const char *from, size_t len)
{
	if (len != KEY_HEX)
		return false;
	for (int i = 0; i < KEY_HEX; i++) {
		int d = from[i] >= '0' && from[i] <= '9' ? from[i] - '0' : from[i] >= 'a' && from[i] <= 'f' ? from[i] - 'a' + 10 : -1;
		if (d < 0)
			return false;
		key[i / 2] = (uint8_t)(i % 2 ? key[i / 2] << 4 | d : d);
	}
	return true;
}

size_t redis_scope_name(const struct redis *s, char to[SCOPE_BYTES], const uint8_t scope[KEY_BYTES])
{
	char hex[NAME_BYTES];

	redis_entry_name(s, hex, scope);
	return (size_t)snprintf(to, SCOPE_BYTES, "%snear:{%.32s}", s->prefix, hex + s->prefix_len);
}

struct redis_op *redis_op_new(struct store_link *l, void (*end)(struct redis_op *))
{
	struct redis_op *op = l->n_ops < OPS_MAX ? calloc(1, sizeof *op) : NULL;

	if (!op)
		return NULL;
	op->link = l;
	op->end = end;
	op->ok = true;
	op->next = l->ops;
	if (l->ops)
		l->ops->prev = op;
	l->ops = op;
	l->n_ops++;
	return op;
}

void redis_op_free(struct redis_op *op)
{
	struct store_link *l = op->link;

	if (op->prev)
		op->prev->next = op->next;
	else
		l->ops = op->next;
	if (op->next)
		op->next->prev = op->prev;
	l->n_ops--;
	redis_scan_free(op->scan);
	free(op);
}

/* An error of which kind says something of the server as a whole, and of which part of it. */
static bool part_of(const char *error, enum redis_part *part)
{
	switch (redis_kind_of(error)) {
	case REDIS_KIND_OTHER:
		return false;
	case REDIS_KIND_OOM: case REDIS_KIND_READONLY: case REDIS_KIND_MISCONF: case REDIS_KIND_NOREPLICAS:
		*part = REDIS_PART_WRITE;
		return true;
	default:
		return true;
	}
}

bool redis_is_error(struct store_link *l, enum redis_part part, const redisReply *r)
{
	struct redis *s = l->store;
	bool optional = part == REDIS_PART_NEAR || part == REDIS_PART_INDEX;

	if (!r)
		return true;                           /* the link has counted it */
	if (r->type != REDIS_REPLY_ERROR) {
		redis_health_works(&s->health, part);
		return false;
	}
	if (strstr(r->str, "Function not found")) {
		redis_link_reload(&l->redis);
		redis_link_reload(&l->near.link);
		return true;
	}
	if (!part_of(r->str, &part)) {
		log_line(LOG_DEBUG, "store", "redis: %s", r->str);
		redis_failed(s);
	} else if (redis_health_fails(&s->health, part, r->str) || !optional) {
		redis_failed(s);
	}
	if (strncmp(r->str, "READONLY", 8) == 0 && s->url.sentinels)
		redis_link_drop(&l->redis, "this server is a replica now");
	return true;
}

void redis_op_replied(struct redis_op *op)
{
	if (--op->left == 0)
		op->end(op);
}

bool redis_op_send(struct redis_op *op, struct redis_call *call, void (*done)(struct redis_call *, const redisReply *),
		    const struct command *c)
{
	call->done = done;
	if (!redis_send(&op->link->redis, call, c->n, (const char **)(uintptr_t)c->at, c->len))
		return false;
	op->left++;
	return true;
}

static struct redis_op *op_of(struct redis_call *call, int nth)
{
	return (struct redis_op *)(void *)((char *)(call - nth) - offsetof(struct redis_op, call));
}

static void on_later(uv_timer_t *t)
{
	struct store_link *l = t->data;

	for (;;) {
		struct redis_op *op = l->ops;
		while (op && !op->refused)
			op = op->next;
		if (!op)
			return;
		op->end(op);                           /* may detach, which leaves no operations */
	}
}

void redis_op_refuse(struct redis_op *op)
{
	op->refused = true;
	uv_timer_start(&op->link->later, on_later, 0, 0);
}

/* get */

static void get_end(struct redis_op *op)
{
	struct store_get *g = op->get;
	enum store_news news = op->news;

	redis_op_free(op);
	if (g) {
		g->link_private = NULL;
		g->done(g, news);
	}
}

static void on_entry(struct redis_call *call, const redisReply *r)
{
	struct redis_op *op = op_of(call, 0);

	op->news = STORE_FAILED;
	if (!redis_is_error(op->link, REDIS_PART_READ, r) && op->get) {
		enum err e = ERR_OK;
		if (r->type == REDIS_REPLY_STRING)
			e = buf_add(&op->get->entry, r->str, r->len);
		if (e == ERR_NO_MEMORY)
			redis_failed(op->link->store);
		op->news = e == ERR_NO_MEMORY ? STORE_FAILED : r->type == REDIS_REPLY_STRING && !e ? STORE_FOUND : STORE_NONE;
	}
	/* what is found or has failed does not wait for near questions */
	if (op->near != NEAR_NONE && (op->news == STORE_FAILED || (op->news == STORE_FOUND && !op->get->both))) {
		redis_near_leave(op);
		op->left--;
	}
	redis_op_replied(op);
}

static enum store_news redis_get(struct store_link *l, struct store_get *g)
{
	struct redis_op *op = redis_link_up(&l->redis) ? redis_op_new(l, get_end) : NULL;
	char name[NAME_BYTES];
	struct command c = { 0 };
	size_t terms;

	if (!op) {
		redis_failed(l->store);
		return STORE_FAILED;
	}
	g->n_proposals = 0;
	g->bounded = false;
	op->get = g;
	command_word(&c, "GET");
	command_add(&c, name, redis_entry_name(l->store, name, g->key));
	if (!redis_op_send(op, &op->call[0], on_entry, &c)) {
		redis_op_free(op);
		redis_failed(l->store);
		return STORE_FAILED;
	}
	buf_fini(&g->proposed);                        /* of a look-up before, with the same struct */
	buf_init(&g->proposed, (size_t)STORE_PROPOSALS * NEAR_QUESTION_MAX);
	if (g->query && near_fits(g->query->words, g->query->n_words, &terms) && redis_near_asks(l))
		redis_near_begin(op);
	g->link_private = op;
	return STORE_LATER;
}

static void redis_cancel(struct store_link *l, struct store_get *g)
{
	struct redis_op *op = g->link_private;

	(void)l;
	g->link_private = NULL;
	if (!op)
		return;
	op->get = NULL;
	if (op->near != NEAR_NONE) {                   /* its search would be for nobody */
		redis_near_leave(op);
		redis_op_replied(op);                  /* the key's own reply may still come */
	}
}

/* version: what others changed is heard; what this process changes counts when it is sent, and before it is said to be done */

static uint64_t redis_version(struct store_link *l)
{
	uint64_t heard = redis_ear_version(&l->ear);

	return heard ? heard + atomic_load_explicit(&l->store->changes, memory_order_acquire) : 0;
}

/* An answer is given again for a second at most; then a GET tells the server's eviction that it is in use. */
static void redis_used(struct store_link *l, uint64_t place)
{
	(void)l, (void)place;
}

/* put and drop */

static void write_end(struct redis_op *op)
{
	void (*done)(void *, bool) = op->done;
	void *its = op->arg;
	bool ok = op->ok;

	redis_changed(op->link->store);          /* also if it is said to have failed: who knows how far it got */
	redis_op_free(op);
	if (done)
		done(its, ok);
}

static void on_set(struct redis_call *call, const redisReply *r)
{
	struct redis_op *op = op_of(call, 0);

	op->ok = !redis_is_error(op->link, REDIS_PART_WRITE, r) && r->type == REDIS_REPLY_STATUS;
	redis_op_replied(op);
}

static void on_deleted(struct redis_call *call, const redisReply *r)
{
	struct redis_op *op = op_of(call, 0);

	op->ok = !redis_is_error(op->link, REDIS_PART_LIST, r) && r->type == REDIS_REPLY_INTEGER && r->integer > 0;
	redis_op_replied(op);
}

static void on_indexed(struct redis_call *call, const redisReply *r)
{
	struct redis_op *op = op_of(call, 1);

	(void)redis_is_error(op->link, REDIS_PART_INDEX, r);     /* counted; the entry itself stands or falls by its own reply */
	redis_op_replied(op);
}

static void on_posted(struct redis_call *call, const redisReply *r)
{
	struct redis_op *op = op_of(call, 2);

	(void)redis_is_error(op->link, REDIS_PART_NEAR, r);
	redis_op_replied(op);
}

/* The news that nothing will come, told in the next turn. */
static void refuse(struct store_link *l, void (*done)(void *, bool), void *its)
{
	struct redis_op *op;

	redis_failed(l->store);
	if (!done)
		return;
	op = redis_op_new(l, write_end);
	if (!op) {
		done(its, false);
		return;
	}
	op->done = done;
	op->arg = its;
	op->ok = false;
	redis_op_refuse(op);
}

static void redis_put(struct store_link *l, const struct store_item *item, void (*done)(void *, bool), void *its)
{
	struct redis *s = l->store;
	int64_t ttl = item->expires_ms - wall_now();
	char name[NAME_BYTES], base[SCOPE_BYTES], index[PREFIX_MAX + 8], ttl_text[32], end_text[32], total_text[16];
	uint8_t packed[NEAR_PACKED_MAX];
	size_t name_len = redis_entry_name(s, name, item->key), terms;
	struct redis_op *op = redis_link_up(&l->redis) && ttl > 0 ? redis_op_new(l, write_end) : NULL;
	struct command c = { 0 };
	unsigned total;

	if (!op) {
		refuse(l, done, its);
		return;
	}
	op->done = done;
	op->arg = its;
	snprintf(ttl_text, sizeof ttl_text, "%lld", (long long)ttl);
	snprintf(end_text, sizeof end_text, "%lld", (long long)item->expires_ms);
	redis_changed(s);
	command_word(&c, "SET");
	command_add(&c, name, name_len);
	command_add(&c, item->entry.at, item->entry.len);
	command_word(&c, "PX");
	command_word(&c, ttl_text);
	if (!redis_op_send(op, &op->call[0], on_set, &c)) {
		redis_op_free(op);
		refuse(l, done, its);
		return;
	}
	c.n = 0;
	snprintf(index, sizeof index, "%sindex", s->prefix);
	command_word(&c, "ZADD");
	command_word(&c, index);
	command_word(&c, end_text);
	command_add(&c, name + s->prefix_len, KEY_HEX);
	bool sent = !redis_health_asks(&s->health, REDIS_PART_INDEX) || redis_op_send(op, &op->call[1], on_indexed, &c);
	if (sent && item->has_question && l->redis.has_function && redis_near_asks(l) && item->question.len <= NEAR_QUESTION_MAX &&
	    near_fits(item->words, item->n_words, &terms)) {
		c.n = 0;
		command_word(&c, "FCALL");
		command_word(&c, REDIS_FUNCTION_PUT);
		command_word(&c, "1");
		command_add(&c, base, redis_scope_name(s, base, item->scope));
		command_add(&c, name + s->prefix_len, KEY_HEX);
		command_word(&c, ttl_text);
		size_t len = near_pack(packed, item->words, item->n_words, &total);
		snprintf(total_text, sizeof total_text, "%u", total);
		command_word(&c, total_text);
		command_add(&c, packed, len);
		command_add(&c, item->question.at, item->question.len);
		sent = redis_op_send(op, &op->call[2], on_posted, &c);
	}
	if (!sent)
		redis_failed(s);
}

static void redis_drop(struct store_link *l, const uint8_t key[KEY_BYTES], void (*done)(void *, bool), void *its)
{
	struct redis *s = l->store;
	char name[NAME_BYTES], index[PREFIX_MAX + 8];
	size_t len = redis_entry_name(s, name, key);
	struct redis_op *op = redis_link_up(&l->redis) ? redis_op_new(l, write_end) : NULL;
	struct command c = { 0 };

	if (!op) {
		refuse(l, done, its);
		return;
	}
	op->done = done;
	op->arg = its;
	redis_changed(s);
	command_word(&c, "DEL");
	command_add(&c, name, len);
	if (!redis_op_send(op, &op->call[0], on_deleted, &c)) {
		redis_op_free(op);
		refuse(l, done, its);
		return;
	}
	c.n = 0;
	snprintf(index, sizeof index, "%sindex", s->prefix);
	command_word(&c, "ZREM");
	command_word(&c, index);
	command_add(&c, name + s->prefix_len, KEY_HEX);
	if (redis_health_asks(&s->health, REDIS_PART_INDEX))
		redis_op_send(op, &op->call[1], on_indexed, &c);
}

static void on_counter(uv_timer_t *t)
{
	struct store_link *l = t->data;

	redis_ear_open(&l->ear);
	redis_near_again(l);
	redis_count(l);
}

static void on_changed(struct redis_link *link, const char *why)
{
	struct store_link *l = (struct store_link *)link;
	struct redis *s = l->store;
	bool up = why == NULL;

	if (l->stopping)
		return;
	if (l->was_up && !up)
		redis_failed(s);
	if (l->was_up != up && atomic_fetch_add(&s->links_down, up ? -1 : 1) == 1 && up)
		redis_health_works(&s->health, REDIS_PART_LINK);
	l->was_up = up;
	if (up) {
		redis_link_hurry(&l->near.link);
		uv_timer_start(&l->counter, on_counter, 0, COUNT_EVERY_MS);
	} else {
		redis_health_fails(&s->health, REDIS_PART_LINK, why);
		redis_ear_close(&l->ear);
	}
}

void redis_on_loaded(struct store_link *l, const char *refusal)
{
	struct redis *s = l->store;

	if (refusal)
		redis_health_fails(&s->health, REDIS_PART_NEAR, refusal);
	else if (atomic_load(&s->load_refused))
		redis_health_works(&s->health, REDIS_PART_NEAR);
	atomic_store(&s->load_refused, refusal != NULL);
}

static void on_loaded(struct redis_link *link, const char *refusal)
{
	redis_on_loaded((struct store_link *)link, refusal);
}

void redis_handle_closed(struct store_link *l)
{
	if (--l->open_handles == 0)
		free(l);
}

static void on_link_closed(struct redis_link *link)
{
	redis_handle_closed((struct store_link *)link);
}

static void on_ear_closed(struct redis_ear *ear)
{
	redis_handle_closed((struct store_link *)(void *)((char *)ear - offsetof(struct store_link, ear)));
}

static void on_timer_closed(uv_handle_t *timer)
{
	redis_handle_closed(timer->data);
}

static struct store_link *redis_attach(struct store *store, struct loop *loop)
{
	struct redis *s = of(store);
	struct store_link *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->store = s;
	atomic_fetch_add(&s->links, 1);
	atomic_fetch_add(&s->links_down, 1);
	l->open_handles = 3;
	uv_timer_init(&loop->uv, &l->counter);
	uv_timer_init(&loop->uv, &l->later);
	l->counter.data = l->later.data = l;
	uv_unref((uv_handle_t *)&l->counter);
	l->redis.url = &s->url;
	l->redis.timeout_ms = s->timeout_ms;
	l->redis.retry_ms = s->retry_ms;
	l->redis.function = redis_function;
	l->redis.changed = on_changed;
	l->redis.loaded = on_loaded;
	l->redis.closed = on_link_closed;
	l->ear.link = &l->redis;
	l->ear.prefix = s->prefix;
	l->ear.closed = on_ear_closed;
	redis_link_open(&l->redis, loop);
	redis_near_open(l, loop);
	return l;
}

static void redis_detach(struct store_link *l)
{
	redis_link_close(&l->redis);
	redis_near_close(l);
	if (redis_ear_end(&l->ear))
		l->open_handles++;
	while (l->ops)
		redis_op_free(l->ops);
	atomic_fetch_add(&l->store->links, -1);
	if (!l->was_up)
		atomic_fetch_add(&l->store->links_down, -1);
	uv_close((uv_handle_t *)&l->counter, on_timer_closed);
	uv_close((uv_handle_t *)&l->later, on_timer_closed);
}

static struct store_state redis_state(struct store *store)
{
	struct redis *s = of(store);
	struct store_state state = { .entries = atomic_load(&s->entries), .bytes = atomic_load(&s->bytes) };

	redis_health_state(&s->health, &state);
	state.up &= atomic_load(&s->links_down) == 0;
	return state;
}

static void redis_flush(struct store_link *l)
{
	redis_link_flush(&l->redis);
	redis_link_flush(&l->near.link);
}

static void redis_stop(struct store_link *l)
{
	l->stopping = true;
	redis_link_drop(&l->near.link, "");
	redis_link_drop(&l->redis, "");
	while (l->ops && l->ops->refused)              /* what was to be told in the next turn */
		l->ops->end(l->ops);
}

static void redis_close(struct store *store)
{
	struct redis *s = of(store);

	redis_url_fini(&s->url);
	redis_health_fini(&s->health);
	free(s->prefix);
	free(s);
}

static const struct store_ops redis_ops = {
	.name = "redis",
	.puts_late = true,
	.attach = redis_attach,
	.detach = redis_detach,
	.get = redis_get,
	.cancel = redis_cancel,
	.version = redis_version,
	.used = redis_used,
	.put = redis_put,
	.drop = redis_drop,
	.walk = redis_walk,
	.state = redis_state,
	.flush = redis_flush,
	.stop = redis_stop,
	.close = redis_close,
};

/* Asks a server that answers quickly whether it is a cluster. The one place that waits: nothing is served yet. */
static bool is_cluster(const struct redis_url *u)
{
	const struct redis_host *h = &u->hosts[0];
	struct timeval wait = { 0, CHECK_MS * 1000 };
	redisContext *c = h->port ? redisConnectWithTimeout(h->name, h->port, wait) : redisConnectUnixWithTimeout(h->name, wait);
	bool is = false;

	if (c && !c->err && redisSetTimeout(c, wait) == REDIS_OK) {
		if (u->password)
			freeReplyObject(u->user ? redisCommand(c, "AUTH %s %s", u->user, u->password) :
					redisCommand(c, "AUTH %s", u->password));
		redisReply *r = c->err ? NULL : redisCommand(c, "INFO cluster");
		is = r && r->type == REDIS_REPLY_STRING && strstr(r->str, "cluster_enabled:1");
		freeReplyObject(r);
	}
	if (c)
		redisFree(c);
	return is;
}

struct store *store_redis_open(const struct store_redis_options *o, char *why, size_t len)
{
	struct redis *s = calloc(1, sizeof *s);
	char fault[256], name[128];

	snprintf(why, len, "out of memory");
	if (!s)
		return NULL;
	if (!redis_url_read(&s->url, o->url, fault, sizeof fault)) {
		snprintf(why, len, "redis.url %s", fault);
		free(s);
		return NULL;
	}
	const struct redis_host *host = &s->url.hosts[0];
	snprintf(name, sizeof name, host->port ? "%s:%u" : "%s", host->name, (unsigned)host->port);
	redis_health_init(&s->health, name);
	s->prefix = strdup(o->prefix);
	s->prefix_len = strlen(o->prefix);
	s->timeout_ms = o->timeout_ms;
	s->retry_ms = o->retry_ms;
	s->store.ops = &redis_ops;
	bool cluster = !s->url.sentinels && is_cluster(&s->url);
	if (s->prefix && s->prefix_len < PREFIX_MAX && !cluster)
		return &s->store;
	if (cluster)
		snprintf(why, len, "redis.url is a Redis Cluster, which is not supported: use one node or Sentinel");
	else if (s->prefix)
		snprintf(why, len, "redis.prefix is longer than %d bytes", PREFIX_MAX - 1);
	redis_close(&s->store);
	return NULL;
}
