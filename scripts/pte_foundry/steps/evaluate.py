"""Runs a quantized program in PyTorch on the evaluation samples: quantization error alone."""

from dataclasses import replace
from pathlib import Path

from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_model(parser)
    parser.add_argument("--program", type=Path, required=True, help="the quantized program, .pt2")
    parser.add_argument("--reference", type=Path, required=True, help="samples, .safetensors")
    parser.add_argument("--output", type=Path, required=True, help="outputs, .safetensors")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models import programs
        from pte_foundry.models.inference import evaluate
        from pte_foundry.models.tensors import Samples
        from pte_foundry.quantize.coverage import coverage

        loaded, samples = programs.load_all(arguments.program), Samples.load(arguments.reference)
        # Loading its module takes seconds, and only conversations need its play().
        model = model_of(arguments) if samples.methods else None
        outputs = evaluate(loaded, samples, model)
        weights = coverage(*loaded.values()).facts
        replace(outputs, weights=weights).save(arguments.output)

    return command.run(arguments, step, fork=command.EXECUTING)


if __name__ == "__main__":
    raise SystemExit(main())
