"""Divides integers as integers.

Stands against: coremltools 9.0
Repairs: the converters of ``div`` and ``floor_divide`` (``mil/frontend/torch/ops.py``). The first
    computes in floating point whatever it divides, the second gives floating point. In float16
    integers above 2048 lose digits, and those above 65504 become infinite.
Remove when: a rounded division of integers is converted to ``floor_div`` of int32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from coremltools.converters.mil.frontend.torch import ops as frontend
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Var, types

from pte_foundry.upstream.coremltools_operators import converters, converting
from pte_foundry.upstream.versions import require

for _function, _parameters in (
    ("div", "context node"),
    ("floor_divide", "context node"),
    ("_get_inputs", "context node expected min_expected"),
    ("_get_kwinputs", "context node keyword default"),
    ("promote_input_dtypes", "input_vars"),
):
    require(frontend, _function, _parameters, patch=__name__)


@contextmanager
def whole_divisions() -> Iterator[None]:
    """Within this context rounded divisions of integers are converted to integer operations."""
    changed = {
        name: _of_integers(converter)
        for name, converter in converters().items()
        if converter in (frontend.div, frontend.floor_divide)
    }
    with converting(changed):
        yield


def _of_integers(converter: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The converter of an operator, but for the rounded divisions of integers."""
    default = "floor" if converter is frontend.floor_divide else None

    def convert(context: Any, node: Any) -> None:
        x, y, *rest = frontend._get_inputs(context, node)
        mode = frontend._get_kwinputs(context, node, "rounding_mode", default=rest or [None])[0]
        rounding = getattr(mode, "val", mode) or default
        if rounding not in ("floor", "trunc") or not all(types.is_int(v.dtype) for v in (x, y)):
            converter(context, node)
            return
        x, y = frontend.promote_input_dtypes([x, y])
        divide = mb.floor_div if rounding == "floor" else _truncated
        context.add(divide(x=x, y=y, name=node.name))

    return convert


def _truncated(x: Var, y: Var, name: str) -> Var:
    """The quotient rounded towards zero: ``floor_div`` rounds towards minus infinity."""
    quotient = mb.floor_div(x=mb.abs(x=x), y=mb.abs(x=y))
    return mb.mul(x=quotient, y=mb.mul(x=mb.sign(x=x), y=mb.sign(x=y)), name=name)
