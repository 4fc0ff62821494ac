# make         builds the default configuration, or CONFIG=FILE, and ends with a table of builds
# make test    runs the whole test suite
# make fuzz    runs 100,000 random .mlpackage and .pte files against the loaders and interpreters
# make verify  checks all results against their checksums
# make bench   measures ours against upstream, side by side
# make bench-large  builds a language model of 1.24 billion parameters, and draws what memory it takes
# make operators  after an upgrade: the long tests, and a sweep of every torch operator of Core ML
# make lock    resolves envs/*.in into envs/*.lock

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: build test fuzz verify bench bench-large operators lock environment clean

CORES ?= all

# Recipes run from the environment's own folder: another make can change the link .venv meanwhile.
SEARCH := $(PATH)
export PATH = $(if $(realpath .venv),$(realpath .venv)/bin:)$(SEARCH)
unexport PYTHONPATH PYTHONHOME

# PYTHON=/path/to/python3.11 chooses a Python, TORCH_INDEX=URL an index with the CPU build of torch.
environment:
	@python=$$(bash envs/python.sh) && exec "$$python" -BEsS envs/create.py

# FORCE=1 after a build that was killed on another host: its lock counts until a person says so.
build: environment
	@pte-foundry resume $(if $(FORCE),--force) -- $(SHELL) $(.SHELLFLAGS) "$$BUILD"

# One command, during which no other build begins in this folder.
export CHOSEN = $(if $(filter command,$(origin CONFIG)),$(CONFIG))
define BUILD
trap 'exit 130' INT
pte-foundry check --structure "$${CHOSEN:-config/config.yaml}" || { [[ $$? == 3 ]] && \
  { snakemake --logger foundry --logger-foundry-progress-only --cores $(CORES) --until export \
    $${CHOSEN:+--configfile "$$CHOSEN"} 2> /dev/null || true; }; } # the next one tells what is wrong
snakemake --logger foundry --cores $(CORES) $${CHOSEN:+--configfile "$$CHOSEN"} # and a table of failures
pte-foundry table
endef
export BUILD

test: environment
	@ruff check .
	@ruff format --check .
	@snakefmt --check Snakefile rules
	@snakemake --lint
	@python -m pytest -n 2 --dist worksteal

verify: environment
	@pte-foundry verify

fuzz: environment
	@python -m tests.fuzz --cases 100000

bench: environment
	@python -P -m pte_foundry.bench --output results/bench

bench-large: environment
	@python -P -m pte_foundry.bench.large --output results/bench

operators: environment
	@python -m pytest -n 2 -m upgrade
	@python -P -m pte_foundry.bench.operators --results results/operators.jsonl

lock:
	@python=$$(bash envs/python.sh) && exec "$$python" envs/lock.py

clean:
	rm -rf results logs benchmarks .snakemake
