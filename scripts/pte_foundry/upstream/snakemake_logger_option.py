"""A target after ``--logger NAME``, which Snakemake takes for a second logger.

Stands against: snakemake 9.27.1
Repairs: the option ``--logger`` (``cli.py``), which takes all that follows: ``snakemake --logger
    foundry all`` ends in 160 lines of usage and ``invalid choice: 'all'``. The parser gets the
    targets behind ``--`` instead, with which it works.
Remove when: ``--logger`` takes one name.
"""

import sys
from collections.abc import Sequence
from functools import wraps
from typing import Any

from pte_foundry.upstream.versions import require

OPTION = "--logger"


def take_targets_after_loggers() -> None:
    """Makes Snakemake take what follows the names of loggers for targets."""
    from snakemake.common.argparse import ArgumentParser

    parameters = "self args namespace config_file_contents env_vars ignore_help_args"
    upstream = require(ArgumentParser, "parse_known_args", parameters, patch=__name__)
    if hasattr(upstream, "__wrapped__"):
        return

    @wraps(upstream)
    def parse_known_args(self: Any, args: Any = None, *others: Any, **named: Any) -> Any:
        args = sys.argv[1:] if args is None else args
        if not isinstance(args, str):
            args = separated(args, _loggers())
        return upstream(self, args, *others, **named)

    ArgumentParser.parse_known_args = parse_known_args


def separated(arguments: Sequence[str], loggers: Sequence[str]) -> list[str]:
    """Returns arguments of a command, with the targets after ``--logger NAME`` at the end.

    The first value is left, so that a misspelt logger is told.
    """
    options = list(arguments)
    end = options.index("--") if "--" in options else len(options)
    options, behind = options[:end], options[end + 1 :]
    if OPTION not in options:
        return list(arguments)
    first = options.index(OPTION) + 2
    last = next((i for i in range(first, len(options)) if options[i].startswith("-")), end)
    values = options[first:last]
    targets = [value for value in values if value not in loggers]
    if not targets:
        return list(arguments)
    kept = [value for value in values if value in loggers]
    return [*options[:first], *kept, *options[last:], "--", *targets, *behind]


def _loggers() -> list[str]:
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    return list(LoggerPluginRegistry().plugins)
