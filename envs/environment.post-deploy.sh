#!/usr/bin/env bash
# Snakemake runs this in the new conda environment, in a copy of this folder's parent.
set -euo pipefail
lock="$(dirname "${BASH_SOURCE[0]}")/requirements.lock"
python -m pip install --no-deps --require-hashes -r "$lock"
