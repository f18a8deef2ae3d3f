#!/bin/bash
# run.sh [WORD] - real client libraries (package-lock.json pins them) against the fake upstream, which proves the tests,
# and through the proxy, cached and not. WORD picks the tests whose name has it. COMPLEX=0 leaves complex requests out.
# Ends with `N passed, N failed`.
set -u
cd "$(dirname "$0")" || exit 1
root=$(cd ../.. && pwd)
OLLACACHE=${OLLACACHE:-$root/ollacache} FAKE_OLLAMA=${FAKE_OLLAMA:-$root/build/fake_ollama}
dir=$(mktemp -d) || exit 1
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$dir"' EXIT

fail() {
	echo "not ok  $*"
	echo "0 passed, 1 failed"
	exit 1
}

# Installed once; again only when the lock changes.
if ! cmp -s package-lock.json node_modules/.installed; then
	npm ci --prefer-offline --no-audit --no-fund --ignore-scripts --loglevel=error >"$dir/npm.log" 2>&1 || { cat "$dir/npm.log"; fail "npm ci"; }
	cp package-lock.json node_modules/.installed
fi
# Some of the clients need Node 22, which Debian 12 does not have: npm brings it.
node=node
for n in node_modules/node-linux-*/bin/node; do
	[ -e "$n" ] && chmod +x "$n" && "$n" --version >/dev/null 2>&1 && node=$n
done

port_of() {                                      # FILE: the port, once it is there
	for _ in $(seq 400); do
		[ -s "$1" ] && { cat "$1"; return; }
		sleep 0.05
	done
	return 1
}
"$FAKE_OLLAMA" --listen 127.0.0.1:0 --port-file "$dir/fake" >/dev/null &
pids+=($!)
fake=$(port_of "$dir/fake") || fail "the fake upstream does not start"

passed=0 failed=0
add() {
	set -- $(tail -n 1 "$1")
	case "$*" in
	*" passed, "*" failed") passed=$((passed + $1)) failed=$((failed + $3)) ;;
	*) failed=$((failed + 1)) ;;
	esac
}
FAKE=http://127.0.0.1:$fake BASE=http://127.0.0.1:$fake PROXIED=0 "$node" tests.mjs "$@" >"$dir/direct.out" 2>&1
grep -v ' passed, ' "$dir/direct.out"
add "$dir/direct.out"

port=$("$node" -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
"$OLLACACHE" --server.listen=127.0.0.1:"$port" --upstream.url=http://127.0.0.1:"$fake" --cache.path="$dir/data" \
	--semantic.enabled=off --server.workers=2 >"$dir/proxy.log" 2>&1 &
proxy=$!
pids+=($proxy)
for _ in $(seq 400); do
	curl -sf -o "$dir/health" "http://127.0.0.1:$port/ollacache/health" && break
	kill -0 $proxy 2>/dev/null || break
	sleep 0.05
done
FAKE=http://127.0.0.1:$fake BASE=http://127.0.0.1:$port PROXIED=1 COMPLEX=${COMPLEX:-1} "$node" tests.mjs "$@" >"$dir/proxied.out" 2>&1
grep -v ' passed, ' "$dir/proxied.out"
add "$dir/proxied.out"
kill $proxy 2>/dev/null
wait $proxy
status=$?
[ $status = 0 ] || { echo "not ok  the proxy ended with $status"; tail -n 15 "$dir/proxy.log"; failed=$((failed + 1)); }
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
