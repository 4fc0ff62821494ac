"""Observes a model's activations on its calibration samples (PT2E static quantization)."""

from pathlib import Path

from scripts import arguments as options
from scripts import cli, lean
from scripts.files import write_json


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--program", type=Path, required=True, help="the exported program, .pt2")
    parser.add_argument("--output", type=Path, required=True, help="the statistics, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        lean.load_coremltools()
        from scripts import programs
        from scripts.quantize import pt2e

        settings = arguments.slice
        samples = options.model_of(arguments).calibration(limit=settings["calibration_samples"])
        program = programs.load(arguments.program)
        write_json(arguments.output, pt2e.calibrate(program, settings["activations"], samples))

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
