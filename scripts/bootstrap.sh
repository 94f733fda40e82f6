#!/bin/sh
# bootstrap.sh run|dev: make .venv with Python 3.11 or newer and install the locked dependencies (hashes checked) and specie.
set -eu
kind=$1
cd "$(dirname "$0")/.."

fail() { echo "specie: $*" >&2; exit 1; }

if [ ! -x .venv/bin/python ]; then
  python=${PYTHON:-}
  for candidate in python3.11 python3.12 python3.13 python3 python3.14; do
    [ -n "$python" ] && break
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
    fi
  done
  [ -n "$python" ] || fail "Python 3.11 or newer is needed; none was found (set PYTHON=/path/to/python3)"
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "Python's venv module is missing: install it (on Debian and Ubuntu: apt install python3-venv)"
  echo "specie: making .venv with $("$python" --version)"
  "$python" -m venv .venv
fi

echo "specie: installing locked dependencies ($kind); the first time takes a minute"
PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -q --require-hashes -r "requirements/$kind.lock"
PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
.venv/bin/python -m specie.keys.native.build
touch ".venv/.$kind"
[ "$kind" != dev ] || touch .venv/.run
