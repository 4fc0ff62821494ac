"""Lowers networks in our two halves, through a file, and by upstream's one call; prints JSON.

Run by test_lowering.py, in a process with the environment of the rules.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from pte_foundry.formats.canonical_pte import canonical_pte
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import compile_specs, lower

from tests.unit.lowering.test_lowering import TARGET, Net


class Attention(torch.nn.Module):
    """Operators that Core ML keeps whole, that have several results, and that it does not know."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 8)
        self.project = torch.nn.Linear(8, 24)
        self.norm = torch.nn.LayerNorm(8)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, tokens):
        x = self.norm(self.embedding(tokens))
        query, key, value = self.project(x).chunk(3, -1)
        x = x + torch.nn.functional.scaled_dot_product_attention(query, key, value)
        largest, where = x.max(-1)
        self.count.add_(1)
        return torch.acosh(2 + x * x), largest, where, x.tril(), x.repeat_interleave(2, 1)


class Convolutions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Hardswish()
        )
        self.pool = torch.nn.AdaptiveAvgPool2d(2)

    def forward(self, image):
        return self.pool(self.layers(image)).flatten(1).softmax(-1)


class Choice(torch.nn.Module):
    """Graphs inside of a graph."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, torch.sin, lambda x: (x + 1).relu(), (x,)) * 2


NETWORKS = {
    "attention": (Attention, (torch.arange(5)[None],), None),
    "convolutions": (Convolutions, (torch.ones(1, 3, 8, 8),), None),
    "choice": (Choice, (torch.ones(2, 3),), None),
    # min=2 is the lower limit of upstream, which raises 1 to it; ours keeps 1.
    "dynamic": (Net, (torch.zeros(2, 4),), {"x": {0: torch.export.Dim("n", min=2, max=8)}}),
}


def by_halves(program: torch.export.ExportedProgram, skip: list[str], target: dict) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "edge.pt2"
        metadata = edge_program.save(edge_program.make(program, skip), path)
        edge = edge_program.load(path, json.loads(json.dumps(metadata)))
        assert edge.debug_handles == metadata["debug_handles"]
        return lower(edge, target)


def at_once(program: torch.export.ExportedProgram, skip: list[str], target: dict) -> bytes:
    partitioner = CoreMLPartitioner(
        compile_specs=compile_specs(target, program),
        skip_ops_for_coreml_delegation=skip,
        take_over_mutable_buffer=False,
    )
    config = EdgeCompileConfig(_check_ir_validity=False)
    edge = to_edge_transform_and_lower(program, partitioner=[partitioner], compile_config=config)
    return edge.to_executorch().buffer


def outcome(way: Callable, *arguments: object) -> bytes | str:
    """The canonical bytes, or why there are none: Core ML takes no control flow from executorch."""
    try:
        return canonical_pte(way(*arguments), "all")
    except Exception as error:
        return repr(error.__cause__ or error)


def main() -> None:
    same = {}
    for name, (network, inputs, dynamic) in NETWORKS.items():
        for skip in ([], ["aten.linear.default"]):
            torch.manual_seed(0)
            program = torch.export.export(network().eval(), inputs, dynamic_shapes=dynamic)
            options = {"take_over_mutable_buffer": False, "skip_ops_for_coreml_delegation": skip}
            target = TARGET | {"partitioner": TARGET["partitioner"] | options}
            ours, theirs = (outcome(way, program, skip, target) for way in (by_halves, at_once))
            same[f"{name} {bool(skip)}"] = ours == theirs
    print(json.dumps(same))


if __name__ == "__main__":
    main()
