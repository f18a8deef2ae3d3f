#!/bin/bash
# tests/chaos/run.sh - kills, freezes, fills and cuts off what the program depends on, while clients judge every byte they
# get; ends with one line: N passed, N failed.
#
#   QUICK=1           seconds instead of minutes, and no sanitizer soak of its own
#   CHAOS_SECONDS=4   how long one fault lasts       SOAK_SECONDS=120   each soak
#   CONNECTIONS=100000, LEAVERS=6000                 how many come, how many leave
#   ONLY=redis        one driver: redis, upstream, clients, store, limits, soak
set -u
cd "$(dirname "$0")/../.." || exit 1
export OLLACACHE=${OLLACACHE:-$PWD/ollacache} FAKE_OLLAMA=${FAKE_OLLAMA:-$PWD/build/fake_ollama}
here=$PWD/tests/chaos passed=0 failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# drive NAME SECONDS COMMAND…: its output, and its count added to ours
drive() {
	local name=$1 seconds=$2 p f status
	shift 2
	echo "-- $name"
	timeout -k 10 "$seconds" "$@" 2>&1 | tee "$log" | grep --line-buffered -vE '^[0-9]+ passed, [0-9]+ failed$'
	status=${PIPESTATUS[0]}
	read -r p f < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" | tail -n 1)
	passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
	if [ -z "${p:-}" ] || { [ "$status" -ne 0 ] && [ "${f:-0}" -eq 0 ]; }; then
		echo "not ok  $name ended with status $status"
		failed=$((failed + 1))
	fi
}

./deps.sh tests/chaos/deps.txt || echo "not everything could be installed: the tests that need it fail and say so"

wanted() { [ -z "${ONLY:-}" ] || [ "$ONLY" = "$1" ]; }

limit=$([ -n "${QUICK:-}" ] && echo 180 || echo 1500)
for name in redis upstream clients store limits; do
	wanted "$name" && drive "$name" "$limit" python3 "$here/faults_$name.py"
done
if wanted soak; then
	drive "soak" 1800 python3 "$here/soak.py"
	# sanitizers see what answers cannot show; the build under test stays as it is
	for mode in $([ -n "${QUICK:-}${MODE:-}" ] || echo asan tsan); do
		if ! MODE=$mode make --no-print-directory -j"$(nproc)" program >"$log" 2>&1; then
			tail -n 20 "$log"
			echo "not ok  the $mode build"
			failed=$((failed + 1))
			continue
		fi
		under=()
		[ $mode = tsan ] && setarch -R true 2>/dev/null && under=(setarch -R)
		ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 TSAN_OPTIONS=exitcode=66:suppressions=$PWD/tests/tsan.supp \
			MODE=$mode OLLACACHE=$PWD/build/$mode/ollacache drive "soak under $mode" 1800 "${under[@]}" python3 "$here/soak.py"
	done
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
