/* upstream.c - see upstream.h.
 *
 * curl forbids removing a handle inside its callbacks, and our owners may cancel from anywhere: so an ended or
 * cancelled transfer is only marked, calls its owner no more, and is taken out at the end of the loop's turn.
 *
 * An upstream that fails before the first byte of its reply is not asked again; another one is, if there is one and the
 * body can be sent again (a streamed body can only if none of it was read). */
#include "proxy/upstream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/base/log.h"
#include "proxy/curl_loop.h"

enum { STREAM_BUFFER = 1024, BULK_BUFFER = 32 << 10, IDLE_EASY_MAX = 64 };

struct private {
	struct transfer pub;                 /* first */
	struct upstream *u;
	struct transfer_request rq;
	const struct transfer_ops *ops;
	CURL *easy;
	struct curl_slist *headers;
	struct buf head;                     /* header lines of the reply, each ended by \n */
	struct host_ticket ticket;
	struct alarm alarm;
	int64_t last_bytes;                  /* loop_now() of the last sign of life */
	bool over;                           /* the owner is not to be called any more */
	bool in_multi, paused, upload_paused, upload_begun, head_done, in_head;
	host_set tried;
	struct burial burial;
};

struct upstream {
	struct loop *loop;
	struct alarms *alarms;
	struct hosts *hosts;
	struct metrics *metrics;
	struct curl_loop curl;
	CURLU *url[HOSTS_MAX];               /* of the hosts; NULL: curl takes the text alone */
	CURL *idle[IDLE_EASY_MAX];           /* easy handles to use again */
	size_t n_idle;
	size_t n_transfers;
};

static struct private *private_of(const struct transfer *t)
{
	return (struct private *)(uintptr_t)t;
}

static void count(const struct private *t, _Atomic uint64_t *cell)
{
	if (!t->rq.uncounted)
		metric_cell_add(cell, 1);
}

static void begin(struct private *t);

/* ---- a transfer's end ---- */

static void detach(struct private *t)
{
	struct upstream *u = t->u;

	if (t->in_multi)
		curl_multi_remove_handle(u->curl.multi, t->easy);
	t->in_multi = false;
	if (t->easy) {
		curl_easy_reset(t->easy);
		if (u->n_idle < IDLE_EASY_MAX)
			u->idle[u->n_idle++] = t->easy;
		else
			curl_easy_cleanup(t->easy);
		t->easy = NULL;
	}
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	if (t->ticket.host >= 0)
		hosts_give(u->hosts, &t->ticket, t->rq.max_in_flight);
}

static void bury(struct burial *b)
{
	struct private *t = (struct private *)((char *)b - offsetof(struct private, burial));

	if (t->ticket.host >= 0 || t->easy)
		detach(t);
	if (t->ticket.mail.posted) {             /* its mail is under way: once more, next turn */
		loop_bury(t->u->loop, &t->burial);
		return;
	}
	alarm_clear(t->u->alarms, &t->alarm);
	buf_fini(&t->head);
	t->u->n_transfers--;
	free(t);
}

static void end(struct private *t, enum err e)
{
	if (t->over)
		return;
	t->over = true;
	if (e)
		count(t, &t->u->metrics->upstream_errors);
	hosts_leave(t->u->hosts, &t->ticket);
	alarm_clear(t->u->alarms, &t->alarm);
	loop_bury(t->u->loop, &t->burial);
	t->ops->on_end(&t->pub, e);
}

void upstream_cancel(struct transfer *pub)
{
	struct private *t = private_of(pub);

	if (t->over)
		return;
	t->over = true;
	count(t, &t->u->metrics->upstream_cancelled);
	hosts_leave(t->u->hosts, &t->ticket);
	alarm_clear(t->u->alarms, &t->alarm);
	loop_bury(t->u->loop, &t->burial);
}

static enum err why_failed(const struct private *t, CURLcode code)
{
	switch (code) {
	case CURLE_OK:                  return ERR_OK;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	                                return t->pub.status ? ERR_UPSTREAM_BROKE : ERR_UPSTREAM_DOWN;
	case CURLE_OUT_OF_MEMORY:       return ERR_NO_MEMORY;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:      return t->pub.status ? ERR_UPSTREAM_BROKE : ERR_UPSTREAM_BABBLE;
	default:                        return ERR_UPSTREAM_BROKE;
	}
}

/* Another upstream that has not been asked yet, if the failure came before the first byte. */
static bool fail_over(struct private *t, enum err e)
{
	struct upstream *u = t->u;
	host_set left;

	if (t->pub.status || t->upload_begun || (e != ERR_UPSTREAM_DOWN && e != ERR_UPSTREAM_BROKE))
		return false;
	t->tried |= 1u << t->pub.host;
	left = t->ticket.may & ~t->tried & (hosts_count(u->hosts) >= 32 ? UINT32_MAX : (1u << hosts_count(u->hosts)) - 1);
	if (!left)
		return false;
	log_line(LOG_WARN, "upstream", "%s failed before its first byte (%s); trying another", hosts_url(u->hosts, (size_t)t->pub.host),
	         err_info[e].name);
	count(t, &u->metrics->upstream_errors);
	detach(t);
	t->head.len = 0;
	t->ticket.tried = t->tried;
	t->ticket.may = left;
	begin(t);
	return true;
}

static void check_done(void *arg)
{
	struct upstream *u = arg;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(u->curl.multi, &left))) {
		struct private *t = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		if (t->over)
			continue;
		enum err e = why_failed(t, code);
		if (e) {
			log_line(LOG_DEBUG, "upstream", "%s: %s", hosts_url(u->hosts, (size_t)t->pub.host), curl_easy_strerror(code));
			if (e == ERR_UPSTREAM_DOWN)
				hosts_set_up(u->hosts, (size_t)t->pub.host, false);
			if (fail_over(t, e))
				continue;
		}
		end(t, e);
	}
}

/* ---- bytes ---- */

static void on_alarm(struct alarm *a)
{
	struct private *t = (struct private *)((char *)a - offsetof(struct private, alarm));
	int64_t limit = t->pub.status ? t->rq.idle_ms : t->rq.first_byte_ms;
	int64_t silent = loop_now(t->u->loop) - t->last_bytes;

	if (t->paused || t->upload_paused)
		silent = 0;                      /* it is not the upstream that keeps silent: whoever paused has a timer */
	if (silent < limit) {
		alarm_set(t->u->alarms, a, limit - silent, on_alarm);
		return;
	}
	end(t, ERR_UPSTREAM_SLOW);
}

static size_t on_curl_header(char *line, size_t size, size_t n, void *arg)
{
	struct private *t = arg;
	struct slice s = slice_of(line, size * n);

	t->last_bytes = loop_now(t->u->loop);
	if (t->over)
		return 0;
	if (t->head_done)                        /* trailers */
		return s.len;
	if (s.len > 5 && !memcmp(s.at, "HTTP/", 5))
		t->head.len = 0;                 /* after an interim reply the real one begins */
	if (buf_put(&t->head, s))
		return 0;
	if (s.len > 2 || (s.len && s.at[0] != '\r' && s.at[0] != '\n'))
		return s.len;
	long status = 0;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return s.len;
	t->head_done = true;
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);     /* the request's head has left */
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->pub.status = (int)status;
	if (status >= 500)
		count(t, &t->u->metrics->upstream_errors);
	hosts_set_up(t->u->hosts, (size_t)t->pub.host, true);
	alarm_set(t->u->alarms, &t->alarm, t->rq.idle_ms, on_alarm);
	t->ops->on_head(&t->pub, (int)status);
	return t->over ? 0 : s.len;
}

static size_t on_curl_bytes(char *bytes, size_t size, size_t n, void *arg)
{
	struct private *t = arg;

	t->last_bytes = loop_now(t->u->loop);
	if (t->over)
		return 0;
	if (t->paused)                           /* curl delivers again what a pause held back */
		return CURL_WRITEFUNC_PAUSE;
	t->pub.bytes += size * n;
	if (!t->ops->on_bytes(&t->pub, slice_of(bytes, size * n)))
		t->paused = true;
	return t->over ? 0 : size * n;
}

static size_t on_curl_upload(char *to, size_t size, size_t n, void *arg)
{
	struct private *t = arg;

	t->last_bytes = loop_now(t->u->loop);
	if (t->over)
		return CURL_READFUNC_ABORT;
	size_t got = t->ops->on_upload(&t->pub, to, size * n);
	if (got == UPLOAD_ABORT)
		return CURL_READFUNC_ABORT;
	t->upload_paused = got == UPLOAD_PAUSE;
	t->upload_begun |= got != UPLOAD_PAUSE;
	return t->upload_paused ? CURL_READFUNC_PAUSE : got;
}

bool transfer_sent(const struct transfer *pub)
{
	const struct private *t = private_of(pub);
	curl_off_t sent = -1;

	/* once a reply has begun nothing is tried again: not by curl on a new connection, not by fail_over() */
	return pub->status && t->easy && !t->over && curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK &&
	       sent >= (curl_off_t)t->rq.body.len;
}

static void unpause(struct private *t)
{
	int flags = (t->paused ? CURLPAUSE_RECV : 0) | (t->upload_paused ? CURLPAUSE_SEND : 0);

	if (t->over || !t->in_multi)
		return;
	t->last_bytes = loop_now(t->u->loop);
	curl_easy_pause(t->easy, flags);
	curl_loop_act(&t->u->curl);
}

void upstream_resume(struct transfer *pub)
{
	struct private *t = private_of(pub);

	if (!t->paused)
		return;
	t->paused = false;
	unpause(t);
}

void upstream_upload_more(struct transfer *pub)
{
	struct private *t = private_of(pub);

	if (!t->upload_paused)
		return;
	t->upload_paused = false;
	unpause(t);
}

/* ---- a transfer's start ---- */

static bool add_line(struct private *t, const char *name, const char *value)
{
	char small[512], *line = small;
	size_t name_len = strlen(name), value_len = strlen(value);

	if (name_len + value_len + 3 > sizeof small && !(line = malloc(name_len + value_len + 3)))
		return false;
	/* curl takes "Name;" for a header without a value, and "Name:" for one not to be sent */
	memcpy(line, name, name_len);
	memcpy(line + name_len, value_len ? ": " : ";", value_len ? 3 : 2);
	if (value_len)
		memcpy(line + name_len + 2, value, value_len + 1);
	struct curl_slist *more = curl_slist_append(t->headers, line);
	if (line != small)
		free(line);
	if (more)
		t->headers = more;
	return more != NULL;
}

static bool make_headers(struct private *t)
{
	/* what curl would add of its own */
	static const struct { struct slice name; const char *none; } unwanted[] = {
		{ SLICE_INIT("Expect"), "Expect:" }, { SLICE_INIT("Accept"), "Accept:" },
		{ SLICE_INIT("Content-Type"), "Content-Type:" }, { SLICE_INIT("User-Agent"), "User-Agent:" },
	};
	bool ok = true;

	for (size_t i = 0; i < t->rq.n_headers && ok; i++)
		ok = add_line(t, t->rq.headers[i].name, t->rq.headers[i].value);
	for (size_t i = 0; i < sizeof unwanted / sizeof *unwanted && ok; i++) {
		bool there = false;
		for (size_t k = 0; k < t->rq.n_headers; k++)
			there |= slice_is_nocase(slice_text(t->rq.headers[k].name), unwanted[i].name);
		if (there)
			continue;
		struct curl_slist *more = curl_slist_append(t->headers, unwanted[i].none);
		ok = more != NULL;
		t->headers = more ? more : t->headers;
	}
	return ok;
}

static void set_method(struct private *t)
{
	CURL *c = t->easy;
	const struct transfer_request *rq = &t->rq;

	if (rq->upload) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_curl_upload);
		curl_easy_setopt(c, CURLOPT_READDATA, t);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)rq->upload_length);
	} else if (rq->body.at || !strcmp(rq->method, "POST")) {
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, rq->body.len ? rq->body.at : "");
	} else if (!strcmp(rq->method, "HEAD")) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	} else if (strcmp(rq->method, "GET") != 0) {
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
	}
}

static void on_add_again(struct alarm *a);

/* A look-up that ends inside a callback of curl's (a store that fails as it is written to, say) may start a transfer there,
 * where curl takes none: then it is added from the loop. */
static enum err add_to_multi(struct private *t)
{
	struct upstream *u = t->u;
	CURLMcode code = curl_multi_add_handle(u->curl.multi, t->easy);

	if (code == CURLM_RECURSIVE_API_CALL) {
		alarm_set(u->alarms, &t->alarm, 0, on_add_again);
		return ERR_OK;
	}
	t->in_multi = code == CURLM_OK;
	if (!t->in_multi)
		return ERR_NO_MEMORY;
	count(t, &u->metrics->upstream_requests);
	t->last_bytes = loop_now(u->loop);
	alarm_set(u->alarms, &t->alarm, t->rq.first_byte_ms, on_alarm);
	return ERR_OK;
}

static void on_add_again(struct alarm *a)
{
	struct private *t = (struct private *)((char *)a - offsetof(struct private, alarm));
	enum err e = add_to_multi(t);

	if (e)
		end(t, e);
}

static enum err send_off(struct private *t)
{
	struct upstream *u = t->u;

	t->pub.host = t->ticket.host;
	t->easy = u->n_idle ? u->idle[--u->n_idle] : curl_easy_init();
	if (!t->easy || !make_headers(t))
		return ERR_NO_MEMORY;
	CURL *c = t->easy;
	curl_loop_own(&u->curl, c);
	curl_easy_setopt(c, CURLOPT_PRIVATE, t);
	/* the URL it has read once, so that it does not read it for every transfer; the text is for its messages */
	curl_easy_setopt(c, CURLOPT_URL, hosts_url(u->hosts, (size_t)t->pub.host));
	curl_easy_setopt(c, CURLOPT_CURLU, u->url[t->pub.host]);
	curl_easy_setopt(c, CURLOPT_REQUEST_TARGET, t->rq.target);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)t->rq.connect_ms);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)(t->rq.bulk ? BULK_BUFFER : STREAM_BUFFER));
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_curl_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_curl_bytes);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	set_method(t);
	return add_to_multi(t);
}

static void on_no_start(struct alarm *a)
{
	end((struct private *)((char *)a - offsetof(struct private, alarm)), ERR_NO_MEMORY);
}

static void on_no_place(struct alarm *a)
{
	end((struct private *)((char *)a - offsetof(struct private, alarm)), ERR_UPSTREAM_SLOW);
}

static void on_place(struct mail *m)
{
	struct private *t = (struct private *)((char *)m - offsetof(struct private, ticket.mail));

	if (t->over)
		return;
	enum err e = send_off(t);
	if (e)
		end(t, e);
}

/* Never calls back before it returns: what goes wrong at once is told from the loop. */
static void begin(struct private *t)
{
	if (!hosts_take(t->u->hosts, &t->ticket, t->rq.max_in_flight)) {
		alarm_set(t->u->alarms, &t->alarm, t->rq.first_byte_ms, on_no_place);
		return;
	}
	if (send_off(t))
		alarm_set(t->u->alarms, &t->alarm, 0, on_no_start);
}

struct transfer *upstream_start(struct upstream *u, const struct transfer_request *rq, const struct transfer_ops *ops, void *owner)
{
	struct private *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->pub.owner = owner;
	t->pub.host = -1;
	t->u = u;
	t->rq = *rq;
	t->ops = ops;
	t->burial.bury = bury;
	t->ticket = (struct host_ticket){ .mail.run = on_place, .loop = u->loop, .may = rq->may ? rq->may : UINT32_MAX, .host = -1 };
	buf_init(&t->head, UPSTREAM_HEAD_BYTES);
	u->n_transfers++;
	begin(t);
	return &t->pub;
}

/* ---- the reply's head ---- */

void transfer_each_header(const struct transfer *pub, void (*each)(void *arg, struct slice name, struct slice value), void *arg)
{
	struct slice rest = buf_slice(&private_of(pub)->head), line;
	bool first = true;

	while (slice_next(&rest, '\n', &line)) {
		if (line.len && line.at[line.len - 1] == '\r')
			line.len--;
		const char *colon = line.len ? memchr(line.at, ':', line.len) : NULL;
		if (colon && !first)
			each(arg, slice_trim(slice_of(line.at, (size_t)(colon - line.at))),
			     slice_trim(slice_of(colon + 1, line.len - (size_t)(colon + 1 - line.at))));
		first = false;
	}
}

struct wanted { struct slice name, value; };

static void look(void *arg, struct slice name, struct slice value)
{
	struct wanted *w = arg;

	if (!w->value.at && slice_is_nocase(name, w->name))
		w->value = value;
}

struct slice transfer_header(const struct transfer *pub, const char *name)
{
	struct wanted w = { .name = slice_text(name) };

	transfer_each_header(pub, look, &w);
	return w.value;
}

/* ---- the worker's side ---- */

struct upstream *upstream_new(struct loop *loop, struct alarms *alarms, struct hosts *hosts, struct metrics *metrics)
{
	struct upstream *u = calloc(1, sizeof *u);

	if (!u)
		abort();                     /* at start */
	u->loop = loop;
	u->alarms = alarms;
	u->hosts = hosts;
	u->metrics = metrics;
	for (size_t i = 0; i < hosts_count(hosts); i++) {
		u->url[i] = curl_url();
		if (u->url[i] && curl_url_set(u->url[i], CURLUPART_URL, hosts_url(hosts, i), 0)) {
			curl_url_cleanup(u->url[i]);     /* a transfer will say what is wrong with it */
			u->url[i] = NULL;
		}
	}
	curl_loop_init(&u->curl, loop, check_done, u);
	return u;
}

static void free_upstream(void *u)
{
	free(u);
}

void upstream_free(struct upstream *u)
{
	assert(u->n_transfers == 0);
	for (size_t i = 0; i < u->n_idle; i++)
		curl_easy_cleanup(u->idle[i]);
	for (size_t i = 0; i < HOSTS_MAX; i++)
		curl_url_cleanup(u->url[i]);
	curl_loop_fini(&u->curl, free_upstream);
}
