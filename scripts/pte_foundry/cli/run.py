"""``pte-foundry run``: executes a ``.pte`` or ``.mlpackage`` once, without a Mac."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.cli.console import cell, console, table
from pte_foundry.cli.files import add_model, existing
from pte_foundry.cli.limits import limits_of
from pte_foundry.errors import InputError, ProgramError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

DESCRIPTION = """\
Executes a function once on this machine, and prints shape, dtype and range of
every output. Core ML models are executed by the reference interpreter: results
are those of the program, not of an Apple device. Arrays are numpy files, and
must have the dtype and shape that pte-foundry inspect shows."""
EXAMPLES = """\
  pte-foundry run model.mlpackage --input x.npy --output outputs.npz
  pte-foundry run model.mlpackage --input a=one.npy --input b=two.npy
  pte-foundry run decoder.mlpackage --function step --input x.npy --state s.npz
  pte-foundry run pte/minilm/lut4/ios18.pte --input ids.npy --input mask.npy
  pte-foundry run whisper.pte --method encoder --input features.npy
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="x.npy if there is one input, NAME=x.npy, or a .npz with an array for each name; "
        "for a .pte, x.npy in the order of its inputs; may be repeated",
    )
    parser.add_argument(
        "--function",
        "--method",
        metavar="NAME",
        help="the function, or the method of a .pte (main, forward, or the only one)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="write the outputs here: a .npz, or a folder for one .npy each",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="a .npz with the states of an .mlpackage: read if it exists, else they start at "
        "zero; written after the run",
    )
    parser.add_argument(
        "--json", action="store_true", help="print shape, dtype and range of the outputs as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.mil.arrays import write_arrays

    runner = _run_pte if arguments.file.suffix == ".pte" else _run_package
    outputs = runner(arguments)
    if arguments.output:
        write_arrays(arguments.output, outputs)
    ranges = summary(outputs)
    if arguments.json:
        print(json.dumps(ranges, indent=1))
    else:
        _print_outputs(console(), ranges)
    return 0


def summary(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns shape, dtype, range of the finite values, and number of the others, by name."""
    import numpy as np

    found = {}
    for name, array in arrays.items():
        finite = array[np.isfinite(array)]
        found[name] = {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "min": finite.min().item() if finite.size else None,
            "max": finite.max().item() if finite.size else None,
            "nonfinite": int(array.size - finite.size),
        }
    return found


def _print_outputs(console: Console, ranges: Mapping[str, Mapping[str, Any]]) -> None:
    shown = table("output", "shape", "dtype", "min", "max", right=("min", "max"))
    for name, row in ranges.items():
        low, high = ("" if row[key] is None else f"{row[key]:.6g}" for key in ("min", "max"))
        shape = " × ".join(map(str, row["shape"])) or "scalar"
        shown.add_row(cell(name), shape, row["dtype"], low, high)
    console.print(shown)
    for name, row in ranges.items():
        if row["nonfinite"]:
            text = f"{name}: {row['nonfinite']} of its values are inf or nan"
            console.print(cell(text, "yellow"), soft_wrap=True)


def _run_package(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    from pte_foundry.mil import Program
    from pte_foundry.mil.arrays import read_arrays, write_arrays

    program = Program.load(existing(arguments.file), limits_of(arguments))
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
    program = Pte.load(existing(arguments.file), limits_of(arguments))
    method = arguments.function or _only([m for m in program.methods if m not in program.constants])
    arrays = [read_array(Path(text)) for text in arguments.input]  # in order: they have no names
    outputs = program.run([torch.from_numpy(array) for array in arrays], method)
    arrays = {}
    for number, output in enumerate(outputs):
        if isinstance(output, str | list):
            kind = "text" if isinstance(output, str) else "list"
            raise ProgramError(f"output {number} is a {kind}, expected a tensor or a number")
        if output is not None:  # an output that the model leaves out
            tensor = output if isinstance(output, torch.Tensor) else torch.tensor(output)
            arrays[f"output{number}"] = tensor.numpy()
    return arrays


def _named(given: list[str], names: list[str]) -> dict[str, np.ndarray]:
    """Returns inputs by name: from ``NAME=x.npy``, from ``.npz``, or one that needs no name."""
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
    """Returns the function to run if none was named."""
    usual = [name for name in ("main", "forward") if name in names] or names
    if len(usual) != 1:
        raise InputError(f"which one? Name it with --function or --method: {', '.join(names)}")
    return usual[0]
