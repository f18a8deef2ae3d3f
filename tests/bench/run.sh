#!/usr/bin/env bash
# run.sh - the benchmark (`make bench`): ollacache beside nginx, HAProxy and Varnish, in one run on one machine.
#
# The proxy under test is pinned to core 0, the upstream, the load generator and Redis to core 1. Rounds are
# interleaved (A B C, A B C, …), and what is told is the median of the rounds with the least and the most: a ratio is
# taken within a round. Everything listens on loopback, lives in a temporary directory, and is ended by its process id.
#
#   QUICK=1       fewer and shorter rounds: a look, not a result
#   ONLY="a b"    only these parts: hits logged shapes ttfb streams idle cancel lookup semantic complex start
#   ROUNDS=n      rounds of each measurement (5; quick 2); hits, logged and shapes have 2n + 1, of a second each (quick 0.35)
#   OUT=file      where the tables go (a whole run: docs/benchmarks.md; else build/bench/report.md)
#   PROFILE=1     perf's view of ollacache in each measurement, to build/bench/profile-PART-CASE-TARGET.txt
#   OLLACACHE=f   the program to measure (./ollacache); FLAGS="--a.b=c" more options for it
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

quick=${QUICK:-0}
all="hits logged shapes ttfb streams idle cancel lookup semantic complex start"
only=${ONLY:-$all}
if [ "$quick" = 1 ]; then rounds=${ROUNDS:-2} seconds=0.35; else rounds=${ROUNDS:-5} seconds=1; fi
hits_rounds=$((2 * rounds + 1))                # short ones: a noisy machine changes from one second to the next
if [ "$quick" = 1 ] || [ "$only" != "$all" ]; then out=${OUT:-build/bench/report.md}; else out=${OUT:-docs/benchmarks.md}; fi
program=$(realpath "${OLLACACHE:-./ollacache}")
flags=${FLAGS:-}
mkdir -p build/bench "$(dirname "$out")"

say() { printf '%s\n' "$*" >&2; }
wants() { [[ " $only " == *" $1 "* ]]; }
round_list() { seq 1 "${1:-$rounds}"; }

need() { # need COMMAND PACKAGE
	if ! PATH=$PATH:/usr/sbin command -v "$1" >/dev/null; then missing+=("$2"); fi
}
missing=()
need nginx nginx-light
need haproxy haproxy
need varnishd varnish
need redis-server redis-server
need wrk wrk
need taskset util-linux
if [ ${#missing[@]} -gt 0 ]; then
	say "installing ${missing[*]}"
	sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -qq
	# policy-rc.d: the packages' own services are not wanted, only the programs
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
PATH=$PATH:/usr/sbin

bench=$root/build/bench/ollabench
${CC:-gcc} -std=c17 -D_GNU_SOURCE -O2 -g -Wall -Wextra -I. -o "$bench" tests/bench/load/*.c

ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
nofile=$(ulimit -n)
cores=$(nproc)
proxy_core=0
load_core=$((cores > 1 ? 1 : 0))
on_proxy=(taskset -c "$proxy_core")            # arrays, not functions: $! must be the program itself
on_load=(taskset -c "$load_core")

tmp=$(mktemp -d "${TMPDIR:-/tmp}/ollabench.XXXXXX")
cp "$program" "$tmp/ollacache"        # a build meanwhile changes nothing here
program=$tmp/ollacache
shm=$tmp
[ -d /dev/shm ] && shm=$(mktemp -d /dev/shm/ollabench.XXXXXX)
results=$tmp/results
: >"$results"
started=()
end_one() { # ends a process we started and waits for it
	local pid=$1 i
	kill "$pid" 2>/dev/null || return 0
	for i in $(seq 1 200); do
		kill -0 "$pid" 2>/dev/null || return 0
		# a zombie of ours answers kill -0 until it is waited for
		[ "$(awk '{print $3}' "/proc/$pid/stat" 2>/dev/null)" = Z ] && return 0
		sleep 0.05
	done
	kill -9 "$pid" 2>/dev/null || true
}
finish() {
	local pid
	for pid in "${started[@]}"; do end_one "$pid"; done
	[ -n "${KEEP:-}" ] || rm -rf "$tmp" "$shm"
}
trap finish EXIT
trap 'exit 130' INT TERM

base=$((12000 + ($$ * 16) % 18000))
up_port=$base nginx_port=$((base + 1)) nginx_cache_port=$((base + 2)) nginx_tuned_port=$((base + 9)) nginx_logged_port=$((base + 10)) haproxy_port=$((base + 3)) varnish_port=$((base + 4))
ours_port=$((base + 5)) redis_port=$((base + 7)) ours_redis_port=$((base + 8))
board=$tmp/board

wait_port() { # wait_port PORT NAME
	local i
	for i in $(seq 1 200); do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
		sleep 0.05
	done
	say "$2 does not listen on port $1"; [ -f "$tmp/$2.log" ] && tail -5 "$tmp/$2.log" >&2
	return 1
}

start_upstream() {
	"${on_load[@]}" "$bench" upstream --target=127.0.0.1:$up_port --board="$board" &
	started+=($!)
	wait_port $up_port upstream
}

nginx_pid=0
start_nginx() {
	mkdir -p "$tmp/nginx" "$shm/nginx-cache"
	cat >"$tmp/nginx.conf" <<-CONF
	daemon off;
	worker_processes 1;
	pid $tmp/nginx/pid;
	error_log $tmp/nginx.log warn;
	$([ "$(id -u)" = 0 ] && echo "user root;")
	events { worker_connections $((nofile - 1000)); }
	http {
		access_log off;
		sendfile on;
		tcp_nodelay on;
		keepalive_timeout 600s;
		keepalive_requests 1000000000;
		client_body_buffer_size 128k;
		client_body_in_single_buffer on;
		client_max_body_size 64m;
		client_body_temp_path $tmp/nginx/body;
		proxy_temp_path $tmp/nginx/proxy;
		fastcgi_temp_path $tmp/nginx/fastcgi;
		uwsgi_temp_path $tmp/nginx/uwsgi;
		scgi_temp_path $tmp/nginx/scgi;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		proxy_read_timeout 600s;
		proxy_cache_path $shm/nginx-cache levels=1:2 keys_zone=answers:64m max_size=2g inactive=1d use_temp_path=off;
		upstream bench { server 127.0.0.1:$up_port; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600s; }
		server {
			listen 127.0.0.1:$nginx_port backlog=8192;
			location / { proxy_pass http://bench; proxy_buffering off; }
		}
		server {
			listen 127.0.0.1:$nginx_cache_port backlog=8192;
			location / {
				proxy_pass http://bench;
				proxy_buffer_size 16k;
				proxy_buffers 8 16k;
				proxy_cache answers;
				proxy_cache_methods POST;
				proxy_cache_key "\$request_uri|\$request_body";
				proxy_cache_valid 200 1d;
			}
		}
		server {
			listen 127.0.0.1:$nginx_logged_port backlog=8192;
			access_log $tmp/nginx/access.log combined;
			location / {
				proxy_pass http://bench;
				proxy_buffer_size 16k;
				proxy_buffers 8 16k;
				proxy_cache answers;
				proxy_cache_methods POST;
				proxy_cache_key "\$request_uri|\$request_body";
				proxy_cache_valid 200 1d;
			}
		}
		server {
			listen 127.0.0.1:$nginx_tuned_port backlog=8192;
			sendfile off;
			open_file_cache max=20000 inactive=1d;
			open_file_cache_valid 1d;
			location / {
				proxy_pass http://bench;
				proxy_buffer_size 16k;
				proxy_buffers 8 16k;
				proxy_cache answers;
				proxy_cache_methods POST;
				proxy_cache_key "\$request_uri|\$request_body";
				proxy_cache_valid 200 1d;
			}
		}
	}
	CONF
	"${on_proxy[@]}" nginx -c "$tmp/nginx.conf" -p "$tmp/nginx" 2>>"$tmp/nginx.log" &
	nginx_pid=$!
	started+=("$nginx_pid")
	wait_port $nginx_port nginx
}

haproxy_pid=0
start_haproxy() {
	cat >"$tmp/haproxy.cfg" <<-CONF
	global
		maxconn $((nofile / 2 - 100))
		nbthread 1
	defaults
		mode http
		option http-no-delay
		timeout connect 5s
		timeout client 600s
		timeout server 600s
		timeout http-keep-alive 600s
	listen bench
		bind 127.0.0.1:$haproxy_port backlog 8192
		server upstream 127.0.0.1:$up_port
	CONF
	"${on_proxy[@]}" haproxy -db -f "$tmp/haproxy.cfg" >"$tmp/haproxy.log" 2>&1 &
	haproxy_pid=$!
	started+=("$haproxy_pid")
	wait_port $haproxy_port haproxy
}

varnish_pid=0
start_varnish() {
	cat >"$tmp/bench.vcl" <<-CONF
	vcl 4.1;
	backend default { .host = "127.0.0.1"; .port = "$up_port"; .first_byte_timeout = 600s; .between_bytes_timeout = 600s; }
	sub vcl_recv { return (pass); }
	CONF
	"${on_proxy[@]}" varnishd -F -j none -n "$tmp/varnish" -f "$tmp/bench.vcl" -a 127.0.0.1:$varnish_port -s malloc,64m -T none \
		-p thread_pools=1 -p thread_pool_min=100 -p thread_pool_max=12000 -p timeout_idle=600 >"$tmp/varnish.log" 2>&1 &
	varnish_pid=$!
	started+=("$varnish_pid")
	wait_port $varnish_port varnish
}

redis_pid=0
start_redis() {
	"${on_load[@]}" redis-server --port $redis_port --bind 127.0.0.1 --save '' --appendonly no --daemonize no \
		--dir "$tmp" >"$tmp/redis.log" 2>&1 &
	redis_pid=$!
	started+=("$redis_pid")
	wait_port $redis_port redis
}

# start_ours NAME PORT [OPTIONS…]: sets ${NAME}_pid and ${NAME}_ready (ms). A name is a cache directory.
start_ours() {
	local name=$1 port=$2 told
	shift 2
	mkdir -p "$tmp/$name"
	# shellcheck disable=SC2086  # $flags is a list
	told=$(cd "$tmp/$name" && "${on_load[@]}" "$bench" start --target=127.0.0.1:$port -- \
		taskset -c "$proxy_core" "$program" --server.listen=127.0.0.1:$port --server.workers=1 \
		--upstream.url=http://127.0.0.1:$up_port --cache.path="$tmp/$name/data" --semantic.enabled=off --log.level=error \
		"$@" $flags 2>"$tmp/$name.log") || { say "$name did not start:"; tail -5 "$tmp/$name.log" >&2; return 1; }
	printf -v "${name}_pid" '%s' "$(awk '$1 == "pid" { print $2 }' <<<"$told")"
	printf -v "${name}_ready" '%s' "$(awk '$1 == "ready_ms" { print $2 }' <<<"$told")"
	local pid=${name}_pid
	started+=("${!pid}")
}
# Pages of the store's file count in a process's memory, and the kernel maps sixteen where one is touched: with the answers
# of the parts before in it a look-up would seem to cost 64 KiB.
start_ours_empty() { rm -rf "$tmp/ours/data"; start_ours ours $ours_port; }
stop_pid() { end_one "$1"; wait "$1" 2>/dev/null || true; }

note() { printf '%s\n' "$*" >>"$results"; } # note PART CASE TARGET ROUND NAME VALUE
# measure PART CASE TARGET ROUND COMMAND [OPTIONS…]
measure() {
	local part=$1 case=$2 target=$3 round=$4 told perf=
	shift 4
	if [ -n "${PROFILE:-}" ] && [[ $target == *ours || $target == redis ]] && [[ "$*" =~ --pid=([0-9]+) ]]; then
		perf record -q -F 1999 -g -p "${BASH_REMATCH[1]}" -o "$tmp/perf.data" >"$tmp/perf.log" 2>&1 &
		perf=$!
	fi
	if told=$("${on_load[@]}" "$bench" "$@" --board="$board" 2>"$tmp/measure.log"); then
		awk -v at="$part $case $target $round" '{ print at, $0 }' <<<"$told" >>"$results"
		[ -z "${VERBOSE:-}" ] || awk -v at="$part $case $target $round" '{ printf "%s %s; ", (NR > 1 ? "" : at), $0 } END { print "" }' <<<"$told" >&2
	else
		say "FAILED: $part $case $target round $round: $(tail -1 "$tmp/measure.log")"
		note "$part $case $target $round failed 1"
	fi
	if [ -n "$perf" ]; then
		kill -INT "$perf" || true
		wait "$perf" || true
		perf report -i "$tmp/perf.data" --no-children --stdio -g none --percent-limit 0.5 2>>"$tmp/perf.log" |
			grep -v '^$' >"build/bench/profile-$part-$case-$target.txt" || say "no profile: $(tail -1 "$tmp/perf.log")"
	fi
}

part_hits() {
	local c r
	start_redis
	start_ours ours $ours_port || return 1
	start_ours redis_ours $ours_redis_port --cache.store=redis --redis.url=redis://127.0.0.1:$redis_port/0 || return 1
	for c in 1 16 64 256; do
		for r in $(round_list $hits_rounds); do
			hits_round hits "$c" "$r" "$c" 0
		done
	done
	for r in $(round_list $hits_rounds); do hits_round hits 64-stream "$r" 64 1; done
	stop_pid "$ours_pid"
	stop_pid "$redis_ours_pid"
	stop_pid "$redis_pid"
}
hits_round() { # PART CASE ROUND CONNECTIONS STREAM
	local with=(--conns="$4" --stream="$5" --seconds="$seconds")
	# those with a bar one right after the other
	measure "$1" "$2" nginx-tuned "$3" hits "${with[@]}" --target=127.0.0.1:$nginx_tuned_port --pid="$nginx_pid"
	measure "$1" "$2" ours "$3" hits "${with[@]}" --target=127.0.0.1:$ours_port --pid="$ours_pid"
	measure "$1" "$2" nginx "$3" hits "${with[@]}" --target=127.0.0.1:$nginx_cache_port --pid="$nginx_pid"
	measure "$1" "$2" redis "$3" hits "${with[@]}" --target=127.0.0.1:$ours_redis_port --pid="$redis_ours_pid"
	if [ "$5" = 0 ]; then
		measure "$1" "$2" bare "$3" hits "${with[@]}" --target=127.0.0.1:$bare_port --pid="$bare_pid" --shape=uncached \
			--chunks=1 --size=580     # as long an answer as the others serve, made of one piece
	fi
}
# The ceiling: the bench's own upstream, on the proxy's core, answering at once. No cache, no key, no JSON.
start_bare() {
	bare_port=$((base + 6))
	"${on_proxy[@]}" "$bench" upstream --target=127.0.0.1:$bare_port --board="$tmp/bare-board" &
	bare_pid=$!
	started+=("$bare_pid")
	wait_port $bare_port bare
}

# Both with their default logs into a file, asked by somebody else's load generator.
wrk_round() { # TARGET ROUND PORT
	local told
	told=$("${on_load[@]}" wrk -t1 -c64 -d1s -s "$tmp/ask.lua" "http://127.0.0.1:$3" 2>"$tmp/measure.log") || true
	# wrk counts replies of 400 and more apart, and those would be fast
	if awk '/Non-2xx/ { bad = 1 } /Requests\/sec/ { print $2; got = 1 } END { exit bad || !got }' <<<"$told" >"$tmp/rps"; then
		note "logged 64 $1 $2 rps $(cat "$tmp/rps")"
	else
		note "logged 64 $1 $2 failed 1"
	fi
}
part_logged() {
	local r
	cat >"$tmp/ask.lua" <<-'LUA'
	local asked, n = {}, 0
	init = function()
		for i = 0, 63 do
			asked[i] = wrk.format('POST', '/api/generate', { Host = '127.0.0.1', ['Content-Type'] = 'application/json' },
				'{"model":"bench","prompt":"logged question number ' .. i .. '","stream":false}')
		end
	end
	request = function()
		n = n + 1
		return asked[n % 64]
	end
	LUA
	start_ours ours $ours_port --log.level=info || return 1
	for r in $(round_list $hits_rounds); do
		wrk_round nginx "$r" $nginx_logged_port
		wrk_round ours "$r" $ours_port
	done
	stop_pid "$ours_pid"
}

part_shapes() {
	local r s
	start_ours ours $ours_port || return 1
	for r in $(round_list $hits_rounds); do
		measure shapes same nginx "$r" hits --conns=64 --seconds=$seconds --target=127.0.0.1:$nginx_cache_port --pid="$nginx_pid"
		for s in same respaced reordered; do
			measure shapes $s ours "$r" hits --conns=64 --seconds=$seconds --shape=$s --target=127.0.0.1:$ours_port --pid="$ours_pid"
		done
	done
	stop_pid "$ours_pid"
}

part_ttfb() {
	local r n=400
	[ "$quick" = 1 ] && n=100
	start_ours ours $ours_port || return 1
	for r in $(round_list $((rounds * 2))); do
		measure ttfb one direct "$r" ttfb --count=$n --chunks=3 --gap=1000 --target=127.0.0.1:$up_port
		measure ttfb one nginx "$r" ttfb --count=$n --chunks=3 --gap=1000 --target=127.0.0.1:$nginx_port
		measure ttfb one ours "$r" ttfb --count=$n --chunks=3 --gap=1000 --target=127.0.0.1:$ours_port --pid="$ours_pid"
		measure ttfb one haproxy "$r" ttfb --count=$n --chunks=3 --gap=1000 --target=127.0.0.1:$haproxy_port
		measure ttfb one varnish "$r" ttfb --count=$n --chunks=3 --gap=1000 --target=127.0.0.1:$varnish_port
	done
	stop_pid "$ours_pid"
}

# A fresh process, and an empty store, for each: memory that a round before has left behind would hide this one's.
streams_round() { # CASE ROUND COUNT CHUNKS GAP_US
	local with=(--count="$3" --chunks="$4" --gap="$5")
	measure streams "$1" direct "$2" streams "${with[@]}" --target=127.0.0.1:$up_port
	start_nginx_again
	measure streams "$1" nginx "$2" streams "${with[@]}" --target=127.0.0.1:$nginx_port --pid="$nginx_pid"
	start_ours_empty || return 1
	measure streams "$1" ours "$2" streams "${with[@]}" --target=127.0.0.1:$ours_port --pid="$ours_pid"
	stop_pid "$ours_pid"
	stop_pid "$haproxy_pid"
	start_haproxy
	measure streams "$1" haproxy "$2" streams "${with[@]}" --target=127.0.0.1:$haproxy_port --pid="$haproxy_pid"
	stop_pid "$varnish_pid"
	start_varnish
	measure streams "$1" varnish "$2" streams "${with[@]}" --target=127.0.0.1:$varnish_port --pid="$varnish_pid"
}
start_nginx_again() { stop_pid "$nginx_pid"; start_nginx; }
part_streams() {
	local r
	if [ "$quick" = 1 ]; then
		streams_round 2000 1 2000 8 500000
		return
	fi
	for r in $(round_list 4); do streams_round 2000 "$r" 2000 24 500000; done
	for r in $(round_list 2); do streams_round 5000 "$r" 5000 12 1000000; done
}

part_idle() {
	local r n=5000
	[ "$quick" = 1 ] && n=1000
	for r in $(round_list 2); do
		start_nginx_again
		measure idle connections nginx "$r" idle --count=$n --target=127.0.0.1:$nginx_cache_port --pid="$nginx_pid"
		start_ours_empty || return 1
		measure idle connections ours "$r" idle --count=$n --target=127.0.0.1:$ours_port --pid="$ours_pid"
		stop_pid "$ours_pid"
		# one byte of text a line: the answer kept is small, what could pile up is the rest
		start_nginx_again
		measure idle stalled-chat nginx "$r" stalled --count=40 --chunks=400000 --size=1 --target=127.0.0.1:$nginx_port --pid="$nginx_pid"
		start_ours_empty || return 1
		measure idle stalled-chat ours "$r" stalled --count=40 --chunks=400000 --size=1 --target=127.0.0.1:$ours_port --pid="$ours_pid"
		stop_pid "$ours_pid"
		start_ours_empty || return 1
		measure idle stalled-pass ours "$r" stalled --shape=pass --count=20 --chunks=300000 --size=1 --target=127.0.0.1:$ours_port --pid="$ours_pid"
		stop_pid "$ours_pid"
	done
	start_nginx_again
}

part_cancel() {
	local r n=200
	[ "$quick" = 1 ] && n=50
	start_ours ours $ours_port || return 1
	for r in $(round_list 3); do
		measure cancel one direct "$r" cancel --count=$n --target=127.0.0.1:$up_port
		measure cancel one nginx "$r" cancel --count=$n --target=127.0.0.1:$nginx_port
		measure cancel one ours "$r" cancel --count=$n --target=127.0.0.1:$ours_port
	done
	stop_pid "$ours_pid"
}

part_lookup() {
	local source=tests/bench/bench_store.c uses libs sizes="1000 100000 1000000"
	[ "$quick" = 1 ] && sizes="1000 10000"
	[ -f "$source" ] || { say "no $source: the stores' own look-up bench is left out"; return; }
	# its head says what it is made of, as a unit test's does
	uses=$(sed -n 's|.*/\* uses: \(.*\) \*/.*|\1|p' "$source")
	libs=$(sed -n 's|.*/\* libs: \(.*\) \*/.*|\1|p' "$source")
	# shellcheck disable=SC2086  # lists
	"${CC:-gcc}" -std=c17 -D_GNU_SOURCE -O2 -I. -pthread -o build/bench/bench_store "$source" $uses $libs || return 1
	# shellcheck disable=SC2086
	"${on_proxy[@]}" build/bench/bench_store $sizes >"$tmp/bench_store.txt" 2>"$tmp/bench_store.log" ||
		{ say "FAILED: bench_store: $(tail -1 "$tmp/bench_store.log")"; return 1; }
}

part_semantic() {
	local r
	for r in $(round_list 2); do
		start_ours "semantic$r" $ours_port --semantic.enabled=on || return 1
		local pid=semantic${r}_pid
		measure semantic 1000 ours "$r" semantic --bodies=1000 --count=500 --chunks=8 --target=127.0.0.1:$ours_port
		stop_pid "${!pid}"
	done
}

part_complex() {
	local r n=3 gap=100000
	[ "$quick" = 1 ] && n=1
	start_ours ours $ours_port || return 1
	for r in $(round_list 2); do
		measure complex N=3 ours "$r" complex --candidates=3 --count=$n --chunks=10 --gap=$gap --target=127.0.0.1:$ours_port
	done
	stop_pid "$ours_pid"
}

part_start() {
	local r mib sizes="64 256 1024" name pid ready
	[ "$quick" = 1 ] && sizes="64"
	for mib in $sizes; do
		name=full$mib
		# 16 KB an answer and a quarter more of them than fit: the cache is full and has evicted
		start_ours "$name" $ours_port --cache.max_size="${mib}MiB" || return 1
		pid=${name}_pid
		measure start "$mib" ours 1 fill --conns=64 --chunks=4 --size=4000 --count=$((mib * 80)) \
			--target=127.0.0.1:$ours_port
		curl -s "http://127.0.0.1:$ours_port/ollacache/stats" >"$tmp/stats.json" || true
		stop_pid "${!pid}"
		note "start $mib ours 1 disk_mib $(du -sm "$tmp/$name/data" | awk '{ print $1 }')"
		for key in store_bytes store_entries; do
			note "start $mib ours 1 $key $(sed -n "s/.*\"$key\" *: *\([0-9]*\).*/\1/p" "$tmp/stats.json" | head -1 | grep . || echo 0)"
		done
		for r in $(round_list 3); do
			start_ours "$name" $ours_port --cache.max_size="${mib}MiB" --semantic.enabled=on || return 1
			ready=${name}_ready
			note "start $mib ours $r ready_semantic_ms ${!ready}"
			stop_pid "${!pid}"
			start_ours "$name" $ours_port --cache.max_size="${mib}MiB" || return 1
			note "start $mib ours $r ready_ms ${!ready}"
			stop_pid "${!pid}"
		done
		rm -rf "${tmp:?}/$name"
	done
}

start_upstream
start_nginx
start_haproxy
start_varnish
start_bare
for part in $all; do
	if wants "$part"; then
		say "bench: $part"
		"part_$part" || say "FAILED: $part"
	fi
done

cp "$results" build/bench/results.txt
{
	echo "# Benchmarks"
	echo
	echo "Written by \`make bench\`$([ "$quick" = 1 ] && echo ' with QUICK=1: a look, not a result')$(wants all || [ "$only" = "$all" ] || echo " with ONLY=\"$only\"")."
	echo
	echo "- Machine: $(sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -1), $cores cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r), $(. /etc/os-release && echo "$PRETTY_NAME")."
	echo "- Rivals: $(nginx -v 2>&1 | sed 's/nginx version: //'), $(haproxy -v | awk 'NR == 1 { print "HAProxy " $3 }'), $(varnishd -V 2>&1 | sed -n 's/.*(\(varnish-[0-9.]*\).*/\1/p' | head -1), $(redis-server --version | awk '{ print "Redis " $3 }')."
	echo "- Subject: $("$program" --version 2>/dev/null | head -1), one worker."
	echo "- Proxy on core $proxy_core; load generator, upstream and Redis on core $load_core; $rounds interleaved rounds, of hits $hits_rounds of $seconds s. A figure is the median of the rounds (least–most); a ratio is taken within each round, then the same."
	echo "- nginx: one worker, proxy_cache on tmpfs, key \`\$request_uri|\$request_body\`, bodies kept in memory, no access log; for streams proxy_buffering off. The whole configuration is in tests/bench/run.sh."
	echo
	awk -f tests/bench/report.awk "$results"
	if [ -s "$tmp/bench_store.txt" ]; then
		printf '\n## Look-up in the stores\n\n'
		echo "Without HTTP, by tests/bench/bench_store.c; the store's server, where it has one, on the same core."
		printf '\n```\n'
		cat "$tmp/bench_store.txt"
		echo '```'
	fi
} >"$out"
cat "$out"
say "written to $out"
