"""Lowers an edge program to Core ML inside an ExecuTorch program, in canonical form."""

from pathlib import Path

from pte_foundry.files import read_json, write_bytes, write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice, slice_argument


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument("--program", type=Path, required=True, help="the edge program, .pt2")
    parser.add_argument("--metadata", type=Path, required=True, help="of the edge program, .json")
    parser.add_argument(
        "--shapes", type=slice_argument, required=True, help="the model's enumerated shapes"
    )
    parser.add_argument(
        "--structure", type=Path, required=True, help="the exported model's lists, .json"
    )
    parser.add_argument("--output", type=Path, required=True, help="the lowered program, .pte")
    parser.add_argument(
        "--debug-handles", type=Path, required=True, help="the operator of each handle, .json"
    )
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.upstream.coremltools_imports import load_coremltools

        load_coremltools()
        from pte_foundry.formats.canonical_pte import canonical_pte
        from pte_foundry.lowering import edge_program
        from pte_foundry.lowering.coreml import lower_described
        from pte_foundry.models.constants import chosen

        metadata = read_json(arguments.metadata)
        # No variables for intermediate programs, so that their weights are freed early.
        shapes = arguments.slice["shapes"]
        enumerated = arguments.shapes if shapes in (None, "enumerated") else None
        constants = read_json(arguments.structure)["constants"]
        written, debug_info = lower_described(
            edge_program.load_all(arguments.program, metadata),
            arguments.slice | {"enumerated_shapes": enumerated},
            chosen(constants, shapes, bool(arguments.shapes)),
        )
        lowered = canonical_pte(written, "all")
        del written
        digest = write_bytes(arguments.output, lowered)
        described = edge_program.merged(metadata)
        handles = {
            "pte_sha256": digest,
            "operators": described["debug_handles"],
            "beyond_fp16": described["beyond_fp16"],
            **({"debug_info": debug_info} if debug_info else {}),
        }
        write_json(arguments.debug_handles, handles)

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
