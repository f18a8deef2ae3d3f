#!/bin/sh
# container.sh ARGUMENT… - what the container starts: makes a token for the admin endpoints if none is given, since in a
# container nobody is local, and becomes ollacache. The token lies beside the answers, readable by this user alone, and
# stays the same from one start to the next.
set -eu
file=${OLLACACHE_CACHE_PATH:-/var/lib/ollacache}/admin-token

if [ -z "${OLLACACHE_ADMIN_TOKEN:-}" ]; then
	if ! [ -s "$file" ]; then
		if (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$file.new" && mv "$file.new" "$file") 2>/dev/null; then
			echo "ollacache: a token for purge, explain and the dashboard's tables was made: cat $file" >&2
		else
			echo "ollacache: no token could be written to $file; set OLLACACHE_ADMIN_TOKEN to use the admin endpoints" >&2
		fi
	fi
	if [ -s "$file" ]; then
		OLLACACHE_ADMIN_TOKEN=$(cat "$file")
		export OLLACACHE_ADMIN_TOKEN
	fi
fi
exec ollacache -c /etc/ollacache/proxy.conf "$@"
