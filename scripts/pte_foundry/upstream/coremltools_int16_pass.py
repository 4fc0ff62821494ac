"""Keeps 32-bit integers that may not fit into 16 bits.

Stands against: coremltools 9.0
Repairs: the pass ``common::add_int16_cast`` (``mil/passes/defs/quantization.py``), which narrows
    the int32 operands of gather, gather_along_axis, gather_nd, squeeze and topk to 16 bits, indices
    and data. Data is not bounded by anything: an id of 40000 becomes -25536 (coremltools#2222).
    Indices are bounded by the axis that they point into; upstream compares it in some operators
    only, and takes an axis of unknown size for a short one.
Remove when: ``add_int16_cast.should_cast_parameter`` narrows only what fits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from coremltools.converters.mil.mil import Operation, types
from coremltools.converters.mil.mil.passes.defs.quantization import add_int16_cast

from pte_foundry.upstream.versions import require

require(add_int16_cast, "should_cast_parameter", "self op param_name", patch=__name__)

_INT16 = 2**15
_UINT16 = 2**16
_NARROW = (types.bool, types.int8, types.uint8, types.int16, types.uint16)


@contextmanager
def kept_integers() -> Iterator[None]:
    """Within this context the pass narrows only integers that are known to fit."""
    upstream = add_int16_cast.should_cast_parameter

    def should_cast_parameter(self: add_int16_cast, op: Operation, param_name: str) -> bool:
        return _fits(op, param_name) and upstream(self, op, param_name)

    with patch.object(add_int16_cast, "should_cast_parameter", should_cast_parameter):
        yield


def _fits(op: Operation, param_name: str) -> bool:
    """Whether every value of an operand fits, or is compared with the range by upstream."""
    operand = op.inputs[param_name]
    if param_name == "output_indices_dtype":  # of topk; it becomes uint16
        return _shorter(op.x.shape[op.axis.val], _UINT16)
    if getattr(operand, "val", None) is not None:
        return True
    if param_name == "indices":
        return all(_shorter(size, _INT16) for size in _axes(op))
    source = operand.op
    return source is not None and source.op_type == "cast" and source.x.dtype in _NARROW


def _axes(op: Operation) -> tuple:
    """Sizes of the axes that the indices of an operator point into."""
    if op.op_type != "gather_nd":
        return (op.x.shape[op.axis.val],)
    batch = op.batch_dims.val if getattr(op, "batch_dims", None) is not None else 0
    return op.x.shape[batch : batch + op.indices.shape[-1]]


def _shorter(size: object, limit: int) -> bool:
    return isinstance(size, int) and size <= limit
