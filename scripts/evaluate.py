"""Runs a quantized program in PyTorch on the evaluation samples: what quantization alone costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts import cli

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from scripts.tensors import Samples


def evaluate(program: ExportedProgram, reference: Samples) -> Samples:
    """The program's outputs for the reference's inputs, with the reference's labels."""
    import torch
    from torch.fx.experimental.const_fold import split_const_subgraphs

    from scripts.tensors import Samples, as_sample

    # Weights are decompressed for the first sample and not again for every other one.
    module = split_const_subgraphs(program.module())
    with torch.no_grad():
        outputs = [as_sample(module(*sample)) for sample in reference.inputs]
    # The inputs are in the reference; a second copy would only cost disk.
    return Samples([], outputs, reference.labels)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the quantized program, .pt2")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def step() -> None:
        from scripts import programs
        from scripts.tensors import Samples

        program = programs.load(arguments.program)
        evaluate(program, Samples.load(arguments.reference)).save(arguments.output)

    return cli.run(arguments, step, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
