"""Keeps a multiplication that repeats its channel from becoming a batch normalization.

Stands against: coremltools 9.0
Repairs: the pass ``common::fuse_elementwise_to_batchnorm``
    (``mil/passes/defs/optimize_elementwise_binary.py``), which turns ``x * gamma + beta`` into
    ``batch_norm`` without comparing their channels (coremltools#2020). Where ``x`` has one channel
    and ``gamma`` several, coremltools fails, or writes a program that no Core ML can run.
Remove when: ``fuse_elementwise_to_batchnorm._try_to_transform`` compares the channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from coremltools.converters.mil.mil import Block, Operation
from coremltools.converters.mil.mil.passes.defs.optimize_elementwise_binary import (
    fuse_elementwise_to_batchnorm,
)

from pte_foundry.upstream.versions import require

require(fuse_elementwise_to_batchnorm, "_try_to_transform", "mul_op add_op block", patch=__name__)


def _channels(op: Operation) -> list[int | None]:
    """Channels of both operands, if they have the rank that the pass fuses."""
    return [operand.shape[-3] if operand.rank >= 3 else None for operand in (op.x, op.y)]


@contextmanager
def sound_batch_norms() -> Iterator[None]:
    """Within this context the pass fuses only operands with the same number of channels."""
    upstream = fuse_elementwise_to_batchnorm._try_to_transform

    def try_to_transform(mul_op: Operation, add_op: Operation, block: Block) -> bool:
        channels = {*_channels(mul_op), *_channels(add_op)}
        return len(channels) == 1 and upstream(mul_op, add_op, block)

    with patch.object(
        fuse_elementwise_to_batchnorm, "_try_to_transform", staticmethod(try_to_transform)
    ):
        yield
