#!/bin/bash
# run.sh - shows what ollacache does on a machine without Ollama: the upstream of the tests stands in for it, and the
# proxy in front of it is asked with curl. Every command is printed as it is run. Both stay until Ctrl-C.
#
# DEMO_PORT=N is the port of the proxy (11436, or another that is free). Answers are kept in a folder that goes at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
program=${OLLACACHE:-$PWD/ollacache} fake=${FAKE_OLLAMA:-$PWD/build/fake_ollama}
folder=$(mktemp -d) || exit 1
answer='This answer comes from a stand-in, not from a model.'
words="first_ms=700 pace_ms=40 fresh=1 text=+${answer// /_}"
proxy_pid='' fake_pid=''

finish() {
	trap - EXIT INT TERM HUP
	# bash says of each that it ended; the reader knows
	{ kill $proxy_pid $fake_pid; wait $proxy_pid $fake_pid; } 2>/dev/null
	rm -rf "$folder"
	exit "${1:-0}"
}
trap 'finish 1' EXIT
trap 'echo; echo "Stopped; nothing is left behind."; finish 0' INT TERM HUP

fail() {
	echo "demo: $*" >&2
	sed 's/^/    /' "$folder/proxy.log" >&2 2>/dev/null
	finish 1
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

port=${DEMO_PORT:-11436}
if taken "$port"; then
	[ -z "${DEMO_PORT:-}" ] || fail "port $port is in use"
	while taken "$port"; do port=$((port + 1)); done
fi

# They get process groups of their own: Ctrl-C, which the terminal sends to a whole group, is for this script to act on.
set -m
"$fake" --listen 127.0.0.1:0 --port-file "$folder/port" --always "$words" >"$folder/fake.log" 2>&1 &
fake_pid=$!
for ((i = 0; i < 200; i++)); do [ -e "$folder/port" ] && break; sleep 0.05; done
[ -e "$folder/port" ] || fail "the stand-in did not start"
upstream=http://127.0.0.1:$(<"$folder/port")
options=(--server.listen="127.0.0.1:$port" --upstream.url="$upstream" --cache.path="$folder/answers")
env -i PATH="$PATH" "$program" "${options[@]}" >"$folder/proxy.log" 2>&1 &
proxy_pid=$!
set +m
url=http://127.0.0.1:$port
for ((i = 0; i < 600; i++)); do
	curl -fs -o "$folder/ready" "$url/ollacache/ready" && break
	kill -0 $proxy_pid 2>/dev/null || fail "ollacache did not start:"
	sleep 0.05
done
[ -s "$folder/ready" ] || fail "ollacache did not get ready:"

step=0
step() {
	step=$((step + 1))
	printf '\n%d. %s (the answers are a stand-in'\''s)\n' $step "$1"
}

# ask PATH BODY [HEADER…]: the command as one would type it, and what came back of it.
ask() {
	local path=$1 body=$2 out=$folder/reply.$BASHPID h extra=() text="curl -i $url$1"
	shift 2
	for h; do
		extra+=(-H "$h")
		text+=" -H '$h'"
	done
	echo "   \$ $text -d '$body'"
	curl -s -o "$out" -D "$out.head" -w '%{time_total}' "$url$path" "${extra[@]}" -d "$body" >"$out.time" || fail "no answer to $path"
	show "$out"
}

# The first line, the headers of the cache, and the answer in one line.
show() {
	local line
	while IFS= read -r line; do
		line=${line%$'\r'}
		case $line in
		HTTP/*) printf '     %s   %.3f s\n' "$line" "$(<"$1.time")" ;;
		X-Cache* | Age:* | Cache-Status:* | X-Candidates:*) echo "     $line" ;;
		esac
	done <"$1.head"
	echo "     $(answer_of "$1")"
}

# The texts of a stream's lines, or how many vectors came.
answer_of() {
	if grep -q '"embeddings"' "$1"; then
		echo "$(grep -o '\],\?\[\|\]\]' "$1" | wc -l) vectors"
	else
		sed -nE 's/.*"(response|content)":"([^"]*)".*/\2/p' "$1" | tr -d '\n'
	fi
}

stat() { curl -s "$url/ollacache/stats" | grep -oE "\"$1\": ?[0-9]+" | head -n 1 | grep -oE '[0-9]+$'; }

# Waits until so many answers are in the store, which gathers what it writes for a moment.
kept() {
	local i
	for ((i = 0; i < 200; i++)); do
		[ "$(stat stored_answers)" -ge "$1" ] && return
		sleep 0.05
	done
	fail "an answer was not kept:"
}

cat <<END

ollacache in front of a stand-in for Ollama. No model is asked: every new answer is one sentence that takes about a
second, with a number that says how many were made. The program is the real one: $url
END

step "A question nobody asked before goes to Ollama: X-Cache: miss"
ask /api/generate '{"model": "llama3.2", "prompt": "Why is the sky blue?"}'

step "The same question again comes from the cache, with the same number: exact"
ask /api/generate '{"model": "llama3.2", "prompt": "Why is the sky blue?"}'

step "A question in Ukrainian, and the same one in other words: miss, then semantic"
chat='{"model": "llama3.2", "messages": [{"role": "user", "content": "%s"}]}'
# shellcheck disable=SC2059
{
	ask /api/chat "$(printf "$chat" 'Які є факультети в ХДУ?')"
	kept 2
	ask /api/chat "$(printf "$chat" 'Скільки факультетів у Херсонському університеті?')"
}

step "Two people ask at the same moment: one generation, the second reads along (joined)"
ask /api/generate '{"model": "llama3.2", "prompt": "Name the planets."}' >"$folder/first" &
asker=$!
sleep 0.3
ask /api/generate '{"model": "llama3.2", "prompt": "Name the planets."}' >"$folder/second"
wait $asker
cat "$folder/first" "$folder/second"

step "Marked as complex: three answers at once, the best by score is returned and kept"
ask /api/generate '{"model": "llama3.2", "prompt": "Compare tea and coffee."}' 'X-Complex: 3'

step "Embeddings: a batch, and the same batch again"
batch='{"model": "nomic-embed-text", "input": ["the sky", "the sea", "the land"]}'
ask /api/embed "$batch"
ask /api/embed "$batch"

cat <<END

Of $(stat requests) questions $(stat exact_cache_hits) were answered as asked before, $(stat semantic_cache_hits) from a question in other words, $(stat joined_requests) read along.
The stand-in was asked $(stat upstream_requests) times, $(stat candidates_started) of them for the complex question.

Look at the page:  $url/ollacache/
Ask it yourself:   curl -i $url/api/generate -d '{"model": "llama3.2", "prompt": "…"}'
With your Ollama:  make run

Both run until Ctrl-C.
END
wait $proxy_pid
fail "ollacache ended by itself:"
