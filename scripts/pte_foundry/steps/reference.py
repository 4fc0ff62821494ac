"""Runs the fp32 model on its evaluation samples: the reference for all comparisons."""

from pathlib import Path

from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_model(parser)
    parser.add_argument(
        "--output", type=Path, required=True, help="inputs and outputs, .safetensors"
    )
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models.inference import reference

        reference(model_of(arguments)).save(arguments.output)

    return command.run(arguments, step, fork=command.EXECUTING)


if __name__ == "__main__":
    raise SystemExit(main())
