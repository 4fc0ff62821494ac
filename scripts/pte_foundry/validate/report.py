"""Executes an artifact and measures what its validation report contains.

Three comparisons on the same samples attribute the loss to its stages: the artifact against the
fp32 reference (``metrics``), the quantized torch program against the reference
(``stages.quantization``), and the artifact against the quantized program (``stages.lowering``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.formats.inspect_pte import describe
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Sample, Samples
from pte_foundry.pte import Pte
from pte_foundry.pte.delegate import Delegate
from pte_foundry.validate import known_issues
from pte_foundry.validate.hazards import Hazards, constants_beyond_fp16, torch_sources
from pte_foundry.validate.metrics import compare
from pte_foundry.validate.schema import Hazard, Measurement, Metrics


def execute(
    pte: Pte,
    inputs: Sequence[Sample],
    debug_handles: Mapping[str, str],
    beyond_fp16: Mapping[str, float] | None = None,
) -> tuple[list[Sample], list[Hazard]]:
    """Runs the artifact once for each sample; returns its outputs and the hazards that arise.

    Args:
        pte: the artifact.
        inputs: the inputs of each sample.
        debug_handles: debug handle to "operator @ module", from the ``lower`` step.
        beyond_fp16: debug handle to a constant that fp16 does not have, from the same step.
    """
    seen: dict[Delegate, Hazards] = {delegate: Hazards() for delegate in pte.delegates}
    for delegate, collected in seen.items():
        delegate.observe = collected.observe
    outputs = [pte.run(s, tap=lambda d, name, value: seen[d].tap(name, value)) for s in inputs]
    hazards = [
        hazard
        for delegate, collected in seen.items()
        for hazard in collected.findings(
            delegate.program,
            torch_sources(delegate.model.debug_info, debug_handles),
            constants_beyond_fp16(delegate.model.debug_info, beyond_fp16 or {}),
        )
    ]
    return outputs, hazards


def measure(
    model: ModelModule, outputs: Sequence[Sample], reference: Sequence[Sample], labels: Any
) -> Metrics:
    """Returns all metrics of ``outputs`` against ``reference``, task metrics included.

    A score against the labels comes with ``<name>_change``, its difference from the score of
    ``reference``. Metrics of the module's ``agreement()`` replace common ones of the same name.
    """
    metrics = compare(outputs, reference) | model.agreement(outputs, reference)
    expected = model.score(reference, labels)
    for name, value in model.score(outputs, labels).items():
        metrics |= {name: value, f"{name}_change": value - expected[name]}
    return metrics


def validate(
    pte: Path,
    sha256: str,
    model: ModelModule,
    reference: Samples,
    quantized: Samples,
    debug_handles: Mapping[str, str],
    beyond_fp16: Mapping[str, float] | None = None,
) -> Measurement:
    """Executes an artifact and compares it with the reference and the quantized torch program.

    Args:
        pte: the artifact.
        sha256: its digest, for the report.
        model: the model module, for its task metrics.
        reference: evaluation samples with the outputs of the fp32 eager model.
        quantized: the same samples with the outputs of the quantized torch program.
        debug_handles: debug handle to "operator @ module", from the ``lower`` step.
        beyond_fp16: debug handle to a constant that fp16 does not have, from the same step.

    Raises:
        ProgramError: the artifact is malformed or cannot be executed.
        ModelError: a task metric of the module fails, or is not a finite number.
    """
    loaded, program = Pte.load(pte), describe(pte)
    outputs, hazards = execute(loaded, reference.inputs, debug_handles, beyond_fp16)
    labels = reference.labels
    return {
        "artifact": {
            "path": pte.as_posix(),
            "sha256": sha256,
            "bytes": program.bytes,
            "specification_version": program.specification_version,
            "delegated_fraction": program.delegated_fraction,
            "kernels": program.kernels,
            "ops": program.ops,
            "states": list(program.states),
            "weight_bytes": program.weight_bytes,
        },
        "samples": len(outputs),
        "metrics": measure(model, outputs, reference.outputs, labels),
        "stages": {
            "quantization": measure(model, quantized.outputs, reference.outputs, labels),
            "lowering": measure(model, outputs, quantized.outputs, labels),
        },
        "hazards": hazards,
        "known_issues": known_issues.of(loaded, program, debug_handles),
        "latency_ms": None,
    }
