#!/bin/bash
# lint.sh quick|all - looks at the code without running it; each check is one test of `N passed, N failed`.
# quick: what takes a few seconds. all: cppcheck, gcc's analyzer and every header by itself as well.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
program=${OLLACACHE:-./ollacache}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
sources=$(ls proxy/*.c proxy/base/*.c cache/*.c scoring/*.c 2>/dev/null)
headers=$(ls proxy/*.h proxy/base/*.h cache/*.h scoring/*.h 2>/dev/null)
flags="-std=c17 -D_GNU_SOURCE -DOLLACACHE_VERSION=\"\" -I. $(pkg-config --cflags libmicrohttpd libcurl jansson hiredis libuv icu-uc 2>/dev/null)"

# check WHAT COMMAND…: passes if the command does; prints what it said if not
check() {
	local what=$1
	shift
	if "$@" >"$scratch/said" 2>&1; then
		passed=$((passed + 1))
	else
		echo "lint: $what"
		sed 's/^/    /' "$scratch/said"
		failed=$((failed + 1))
	fi
}

# Functions that write past their end, guess where numbers end, or keep their state where two threads find it.
banned='strcpy|strcat|stpcpy|strncpy|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|alloca|system|popen|tmpnam|mktemp|rand|srand|gmtime|localtime|ctime|asctime|getenv_s|readdir_r|usleep|sleep'
banned_functions() {
	local wrong=0 file
	for file in $sources $headers; do
		# comments are taken off first; what remains may name them only in a string
		if gcc -fpreprocessed -dD -E "$file" 2>/dev/null | grep -v '^#' |
			grep -nE "(^|[^_a-zA-Z0-9.>\"])($banned) ?\(" | sed "s|^[0-9]*:|$file: |" | grep .; then
			wrong=1
		fi
	done
	return $wrong
}

file_heads() {                                   # a file says what it is for before anything else
	local wrong=0 file
	for file in $sources $headers; do
		case $(head -c 3 "$file") in
		'/* ') ;;
		*) echo "$file: does not begin with a comment that says what it is for"; wrong=1 ;;
		esac
	done
	return $wrong
}

proxy_conf() {
	env -i "$program" --print-config >"$scratch/proxy.conf" && diff -u proxy.conf "$scratch/proxy.conf"
}

reference_tables() {
	tests/docs.sh "$program" docs/reference.md >"$scratch/reference.md" && diff -u docs/reference.md "$scratch/reference.md"
}

man_page() {
	tests/docs.sh "$program" packaging/ollacache.1 >"$scratch/ollacache.1" && diff -u packaging/ollacache.1 "$scratch/ollacache.1"
}

headers_alone() {
	local wrong=0 file
	for file in $headers; do
		# shellcheck disable=SC2086
		gcc $flags -Wall -Wextra -x c -fsyntax-only "$file" 2>&1 | grep -v '#pragma once in main' | grep . && wrong=1
	done
	return $wrong
}

analyzed() {                                     # only findings about memory and descriptors: the rest is too often wrong
	local wrong=0 file
	for file in $sources; do
		# shellcheck disable=SC2086
		gcc $flags -O1 -fanalyzer -Wno-analyzer-malloc-leak -Wno-analyzer-use-of-uninitialized-value \
			-Wno-analyzer-null-argument -Wno-analyzer-possible-null-argument -Wno-analyzer-possible-null-dereference \
			-Wno-analyzer-null-dereference -c -o /dev/null "$file" 2>&1 | grep -E 'warning:|error:' && wrong=1
	done
	return $wrong
}

# Left out: uninitvar (gcc and ASan know better), and two that dislike how embedded files and loops over a switch are written.
cppcheck_clean() {
	# shellcheck disable=SC2086
	cppcheck -q -j "$(nproc)" --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 \
		--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches --suppress=unknownMacro \
		--suppress=uninitvar --suppress=comparePointers --suppress=compareBoolExpressionWithInt \
		--suppress=preprocessorErrorDirective -D_GNU_SOURCE -D__linux__ -I. --template='{file}:{line}: {id}: {message}' \
		$sources
}

check "who may include whom" tests/lint_layers.sh
check "functions nobody should call" banned_functions
check "a comment at the head of every file" file_heads
check "proxy.conf is what --print-config writes; make docs" proxy_conf
check "the tables in docs/reference.md are what the program writes; make docs" reference_tables
check "the tables in the man page are what the program writes; make docs" man_page
if [ "${1:-all}" = all ]; then
	check "every header stands by itself" headers_alone
	check "cppcheck" cppcheck_clean
	check "gcc -fanalyzer" analyzed
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
