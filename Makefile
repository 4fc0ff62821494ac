# make         builds the default configuration and ends with a table of builds
# make test    runs the whole test suite
# make bench   measures ours against upstream, side by side
# make lock    resolves envs/*.in anew into envs/requirements.lock

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: build test bench lock environment clean

PYTHON ?= python3.11
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR):$(CURDIR)/scripts/progress

# The environment is made anew when its lock changes in content, not when it is merely touched.
environment:
	@digest=$$(sha256sum < envs/requirements.lock); \
	if [[ ! -f $(READY) || "$$(cat $(READY))" != "$$digest" ]]; then \
	  echo "Creating the environment from envs/requirements.lock (a few minutes, once)"; \
	  rm -rf $(VENV); \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r envs/requirements.lock; \
	  echo "$$digest" > $(READY); \
	fi

build: environment
	@snakemake --logger foundry --cores $(CORES) structure
	@status=0; snakemake --logger foundry --cores $(CORES) || status=$$?; \
	if [[ -f results/summary.json ]]; then python -m scripts.table results/summary.json || status=1; fi; \
	exit $$status

test: environment
	@ruff check .
	@ruff format --check .
	@snakefmt --check Snakefile rules
	@snakemake --lint
	@python -m pytest -n 2 --dist loadgroup

bench: environment
	@python -m scripts.bench --output results/bench

lock:
	@$(PYTHON) envs/lock.py

clean:
	rm -rf results logs benchmarks .snakemake
