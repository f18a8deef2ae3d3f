#!/bin/sh
# transparency.sh - the recorded requests through the proxy: tests/wire_cases, or the folder in $WIRE. See transparency.py.
dir=$(cd "$(dirname "$0")" && pwd)
exec python3 "$dir/transparency.py" "${WIRE:-$dir/wire_cases}" "$@"
