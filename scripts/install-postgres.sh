#!/usr/bin/env bash
# Install the PostgreSQL server binaries on Debian or Ubuntu, without the system cluster the package would start.
set -euo pipefail

if "$(dirname "$0")/postgres.sh" find 2>/dev/null; then exit 0; fi
[ "$(id -u)" -eq 0 ] || { echo "install-postgres.sh: needs root (or install a PostgreSQL server yourself)" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "install-postgres.sh: knows apt-get only" >&2; exit 1; }

mkdir -p /etc/postgresql-common
conf=/etc/postgresql-common/createcluster.conf
[ -e "$conf" ] || echo 'create_main_cluster = false' >"$conf"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold postgresql >/dev/null
exec "$(dirname "$0")/postgres.sh" find
