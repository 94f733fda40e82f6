#!/bin/sh
# Installs the peers that tests/interop talks to: the Nutshell wallet and mint (PyPI `cashu`, in a venv of its own)
# and the cashu-ts wallet (npm `@cashu/cashu-ts`), and an OpenID provider (npm `oidc-provider`). Everything is pinned with hashes in tests/interop.
#
#   scripts/install-peers.sh            into $SPECIE_PEERS, or .cache/peers of this checkout
#
# A peer whose locks have not changed is left alone: the second run is instant and needs no network.
# Where node or npm is missing, it is installed with apt-get when that is possible (root on Debian or Ubuntu).
# Exit codes: 0 all peers are there, 1 one is not (the reason is on stderr).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
peers=${SPECIE_PEERS:-$root/.cache/peers}
interop=$root/tests/interop

say() { printf 'install-peers: %s\n' "$*"; }
fail() { printf 'install-peers: %s\n' "$*" >&2; exit 1; }

stamp_of() { # stamp_of FILE...: one hash for the contents of all files
    cat "$@" | sha256sum | cut -d ' ' -f 1
}

is_current() { # is_current DIR STAMP
    [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$2" ]
}

find_python() {
    for candidate in "${PYTHON:-}" "$root/.venv/bin/python" python3.11 python3.12 python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

need_node() {
    if command -v node >/dev/null && command -v npm >/dev/null; then return 0; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "node or npm is missing: installing both with apt-get"
        log=$(mktemp)
        if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm; } >"$log" 2>&1; then
            cat "$log" >&2
            rm -f "$log"
            fail "apt-get could not install nodejs and npm"
        fi
        rm -f "$log"
    fi
    command -v node >/dev/null || fail "node is missing: install Node.js 18 or newer (22 is best), then run this again"
    command -v npm >/dev/null || fail "npm is missing: install npm, then run this again"
}

pip_install() { # pip_install VENV ARGUMENT...
    venv=$1
    shift
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes "$@"
}

install_nutshell() {
    dir=$peers/nutshell
    stamp=$(stamp_of "$interop/nutshell/requirements.lock" "$interop/nutshell/packages.lock")
    if is_current "$dir" "$stamp" && "$dir/bin/python" -c '' 2>/dev/null; then
        say "Nutshell is there ($dir)"
        return 0
    fi
    python=$(find_python) || fail "Nutshell needs Python 3.11 or 3.12 with its venv module (set PYTHON to one)"
    say "installing Nutshell into $dir"
    rm -rf "$dir"
    "$python" -m venv "$dir"
    pip_install "$dir" -r "$interop/nutshell/requirements.lock" || fail "Nutshell's dependencies could not be installed"
    pip_install "$dir" --no-deps -r "$interop/nutshell/packages.lock" || fail "Nutshell could not be installed"
    "$dir/bin/python" -c 'import cashu.wallet.wallet' || fail "Nutshell was installed but cannot be imported"
    printf '%s\n' "$stamp" >"$dir/.stamp"
}

install_cashu_ts() {
    dir=$peers/cashu_ts
    stamp=$(stamp_of "$interop/cashu_ts/package.json" "$interop/cashu_ts/package-lock.json")
    need_node
    if is_current "$dir" "$stamp"; then
        say "cashu-ts is there ($dir)"
        return 0
    fi
    say "installing cashu-ts into $dir"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$interop/cashu_ts/package.json" "$interop/cashu_ts/package-lock.json" "$dir/"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false --loglevel=error) \
        || fail "cashu-ts could not be installed"
    (cd "$dir" && node -e 'import("@cashu/cashu-ts").then((m) => process.exit(m.Wallet ? 0 : 1), () => process.exit(1))') \
        || fail "cashu-ts was installed but cannot be imported by $(node --version)"
    printf '%s\n' "$stamp" >"$dir/.stamp"
}

install_openid() {
    dir=$peers/openid
    stamp=$(stamp_of "$interop/openid/package.json" "$interop/openid/package-lock.json")
    need_node
    if is_current "$dir" "$stamp"; then
        say "oidc-provider is there ($dir)"
        return 0
    fi
    say "installing oidc-provider into $dir"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$interop/openid/package.json" "$interop/openid/package-lock.json" "$dir/"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false --loglevel=error) \
        || fail "oidc-provider could not be installed"
    (cd "$dir" && node -e 'import("oidc-provider").then((m) => process.exit(m.Provider ? 0 : 1), () => process.exit(1))') \
        || fail "oidc-provider was installed but cannot be imported by $(node --version)"
    printf '%s\n' "$stamp" >"$dir/.stamp"
}

mkdir -p "$peers"
install_nutshell
install_cashu_ts
install_openid
say "all peers are in $peers"
