"""One row per behaviour of an operation, checked against an expectation and against coremltools.

A case runs an operation as the interpreter's loop does: same lookup by opset, same conversion of
arguments, same single rounding. Its result is compared with the expectation written in the case
and, where coremltools can infer the value of the operation on constants, with that as well.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pte_foundry.mil import ops  # noqa: F401  (registers the operations)
from pte_foundry.mil.registry import find

HALF, SINGLE, INT = np.float16, np.float32, np.int32


@dataclass
class Case:
    """An operation with arguments (numpy arrays and Python values) and its expected result.

    Attributes:
        grade: ``exact``; ``one_ulp``: within one unit in the last place; ``close``: rtol 1e-5 in
            fp32, and two units in the last place in fp16.
        oracle: False, with a reason, where coremltools' value_inference is known to be wrong.
    """

    op: str
    arguments: dict[str, Any]
    expected: Any
    opset: str = "iOS15"
    grade: str = "exact"
    oracle: bool | str = True
    id: str = field(default="")

    def __str__(self) -> str:
        return f"{self.op}-{self.opset}{'-' + self.id if self.id else ''}"


def compute(op: str, opset: str, arguments: dict[str, Any]) -> list[np.ndarray]:
    """Results of the interpreter."""
    kernel = find(op, opset)
    assert kernel is not None, f"{op} is not implemented for {opset}"
    converted, half = {}, False
    for name, value in arguments.items():
        parameter = kernel.parameters[name]
        half |= parameter.upcast and _holds_half(value)
        converted[name] = parameter.convert(_to_torch(value))
    results = kernel.run(**converted)
    results = results if isinstance(results, tuple) else (results,)
    return [(r.half() if half and r.dtype == torch.float32 else r).numpy() for r in results]


def _holds_half(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return any(np.asarray(part).dtype == HALF for part in parts)


def _to_torch(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return tuple(map(_to_torch, value))
    plain = {int: np.int32, float: np.float32}.get(type(value))  # as mb.const takes them
    return torch.from_numpy(np.array(value, plain))


@cache
def coremltools() -> ModuleType:
    import coremltools

    return coremltools


def infer(op: str, opset: str, arguments: dict[str, Any]) -> list[np.ndarray] | None:
    """Results of coremltools' value_inference on constants, or None if it has none."""
    from coremltools.converters.mil.mil import Builder, Function

    target = getattr(coremltools().target, opset)
    with Function({}, opset_version=target):
        # Copies: thresholded_relu's inference writes into its argument.
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in deepcopy(arguments).items()}
        outputs = getattr(Builder, op)(**given)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        values = [output.val for output in outputs]
        if outputs[0].op.op_type.startswith("constexpr_"):
            values = outputs[0].op.materialized_val_inference()
            values = values if isinstance(values, tuple) else [values]
    return None if any(v is None for v in values) else [np.asarray(v) for v in values]


def check(case: Case) -> None:
    got = compute(case.op, case.opset, case.arguments)
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    assert len(got) == len(expected)
    for value, want in zip(got, expected, strict=True):
        assert_graded(value, np.asarray(want), case.grade, dtype=True)
    if case.oracle is not True:
        return
    inferred = infer(case.op, case.opset, case.arguments)
    for value, want in zip(got, inferred or got, strict=True):
        # Its fp16 arithmetic rounds at every step: close at best, whatever the grade of the case.
        grade = "close" if value.dtype == HALF else case.grade
        assert_graded(value, want, grade, dtype=False)


def assert_graded(got: np.ndarray, want: np.ndarray, grade: str, dtype: bool) -> None:
    assert got.shape == want.shape, f"{got.shape} instead of {want.shape}"
    if dtype:
        assert got.dtype == want.dtype, f"{got.dtype} instead of {want.dtype}"
    if grade == "exact" or got.dtype.kind not in "f":
        np.testing.assert_array_equal(got, want)
    elif grade == "one_ulp":
        np.testing.assert_array_max_ulp(got, want.astype(got.dtype), maxulp=1)
    else:
        tolerance = 2**-9 if got.dtype == HALF else 1e-5
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance / 10
        )
