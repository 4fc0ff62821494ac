"""Runs a quantized program in PyTorch on the evaluation samples: what quantization alone costs."""

from pathlib import Path

import torch

# Registers the operators and tensor types that a quantized program on disk may hold.
import torchao.prototype.quantization.codebook_coreml
import torchao.quantization
import torchao.quantization.pt2e.quantize_pt2e

from scripts import cli
from scripts.tensors import Samples, as_sample


def evaluate(program: torch.export.ExportedProgram, reference: Samples) -> Samples:
    """The program's outputs for the reference's inputs, with the reference's labels."""
    module = program.module()
    with torch.inference_mode():
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
        program = torch.export.load(arguments.program)
        evaluate(program, Samples.load(arguments.reference)).save(arguments.output)

    return cli.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
