"""Writes an artifact: the lowered program, checked, with its target's compute units."""

from pathlib import Path

from pte_foundry.files import check, read_json, write_bytes, write_digest
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument("--lowered", type=Path, required=True, help="the lowered program, .pte")
    parser.add_argument("--debug-handles", type=Path, required=True, help="of the lowering, .json")
    parser.add_argument("--output", type=Path, required=True, help="the artifact, .pte")
    parser.add_argument("--digest", type=Path, required=True, help="its digest, for sha256sum")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.formats.artifact import artifact

        check(arguments.lowered, read_json(arguments.debug_handles)["pte_sha256"])
        written = artifact(arguments.lowered.read_bytes(), arguments.slice)
        digest = write_bytes(arguments.output, written, durable=True)
        write_digest(arguments.digest, arguments.output, digest)

    # Only rewriting a program for other compute units needs executorch.
    rewritten = arguments.slice["compute_units"] != "all"
    fork = command.BUILDING if rewritten else None
    return command.run(arguments, step, deterministic=True, fork=fork)


if __name__ == "__main__":
    raise SystemExit(main())
