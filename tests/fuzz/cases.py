"""One case of the fuzzer: the bytes of a file, handled as ``inspect`` and ``run`` handle it."""

from __future__ import annotations

import numpy as np
import torch
from pte_foundry.errors import FoundryError
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.formats.mlpackage import parse_model
from pte_foundry.formats.pte_file import read_pte
from pte_foundry.limits import Limits
from pte_foundry.mil import Program
from pte_foundry.mil.inspect_model import describe_model
from pte_foundry.mil.signature import Input, numpy_dtype
from pte_foundry.pte import Pte
from pte_foundry.pte.memory import Slot

LIMITS = Limits(memory=1 << 28, steps=500, seconds=10)
_SEPARATOR = b"\0weights\0"


def join(model: bytes, weights: bytes | None) -> bytes:
    """A Core ML program as one file."""
    return model if weights is None else model + _SEPARATOR + weights


def run(kind: str, data: bytes) -> str:
    """Handle a file; returns how it ended, in one word.

    Args:
        kind: "pte", or "mil".
        data: the bytes, of :func:`join` for "mil".

    Raises:
        Exception: any but a FoundryError is a bug.
    """
    try:
        (_run_pte if kind == "pte" else _run_mil)(data)
    except FoundryError as error:
        str(error).encode("utf-8", "backslashreplace")
        return type(error).__name__
    return "ok"


def _run_pte(data: bytes) -> None:
    describe(data)
    program = Pte.load(data, LIMITS)
    for name, plan in read_pte(data).plans.items():
        inputs = [_tensor(index, plan.values[index].val) for index in plan.inputs]
        for _ in range(2):
            program.run(inputs, name)
    program.reset()


def _tensor(index: int, declared: object) -> object:
    if not hasattr(declared, "sizes"):
        return next(iter(vars(declared).values()), None) if declared is not None else None
    slot = Slot(index, declared)
    small = [min(size, 8) for size in declared.sizes]  # others are refused, which is a case too
    fits = slot.bytes < 1 << 20 and not slot.allows(small)
    return torch.ones(declared.sizes if fits else small).to(slot.dtype)


def _run_mil(data: bytes) -> None:
    model, separator, weights = data.partition(_SEPARATOR)
    describe_model(parse_model(model))
    program = Program.from_parts(model, weights if separator else None, LIMITS)
    for name, signature in program.functions.items():
        state = program.make_state(name)
        inputs = {i.name: _array(i) for i in signature.inputs if i.default is None}
        for _ in range(2):
            program.run(inputs, name, state=state or None)


def _array(given: Input) -> np.ndarray:
    shape = (
        given.shapes[0] if given.shapes else [2 if n is None else n for n in given.type.shape or ()]
    )
    if given.ranges:
        shape = [low for low, _ in given.ranges]
    if np.prod(shape, dtype=float) > 1 << 20:
        shape = [1] * len(shape)
    return np.ones(shape, numpy_dtype(given.type))
