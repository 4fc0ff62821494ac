"""Makes a model's weights: with its own deterministic ``train()``, or at random from a seed."""

from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.files import replacing, sha256
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import save_tensors


def train(model: ModelModule, expected: str | None, output: Path) -> None:
    """Trains a model and writes its state dict as safetensors.

    Args:
        model: loaded without weights.
        expected: the SHA-256 of the file, if the configuration names one.
        output: the file.

    Raises:
        ModelError: training failed, or gave a file with another SHA-256; nothing is written.
    """
    with replacing(output, durable=True) as temporary:
        made = model.train() if model.seed is None else model.initialize()
        save_tensors(made, temporary)
        found = sha256(temporary)
        if expected is not None and found != expected:
            raise ModelError(
                f"{model.path}: checksum mismatch: train() gave other weights than expected.\n"
                f"  expected sha256 {expected}\n"
                f"  found    sha256 {found}\n"
                "If you changed the training, put the found sha256 into the configuration; if not, "
                "training is not deterministic on this machine."
            )
