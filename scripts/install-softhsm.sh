#!/usr/bin/env bash
# Install SoftHSM2 on Debian or Ubuntu: a PKCS#11 token made of files, for the tests of keys that live in a token.
set -euo pipefail

found() {
  command -v softhsm2-util >/dev/null || return 1
  for module in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /usr/lib64/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so; do
    if [ -e "$module" ]; then echo "$module"; return 0; fi
  done
  return 1
}

if found; then exit 0; fi
[ "$(id -u)" -eq 0 ] || { echo "install-softhsm.sh: needs root (or install softhsm2 yourself)" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "install-softhsm.sh: knows apt-get only" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends softhsm2 >/dev/null
found
