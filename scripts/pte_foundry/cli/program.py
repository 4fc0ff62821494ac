"""Core ML programs without a Mac: run one, say what it holds, list the known operations."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pte_foundry.cli.console import console
from pte_foundry.errors import InputError

if TYPE_CHECKING:
    import numpy as np


def run(arguments: argparse.Namespace) -> int:
    """Runs a function once and prints the range of each output."""
    from pte_foundry.cli import show_program
    from pte_foundry.mil.arrays import write_arrays

    runner = _run_pte if arguments.model.suffix == ".pte" else _run_package
    outputs = runner(arguments)
    if arguments.output:
        write_arrays(arguments.output, outputs)
    if arguments.json:
        print(json.dumps(show_program.summary(outputs), indent=1))
    else:
        show_program.outputs(console(), outputs)
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Prints what a model holds."""
    from pte_foundry.cli import show_program
    from pte_foundry.mil.inspect_model import describe_model, describe_package

    if arguments.model.suffix != ".pte":
        described = describe_package(_existing(arguments.model))
        if arguments.json:
            print(json.dumps(described, indent=1))
        else:
            show_program.package(console(), described)
        return 0
    from pte_foundry.formats import coreml_delegate as coreml
    from pte_foundry.formats.inspect_pte import describe
    from pte_foundry.pte import Pte

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
        show_program.pte(console(), described, models)
    return 0


def ops(arguments: argparse.Namespace) -> int:
    """Prints which operation is implemented at which opset."""
    from pte_foundry.cli import show_program
    from pte_foundry.mil import coverage
    from pte_foundry.mil.registry import OPSETS

    logging.disable()  # coremltools tells of every library that it does not find
    rows = coverage.table()
    logging.disable(logging.NOTSET)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        show_program.ops(console(), rows, list(OPSETS.values()))
    return 0


def _run_package(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    from pte_foundry.mil import Program
    from pte_foundry.mil.arrays import read_arrays, write_arrays

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

    from pte_foundry.mil.arrays import read_array
    from pte_foundry.pte import Pte

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
    from pte_foundry.mil.arrays import read_array, read_arrays

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


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add_inspect_arguments(parser)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="x.npy, NAME=x.npy, or a .npz with an array for each name; may be repeated",
    )
    parser.add_argument("--function", help="what to run, where there is a choice")
    parser.add_argument(
        "--output", type=Path, help="where to write the outputs: a .npz, or a folder for .npy"
    )
    parser.add_argument(
        "--state",
        type=Path,
        help="a .npz with the states: read if it exists, else they start at zero; written after",
    )


def add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an .mlpackage, or a .pte")
    add_ops_arguments(parser)


def add_ops_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
