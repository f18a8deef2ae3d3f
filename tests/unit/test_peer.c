/* uses: proxy/curl_loop.c proxy/hosts.c proxy/base/loop.c proxy/base/alarm.c proxy/base/log.c proxy/base/buf.c proxy/base/err.c proxy/base/arena.c proxy/base/ask.c proxy/base/scan.c proxy/base/canonical.c proxy/ollama_ask.c proxy/ollama_vary.c proxy/ollama_answer.c */
/* libs: -luv -lcurl -lgnutls -licuuc -ljansson -lnettle -lm -lpthread */
/* test_peer.c - connections to upstreams over real sockets: made, not made, used, kept, closed at any moment, with every
 * allocation of ours failing once; and the same with TLS, where bytes wait that no socket tells of.
 *
 * The plain upstream is the test itself, between two turns of the loop. The one with TLS is a thread for each connection
 * (GnuTLS, which libmicrohttpd-dev brings), whose certificate is made at the start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <dlfcn.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/crowd.h"
#include "tests/unit/torture.h"
#include "proxy/peer.c"

enum { PATIENCE_MS = 8000, TICK_MS = 2, CONNECT_MS = 5000, SHORT_MS = 400, LOOKED_UP_MS = 30, MOMENT_MS = 60 };
enum { FULL = 3, FAILS_MOST = 100, TLS_MOST = 64, LENT_MOST = PEER_IDLE_MOST + 8, RECORD_MOST = 16384 };
/* The upstreams: the test; the thread; a name of the test's; the thread by a name that is not in its certificate; one that takes
 * connections and never says a word of TLS; a closed port; a name that is none; a full line; a text that is no URL. */
enum { PLAIN, TLS, NAMED, TLS_MISNAMED, TLS_MUTE, REFUSED, NOWHERE, FULL_LINE, NO_URL, HOSTS };

/* ---- stand-ins: names, and whom curl trusts ---- */

static const char *trusted;                      /* a file; NULL: as curl does without us */
static long max_age;                             /* seconds after which curl takes a connection for too old; 0: as it does */

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
	const struct timespec a_while = { .tv_nsec = LOOKED_UP_MS * 1000000L };

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	nanosleep(&a_while, NULL);
	return strncmp(name, "nowhere.", 8) ? real("127.0.0.1", service, hints, found) : EAI_NONAME;
}

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

/* ---- the upstream with TLS ---- */

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

static atomic_int taken;                         /* connections the thread has taken */

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
	    gnutls_x509_crt_set_dn_by_oid(i->crt, GNUTLS_OID_X520_COMMON_NAME, 0, "test_peer", 9) ||
	    gnutls_x509_crt_set_subject_alt_name(i->crt, GNUTLS_SAN_IPADDRESS, home, sizeof home, GNUTLS_FSAN_SET) ||
	    gnutls_x509_crt_set_basic_constraints(i->crt, 1, -1) || gnutls_x509_crt_set_key(i->crt, i->key) ||
	    gnutls_x509_crt_sign2(i->crt, i->crt, i->key, GNUTLS_DIG_SHA256, 0) ||
	    gnutls_x509_crt_export2(i->crt, GNUTLS_X509_FMT_PEM, &pem))
		abort();
	strcpy(i->file, "/tmp/test_peer.XXXXXX");
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

static char pattern(size_t at)
{
	return (char)('a' + at % 23);
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

static struct loop loop;
static struct alarms alarms;
static struct hosts *hosts;
static struct peers *peers;
static uv_timer_t tick;
static int listening, closed_port, full[FULL];
static size_t fds_before;

/* But for those of the upstream's thread. */
static size_t fds_open(void)
{
	DIR *all = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(all);
	while (readdir(all))
		n++;
	closedir(all);
	return n - (size_t)atomic_load(&taken);
}

static int bound(int *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || getsockname(fd, (struct sockaddr *)&a, &len))
		abort();
	*port = ntohs(a.sin_port);
	return fd;
}

static void on_tick(uv_timer_t *t)
{
	(void)t;
}

/* As often as the condition wants, but not for ever. */
#define UNTIL(condition) do { \
	const int64_t late = clock_us() + PATIENCE_MS * INT64_C(1000); \
	while (!(condition) && clock_us() < late) \
		uv_run(&loop.uv, UV_RUN_ONCE); \
	assert_true(condition); \
} while (0)

static void turn_for(int64_t ms)
{
	for (int64_t to = clock_us() + ms * 1000; clock_us() < to;)
		uv_run(&loop.uv, UV_RUN_ONCE);
}

static void fill(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };

	for (size_t i = 1; i < FULL; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(full[i], (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS)
			abort();
	}
}

static int world_up(void **state)
{
	int plain, closed, line, safe;
	char text[HOSTS][48];
	const char *urls[HOSTS];

	(void)state;
	fds_before = fds_open();
	trusted = ours.file;
	max_age = 0;
	loop_init(&loop);
	alarms_init(&alarms, &loop);
	uv_timer_init(&loop.uv, &tick);
	uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
	listening = bound(&plain);
	closed_port = bound(&closed);
	full[0] = bound(&line);
	tls.listening = bound(&safe);
	if (listen(listening, 512) || listen(full[0], 0) || listen(tls.listening, TLS_MOST) ||
	    pthread_create(&tls.thread, NULL, tls_serve, NULL))
		return 1;
	fill(line);
	snprintf(text[PLAIN], sizeof text[0], "http://127.0.0.1:%d/", plain);
	snprintf(text[TLS], sizeof text[0], "https://127.0.0.1:%d", safe);
	snprintf(text[NAMED], sizeof text[0], "http://named.invalid:%d", plain);
	snprintf(text[TLS_MISNAMED], sizeof text[0], "https://named.invalid:%d", safe);
	snprintf(text[TLS_MUTE], sizeof text[0], "https://127.0.0.1:%d", plain);
	snprintf(text[REFUSED], sizeof text[0], "http://127.0.0.1:%d", closed);
	snprintf(text[NOWHERE], sizeof text[0], "http://nowhere.invalid:%d", plain);
	snprintf(text[FULL_LINE], sizeof text[0], "http://127.0.0.1:%d", line);
	snprintf(text[NO_URL], sizeof text[0], "http://[127.0.0.1");
	for (size_t i = 0; i < HOSTS; i++)
		urls[i] = text[i];
	hosts = hosts_new(urls, HOSTS);
	peers = peers_new(&loop, &alarms, hosts);
	return 0;
}

/* ---- who uses a connection ---- */

static struct peer *lent[LENT_MOST];              /* by our hands; a test that failed leaves them to world_down() */

static void lend(struct peer *from, struct peer *to)
{
	for (size_t i = 0; i < LENT_MOST; i++)
		if (lent[i] == from) {
			lent[i] = to;
			return;
		}
}

static int world_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < LENT_MOST; i++) {
		if (lent[i])
			peer_close(lent[i]);
		lent[i] = NULL;
	}
	peers_free(peers);
	alarms_fini(&alarms);
	uv_close((uv_handle_t *)&tick, NULL);
	hosts_free(hosts);
	loop_fini(&loop);                                /* asserts that no handle is left */
	tls_stop();
	close(listening);
	close(closed_port);
	for (size_t i = 0; i < FULL; i++)
		close(full[i]);
	return fds_open() != fds_before;
}

enum act { READ, READ_ONCE, LOOK, CLOSE, CLOSE_OTHER, KEEP };

struct user {
	struct peer_user u;
	struct peer *peer;                       /* NULL: given back, or never had */
	enum act on_open, on_ready;
	struct user *other;
	int opened, ready;                       /* how often */
	int events;                              /* all that came */
	enum err e;
	int left_on;                             /* after READ_ONCE this is watched for */
	size_t piece;                            /* reads so much at once */
	char text[64];                           /* the first that came */
	size_t n, n_before;                      /* how much came, and whether it was the pattern so far */
	bool right, ended;
	int error;
	size_t others_n;                         /* the other's n when this one was first told of something */
};

static void act(struct user *u, enum act what)
{
	struct user *whose = what == CLOSE_OTHER ? u->other : u;
	struct peer *peer = whose->peer;

	if (what == READ_ONCE && u->n > u->n_before)
		peer_watch(peer, u->left_on);
	if (what <= LOOK || !peer)
		return;
	whose->peer = NULL;
	lend(peer, NULL);
	if (what == KEEP)
		peer_keep(peer);
	else
		peer_close(peer);
}

static void user_on_open(struct peer_user *peer_user, enum err e)
{
	struct user *u = (struct user *)peer_user;

	assert_non_null(u->peer);                        /* not inside peer_dial(), not after peer_close() */
	u->opened++;
	u->e = e;
	act(u, u->on_open);
}

static void user_read(struct user *u)
{
	char bytes[RECORD_MOST];
	ssize_t n = peer_read(u->peer, bytes, u->piece);

	u->ended = n == 0;
	u->error = n < 0 && errno != EAGAIN ? errno : 0;
	for (ssize_t i = 0; i < n; i++, u->n++) {
		u->right = u->right && bytes[i] == pattern(u->n);
		if (u->n < sizeof u->text)
			u->text[u->n] = bytes[i];
	}
	if (u->ended || u->error)
		peer_watch(u->peer, 0);
}

static void user_on_ready(struct peer_user *peer_user, int events)
{
	struct user *u = (struct user *)peer_user;

	assert_non_null(u->peer);
	if (u->ready++ == 0 && u->other)
		u->others_n = u->other->n;
	u->events |= events;
	u->n_before = u->n;
	if (u->on_ready <= READ_ONCE && events & PEER_READ)
		user_read(u);
	act(u, u->on_ready);
}

static void user_init(struct user *u)
{
	*u = (struct user){ .u = { user_on_open, user_on_ready }, .piece = RECORD_MOST, .right = true, .on_open = LOOK };
}

static void user_close(struct user *u)
{
	act(u, CLOSE);
}

static void begin(struct user *u, int host, int64_t ms)
{
	u->opened = 0;
	u->peer = peer_dial(peers, host, ms, &u->u);
	assert_non_null(u->peer);
	lend(NULL, u->peer);
	assert_int_equal(u->opened, 0);
}

static void dial(struct user *u, int host)
{
	user_init(u);
	begin(u, host, CONNECT_MS);
	UNTIL(u->opened);
	assert_int_equal(u->e, ERR_OK);
}

static void take(struct user *u, int host)
{
	user_init(u);
	u->peer = peer_take(peers, host, &u->u);
	lend(NULL, u->peer);
}

static void keep(struct user *u)
{
	act(u, KEEP);
}

static void say(struct user *u, const char *text)
{
	const struct iovec part = { (char *)(uintptr_t)text, strlen(text) };

	assert_int_equal(peer_write(u->peer, &part, 1), part.iov_len);
}

static void listen_anew(struct user *u)
{
	u->n = 0;
	u->right = true;
	u->ready = u->events = 0;
}

/* What came since listen_anew() is this and no more. */
static void hears(struct user *u, const char *text)
{
	peer_watch(u->peer, PEER_READ);
	UNTIL(u->n >= strlen(text) || u->ended || u->error);
	assert_int_equal(u->n, strlen(text));
	assert_memory_equal(u->text, text, u->n);
	listen_anew(u);
}

/* ---- the plain upstream ---- */

static bool asked_for(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static int server_accept(void)
{
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };

	assert_true(asked_for(listening, PATIENCE_MS));
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return fd;
}

static void server_says(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void server_hears(int fd, const char *text)
{
	char bytes[64];

	assert_int_equal(recv(fd, bytes, strlen(text), MSG_WAITALL), strlen(text));
	assert_memory_equal(bytes, text, strlen(text));
}

static bool left(int fd)                                 /* the proxy has closed it; a socket closed with bytes unread is reset */
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void exchange(struct user *u, int fd)
{
	say(u, "ask");
	server_hears(fd, "ask");
	server_says(fd, "reply");
	hears(u, "reply");
}

/* One that was used once and is kept: its other end. */
static int one_kept(struct user *u)
{
	dial(u, PLAIN);
	int fd = server_accept();
	exchange(u, fd);
	keep(u);
	return fd;
}

/* ---- plain ---- */

static void a_connection_is_used_kept_and_used_again(void **state)
{
	struct user u;
	size_t fds = fds_open();

	(void)state;
	dial(&u, PLAIN);
	assert_int_equal(fds_open(), fds + 1);           /* curl's part has ended */
	int fd = server_accept();
	exchange(&u, fd);
	keep(&u);
	turn_for(MOMENT_MS);
	take(&u, NAMED);
	assert_null(u.peer);                             /* it is another's */
	take(&u, PLAIN);
	assert_non_null(u.peer);
	exchange(&u, fd);
	keep(&u);
	take(&u, PLAIN);
	assert_non_null(u.peer);
	exchange(&u, fd);
	assert_false(asked_for(listening, 0));           /* the server has seen one */
	assert_int_equal(u.opened, 0);
	user_close(&u);
	assert_true(left(fd));
	take(&u, PLAIN);
	assert_null(u.peer);
	close(fd);
	assert_int_equal(fds_open(), fds);
}

static void parts_are_written_in_order_and_room_is_told_of(void **state)
{
	static char block[1 << 16];
	const struct iovec parts[3] = { { "one ", 4 }, { "", 0 }, { "two", 3 } }, many[2] = { { block, sizeof block }, { block, sizeof block } };
	struct user u;
	size_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	assert_int_equal(peer_write(u.peer, parts, 3), 7);
	server_hears(fd, "one two");
	while ((n = peer_write(u.peer, many, 2)) > 0)
		sent += (size_t)n;
	assert_int_equal(n, -1);
	assert_int_equal(errno, EAGAIN);
	peer_watch(u.peer, PEER_READ | PEER_WRITE);
	turn_for(MOMENT_MS);
	assert_int_equal(u.ready, 0);
	while (got < sent && (n = recv(fd, block, sizeof block, 0)) > 0)
		got += (size_t)n;
	assert_int_equal(got, sent);
	UNTIL(u.ready);
	assert_int_equal(u.events, PEER_WRITE);
	user_close(&u);
	close(fd);
}

static void nothing_is_told_that_is_not_watched_for(void **state)
{
	struct user u;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	server_says(fd, "early");
	turn_for(MOMENT_MS);
	assert_int_equal(u.ready, 0);
	u.on_ready = LOOK;
	peer_watch(u.peer, PEER_WRITE);
	UNTIL(u.ready);
	assert_int_equal(u.events, PEER_WRITE);
	peer_watch(u.peer, 0);
	listen_anew(&u);
	turn_for(MOMENT_MS);
	assert_int_equal(u.ready, 0);
	u.on_ready = READ;
	hears(&u, "early");
	close(fd);
	UNTIL(u.ended);
	user_close(&u);
}

static void what_came_before_a_reset_is_read(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct user u;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	server_says(fd, "last words");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(fd);
	u.piece = 4;
	peer_watch(u.peer, PEER_READ);
	UNTIL(u.error);
	assert_int_equal(u.error, ECONNRESET);
	assert_int_equal(u.n, strlen("last words"));
	assert_memory_equal(u.text, "last words", u.n);
	const struct iovec part = { "x", 1 };
	assert_int_equal(peer_write(u.peer, &part, 1), -1);      /* and no signal */
	assert_int_not_equal(errno, EAGAIN);
	user_close(&u);
}

static void a_reset_is_told_to_who_only_writes(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	static char block[1 << 16];
	const struct iovec part = { block, sizeof block };
	struct user u;

	(void)state;
	dial(&u, PLAIN);
	int fd = server_accept();
	while (peer_write(u.peer, &part, 1) > 0)
		;
	peer_watch(u.peer, PEER_WRITE);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(fd);
	UNTIL(u.ready);
	assert_int_equal(u.events, PEER_WRITE);
	user_close(&u);
}

static void an_unused_one_the_upstream_closes_is_gone(void **state)
{
	struct user u;
	size_t fds = fds_open();

	(void)state;
	int fd = one_kept(&u);
	close(fd);
	UNTIL(fds_open() == fds);
	take(&u, PLAIN);
	assert_null(u.peer);
}

static void an_unused_one_that_gets_unasked_bytes_is_closed(void **state)
{
	struct user u;

	(void)state;
	int fd = one_kept(&u);
	server_says(fd, "408");
	UNTIL(left(fd));
	take(&u, PLAIN);
	assert_null(u.peer);
	close(fd);
}

static void what_the_loop_has_not_told_yet_is_seen_as_well(void **state)
{
	(void)state;
	for (int bytes = 0; bytes < 2; bytes++) {
		struct user u;
		int fd = one_kept(&u);
		if (bytes)
			server_says(fd, "408");
		else
			shutdown(fd, SHUT_WR);
		take(&u, PLAIN);
		assert_null(u.peer);
		assert_true(left(fd));
		close(fd);
	}
}

static void the_latest_is_taken_first_and_any_may_go(void **state)
{
	struct user u[4];
	struct peer *peer[4];
	int fd[4];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		dial(&u[i], PLAIN);
		fd[i] = server_accept();
		exchange(&u[i], fd[i]);
		peer[i] = u[i].peer;
	}
	for (size_t i = 0; i < 4; i++)
		keep(&u[i]);
	shutdown(fd[1], SHUT_WR);                        /* one in the middle, then the oldest */
	UNTIL(left(fd[1]));
	shutdown(fd[0], SHUT_WR);
	UNTIL(left(fd[0]));
	take(&u[3], PLAIN);
	assert_ptr_equal(u[3].peer, peer[3]);
	take(&u[2], PLAIN);
	assert_ptr_equal(u[2].peer, peer[2]);
	take(&u[0], PLAIN);
	assert_null(u[0].peer);
	keep(&u[2]);
	keep(&u[3]);
	shutdown(fd[3], SHUT_WR);                        /* the newest */
	UNTIL(left(fd[3]));
	take(&u[2], PLAIN);
	assert_ptr_equal(u[2].peer, peer[2]);
	user_close(&u[2]);
	for (size_t i = 0; i < 4; i++)
		close(fd[i]);
}

static void so_many_are_kept_and_no_more(void **state)
{
	static struct user u[PEER_IDLE_MOST + 1];
	static int fd[PEER_IDLE_MOST + 1];

	(void)state;
	for (size_t i = 0; i <= PEER_IDLE_MOST; i++) {
		dial(&u[i], PLAIN);
		fd[i] = server_accept();
	}
	for (size_t i = 0; i <= PEER_IDLE_MOST; i++)
		keep(&u[i]);
	assert_true(left(fd[0]));                        /* the oldest has gone for the latest */
	for (size_t i = 1; i <= PEER_IDLE_MOST; i++)
		assert_false(left(fd[i]));
	dial(&u[0], NAMED);                              /* the limit is all hosts' */
	close(fd[0]);
	fd[0] = server_accept();
	keep(&u[0]);
	assert_true(left(fd[1]));
	assert_false(left(fd[2]));
	take(&u[0], NAMED);
	assert_non_null(u[0].peer);
	user_close(&u[0]);
	for (size_t i = 0; i < PEER_IDLE_MOST; i++) {
		take(&u[i], PLAIN);
		assert_true((u[i].peer != NULL) == (i < PEER_IDLE_MOST - 1));
	}
	for (size_t i = 0; i < PEER_IDLE_MOST; i++)
		user_close(&u[i]);
	for (size_t i = 0; i <= PEER_IDLE_MOST; i++)
		close(fd[i]);
	for (size_t i = 0; i < 2; i++) {                 /* there is room again */
		dial(&u[i], PLAIN);
		fd[i] = server_accept();
	}
	keep(&u[0]);
	keep(&u[1]);
	assert_false(left(fd[0]) || left(fd[1]));
	close(fd[0]);
	close(fd[1]);
}

static void one_kept_too_long_is_closed(void **state)
{
	struct user u[3];
	struct peer *peer[3];
	int fd[3];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		dial(&u[i], i == 1 ? NAMED : PLAIN);
		fd[i] = server_accept();
		peer[i] = u[i].peer;
	}
	assert_false(alarm_is_set(&peers->look));
	for (size_t i = 0; i < 3; i++)
		keep(&u[i]);
	assert_true(alarm_is_set(&peers->look));
	for (size_t i = 0; i < 3; i++) {
		for (size_t k = i; k < 3; k++)
			peer[k]->since = loop_now(&loop) - (k == i ? PEER_IDLE_MS - LOOK_MS : PEER_IDLE_MS - 2 * LOOK_MS);
		alarm_set(&alarms, &peers->look, 0, on_look);    /* it is time to look */
		UNTIL(left(fd[i]));
		for (size_t k = i + 1; k < 3; k++)
			assert_false(left(fd[k]));
		assert_int_equal(alarm_is_set(&peers->look), i < 2);
	}
	for (size_t i = 0; i < 3; i++)
		close(fd[i]);
}

/* ---- not made ---- */

static int64_t fails(struct user *u, int host, int64_t ms)
{
	size_t fds = fds_open();
	int64_t from = clock_us();

	user_init(u);
	begin(u, host, ms);
	UNTIL(u->opened);
	int64_t took = (clock_us() - from) / 1000;
	assert_int_equal(u->e, ERR_UPSTREAM_DOWN);
	user_close(u);
	turn_for(MOMENT_MS);
	assert_int_equal(u->opened, 1);
	assert_int_equal(fds_open(), fds);
	return took;
}

static void what_cannot_be_reached_is_down(void **state)
{
	struct user u;

	(void)state;
	assert_in_range(fails(&u, REFUSED, CONNECT_MS), 0, CONNECT_MS / 2);
	assert_in_range(fails(&u, NOWHERE, CONNECT_MS), 0, CONNECT_MS / 2);
	assert_in_range(fails(&u, NO_URL, CONNECT_MS), 0, CONNECT_MS / 2);
}

static void connecting_has_its_time(void **state)
{
	struct user u;

	(void)state;
	assert_in_range(fails(&u, FULL_LINE, SHORT_MS), SHORT_MS - 50, 3 * SHORT_MS);
	assert_in_range(fails(&u, NAMED, LOOKED_UP_MS / 3), 0, SHORT_MS);        /* a look-up counts */
}

/* ---- given up at any moment ---- */

static void one_being_made_is_closed(void **state)
{
	static const int of[] = { PLAIN, TLS, NAMED, TLS_MUTE, REFUSED, NOWHERE, FULL_LINE, NO_URL };
	static const int64_t after[] = { 0, TICK_MS, LOOKED_UP_MS / 2, LOOKED_UP_MS + TICK_MS, MOMENT_MS };
	size_t fds = fds_open();

	(void)state;
	for (size_t i = 0; i < sizeof of / sizeof of[0]; i++)
		for (size_t k = 0; k < sizeof after / sizeof after[0]; k++) {
			struct user u;
			user_init(&u);
			begin(&u, of[i], CONNECT_MS);
			turn_for(after[k]);
			user_close(&u);
			u.opened = 0;
			turn_for(LOOKED_UP_MS);
			assert_int_equal(u.opened, 0);
		}
	turn_for(MOMENT_MS);
	while (asked_for(listening, 0))
		close(server_accept());
	UNTIL(fds_open() == fds);                        /* the thread may be late to take what was given up */
}

static void it_may_be_closed_or_kept_when_it_opens(void **state)
{
	static const int of[] = { PLAIN, TLS, NAMED, TLS_MISNAMED, REFUSED, NOWHERE, NO_URL };
	struct user u;

	(void)state;
	for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
		user_init(&u);
		u.on_open = CLOSE;
		begin(&u, of[i], CONNECT_MS);
		UNTIL(u.opened);
		assert_null(u.peer);
		assert_int_equal(u.e, i < 3 ? ERR_OK : ERR_UPSTREAM_DOWN);
		turn_for(MOMENT_MS);
		assert_int_equal(u.opened, 1);
	}
	user_init(&u);
	u.on_open = KEEP;
	begin(&u, PLAIN, CONNECT_MS);
	UNTIL(u.opened);
	take(&u, PLAIN);
	assert_non_null(u.peer);
	user_close(&u);
	while (asked_for(listening, 0))
		close(server_accept());
}

static void it_may_be_closed_or_kept_when_it_is_ready(void **state)
{
	(void)state;
	for (int kept = 0; kept < 2; kept++) {
		struct user u;
		dial(&u, PLAIN);
		int fd = server_accept();
		u.on_ready = kept ? KEEP : CLOSE;
		peer_watch(u.peer, PEER_READ | PEER_WRITE);
		UNTIL(u.ready);
		turn_for(MOMENT_MS);
		assert_int_equal(u.ready, 1);
		assert_int_equal(left(fd), !kept);
		take(&u, PLAIN);
		assert_int_equal(u.peer != NULL, kept);
		user_close(&u);
		close(fd);
	}
}

static void one_may_close_another_that_is_told_in_the_same_turn(void **state)
{
	(void)state;
	for (int host = PLAIN; host <= TLS; host++) {
		struct user u[2];
		for (size_t i = 0; i < 2; i++) {
			user_init(&u[i]);
			u[i].on_open = CLOSE_OTHER;
			u[i].other = &u[!i];
			begin(&u[i], host, CONNECT_MS);
		}
		UNTIL(u[0].opened || u[1].opened);
		turn_for(MOMENT_MS);
		assert_int_equal(u[0].opened + u[1].opened, 1);
		user_close(&u[0]);
		user_close(&u[1]);

		for (size_t i = 0; i < 2; i++) {
			dial(&u[i], host);
			u[i].on_ready = CLOSE_OTHER;
			u[i].other = &u[!i];
		}
		for (size_t i = 0; i < 2; i++)
			peer_watch(u[i].peer, PEER_WRITE);
		UNTIL(u[0].ready || u[1].ready);
		turn_for(MOMENT_MS);
		assert_true((u[0].peer == NULL) != (u[1].peer == NULL));
		assert_true(u[0].ready == 0 || u[1].ready == 0);
		user_close(&u[0]);
		user_close(&u[1]);
	}
	while (asked_for(listening, 0))
		close(server_accept());
}

/* ---- its name ---- */

static void a_host_is_written_as_its_requests_want_it(void **state)
{
	static const char *const urls[] = { "http://a.example:80/", "http://a.example", "https://b.example:443", "https://b.example:80",
	                                    "http://[::1]:11434", "https://[2001:db8::2]", "http://user:word@c.example:1/path",
	                                    "http://[broken" };
	static const char *const texts[] = { "a.example", "a.example", "b.example", "b.example:80", "[::1]:11434", "[2001:db8::2]",
	                                     "c.example:1", "" };
	enum { N = sizeof urls / sizeof urls[0] };
	struct hosts *hs = hosts_new(urls, N);
	struct peers *all = peers_new(&loop, &alarms, hs);

	(void)state;
	for (int i = 0; i < N; i++)
		assert_string_equal(peers_authority(all, i), texts[i]);
	peers_free(all);
	turn_for(TICK_MS);
	hosts_free(hs);
}

/* ---- TLS ---- */

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

static void one_with_tls_is_used_kept_and_used_again(void **state)
{
	struct user u;

	(void)state;
	dial(&u, TLS);
	tls_exchange(&u);
	struct peer *peer = u.peer;
	keep(&u);
	turn_for(MOMENT_MS);
	take(&u, TLS);
	assert_ptr_equal(u.peer, peer);
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
	struct peer *peer = u.peer;
	keep(&u);
	turn_for(MOMENT_MS);
	take(&u, TLS);
	assert_ptr_equal(u.peer, peer);
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

/* ---- no memory ---- */

/* One dialled, used, kept and taken again while the nth allocation fails; false: none did. */
static bool one_fails(int nth, int host)
{
	struct user before, unlucky, after;
	struct crowd crowd;
	int fd = -1;
	bool safe = host == TLS;

	user_init(&unlucky);
	crowd_in(&crowd, closed_port);
	torture_begin(nth);
	unlucky.peer = peer_dial(peers, host, SHORT_MS, &unlucky.u);
	if (unlucky.peer)
		UNTIL(unlucky.opened);
	if (unlucky.opened && !unlucky.e) {
		if (safe)
			tls_exchange(&unlucky);
		else
			exchange(&unlucky, fd = server_accept());
		keep(&unlucky);
		take(&unlucky, host);
		assert_non_null(unlucky.peer);
	}
	bool failed = torture_end();
	if (!failed)
		assert_int_equal(unlucky.e, ERR_OK);
	user_close(&unlucky);
	close(fd);
	crowd_out(&crowd);
	while (asked_for(listening, 0))                  /* it was made, but we could not know */
		close(server_accept());

	take(&before, PLAIN);                      /* it was there all the time */
	assert_non_null(before.peer);
	say(&before, "ask");
	keep(&before);
	dial(&after, host);
	if (safe)
		tls_exchange(&after);
	else
		exchange(&after, fd = server_accept());
	user_close(&after);
	if (!safe)
		close(fd);
	return failed;
}

static void no_memory_fails_one_and_no_other(void **state)
{
	static const char *nobody_else[] = { NULL };
	static const int of[] = { NAMED, TLS };
	struct alarm a = { 0 };
	struct user before;

	(void)state;
	assert_true(torture_of(nobody_else) > 0);
	for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
		int nth = 1;
		for (bool failed = true; failed; nth++) {
			assert_in_range(nth, 1, FAILS_MOST);
			world_down(NULL);                /* the table of sockets is as it was at first */
			world_up(NULL);
			alarm_set(&alarms, &a, 0, NULL);         /* their first room is not to fail */
			alarm_clear(&alarms, &a);
			int fd = one_kept(&before);
			failed = one_fails(nth, of[i]);
			server_hears(fd, "ask");
			close(fd);
		}
		/* these did: the connection, a socket's watch, the table that had to grow for it; by name, the resolver's as well */
		assert_true(nth > (of[i] == NAMED ? 5 : 4));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
	const struct CMUnitTest tests[] = {
		TEST(a_connection_is_used_kept_and_used_again),
		TEST(parts_are_written_in_order_and_room_is_told_of),
		TEST(nothing_is_told_that_is_not_watched_for),
		TEST(what_came_before_a_reset_is_read),
		TEST(a_reset_is_told_to_who_only_writes),
		TEST(an_unused_one_the_upstream_closes_is_gone),
		TEST(an_unused_one_that_gets_unasked_bytes_is_closed),
		TEST(what_the_loop_has_not_told_yet_is_seen_as_well),
		TEST(the_latest_is_taken_first_and_any_may_go),
		TEST(so_many_are_kept_and_no_more),
		TEST(one_kept_too_long_is_closed),
		TEST(what_cannot_be_reached_is_down),
		TEST(connecting_has_its_time),
		TEST(one_being_made_is_closed),
		TEST(it_may_be_closed_or_kept_when_it_opens),
		TEST(it_may_be_closed_or_kept_when_it_is_ready),
		TEST(one_may_close_another_that_is_told_in_the_same_turn),
		TEST(a_host_is_written_as_its_requests_want_it),
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
		TEST(no_memory_fails_one_and_no_other),
	};
	struct rlimit most;

	if (!getrlimit(RLIMIT_NOFILE, &most) && most.rlim_cur < most.rlim_max) {
		most.rlim_cur = most.rlim_max;           /* more connections than are kept unused, both ends */
		setrlimit(RLIMIT_NOFILE, &most);
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	identity_make(&ours);
	identity_make(&others);
	if (gnutls_certificate_allocate_credentials(&credentials) ||
	    gnutls_certificate_set_x509_key(credentials, &ours.crt, 1, ours.key) || gnutls_session_ticket_key_generate(&ticket_key))
		return 1;
	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	world_up(NULL);                                  /* what the libraries open once is open from here on */
	world_down(NULL);
	int failures = cmocka_run_group_tests(tests, NULL, NULL);
	gnutls_certificate_free_credentials(credentials);
	gnutls_free(ticket_key.data);
	identity_free(&ours);
	identity_free(&others);
	curl_global_cleanup();
	return failures;
}
