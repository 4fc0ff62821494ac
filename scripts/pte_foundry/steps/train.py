"""Trains a model with its own ``train()``, or initializes it at random."""

from pathlib import Path

from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_model(parser)
    parser.add_argument("--output", type=Path, required=True, help="the weights, .safetensors")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models.train import train

        train(model_of(arguments, trained=False), arguments.slice.get("sha256"), arguments.output)

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
