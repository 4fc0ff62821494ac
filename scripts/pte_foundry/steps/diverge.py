"""Attributes an artifact's error to its layers: each one against the fp32 program."""

from pathlib import Path

from pte_foundry.files import base_of_artifact, check_noted, read_json, seen_from, write_json
from pte_foundry.job import command


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--pte", type=Path, required=True, help="the artifact")
    parser.add_argument("--digest", type=Path, required=True, help="its digest, for sha256sum")
    parser.add_argument("--program", type=Path, required=True, help="the fp32 program, .pt2")
    parser.add_argument("--reference", type=Path, required=True, help="samples, .safetensors")
    parser.add_argument("--debug-handles", type=Path, required=True, help="of the lowering, .json")
    parser.add_argument("--output", type=Path, required=True, help="the report, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models import programs
        from pte_foundry.models.tensors import Samples
        from pte_foundry.pte import Pte
        from pte_foundry.validate.divergence import diverge_all

        digest = check_noted(arguments.pte, arguments.digest)
        handles, pte = read_json(arguments.debug_handles), Pte.load(arguments.pte)
        pte.add_debug_info(handles.get("debug_info", {}))
        report = diverge_all(
            pte,
            programs.load_all(arguments.program),
            handles["operators"],
            Samples.load(arguments.reference),
        )
        path = seen_from(base_of_artifact(arguments.pte), arguments.pte)
        artifact = {"path": path, "sha256": digest}
        write_json(arguments.output, report | {"artifact": artifact})

    return command.run(arguments, step, fork=command.EXECUTING)


if __name__ == "__main__":
    raise SystemExit(main())
