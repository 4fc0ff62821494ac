"""Protects skip lists: a skipped operator stays outside of Core ML, in whatever dialect it is."""

import pytest
import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from pte_foundry.upstream import executorch_partitioner
from pte_foundry.upstream.executorch_partitioner import leaving_out
from torch import nn

CONVOLUTION = torch.ops.aten.conv2d.default


@pytest.fixture(scope="module")
def program():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()).eval()
    return torch.export.export(network, (torch.zeros(1, 1, 2, 2),)).run_decompositions({})


def kept(program, **options):
    return set(CoreMLPartitioner(**options).ops_to_not_decompose(program)[0])


def test_nodes_are_left_out(program):
    with leaving_out(lambda node: node.target is CONVOLUTION):
        assert kept(program) == {torch.ops.aten.relu.default}
    assert kept(program) == {CONVOLUTION, torch.ops.aten.relu.default}


def test_what_core_ml_takes():
    program = torch.export.export(nn.AdaptiveAvgPool3d(1), (torch.zeros(1, 1, 2, 2, 2),))
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    assert [executorch_partitioner.supported(node) for node in nodes] == [False]


@pytest.mark.parametrize("name", ["aten.conv2d.default", "aten.Conv2d.default"])
def test_upstream_keeps_a_skipped_operator_whole(program, name):
    """If this fails, upstream compares the names of ATen operators: see ``lowering.outside``."""
    assert CONVOLUTION in kept(program, skip_ops_for_coreml_delegation=[name])
