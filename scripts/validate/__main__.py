"""Validates an artifact: executes it and compares it with the fp32 model and the quantized one."""

import platform
from pathlib import Path

from scripts import arguments as options
from scripts import cli
from scripts.files import check_noted, read_json, write_json
from scripts.validate.gates import judge

ENGINE = "mil-reference"


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
        from scripts.tensors import Samples
        from scripts.validate.report import gated, validate

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

    return cli.run(arguments, step, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
