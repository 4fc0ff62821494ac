"""Elementwise operations on one tensor (``iOS15`` and ``iOS17/elementwise_unary.py``)."""

import torch
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op

_FLOAT_FUNCTIONS = {
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


def _register(name: str, function) -> None:
    @op(name, direct=function)
    def kernel(*, x: Upcast) -> Tensor:
        return function(x)


for _name, _function in _FLOAT_FUNCTIONS.items():
    _register(_name, _function)


@op("abs", direct=torch.abs)
def absolute(*, x: Tensor) -> Tensor:
    return x.abs()


@op("cast")
def cast(*, x: Tensor, dtype: str) -> Tensor:
    target = BY_NAME[dtype].torch
    if x.is_floating_point() and not target.is_floating_point and target != torch.bool:
        # Towards zero, as in numpy and torch. Values out of range are undefined in C, and differ
        # between machines; through int64 they wrap in the same way on all.
        return x.to(torch.int64).to(target)
    return x.to(target)


@op("ceil")
def ceil(*, x: Tensor) -> Tensor:
    return x.ceil()


@op("clip")
def clip(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


@op("exp2")
def exp2(*, x: Upcast) -> Tensor:
    return x.exp2().to(x.dtype)


@op("floor")
def floor(*, x: Tensor) -> Tensor:
    return x.floor()


@op("inverse")
def inverse(*, x: Upcast, epsilon: float = 1e-4) -> Tensor:
    return (x + epsilon).reciprocal()


@op("log")
def log(*, x: Upcast, epsilon: float = 1e-45) -> Tensor:
    return (x + epsilon).log()


@op("logical_not")
def logical_not(*, x: Tensor) -> Tensor:
    return x.logical_not()


@op("round")
def round_half_to_even(*, x: Tensor) -> Tensor:
    # "0.5 is rounded to 0" (iOS15/elementwise_unary.py): half to even, as numpy in coremltools'
    # value_inference. On devices halves depend on the compute unit (webmachinelearning/webnn#817).
    return x.round()


@op("rsqrt")
def rsqrt(*, x: Upcast, epsilon: float = 1e-12) -> Tensor:
    # torch.rsqrt may use approximate vector instructions.
    return 1 / (x + epsilon).sqrt()


@op("sign")
def sign(*, x: Tensor) -> Tensor:
    return x.sign()


@op("sqrt", direct=torch.sqrt)
def sqrt(*, x: Tensor) -> Tensor:
    return x.sqrt()  # of fp16, exact up to its one rounding


@op("square")
def square(*, x: Tensor) -> Tensor:
    return x * x


@op("threshold")
def threshold(*, x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha.to(x.dtype))
