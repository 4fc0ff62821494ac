"""Runs programs at the ends of the ranges of their dynamic sizes, where they go wrong.

torch traces a dynamic size as one of at least 2: ``squeeze()`` keeps it, and so the program is
another one than the model for a size of 1, without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pte_foundry.errors import ModelError
from pte_foundry.models.containers import leaves
from pte_foundry.models.tensors import Sample, as_sample

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule
    from pte_foundry.models.sizes import Sizes

_CLOSE = 1e-3
"""Largest difference, relative to the largest value: the same operators in another order."""


def check_bounds(
    model: ModelModule, module: nn.Module, program: ExportedProgram, method: str, sizes: Sizes
) -> None:
    """Runs the model and its exported program at the ends of all ranges, or enumerated shapes.

    Raises:
        ModelError: one of the two does not run, or they differ.
    """
    from pte_foundry.models import operators

    example = model.example_inputs(method)
    exported = program.module(check_guards=False)
    written = {str(node.target) for node in operators.states(exported.graph)}
    runs = {
        "the model": lambda *given: as_sample(model.run_named(module, given, method)),
        "its exported program": exported,
    }
    buffers = dict(module.named_buffers())
    held = {name: buffers.get(name) for name in written}
    held |= {f"{name} of the program": exported.get_buffer(name) for name in written}
    for shapes in sizes.choices(example):
        if shapes != tuple(tuple(tensor.shape) for tensor in example):
            compare(runs, resized(example, shapes), held, sizes.shown(shapes))


def compare(
    runs: Mapping[str, Callable[..., Any]],
    given: Sequence[torch.Tensor],
    held: Mapping[str, torch.Tensor | None],
    sizes: str,
) -> list[torch.Tensor]:
    """Runs the same inputs in two ways; returns the outputs of the second.

    Args:
        runs: the ways, by what messages call them.
        given: the inputs.
        held: buffers that a run may change; they have their values again afterwards.
        sizes: of the inputs, for messages.

    Raises:
        ModelError: one of the two does not run, or they differ.
    """
    outputs = []
    for name, run in runs.items():
        try:
            with _restored(held.values()), torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                found = run(*(tensor.clone() for tensor in given))
                outputs.append([x.clone() for _, x in leaves(found) if torch.is_tensor(x)])
        except Exception as error:
            raise ModelError(wrong(sizes, f"{name} fails: {error}")) from error
    if len(outputs[0]) != len(outputs[1]) or not all(map(_same, *outputs)):
        first, second = runs
        raise ModelError(wrong(sizes, f"{second} does not compute what {first} computes"))
    return outputs[1]


def resized(example: Sample, shapes: Sequence[Sequence[int]]) -> Sample:
    """Returns an example, repeated or cut to other shapes: its values are possible ones."""
    found = []
    for tensor, shape in zip(example, shapes, strict=True):
        for axis, size in enumerate(shape):
            if size != tensor.shape[axis]:
                tensor = tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])
        found.append(tensor)
    return tuple(found)


def wrong(sizes: str, problem: str) -> str:
    """Returns the message about a program that is not right for these sizes."""
    return (
        f"the program is not right for all sizes of dynamic_shapes(). With {sizes}, {problem}. "
        "Narrow the range, e.g. Dim(…, min=2), or remove what treats this size in another way: "
        "squeeze() without a dimension, a comparison of sizes, a broadcast"
    )


@contextmanager
def _restored(held: Collection[torch.Tensor | None]) -> Iterator[None]:
    kept = [(tensor, tensor.clone()) for tensor in held if tensor is not None]
    try:
        yield
    finally:
        for tensor, value in kept:
            tensor.copy_(value)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return False
    scale = one[finite].abs().max().clamp(min=1) if finite.any() else 1
    return not finite.any() or bool((one - other)[finite].abs().max() <= _CLOSE * scale)
