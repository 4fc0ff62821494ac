"""Lowers an edge program to Core ML inside an ExecuTorch program, in its canonical form."""

import json
from pathlib import Path

from scripts import cli, lean
from scripts.files import read_json, write_bytes, write_json


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--slice", type=json.loads, required=True, help="this step's configuration")
    parser.add_argument("--program", type=Path, required=True, help="the edge program, .pt2")
    parser.add_argument("--about", type=Path, required=True, help="what is not in it, .json")
    parser.add_argument("--output", type=Path, required=True, help="the lowered program, .pte")
    parser.add_argument("--sources", type=Path, required=True, help="what was lowered, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        lean.load_coremltools()
        from scripts import edge_program
        from scripts.lowering import lower
        from scripts.pte.canonical import canonical_pte

        about = read_json(arguments.about)
        # Without names for what is between: each holds all weights, and goes when it is used.
        lowered = canonical_pte(
            lower(edge_program.load(arguments.program, about), arguments.slice), "all"
        )
        digest = write_bytes(arguments.output, lowered)
        write_json(arguments.sources, {"pte_sha256": digest, "operators": about["operators"]})

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
