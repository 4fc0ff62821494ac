"""Rewrites of operators on dtypes that Core ML's operation lacks: torch computes in another one."""

from collections.abc import Callable
from typing import Any

import torch

from pte_foundry.upstream import torch_operators
from pte_foundry.upstream.torch_operators import OpOverload

aten = torch.ops.aten
to_copy = torch_operators.operator("aten._to_copy.default")

FLOAT_FUNCTIONS = (
    aten.acos.default,
    aten.asin.default,
    aten.atan.default,
    aten.atanh.default,
    aten.cos.default,
    aten.cosh.default,
    aten.erf.default,
    aten.exp.default,
    aten.exp2.default,
    aten.expm1.default,
    aten.log10.default,
    aten.log2.default,
    aten.logsumexp.default,
    aten.rsqrt.default,
    aten.sigmoid.default,
    aten.sin.default,
    aten.sinh.default,
    aten.sqrt.default,
    aten.tan.default,
    aten.tanh.default,
)
"""Functions of floating-point numbers, to which torch converts integers and booleans."""

ROUNDINGS = (aten.ceil.default, aten.floor.default, aten.round.default)

FLOAT_FUNCTIONS_WITH_DTYPE = (aten.softmax.int, aten.log_softmax.int)

OF_BOOLEANS = (
    aten.amax.default,
    aten.amin.default,
    aten.argsort.default,
    aten.gather.default,
    aten.ge.Tensor,
    aten.gt.Tensor,
    aten.index_select.default,
    aten.le.Tensor,
    aten.lt.Tensor,
    aten.max.default,
    aten.max.dim,
    aten.max.other,
    aten.maximum.default,
    aten.min.default,
    aten.min.dim,
    aten.min.other,
    aten.minimum.default,
    aten.roll.default,
    aten.sort.default,
)
"""Operators that Core ML has for integers but not for booleans."""


def in_floating_point(operator: OpOverload) -> Callable[..., Any]:
    """The function of the converted number: the converter passes integers to a float operation."""

    def rewrite(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.is_floating_point() or x.is_complex():
            return NotImplemented
        converted = to_copy(x, dtype=torch.get_default_dtype())
        return operator(converted, *args, **kwargs)

    return rewrite


def rounded(x: torch.Tensor) -> torch.Tensor:
    """An integer as it is: the converter passes it to an operation on floating-point numbers."""
    return NotImplemented if x.is_floating_point() else aten.clone.default(x)


def in_dtype(operator: OpOverload) -> Callable[..., Any]:
    """The function of the converted number: the converter ignores ``dtype``."""

    def rewrite(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
        if dtype in (None, x.dtype):
            return NotImplemented
        return operator(to_copy(x, dtype=dtype), dim)

    return rewrite


def in_integers(operator: OpOverload) -> Callable[..., Any]:
    """The operation on 0 and 1: the converter passes booleans to one that does not take them."""

    def to_integer(value: Any) -> Any:
        boolean = isinstance(value, torch.Tensor) and value.dtype == torch.bool
        return to_copy(value, dtype=torch.int32) if boolean else value

    def to_boolean(value: torch.Tensor) -> torch.Tensor:
        boolean = value.dtype == torch.int32  # indices are int64
        return to_copy(value, dtype=torch.bool) if boolean else value

    def rewrite(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if tensors[0].dtype != torch.bool or torch.is_floating_point(tensors[-1]):
            return NotImplemented
        result = operator(*map(to_integer, args), **kwargs)
        if isinstance(result, torch.Tensor):
            return to_boolean(result)
        return tuple(map(to_boolean, result))

    return rewrite


REWRITES = {
    **{op: in_floating_point(op) for op in FLOAT_FUNCTIONS},
    **dict.fromkeys(ROUNDINGS, rounded),
    **{op: in_dtype(op) for op in FLOAT_FUNCTIONS_WITH_DTYPE},
    **{op: in_integers(op) for op in OF_BOOLEANS},
}
