"""Protects operators that are not core ATen: kept whole for Core ML, or left to ExecuTorch."""

import pytest
import torch
from executorch.exir import EdgeCompileConfig, to_edge
from pte_foundry.upstream.executorch_edge_config import preserving
from torch import nn


class CumulativeMaximum(nn.Module):
    def forward(self, x):
        return torch.cummax(x, 0)[0]


@pytest.fixture
def program():
    return torch.export.export(CumulativeMaximum(), (torch.rand(4, 4),))


def operators(manager):
    nodes = manager.exported_program().graph.nodes
    return [node.target._op for node in nodes if hasattr(node.target, "_op")]


def test_operators_are_kept_whole_and_the_list_as_it_is():
    program = torch.export.export(nn.Hardswish(), (torch.zeros(1, 4),))
    kept = [torch.ops.aten.hardswish.default]
    manager = to_edge(program, compile_config=preserving(kept))
    assert operators(manager) == kept == [torch.ops.aten.hardswish.default]
    assert kept[0] not in operators(to_edge(program, compile_config=preserving([])))


def test_an_operator_that_is_not_core_aten_is_accepted(program):
    assert operators(to_edge(program, compile_config=preserving([]))) == [
        torch.ops.aten.cummax.default
    ]


def test_upstream_refuses_it_without_the_private_argument(program):
    """If this fails, `preserve_ops` is enough: remove `preserving`."""
    with pytest.raises(Exception, match=r"cummax\.default is not in Core ATen"):
        to_edge(program, compile_config=EdgeCompileConfig())
