# make         builds the default configuration and ends with a table of builds
# make test    runs the whole test suite
# make bench   measures ours against upstream, side by side
# make lock    resolves envs/*.in anew into envs/*.lock

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: build test bench lock environment clean

PYTHON ?= python3.11
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := envs/requirements$(if $(filter Darwin,$(shell uname)),-macos).lock

export PATH := $(CURDIR)/$(BIN):$(PATH)

# The environment is made anew when its lock changes in content, not when it is merely touched.
environment:
	@if ! cmp -s $(LOCK) $(READY); then \
	  if [[ "$$($(PYTHON) -V 2>&1)" != "Python 3.11."* ]]; then \
	    echo "error: Python 3.11 is needed, and $(PYTHON) is not; name one: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating the environment from $(LOCK) (a few minutes, once)"; \
	  rm -rf $(VENV); \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(LOCK); \
	  cp $(LOCK) $(READY); \
	fi

build: environment
	@pte-foundry resume
	@pte-foundry check --structure config/config.yaml || { [[ $$? == 3 ]] && \
	  { snakemake --logger foundry --cores $(CORES) structure || true; }; } # the other models go on
	@snakemake --logger foundry --cores $(CORES)
	@pte-foundry table

test: environment
	@ruff check .
	@ruff format --check .
	@snakefmt --check Snakefile rules
	@snakemake --lint
	@python -m pytest -n 2

bench: environment
	@python -P -m pte_foundry.bench --output results/bench

lock:
	@$(PYTHON) envs/lock.py

clean:
	rm -rf results logs benchmarks .snakemake
