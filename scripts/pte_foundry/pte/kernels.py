"""Operators that a program calls outside of its delegates, computed by torch.

ExecuTorch calls the ``out`` variants of ATen operators, a few in-place ones, and its own operators
on shapes and scalars (executorch 1.5: ``exir/emit/_emitter.py`` for the order of arguments,
``kernels/prim_ops/register_prim_ops.cpp`` for its own operators).

A program is untrusted, so the operators come from an allow-list: those that ExecuTorch's runtime
has, and that only compute. An operator that takes a device, storage or generator is unsupported, as
are complex numbers. Arguments that torch trusts are checked
(:mod:`pte_foundry.pte.argument_checks`), and numbers are those of ExecuTorch: bool, int64 and fp64.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch

from pte_foundry.errors import ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.pte.argument_checks import CHECKED, CHECKS
from pte_foundry.pte.scalar_types import DTYPES
from pte_foundry.upstream import torch_operators, torch_quantized_operators
from pte_foundry.upstream.executorch_kernels import framework
from pte_foundry.upstream.torch_operators import OpOverload


class Frame(Protocol):
    """The values of a running method, by index."""

    def get(self, index: int) -> Any:
        """Return a value as torch takes it: a tensor, number, string, None, or list of these."""

    def set(self, index: int, value: Any) -> None:
        """Store a result; a tensor is written into the memory planned for it."""

    def alias(self, index: int, tensor: torch.Tensor) -> None:
        """Store a tensor that is a view of another value."""

    def room(self, index: int) -> torch.Tensor | list[torch.Tensor]:
        """Return an empty tensor of a result's dtype, or a list of them for a list of tensors."""

    def reserve(self, index: int, sizes: list[int]) -> torch.Tensor:
        """Resize a tensor within the memory planned for it; its contents stay. Return it."""


Kernel = Callable[[Frame, list[int]], None]
"""Computes one call: takes the values of a method, and the indices of its arguments and results."""

_TYPES = frozenset({"Tensor", "number", "int", "float", "bool", "ScalarType", "MemoryFormat"})
_TYPES |= {"Layout"}
_IN_PLACE = frozenset({"copy_", "index_put_"})
# They take or return complex numbers, and no value of a program has such a dtype.
_COMPLEX = frozenset({"_conj_physical", "_fft_c2r", "_fft_r2c", "view_as_real_copy"})
_INT64 = range(-(2**63), 2**63)
_MEMORY_FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last)


def find_kernel(op: pte_schema.Operator) -> Kernel | None:
    """Return the kernel of an operator, or None if ExecuTorch's runtime or this one lacks it."""
    if framework(".".join(filter(None, (op.name, op.overload)))) is None:
        return None
    namespace, _, name = op.name.partition("::")
    own = _OWN.get((op.name, op.overload))
    if own is not None:
        return own
    if namespace == "quantized_decomposed":
        return _quantized(name, op.overload)
    if namespace == "aten":
        return _aten(name, op.overload)
    return None


def _aten(name: str, overload: str) -> Kernel | None:
    function = torch_operators.find("aten", name, overload or "default")
    if function is None or name in _COMPLEX:
        return None
    arguments = torch_operators.schema(function).arguments
    writes = any(argument.is_out for argument in arguments) or name in _IN_PLACE
    return _call(function) if writes and all(map(_computes, arguments)) else None


def _computes(argument: torch.Argument) -> bool:
    kind = str(argument.real_type)
    for wrapper in ("Optional", "List", "Optional"):
        kind = kind.removeprefix(f"{wrapper}[").removesuffix("]")
    return kind in _TYPES or (kind == "str" and argument.name in torch_operators.MODES)


def _call(function: OpOverload) -> Kernel:
    """Call an operator with arguments in the order of its schema."""
    arguments = torch_operators.schema(function).arguments
    converters = [_converter(str(argument.real_type)) for argument in arguments]
    check = CHECKS.get(function.overloadpacket.__name__)

    def kernel(frame: Frame, indices: list[int]) -> None:
        # The results follow the schema's arguments: the same values as its outs.
        positional, keywords, outs = [], {}, []
        for argument, convert, index in zip(arguments, converters, indices, strict=False):
            if argument.is_out:
                value = keywords[argument.name] = frame.room(index)
                outs.append((index, value))
            elif argument.kwarg_only:
                keywords[argument.name] = convert(frame.get(index))
            else:
                positional.append(convert(frame.get(index)))
        if check is not None:
            check(*positional, **{name: keywords[name] for name in CHECKED & keywords.keys()})
        result = function(*positional, **keywords)
        for index, value in outs:
            frame.set(index, value)
        if not outs:
            frame.set(indices[len(arguments)], result)

    return _counted(kernel, len(arguments))


def _counted(kernel: Kernel, count: int) -> Kernel:
    def checked(frame: Frame, indices: list[int]) -> None:
        if len(indices) <= count:
            raise ProgramError(f"the call has {len(indices)} values, expected {count + 1} or more")
        kernel(frame, indices)

    return checked


def _converter(kind: str) -> Callable[[Any], Any]:
    """Converter of an argument: a program has numbers for torch's enumerations."""
    if "ScalarType" in kind:
        return lambda value: None if value is None else DTYPES[value]
    if "MemoryFormat" in kind:
        return lambda value: None if value is None else _MEMORY_FORMATS[value]
    if "Layout" in kind:
        return lambda value: None if value is None else (torch.strided,)[value]
    return _given if kind in ("Tensor", "List[Tensor]") else lambda value: value


def _given(value: Any) -> Any:
    """A tensor or list of tensors: from None, torch makes a tensor that its kernels crash on."""
    if value is None or (isinstance(value, list | tuple) and any(item is None for item in value)):
        raise ProgramError("an argument is None, expected a tensor")
    return value


def _quantized(name: str, overload: str) -> Kernel | None:
    """Kernel of a quantization operator: upstream has their ``out`` variants in C++ only."""
    torch_quantized_operators.register()
    wanted = {"out": "default", "Tensor_out": "tensor"}.get(overload, "")
    function = torch_operators.find("quantized_decomposed", name, wanted)
    if function is None:
        return None
    signature = torch_operators.schema(function)
    arguments = signature.arguments
    converters = [_converter(str(argument.real_type)) for argument in arguments]
    count, results = len(arguments), len(signature.returns)

    def kernel(frame: Frame, indices: list[int]) -> None:
        positional, keywords = [], {}
        for argument, convert, index in zip(arguments, converters, indices, strict=False):
            value = convert(frame.get(index))
            if argument.kwarg_only:
                keywords[argument.name] = value
            else:
                positional.append(value)
        result = function(*positional, **keywords)
        outs = indices[count : count + results]
        for index, value in zip(outs, result if results > 1 else (result,), strict=True):
            frame.set(index, value)

    return _counted(kernel, count + results - 1)


def _number(value: Any) -> Any:
    """A number that ExecuTorch has. Raises TypeError or OverflowError for any other value."""
    if type(value) not in (bool, int, float):
        raise TypeError(f"a {type(value).__name__}, expected a number")
    if type(value) is int and value not in _INT64:
        raise OverflowError("a number that does not fit into 64 bits")
    return value


def _prim(function: Callable[..., Any], count: int) -> Kernel:
    """Kernel of an operator on numbers."""

    def kernel(frame: Frame, indices: list[int]) -> None:
        numbers = [_number(frame.get(index)) for index in indices[:-1]]
        frame.set(indices[-1], _number(function(*numbers)))

    return _counted(kernel, count)


def _scalar(function: Callable[..., Any], count: int) -> Kernel:
    """Kernel of an operator that returns a number of a tensor."""

    def kernel(frame: Frame, indices: list[int]) -> None:
        tensor, *numbers = map(frame.get, indices[:-1])
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"a {type(tensor).__name__}, expected a tensor")
        frame.set(indices[-1], _number(function(tensor, *map(_number, numbers))))

    return _counted(kernel, count)


def _view(frame: Frame, indices: list[int]) -> None:
    source, size, out = indices[:3]
    frame.alias(out, frame.get(source).view(frame.get(size)))


def _copy_index(frame: Frame, indices: list[int]) -> None:
    """Append a slice to a loop's result, which grows with every iteration."""
    out, source, position = indices[0], frame.get(indices[1]), frame.get(indices[2])
    frame.reserve(out, [position + 1, *source.shape])[position].copy_(source)


def _copy(frame: Frame, indices: list[int]) -> None:
    """Convert to the dtype and memory format of the result."""
    source, out = _given(frame.get(indices[0])), indices[3]
    frame.set(out, source.to(frame.room(out).dtype))


def _empty(frame: Frame, indices: list[int]) -> None:
    out = indices[2]
    frame.set(out, torch.zeros(frame.get(indices[0]), dtype=frame.room(out).dtype))


_BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "truediv": operator.truediv,
    "mod": operator.mod,
    "eq": operator.eq,
    "gt": operator.gt,
    "lt": operator.lt,
    "ge": operator.ge,
    "le": operator.le,
    "sym_max": max,
    "sym_min": min,
}
_UNARY = {
    "sym_float": float,
    "sym_int": int,
    "neg": operator.neg,
    "ceil": math.ceil,
    "round": round,
    "trunc": math.trunc,
    "sym_not": operator.not_,
}
_OWN: dict[tuple[str, str], Kernel] = {
    **{(f"executorch_prim::{n}", "Scalar"): _prim(f, 2) for n, f in _BINARY.items()},
    **{(f"executorch_prim::{n}", "Scalar"): _prim(f, 1) for n, f in _UNARY.items()},
    ("executorch_prim::sym_ite", "Scalar"): _prim(lambda c, a, b: a if c else b, 3),
    ("executorch_prim::et_view", "default"): _counted(_view, 2),
    ("executorch_prim::et_copy_index", "tensor"): _counted(_copy_index, 2),
    ("aten::sym_size", "int"): _scalar(lambda tensor, dim: tensor.shape[dim], 2),
    ("aten::sym_numel", ""): _scalar(lambda tensor: tensor.numel(), 1),
    ("aten::_local_scalar_dense", ""): _scalar(lambda tensor: tensor.item(), 1),
    ("dim_order_ops::_to_dim_order_copy", "out"): _counted(_copy, 3),
    ("dim_order_ops::_clone_dim_order", "out"): _counted(_copy, 3),
    ("dim_order_ops::_empty_dim_order", "out"): _counted(_empty, 2),
}
