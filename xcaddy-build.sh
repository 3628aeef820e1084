#!/usr/bin/env bash
# Builds Caddy with the performance proxy of this working copy. The version of
# Caddy is the one in go.mod; Go is all that is needed.
set -euo pipefail

usage() {
	cat <<-END
		Usage: ${0##*/} [-o FILE]

		  -o FILE   where the binary goes (default ./caddy)
		  -h        show this help
	END
}

wrong() {
	printf '%s: %s\n' "${0##*/}" "$1" >&2
	usage >&2
	exit 2
}

output=./caddy
while getopts :o:h option; do
	case $option in
		o) output=$OPTARG ;;
		h)
			usage
			exit 0
			;;
		:) wrong "-$OPTARG needs a value" ;;
		*) wrong "unknown option -$OPTARG" ;;
	esac
done
shift $((OPTIND - 1))
[[ $# -eq 0 ]] || wrong "unexpected argument $1"
[[ -n $output ]] || wrong "-o needs the name of a file"
[[ ! -d $output ]] || wrong "$output is a directory, -o takes a file"
directory=$(dirname -- "$output")
[[ -d $directory ]] || wrong "there is no directory $directory"
output=$(cd -- "$directory" && pwd)/$(basename -- "$output")

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd -- "$root"
module=$(go list -m)
version=$(go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)

CGO_ENABLED=0 go tool xcaddy build "$version" --output "$output" --with "$module@v0.0.0=$root"
