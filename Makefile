# Everything runs from .venv; `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
DURATION ?= 5m
HOST ?= 127.0.0.1
SEEDS ?= 5000
SEED ?= 7
FAULTS ?=
KILLS ?=
MINUTES ?= 30
RATE ?= 5000
DAEMONS ?= 1
ROUNDS ?= 3
SCALE ?= 1
PEERS ?=
PEER_ROUNDS ?= 2
CONNECT_PLUGINS ?=
VECTOR ?=
TESTS ?=

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime.stamp
DEV := $(VENV)/.dev.stamp
RELEASE := $(VENV)/.release.stamp
BENCH := $(VENV)/.bench.stamp
DEPLOY := $(VENV)/.deploy.stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The files in order: those that wait for services come first, so that the quick ones fill the end. Two processes more than
# two cores, because they wait.
PYTEST := $(BIN)/pytest --numprocesses 4 --no-loadscope-reorder
# One sentence that names all that is missing, before anything is fetched.
NEEDS := @command -v "$(PYTHON)" >/dev/null || { echo 'ingestd needs Python 3.11 or newer, and there is no "$(PYTHON)".' >&2; exit 1; }; \
  "$(PYTHON)" tests/services/needs.py
# Nothing is kept outside of the clone: the caches that pip, Go, checkov and others have at home.
export XDG_CACHE_HOME := $(CURDIR)/.cache
export GOPATH ?= $(CURDIR)/.cache/go
export MPLCONFIGDIR ?= $(CURDIR)/.cache/matplotlib

.PHONY: help setup demo test test-faults test-deploy lint fetch format docs services sim chaos soak bench bench-peers audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEV) ## Create .venv with everything that development needs

demo: $(RUNTIME) ## Run the daemon on simulated events, with a live page (DURATION=5m; HOST=0.0.0.0 for phones); needs Python 3.11+ only
	$(BIN)/ingestd --config config/demo.toml --source simulator --duration $(DURATION) --host $(HOST) --demo

test: ## Lint, check types, then run every test of the product against real Kafka and S3; gets Java and Maven with apt (TESTS=tests/test_batch.py: a part)
	$(NEEDS) test --install
	@$(MAKE) --no-print-directory --jobs 2 lint fetch
	$(PYTEST) $(TESTS)

test-faults: ## Break real brokers, stores and daemons, and take rules away to see that tests notice it; the tests that take longest
	$(NEEDS) test --install
	@$(MAKE) --no-print-directory fetch
	$(PYTEST) $$($(BIN)/python -c 'from tests.conftest import FAULTS; print(*FAULTS)')

test-deploy: ## Test deploy/, releases, the live page and the benchmarks; needs Debian or Ubuntu, and root
	$(NEEDS) test-deploy --install
	@$(MAKE) --no-print-directory $(DEPLOY) fetch
	$(BIN)/python -m tests.deploy
	$(PYTEST) --numprocesses 3 tests/deploy

lint: setup ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fetch: setup
	$(BIN)/python -m tests.services --check

format: setup ## Format the code and apply the safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: setup ## Write everything that is generated from the code: tables in the documents, deploy/snowflake, the dashboard
	$(BIN)/python -m tests.generated_docs --write
	$(BIN)/python -m tests.test_snowflake_sql --write
	$(BIN)/python -m tests.deploy.dashboard --write

services: setup ## Start Kafka and S3 in the foreground, to try things by hand
	@exec $(BIN)/python -m tests.services

sim: setup ## Run the simulation over many seeds (SEEDS=5000)
	$(BIN)/pytest tests/simulation --seeds $(SEEDS)

chaos: setup ## Break real services and daemons and count every row (SEED=7, FAULTS=name,name), or kill KILLS=10000 times
	$(BIN)/python -m tests.chaos --seed $(SEED) $(if $(FAULTS),--faults $(FAULTS)) $(if $(KILLS),--kills $(KILLS))

soak: $(BENCH) ## Run daemons under load and bursts, watch memory, loop lag and freshness (MINUTES=30, RATE=5000, DAEMONS=1)
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --rate $(RATE) --daemons $(DAEMONS)

bench: $(BENCH) ## Measure stages, the whole pipeline, latency and growth (ROUNDS=3, SCALE=1: some 12 minutes)
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.endtoend --rounds $(ROUNDS) --scale $(SCALE)
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.growth --rounds $(ROUNDS) --scale $(SCALE)

bench-peers: $(BENCH) ## Measure other systems beside ours, and count lost and duplicated rows (PEERS=name,name, PEER_ROUNDS=2)
	$(BIN)/python -m benchmarks.peers --rounds $(PEER_ROUNDS) $(if $(PEERS),--systems $(PEERS)) \
	  $(if $(CONNECT_PLUGINS),--connect-plugins $(CONNECT_PLUGINS)) $(if $(VECTOR),--vector $(VECTOR))

lock: $(RELEASE) ## Resolve the locked versions again (deploy/release)
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/release/lock.sh

release: $(RELEASE) ## Build sdist, wheel, bill of materials and checksums into dist
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/release/build.sh dist

audit: $(RELEASE) ## Look up known vulnerabilities of everything that is installed; needs the network
	$(PIP) freeze --exclude-editable > $(VENV)/audit.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement $(VENV)/audit.txt

clean: ## Remove everything that make has created
	chmod -R u+w .cache 2>/dev/null || true  # Go's modules are read-only
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find ingestd tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(RUNTIME): pyproject.toml
	$(NEEDS) setup
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'  # the first with --group
	$(PIP) install --quiet --editable '.[demo]'
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) install --quiet --group dev
	$(PIP) check
	@touch $@

$(RELEASE): $(DEV)
	$(PIP) install --quiet --group release
	@touch $@

$(BENCH): $(DEV)
	$(PIP) install --quiet --group bench
	@touch $@

$(DEPLOY): $(DEV)
	$(PIP) install --quiet --group deploy
	$(PIP) check
	@touch $@ $(RELEASE) $(BENCH)
