"""``pte-foundry resume``: cleans up after an interrupted build in this folder."""

import argparse
from pathlib import Path

from pte_foundry.workflow.resume import resume

DESCRIPTION = """\
Prepares the current folder for the next build after one that was killed: waits
for its steps that still run, removes Snakemake's lock, and deletes half-written
files below results/. Refuses while another build is running in the folder.
make calls it before every build."""
EXAMPLES = """\
  pte-foundry resume && snakemake --cores all
"""
EXIT_CODES = {1: "another build is working in this folder"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes no arguments: the folder is the current one."""


def run(arguments: argparse.Namespace) -> int:
    resume(Path.cwd())
    return 0
