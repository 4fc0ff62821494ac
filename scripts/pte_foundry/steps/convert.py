"""Quantizes a model with a recipe; the result is a torch program."""

import logging
from pathlib import Path

from pte_foundry.errors import ConfigError
from pte_foundry.files import read_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of
from pte_foundry.quantize import schemes

_LITTLE = 0.5
"""A smaller share of quantized weights than this is logged as a warning."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_model(parser)
    parser.add_argument("--recipe", required=True, help="the recipe's name, for messages")
    parser.add_argument("--program", type=Path, required=True, help="the exported program, .pt2")
    parser.add_argument("--modules", type=Path, required=True, help="the model's modules, .json")
    parser.add_argument("--statistics", type=Path, nargs="*", help="the activation ranges, .json")
    parser.add_argument("--output", type=Path, required=True, help="the quantized program, .pt2")
    arguments = parser.parse_args(argv)

    def step() -> None:
        recipe = arguments.slice["recipe"]
        scheme = schemes.load(recipe["scheme"])
        name, modules = arguments.model.stem, read_json(arguments.modules)["modules"]
        findings = scheme.findings(arguments.recipe, recipe, name, modules)
        if not recipe.get("shared"):
            findings += scheme.unmatched(arguments.recipe, recipe, {name: modules})
        if findings:
            raise ConfigError("\n".join(map(str, findings)))

        from pte_foundry.models import programs
        from pte_foundry.quantize.coverage import check_compressed, coverage

        statistics = next(iter(arguments.statistics or []), None)
        converted = scheme.convert(
            model_of(arguments), recipe, arguments.program, statistics, modules
        )
        found = coverage(*converted.values())
        check_compressed(found)
        level = logging.WARNING if found.share < _LITTLE else logging.INFO
        logging.log(level, "%s", found)
        programs.save_all(converted, arguments.output)

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
