# `make up` and `make test` do all set-up by themselves; see README.md.
.DEFAULT_GOAL := help
.PHONY: help setup up check test test-etcd-next sim proto bench bench-movement
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.cache/uv/bin:$(PATH)
SEEDS ?= 1000
PROCESS_TESTS := $(addprefix tests/integration/,cluster journal seed worker)
MEASURING_TESTS := $(addprefix tests/integration/cluster/test_,$(addsuffix .py,failover seeds \
	movement movement_faults movement_blocked movement_etcd rolling_seeds \
	durable_movement durable_fence durable_postgres_faults))

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup:  ## the environment in .venv, and an etcd in .cache
	@scripts/setup
	@scripts/get_etcd >/dev/null

up: setup  ## a cluster on this machine with the thermostat example, until Ctrl-C
	@seedbed up --entities thermostat.entity

check: setup  ## format, lint, types, import contracts, protos, generated code, pins
	ruff format --check .
	ruff check .
	lint-imports
	buf lint
	buf breaking --against ".git#ref=$$(git merge-base HEAD origin/main 2>/dev/null || git rev-parse HEAD)"
	uv run --quiet scripts/gen_protos.py --check
	scripts/pins --check
	mypy
	pyright

test: setup  ## the whole test suite; what waits for processes, and what measures them, apart
	pytest --numprocesses 2 --dist loadfile $(addprefix --ignore=,$(PROCESS_TESTS))
	pytest --numprocesses 2 --dist loadfile $(PROCESS_TESTS) $(addprefix --ignore=,$(MEASURING_TESTS))
	pytest $(MEASURING_TESTS)

test-etcd-next: setup  ## the etcd tests on etcd 3.7 (brought by cargo)
	SEEDBED_ETCD_BIN=$$(scripts/get_etcd --next) pytest tests/contract/test_store.py tests/integration/etcd

sim: setup  ## the cores' simulation: make sim SEEDS=10000
	python -m tests.simulation --seeds $(SEEDS)

proto: setup  ## generated code from the protos
	uv run --quiet scripts/gen_protos.py

bench: setup  ## the benchmarks' table, also as JSON in benchmarks/results
	PYTHONPATH=.:tests/protos python -m benchmarks

bench-movement: setup  ## what moving shards costs callers, written to docs/performance.md (half an hour)
	PYTHONPATH=.:tests/protos python -m benchmarks.movement --docs
