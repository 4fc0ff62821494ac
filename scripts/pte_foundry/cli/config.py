"""``pte-foundry config``: the JSON Schema and the reference of the config."""

import argparse
import sys

from pte_foundry.config.schema import docs_text, schema_text

DESCRIPTION = "Prints the JSON Schema of the config, or its reference in Markdown."
EXAMPLES = """\
  pte-foundry config schema > config/schema.json
  pte-foundry config docs > config/README.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=("schema", "docs"),
        help="schema: for editors and validators; docs: every key with its default",
    )


def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(schema_text() if arguments.what == "schema" else docs_text())
    return 0
