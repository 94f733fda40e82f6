#!/usr/bin/env bash
# A private PostgreSQL for tests and benchmarks: its own directory, 127.0.0.1 only, no system service touched.
#
#   postgres.sh start DIR [PORT]   make the cluster in DIR if it is not there, start it, print its URL (PORT 0 or none: a free one)
#   postgres.sh stop DIR           stop it
#   postgres.sh kill DIR           SIGKILL it, as a power cut for the server process would
#   postgres.sh find               print the directory of the server binaries, or fail
#
# PostgreSQL refuses to run as root: then it runs as the user `postgres` that its package makes, and DIR is given to that user.
# Flushing is off (PG_FSYNC=on turns it on): that is safe against death of processes, not of the machine.
# synchronous_commit stays on, always: without it acknowledged commits are lost with the server process.
set -euo pipefail

fail() { echo "postgres.sh: $*" >&2; exit 1; }

binaries() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin 2>/dev/null | sort -V | tail -1 || true)
  if [ -n "$found" ] && [ -x "$found/initdb" ]; then echo "$found"; return; fi
  if command -v initdb >/dev/null && command -v pg_ctl >/dev/null; then dirname "$(command -v initdb)"; return; fi
  fail "no PostgreSQL server found; scripts/install-postgres.sh installs one"
}

as_server_user() {
  if [ "$(id -u)" -ne 0 ]; then "$@"; return; fi
  id postgres >/dev/null 2>&1 || fail "running as root needs the user postgres, which the package makes"
  setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"
}

random_port() { echo $((20000 + (RANDOM * 32768 + RANDOM) % 12000)); }  # below the ports that the system hands out

start() {
  local dir=$1 port=${2:-0} bin flush=${PG_FSYNC:-off} attempt options
  bin=$(binaries)
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd -P)
  if [ "$(id -u)" -eq 0 ]; then chown postgres "$dir"; fi
  chmod 700 "$dir"
  if [ ! -e "$dir/data/PG_VERSION" ]; then
    as_server_user "$bin/initdb" --pgdata="$dir/data" --username=specie --auth=trust --encoding=UTF8 --locale=C --no-sync \
      >"$dir/initdb.log" 2>&1 </dev/null || { cat "$dir/initdb.log" >&2; fail "initdb failed"; }
  fi
  for attempt in 1 2 3 4 5; do
    if [ "${2:-0}" = 0 ]; then port=$(random_port); fi
    options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories='' -c max_connections=200"
    options+=" -c shared_buffers=64MB -c fsync=$flush -c full_page_writes=$flush -c synchronous_commit=on -c log_lock_waits=on"
    if as_server_user "$bin/pg_ctl" --pgdata="$dir/data" --log="$dir/log" --wait --timeout=60 --options="$options" start \
      >/dev/null 2>&1 </dev/null; then
      echo "postgresql://specie@127.0.0.1:$port/postgres"
      return
    fi
    if [ "${2:-0}" != 0 ]; then break; fi
  done
  tail -20 "$dir/log" >&2 || true
  fail "PostgreSQL did not start (attempt $attempt, last port $port)"
}

stop() {
  local dir=$1 bin
  bin=$(binaries)
  as_server_user "$bin/pg_ctl" --pgdata="$dir/data" --mode=immediate --wait stop >/dev/null </dev/null
}

alive() { [ -e "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }

kill_hard() {
  local dir=$1 server child children
  server=$(head -1 "$dir/data/postmaster.pid") || fail "no server runs in $dir"
  children=$(pgrep -P "$server" || true)
  kill -KILL "$server"
  for child in $server $children; do  # the children hold the shared memory until they notice
    for _ in $(seq 500); do alive "$child" || break; sleep 0.02; done
  done
  rm -f "$dir/data/postmaster.pid"  # a zombie that nobody reaps would make the next start believe that the server runs
}

case "${1:-}" in
  start) [ $# -ge 2 ] || fail "start DIR [PORT]"; start "$2" "${3:-0}" ;;
  stop) [ $# -eq 2 ] || fail "stop DIR"; stop "$2" ;;
  kill) [ $# -eq 2 ] || fail "kill DIR"; kill_hard "$2" ;;
  find) binaries ;;
  *) fail "start DIR [PORT] | stop DIR | kill DIR | find" ;;
esac
