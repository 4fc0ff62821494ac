"""Makes the edge program of a torch program: the part of lowering common to all targets."""

from pathlib import Path

from pte_foundry.files import write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument("--program", type=Path, required=True, help="the torch program, .pt2")
    parser.add_argument("--output", type=Path, required=True, help="the edge program, .pt2")
    parser.add_argument(
        "--metadata", type=Path, required=True, help="preserved operators and debug handles, .json"
    )
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.upstream.coremltools_imports import load_coremltools

        load_coremltools()
        from pte_foundry.lowering import edge_program
        from pte_foundry.lowering.shape_bounds import fixed
        from pte_foundry.models import programs

        skip = arguments.slice["skip_ops_for_coreml_delegation"]
        loaded = programs.load_all(arguments.program)
        if arguments.slice.get("fixed_shapes"):
            loaded = {method: fixed(program) for method, program in loaded.items()}
        edges = edge_program.make_all(loaded, skip)
        write_json(arguments.metadata, edge_program.save_all(edges, arguments.output))

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
