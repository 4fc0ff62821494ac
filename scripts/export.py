"""Exports a model to a torch program, and lists its modules for the checks of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts import arguments as options
from scripts import cli
from scripts.errors import ModelError
from scripts.files import write_json

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from scripts.model import ModelModule


def export(model: ModelModule, module: nn.Module) -> ExportedProgram:
    """The program of ``module``, traced with the model's example inputs and dynamic shapes."""
    import torch

    try:
        return torch.export.export(
            module, model.example_inputs(), dynamic_shapes=model.dynamic_shapes(), strict=False
        )
    except Exception as error:
        raise ModelError(
            f"{model.path}: torch.export could not trace the model: {error}"
        ) from error


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--digest", required=True, help="of everything that the table depends on")
    parser.add_argument("--program", type=Path, required=True, help="output: .pt2")
    parser.add_argument("--modules", type=Path, required=True, help="output: .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from scripts import programs
        from scripts.model import modules_table

        model = options.model_of(arguments)
        module = model.build()
        programs.save(export(model, module), arguments.program)
        table = {"digest": arguments.digest, "modules": modules_table(module)}
        write_json(arguments.modules, table)

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
