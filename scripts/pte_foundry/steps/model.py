"""Writes what a model consists of, for its other steps: module, imports, weights and data."""

from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.files import write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice, slice_argument
from pte_foundry.models.imports import follow, project_of


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument("--module", type=Path, required=True, help="the model's Python file")
    parser.add_argument("--imports", required=True, help="digest of it and of what it imports")
    parser.add_argument(
        "--paths", type=slice_argument, required=True, help="module, weights and data, as --slice"
    )
    parser.add_argument("--output", type=Path, required=True, help="paths and digests, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        model = arguments.slice | arguments.paths
        root = project_of(arguments.module, model["module"]) if model["module"] else None
        imports = follow(arguments.module, root, model["declared_imports"])
        if imports.digest() != arguments.imports:
            raise ModelError(
                f"{model['module'] or arguments.module}, or what it imports, has changed since "
                "this build was planned. Run it again: it then plans and builds with the new code."
            )
        found = {"imports": imports.contents(), "listed": imports.listed(root)}
        write_json(arguments.output, model | found)

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
