/* server_request.c - a request's way in: its target, its head, its body, its end; see server.h.
 *
 * A head is judged here before anybody else sees it: what two servers might read differently is refused (RFC 9112, 11). */
#include "proxy/server_private.h"

#include <stdlib.h>

#include "proxy/base/eight.h"
#include "proxy/base/log.h"

enum { SPARE_REQUESTS = 256, SMALL_TARGET = 128 };

/* ---- what came ---- */

static enum MHD_Result keep_field(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value,
                                  size_t len)
{
	struct request_private *r = cls;

	(void)kind;
	r->fields_known = r->n_fields < FIELDS_KEPT;
	if (!r->fields_known)
		return MHD_NO;
	r->field[r->n_fields++] = (struct field){ name, value ? value : "", name_len, value ? len : 0 };
	r->name_lens |= 1ULL << name_len % 64;
	return MHD_YES;
}

void request_find_fields(struct request_private *r)
{
	r->fields_known = true;
	MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, keep_field, r);
}

const char *request_header_named(const struct request *pub, struct slice name)
{
	const struct request_private *r = private_of(pub);

	if (!r->fields_known)
		return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name.at);
	if (!(r->name_lens >> name.len % 64 & 1))
		return NULL;                 /* most that are looked for are not there */
	for (size_t i = 0; i < r->n_fields; i++)
		if (r->field[i].name_len == name.len && slice_is_nocase(slice_of(r->field[i].name, name.len), name))
			return r->field[i].value;
	return NULL;
}

struct each { void (*call)(void *, struct slice, struct slice); void *arg; };

static enum MHD_Result each_header(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_len, const char *value,
                                   size_t len)
{
	struct each *e = cls;

	(void)kind;
	e->call(e->arg, slice_of(key, key_len), slice_of(value ? value : "", value ? len : 0));
	return MHD_YES;
}

void request_each_header(const struct request *pub, void (*each)(void *arg, struct slice name, struct slice value), void *arg)
{
	const struct request_private *r = private_of(pub);

	if (!r->fields_known) {
		MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, each_header, &(struct each){ each, arg });
		return;
	}
	for (size_t i = 0; i < r->n_fields; i++)
		each(arg, slice_of(r->field[i].name, r->field[i].name_len), slice_of(r->field[i].value, r->field[i].value_len));
}

struct count { struct slice name; size_t n; };

static void count_header(void *arg, struct slice name, struct slice value)
{
	struct count *c = arg;

	(void)value;
	c->n += slice_is_nocase(name, c->name);
}

size_t request_header_count(const struct request *r, const char *name)
{
	struct count c = { slice_text(name), 0 };

	request_each_header(r, count_header, &c);
	return c.n;
}

/* ---- the way in ---- */

static void split_target(struct request_private *r)
{
	static const struct slice schemes[] = { { "http://", 7 }, { "https://", 8 } };
	struct slice t = r->pub.target;

	/* absolute form (RFC 9112, 3.2.2): the path begins behind the authority */
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		struct slice scheme = schemes[i];
		if (t.len < scheme.len || !slice_is_nocase(slice_of(t.at, scheme.len), scheme))
			continue;
		struct slice rest = slice_of(t.at + scheme.len, t.len - scheme.len);
		const char *slash = memchr(rest.at, '/', rest.len);
		r->authority = slice_of(rest.at, slash ? (size_t)(slash - rest.at) : rest.len);
		t = slash ? slice_of(slash, rest.len - r->authority.len) : SLICE("/");
		r->pub.target = t;
		break;
	}
	const char *mark = memchr(t.at, '?', t.len);
	r->pub.path = slice_of(t.at, mark ? (size_t)(mark - t.at) : t.len);
	r->pub.query = mark ? slice_of(mark + 1, t.len - r->pub.path.len - 1) : (struct slice){ 0 };
}

/* A few requests are kept: they are too large for malloc's quick lists. Under a sanitizer none is, so that it sees each. */
static struct request_private *request_new(struct server *s, size_t target_len)
{
	struct request_private *r = s->spare;
	bool small = target_len < SMALL_TARGET;

	if (small && r) {
		s->spare = r->flush_next;
		s->n_spare--;
	} else if (!(r = malloc(sizeof *r + (small ? SMALL_TARGET : target_len + 1)))) {
		return NULL;
	}
	memset(r, 0, offsetof(struct request_private, field));
	r->small = small;
	return r;
}

static void request_free(struct server *s, struct request_private *r)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)s;
	free(r);
#else
	if (!r->small || s->n_spare >= SPARE_REQUESTS) {
		free(r);
		return;
	}
	r->flush_next = s->spare;
	s->spare = r;
	s->n_spare++;
#endif
}

/* The first MHD says of a request: its raw target. What is returned becomes *con_cls. */
void *request_begun(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *c = info->socket_context;
	size_t len = strlen(uri);
	struct request_private *r = c ? request_new(c->server, len) : NULL;

	(void)cls;
	if (!r)
		return NULL;
	memcpy(r->target, uri, len + 1);
	r->pub.target = slice_of(r->target, len);
	split_target(r);
	r->conn = c;
	r->server = c->server;
	r->mhd = mhd;
	r->pub.peer = c->peer;
	r->pub.client = c->client;
	r->pub.peer_local = c->peer_local;
	r->pub.to_loopback = c->to_loopback;
	r->pub.is_admin = c->is_admin;
	r->pub.begun_us = clock_us();
	buf_init(&r->out, OUT_LIMIT);
	c->request = r;
	return r;
}

/* A letter, a digit or one of these: RFC 9110, 5.6.2. Anything else in a name is a way to hide a header from one side. */
static const bool token_byte[256] = {
	['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true,
	['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true,
	['`'] = true, ['|'] = true, ['~'] = true,
};

static bool is_token(struct slice s)
{
	bool good = s.len > 0;

	for (size_t i = 0; i < s.len; i++)
		good &= token_byte[(unsigned char)s.at[i]];
	return good;
}

/* No control byte but the tab. */
static bool is_field_value(struct slice s)
{
	unsigned char bad = 0;
	size_t clean = 0;

	for (; s.len - clean >= EIGHT; clean += EIGHT) {
		uint64_t x = eight_at(s.at + clean);
		if (eight_below(x, 0x20) | eight_is(x, 0x7f))
			break;
	}
	for (size_t i = clean; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];
		bad |= (c < ' ') & (c != '\t');
		bad |= c == 0x7f;
	}
	return !bad;
}

static bool begins_with(struct slice s, struct slice begin)
{
	return s.len >= begin.len && slice_is_nocase(slice_of(s.at, begin.len), begin);
}

enum { CONNECTION_MOST = 512 };          /* bytes of names, among which each header is looked for */

struct head_check {
	const char *length, *coding, *host;
	bool bad;
};

static void once(struct head_check *h, const char **header, struct slice value)
{
	h->bad |= *header != NULL;
	*header = value.at;
}

static void check_header(void *arg, struct slice name, struct slice value)
{
	struct head_check *h = arg;

	h->bad |= !is_token(name) || !is_field_value(value);
	switch (name.len ? name.at[0] | 0x20 : 0) {
	case 'c':
		if (slice_is_nocase(name, SLICE("Content-Length")))
			once(h, &h->length, value);
		else
			h->bad |= begins_with(name, SLICE("Content-Length"));
		h->bad |= value.len > CONNECTION_MOST && slice_is_nocase(name, SLICE("Connection"));
		break;
	case 't':
		if (slice_is_nocase(name, SLICE("Transfer-Encoding")))
			once(h, &h->coding, value);
		else
			h->bad |= begins_with(name, SLICE("Transfer-Encoding"));
		break;
	case 'h':
		if (slice_is_nocase(name, SLICE("Host")))
			once(h, &h->host, value);
		break;
	}
}

/* Nothing in a head may leave the line it is written in, here or upstream, and its length must be read alike by everyone
 * (RFC 9112, 11.1 and 11.2). MHD glues a folded line to the header's name: so a name that only begins like a length is one
 * that somebody in front may have read as one. */
static bool head_is_good(struct request_private *r)
{
	struct slice t = r->pub.target;
	struct head_check h = { 0 };
	uint64_t n = 0;

	for (size_t i = 0; i < t.len; i++)
		if ((unsigned char)t.at[i] <= ' ' || t.at[i] == 0x7f)
			return false;
	if (t.len == 0 || (t.at[0] != '/' && !slice_is(t, SLICE("*"))))
		return false;
	request_find_fields(r);
	for (const char *p = r->pub.method; *p; p++)
		if ((*p < 'A' || *p > 'Z') && (*p < 'a' || *p > 'z') && *p != '-' && *p != '_')
			return false;
	request_each_header(&r->pub, check_header, &h);
	if (h.bad || (h.length && h.coding) || (!h.host && r->pub.http11))
		return false;
	if (r->authority.at && (!h.host || !slice_is_nocase(r->authority, slice_text(h.host))))
		return false;
	if (h.coding && (!r->pub.http11 || !slice_is_nocase(slice_text(h.coding), SLICE("chunked"))))
		return false;
	if (h.length && !slice_number(slice_text(h.length), INT64_MAX, &n))
		return false;
	r->pub.content_length = h.coding ? -1 : (int64_t)n;
	r->pub.has_body = h.coding || n > 0;
	return true;
}

/* Where such a request ends nobody can tell: it is answered past MHD, which would wait for its body first, and the
 * connection ends here. */
static enum MHD_Result refuse_head(struct request_private *r)
{
	static const char reply[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
	                            "Connection: close\r\nContent-Length: 15\r\n\r\n400 Bad Request";
	int fd = r->conn->fd, kept = dup(fd);

	r->refused = true;
	if (send(fd, reply, sizeof reply - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_line(LOG_DEBUG, "server", "a client did not take its 400");
	shutdown(fd, SHUT_WR);
	if (kept >= 0)
		server_linger(r->server, kept);
	return MHD_NO;
}

static enum MHD_Result first_call(struct request_private *r, const char *method, const char *version)
{
	struct server *s = r->server;

	r->pub.method = method;
	r->pub.http11 = strcmp(version, "HTTP/1.0") != 0;
	r->begun = true;
	if (!head_is_good(r))
		return refuse_head(r);
	conn_state(r->conn, r->pub.has_body ? CONN_BODY : CONN_BUSY);
	s->new_bodies |= r->pub.has_body;
	s->o.ops->begin(&r->pub, s->o.arg);
	return MHD_YES;
}

enum MHD_Result request_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *data, size_t *len, void **con_cls)
{
	struct request_private *r = *con_cls;

	(void)mhd, (void)url;
	if (r && r->parked && !r->gone && !r->later) {
		request_park(r);
		return MHD_YES;
	}
	((struct server *)cls)->calls++;
	if (!r || r->gone)
		return MHD_NO;
	if (!r->begun)
		return first_call(r, method, version);
	if (*len) {
		conn_state(r->conn, CONN_BODY);
		size_t taken = r->discard ? *len : r->server->o.ops->body(&r->pub, slice_of(data, *len));
		if (r->discard)
			taken = *len;
		if (taken < *len) {
			conn_state(r->conn, CONN_BUSY);
			request_suspend(r);
		}
		*len -= taken;
		return MHD_YES;
	}
	if (!r->whole) {
		r->whole = true;
		conn_state(r->conn, CONN_BUSY);
		if (!r->replied)
			r->server->o.ops->whole(&r->pub);
	}
	request_queue_later(r);
	if (!r->queued && !r->gone)
		request_park(r);
	return r->gone && !r->queued ? MHD_NO : MHD_YES;
}

void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code)
{
	struct request_private *r = *con_cls;

	(void)mhd;
	((struct server *)cls)->calls++;
	*con_cls = NULL;
	if (!r)
		return;
	struct conn *c = r->conn;
	request_cork(r, false);
	request_finish(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	conn_unwatch(c);
	server_clock_forget(c);
	conn_state(c, CONN_IDLE);
	if (c->server->draining)
		shutdown(c->fd, SHUT_RDWR);
}

void request_finish(struct request_private *r, bool sent)
{
	struct server *s = r->server;

	r->conn->request = NULL;
	request_unpark(r);
	server_forget(s, r);
	if (r->begun && !r->refused)
		s->o.ops->done(&r->pub, sent && !r->gone && !r->broken);
	request_drop_later(r);
	if (r->streams)
		metric_add(s->o.metrics, streams_open, -1);
	if (r->claimed)
		budget_give_reply(s->o.budget, r->claimed);
	buf_fini(&r->out);
	request_free(s, r);
}

/* The owner hears of it once; MHD, when it wakes, finds an error and closes. */
void request_gone(struct request_private *r, enum err why)
{
	if (r->gone)
		return;
	r->gone = true;
	conn_unwatch(r->conn);
	if (r->begun && !r->refused)
		r->server->o.ops->gone(&r->pub, why);
	request_resume(r);
}
