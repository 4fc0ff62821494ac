"""Lowers a torch program to Core ML inside an ExecuTorch program, in its canonical form."""

import json
from pathlib import Path

from scripts import cli, lean
from scripts.files import write_bytes, write_json


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--slice", type=json.loads, required=True, help="this step's configuration")
    parser.add_argument("--program", type=Path, required=True, help="the torch program, .pt2")
    parser.add_argument("--output", type=Path, required=True, help="the lowered program, .pte")
    parser.add_argument("--sources", type=Path, required=True, help="what was lowered, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        lean.load_coremltools()
        from scripts import programs
        from scripts.lowering import lower
        from scripts.pte.canonical import canonical_pte

        lowered, sources = lower(programs.load(arguments.program), arguments.slice)
        digest = write_bytes(arguments.output, canonical_pte(lowered, "all"))
        write_json(arguments.sources, {"pte_sha256": digest, "operators": sources})

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
