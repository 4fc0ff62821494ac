"""Core ML programs without a Mac: run one, say what it holds, list the known operations."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import cli
from scripts.errors import FoundryError, InputError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Runs a function once and prints the range of each output."""
    from scripts.mil import show
    from scripts.mil.arrays import write_arrays

    runner = _run_pte if arguments.model.suffix == ".pte" else _run_package
    outputs = runner(arguments)
    if arguments.output:
        write_arrays(arguments.output, outputs)
    if arguments.json:
        print(json.dumps(show.summary(outputs), indent=1))
    else:
        show.outputs(console, outputs)


def inspect(arguments: argparse.Namespace, console: Console) -> None:
    """Prints what a model holds."""
    from scripts.mil import show
    from scripts.mil.inspect import describe_model, describe_package

    if arguments.model.suffix != ".pte":
        described = describe_package(_existing(arguments.model))
        if arguments.json:
            print(json.dumps(described, indent=1))
        else:
            show.package(console, described)
        return
    from scripts.pte import Pte, coreml
    from scripts.pte.inspect import describe

    described = describe(_existing(arguments.model)).to_dict()
    models = [
        describe_model(delegate.model.spec)
        if delegate.backend_id == coreml.BACKEND and not delegate.model.compiled
        else {}
        for delegate in Pte.load(arguments.model).delegates
    ]
    if arguments.json:
        print(json.dumps(described | {"models": models}, indent=1))
    else:
        show.pte(console, described, models)


def ops(arguments: argparse.Namespace, console: Console) -> None:
    """Prints which operation is implemented at which opset."""
    from scripts.mil import coverage, show
    from scripts.mil.registry import OPSETS

    logging.disable()  # coremltools tells of every library that it does not find
    rows = coverage.table()
    logging.disable(logging.NOTSET)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        show.ops(console, rows, list(OPSETS.values()))


def _run_package(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    from scripts.mil import Program
    from scripts.mil.arrays import read_arrays, write_arrays

    program = Program.load(_existing(arguments.model))
    function = arguments.function or _only(list(program.functions))
    if function not in program.functions:
        raise InputError(f"no function {function!r}; there are {', '.join(program.functions)}")
    # A default makes an input one that need not be named, not one that cannot be.
    signature = program.functions[function]
    required = [i.name for i in signature.inputs if i.default is None]
    inputs = _named(arguments.input, required or [i.name for i in signature.inputs])
    state = program.make_state(function)
    if arguments.state and not state:
        raise InputError(f"{function!r} has no states for --state")
    if arguments.state and arguments.state.exists():
        state = read_arrays(arguments.state)
        if unknown := sorted(set(state) - {s.name for s in signature.states}):
            known = ", ".join(s.name for s in signature.states)
            raise InputError(f"{arguments.state}: unknown states {unknown}; there are {known}")
    outputs = program.run(inputs, function=function, state=state)
    if arguments.state:
        write_arrays(arguments.state, state)
    return outputs


def _run_pte(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    import torch

    from scripts.mil.arrays import read_array
    from scripts.pte import Pte

    if arguments.state:
        raise InputError("--state is for .mlpackage; a .pte starts with its own buffers")
    program = Pte.load(_existing(arguments.model))
    method = arguments.function or _only(program.methods)
    arrays = [read_array(Path(text)) for text in arguments.input]  # in order: they have no names
    outputs = program.run([torch.from_numpy(array) for array in arrays], method)
    return {
        f"output{number}": (o if isinstance(o, torch.Tensor) else torch.tensor(o)).numpy()
        for number, o in enumerate(outputs)
    }


def _named(given: list[str], names: list[str]) -> dict[str, np.ndarray]:
    """The inputs by name: from ``NAME=x.npy``, from ``.npz``, or one that needs no name."""
    from scripts.mil.arrays import read_array, read_arrays

    inputs: dict[str, np.ndarray] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if separator and not Path(text).exists():
            read = {name: read_array(Path(path))}
        elif text.endswith(".npz"):
            read = read_arrays(Path(text))
        elif len(names) == 1:
            read = {names[0]: read_array(Path(text))}
        else:
            raise InputError(
                f"--input {text}: which input is it? Write NAME={text}; "
                f"the names are {', '.join(names) or 'none'}"
            )
        if twice := sorted(inputs.keys() & read.keys()):
            raise InputError(f"the input {twice[0]!r} is given twice")
        inputs |= read
    return inputs


def _only(names: list[str]) -> str:
    """The function to run if none was named."""
    usual = [name for name in ("main", "forward") if name in names] or names
    if len(usual) != 1:
        raise InputError(f"which function? Name one with --function: {', '.join(names)}")
    return usual[0]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    return path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.mil", description=__doc__, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable, takes_model: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        made.set_defaults(command=function)
        if takes_model:
            made.add_argument("model", type=Path, help="an .mlpackage, or a .pte")
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    running = command("run", run)
    running.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="x.npy, NAME=x.npy, or a .npz with an array for each name; may be repeated",
    )
    running.add_argument("--function", help="what to run, where there is a choice")
    running.add_argument(
        "--output", type=Path, help="where to write the outputs: a .npz, or a folder for .npy"
    )
    running.add_argument(
        "--state",
        type=Path,
        help="a .npz with the states: read if it exists, else they start at zero; written after",
    )
    command("inspect", inspect)
    command("ops", ops, takes_model=False)
    arguments = parser.parse_args(argv)
    try:
        arguments.command(arguments, cli.console())
    except (FoundryError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
