"""Elementwise operations on two tensors, with broadcasting (``iOS15/elementwise_binary.py``)."""

import torch
from torch import Tensor

from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op

_FUNCTIONS = {
    "add": torch.add,
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "sub": torch.sub,
}


def _register(name: str, function) -> None:
    @op(name)
    def kernel(*, x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


for _name, _function in _FUNCTIONS.items():
    _register(_name, _function)


@op("floor_div")
def floor_div(*, x: Upcast, y: Upcast) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


@op("mod")
def mod(*, x: Upcast, y: Upcast) -> Tensor:
    # The result has the sign of the divisor, as Python's % in coremltools' value_inference.
    return torch.remainder(x, y)


@op("pow")
def power(*, x: Upcast, y: Upcast) -> Tensor:
    return torch.pow(x, y)


@op("real_div")
def real_div(*, x: Tensor, y: Tensor) -> Tensor:
    # int32 results are int32. The documentation does not specify their rounding: towards zero here,
    # as in C.
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")
