"""Exports a model to a torch program, and lists its modules for the checks of recipes."""

from pathlib import Path

import torch

from scripts import arguments as options
from scripts import cli
from scripts.errors import ModelError
from scripts.files import replacing, write_json
from scripts.model import ModelModule, modules_table


def export(model: ModelModule) -> tuple[torch.export.ExportedProgram, list[dict]]:
    """The fp32 program of ``torch.export`` and the table of modules it came from.

    Strict export, because only it records which function made each node, and the Core ML quantizer
    finds pools and flatten, and modules by type, by that record.
    """
    module = model.build()
    try:
        program = torch.export.export(
            module,
            model.example_inputs(),
            dynamic_shapes=model.dynamic_shapes(),
            strict=True,
        )
    except Exception as error:
        raise ModelError(f"{model.path}: torch.export could not trace the model: {error}") from error
    return program, modules_table(module)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--digest", required=True, help="of everything that the table depends on")
    parser.add_argument("--program", type=Path, required=True, help="output: .pt2")
    parser.add_argument("--modules", type=Path, required=True, help="output: .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        program, modules = export(options.model_of(arguments))
        with replacing(arguments.program) as temporary:
            torch.export.save(program, temporary)
        write_json(arguments.modules, {"digest": arguments.digest, "modules": modules})

    return cli.run(arguments, step, portably=True)


if __name__ == "__main__":
    raise SystemExit(main())
