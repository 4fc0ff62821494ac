"""``pte-foundry schema`` and ``docs``: the JSON Schema and the reference of the config."""

import argparse
import sys

from pte_foundry.config.schema import docs_text, schema_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("schema", "docs"), help="config/schema.json or README.md")


def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(schema_text() if arguments.what == "schema" else docs_text())
    return 0
