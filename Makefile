# make demo | test | lint | bench. The first call makes .venv and installs what it needs; later calls start at once.

PYTHON ?= python3
BIN := .venv/bin
# A stamp per set of dependencies: the demo waits for fewer of them than the tests.
DEMO := .venv/installed-sim
DEV := .venv/installed-dev
SEEDS := 0 1 2
ROBOT := ../shared/data/unitree_g1_small_lerobot_v21

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
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/speed.py
	set -e; for seed in $(SEEDS); do \
	  case $$seed in 0) far=--far;; *) far=;; esac; \
	  for task in push pickplace tworoom pusht; do \
	    $(BIN)/python benchmarks/$$task.py --seed $$seed $$far; \
	  done; \
	  $(BIN)/python benchmarks/planners.py --run runs/push/seed$$seed; \
	done
	$(BIN)/python benchmarks/representation.py
	@if [ -d $(ROBOT) ]; then $(BIN)/python benchmarks/real_robot.py --data $(ROBOT); else \
	  echo "The real robot is left out: its recordings are not in $(ROBOT)."; fi
	$(BIN)/python benchmarks/touch_real.py
	set -e; for task in LiftFragile PegFeel WipeForce WeighSort PushBehind; do \
	  $(BIN)/python benchmarks/touch.py --task $$task; \
	  for part in delays surprise; do \
	    $(BIN)/python benchmarks/touch_tiers.py --part $$part --task $$task; \
	  done; \
	done
	set -e; for touch in both statistics latent; do \
	  $(BIN)/python benchmarks/touch_prediction.py --touch $$touch; \
	done
	$(BIN)/python benchmarks/touch_age.py
	$(BIN)/python benchmarks/touch_speed.py
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/realtime.py
	$(BIN)/forerun bench serve --out benchmarks/results
	$(BIN)/forerun bench serve --parts gain --out benchmarks/results
	$(BIN)/forerun bench serve --parts overload --out benchmarks/results
	set -e; for what in planning faults gpu soak; do $(BIN)/python benchmarks/serve_$$what.py; done
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/table.py

$(DEMO): pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[sim]'
	touch $@

$(DEV): pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[sim,hdf5,log,ros,serve,export,dev]'
	touch $(DEMO) $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "forerun needs Python 3.11 or newer; say which one to use: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making .venv and installing forerun into it; torch is large, so the first time takes a few minutes."
	$(PYTHON) -m venv .venv
