"""Argument patterns: calls of torch operators with small inputs.

A pattern is a function of tensors, the inputs of a program, and values for them. Whatever else an
operator takes is a constant of the program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pte_foundry.upstream import torch_operator_samples

SAMPLES = 3
"""Calls of torch's own that are taken of an operator and a dtype."""

LARGEST = 2_000
"""Elements of an input; torch's samples are small but for a few."""


@dataclass(frozen=True)
class Pattern:
    """A call of an operator.

    Attributes:
        operator: without its overload: ``aten.max``.
        label: what is special about it; unique for an operator.
        call: takes the inputs, returns what the operator does.
        inputs: the tensors that the call is compared with torch on.
    """

    operator: str
    label: str
    call: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]


class Call(torch.nn.Module):
    """A module whose outputs are the tensors that a pattern's call returns.

    A call without tensors is given one: its result is added to the input.
    """

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self._call = pattern.call

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = pytree.tree_leaves(self._call(*inputs))
        return tuple(result for result in results if isinstance(result, torch.Tensor))


def of_torch(operator: str, infos: Iterable[Any]) -> Iterator[Pattern]:
    """Yield patterns of an operator from torch's own samples: a few that differ in structure."""
    for info in infos:
        for dtype in (torch.float32, torch.int32, torch.bool):
            different: dict[str, tuple] = {}
            for arguments in torch_operator_samples.samples(info, dtype):
                label = _label(*arguments)
                if label is not None:
                    different.setdefault(_structure(label), (label, arguments))
            # Scalars last, so that they are the one that is left out or taken once.
            chosen = sorted(different.values(), key=lambda one: "[]" in one[0])
            wanted = SAMPLES if dtype == torch.float32 else 1
            for label, arguments in _spread(chosen, wanted):
                name = f"{info.variant_test_name}: {label}" if info.variant_test_name else label
                yield _pattern(operator, name, info.op, *arguments)


def _pattern(operator: str, label: str, function: Any, args: tuple, kwargs: dict) -> Pattern:
    leaves, structure = pytree.tree_flatten((args, kwargs))
    inputs = tuple(leaf.detach().contiguous() for leaf in leaves if isinstance(leaf, torch.Tensor))

    def call(*tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(filled, structure)
        return function(*args, **kwargs)

    if inputs:
        return Pattern(operator, label, call, inputs)
    return constant(operator, label, lambda: function(*args, **kwargs))


def constant(operator: str, label: str, function: Callable[[], torch.Tensor]) -> Pattern:
    """Returns the pattern of a call without tensors, whose result is added to an input."""

    def call(x: torch.Tensor) -> torch.Tensor:
        return x ^ function() if x.dtype == torch.bool else x + function()

    return Pattern(operator, label, call, (torch.zeros_like(function()),))


def _label(args: tuple, kwargs: dict) -> str | None:
    """Describes arguments; None if they are not a pattern: without elements, or large."""
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor) and not 0 < leaf.numel() <= LARGEST:
            return None
        if isinstance(leaf, torch.dtype) and leaf.is_complex:
            return None
    shown = [_shown(value) for value in args]
    shown += [f"{name}={_shown(value)}" for name, value in kwargs.items()]
    return ", ".join(shown)


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.").replace("float", "f").replace("int", "i")
        return f"{dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).removeprefix("torch.")


def _structure(label: str) -> str:
    """Returns a label without the sizes: calls that are equal in this exercise the same code."""
    without_sizes = re.sub(r"\[([^]]*)\]", lambda m: f"[{m[1].count(',') + bool(m[1])}]", label)
    return re.sub(r"(?<![\w\[])\d+\.?\d*(e[+-]?\d+)?", "N", without_sizes)


def _spread(values: list, wanted: int) -> list:
    """Chooses values over the whole length of a list."""
    if len(values) <= wanted:
        return values
    return [values[round(i * (len(values) - 1) / max(wanted - 1, 1))] for i in range(wanted)]


def of_ours(calls: Iterable[tuple]) -> Iterator[Pattern]:
    """Yields the patterns of a table of calls."""
    for operator, label, function, *inputs in calls:
        yield Pattern(operator, label, function, tuple(inputs))
