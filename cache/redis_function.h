/* redis_function.h - the library the store loads into Redis: postings of near questions, kept and looked up there.
 *
 * Its name carries its version, as do the functions', so two releases of the program can use one server. */
#ifndef CACHE_REDIS_FUNCTION_H
#define CACHE_REDIS_FUNCTION_H

#define REDIS_FUNCTION_VERSION "2"
#define REDIS_FUNCTION_PUT "ollacache_put_" REDIS_FUNCTION_VERSION
#define REDIS_FUNCTION_FIND "ollacache_find_" REDIS_FUNCTION_VERSION

extern const char redis_function[];           /* Lua */

#endif
