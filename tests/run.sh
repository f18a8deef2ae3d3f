#!/bin/bash
# tests/run.sh SUITE… - builds what the suites need, runs them, and ends with one line: N passed, N failed.
#
# A suite is a set of cmocka programs (unit), or a script that prints `N passed, N failed` as its last line and finds the
# program in $OLLACACHE and the fake upstream in $FAKE_OLLAMA. One that crashes, hangs, cannot be built or tests nothing
# counts as failed. MODE=asan|tsan: the same, built with a sanitizer.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
export MODE="${MODE:-}"
make="${MAKE:-make} --no-print-directory -k -j$(nproc)"
build=build${MODE:+/$MODE}
export OLLACACHE=$PWD/${MODE:+$build/}ollacache FAKE_OLLAMA=$PWD/$build/fake_ollama BUILD=$PWD/$build
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:exitcode=66:second_deadlock_stack=1:die_after_fork=0:suppressions=$PWD/tests/tsan.supp}
# ThreadSanitizer of gcc 12 cannot live where newer kernels put things, unless they are put where they always were
under=(env)
if [ "$MODE" = tsan ] && setarch -R true 2>/dev/null; then
	under=(setarch -R)
fi
passed=0 failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# count NAME STATUS: adds up what the log of a suite comes to, and says it in $report
count() {
	local name=$1 status=$2 p f
	p=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) test.*/\1/p; s/^([0-9]+) passed, [0-9]+ failed$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	f=$(sed -nE 's/^\[  FAILED  \] (.*: )?([0-9]+) test\(s\).*/\2/p; s/^[0-9]+ passed, ([0-9]+) failed$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	report=
	if [ "$status" -ge 124 ] || { [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; }; then
		report=" (ended with status $status)"
		f=$((f + 1))
	elif [ $((p + f)) -eq 0 ]; then
		report=" (ran no test)"
		f=1
	fi
	passed=$((passed + p)) failed=$((failed + f))
	report="== $name: $p ok, $f not ok$report"
}

count_line='^[0-9]+ passed, [0-9]+ failed$'

# run NAME SECONDS COMMAND…: its output as it comes, but for the count, which is ours to print
run() {
	local name=$1 seconds=$2
	shift 2
	timeout -k 10 "$seconds" "${under[@]}" "$@" 2>&1 | tee "$log" | grep --line-buffered -vE "$count_line"
	count "$name" "${PIPESTATUS[0]}"
	echo "$report"
}

# quiet NAME SECONDS COMMAND…: its output only if it does not pass
quiet() {
	local name=$1 seconds=$2 before=$failed
	shift 2
	{ timeout -k 10 "$seconds" "${under[@]}" "$@" >"$log" 2>&1; } 2>/dev/null
	count "$name" $?
	[ "$failed" = "$before" ] || grep -vE "$count_line" "$log"
	echo "$report"
}

# The first suite that needs the programs builds them; a program that does not build is a failure of its own.
need() {
	case " ${built:-} " in *" $1 "*) return ;; esac
	built="${built:-} $1"
	if ! $make "$1"; then
		echo "== $1: does not build"
		failed=$((failed + 1))
	fi
}

script() {
	local name=$1 seconds=$2 file=$3
	if ! [ -e "$file" ]; then
		return
	fi
	need program
	run "$name" "$seconds" "$file"
}

for suite; do
	case $suite in
	deps)
		./deps.sh deps.txt tests/deps.txt || { echo "== deps: could not install everything"; failed=$((failed + 1)); } ;;
	unit)
		$make unit-programs
		for source in tests/unit/test_*.c; do
			name=$(basename "$source" .c)
			if $make -q "$build/unit/$name" >/dev/null 2>&1; then
				quiet "$name" 600 "$build/unit/$name"
			else
				echo "== $name: does not build"
				failed=$((failed + 1))
			fi
		done ;;
	lint) need program; quiet lint 600 tests/lint.sh quick ;;
	lint-all) need program; run lint 1800 tests/lint.sh all ;;
	scenario) script scenario 1800 tests/scenario/run.sh ;;
	transparency) script transparency 900 tests/transparency.sh ;;
	clients) script clients 1800 tests/clients/run.sh ;;
	browser) script browser 900 tests/browser/run.sh ;;
	packaging) script packaging 300 tests/packaging/run.sh ;;
	quality) script quality 3600 tests/quality/run.sh ;;
	chaos) script chaos 3600 tests/chaos/run.sh ;;
	fuzz) script fuzz 7200 tests/fuzz/run.sh ;;
	*) echo "== $suite: no such suite"; failed=$((failed + 1)) ;;
	esac
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
