/* server_head.c - heads that libmicrohttpd would not write as they have to be: of replies that end at their head, and for
 * HTTP/1.0. See server.h. */
#include "proxy/server_private.h"

#include <stdio.h>

/* MHD 0.9.77 and newer can write a head that names neither a length nor a coding. */
#define BARE_HEADS (MHD_VERSION >= 0x00097701)

bool reply_ends_at_head(const struct request_private *r, int status)
{
	return status < 200 || status == 204 || status == 304 || !strcmp(r->pub.method, "HEAD");
}

static enum MHD_ResponseFlags flags_for(const struct request_private *r)
{
	enum MHD_ResponseFlags flags = r->pub.http11 ? MHD_RF_NONE : MHD_RF_HTTP_1_0_SERVER;

#if BARE_HEADS
	flags |= r->bare ? MHD_RF_HEAD_ONLY_RESPONSE : MHD_RF_NONE;
#endif
	return flags;
}

void reply_fit(const struct request_private *r, struct MHD_Response *response)
{
	enum MHD_ResponseFlags flags = flags_for(r);

	if (flags != MHD_RF_NONE)
		MHD_set_response_options(response, flags, MHD_RO_END);
}

/* An older MHD writes a length, or a coding with its empty last chunk, behind every head but that of a 204. So a 204 is what
 * it is given to write, behind the version and the status that are meant: its own first line then is what HTTP has for the
 * reason, which means nothing to anybody (RFC 9112, 4). 0: the client did not take it. */
int reply_bare_status(struct request_private *r, int status)
{
#if BARE_HEADS
	(void)r;
	return status;
#else
	char begin[sizeof "HTTP/1.1 100 "];
	int len = snprintf(begin, sizeof begin, "HTTP/1.%d %03d ", r->pub.http11, status);

	if (status == 204)
		return status;
	return send(r->conn->fd, begin, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) == len ? 204 : 0;
#endif
}
