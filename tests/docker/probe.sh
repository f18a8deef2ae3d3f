#!/bin/bash
# Is what listens on 127.0.0.1:11434 ollacache, and, among the other containers of compose.yaml, does it cache?
set -eu
health=$(curl -fsS http://127.0.0.1:11434/ollacache/health)
echo "$health"
[ "$(docker ps -q | wc -l)" -gt 1 ] || exit 0
case $health in *'"store":{"kind":"'*'","up":true}'*'"up":true}]'*) ;; *) exit 1 ;; esac
for i in 1 2; do
	answer=$(curl -fsS -D /dev/stderr http://127.0.0.1:11434/api/generate \
		-d '{"model":"llama3.2","prompt":"Why is the sky blue?"}' 2>&1 | tr -d '\r')
done
grep '^X-Cache: exact' <<<"$answer"
