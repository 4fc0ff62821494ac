"""Runs the fp32 model on its evaluation samples: what everything else is compared with."""

from pathlib import Path

import torch

from scripts import arguments as options
from scripts import cli
from scripts.model import ModelModule
from scripts.tensors import Samples, as_sample


def reference(model: ModelModule) -> Samples:
    """Evaluation inputs, the eager fp32 model's outputs for them, and the labels."""
    module = model.build()
    inputs, labels = model.evaluation()
    with torch.inference_mode():
        outputs = [as_sample(module(*sample)) for sample in inputs]
    return Samples(inputs, outputs, labels)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    return cli.run(
        arguments, lambda: reference(options.model_of(arguments)).save(arguments.output)
    )


if __name__ == "__main__":
    raise SystemExit(main())
