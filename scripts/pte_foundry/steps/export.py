"""Exports a model to a torch program; lists its modules, inputs and constant methods."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pte_foundry.files import write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_model, model_of


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_model(parser)
    parser.add_argument(
        "--digest", required=True, help="of all that the list of modules depends on"
    )
    parser.add_argument("--program", type=Path, required=True, help="output: the program, .pt2")
    parser.add_argument(
        "--modules", type=Path, required=True, help="output: modules, inputs and constants, .json"
    )
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.findings import raise_for
        from pte_foundry.lowering.enumerated_shapes import enumeration_findings
        from pte_foundry.models import programs
        from pte_foundry.models.constants import constants_of
        from pte_foundry.models.export import export_all
        from pte_foundry.models.inputs import declared_table, inputs_table
        from pte_foundry.models.structure import modules_table

        model = model_of(arguments)
        name = arguments.model.stem

        def check_enumerated(inputs: list[dict[str, Any]]) -> None:
            path = ("models", name, "enumerated_shapes")
            raise_for(enumeration_findings(path, model.enumerated, inputs, name))

        module = model.build()
        if model.enumerated:
            # The export runs the listed shapes, and would blame the model for one that cannot be.
            declared = {m: declared_table(model, module, m) for m in model.layouts}
            check_enumerated(_rows(declared))
        exported = export_all(model, module)
        tables = {m: inputs_table(p, model.input_names(module, m)) for m, p in exported.items()}
        table = {
            "digest": arguments.digest,
            "modules": modules_table(
                module, *exported.values(), stored=model.stored_weights(module)
            ),
            "inputs": _rows(tables),
            "constants": constants_of(model),
        }
        check_enumerated(table["inputs"])  # torch may have fixed what is declared dynamic
        programs.save_all(exported, arguments.program)
        write_json(arguments.modules, table)

    return command.run(arguments, step, fork=command.BUILDING)


def _rows(tables: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Returns the rows of all methods, with their method if there are several."""
    several = len(tables) > 1
    return [
        row | ({"method": method} if several else {})
        for method, table in tables.items()
        for row in table
    ]


if __name__ == "__main__":
    raise SystemExit(main())
