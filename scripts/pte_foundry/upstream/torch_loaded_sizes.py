"""Reads programs with computed sizes, such as ``4 * Dim("height")``, so that they can be changed.

Stands against: torch 2.13.0
Repairs: ``_parse_sym_expr`` (``torch/_export/serde/serialize.py``), which notes the range of every
    size of an input in the shape environment, also of sizes that are computed from another one.
    ``run_decompositions`` expects symbols there (``_replace_unbacked_bindings`` in
    ``torch/export/_trace.py``) and fails: "AssertionError: expected sympy.Symbol".
Remove when: a program with such sizes can be decomposed after ``torch.export.load``.
"""

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from pte_foundry.upstream.versions import require

require(ShapeEnv(), "var_to_range", patch=__name__)


def forget_computed(program: ExportedProgram) -> ExportedProgram:
    """Leave only symbols in the shape environment of a program that was read; return it.

    The ranges of computed sizes stay in the program's ``range_constraints``.
    """
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and (mode := getattr(value, "fake_mode", None)):
            ranges = mode.shape_env.var_to_range if mode.shape_env else {}
            for size in [size for size in ranges if not isinstance(size, sympy.Symbol)]:
                del ranges[size]
            break
    return program
