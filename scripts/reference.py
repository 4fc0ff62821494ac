"""Runs the fp32 model on its evaluation samples: what everything else is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts import arguments as options
from scripts import cli

if TYPE_CHECKING:
    from scripts.model import ModelModule
    from scripts.tensors import Samples


def reference(model: ModelModule) -> Samples:
    """Evaluation inputs, the eager fp32 model's outputs for them, and the labels."""
    from scripts.tensors import Samples

    module = model.build()
    inputs, labels = model.evaluation()
    return Samples(inputs, [model.run(module, sample) for sample in inputs], labels)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def step() -> None:
        reference(options.model_of(arguments)).save(arguments.output)

    return cli.run(arguments, step, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
