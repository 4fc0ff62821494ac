"""Protects the list of operators that are swept: those that ExecuTorch's partitioner delegates."""

import torch
from coremltools.converters.mil.frontend.torch import register_torch_op
from coremltools.converters.mil.frontend.torch.torch_op_registry import (
    _TORCH_OPS_REGISTRY,
    is_torch_fx_node_supported,
)
from pte_foundry.upstream import torch_operators
from pte_foundry.upstream.coremltools_operators import converted
from torch.fx import Graph


def test_the_list_is_what_upstream_supports():
    listed = converted()
    graph = Graph()
    for name in listed:
        assert is_torch_fx_node_supported(graph.call_function(torch_operators.operator(name)))
    for name in ("aten.celu.default", "aten.hypot.default"):
        node = graph.call_function(torch_operators.operator(name))
        assert not is_torch_fx_node_supported(node)
        assert name not in listed
    assert {"aten.max.dim", "aten.pow.Tensor_Scalar", "aten.relu.default"} <= set(listed)


def test_operators_that_write_to_an_argument_are_left_out():
    names = converted()
    assert not [name for name in names if name.endswith(".out") or "_." in name]
    assert "aten.add.out" not in names
    assert "aten.relu_.default" not in names


def test_an_operator_that_upstream_learns_is_listed(monkeypatch):
    table = dict(_TORCH_OPS_REGISTRY.name_to_func_mapping)
    monkeypatch.setattr(_TORCH_OPS_REGISTRY, "name_to_func_mapping", table)

    @register_torch_op
    def hypot(context, node): ...

    assert "aten.hypot.default" in converted()
    assert torch.ops.aten.hypot.default
