/* embedded_file.c - the directory of the embedded store: whose it is, and whether its file may be trusted.
 *
 * The directory is held by flock() on a file of its own; LMDB's reader table (lock.mdb) is then ours alone and is made
 * afresh, so that readers of a killed process hold nothing back.
 *
 * LMDB maps the file and believes it. A page past the end of the file would be a SIGBUS, so the file is kept as long as
 * the map is (with holes: it takes the room of what was written), and one that is shorter than its newest head says
 * it must be is not mapped at all; one that is not as we closed it is looked through first (embedded_check.c). What cannot
 * be trusted is moved aside, one such file at most, and the store starts empty: it is a cache. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/embedded.h"
#include "proxy/base/log.h"

enum { NAME_MAX_BYTES = 4096, MARK_MAX = 96, CHECK_MS = 5000, META_MAGIC_AT = 16, META_PSIZE_AT = 40, META_LAST_PAGE_AT = 136, META_BYTES = 152 };
static const uint32_t lmdb_magic = 0xbeefc0de;
static const char too_large[] = "larger than cache.max_size is now";

static bool directory_make(const char *path)
{
	char part[NAME_MAX_BYTES];
	struct stat st;

	if (strlen(path) >= sizeof part) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(part, path, strlen(path) + 1);
	for (char *at = part + 1; *at; at++)
		if (*at == '/') {
			*at = 0;
			if (mkdir(part, 0700) && errno != EEXIST)
				return false;
			*at = '/';
		}
	if (mkdir(part, 0700) && errno != EEXIST)
		return false;
	if (stat(part, &st))
		return false;
	errno = ENOTDIR;
	return S_ISDIR(st.st_mode);
}

static char *name_in(const struct embedded *s, const char *name)
{
	static _Thread_local char full[NAME_MAX_BYTES + 32];

	snprintf(full, sizeof full, "%s/%s", s->path, name);
	return full;
}

/* How a file is known again that nobody has touched since it was closed. */
static void mark_of(const struct stat *st, char mark[MARK_MAX])
{
	snprintf(mark, MARK_MAX, "%ju %jd %jd.%09ld", (uintmax_t)st->st_ino, (intmax_t)st->st_size,
		 (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

/* Takes the directory; left: the mark that the last holder left, or nothing. */
static bool directory_lock(struct embedded *s, char left[MARK_MAX], char *why, size_t len)
{
	char holder[32 + MARK_MAX] = "";

	s->lock_fd = open(name_in(s, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0) {
		snprintf(why, len, "cache.path %s cannot be written to: %s", s->path, strerror(errno));
		return false;
	}
	int e = flock(s->lock_fd, LOCK_EX | LOCK_NB) ? errno : 0;
	ssize_t n = pread(s->lock_fd, holder, sizeof holder - 1, 0);
	holder[n > 0 ? n : 0] = 0;
	size_t digits = strspn(holder, "0123456789");
	snprintf(left, MARK_MAX, "%.*s", MARK_MAX - 1, holder + digits + strspn(holder + digits, "\n"));
	left[strcspn(left, "\n")] = 0;
	holder[digits] = 0;
	if (e) {
		if (e == EWOULDBLOCK)
			snprintf(why, len, "cache.path %s is in use by another process%s%s", s->path,
				 *holder ? ", pid " : "", holder);
		else
			snprintf(why, len, "cache.path %s cannot be locked: %s", s->path, strerror(e));
		return false;
	}
	snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
	if (ftruncate(s->lock_fd, 0) || pwrite(s->lock_fd, holder, strlen(holder), 0) < 0) {
		snprintf(why, len, "cache.path %s cannot be written to: %s", s->path, strerror(errno));
		return false;
	}
	return true;
}

/* Leaves the mark. The moment of its last change is set to one that no write after it will give it again: those go by a
 * clock that stands still between two ticks. */
static void leave_mark(struct embedded *s)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
	char mark[MARK_MAX], text[32 + MARK_MAX];
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &times[1]);
	if (utimensat(AT_FDCWD, name_in(s, "data.mdb"), times, 0) || stat(name_in(s, "data.mdb"), &st))
		return;
	mark_of(&st, mark);
	snprintf(text, sizeof text, "%ld\n%s\n", (long)getpid(), mark);
	if (pwrite(s->lock_fd, text, strlen(text), 0) < 0)
		log_line(LOG_DEBUG, "store", "%s will be looked through at the next start", s->path);
}

/* How many bytes the heads of LMDB's file say there are, by its layout of format 1, and the bytes of a page. 0: they make no
 * sense. */
static uint64_t bytes_needed(int fd, uint32_t *page_bytes)
{
	unsigned char head[META_BYTES];
	uint64_t most = 0, last;
	uint32_t magic, page = 4096;

	for (int i = 0; i < 2; i++) {
		if (pread(fd, head, sizeof head, (off_t)i * page) != (ssize_t)sizeof head)
			return 0;
		memcpy(&magic, head + META_MAGIC_AT, sizeof magic);
		if (magic != lmdb_magic)
			return 0;
		memcpy(&page, head + META_PSIZE_AT, sizeof page);
		memcpy(&last, head + META_LAST_PAGE_AT, sizeof last);
		if (page < 512 || page > 65536 || (page & (page - 1)) || last >= UINT64_MAX / 65536 - 1)
			return 0;
		if ((last + 1) * page > most)
			most = (last + 1) * page;
	}
	*page_bytes = page;
	return most;
}

static const char *damage(const struct embedded *s, int fd, uint64_t bytes, uint32_t page)
{
	switch (embedded_check(fd, bytes, page, CHECK_MS)) {
	case CHECK_SOUND:
		break;
	case CHECK_DAMAGED:
		return "damaged";
	case CHECK_UNDECIDED:
		log_line(LOG_WARN, "store", "%s is too large to be looked through at the start and is taken as it is", s->path);
	}
	return NULL;
}

static const char *file_fault(const struct embedded *s, uint64_t map, const char *left)
{
	char mark[MARK_MAX];
	struct stat st;
	uint32_t page = 0;
	const char *fault = NULL;
	int fd = open(name_in(s, "data.mdb"), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;                           /* none yet; or LMDB will say why not */
	if (fstat(fd, &st) == 0 && st.st_size > 0) {
		uint64_t needed = bytes_needed(fd, &page);
		mark_of(&st, mark);
		if (needed == 0)
			fault = "not a store of this program";
		else if (needed > (uint64_t)st.st_size)
			fault = "cut short";
		else if (needed > map)
			fault = too_large;
		else if (strcmp(mark, left) != 0)
			fault = damage(s, fd, needed, page);
	}
	close(fd);
	return fault;
}

static void set_aside(struct embedded *s, const char *fault)
{
	char from[NAME_MAX_BYTES + 32];

	snprintf(from, sizeof from, "%s", name_in(s, "data.mdb"));
	if (fault == too_large) {                      /* sound, but to keep it would take the room we were told to save */
		unlink(from);
		log_line(LOG_WARN, "store", "%s is %s: removed, the cache starts empty", from, fault);
	} else if (rename(from, name_in(s, "data.mdb.bad")) == 0)
		log_line(LOG_WARN, "store", "%s is %s: moved aside to data.mdb.bad, the cache starts empty", from, fault);
	else
		log_line(LOG_ERROR, "store", "%s is %s and cannot be moved aside: %s", from, fault, strerror(errno));
}

static int lmdb_open(struct embedded *s, uint64_t map)
{
	mdb_mode_t mode = 0600;
	mdb_filehandle_t fd;
	struct stat st;
	int e = mdb_env_create(&s->t.env);

	if (e)
		return e;
	e = mdb_env_set_mapsize(s->t.env, map);
	if (!e)
		e = mdb_env_set_maxdbs(s->t.env, 7);
	if (!e)
		e = mdb_env_set_maxreaders(s->t.env, LINKS_MAX + 2);
	if (!e)
		e = mdb_env_open(s->t.env, s->path, MDB_NOTLS | MDB_NOMETASYNC | MDB_NOMEMINIT, mode);
	if (!e)
		e = mdb_env_get_fd(s->t.env, &fd);
	if (!e && (fstat(fd, &st) || ((uint64_t)st.st_size != map && ftruncate(fd, (off_t)map))))
		e = errno;                             /* before anything is read through the map */
	if (!e)
		e = tables_open(&s->t);
	if (e) {
		mdb_env_close(s->t.env);
		s->t.env = NULL;
	}
	return e;
}

/* Whether an error says that the file is at fault, not the machine. */
static bool is_fault(int e)
{
	return e == MDB_INVALID || e == MDB_VERSION_MISMATCH || e == MDB_CORRUPTED || e == MDB_PAGE_NOTFOUND ||
	       e == MDB_INCOMPATIBLE || e == MDB_DBS_FULL || e == MDB_PANIC;
}

bool embedded_file_open(struct embedded *s, char *why, size_t len)
{
	/* evictions need a few pages too, before they free any; so the map has a little more than is ever filled */
	uint64_t map = (s->max_bytes + s->max_bytes / 32 + 65535) / 65536 * 65536;
	char left[MARK_MAX];
	const char *fault;

	if (!directory_make(s->path)) {
		snprintf(why, len, "cache.path %s cannot be made: %s", s->path, strerror(errno));
		return false;
	}
	if (!directory_lock(s, left, why, len))
		return false;
	unlink(name_in(s, "lock.mdb"));
	fault = file_fault(s, map, left);
	if (fault)
		set_aside(s, fault);
	int e = lmdb_open(s, map);
	if (e && is_fault(e)) {
		set_aside(s, "not readable as a store");
		e = lmdb_open(s, map);
	}
	if (e)
		snprintf(why, len, "cache.path %s cannot be opened: %s", s->path, mdb_strerror(e));
	return !e;
}

void embedded_file_close(struct embedded *s)
{
	if (s->t.env) {
		mdb_env_close(s->t.env);
		if (!atomic_load(&s->broken))
			leave_mark(s);
	}
	if (s->lock_fd >= 0)
		close(s->lock_fd);                     /* and with it the lock */
}
