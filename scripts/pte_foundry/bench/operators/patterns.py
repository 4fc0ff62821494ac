"""Argument patterns: calls of torch operators with small inputs.

A pattern is a function of tensors, the inputs of a program, and values for them. Whatever else an
operator takes is a constant of the program.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any

import torch

from pte_foundry.bench.operators.calls import CALLS
from pte_foundry.upstream import coremltools_operators, torch_operator_samples

SAMPLES = {torch.float32: 2, torch.int32: 1}
"""Calls that are taken of torch's own for an operator, by dtype of its first tensor."""

LARGEST = 2_000
"""Elements of an input; torch's samples are small but for a few."""

RANDOM = {
    "dropout",
    "empty",
    "empty_like",
    "feature_dropout",
    "multinomial",
    "native_dropout",
    "new_empty",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "rrelu",
}
"""Operators whose values are random or undefined in torch's samples."""

TIED = {"argmax", "argmin", "argsort", "max", "min", "sort", "topk"}
"""Operators that may give the place of any of several equal elements: no samples of integers."""

WEIGHTED = {
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "native_layer_norm",
    "prelu",
    "rms_norm",
}
"""Operators whose other tensors are weights: constants of the program, as in every model."""

NO_PROGRAM = {
    name: reason
    for reason, names in {
        "only in models for sequences of TorchScript": (
            "_pack_padded_sequence",
            "_pad_packed_sequence",
        ),
        "only with a kernel of its own layout": (
            "_convert_weight_to_int4pack",
            "_convert_weight_to_int4pack_for_cpu",
            "_weight_int4pack_mm",
            "_weight_int4pack_mm_for_cpu",
        ),
        "a check, without a result": (
            "_assert_async",
            "_assert_scalar",
            "sym_constrain_range",
            "sym_constrain_range_for_size",
        ),
        "of dynamic shapes": ("sym_size",),
        "exported as another operator": ("lift_fresh",),
        "a quantized dtype, which torch.export does not trace": (
            "quantize_per_channel",
            "quantize_per_tensor",
        ),
    }.items()
    for name in names
}
"""Registered operators without patterns, and why no program of one can be compared."""


@dataclass(frozen=True)
class Pattern:
    """A call of an operator.

    Attributes:
        operator: without its overload: ``aten.max``.
        label: what is special about it; unique for an operator.
        call: takes the inputs, returns what the operator does.
        inputs: the tensors that the call is compared with torch on.
        random: its values are random or undefined; only dtypes and shapes are compared.
    """

    operator: str
    label: str
    call: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]
    random: bool = False

    def digest(self) -> str:
        """Returns a digest that changes with the inputs, and with the code of the call."""
        total = hashlib.sha256(repr((self.operator, self.label, self.random)).encode())
        for x in self.inputs:
            total.update(f"{x.dtype} {tuple(x.shape)} {x.tolist()}".encode())
        function = getattr(self.call, "function", self.call)
        total.update(_code(function).encode())
        return total.hexdigest()


def _code(function: Any) -> str:
    """Returns what a function does, as far as it is known: the names and constants it uses too."""
    code = getattr(function, "__code__", function)
    if not isinstance(code, CodeType):
        return getattr(function, "__qualname__", str(function))
    parts = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, code.co_names, parts))


def all_patterns() -> dict[tuple[str, str], Pattern]:
    """Returns the patterns of all operators that Core ML's frontend registers.

    Returns:
        by operator and label, sorted.
    """
    infos = torch_operator_samples.by_operator()
    found: dict[tuple[str, str], Pattern] = {}
    for pattern in of_ours(CALLS):
        found[pattern.operator, pattern.label] = pattern
    for operator in registered():
        for pattern in of_torch(operator, infos.get(operator, ())):
            found.setdefault((pattern.operator, pattern.label), pattern)
    return dict(sorted(found.items()))


def registered() -> list[str]:
    """Returns the operators that Core ML's frontend registers, without namespace and overload."""
    return sorted({name.split(".")[1] for name in coremltools_operators.converted()})


def of_torch(operator: str, infos: Iterable[Any]) -> Iterator[Pattern]:
    """Yields patterns of an operator from torch's own samples: a few that differ in structure."""
    for dtype, wanted in SAMPLES.items():
        if operator in TIED and not dtype.is_floating_point:
            continue
        different: dict[str, tuple] = {}
        for info in infos:
            for args, kwargs in torch_operator_samples.samples(info, dtype):
                label = _label(args, kwargs)
                if label is not None:
                    structure = f"{info.variant_test_name} {_structure(label)}"
                    different.setdefault(structure, (label, info.op, args, kwargs))
        # Scalars last, so that they are the one that is left out, or taken once.
        chosen = sorted(different.values(), key=lambda one: "[]" in one[0])
        for label, function, args, kwargs in _spread(chosen, wanted):
            made = _pattern(operator, label, function, args, kwargs)
            yield replace(made, random=operator in RANDOM)


def _pattern(operator: str, label: str, function: Any, args: tuple, kwargs: dict) -> Pattern:
    tensors = [x.contiguous() for x in leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    given = 1 if operator in WEIGHTED else len(tensors)
    inputs, weights = tuple(tensors[:given]), tensors[given:]

    def call(*inputs: torch.Tensor) -> Any:
        args_, kwargs_ = _filled((args, kwargs), iter((*inputs, *weights)))
        return function(*args_, **kwargs_)

    call.function = function
    if inputs:
        return Pattern(operator, label, call, inputs)
    return constant(operator, label, lambda: function(*args, **kwargs))


def leaves(value: Any) -> Iterator[Any]:
    """Yields what is in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield value
        return
    for item in value:
        yield from leaves(item)


def _filled(value: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """Returns a nested value with other tensors in place of its own."""
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, tensors) for item in value]
    return next(tensors) if isinstance(value, torch.Tensor) else value


def constant(operator: str, label: str, function: Callable[[], torch.Tensor]) -> Pattern:
    """Returns the pattern of a call without tensors, whose result is added to an input."""

    def call(x: torch.Tensor) -> torch.Tensor:
        return x ^ function() if x.dtype == torch.bool else x + function()

    return Pattern(operator, label, call, (torch.zeros_like(function()),))


def _label(args: tuple, kwargs: dict) -> str | None:
    """Describes arguments; None for tensors that are empty, large, complex or sparse."""
    for leaf in leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor) and (leaf.is_complex() or leaf.layout != torch.strided):
            return None
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
    for operator, label, function, *tensors in calls:
        yield _pattern(operator, label or "plain", function, tuple(tensors), {})
