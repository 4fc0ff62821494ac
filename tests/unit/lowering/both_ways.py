"""Lowers small networks by upstream alone and with our repairs, and runs both."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import compile_specs, lower
from pte_foundry.pte import Pte
from torch.export import ExportedProgram

from tests.unit.lowering.test_lowering import TARGET

Inputs = tuple[torch.Tensor, ...]


Case = tuple[Callable[..., Any], Inputs]
"""A function and the inputs of a call."""


class Network(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def exported(function: Callable[..., Any], inputs: Inputs, dynamic: Any = None) -> ExportedProgram:
    return torch.export.export(Network(function).eval(), inputs, dynamic_shapes=dynamic)


def target(precision: str = "float32", specification: int = 8) -> dict:
    options = TARGET["partitioner"] | {"take_over_mutable_buffer": False}
    return TARGET | {
        "compute_precision": precision,
        "specification_version": specification,
        "partitioner": options,
    }


def upstream(program: ExportedProgram, target: dict) -> bytes:
    """What upstream's one call writes, without any repair of ours."""
    partitioner = CoreMLPartitioner(
        compile_specs=compile_specs(target, program), take_over_mutable_buffer=False
    )
    config = EdgeCompileConfig(_check_ir_validity=False)
    edge = to_edge_transform_and_lower(program, partitioner=[partitioner], compile_config=config)
    return edge.to_executorch().buffer


def ours(program: ExportedProgram, target: dict) -> bytes:
    return lower(edge_program.make(program, []), target)


def decibels(
    lowering: Callable[[ExportedProgram, dict], bytes],
    function: Callable[..., Any],
    inputs: Inputs,
    target: dict,
    others: Sequence[Inputs] = (),
    dynamic: Any = None,
) -> float:
    """The SQNR of the worst output on any of the inputs; -inf if it is not finite as eager is.

    All of the network is in Core ML: a repair that only leaves an operator outside is none.
    """
    written = lowering(exported(function, inputs, dynamic), target)
    assert describe(written).delegated_fraction == 1.0
    pte = Pte.load(written)
    worst = math.inf
    for sample in (inputs, *others):
        expected = _tuple(function(*sample))
        for wanted, got in zip(expected, pte.run(sample), strict=True):
            worst = min(worst, sqnr(wanted, got))
    return worst


def together(cases: Mapping[str, Case], target: dict) -> dict[str, float]:
    """The SQNR of the worst output of each case, as :func:`decibels`, of one program for all.

    Lowering a program of fifty calls takes a tenth of the time of fifty programs.
    """
    counts = [len(inputs) for _, inputs in cases.values()]
    stops = list(itertools.accumulate(counts))

    def network(*flat: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        parts = [flat[stop - count : stop] for count, stop in zip(counts, stops, strict=True)]
        calls = zip(cases.values(), parts, strict=True)
        return [_tuple(function(*part)) for (function, _), part in calls]

    # Clones, because a program may be exported with one input for two equal objects.
    inputs = tuple(x.clone() for _, given in cases.values() for x in given)
    written = ours(exported(network, inputs), target)
    assert describe(written).delegated_fraction == 1.0
    results = iter(Pte.load(written).run(inputs))
    return {
        name: min(sqnr(wanted, next(results)) for wanted in wanted_of_case)
        for name, wanted_of_case in zip(cases, network(*inputs), strict=True)
    }


def _tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def sqnr(wanted: torch.Tensor, got: torch.Tensor) -> float:
    assert wanted.shape == got.shape
    wanted, got = wanted.double(), got.double()
    finite = wanted.isfinite()
    if not torch.equal(wanted[~finite], got[~finite]) or not got[finite].isfinite().all():
        return -math.inf
    noise = (wanted[finite] - got[finite]).square().sum().item()
    signal = wanted[finite].square().sum().item()
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
