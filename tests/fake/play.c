/* play.c - answers with recorded bytes: NAME.http for the request named by `X-Fake-Case: NAME`, or for the one
 * whose method, target and body equal NAME.req's. Each recorded HTTP chunk is one write. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/fake/fake.h"

struct recording {
	char *name, *method, *target, *body;
	size_t body_n;
	bool has_req, close;
	struct str *parts;                     /* the head, then each chunk; else the body as one */
	size_t n_parts;
};
static struct recording *recordings;
static size_t recordings_n;

static bool file_read(const char *dir, const char *name, const char *ext, struct str *s)
{
	char path[4096], buf[65536];
	FILE *f;
	size_t n;

	snprintf(path, sizeof path, "%s/%s.%s", dir, name, ext);
	f = fopen(path, "rb");
	if (!f)
		return false;
	str_add(s, "", 0);
	while ((n = fread(buf, 1, sizeof buf, f)))
		str_add(s, buf, n);
	fclose(f);
	return true;
}

static void part_add(struct recording *rec, const char *at, size_t n)
{
	if (!n)
		return;
	rec->parts = must(realloc(rec->parts, (rec->n_parts + 1) * sizeof *rec->parts));
	rec->parts[rec->n_parts] = (struct str){ 0 };
	str_add(&rec->parts[rec->n_parts++], at, n);
}

/* Does the head (up to its empty line) have this header, with this value if one is given? */
static bool head_has(const char *head, size_t n, const char *name, const char *value)
{
	for (size_t i = 0; i + strlen(name) < n; i++)
		if (head[i] == '\n' && !strncasecmp(head + i + 1, name, strlen(name)) && head[i + 1 + strlen(name)] == ':')
			return !value || !strncasecmp(head + i + 1 + strlen(name) + 2, value, strlen(value));
	return false;
}

static long header_number(const char *head, size_t n, const char *name)
{
	for (size_t i = 0; i + strlen(name) < n; i++)
		if (head[i] == '\n' && !strncasecmp(head + i + 1, name, strlen(name)) && head[i + 1 + strlen(name)] == ':')
			return atol(head + i + 2 + strlen(name));
	return -1;
}

static void reply_split(struct recording *rec, const struct str *s)
{
	const char *p = s->at, *end = s->at + s->n, *body;
	size_t head;
	long length;

	while (end - p > 12 && !memcmp(p + 9, "100", 3) && (body = memmem(p, (size_t)(end - p), "\r\n\r\n", 4)))
		p = body + 4;                     /* an interim reply is our own to send */
	body = p < end ? memmem(p, (size_t)(end - p), "\r\n\r\n", 4) : NULL;
	if (!body) {
		rec->close = true;
		part_add(rec, p, (size_t)(end - p));
		return;
	}
	head = (size_t)(body + 4 - p);
	part_add(rec, p, head);
	rec->close = head_has(p, head, "Connection", "close") || !memcmp(p, "HTTP/1.0", 8) ||
		     (!head_has(p, head, "Content-Length", NULL) && !head_has(p, head, "Transfer-Encoding", NULL) &&
		      memcmp(p + 9, "204", 3) && strcmp(rec->method ? rec->method : "", "HEAD"));
	body += 4;
	while (head_has(p, head, "Transfer-Encoding", "chunked") && body < end) {
		const char *nl = memchr(body, '\n', (size_t)(end - body));
		size_t n = strtoull(body, NULL, 16), left = (size_t)(end - body), whole = nl ? (size_t)(nl - body) + 1 + n + 2 : left;

		whole = whole < left ? whole : left;
		part_add(rec, body, whole);
		body += whole;
	}
	length = header_number(p, head, "Content-Length");
	if (length >= 0 && length < end - body)   /* more than one recorded reply: the first */
		end = body + length;
	part_add(rec, body, (size_t)(end - body));
}

static void req_split(struct recording *rec, const struct str *s)
{
	const char *line = memchr(s->at, '\r', s->n), *sp1, *sp2, *head = memmem(s->at, s->n, "\r\n\r\n", 4);
	struct str body = { 0 };

	sp1 = line ? memchr(s->at, ' ', (size_t)(line - s->at)) : NULL;
	sp2 = sp1 ? memchr(sp1 + 1, ' ', (size_t)(line - sp1 - 1)) : NULL;
	if (!sp2 || !head)
		return;
	rec->has_req = true;
	rec->method = text_copy(s->at, (size_t)(sp1 - s->at));
	rec->target = text_copy(sp1 + 1, (size_t)(sp2 - sp1 - 1));
	head += 4;
	if (head_has(s->at, (size_t)(head - s->at), "Transfer-Encoding", "chunked")) {
		for (const char *p = head, *nl; p < s->at + s->n && (nl = memchr(p, '\n', (size_t)(s->at + s->n - p)));) {
			size_t n = strtoull(p, NULL, 16);

			if (!n || n > (size_t)(s->at + s->n - nl - 1))
				break;
			str_add(&body, nl + 1, n);
			p = nl + 1 + n + 2;
		}
	} else {
		str_add(&body, head, (size_t)(s->at + s->n - head));
	}
	rec->body = body.at ? body.at : text_copy("", 0);
	rec->body_n = body.n;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

bool play_load(const char *dir)
{
	struct dirent **all;
	int n = scandir(dir, &all, NULL, by_name);

	if (n < 0)
		return false;
	for (int i = 0; i < n; i++) {
		size_t len = strlen(all[i]->d_name);
		struct recording rec = { 0 };
		struct str s = { 0 };

		if (len > 5 && !strcmp(all[i]->d_name + len - 5, ".http")) {
			rec.name = text_copy(all[i]->d_name, len - 5);
			if (file_read(dir, rec.name, "req", &s))
				req_split(&rec, &s);
			s.n = 0;
			if (file_read(dir, rec.name, "http", &s))
				reply_split(&rec, &s);
			recordings = must(realloc(recordings, (recordings_n + 1) * sizeof *recordings));
			recordings[recordings_n++] = rec;
		}
		str_free(&s);
		free(all[i]);
	}
	free(all);
	return recordings_n > 0;
}

bool play_dispatch(struct req *r)
{
	char *name = req_header(r, "X-Fake-Case");
	const struct recording *rec = NULL;
	struct str *parts;

	for (size_t i = 0; !rec && i < recordings_n; i++) {
		const struct recording *c = &recordings[i];

		if (name ? !strcmp(name, c->name)
			 : c->has_req && !strcmp(c->method, r->method) && !strcmp(c->target, r->target) && c->body_n == r->body.n &&
				   c->body_n && !memcmp(c->body, r->body.at, c->body_n))
			rec = c;
	}
	free(name);
	if (!rec)
		return false;
	parts = must(calloc(rec->n_parts + 1, sizeof *parts));
	for (size_t i = 0; i < rec->n_parts; i++)
		str_add(&parts[i], rec->parts[i].at, rec->parts[i].n);
	r->status = rec->n_parts && rec->parts[0].n > 12 ? atoi(rec->parts[0].at + 9) : 0;
	gen_start_lines(r, directives_of(r, NULL, NULL), parts, rec->n_parts, true, rec->close);
	return true;
}
