"""What a validation report says of an artifact.

Three comparisons on the same samples tell the losses apart: the artifact against the reference
(``metrics``), the quantized model in PyTorch against the reference (``stages.quantization``), and
the artifact against the quantized model (``stages.lowering``).
"""

from pathlib import Path

from pte_foundry.formats.inspect_pte import describe
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Sample, Samples
from pte_foundry.pte import Pte
from pte_foundry.pte.delegate import Delegate
from pte_foundry.validate.hazards import Hazards, torch_sources
from pte_foundry.validate.metrics import compare

# A value near the edge of fp16 is a warning; these are damage.
DAMAGE = ("inf", "nan", "fp16_overflow")


def execute(pte: Pte, inputs: list[Sample], operators: dict[str, str]) -> tuple[list, list[dict]]:
    """The artifact's outputs for each sample, and the hazards met on the way.

    ``operators`` says what each debug handle stands for, as the ``lower`` step wrote it.
    """
    found: dict[Delegate, Hazards] = {delegate: Hazards() for delegate in pte.delegates}
    outputs = [pte.run(s, tap=lambda d, name, value: found[d].tap(name, value)) for s in inputs]
    hazards = [
        finding
        for delegate, seen in found.items()
        for finding in seen.findings(
            delegate.program, torch_sources(delegate.model.debug_info, operators)
        )
    ]
    return outputs, hazards


def measure(model: ModelModule, outputs: list, against: list, labels: object) -> dict:
    """All metrics of ``outputs`` against ``against``: general ones, and the model's own.

    A score against the labels comes with its ``_change`` from the score of ``against``.
    """
    metrics = compare(outputs, against)
    if model.has("agreement"):
        metrics |= model.agreement(outputs, against)
    expected = model.score(against, labels)
    for name, value in model.score(outputs, labels).items():
        metrics |= {name: value, f"{name}_change": value - expected[name]}
    return metrics


def validate(
    pte: Path,
    digest: str,
    model: ModelModule,
    reference: Samples,
    quantized: Samples,
    operators: dict[str, str],
) -> dict:
    """What a validation report says of an artifact with this digest, apart from names and gates."""
    outputs, hazards = execute(Pte.load(pte), reference.inputs, operators)
    program = describe(pte)
    labels = reference.labels
    return {
        "artifact": {
            "path": pte.as_posix(),
            "sha256": digest,
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
        "latency_ms": None,  # the interpreter's time says nothing about a device's
    }


def gated(report: dict) -> dict:
    """The values that a gate can ask for, by the names that configurations use."""
    damage = [hazard["count"] for hazard in report["hazards"] if hazard["kind"] in DAMAGE]
    return {
        **{name: value for name, value in report["metrics"].items() if name != "worst"},
        "worst_sqnr_db": report["metrics"]["worst"]["sqnr_db"],
        "bytes": report["artifact"]["bytes"],
        "delegated_fraction": report["artifact"]["delegated_fraction"],
        "hazards": sum(damage),
    }
