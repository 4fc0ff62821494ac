"""Elementwise operations on two tensors, with broadcasting (``iOS15/elementwise_binary.py``)."""

import torch
from torch import Tensor

from pte_foundry.mil.parameters import ConstantNames, Upcast
from pte_foundry.mil.registry import op
from pte_foundry.upstream.torch_division import truncated_quotient

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
    @op(name, direct=function)
    def kernel(*, x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


for _name, _function in _FUNCTIONS.items():
    _register(_name, _function)


@op("floor_div")
def floor_div(*, x: Upcast, y: Upcast) -> Tensor:
    # Down, integers too: -7 / 2 is -4 in a compiled model (kasper0406/stablehlo-coreml#70), and
    # coremltools' TensorFlow tests (``TestElementWiseBinary``) have negative dividends.
    return torch.div(x, y, rounding_mode="floor")


@op("mod")
def mod(*, x: Upcast, y: Upcast) -> Tensor:
    # The result has the sign of the divisor, as Python's % in coremltools' value_inference and
    # TensorFlow's floormod, which coremltools' tests (``TestElementWiseBinary``) compare with Core
    # ML for negative dividends. One report (kasper0406/stablehlo-coreml#70) contradicts.
    return torch.remainder(x, y)


@op("pow")
def power(*, x: Upcast, y: Upcast, constant_names: ConstantNames = frozenset()) -> Tensor:
    if "x" in constant_names and x.numel() == 1 and x.is_floating_point() and x.item() == 2:
        # Core ML squares the exponent if the base is a constant 2, so that 2 ** 0 is 0: reported
        # in apple/coremltools#2628, repaired in its converter by #2742 after 9.0.
        return torch.square(y).broadcast_to(torch.broadcast_shapes(x.shape, y.shape))
    return torch.pow(x, y)


@op("real_div")
def real_div(*, x: Tensor, y: Tensor) -> Tensor:
    # int32 results are int32 (``test_real_div_int_builder_to_backend``), for which coremltools'
    # test against Core ML has positive operands only: towards zero here, as in C.
    return x / y if x.is_floating_point() else truncated_quotient(x, y)
