"""Torch programs on disk: what ``torch.export`` saves."""

import importlib
import tempfile
import zipfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

# Reading a quantized program needs its operators and tensor types, which these modules register.
# torchao takes seconds to import, so a program's graph is searched for its operators' names.
REGISTERED_BY = {
    b"quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    b"torchao": "torchao.quantization",
    b"codebook": "torchao.prototype.quantization.codebook_coreml",
}


def save(program: ExportedProgram, path: Path) -> None:
    """Writes a program; the same program gives the same bytes."""
    for node in program.graph.nodes:
        # A node's history names graphs by their address in memory.
        node.meta.pop("from_node", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The archive's entries are named after the file, so the name must always be the same.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        written = Path(folder, "program.pt2")
        torch.export.save(program, written)
        written.replace(path)


def load(path: Path) -> ExportedProgram:
    """Reads a program that :func:`save` wrote, quantized or not."""
    with zipfile.ZipFile(path) as archive:
        graphs = [archive.read(name) for name in archive.namelist() if name.endswith("model.json")]
    for name, module in REGISTERED_BY.items():
        if any(name in graph for graph in graphs):
            importlib.import_module(module)
    return torch.export.load(path)
