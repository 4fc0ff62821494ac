"""Protects products that repeat a channel from a pass that takes them for batch normalizations."""

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_batchnorm_pass import sound_batch_norms

from tests.unit.lowering import both_ways
from tests.unit.lowering.both_ways import decibels, target
from tests.unit.lowering.test_rewrites import normal


def ops_after(channels, gamma, beta):
    """The operators that the pass leaves of relu(x * gamma + beta), by their channels."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, channels, 2, 2))])
    def program(x):
        x = mb.mul(x=x, y=np.ones((1, gamma, 1, 1), np.float32))
        return mb.relu(x=mb.add(x=x, y=np.ones((beta, 1, 1), np.float32)))

    PASS_REGISTRY["common::fuse_elementwise_to_batchnorm"](program)
    return [op.op_type for op in program.functions["main"].operations if op.op_type != "const"]


@pytest.mark.parametrize("channels", [(1, 4, 4), (4, 4, 1), (1, 4, 1)])
def test_repeated_channels_are_left_alone(channels):
    with sound_batch_norms():
        assert ops_after(*channels) == ["mul", "add", "relu"]


def test_equal_channels_are_fused_as_upstream_does():
    with sound_batch_norms():
        assert ops_after(4, 4, 4) == ["batch_norm", "relu"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_map_times_a_constant_per_channel_is_right(precision):
    """If upstream does not fail any more, it has fixed it: remove sound_batch_norms."""
    scale, shift = normal(1, 6, 1, 1), normal(1, 6, 1, 1, seed=1)

    def repeated(x):
        return (x.sigmoid() * scale + shift).softmax(1), x.relu() * scale + shift[:, :1]

    case = repeated, (normal(1, 1, 4, 4),)
    assert decibels(both_ways.ours, *case, target(precision, 9)) > 60
    with pytest.raises(Exception, match=r"batch_norm|subtype"):
        decibels(both_ways.upstream, *case, target(precision, 9))
