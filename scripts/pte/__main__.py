"""Writes an artifact: the lowered program for its target's compute units, checked.

The bytes are read back and held against what the target asks for, because upstream's own recipes
have been seen to lower the target in silence.
"""

import json
from pathlib import Path

from scripts import cli
from scripts.files import check, read_json, write_bytes, write_digest


def artifact(lowered: bytes, target: dict) -> bytes:
    """The artifact's bytes. Raises ProgramError if they are not what ``target`` asks for."""
    from scripts.pte.canonical import canonical_pte
    from scripts.pte.inspect import Expected, describe, verify

    # Lowered programs are canonical already, for all units; rewriting one costs an import of exir.
    units = target["compute_units"]
    written = lowered if units == "all" else canonical_pte(lowered, units)
    expected = Expected(
        specification_version=target["specification_version"],
        precision=target["compute_precision"],
        compute_units=units,
        model_type=target["model_type"],
        # A target may allow states that the model has no use for.
        stateful=None if target["states"] else False,
    )
    verify(describe(written), expected)
    return written


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--slice", type=json.loads, required=True, help="this step's configuration")
    parser.add_argument("--lowered", type=Path, required=True, help="the lowered program, .pte")
    parser.add_argument("--sources", type=Path, required=True, help="what was lowered, .json")
    parser.add_argument("--output", type=Path, required=True, help="the artifact, .pte")
    parser.add_argument("--digest", type=Path, required=True, help="its digest, for sha256sum")
    arguments = parser.parse_args(argv)

    def step() -> None:
        check(arguments.lowered, read_json(arguments.sources)["pte_sha256"])
        written = artifact(arguments.lowered.read_bytes(), arguments.slice)
        digest = write_bytes(arguments.output, written)
        write_digest(arguments.digest, arguments.output, digest)

    rewritten = arguments.slice["compute_units"] != "all"
    return cli.run(arguments, step, portably=True, warm=rewritten)


if __name__ == "__main__":
    raise SystemExit(main())
