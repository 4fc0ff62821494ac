"""Torch programs on disk: what ``torch.export`` saves."""

from pathlib import Path

import torch

# Loading a quantized program needs its operators and tensor types; importing these registers them.
import torch.ao.quantization.fx._decomposed
import torchao.prototype.quantization.codebook_coreml
import torchao.quantization

from scripts.files import replacing


def save(program: torch.export.ExportedProgram, path: Path) -> None:
    """Writes a program; the same program gives the same bytes."""
    with replacing(path) as temporary:
        torch.export.save(program, temporary)


def load(path: Path) -> torch.export.ExportedProgram:
    """Reads a program that :func:`save` wrote, quantized or not."""
    return torch.export.load(path)
