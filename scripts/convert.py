"""Quantizes a model as its recipe says. The result is still a torch program.

``pt2e`` rewrites the exported graph; ``quantize`` replaces the weights of the eager model's modules
and exports it afterwards, because it chooses modules by type and name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts import arguments as options
from scripts import cli, lean
from scripts.config.structure import structure_errors
from scripts.errors import ConfigError
from scripts.export import export
from scripts.files import read_json

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from scripts.model import ModelModule


def convert(
    model: ModelModule, recipe: dict, program: Path, statistics: Path | None
) -> ExportedProgram:
    """The quantized program of ``model`` under ``recipe`` (its slice of the configuration)."""
    if recipe["scheme"] == "pt2e":
        lean.load_coremltools()
        from scripts import programs
        from scripts.quantize import pt2e

        observed = None if statistics is None else read_json(statistics)
        return pt2e.convert(
            programs.load(program),
            recipe,
            observed,
            model.example_inputs(),
            dynamic_shapes=model.dynamic_shapes(),
        )

    from scripts.quantize import steps

    return export(model, steps.quantize(model.build(), recipe["steps"]))


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    options.add_model(parser)
    parser.add_argument("--model", required=True, help="the model's name, for messages")
    parser.add_argument("--recipe", required=True, help="the recipe's name, for messages")
    parser.add_argument("--program", type=Path, required=True, help="the exported program, .pt2")
    parser.add_argument("--modules", type=Path, required=True, help="the model's modules, .json")
    parser.add_argument("--statistics", type=Path, help="of the activations, .json")
    parser.add_argument("--output", type=Path, required=True, help="the quantized program, .pt2")
    arguments = parser.parse_args(argv)

    def step() -> None:
        recipe = arguments.slice["recipe"]
        modules = read_json(arguments.modules)["modules"]
        if errors := structure_errors(arguments.recipe, recipe, arguments.model, modules):
            raise ConfigError(errors)

        from scripts import programs

        model = options.model_of(arguments)
        converted = convert(model, recipe, arguments.program, arguments.statistics)
        programs.save(converted, arguments.output)

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
