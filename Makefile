# One entry for everything. On a machine with only Python and make, each target sets up what it needs in .venv/<version>/, once.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ifeq ($(OS),Windows_NT)
$(error holdfast runs on Linux and macOS; on Windows use WSL)
endif

# VERSION=PATH words, the Python that runs everything first. `make test PYTHONS=3.12=/usr/bin/python3.12` narrows it.
PYTHONS ?= $(shell sh scripts/find_pythons.sh)
VERSIONS := $(foreach pair,$(PYTHONS),$(firstword $(subst =, ,$(pair))))
MAIN := $(or $(firstword $(VERSIONS)),none)
OTHERS := $(wordlist 2,$(words $(VERSIONS)),$(VERSIONS))
path_of = $(patsubst $(1)=%,%,$(filter $(1)=%,$(PYTHONS)))

VENV = .venv/$(MAIN)
PY = $(VENV)/bin/python
STAMPS = $(foreach version,$(VERSIONS),.venv/$(version)/.stamp)
SOURCES = src scripts tests $(wildcard examples bench)

# Tests share the cores; `make test SHARED=` runs them one after the other, which reads better when one hangs.
SHARED ?= -n auto
FUZZ_S ?= 60
FUZZ_EXAMPLES ?= 2000
SOAK_ROUNDS ?= 20
SEEDS ?= 200000
SOAK_STATE ?= .soak/spine.json
CORES ?= $(shell getconf _NPROCESSORS_ONLN)

# A banner per step, so that a long run says where it is.
say = @printf '\n── %s\n' "$(1)"

.PHONY: help demo demo-transfer check test test-main test-others types lint contracts snapshot bench bench-layers hostile exhaustion failover soak soak-sockets mutants fuzz clean need-python

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

need-python:
ifeq ($(MAIN),none)
	@echo "holdfast needs Python 3.11 or newer; none was found on PATH or under pyenv" >&2; exit 1
endif

.venv/%/.stamp: requirements/dev.txt pyproject.toml scripts/make_venv.sh | need-python
	@sh scripts/make_venv.sh $* $(call path_of,$*)

# ---------------------------------------------------------------------------------------------------------------- to see

demo: demo-transfer ## a real service and its clients in their own processes, moving real files; < 60 s

demo-transfer: .venv/$(MAIN)/.stamp
	@$(PY) examples/demo_transfer.py

# WRITE=1 writes tables and plots into docs/; BENCH='--only unary-64 --rounds 3' narrows it, see bench/run.py. The other Pythons are compared.
bench: .venv/bench-$(MAIN)/.stamp $(STAMPS) ## holdfast beside bare_rpc and others, 20 min; WRITE=1 writes docs, BENCH=--quick is short
	@.venv/bench-$(MAIN)/bin/python bench/run.py $(if $(WRITE),--write-docs) $(BENCH)

# LAYERS='--rounds 40 --json layers.json' says more, see bench/layers.py.
bench-layers: .venv/$(MAIN)/.stamp ## where the time of a small call goes: µs of each layer and each feature; < 90 s
	@$(PY) bench/layers.py $(LAYERS)

# FAILOVER='faults --only holdfast,haproxy --phases kill,freeze' narrows it, see bench/failover/README.md.
failover: .venv/bench-$(MAIN)/.stamp ## nodes killed, frozen, cut off, slow: what callers of holdfast and of others notice; 10 min
	@sh bench/failover/fetch_haproxy.sh
	@.venv/bench-$(MAIN)/bin/python -m bench.failover $(FAILOVER)

.venv/bench-%/.stamp: requirements/bench.txt pyproject.toml bench/make_venv.sh | need-python
	@sh bench/make_venv.sh $* $(call path_of,$*)

# --------------------------------------------------------------------------------------------------------------- to check

check: lint contracts ## what to run before a commit: lint, types, walls, quick tests; < 60 s
	$(call say,mypy --strict on $(MAIN))
	@$(PY) -m mypy src scripts
	@MYPYPATH=src:examples $(PY) -m mypy examples
	$(call say,quick tests on $(MAIN))
	@$(PY) -m pytest -q $(SHARED) -m "not slow"

test: test-main test-others types lint contracts ## everything: all tests on one Python, quick ones on the others, types, walls

test-main: .venv/$(MAIN)/.stamp
	$(call say,all tests on $(MAIN))
	@$(PY) -m pytest -q $(SHARED)

test-others: $(STAMPS)
	@for version in $(OTHERS); do \
	  printf '\n── quick tests on %s\n' "$$version"; \
	  .venv/$$version/bin/python -m pytest -q $(SHARED) -m "not slow" || exit 1; \
	done

# The public surface as users' type checkers see it, from the oldest and the newest Python we promise.
types: .venv/$(MAIN)/.stamp
	$(call say,mypy --strict and pyright)
	@$(PY) -m mypy src scripts
	@MYPYPATH=src:examples $(PY) -m mypy examples
	@for version in 3.11 3.13; do \
	  $(PY) -m mypy --python-version $$version tests/typing && \
	  $(PY) -m pyright --pythonpath $(PY) --pythonversion $$version || exit 1; \
	done

lint: .venv/$(MAIN)/.stamp
	$(call say,ruff)
	@$(PY) -m ruff check $(SOURCES)
	@$(PY) -m ruff format --check $(SOURCES)

contracts: .venv/$(MAIN)/.stamp
	$(call say,walls of the house)
	@$(VENV)/bin/lint-imports --no-logo --no-cache

fuzz: .venv/$(MAIN)/.stamp ## every harness for FUZZ_S (60) seconds, then the property tests with FUZZ_EXAMPLES (2000) examples each
	$(call say,harnesses on $(MAIN))
	@$(PY) -m tests.fuzz run --seconds $(FUZZ_S)
	$(call say,property tests on $(MAIN))
	@HOLDFAST_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(PY) -m pytest -q --timeout 1200 $$(grep -rlE --include='test_*.py' '^from hypothesis|^import hypothesis' tests)

hostile: .venv/$(MAIN)/.stamp ## what an honest client notices of hostile ones, and what these are told; 2 min
	@$(PY) bench/hostile.py

exhaustion: .venv/$(MAIN)/.stamp ## 200 strangers and 64 descriptors: ours beside asyncio's own server; Linux, 1 min
	@$(PY) bench/exhaustion.py

# It goes on where it was interrupted, as long as the code is the same; the report stands beside the state, as text and as JSON.
soak: .venv/$(MAIN)/.stamp ## holdfast in SEEDS (200,000) simulated worlds, over all cores; Ctrl-C and again goes on; hours
	@$(PY) -m tests.sim.spine --soak $(SOAK_STATE) --seeds $(SEEDS) --workers $(CORES)

soak-sockets: .venv/$(MAIN)/.stamp ## the tests over real sockets and processes, SOAK_ROUNDS (20) times
	@for round in $$(seq $(SOAK_ROUNDS)); do \
	  printf '── round %s of $(SOAK_ROUNDS)\n' "$$round"; \
	  $(PY) -m pytest -q -x tests/net tests/rpc $(wildcard tests/real) || exit 1; \
	done

mutants: .venv/$(MAIN)/.stamp ## mistakes made on purpose, and what notices them; MUTANTS="NAME …" narrows it; an hour
	@$(PY) -m tests.sim.mutants --units $(MUTANTS)

snapshot: .venv/$(MAIN)/.stamp ## write the public names down again, after a change that is meant
	@$(PY) scripts/public_names.py --write

clean: ## remove environments, caches and build products
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzz .soak tests/fuzz/findings dist build htmlcov .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
