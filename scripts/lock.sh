#!/bin/sh
# lock.sh: resolve pyproject.toml and requirements/*.in anew into lock files with hashes, for every platform, without index URLs.
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null 2>&1 || { echo "lock.sh: uv is needed (pip install uv)" >&2; exit 1; }
compile() { uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --no-annotate --no-header --no-strip-extras "$@"; }
compile pyproject.toml requirements/build.in -o requirements/run.lock
compile pyproject.toml requirements/build.in requirements/dev.in -c requirements/run.lock -o requirements/dev.lock
