#!/usr/bin/env bash
# Writes contracts/artifacts/*.json (abi and bytecode) from the sources, so that building and deploying need no forge.
# usage: tools/artifacts.sh [--check]   (--check: compares instead, and fails where they differ)
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$top/tools/setup.sh" contracts
out=$top/contracts/artifacts
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
# all at once: what the compiler makes of a file depends on what else it compiles
(cd "$top/contracts" && FOUNDRY_PROFILE=release "$top/.toolchain/bin/forge" build --force --sizes src >&2)
for name in Registry Escrow TestToken; do
    node -e '
        const [, from, to] = process.argv;
        const a = JSON.parse(require("fs").readFileSync(from, "utf8"));
        const kept = { abi: a.abi, bytecode: a.bytecode.object };
        require("fs").writeFileSync(to, JSON.stringify(kept, null, 1) + "\n");
    ' "$top/contracts/out/release/$name.sol/$name.json" "$out/$name.json"
done
if [ "${1:-}" = --check ]; then
    diff -rq "$out" "$top/contracts/artifacts" >&2 || {
        echo "artifacts: contracts/artifacts differs from the sources; run tools/artifacts.sh and commit" >&2
        exit 1
    }
fi
