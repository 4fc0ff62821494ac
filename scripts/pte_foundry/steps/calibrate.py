"""Observes a model's activations on its calibration samples (PT2E static quantization)."""

from functools import partial
from pathlib import Path

from pte_foundry.files import write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_model(parser)
    parser.add_argument("--program", type=Path, required=True, help="the exported program, .pt2")
    parser.add_argument("--output", type=Path, required=True, help="the activation ranges, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.upstream.coremltools_imports import load_coremltools

        load_coremltools()
        from pte_foundry.models import programs
        from pte_foundry.models.play import play_all
        from pte_foundry.quantize import pt2e
        from pte_foundry.quantize.calibration import calibrate_played

        model, settings = model_of(arguments), arguments.slice
        limit, activations = settings["calibration_samples"], settings["activations"]
        exported = programs.load_all(arguments.program)
        if model.plays:
            play = partial(play_all, model, "calibration", limit)
            found = calibrate_played(exported, activations, play)
            found = found if len(exported) > 1 else next(iter(found.values()))
        else:
            (program,) = exported.values()
            found = pt2e.calibrate(program, activations, model.calibration(limit=limit))
        write_json(arguments.output, found)

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
