#!/bin/bash
# run.sh [WORD] - the dashboard in headless Chromium (playwright-core, pinned in package-lock.json, drives the system's).
# WORD picks the tests whose name has it. SHOTS=folder leaves pictures. Ends with `N passed, N failed`.
set -u
cd "$(dirname "$0")" || exit 1
root=$(cd ../.. && pwd)
export OLLACACHE=${OLLACACHE:-$root/ollacache} FAKE_OLLAMA=${FAKE_OLLAMA:-$root/build/fake_ollama}

fail() {
	echo "not ok  $*"
	echo "0 passed, 1 failed"
	exit 1
}

CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} || fail "there is no chromium"
export CHROMIUM
# Installed once; again only when the lock changes.
if ! cmp -s package-lock.json node_modules/.installed; then
	npm ci --prefer-offline --no-audit --no-fund --ignore-scripts --loglevel=error || fail "npm ci"
	cp package-lock.json node_modules/.installed
fi
exec node tests.mjs "$@"
