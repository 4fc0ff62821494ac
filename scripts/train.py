"""Makes a model's weights with the model's own deterministic ``train()``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts import arguments as options
from scripts import cli
from scripts.errors import ModelError
from scripts.files import replacing, sha256

if TYPE_CHECKING:
    from scripts.model import ModelModule


def train(model: ModelModule, expected: str | None, output: Path) -> None:
    """Writes the trained state dict as safetensors; raises ModelError if its digest is another."""
    from scripts.tensors import save_tensors

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


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def step() -> None:
        train(options.model_of(arguments), arguments.slice["sha256"], arguments.output)

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
