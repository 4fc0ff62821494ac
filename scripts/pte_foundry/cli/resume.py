"""``pte-foundry resume``: cleans up after an interrupted build in this folder."""

import argparse
from pathlib import Path

from pte_foundry.workflow.resume import begin

DESCRIPTION = """\
Prepares the current folder for the next build after one that was killed: waits
for its steps that still run, removes its locks, and deletes the half-written
files that they have left, and nothing else. Every build does the same when it
begins. Refuses while another build is running in the folder, on this host or
another one, and names its host, user and process."""
EXAMPLES = """\
  pte-foundry resume
  pte-foundry resume --force   # after a build on another host, which has ended
"""
EXIT_CODES = {1: "another build is running in the folder, or may be"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove the lock of a build on another host or in another container, of which this "
        "host cannot tell that it has ended",
    )


def run(arguments: argparse.Namespace) -> int:
    begin(Path.cwd(), builds=False, force=arguments.force).release()
    return 0
