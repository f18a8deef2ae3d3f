/* torture.h - lets the nth allocation from now fail, in our own code and in the libraries a test names.
 *
 * The test's own malloc, calloc, realloc and strdup stand before the C library's, for shared libraries too, and hand on to
 * the sanitizer's if there is one. What fails is told by who asks: this program, or a library whose file name begins as
 * asked for. The others (libc, libuv, cmocka) always get their memory.
 *
 * The rule a test checks for every n: no crash, no leak (LeakSanitizer sees to it), a clean error or a miss, and
 * afterwards it works as before.
 * Threads  any may ask; of several at once one fails. */
#ifndef TESTS_TORTURE_H
#define TESTS_TORTURE_H

#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TORTURE_PARTS = 16 };

static struct {
	atomic_int left;                      /* allocations until the one that fails, from 1; 0: none will */
	atomic_bool failed;
	struct { uintptr_t from, to; } part[TORTURE_PARTS];
	size_t n_parts;
	bool (*spares)(void);                 /* who asks now cannot do without: the next one fails instead; NULL: nobody */
} torture;

void *__interceptor_malloc(size_t) __attribute__((weak));
void *__interceptor_calloc(size_t, size_t) __attribute__((weak));
void *__interceptor_realloc(void *, size_t) __attribute__((weak));
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

/* Asked before a sanitizer has its memory in place, too. Inlined, they would take whoever called their caller for who asks. */
#define TORTURE_PLAIN __attribute__((noinline, no_sanitize("address", "thread", "undefined")))

TORTURE_PLAIN static bool torture_fails(const void *at)
{
	uintptr_t asker = (uintptr_t)at;

	if (atomic_load(&torture.left) <= 0)
		return false;
	for (size_t i = 0; i < torture.n_parts; i++)
		if (asker >= torture.part[i].from && asker < torture.part[i].to) {
			if ((atomic_load(&torture.left) == 1 && torture.spares && torture.spares()) || atomic_fetch_sub(&torture.left, 1) != 1)
				return false;
			atomic_store(&torture.failed, true);
			return true;
		}
	return false;
}

TORTURE_PLAIN void *malloc(size_t n)
{
	if (torture_fails(__builtin_return_address(0)))
		return NULL;
	return __interceptor_malloc ? __interceptor_malloc(n) : __libc_malloc(n);
}

TORTURE_PLAIN void *calloc(size_t n, size_t bytes)
{
	if (torture_fails(__builtin_return_address(0)))
		return NULL;
	return __interceptor_calloc ? __interceptor_calloc(n, bytes) : __libc_calloc(n, bytes);
}

TORTURE_PLAIN void *realloc(void *at, size_t n)
{
	if (torture_fails(__builtin_return_address(0)))
		return NULL;
	return __interceptor_realloc ? __interceptor_realloc(at, n) : __libc_realloc(at, n);
}

TORTURE_PLAIN char *strdup(const char *text)
{
	size_t n = strlen(text) + 1;

	if (torture_fails(__builtin_return_address(0)))
		return NULL;
	char *copy = __interceptor_malloc ? __interceptor_malloc(n) : __libc_malloc(n);
	return copy ? memcpy(copy, text, n) : NULL;
}

static inline int torture_part(struct dl_phdr_info *info, size_t size, void *names)
{
	const char *slash = strrchr(info->dlpi_name, '/'), *file = slash ? slash + 1 : info->dlpi_name;
	bool wanted = false, program = !*file;         /* the program itself comes without a name */

	(void)size;
	for (const char **name = names; !program && *name; name++)
		wanted = wanted || !strncmp(file, *name, strlen(*name));
	for (size_t i = 0; (wanted || program) && i < info->dlpi_phnum && torture.n_parts < TORTURE_PARTS; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
			torture.part[torture.n_parts].from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			torture.part[torture.n_parts].to = torture.part[torture.n_parts].from + info->dlpi_phdr[i].p_memsz;
			torture.n_parts++;
		}
	return 0;
}

/* Whose allocations fail besides the program's: the beginnings of libraries' file names, NULL at the end. The vDSO has a
 * name as well. Returns how many parts of the process that are. */
static inline size_t torture_of(const char **names)
{
	torture.n_parts = 0;
	dl_iterate_phdr(torture_part, names);
	return torture.n_parts;
}

/* The nth from now fails, n from 1. */
static inline void torture_begin(int n)
{
	atomic_store(&torture.failed, false);
	atomic_store(&torture.left, n);
}

/* No more fails from here on; whether one did. */
static inline bool torture_end(void)
{
	atomic_store(&torture.left, 0);
	return atomic_load(&torture.failed);
}

#endif
