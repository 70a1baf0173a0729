# Targets describe themselves: `make` lists them. PYTHON chooses the interpreter, VENV the environment.
PYTHON ?= python3
VENV ?= .venv
SYSTEM ?= flights
ONLY ?=
LOCK_FLAGS ?=
FUZZ ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help env check test test-mlflow fuzz bench-features bench-serving bench-trust bench-decisions demo demo-quotes up lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: $(STAMP) ## make the environment, exactly as locked

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Icekeel needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	@echo "installing into $(VENV), a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r constraints.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $@

check: env ## format, lint, types, import contracts, sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sizes.py

test: env ## run the tests
	$(BIN)/pytest -q -n 2 --dist loadfile

fuzz: env ## a million random values through every engine and the oracle; FUZZ="--seed 7" for others
	$(BIN)/python tools/fuzz.py $(FUZZ)

test-mlflow: env ## test the mirror with all of MLflow, its server and client, in an environment of its own
	MLFLOW_PYTHON=$$($(BIN)/python -c 'from bench.peers import python_of; print(python_of("mirror"))') \
	  $(BIN)/pytest -q -n 0 tests/integration/test_mirror.py

bench-features: env ## measure the feature store beside its peers, half an hour; ONLY=key,key for some figures
	$(BIN)/python -m bench.features --only "$(ONLY)"

bench-serving: env ## measure serving beside its peers, half an hour; needs wrk; ONLY=key,key for some figures
	$(BIN)/python -m bench.serving --only "$(ONLY)"

bench-trust: env ## measure trust in data and models beside their peers; ONLY=key,key for some figures
	$(BIN)/python -m bench.trust --only "$(ONLY)"

bench-decisions: env ## measure alarms, experiments and the loop beside their peers; ONLY=key,key for some figures
	$(BIN)/python -m bench.decisions --only "$(ONLY)"

demo: env ## a year of real flights through the whole system
	$(BIN)/icekeel demo flights

demo-quotes: env ## a print shop whose truth is known
	$(BIN)/icekeel demo quotes

up: env ## serve what a demo left, SYSTEM=flights or quotes
	$(BIN)/icekeel up $(SYSTEM)

# Asks the public index alone, so that the hashes are its own whatever this machine is set up to use.
lock: env ## renew constraints.txt; LOCK_FLAGS=--upgrade for newer versions
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= $(BIN)/python -m piptools compile --quiet \
	  --extra cloud --extra demo --extra xgboost --extra dev --build-deps-for editable --allow-unsafe --generate-hashes --strip-extras \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  $(LOCK_FLAGS) --output-file constraints.txt pyproject.toml

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist src/*.egg-info
	find src tests tools bench -name __pycache__ -prune -exec rm -rf {} +
