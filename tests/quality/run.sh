#!/bin/sh
# How well near questions are told apart, and how well an answer is chosen among candidates: both sets of labelled data.
# usage: tests/quality/run.sh [FOLDER]   (default: $DATA, else ../shared/data/semantic)
# FOLDER has *.jsonl of pairs, or is the folder above it. Without one only the project's own pairs are measured, and
# that is said. Fails if a bar is missed.
set -u
cd "$(dirname "$0")/../.." || exit 2

data=${1:-${DATA:-}}
data=${data:-../shared/data/semantic}
[ -d "$data/semantic" ] && data=$data/semantic

objects=
for file in tests/quality/quality.c cache/similar.c cache/guards.c proxy/base/arena.c proxy/base/buf.c proxy/base/err.c \
	proxy/base/words*.c proxy/base/words/*; do
	objects="$objects build/obj/$file.o"
done
# shellcheck disable=SC2086 # a list of files without spaces
make -s $objects || exit 2
mkdir -p build/quality
# shellcheck disable=SC2086
"${CC:-gcc}" -o build/quality/quality $objects -ljansson -lhunspell -lstemmer -licuuc -lpthread -lm || exit 2

said=$(mktemp) || exit 2
trap 'rm -f "$said"' EXIT
{
if ls "$data"/*.jsonl >/dev/null 2>&1; then
	build/quality/quality -d build/quality/differences.tsv tests/quality/own_pairs.tsv "$data"
	result=$?
	echo "pairs judged otherwise than by the sketch: build/quality/differences.tsv"
else
	echo "NOT MEASURED: there is no *.jsonl in $data (set DATA, or name the folder); only the project's own pairs:"
	build/quality/quality -d build/quality/differences.tsv tests/quality/own_pairs.tsv
	result=$?
fi

scoring=${data%/*}/scoring
if [ -x tests/quality/run_scoring.sh ]; then
	echo
	tests/quality/run_scoring.sh "$scoring" || result=1
fi
} >"$said" 2>&1
cat "$said"
passed=$(grep -cE '^ok  |^bar: .*: met$' "$said")
failed=$(grep -cE '^MISS |^bar: .*: MISSED$' "$said")
[ "$result" = 0 ] || [ "$failed" != 0 ] || failed=1        # it broke off
echo "$passed passed, $failed failed"
exit $result
