#!/bin/bash
# run.sh [NAME…] - libFuzzer on every parser, then a hostile client on the whole program. SECONDS_EACH (60) each.
#
# A target is tests/fuzz/fuzz_NAME.c; its first lines say what it is made of, as those of unit tests do. What is found is left
# in build/fuzz/NAME/; inputs that reach something new are kept in build/fuzz/corpus/NAME/ and grow from run to run, beside
# the few of tests/fuzz/corpus/NAME/. Ends with `N passed, N failed`.
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${SECONDS_EACH:-60}
clang=${CLANG:-clang}
build=build/fuzz
mkdir -p "$build"
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# where the sanitizers of this compiler cannot live with where the kernel puts things
under=(env)
if setarch -R true 2>/dev/null; then under=(setarch -R); fi
passed=0 failed=0

ok() { echo "ok      $1"; passed=$((passed + 1)); }
not_ok() { echo "not ok  $1: $2"; failed=$((failed + 1)); }

# head FILE WORD: what the comment `WORD: …` in a target's first lines says
head_of() {
	head -n 8 "$1" | tr '\n\t' '  ' | sed -n "s|.*/\* $2: \(.*\)|\1|p" | sed 's|\*/.*||;s|  *\* | |g'
}

build_target() {
	local source=$1 out=$2 file sources='' objects=''
	for file in $(head_of "$source" uses); do
		case $file in
		*/) for file in "$file"*; do objects="$objects build/obj/$file.o"; done ;;
		*) sources="$sources $file" ;;
		esac
	done
	# shellcheck disable=SC2086 # lists of files without spaces
	{ [ -z "$objects" ] || make --no-print-directory -s $objects >/dev/null; } &&
	$clang -std=c17 -D_GNU_SOURCE -DOLLACACHE_VERSION='"fuzz"' -g -O1 -fno-omit-frame-pointer \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I. -o "$out" \
		"$source" $sources $objects $(head_of "$source" libs)
}

for source in tests/fuzz/fuzz_*.c; do
	name=$(basename "$source" .c)
	name=${name#fuzz_}
	if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
	if ! build_target "$source" "$build/fuzz_$name"; then
		not_ok "$name" "does not build"
		continue
	fi
	mkdir -p "$build/$name" "$build/corpus/$name"
	kept=tests/fuzz/corpus/$name
	dictionary=tests/fuzz/$name.dict
	set_dictionary=()
	if [ -e "$dictionary" ]; then set_dictionary=(-dict="$dictionary"); fi
	if timeout -k 10 $((seconds + 120)) "${under[@]}" "$build/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
		-max_len=8192 -print_final_stats=1 -artifact_prefix="$build/$name/" "${set_dictionary[@]}" \
		"$build/corpus/$name" "$kept" >"$build/$name.log" 2>&1; then
		ok "$name ($(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log") inputs)"
	else
		not_ok "$name" "see $build/$name.log and $build/$name/"
		grep -E 'ERROR|runtime error|SUMMARY|Test unit' "$build/$name.log" | head -n 8
	fi
done

if [ $# -eq 0 ] || [[ " $* " == *" http "* ]]; then
	if make --no-print-directory -s MODE=asan program >/dev/null; then
		MODE=asan OLLACACHE=$PWD/build/asan/ollacache FAKE_OLLAMA=$PWD/build/asan/fake_ollama \
			python3 tests/fuzz/hostile.py "$seconds" >"$build/http.log" 2>&1 && ok "http ($(tail -n 1 "$build/http.log"))" ||
			{ not_ok http "see $build/http.log"; tail -n 15 "$build/http.log"; }
	else
		not_ok http "the program does not build"
	fi
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
