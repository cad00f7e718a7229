#!/usr/bin/env bash
# Applies each change of contracts/mutants to a copy of the contracts and runs the contract tests on it: every one has to
# be found (killed). Fails when one survives, does not apply or does not compile, and when the contracts themselves fail.
# usage: tools/mutants.sh [NAME...]   NAME: a prefix of a patch's file name; all patches if none is given
#   MUTANT_JOBS   how many run at a time (default: the number of cores, at most 4)
#   MUTANT_TESTS  glob of the test files to run (default: all but Gas)
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
toolchain=${SANDRUN_TOOLCHAIN:-$top/.toolchain}
cores=$(nproc 2>/dev/null || echo 2)
jobs=${MUTANT_JOBS:-$((cores < 4 ? cores : 4))}
tests=${MUTANT_TESTS:-test/*/**}
forge=$toolchain/bin/forge

die() { echo "mutants: $*" >&2; exit 1; }

[ -x "$forge" ] || die "$forge is missing; run tools/setup.sh contracts"
type -P git >/dev/null || die "git is missing; it applies the patches"

# Quick histories, and code that compiles in seconds: what a change does, not what it costs.
export FOUNDRY_PROFILE=quick FOUNDRY_VIA_IR=false FOUNDRY_OPTIMIZER=false FOUNDRY_OUT=out FOUNDRY_CACHE_PATH=cache
# Also the tests that otherwise run what is deployed.
export FROM_SOURCE=true
export FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT=0 FOUNDRY_CODE_SIZE_LIMIT=1000000 FOUNDRY_DISABLE_NIGHTLY_WARNING=1

work=$(mktemp -d)
export GIT_CEILING_DIRECTORIES=$work
cleanup() {
    local pids
    pids=$(jobs -p)
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

patches=()
for patch in "$top"/contracts/mutants/*.patch; do
    [ -f "$patch" ] || die "there are no patches in contracts/mutants"
    name=$(basename "$patch" .patch)
    for wanted in "${@:-}"; do
        case "$name" in "$wanted"*) patches+=("$patch") && break ;; esac
    done
done
[ ${#patches[@]} -gt 0 ] || die "no patch of contracts/mutants is called $*"

# place DIR: a copy of the contracts, with the compiler where foundry.toml looks for it.
place() {
    mkdir -p "$1/contracts"
    ln -s "$toolchain" "$1/.toolchain"
    cp -R "$top/contracts/src" "$top/contracts/test" "$top/contracts/lib" "$top/contracts/foundry.toml" "$1/contracts/"
}

# run_tests LOG: 0 when every test passes.
run_tests() { "$forge" test --fail-fast --no-match-contract '^Gas' --match-path "$tests" >"$1" 2>&1; }

# try PATCH: one line "verdict TAB what found it" in $work/NAME.verdict.
try() {
    local patch=$1 name dir verdict found=""
    name=$(basename "$patch" .patch)
    dir=$work/$name
    cp -R "$work/base" "$dir"
    cd "$dir/contracts"
    if ! git apply --recount -C1 "$patch" >"$work/$name.log" 2>&1; then
        verdict="does not apply"
        found=$(head -n 1 "$work/$name.log")
    elif ! "$forge" build >"$work/$name.log" 2>&1; then
        verdict="does not compile"
        found=$(grep -m 1 -E '^Error' "$work/$name.log" || true)
    elif run_tests "$work/$name.log"; then
        verdict=survived
    else
        verdict=killed
        found=$(sed -n 's/^ *\[FAIL: \(.*\)\].*$/\1/p' "$work/$name.log" | head -n 1 | cut -c 1-100)
        # A run that broke off without a failing test has found nothing.
        [ -n "$found" ] || verdict="tests broke off"
    fi
    printf '%s\t%s\n' "$verdict" "$found" >"$work/$name.verdict"
    cd "$work" && rm -rf "$dir"
}

place "$work/base"
(cd "$work/base/contracts" && run_tests "$work/base.log") ||
    { tail -n 40 "$work/base.log" >&2; die "the contracts fail without any change"; }

running=0
for patch in "${patches[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n
        running=$((running - 1))
    fi
    try "$patch" &
    running=$((running + 1))
done
wait

bad=0
printf '%-28s %-17s %s\n' mutant verdict "found by"
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    verdict="not run" found=""
    [ ! -f "$work/$name.verdict" ] || IFS=$'\t' read -r verdict found <"$work/$name.verdict" || true
    printf '%-28s %-17s %s\n' "$name" "$verdict" "$found"
    [ "$verdict" = killed ] || bad=$((bad + 1))
done
echo "${#patches[@]} mutants, $((${#patches[@]} - bad)) killed"
[ "$bad" -eq 0 ] || die "$bad of ${#patches[@]} were not found; a survivor wants a test, a patch that fails wants to be made anew"
