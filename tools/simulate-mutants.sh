#!/usr/bin/env bash
# Applies each change of crates/simulator/mutants to a copy of the sources: it has to compile, to pass the unit tests of
# core, and to be found by the simulator. Prints a table, and writes it into docs/simulator.md when all
# patches were tried. Fails when one survives, does not apply, does not compile or fails the unit tests.
# usage: tools/simulate-mutants.sh [NAME...]   NAME: a prefix of a patch's file name; all patches if none is given
#   MUTANT_SEEDS   seeds in which it has to be found (default 1000)
#   CARGO          the command that builds (default cargo)
#   MUTANT_TARGET  where to build (default target/simulate-mutants)
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seeds=${MUTANT_SEEDS:-1000}
target=${MUTANT_TARGET:-$top/target/simulate-mutants}
docs=$top/docs/simulator.md
cargo=${CARGO:-cargo}

die() { echo "simulate-mutants: $*" >&2; exit 1; }

type -P git >/dev/null || die "git is missing; it applies the patches"
mkdir -p "$target"
tree=$target/tree
rm -rf "$tree" && mkdir "$tree"
trap 'rm -rf "$tree"' EXIT
trap 'exit 130' INT TERM
export GIT_CEILING_DIRECTORIES=$target CARGO_TARGET_DIR=$target/build CARGO_INCREMENTAL=1

# The workspace's manifests name every crate, so all of their sources have to be there.
(cd "$top" && git ls-files -z --cached --others --exclude-standard Cargo.toml Cargo.lock clippy.toml crates cmd testnet |
    tar --null -T - -cf -) | tar -xf - -C "$tree"

patches=()
for patch in "$top"/crates/simulator/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    for wanted in "${@:-}"; do
        case "$name" in "$wanted"*) patches+=("$patch") && break ;; esac
    done
done
[ ${#patches[@]} -gt 0 ] || die "no patch of crates/simulator/mutants is called $*"

rows=$target/rows
: >"$rows"
bad=0
cd "$tree"
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    log=$target/$name.log
    file=$(sed -n 's|^+++ b/||p' "$patch" | head -n 1)
    seed="" found=""
    if ! git apply --recount -C1 "$patch" >"$log" 2>&1; then
        verdict="does not apply"
    else
        if ! $cargo build --release --locked -q -p sandrun-simulate >"$log" 2>&1; then
            verdict="does not compile"
        elif ! $cargo test --release --locked -q --lib -p sandrun-core >"$log" 2>&1; then
            verdict="fails the unit tests"
        elif "$CARGO_TARGET_DIR/release/sandrun-simulate" --seeds "$seeds" >"$log" 2>&1; then
            verdict=survived
        else
            found=$(sed -n 's/^seed [0-9]* broke a promise at //p' "$log" | head -n 1 |
                sed -E 's/0x([0-9a-f]{6})[0-9a-fA-F]*/\1../g; s/\|/\//g' | cut -c 1-150)
            seed=$(sed -n 's/^seed \([0-9]*\) broke.*/\1/p' "$log" | head -n 1)
            verdict=found
            [ -n "$seed" ] || verdict="broke off"
        fi
        git apply --recount -C1 -R "$patch"
    fi
    [ "$verdict" = found ] || bad=$((bad + 1))
    printf '| %s | `%s` | %s | %s | %s |\n' "$name" "$file" "$verdict" "$seed" "$found" | tee -a "$rows"
done

if [ $# -eq 0 ]; then
    {
        sed '/<!-- mutants -->/q' "$docs"
        echo "| mutant | in | verdict | seed | how |"
        echo "| --- | --- | --- | --- | --- |"
        cat "$rows"
        sed -n '/<!-- end of mutants -->/,$p' "$docs"
    } >"$target/docs" && cp "$target/docs" "$docs"
fi
echo "${#patches[@]} mutants, $((${#patches[@]} - bad)) found within $seeds seeds"
[ "$bad" -eq 0 ] || die "$bad of ${#patches[@]} were not found"
