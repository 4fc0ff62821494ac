"""``pte-foundry resume``: clears what an interrupted build left in this folder."""

import argparse
from pathlib import Path

from pte_foundry.workflow.resume import resume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes no arguments: the folder is the current one."""


def run(arguments: argparse.Namespace) -> int:
    resume(Path.cwd())
    return 0
