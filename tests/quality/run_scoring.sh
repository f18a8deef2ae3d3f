#!/bin/sh
# The scorer's pick against one answer and against the first design's four criteria, on answers of known quality.
# usage: tests/quality/run_scoring.sh [FOLDER of *.jsonl]   (default: ../shared/data/scoring, or $DATA/scoring)
# Fails if a bar is missed. Without the folder nothing is measured, and that is said.
set -eu
cd "$(dirname "$0")/../.."

dir=${1:-${DATA:-../shared/data}/scoring}
if [ ! -d "$dir" ]; then
	echo "NOT MEASURED: there is no folder $dir (set DATA, or give the folder)"
	exit 0
fi
objects=
for file in tests/quality/quality_scoring.c scoring/*.c proxy/base/arena.c proxy/base/buf.c proxy/base/err.c \
	proxy/base/ask.c proxy/base/scan.c proxy/base/words*.c proxy/base/words/*; do
	objects="$objects build/obj/$file.o"
done
# shellcheck disable=SC2086 # a list of files without spaces
make -s $objects
mkdir -p build/quality
# shellcheck disable=SC2086
"${CC:-gcc}" -o build/quality/quality_scoring $objects -ljansson -lhunspell -lstemmer -licuuc -lpthread -lm
exec build/quality/quality_scoring "$dir"
