/* uses: proxy/curl_loop.c proxy/hosts.c proxy/host_state.c proxy/base/loop.c proxy/base/alarm.c proxy/base/log.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c proxy/base/canonical.c proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -luv -lcurl -lgnutls -licuuc -ljansson -lnettle -lm -lpthread */
/* test_peer_tls.c - connections to upstreams with TLS, where bytes wait that no socket tells of: made, not made, used, kept,
 * closed at any moment, with every allocation of ours failing once. Plain ones: test_peer.c.
 *
 * The upstream is a thread for each connection (GnuTLS, which libmicrohttpd-dev brings), whose certificate is made at the
 * start. */
#include "proxy/peer.c"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "tests/unit/peer_world.h"

enum { TLS_MOST = 64 };

/* ---- a stand-in: whom curl trusts ---- */

static const char *trusted;                      /* a file; NULL: as curl does without us */
static long max_age;                             /* seconds after which curl takes a connection for too old; 0: as it does */

CURL *curl_easy_init(void)
{
	CURL *(*real)(void) = NULL;

	*(void **)&real = dlsym(RTLD_NEXT, "curl_easy_init");
	CURL *easy = real();
	if (easy && trusted)
		curl_easy_setopt(easy, CURLOPT_CAINFO, trusted);
	if (easy && max_age)
		curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, max_age);
	return easy;
}

/* ---- the upstream ---- */

struct identity { gnutls_x509_privkey_t key; gnutls_x509_crt_t crt; char file[32]; };

static struct identity ours, others;             /* the other one's certificate says the same, but the thread has not its key */
static gnutls_certificate_credentials_t credentials;
static gnutls_datum_t ticket_key;
static struct {
	int listening;
	pthread_t thread, of[TLS_MOST];
	int fd[TLS_MOST];
	atomic_int resumed;                      /* how many of a session that was before */
} tls;

static void identity_make(struct identity *i)
{
	static const unsigned char home[4] = { 127, 0, 0, 1 };
	const time_t now = time(NULL), day = 24 * 60 * 60;
	gnutls_datum_t pem;

	gnutls_x509_privkey_init(&i->key);
	gnutls_x509_crt_init(&i->crt);
	if (gnutls_x509_privkey_generate(i->key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) ||
	    gnutls_x509_crt_set_version(i->crt, 3) || gnutls_x509_crt_set_serial(i->crt, "\1", 1) ||
	    gnutls_x509_crt_set_activation_time(i->crt, now - day) || gnutls_x509_crt_set_expiration_time(i->crt, now + day) ||
	    gnutls_x509_crt_set_dn_by_oid(i->crt, GNUTLS_OID_X520_COMMON_NAME, 0, "test_peer_tls", 13) ||
	    gnutls_x509_crt_set_subject_alt_name(i->crt, GNUTLS_SAN_IPADDRESS, home, sizeof home, GNUTLS_FSAN_SET) ||
	    gnutls_x509_crt_set_basic_constraints(i->crt, 1, -1) || gnutls_x509_crt_set_key(i->crt, i->key) ||
	    gnutls_x509_crt_sign2(i->crt, i->crt, i->key, GNUTLS_DIG_SHA256, 0) ||
	    gnutls_x509_crt_export2(i->crt, GNUTLS_X509_FMT_PEM, &pem))
		abort();
	strcpy(i->file, "/tmp/test_peer_tls.XXXXXX");
	int fd = mkstemp(i->file);
	if (fd < 0 || write(fd, pem.data, pem.size) != (ssize_t)pem.size)
		abort();
	close(fd);
	gnutls_free(pem.data);
}

static void identity_free(struct identity *i)
{
	unlink(i->file);
	gnutls_x509_crt_deinit(i->crt);
	gnutls_x509_privkey_deinit(i->key);
}

static bool tls_send(gnutls_session_t s, size_t n, size_t record)
{
	char bytes[RECORD_MOST];

	for (size_t at = 0; at < n;) {
		size_t some = n - at < record ? n - at : record;
		for (size_t i = 0; i < some; i++)
			bytes[i] = pattern(at + i);
		if (gnutls_record_send(s, bytes, some) != (ssize_t)some)
			return false;
		at += some;
	}
	return true;
}

/* Takes n bytes and says whether they were right. */
static bool tls_take(gnutls_session_t s, size_t n)
{
	const struct timespec a_while = { .tv_nsec = MOMENT_MS * 1000000L };
	char bytes[RECORD_MOST];
	bool right = true;

	nanosleep(&a_while, NULL);                       /* it may have to wait */
	for (size_t at = 0; at < n;) {
		ssize_t got = gnutls_record_recv(s, bytes, n - at < sizeof bytes ? n - at : sizeof bytes);
		if (got <= 0)
			return false;
		for (ssize_t i = 0; i < got; i++)
			right = right && bytes[i] == pattern(at++);
	}
	return gnutls_record_send(s, right ? "ok" : "no", 2) == 2;
}

/* One order a line: send N bytes in records of so many; take N bytes; end; cut (without TLS's word of it). */
static bool tls_obey(gnutls_session_t s)
{
	char order[64];
	size_t n, record, len = 0;

	do {
		if (gnutls_record_recv(s, order + len, 1) != 1)
			return false;
	} while (order[len++] != '\n' && len < sizeof order - 1);
	order[len] = '\0';
	if (sscanf(order, "send %zu %zu", &n, &record) == 2 && record <= RECORD_MOST)
		return tls_send(s, n, record);
	if (sscanf(order, "take %zu", &n) == 1)
		return tls_take(s, n);
	if (!strcmp(order, "end\n"))
		gnutls_bye(s, GNUTLS_SHUT_WR);
	return false;
}

static void *tls_serve_one(void *arg)
{
	int fd = *(int *)arg, e;
	gnutls_session_t s;

	if (gnutls_init(&s, GNUTLS_SERVER | GNUTLS_NO_SIGNAL) || gnutls_set_default_priority(s) ||
	    gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, credentials) || gnutls_session_ticket_enable_server(s, &ticket_key))
		abort();
	gnutls_transport_set_int(s, fd);
	do
		e = gnutls_handshake(s);
	while (e < 0 && !gnutls_error_is_fatal(e));
	if (!e && gnutls_session_is_resumed(s))
		atomic_fetch_add(&tls.resumed, 1);
	while (!e && tls_obey(s))
		;
	gnutls_deinit(s);
	shutdown(fd, SHUT_RDWR);                         /* the number stays taken until tls_stop() */
	return NULL;
}

static void *tls_serve(void *arg)
{
	int fd, n = 0;

	(void)arg;
	while (n < TLS_MOST && (fd = accept4(tls.listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		tls.fd[n] = fd;
		atomic_store(&taken, n + 1);             /* known before its other end is open */
		if (pthread_create(&tls.of[n], NULL, tls_serve_one, &tls.fd[n]))
			abort();
		n++;
	}
	return NULL;
}

/* Returns its port. */
static int tls_start(void)
{
	int port;

	tls.listening = bound(&port);
	if (listen(tls.listening, TLS_MOST) || pthread_create(&tls.thread, NULL, tls_serve, NULL))
		abort();
	return port;
}

static void tls_stop(void)
{
	shutdown(tls.listening, SHUT_RDWR);
	pthread_join(tls.thread, NULL);
	close(tls.listening);
	for (int i = 0; i < atomic_load(&taken); i++)
		shutdown(tls.fd[i], SHUT_RDWR);
	for (int i = 0; i < atomic_load(&taken); i++) {
		pthread_join(tls.of[i], NULL);
		close(tls.fd[i]);
	}
	atomic_store(&taken, 0);
	atomic_store(&tls.resumed, 0);
}

/* ---- the world ---- */

static int world_up(void **state)
{
	(void)state;
	fds_before = fds_open();
	trusted = ours.file;
	max_age = 0;
	world_begin(tls_start());
	return 0;
}

static int world_down(void **state)
{
	(void)state;
	world_end();
	tls_stop();
	return fds_open() != fds_before;
}

/* ---- used and kept ---- */

static void order(struct user *u, size_t n, size_t record)
{
	char text[64];

	snprintf(text, sizeof text, "send %zu %zu\n", n, record);
	say(u, text);
}

static void gets(struct user *u, size_t n)
{
	UNTIL(u->n >= n || u->ended || u->error);
	assert_int_equal(u->n, n);
	assert_true(u->right);
	listen_anew(u);
}

static void tls_exchange(struct user *u)
{
	peer_watch(u->peer, PEER_READ);
	order(u, 300, 100);
	gets(u, 300);
}

/* Unused for a moment, in which the loop might take it for ended, it is there to be taken again. */
static void kept_a_moment(struct user *u)
{
	struct peer *peer = u->peer;

	keep(u);
	turn_for(MOMENT_MS);
	take(u, TLS);
	assert_ptr_equal(u->peer, peer);
}

static void one_with_tls_is_used_kept_and_used_again(void **state)
{
	struct user u;

	(void)state;
	dial(&u, TLS);
	tls_exchange(&u);
	struct peer *peer = u.peer;
	kept_a_moment(&u);
	tls_exchange(&u);
	keep(&u);
	take(&u, TLS);
	assert_ptr_equal(u.peer, peer);
	tls_exchange(&u);
	assert_int_equal(atomic_load(&taken), 1);
	user_close(&u);
	take(&u, TLS);
	assert_null(u.peer);
}

static void a_large_reply_is_whole_in_whatever_pieces_it_is_read(void **state)
{
	static const size_t pieces[] = { 1, 100, 4095, TLS_BUFFER, 4097, RECORD_MOST }, records[] = { 1000, 5000, RECORD_MOST };
	struct user u;

	(void)state;
	dial(&u, TLS);
	peer_watch(u.peer, PEER_READ);
	for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
		for (size_t k = 0; k < sizeof records / sizeof records[0]; k++) {
			const size_t n = i ? 300001 : 301;       /* what is held back comes by the millisecond */
			u.piece = pieces[i];
			order(&u, n, records[k]);
			gets(&u, n);
		}
	turn_for(MOMENT_MS);
	assert_int_equal(u.n, 0);
	user_close(&u);
}

static void what_tls_holds_back_waits_for_who_does_not_read(void **state)
{
	enum { ALL = RECORD_MOST, SOME = 1000 };
	struct user u;

	(void)state;
	for (int writes = 0; writes < 2; writes++) {
		dial(&u, TLS);
		u.piece = SOME;
		u.on_ready = READ_ONCE;
		u.left_on = writes ? PEER_WRITE : 0;
		peer_watch(u.peer, PEER_READ);
		order(&u, ALL, RECORD_MOST);             /* one record: once its end is here, the socket has no more to tell */
		for (size_t n = SOME; n <= 5 * SOME; n += SOME) {
			UNTIL(u.n);
			u.events = 0;
			turn_for(MOMENT_MS);
			assert_int_equal(u.n, n);
			assert_int_equal(u.events, u.left_on);
			peer_watch(u.peer, PEER_READ | u.left_on);
			UNTIL(u.n > n);
		}
		u.on_ready = READ;
		peer_watch(u.peer, PEER_READ);
		gets(&u, ALL);
		user_close(&u);
	}
}

static void what_tls_holds_back_may_be_given_up(void **state)
{
	struct user u;

	(void)state;
	for (enum act what = CLOSE; what <= KEEP; what++) {
		if (what == CLOSE_OTHER)
			continue;
		dial(&u, TLS);
		u.piece = 10;
		u.on_ready = READ_ONCE;
		peer_watch(u.peer, PEER_READ);
		order(&u, RECORD_MOST, RECORD_MOST);
		UNTIL(u.n);
		turn_for(MOMENT_MS);
		u.on_ready = what;
		listen_anew(&u);
		peer_watch(u.peer, PEER_READ);           /* told of by an alarm, for the socket is silent */
		UNTIL(u.ready);
		turn_for(MOMENT_MS);
		assert_int_equal(u.ready, 1);
		assert_null(u.peer);
	}
}

/* Else the next one's reply would begin with them. */
static void one_with_bytes_held_back_is_not_used_again(void **state)
{
	struct user u;

	(void)state;
	dial(&u, TLS);
	u.piece = 100;
	u.on_ready = READ_ONCE;
	peer_watch(u.peer, PEER_READ);
	order(&u, 200, 200);
	UNTIL(u.n);
	assert_int_equal(u.n, 100);
	keep(&u);
	turn_for(MOMENT_MS);
	take(&u, TLS);
	assert_null(u.peer);
}

static void a_long_reply_does_not_keep_the_others_waiting(void **state)
{
	enum { ALL = 1 << 20 };
	struct user u, other;

	(void)state;
	dial(&u, TLS);
	order(&u, ALL, RECORD_MOST);                     /* as much of it as may be is on its way before it is read */
	dial(&other, PLAIN);
	other.other = &u;
	int fd = server_accept();
	turn_for(MOMENT_MS);
	server_says(fd, "short");
	u.piece = 1000;
	peer_watch(u.peer, PEER_READ);
	peer_watch(other.peer, PEER_READ);
	UNTIL(other.n == 5);
	gets(&u, ALL);
	user_close(&u);
	user_close(&other);
	close(fd);
	assert_in_range(other.others_n, 0, 100 * u.piece);
}

static void a_large_body_is_written_whole(void **state)
{
	enum { ALL = 6000000, FIRST = 1000003 };
	char *body = malloc(ALL), text[64];
	struct user u;
	size_t at = 0, waits = 0;

	(void)state;
	assert_non_null(body);
	for (size_t i = 0; i < ALL; i++)
		body[i] = pattern(i);
	dial(&u, TLS);
	snprintf(text, sizeof text, "take %d\n", ALL);
	say(&u, text);
	u.on_ready = LOOK;
	while (at < ALL) {
		struct iovec parts[2] = { { body + at, at < FIRST ? FIRST - at : ALL - at }, { body + FIRST, ALL - FIRST } };
		ssize_t n = peer_write(u.peer, parts, at < FIRST ? 2 : 1);
		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
		if (n > 0) {
			at += (size_t)n;
			continue;
		}
		waits++;
		u.events = 0;
		peer_watch(u.peer, PEER_WRITE);
		UNTIL(u.events & PEER_WRITE);
	}
	assert_true(waits > 0);
	u.on_ready = READ;
	listen_anew(&u);
	hears(&u, "ok");
	user_close(&u);
	free(body);
}

static void its_end_is_told(void **state)
{
	const struct iovec part = { "x", 1 };
	struct user u;

	(void)state;
	dial(&u, TLS);
	tls_exchange(&u);
	say(&u, "end\n");
	UNTIL(u.ended || u.error);
	assert_true(u.ended);
	user_close(&u);

	dial(&u, TLS);
	tls_exchange(&u);
	say(&u, "cut\n");
	UNTIL(u.ended || u.error);                       /* as OpenSSL is used by curl it is an end, for GnuTLS it is none */
	assert_true(u.ended || u.error == EPROTO);
	UNTIL(peer_write(u.peer, &part, 1) < 0 && errno != EAGAIN);      /* and no signal */
	assert_int_equal(errno, EPROTO);
	user_close(&u);
}

static void an_unused_one_with_tls_the_upstream_closes_is_gone(void **state)
{
	(void)state;
	for (int bytes = 0; bytes < 2; bytes++) {
		struct user u;
		size_t fds = fds_open();
		dial(&u, TLS);
		tls_exchange(&u);
		if (bytes)
			order(&u, 10, 10);
		else
			say(&u, "end\n");
		keep(&u);
		UNTIL(fds_open() == fds);
		take(&u, TLS);
		assert_null(u.peer);
	}
}

static void who_is_not_trusted_is_down(void **state)
{
	struct user u;

	(void)state;
	dial(&u, TLS);
	tls_exchange(&u);                                /* of its session nothing follows for who trusts others */
	user_close(&u);
	trusted = others.file;
	fails(&u, TLS, CONNECT_MS);
	trusted = NULL;
	fails(&u, TLS, CONNECT_MS);
	trusted = ours.file;
	fails(&u, TLS_MISNAMED, CONNECT_MS);
	dial(&u, TLS);
	tls_exchange(&u);
	user_close(&u);
}

static void tls_that_never_comes_has_the_same_time(void **state)
{
	struct user u;

	(void)state;
	assert_in_range(fails(&u, TLS_MUTE, SHORT_MS), SHORT_MS - 50, 3 * SHORT_MS);
}

static void what_tls_says_for_itself_ends_no_unused_one(void **state)
{
	struct user u;

	(void)state;
	dial(&u, TLS);                                   /* the server's tickets come after it is open */
	kept_a_moment(&u);
	tls_exchange(&u);
	user_close(&u);
}

static void the_next_one_resumes_the_session(void **state)
{
	struct user u, v;

	(void)state;
	dial(&u, TLS);
	tls_exchange(&u);
	assert_int_equal(atomic_load(&tls.resumed), 0);
	dial(&v, TLS);
	tls_exchange(&v);
	assert_int_equal(atomic_load(&tls.resumed), 1);
	user_close(&u);
	user_close(&v);
	dial(&u, TLS);
	tls_exchange(&u);
	assert_int_equal(atomic_load(&tls.resumed), 2);
	user_close(&u);
}

/* curl looks for old connections whenever it makes one, and closes those that it takes for unused: ours are not its to close. */
static void curl_closes_none_for_its_age(void **state)
{
	struct user long_used, kept, fresh;

	(void)state;
	max_age = 1;
	dial(&long_used, TLS);
	tls_exchange(&long_used);
	dial(&kept, TLS);
	tls_exchange(&kept);
	struct peer *peer = kept.peer;
	keep(&kept);
	turn_for(2100);                                  /* it counts in whole seconds */
	dial(&fresh, TLS);
	tls_exchange(&long_used);
	take(&kept, TLS);
	assert_ptr_equal(kept.peer, peer);
	tls_exchange(&kept);
	tls_exchange(&fresh);
	user_close(&long_used);
	user_close(&kept);
	user_close(&fresh);
}

/* ---- given up at any moment ---- */

static void one_with_tls_being_made_is_closed(void **state)
{
	size_t fds = fds_open();

	(void)state;
	closed_while_it_is_made(TLS);
	closed_while_it_is_made(TLS_MUTE);
	turn_for(MOMENT_MS);
	server_drops_all();
	UNTIL(fds_open() == fds);                        /* the thread may be late to take what was given up */
}

static void one_with_tls_may_be_closed_when_it_opens(void **state)
{
	(void)state;
	closed_when_it_opens(TLS, ERR_OK);
	closed_when_it_opens(TLS_MISNAMED, ERR_UPSTREAM_DOWN);
}

static void one_with_tls_may_close_another_that_is_told_in_the_same_turn(void **state)
{
	(void)state;
	one_closes_the_other(TLS);
}

/* ---- no memory ---- */

static int exchange_only(struct user *u)
{
	tls_exchange(u);
	return -1;
}

static void no_memory_fails_one_with_tls_and_no_other(void **state)
{
	(void)state;
	/* these did: the connection, a socket's watch, the table that had to grow for it */
	assert_true(no_memory(TLS, exchange_only) > 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(one_with_tls_is_used_kept_and_used_again),
		TEST(a_large_reply_is_whole_in_whatever_pieces_it_is_read),
		TEST(what_tls_holds_back_waits_for_who_does_not_read),
		TEST(what_tls_holds_back_may_be_given_up),
		TEST(one_with_bytes_held_back_is_not_used_again),
		TEST(a_long_reply_does_not_keep_the_others_waiting),
		TEST(a_large_body_is_written_whole),
		TEST(its_end_is_told),
		TEST(an_unused_one_with_tls_the_upstream_closes_is_gone),
		TEST(who_is_not_trusted_is_down),
		TEST(tls_that_never_comes_has_the_same_time),
		TEST(what_tls_says_for_itself_ends_no_unused_one),
		TEST(the_next_one_resumes_the_session),
		TEST(curl_closes_none_for_its_age),
		TEST(one_with_tls_being_made_is_closed),
		TEST(one_with_tls_may_be_closed_when_it_opens),
		TEST(one_with_tls_may_close_another_that_is_told_in_the_same_turn),
		TEST(no_memory_fails_one_with_tls_and_no_other),
	};

	curl_global_init(CURL_GLOBAL_DEFAULT);
	identity_make(&ours);
	identity_make(&others);
	if (gnutls_certificate_allocate_credentials(&credentials) ||
	    gnutls_certificate_set_x509_key(credentials, &ours.crt, 1, ours.key) || gnutls_session_ticket_key_generate(&ticket_key))
		return 1;
	world_try();
	int failures = cmocka_run_group_tests(tests, NULL, NULL);
	gnutls_certificate_free_credentials(credentials);
	gnutls_free(ticket_key.data);
	identity_free(&ours);
	identity_free(&others);
	curl_global_cleanup();
	return failures;
}
