"""A step that imports the libraries of its kind and does nothing else: a job's fixed cost."""

from __future__ import annotations

import sys

from pte_foundry.job import command
from pte_foundry.job.fork_server import KINDS

LOADED_ALREADY, LOADS = "libraries are loaded already", "libraries must be loaded"
"""The first line that it prints: in a fork of a preloaded process, and in a process of its own."""


def main(argv: list[str] | None = None) -> int:
    """Runs the step."""
    parser = command.parser(__doc__)
    parser.add_argument("--kind", choices=KINDS, required=True)
    arguments = parser.parse_args(argv)

    def step() -> None:
        print(LOADED_ALREADY if "torch" in sys.modules else LOADS)
        from pte_foundry.job.fork_server.libraries import load_kind

        load_kind(arguments.kind)

    return command.run(arguments, step, fork=arguments.kind)


if __name__ == "__main__":
    raise SystemExit(main())
