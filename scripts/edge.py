"""Makes the edge program of a torch program: what all its lowerings have in common."""

import json
from pathlib import Path

from scripts import cli, lean
from scripts.files import write_json


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--slice", type=json.loads, required=True, help="this step's configuration")
    parser.add_argument("--program", type=Path, required=True, help="the torch program, .pt2")
    parser.add_argument("--output", type=Path, required=True, help="the edge program, .pt2")
    parser.add_argument("--about", type=Path, required=True, help="what is not in it, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        lean.load_coremltools()
        from scripts import edge_program, programs

        skip = arguments.slice["skip_ops_for_coreml_delegation"]
        edge = edge_program.make(programs.load(arguments.program), skip)
        write_json(arguments.about, edge_program.save(edge, arguments.output))

    return cli.run(arguments, step, portably=True, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
