#!/bin/bash
# run.sh [WORD] - whole requests through the program, against the fake upstream: the varnishtest files, then the Python
# ones (WORD: only tests whose name has it). Every test has a folder, ports and processes of its own.
# Ends with `N passed, N failed`. LATE=seconds bounds every wait; KEEP=1 keeps the folder of a failed test.
set -u
cd "$(dirname "$0")" || exit 1
root=$(cd ../.. && pwd)
export OLLACACHE=${OLLACACHE:-$root/ollacache} FAKE_OLLAMA=${FAKE_OLLAMA:-$root/build/fake_ollama}
export PYTHONDONTWRITEBYTECODE=1
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0

add() {
	local p f
	p=$(sed -nE 's/^([0-9]+) passed, [0-9]+ failed$/\1/p' "$log" | tail -n 1)
	f=$(sed -nE 's/^[0-9]+ passed, ([0-9]+) failed$/\1/p' "$log" | tail -n 1)
	if [ -z "$p" ]; then                     # it did not come to its end
		echo "not ok  $1 came to no end"
		p=0 f=1
	fi
	passed=$((passed + p)) failed=$((failed + f))
}

for t in *.vtc; do
	case $t in *"${1:-}"*) ;; *) continue ;; esac
	if varnishtest -k -t 60 -D ollacache="$OLLACACHE" -D fake="$FAKE_OLLAMA" "$t" >"$log" 2>&1; then
		echo "ok      $t"
		passed=$((passed + 1))
	else
		echo "not ok  $t"
		# what did not hold comes before all that ending the processes says
		grep -E '^----' "$log" | cut -c1-200
		grep -E '^(\*\*\*\*? |#)' "$log" | tail -n 15 | cut -c1-200
		failed=$((failed + 1))
	fi
done
for t in *.py; do
	t=${t%.py}
	python3 "$t.py" "$@" 2>&1 | tee "$log" | grep --line-buffered -v ' passed, '
	[ -n "${1:-}" ] && grep -q '^0 passed, 0 failed$' "$log" || add "$t"
done
STORE=redis python3 caching.py "$@" 2>&1 | tee "$log" | grep -v ' passed, ' | sed 's/^\(ok  \|not ok\) /&redis: /'
[ -n "${1:-}" ] && grep -q '^0 passed, 0 failed$' "$log" || add caching-redis
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
