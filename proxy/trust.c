/* trust.c - see trust.h. */
#include "proxy/trust.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TRUST_FILE_MOST = 4 << 20, HASH_DIGITS = 8, DER_SEQUENCE = 0x30 };

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

struct trust trust_of(const char *tls_ca)
{
	struct stat st;

	if (!*tls_ca) {
		const char *bundle = variable("CURL_CA_BUNDLE");
		return (struct trust){ bundle ? bundle : variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR") };
	}
	return stat(tls_ca, &st) == 0 && S_ISDIR(st.st_mode) ? (struct trust){ .directory = tls_ca } : (struct trust){ .file = tls_ca };
}

/* Is there a certificate in this PEM text (RFC 7468)? One that was cut or garbled is none. */
static bool holds_certificate(const char *pem)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";

	for (const char *at = strstr(pem, begin); at; at = strstr(at, begin)) {
		at += sizeof begin - 1;
		const char *until = strstr(at, end);
		struct base64_decode_ctx c;
		if (!until)
			return false;
		size_t in = (size_t)(until - at), n = BASE64_DECODE_LENGTH(in);
		uint8_t *der = malloc(n + 1);
		base64_decode_init(&c);
		bool whole = der && base64_decode_update(&c, &n, der, in, at) && base64_decode_final(&c) && n && der[0] == DER_SEQUENCE;
		free(der);
		if (whole)
			return true;
	}
	return false;
}

static bool check_file(const char *path, char *why, size_t len)
{
	FILE *f = fopen(path, "re");
	char *text = f ? malloc(TRUST_FILE_MOST + 1) : NULL;
	size_t n = text ? fread(text, 1, TRUST_FILE_MOST + 1, f) : 0;
	bool good = false;

	if (!text || ferror(f)) {
		snprintf(why, len, "%.400s: %s", path, strerror(errno));
	} else if (n > TRUST_FILE_MOST) {
		snprintf(why, len, "%.400s: is larger than 4 MiB", path);
	} else {
		text[n] = '\0';
		good = holds_certificate(text);
		if (!good)
			snprintf(why, len, "%.400s: there is no certificate in it (PEM, -----BEGIN CERTIFICATE-----)", path);
	}
	free(text);
	if (f)
		fclose(f);
	return good;
}

/* TLS libraries look for HASH.NUMBER, which `openssl rehash` makes. */
static bool is_hash_name(const char *name)
{
	for (int i = 0; i < HASH_DIGITS; i++)
		if (!isxdigit((unsigned char)name[i]))
			return false;
	return name[HASH_DIGITS] == '.' && isdigit((unsigned char)name[HASH_DIGITS + 1]);
}

static bool check_directory(const char *path, char *why, size_t len)
{
	DIR *d = opendir(path);
	bool good = false;
	char file[1500], not_that[512];

	if (!d) {
		snprintf(why, len, "%.400s: %s", path, strerror(errno));
		return false;
	}
	for (const struct dirent *e; !good && (e = readdir(d)); )
		if (is_hash_name(e->d_name) && (size_t)snprintf(file, sizeof file, "%s/%s", path, e->d_name) < sizeof file)
			good = check_file(file, not_that, sizeof not_that);
	closedir(d);
	if (!good)
		snprintf(why, len, "%.400s: no certificate has its hash as name in it; 'openssl rehash' gives them such names", path);
	return good;
}

bool trust_check(const char *tls_ca, char *why, size_t len)
{
	const struct trust t = trust_of(tls_ca);

	return t.directory ? check_directory(t.directory, why, len) : check_file(t.file, why, len);
}
