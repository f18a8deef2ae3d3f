#!/bin/sh
# docs.sh PROGRAM FILE - prints FILE with its tables written anew by the program. In docs/reference.md they stand between
# <!-- options --> and <!-- /options -->, and <!-- metrics --> and <!-- /metrics -->; in a man page between .\" options
# and .\" /options, and .\" metrics and .\" /metrics.
set -eu
program=$1 file=$2
case $file in
*.1)
	# "# help", "# (facts)" and "key = value" of every section, as roff
	options=$(env -i "$program" --print-config | awk '
		function roff(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); sub(/^[.\x27]/, "\\\\\\&&", s); return s }
		/^# ---- / { about = $0; gsub(/^# ---- | ----$/, "", about) }
		/^\[/ { section = substr($0, 2, length($0) - 2); printf ".SS \"%s: %s\"\n", section, roff(about); help = "" }
		/^# \(/ { facts = substr($0, 4, length($0) - 4); next }
		/^# / { help = substr($0, 3) }
		/^[a-z_]+ =/ { printf ".TP\n.B %s.%s\n%s\n.br\n.RI ( \"%s\" )\n", section, $1, roff(help), roff(facts) }')
	metrics=$("$program" --print-metrics-table | awk -F ' \\| ' '
		function roff(s) { gsub(/`/, "", s); gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); return s }
		NR > 2 { sub(/^\| /, "", $1); sub(/ \|$/, "", $3); printf ".TP\n.B %s\n.RI ( %s ) \" %s\"\n", roff($1), $2, roff($3) }')
	begin='.\" ' end='' ;;
*)
	options=$("$program" --print-options-table)
	metrics=$("$program" --print-metrics-table)
	begin='<!-- ' end=' -->' ;;
esac
options=$options metrics=$metrics begin=$begin end=$end awk '
	BEGIN { begin = ENVIRON["begin"]; end = ENVIRON["end"] }
	skip && $0 == begin "/" skip end { skip = "" }
	!skip { print }
	$0 == begin "options" end { skip = "options"; print ENVIRON[skip]; found++ }
	$0 == begin "metrics" end { skip = "metrics"; print ENVIRON[skip]; found++ }
	END { if (skip || found != 2) exit 1 }
' "$file"
