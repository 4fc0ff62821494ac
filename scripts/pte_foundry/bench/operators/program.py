"""One small program through our pipeline and the interpreter, against torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch.export import ExportedProgram

from pte_foundry.bench.operators.patterns import Pattern, leaves
from pte_foundry.formats.pte_file import read_pte
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.pte import Pte
from pte_foundry.upstream.executorch_edge_config import preserving

LEAST_DB = {"float32": 80.0, "float16": 35.0}
"""SQNR of an output that is right. Integers and booleans must be equal."""

GOOD = ("right", "outside")
"""Outcomes of a program whose outputs are torch's."""


@dataclass(frozen=True)
class Result:
    """What became of a program.

    Attributes:
        outcome: ``right``; ``outside`` (right, but not all of it in the Core ML delegate);
            ``refused``, while lowering; ``broken``: lowered, but it does not run; ``wrong``;
            ``no program``: torch does not export it. A sweep adds ``repaired`` (right; wrong,
            broken or refused by upstream alone), ``crashed`` and ``hung``.
        detail: why, or which operators are outside, in one line.
        seen: operators of the edge program.
    """

    outcome: str
    detail: str = ""
    seen: Sequence[str] = ()


class Call(torch.nn.Module):
    """A module whose outputs are the tensors that a call returns; complex ones as pairs."""

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self._call = pattern.call

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = (t for t in leaves(self._call(*inputs)) if torch.is_tensor(t))
        return tuple(torch.view_as_real(t) if t.is_complex() else t for t in tensors)


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


def run(pattern: Pattern, precision: str, *, upstream: bool = False) -> Result:
    """Lowers and executes a pattern's program, and compares its outputs with torch's in fp32.

    Args:
        pattern: the call.
        precision: ``float16`` or ``float32``. The inputs of both sides are rounded to it.
        upstream: lower with upstream's ``to_edge_transform_and_lower`` alone.
    """
    module = Call(pattern).eval()
    inputs = tuple(rounded(x, precision) for x in pattern.inputs)
    try:
        expected = module(*(x.clone() for x in inputs))
        program = torch.export.export(module, tuple(x.clone() for x in inputs), strict=False)
    except Exception as error:
        return Result("no program", reason(error))
    if program.graph_signature.user_inputs_to_mutate:
        return Result("no program", "it changes its inputs")
    if not all(output.numel() for output in expected):
        return Result("no program", "an output without elements")
    seen: list[str] = []
    try:
        if upstream:
            written = lowered_by_upstream(program, precision)
        else:
            edge = edge_program.make(program, [])
            seen = sorted({node.target.__name__ for node in calls(edge.program)})
            written = coreml.lower(edge, target(precision))
    except Exception as error:
        return Result("refused", reason(error), seen)
    try:
        found = Pte.load(written).run(inputs)
    except Exception as error:
        return Result("broken", reason(error), seen)
    if problem := difference(expected, found, precision, pattern.random):
        return Result("wrong", problem, seen)
    outside = kernels(written)
    return Result("outside" if outside else "right", ", ".join(outside), seen)


def rounded(x: torch.Tensor, precision: str) -> torch.Tensor:
    """Returns a tensor with values that the precision has, in its own dtype."""
    lossy = precision == "float16" and x.is_floating_point()
    return x.half().to(x.dtype) if lossy else x


def representable(x: torch.Tensor, precision: str) -> torch.Tensor:
    """Returns a tensor with what is beyond the range of the precision as infinity, or as zero."""
    if precision != "float16" or not x.is_floating_point():
        return x
    return torch.where(
        x.isfinite() & x.half().isfinite() & (x.half() != 0), x, x.half().to(x.dtype)
    )


def calls(program: ExportedProgram) -> list[torch.fx.Node]:
    """Returns the calls of operators in a program."""
    return [node for node in program.graph.nodes if hasattr(node.target, "__name__")]


def kernels(written: bytes) -> list[str]:
    """Returns the operators of a ``.pte`` that are outside of its delegates."""
    plans = read_pte(written).program.execution_plan
    return sorted({op.name for plan in plans for op in plan.operators})


def lowered_by_upstream(program: ExportedProgram, precision: str) -> bytes:
    """Returns the ``.pte`` that a script after ExecuTorch's documentation makes."""
    specs = coreml.compile_specs(target(precision), program)
    return (
        to_edge_transform_and_lower(
            program,
            partitioner=[CoreMLPartitioner(compile_specs=specs)],
            compile_config=preserving([]),
        )
        .to_executorch()
        .buffer
    )


def difference(
    expected: tuple[torch.Tensor, ...],
    found: tuple[torch.Tensor, ...],
    precision: str,
    random: bool = False,
) -> str | None:
    """Says how outputs differ from torch's; None if they do not.

    Args:
        random: any values will do.
    """
    if len(expected) != len(found):
        return f"{len(found)} outputs, expected {len(expected)}"
    for number, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
        problem = _difference(theirs, ours, precision, random)
        if problem:
            return f"output {number}: {problem}" if len(expected) > 1 else problem
    return None


def _difference(
    expected: torch.Tensor, found: torch.Tensor, precision: str, random: bool
) -> str | None:
    expected = representable(expected, precision)
    if expected.shape != found.shape:
        return f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if expected.dtype != found.dtype:
        return f"{found.dtype}, expected {expected.dtype}"
    if random or torch.equal(expected, found):
        return None
    if not expected.is_floating_point():
        return f"{(expected != found).double().mean():.0%} of the values differ"
    finite = expected.isfinite()
    infinite = (expected[~finite].nan_to_num(), found[~finite].nan_to_num())
    if not torch.equal(finite, found.isfinite()) or not torch.equal(*infinite):
        return "infinities or NaN differ"
    exact, error = expected[finite].double(), (expected - found)[finite].double()
    signal, noise = exact.square().sum().item(), error.square().sum().item()
    if noise == 0:
        return None
    db = 10 * torch.tensor(signal / noise).log10().item()
    if db >= LEAST_DB[precision]:
        return None
    return f"{db:.0f} dB, error {error.abs().max():.3g} of {exact.abs().max():.3g}"


def reason(error: BaseException) -> str:
    """Returns the type and the first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
