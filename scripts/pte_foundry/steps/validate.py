"""Validates an artifact: executes it and compares it with the fp32 and the quantized model.

Writes a report whatever the artifact does, and succeeds if it has written one.
"""

import platform
from pathlib import Path

from pte_foundry.files import base_of_artifact, check_noted, read_json, seen_from, write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    add_model(parser)
    for name in ("recipe", "target", "device"):
        parser.add_argument(f"--{name}", required=True, help=f"the {name}'s name, for the report")
    parser.add_argument("--pte", type=Path, required=True, help="the artifact")
    parser.add_argument("--digest", type=Path, required=True, help="its digest, for sha256sum")
    parser.add_argument(
        "--reference", type=Path, required=True, help="samples and fp32 outputs, .safetensors"
    )
    parser.add_argument(
        "--quantized", type=Path, required=True, help="outputs before lowering, .safetensors"
    )
    parser.add_argument(
        "--debug-handles", type=Path, required=True, help="debug handles to torch operators, .json"
    )
    parser.add_argument("--output", type=Path, required=True, help="the report, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models.tensors import Samples
        from pte_foundry.validate.accepted import with_example_shapes
        from pte_foundry.validate.check import checked
        from pte_foundry.validate.gates import judge_measurement, laxer
        from pte_foundry.validate.report import validate

        base = base_of_artifact(arguments.pte)
        handles = read_json(arguments.debug_handles)
        model = model_of(arguments)
        samples = ["evaluation", "calibration"][: 1 + bool(arguments.slice.get("calibrates"))]
        reference, quantized = map(Samples.load, (arguments.reference, arguments.quantized))
        if arguments.slice["target"].get("shapes") == "fixed":
            reference, quantized = with_example_shapes(model, reference, quantized)
        synthetic = [function for function in samples if not model.has(function)]
        measured = validate(
            arguments.pte,
            check_noted(arguments.pte, arguments.digest),
            model,
            reference,
            quantized,
            handles["operators"],
            seen_from(base, arguments.log) if arguments.log else "",
            handles.get("beyond_fp16"),
            handles.get("debug_info"),
        )
        gates, status = judge_measurement(measured, arguments.slice["gates"])
        weakened = laxer(arguments.slice["gates"], arguments.slice["default_gates"])
        device = arguments.slice["device"]
        measured["artifact"]["path"] = seen_from(base, arguments.pte)
        report = measured | {
            "build": {
                "model": arguments.model.stem,
                "recipe": arguments.recipe,
                "target": arguments.target,
            },
            "scheme": arguments.slice["scheme"],
            "target_details": arguments.slice["target"],
            "device": {
                "name": arguments.device,
                "kind": device["kind"],
                "engine": device["engine"],
                "host": platform.machine(),
            },
            "gates": gates,
            "status": status,
            **({"laxer_gates": weakened} if weakened else {}),
            "synthetic": synthetic,
        }
        write_json(arguments.output, checked(report), durable=True)

    return command.run(arguments, step, fork=command.EXECUTING)


if __name__ == "__main__":
    raise SystemExit(main())
