"""Makes a model's weights with the model's own deterministic ``train()``."""

from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.files import replacing, sha256
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import save_tensors


def train(model: ModelModule, expected: str | None, output: Path) -> None:
    """Writes the trained state dict as safetensors; raises ModelError if its digest is another."""
    with replacing(output) as temporary:
        save_tensors(model.train(), temporary)
        found = sha256(temporary)
        if expected is not None and found != expected:
            raise ModelError(
                f"{model.path}: train() gave other weights than the configuration names.\n"
                f"  expected sha256 {expected}\n"
                f"  found    sha256 {found}\n"
                "If the training was meant to change, put the found digest into the configuration; "
                "if not, training is not deterministic on this machine."
            )
