/* trust.h - the certificate authorities that upstreams with https:// are believed by, besides the system's.
 *
 * upstream.tls_ca names a file or a directory, as curl's --cacert and --capath do; if it is empty, the environment's
 * CURL_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR do, as for curl. The files are read for every connection, so a new
 * certificate needs no restart. Limits: a file of TRUST_FILE_MOST bytes. */
#ifndef PROXY_TRUST_H
#define PROXY_TRUST_H

#include <stdbool.h>
#include <stddef.h>

struct trust {
	const char *file, *directory;        /* NULL: the system's */
};

struct trust trust_of(const char *tls_ca);
/* Can the authorities be read, and is there at least one? False: why says what is wrong. */
bool trust_check(const char *tls_ca, char *why, size_t len);

#endif
