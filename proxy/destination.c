/* destination.c - see destination.h. */
#include "proxy/destination.h"

#include "proxy/base/scan.h"
#include "proxy/dialect.h"

enum { NAME_MAX_BYTES = 512 };

/* What names the model, at the top level of a body; the second where the first is not there. */
struct place {
	const char *method, *path;
	bool begins;                         /* the path is only the beginning */
	enum transfer_kind kind;
	bool has;                            /* it speaks of a model that is to be there already, else 404 */
	struct slice field, or_field;        /* none: the body names no model */
};
#define FIELD(name) SLICE_INIT(name)
#define NO_FIELD { NULL, 0 }

static const struct place places[] = {
	{ "POST", "/api/chat", false, TRANSFER_GENERATION_PASSED, true, FIELD("model"), NO_FIELD },
	{ "POST", "/api/generate", false, TRANSFER_GENERATION_PASSED, true, FIELD("model"), NO_FIELD },
	{ "POST", "/api/embed", false, TRANSFER_GENERATION_PASSED, true, FIELD("model"), NO_FIELD },
	{ "POST", "/api/embeddings", false, TRANSFER_GENERATION_PASSED, true, FIELD("model"), NO_FIELD },
	{ "POST", "/v1/", true, TRANSFER_GENERATION_PASSED, true, FIELD("model"), NO_FIELD },
	{ "POST", "/api/show", false, TRANSFER_PASS, true, FIELD("model"), FIELD("name") },
	{ "POST", "/api/pull", false, TRANSFER_CHANGE, false, FIELD("model"), FIELD("name") },
	{ "POST", "/api/push", false, TRANSFER_CHANGE, true, FIELD("model"), FIELD("name") },
	{ "POST", "/api/create", false, TRANSFER_CHANGE, false, FIELD("from"), NO_FIELD },
	{ "POST", "/api/copy", false, TRANSFER_CHANGE, true, FIELD("source"), NO_FIELD },
	{ "DELETE", "/api/delete", false, TRANSFER_CHANGE, true, FIELD("model"), FIELD("name") },
	/* a model is made of what was uploaded: both go to the first host, and so does the question what is there */
	{ "HEAD", "/api/blobs/", true, TRANSFER_CHANGE, false, NO_FIELD, NO_FIELD },
};

static const char model_path[] = "/v1/models/";

static bool has_path(const struct place *p, struct slice path)
{
	size_t len = strlen(p->path);

	return path.len >= len && !memcmp(path.at, p->path, len) && (p->begins || path.len == len);
}

static const struct place *place_of(const struct request *r)
{
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (!strcmp(r->method, places[i].method) && has_path(&places[i], r->path))
			return &places[i];
	return NULL;
}

bool destination_in_body(const struct request *r)
{
	const struct place *p = place_of(r);

	return p && p->field.len && r->has_body;
}

static host_set hosts_of(struct models *m, struct slice name)
{
	struct arena arena;

	arena_init(&arena, 4 * NAME_MAX_BYTES);
	(void)model_complex_suffix(&name);
	host_set have = name.len && name.len <= NAME_MAX_BYTES ? models_hosts(m, model_full_name(&arena, name)) : 0;
	arena_fini(&arena);
	return have;
}

static host_set hosts_of_text(struct models *m, struct slice json_text)
{
	struct buf name;

	buf_init(&name, NAME_MAX_BYTES);
	host_set have = json_decode_text(scan_inside(json_text), &name) ? 0 : hosts_of(m, buf_slice(&name));
	buf_fini(&name);
	return have;
}

/* The body may end anywhere: what stands before that counts. Names of fields are read as Ollama does, the last one holds. */
static void look_into(struct destination *d, const struct place *p, struct slice body, struct models *m)
{
	struct slice name, value, found = { 0 }, or_found = { 0 };
	struct scan s;

	scan_init(&s, body);
	while (scan_next(&s, &name, &value)) {
		if (slice_is_nocase(name, SLICE("stream")))
			d->streams = scan_is_true(value);
		else if (scan_is_text(value) && slice_is_nocase(name, p->field))
			found = value;
		else if (scan_is_text(value) && p->or_field.len && slice_is_nocase(name, p->or_field))
			or_found = value;
	}
	if (!found.len && !or_found.len)
		return;
	d->may = hosts_of_text(m, found.len ? found : or_found);
	d->seeks = p->has && !d->may;
}

struct destination destination_find(const struct request *r, struct slice body, struct models *m)
{
	const struct place *p = place_of(r);
	bool reads = !strcmp(r->method, "GET") || !strcmp(r->method, "HEAD") || !strcmp(r->method, "OPTIONS");
	struct destination d = { .kind = p ? p->kind : reads ? TRANSFER_PASS : TRANSFER_CHANGE };
	size_t len = sizeof model_path - 1;

	if (p && p->field.len && body.len)
		look_into(&d, p, body, m);
	else if (reads && r->path.len > len && !memcmp(r->path.at, model_path, len))
		d.seeks = !(d.may = hosts_of(m, slice_of(r->path.at + len, r->path.len - len)));
	return d;
}
