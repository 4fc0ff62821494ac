"""Validates an artifact: executes it and compares it with the fp32 model and the quantized one.

Three comparisons on the same samples tell the losses apart: the artifact against the reference
(``metrics``), the quantized model in PyTorch against the reference (``stages.quantization``), and
the artifact against the quantized model (``stages.lowering``).
"""

import platform
from pathlib import Path

from scripts import arguments as options
from scripts import cli
from scripts.files import check_noted, read_json, write_json
from scripts.model import ModelModule
from scripts.pte import Pte
from scripts.pte.delegate import Delegate
from scripts.pte.inspect import describe
from scripts.tensors import Sample, Samples
from scripts.validate.gates import judge
from scripts.validate.hazards import Hazards, torch_sources
from scripts.validate.metrics import compare

ENGINE = "mil-reference"
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


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    for name in ("model", "recipe", "target", "device"):
        parser.add_argument(f"--{name}", required=True, help=f"the {name}'s name, for the report")
    parser.add_argument("--pte", type=Path, required=True, help="the artifact")
    parser.add_argument("--digest", type=Path, required=True, help="its digest, for sha256sum")
    parser.add_argument("--reference", type=Path, required=True, help="samples and fp32 outputs")
    parser.add_argument("--quantized", type=Path, required=True, help="outputs before lowering")
    parser.add_argument("--operators", type=Path, required=True, help="what was lowered, .json")
    parser.add_argument("--output", type=Path, required=True, help="the report, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        report = validate(
            arguments.pte,
            check_noted(arguments.pte, arguments.digest),
            options.model_of(arguments),
            Samples.load(arguments.reference),
            Samples.load(arguments.quantized),
            read_json(arguments.operators)["operators"],
        )
        gates, status = judge(gated(report), arguments.slice["gates"])
        named = {name: getattr(arguments, name) for name in ("model", "recipe", "target")}
        device = {"name": arguments.device, "kind": "interpreter", "engine": ENGINE}
        report |= {
            "build": named,
            "scheme": arguments.slice["scheme"],
            "target_details": arguments.slice["target"],
            "device": device | {"host": platform.machine()},
            "gates": gates,
            "status": status,
        }
        write_json(arguments.output, report)

    return cli.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
