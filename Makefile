# Every target sets itself up: tools/setup.sh installs what the target needs into .toolchain, from package registries.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO := cargo
BIN := target/release/sandrun-pool
# of the same sources, compiled in half the time
QUICK := target/quick/sandrun-pool
export PATH := $(CURDIR)/.toolchain/bin:$(PATH)
export FOUNDRY_DISABLE_NIGHTLY_WARNING := 1

.PHONY: help build quick demo test check testnet deploy-contracts bench dashboard api-check kills faults soak mutants fuzz \
  simulate simulate-mutants snapshot artifacts fmt clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 20

build: ## the binary, at target/release/sandrun-pool
	$(CARGO) build --release --locked -p sandrun-pool

quick: ## a less optimised binary, at target/quick/sandrun-pool: what demo and testnet run
	$(CARGO) build --profile quick --locked -p sandrun-pool

demo: ## real jobs on a local market: escrowed, run, agreed on, paid, verified; a liar is slashed
	tools/setup.sh demo
	$(MAKE) --no-print-directory quick
	$(QUICK) demo --summary target/demo/summary.json --results target/demo/results

testnet: ## a local market that stays until Ctrl-C; ARGS="--nodes 3 --liar"
	tools/setup.sh demo
	$(MAKE) --no-print-directory quick
	$(QUICK) testnet $(ARGS)

check: ## formatting, lints, documentation
	tools/setup.sh test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cd contracts && forge fmt --check
	tools/artifacts.sh --check

test: ## every test
	tools/setup.sh test
	cd contracts && forge test && forge snapshot --check --tolerance 1 --match-contract Gas
	$(CARGO) test --workspace --locked --features node-agent/crash-points

kills: ## KILLS=200 times kill -9 in each of broker and coordinator, SQLite and PostgreSQL; SEED=N repeats one
	tools/setup.sh test
	SANDRUN_KILLS=$(or $(KILLS),200) $(if $(SEED),SANDRUN_SEED=$(SEED)) $(CARGO) test --locked -p sandrun-pool --test kills -- \
	  --nocapture --test-threads 1

faults: ## KILLS=200 times kill -9 in a market under load; lines, disks, clocks and chains that fail; SEED=N repeats one
	tools/setup.sh test
	SANDRUN_KILLS=$(or $(KILLS),200) $(if $(SEED),SANDRUN_SEED=$(SEED)) $(CARGO) test --locked -p sandrun-pool --test faults -- \
	  --include-ignored --skip soak --nocapture --test-threads 1

soak: ## JOBS=500 through five nodes, one a liar and one silent half of the time; what each process takes
	tools/setup.sh test
	SANDRUN_SOAK=$(or $(JOBS),500) $(CARGO) test --locked -p sandrun-pool --test faults -- --ignored --nocapture soak

mutants: ## apply each committed contract mutant; fails if one survives
	tools/setup.sh test
	tools/mutants.sh

fuzz: ## a million random calls to the contracts, shared by the invariants; CALLS=256 in a row, RUNS=261 times
	tools/setup.sh test
	cd contracts && FOUNDRY_PROFILE=fuzz $(if $(CALLS),FOUNDRY_INVARIANT_DEPTH=$(CALLS)) $(if $(RUNS),FOUNDRY_INVARIANT_RUNS=$(RUNS)) \
	  forge test --match-path 'test/invariant/*'

simulate: ## SEEDS=1000 histories of the whole system in virtual time, faults included; SEED=N tells one
	$(CARGO) run -q --release --locked -p sandrun-simulate -- $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

simulate-mutants: ## break core and model on purpose: the simulator has to find each; writes the table in docs/simulator.md
	tools/simulate-mutants.sh

snapshot: ## write contracts/.gas-snapshot anew
	tools/setup.sh test
	cd contracts && forge snapshot --match-contract Gas

artifacts: ## write contracts/artifacts anew from the sources
	tools/setup.sh test
	tools/artifacts.sh

deploy-contracts: ## RPC=URL KEY=FILE [PRESET=testnet|mainnet]
	$(MAKE) --no-print-directory build
	$(BIN) deploy --blockchain-rpc "$(or $(RPC),http://127.0.0.1:8545)" --key "$(KEY)" --preset "$(or $(PRESET),mainnet)"

bench: ## measure beside peers; ONLY=prefix runs a part
	tools/setup.sh bench
	@# in one go: by itself the second would be built with fewer features of the same dependencies, all of them anew
	$(CARGO) build --release --locked -p sandrun-pool -p sandrun-bench
	target/release/sandrun-bench --program $(BIN) --only "$(ONLY)" --results target/bench/results.json

dashboard: ## try every query of the Grafana dashboards on a real run with Prometheus
	tools/setup.sh dashboard
	$(MAKE) --no-print-directory quick
	node tools/dashboard.mjs $(QUICK) .toolchain/prometheus/usr/bin

api-check: ## hold broker and coordinator to their OpenAPI documents; EXAMPLES=100 for each call, SEED=1
	tools/setup.sh api
	$(MAKE) --no-print-directory quick
	.toolchain/schemathesis/bin/python tools/schemathesis/check.py $(QUICK) $(or $(EXAMPLES),100) $(or $(SEED),1)

fmt: ## format everything
	tools/setup.sh test
	$(CARGO) fmt --all
	cd contracts && forge fmt

clean: ## remove what was built
	rm -rf target contracts/out contracts/cache .toolchain
