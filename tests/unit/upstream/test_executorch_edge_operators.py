"""Protects edge programs on disk: what is written and read again is what ``to_edge`` made."""

import torch
from executorch.exir import to_edge
from executorch.exir.dialects.edge._ops import EdgeOpOverload
from pte_foundry.upstream.executorch_edge_operators import unwrap, wrap


class Two(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x).sum(), x.shape[0]


def test_operators_are_unwrapped_and_wrapped_as_by_to_edge():
    program = torch.export.export(
        Two(), (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("n", min=2, max=8)},)
    )
    nodes = list(to_edge(program).exported_program().graph.nodes)
    made = [node.target for node in nodes]
    assert sum(isinstance(target, EdgeOpOverload) for target in made) >= 2
    for node in nodes:
        unwrap(node)
    assert not any(isinstance(node.target, EdgeOpOverload) for node in nodes)
    assert torch.ops.aten.relu.default in [node.target for node in nodes]
    for node in nodes:
        wrap(node)
    assert [node.target for node in nodes] == made
