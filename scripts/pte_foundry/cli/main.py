"""The sub-commands of ``pte-foundry``.

To add one, write a module ``cli/<command>.py`` and an entry in :data:`COMMANDS`. The module has
``DESCRIPTION`` and ``EXAMPLES`` for its ``--help``, and if they are its own ``EXIT_CODES``;
``add_arguments(parser)``; and ``run(arguments)``, which returns the exit code. It is imported when
its command is run, and imports libraries that load slowly (torch, coremltools) within functions.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import IO, NamedTuple

from pte_foundry.errors import FoundryError, LimitError
from pte_foundry.findings import did_you_mean
from pte_foundry.terminal import printable, screened


class Command(NamedTuple):
    """A sub-command: its heading in ``--help``, and its line there."""

    heading: str
    help: str


_BUILDS = "Builds"
_FILES = "Artifacts and other Core ML programs (.pte, .mlpackage)"
_MAINTENANCE = "Maintenance"

COMMANDS = {
    "new": Command(_BUILDS, "write the config entry of a new model, and its Python file"),
    "check": Command(_BUILDS, "check config files, and recipes against models"),
    "pin": Command(_BUILDS, "add the sha256 of weights and data to a config file"),
    "table": Command(_BUILDS, "print the table of builds"),
    "compare": Command(_BUILDS, "what differs between two builds"),
    "verify": Command(_BUILDS, "check all results against their checksums"),
    "diverge": Command(_BUILDS, "per-layer error attribution: find the layers that cost quality"),
    "inspect": Command(_FILES, "print the contents of a file, without running it"),
    "run": Command(_FILES, "execute a file on this machine, without a Mac"),
    "generate": Command(_FILES, "generate text with a language model in a .pte"),
    "ops": Command(_FILES, "list the supported Core ML operations by opset"),
    "config": Command(_MAINTENANCE, "print the JSON Schema or the reference of the config"),
    "resume": Command(_MAINTENANCE, "clean up after an interrupted build (make does it)"),
}

TRACEBACK = "PTE_FOUNDRY_TRACEBACK"

SUCCESS, ERROR, USAGE = 0, 1, 2
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED, BROKEN_PIPE = 130, 141  # what a shell shows for SIGINT and SIGPIPE

_HELP = """\
usage: pte-foundry [--traceback] COMMAND ...
       pte-foundry COMMAND --help

Checks configurations, and inspects, executes and analyses Core ML programs on
any machine. To build them, use make or snakemake: see README.md.

{commands}

Options:
  -h, --help   show this help; after a command, the help of that command
  --version    print the versions of pte-foundry and of its libraries
  --traceback  print the traceback of an error as well ({traceback}=1)

Examples:
  pte-foundry new vit --from hf:google/vit-base-patch16-224
  pte-foundry check config/config.yaml
  pte-foundry table --json | jq .totals
  pte-foundry inspect results/pte/minilm/lut4/ios18.pte
  pte-foundry run model.mlpackage --input x.npy --output outputs.npz
  pte-foundry diverge results/pte/minilm/lut4/ios18.pte --layers 5

Exit codes:
  0    success
  1    an error that the message explains, or a build that failed
  2    wrong usage
  3    from check --structure: the structure of a model is not known yet
  70   a bug in pte-foundry or in a library
  130  interrupted (Ctrl-C)
  141  the reader of the output has gone (| head)
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    Args:
        argv: the command and its arguments, to be run in this process. None: those of this process;
            a command that reads a file of somebody else then runs in a child, within limits.
    """
    isolated = argv is None
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # one that a caller has put there
            stream.reconfigure(errors="backslashreplace")  # a locale without UTF-8
    verbose = bool(os.environ.get(TRACEBACK))
    while argv and argv[0] == "--traceback":
        verbose, argv = True, argv[1:]
    with screened():
        return _guarded(lambda: _run(argv, isolated, verbose), verbose or "--traceback" in argv)


def _guarded(work: Callable[[], int], verbose: bool) -> int:
    """Runs something; reports its error, if it raises one; returns the exit code."""
    try:
        try:
            code = work()
        except SystemExit as left:  # argparse has printed help or usage
            code = left.code
        print(end="", flush=True)  # here, and not at the interpreter's exit, to see if it fails
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except BaseException as error:  # a panic of a library in Rust is no Exception
        if verbose:
            traceback.print_exc()
        if isinstance(error, OSError):
            _discard_output()  # it may be full
        return _report(error, verbose)


def _run(argv: list[str], isolated: bool, verbose: bool) -> int:
    # Three options come before the command. All others are those of a command.
    match argv[:1]:
        case ["-h" | "--help"]:
            print(help_text(), end="")
            return SUCCESS
        case ["--version"]:
            from pte_foundry.cli.versions import versions_text

            print(versions_text())
            return SUCCESS
        case []:
            return _usage("a command is missing")
        case [name] if name not in COMMANDS:
            if name.startswith("-"):
                return _usage(f"unknown option {name!r}; options of a command come after it")
            return _usage(f"unknown command {name!r}: {did_you_mean(name, COMMANDS, 'see --help')}")
    name, *rest = argv
    module = importlib.import_module(f"pte_foundry.cli.{name}")
    arguments = parser_of(name, module).parse_args(rest)
    if not isolated or not hasattr(arguments, "max_memory"):
        return module.run(arguments)
    from pte_foundry.cli import child
    from pte_foundry.cli.limits import limits_of

    verbose = verbose or arguments.traceback
    ended = child.run(
        lambda: _guarded(lambda: module.run(arguments), verbose), limits_of(arguments)
    )
    if isinstance(ended, str):
        raise LimitError(f"{arguments.file}: {ended}")
    return ended


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """Returns the parser of a command, given its name and module."""
    codes = {SUCCESS: "success", ERROR: "an error, which the message explains"}
    codes |= getattr(module, "EXIT_CODES", {}) | {USAGE: "wrong usage"}
    listed = "".join(f"  {code}  {meaning}\n" for code, meaning in sorted(codes.items()))
    parser = _Parser(
        prog=f"pte-foundry {name}",
        description=module.DESCRIPTION,
        epilog=f"examples:\n{module.EXAMPLES}\nexit codes:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    return parser


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: IO[str] | None = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse hides that a reader has gone


def _report(error: BaseException, verbose: bool) -> int:
    """Prints one message for an error; returns the exit code."""
    if isinstance(error, FoundryError):
        text, code = str(error), ERROR
    elif isinstance(error, MemoryError):
        text, code = "more memory is needed than there is, or than --max-memory allows", ERROR
    elif isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("pte_foundry"):
        text, code = f"{error}. {_MISSING}", ERROR
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        text, code = f"{where}{error.strerror or error}", ERROR
    else:
        text, code = f"{type(error).__name__}: {error}. {'' if verbose else _HOW}", BUG
        text = " ".join(text.split())
    for line in f"error: {text}".split("\n"):
        print(printable(line), file=sys.stderr)
    return code


_HOW = f"This is a bug; run it with --traceback or {TRACEBACK}=1 for a report."
_MISSING = (
    "Only the interpreter seems to be installed. Install everything with "
    "pip install 'pte-foundry[build]', or run make in a clone of the repository."
)


def _usage(message: str) -> int:
    print(f"pte-foundry: error: {printable(message)}", file=sys.stderr)
    print("usage: pte-foundry COMMAND ...; pte-foundry --help lists the commands", file=sys.stderr)
    return USAGE


def help_text() -> str:
    """Returns the text of ``pte-foundry --help``."""
    headings: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():
        headings.setdefault(command.heading, []).append(f"  {name:<10} {command.help}")
    commands = "\n\n".join(
        "\n".join([f"{heading}:", *lines]) for heading, lines in headings.items()
    )
    return _HELP.format(commands=commands, traceback=TRACEBACK)


def _discard_output() -> None:
    """Lets the interpreter flush its output at exit without a complaint."""
    with suppress(OSError):  # a stream of a test has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
