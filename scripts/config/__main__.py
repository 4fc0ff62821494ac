"""Check config files, or write the JSON Schema or the reference: ``python -m scripts.config``."""

import argparse
import sys
from pathlib import Path

from scripts.config.config import load
from scripts.config.schema import docs_text, schema_text
from scripts.errors import FoundryError


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code: 1 if a configuration is wrong."""
    parser = argparse.ArgumentParser(prog="python -m scripts.config", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="write the content of config/schema.json")
    commands.add_parser("docs", help="write the content of config/README.md")
    checking = commands.add_parser("check", help="check config files, later ones over former ones")
    checking.add_argument("files", nargs="+", type=Path, metavar="FILE")
    checking.add_argument("--root", type=Path, default=Path.cwd(), help="the project's folder")
    arguments = parser.parse_args(argv)
    if arguments.command == "check":
        return _check(arguments.files, arguments.root)
    sys.stdout.write(schema_text() if arguments.command == "schema" else docs_text())
    return 0


def _check(files: list[Path], root: Path) -> int:
    try:
        config = load([file.resolve() for file in files], root.resolve())
    except FoundryError as error:
        print(error)
        return 1
    print(f"ok: {len(config.builds)} build{'s' * (len(config.builds) != 1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
