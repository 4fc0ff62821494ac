"""One program with one operator, through our pipeline and the interpreter, against torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from torch.export import ExportedProgram

from pte_foundry.bench.operators.patterns import Call, Pattern
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.pte import Pte

SQNR_DB = {"float32": 80.0, "float16": 35.0}
"""Least agreement with torch for a result to be right."""


@dataclass
class Result:
    """What became of a program.

    Attributes:
        outcome: see ``OUTCOMES``.
        detail: why, in one line.
        operators: of the program that the frontend was given.
    """

    outcome: str
    detail: str = ""
    operators: list[str] = field(default_factory=list)


def target(precision: str, specification_version: int = 9) -> dict[str, Any]:
    """Returns the slice of a configuration that lowering reads, with upstream's defaults."""
    return {
        "specification_version": specification_version,
        "compute_precision": precision,
        "model_type": "model",
        "op_linear_quantizer_config": None,
        "pass_pipeline": None,
        "enumerated_shapes": None,
        "multimethod_weight_sharing_strategy": None,
        "partitioner": {
            "skip_ops_for_coreml_delegation": [],
            "take_over_mutable_buffer": True,
            "take_over_constant_data": True,
            "lower_full_graph": False,
        },
    }


def run(pattern: Pattern, precision: str, upstream: bool = False) -> Result:
    """Lowers and executes a pattern's program.

    Args:
        pattern: what the program calls.
        precision: ``float16`` or ``float32``.
        upstream: by upstream's functions alone, without our repairs.
    """
    module = Call(pattern).eval()
    inputs = tuple(rounded(x, precision) for x in pattern.inputs)
    try:
        program = torch.export.export(module, tuple(x.clone() for x in inputs), strict=False)
        expected = module(*(x.clone() for x in inputs))
    except Exception as error:
        return Result("no program", _reason(error))
    if any(x.is_complex() for x in (*inputs, *expected)):
        return Result("no program", "complex input or output")
    try:
        if upstream:
            written, operators = lowered_by_upstream(program, precision), []
        else:
            edge = edge_program.make(program, [])
            operators = sorted({n.target.__name__ for n in edge.program.graph.nodes if n.op == "call_function"})
            written = coreml.lower(edge, target(precision))
    except Exception as error:
        return Result("refused", _reason(error))
    try:
        pte = Pte.load(written)
        found = pte.run(inputs)
    except Exception as error:
        return Result("broken", _reason(error), operators)
    outside = sorted({op.name for plan in pte._file.plans.values() for op in plan.operators})
    problem = difference(expected, found, precision)
    if problem:
        return Result("wrong", problem + (f" (outside: {outside})" if outside else ""), operators)
    return Result("outside" if outside else "right", ", ".join(outside), operators)


def rounded(x: torch.Tensor, precision: str) -> torch.Tensor:
    if precision == "float16" and x.is_floating_point():
        return x.half().to(x.dtype)
    return x


def lowered_by_upstream(program: ExportedProgram, precision: str) -> bytes:
    specs = coreml.compile_specs(target(precision), program)
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[CoreMLPartitioner(compile_specs=specs)],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    return edge.to_executorch().buffer


def difference(expected: tuple, found: tuple, precision: str) -> str | None:
    """Says how results differ from torch's; None if they do not."""
    if len(expected) != len(found):
        return f"{len(found)} outputs, expected {len(expected)}"
    for number, (e, f) in enumerate(zip(expected, found, strict=True)):
        where = f"output {number}: " if len(expected) > 1 else ""
        if e.shape != f.shape:
            return f"{where}shape {tuple(f.shape)}, expected {tuple(e.shape)}"
        if e.dtype != f.dtype:
            return f"{where}{f.dtype}, expected {e.dtype}"
        if not e.is_floating_point():
            if not torch.equal(e, f):
                share = (e != f).double().mean().item()
                return f"{where}{share:.0%} of the integers differ"
            continue
        if not torch.equal(e.isfinite(), f.isfinite()) or not torch.equal(
            e[~e.isfinite()].nan_to_num(), f[~e.isfinite()].nan_to_num()
        ):
            return f"{where}infinities or NaN differ"
        e, f = e[e.isfinite()].double(), f[e.isfinite()].double()
        noise, signal = (e - f).square().sum(), e.square().sum()
        if noise == 0:
            continue
        db = 10 * torch.log10(signal / noise).item() if signal > 0 else float("-inf")
        if db < SQNR_DB[precision]:
            return f"{where}{db:.0f} dB, max error {(e - f).abs().max():.3g} of {e.abs().max():.3g}"
    return None


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"
