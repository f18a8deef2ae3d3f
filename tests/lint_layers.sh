#!/bin/sh
# lint_layers.sh - who may include whom: base ← scoring; base, scoring ← cache; all ← proxy. Prints what breaks it.
set -u
cd "$(dirname "$0")/.." || exit 1
wrong=0

# check FOLDER ALLOWED…: files of a folder include nothing from outside the allowed ones
check() {
	folder=$1
	shift
	for file in "$folder"/*.[ch] "$folder"/*.def; do
		[ -e "$file" ] || continue
		for included in $(sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$file"); do
			for allowed; do
				case $included in
				"$allowed"/*/*) ;;               # a folder below is another layer
				"$allowed"/*) continue 2 ;;
				esac
			done
			echo "$file: must not include \"$included\""
			wrong=1
		done
	done
}

check proxy/base proxy/base
check scoring proxy/base scoring
check cache proxy/base scoring cache
check proxy proxy/base scoring cache proxy
exit $wrong
