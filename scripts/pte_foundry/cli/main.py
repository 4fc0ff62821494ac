"""The sub-commands of ``pte-foundry``. To add one, write a module and an entry in ``COMMANDS``."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NamedTuple

from pte_foundry.errors import FoundryError


class Command(NamedTuple):
    """A sub-command: its module below ``cli``, loaded only when asked for, and its two functions."""

    module: str
    help: str
    add_arguments: str = "add_arguments"
    run: str = "run"


COMMANDS = {
    "check": Command("check", "check config files, and recipes against the models"),
    "table": Command("table", "print the table of builds"),
    "inspect": Command(
        "program", "print what a .pte or .mlpackage contains", "add_inspect_arguments", "inspect"
    ),
    "run": Command("program", "execute a .pte or .mlpackage", "add_run_arguments", "run"),
    "diverge": Command("diverge", "attribute an artifact's error to its layers"),
    "ops": Command("program", "list the Core ML operations and opsets", "add_ops_arguments", "ops"),
    "config": Command("config", "print the JSON Schema or the reference of the config"),
    "resume": Command("resume", "clear what an interrupted build left in this folder"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code, 1 after an error that the user can fix."""
    parser = argparse.ArgumentParser(prog="pte-foundry", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    argv = sys.argv[1:] if argv is None else argv
    for name, entry in COMMANDS.items():
        made = commands.add_parser(name, help=entry.help, description=entry.help)
        if name in argv[:1]:
            module = importlib.import_module(f"pte_foundry.cli.{entry.module}")
            getattr(module, entry.add_arguments)(made)
            made.set_defaults(run=getattr(module, entry.run))
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (FoundryError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
