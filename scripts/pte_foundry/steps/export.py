"""Exports a model to a torch program; lists its modules, inputs and constant methods."""

from pathlib import Path

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
        from pte_foundry.models.inputs import inputs_table
        from pte_foundry.models.structure import modules_table

        model = model_of(arguments)
        module = model.build()
        exported = export_all(model, module)
        table = {
            "digest": arguments.digest,
            "modules": modules_table(
                module, *exported.values(), stored=model.stored_weights(module)
            ),
            "inputs": [
                row | ({"method": method} if len(exported) > 1 else {})
                for method, program in exported.items()
                for row in inputs_table(program, model.input_names(module, method))
            ],
            "constants": constants_of(model),
        }
        shapes = enumeration_findings(
            ("models", arguments.model.stem, "enumerated_shapes"),
            model.enumerated,
            table["inputs"],
            arguments.model.stem,
        )
        raise_for(shapes)
        programs.save_all(exported, arguments.program)
        write_json(arguments.modules, table)

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
