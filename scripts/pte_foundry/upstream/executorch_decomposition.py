"""Skips a decomposition that leaves a program as it is.

Stands against: executorch 1.4.1, torch 2.13.0
Repairs: ``to_edge`` (``exir/program/_program.py``), which traces a program again to decompose it,
    also if it contains no operator that could be decomposed: a quarter of the time that an edge
    program takes.
Remove when: ``to_edge`` skips it by itself.
"""

from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule

from pte_foundry.upstream.versions import require

require(
    ExportedProgram,
    "run_decompositions",
    "self decomp_table decompose_custom_triton_ops",
    patch=__name__,
)


def decompose_if_needed(program: ExportedProgram) -> None:
    """Let ``program.run_decompositions`` return the program itself if nothing is to be decomposed.

    Programs with nested graphs (control flow) are always decomposed.
    """
    decompose = program.run_decompositions
    modules = [m for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    targets = {node.target for node in program.graph.nodes if node.op == "call_function"}

    def run_decompositions(table: dict[Any, Any]) -> ExportedProgram:
        return decompose(table) if len(modules) > 1 or targets & table.keys() else program

    program.run_decompositions = run_decompositions
