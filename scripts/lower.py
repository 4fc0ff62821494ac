"""Lowers an edge program to Core ML inside an ExecuTorch program, in its canonical form."""

import gc
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

        edge = edge_program.load(arguments.program, read_json(arguments.about))
        lowered, sources = lower(edge, arguments.slice), edge.sources
        # Upstream's programs refer to themselves in circles. Two copies of the weights would stay
        # beside those that follow: SmolLM2 in fp32 took 4.1 GB for weights of 0.63 GB.
        del edge
        gc.collect()
        digest = write_bytes(arguments.output, canonical_pte(lowered, "all"))
        write_json(arguments.sources, {"pte_sha256": digest, "operators": sources})

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
