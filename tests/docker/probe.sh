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

# The token that the first start made opens what is closed without it.
id=$(docker ps -qf publish=11434)
token=$(docker exec "$id" cat /var/lib/ollacache/admin-token)
[ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:11434/ollacache/cache)" = 401 ]
curl -fsS -H "Authorization: Bearer $token" http://127.0.0.1:11434/ollacache/cache | grep -q '"entries"'
