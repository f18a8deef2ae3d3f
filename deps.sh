#!/bin/sh
# deps.sh LIST… - install the Debian packages the lists name, where they are missing; says which. Quick when there is
# nothing to do. Works as root, or as a user with sudo. Services among them are not started.
set -eu

if [ "${1:-}" = --install ]; then                # as root, from below
	shift
	export DEBIAN_FRONTEND=noninteractive
	if ! [ -e /usr/sbin/policy-rc.d ]; then      # what Debian asks before a package starts its service
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		trap 'exit 1' INT TERM HUP
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
	fi
	if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then
		apt-get -q update
	fi
	# lists that are old name files that are gone: fetch them again, and once more
	apt-get -qy install --no-install-recommends "$@" ||
		{ apt-get -q update && apt-get -qy install --no-install-recommends "$@"; }
	exit
fi

if ! command -v dpkg-query >/dev/null; then
	echo "deps.sh: not a Debian system; install by hand what $* name" >&2
	exit 0
fi
here=" $(dpkg-query -W -f '${db:Status-Status}/${Package} ' 2>/dev/null) "
missing=
while read -r package command; do
	case $package in '' | '#'*) continue ;; esac
	if [ -n "$command" ] && command -v "$command" >/dev/null; then
		continue
	fi
	found=
	for either in $(echo "$package" | tr '|' ' '); do
		case $here in *" installed/$either "*) found=yes ;; esac
	done
	[ -n "$found" ] || missing="$missing ${package%%|*}"
done <<END
$(cat "$@")
END
[ -n "$missing" ] || exit 0

echo "installing:$missing"
if [ "$(id -u)" = 0 ]; then
	exec "$0" --install $missing
elif command -v sudo >/dev/null; then
	exec sudo "$0" --install $missing
fi
echo "deps.sh: neither root nor sudo; install by hand:$missing" >&2
exit 1
