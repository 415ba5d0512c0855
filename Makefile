# make demo | test | lint | bench. The first call makes .venv and installs what it needs; later calls start at once.

PYTHON ?= python3
BIN := .venv/bin
# A stamp per set of dependencies: the demo waits for fewer of them than the tests.
DEMO := .venv/installed-sim
DEV := .venv/installed-dev
BENCHMARKS := $(filter-out benchmarks/table.py benchmarks/reaching.py,$(wildcard benchmarks/*.py))

.PHONY: demo test lint bench

demo: $(DEMO)
	$(BIN)/forerun demo

test: $(DEV)
	$(BIN)/pytest -m "not slow and not gpu"

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Every benchmark writes benchmarks/results/*.json; the tables of the README are made from them.
bench: $(DEV)
	set -e; for script in $(BENCHMARKS); do $(BIN)/python $$script; done
	$(BIN)/python benchmarks/table.py

$(DEMO): pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[sim]'
	touch $@

$(DEV): pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[sim,hdf5,log,dev]'
	touch $(DEMO) $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "forerun needs Python 3.11 or newer; say which one to use: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making .venv and installing forerun into it; torch is large, so the first time takes a few minutes."
	$(PYTHON) -m venv .venv
