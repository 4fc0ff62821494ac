"""Names of outputs in Core ML programs.

A program whose outputs have names returns a dict of them (``models.export``), and ExecuTorch keeps
its keys in the ``.pte``. Core ML calls an output like the node that computes it. Outputs without
names keep those of their nodes.
"""

from __future__ import annotations

import builtins
import keyword

from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from pte_foundry.names import identifier


def name_outputs(program: ExportedProgram) -> None:
    """Renames the nodes that compute named outputs; a tensor with two names keeps the first."""
    structure = program.module_call_graph[0].signature.out_spec
    if structure.type is not dict:
        return
    nodes = {node.name: node for node in program.graph.nodes}
    specs = program.graph_signature.output_specs
    outputs = [spec for spec in specs if spec.kind is OutputKind.USER_OUTPUT]
    renamed: dict[str, str] = {}
    for name, spec in zip(structure.context, outputs, strict=True):
        node = nodes[spec.arg.name]
        if node.op == "call_function" and node.name not in renamed.values():
            new = _free(identifier(name), {*nodes, *renamed.values()} - {node.name})
            renamed[node.name] = node.name = new
    # A node that is also the new value of a buffer occurs in two of them.
    for spec in specs:
        spec.arg.name = renamed.get(spec.arg.name, spec.arg.name)


def _free(name: str, taken: set[str]) -> str:
    """The name, or it with underscores if the code of a graph cannot have it."""
    while name in taken or keyword.iskeyword(name) or hasattr(builtins, name):
        name += "_"
    return name
