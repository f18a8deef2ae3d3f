#!/bin/sh
# docs.sh PROGRAM README - prints README with its tables written anew by the program: between <!-- options --> and
# <!-- /options -->, and between <!-- metrics --> and <!-- /metrics -->.
set -eu
program=$1 readme=$2
options=$("$program" --print-options-table)
metrics=$("$program" --print-metrics-table)
options=$options metrics=$metrics awk '
	/^<!-- \/(options|metrics) -->$/ { skip = 0 }
	!skip { print }
	/^<!-- options -->$/ { print ENVIRON["options"]; skip = 1 }
	/^<!-- metrics -->$/ { print ENVIRON["metrics"]; skip = 1 }
	END { if (skip) exit 1 }
' "$readme"
