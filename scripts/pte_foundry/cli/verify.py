"""``pte-foundry verify``: checks all results against their checksums."""

import argparse
import json
import time
from pathlib import Path

from pte_foundry.cli.console import printable
from pte_foundry.cli.files import RESULTS, results_of_last_build
from pte_foundry.errors import InputError
from pte_foundry.workflow.build_options import build_options, folder_of_build
from pte_foundry.workflow.verify import rebuild_command, verify

DESCRIPTION = """\
Checks every file of a build against its checksum: artifacts against their
.sha256, the manifest and their validation reports, intermediate files against
the checksums in them, downloads against the config. Finds what a failing disk
has changed, also if the date of the file is the same, and prints the command
that makes it again. Reads everything and changes nothing."""
EXAMPLES = """\
  pte-foundry verify
  pte-foundry verify /mnt/backup/results
  pte-foundry verify --json | jq -r '.damaged[].path'
"""
EXIT_CODES = {0: "no file is damaged", 1: "a file is damaged or missing, or there are no results"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help=f"the folder of results ({RESULTS}, or where the last build here put it)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print checked (number of files), damaged (path and why of each), unchecked (paths), "
        "and command (a text or null) as JSON",
    )


def run(arguments: argparse.Namespace) -> int:
    results, began = arguments.results or results_of_last_build(), time.monotonic()
    if not results.is_dir():
        raise InputError(
            f"{results}: there is no such folder. Build first (make, or snakemake --cores all), or "
            "name the folder of results of another build."
        )
    found = verify(results)
    if not found.checked and not found.damaged:
        raise InputError(f"{results}: there are no results of a build in this folder")
    folder = folder_of_build(results)
    paths = [path.relative_to(folder) for path in found.damaged]
    command = rebuild_command(paths, build_options(folder)) if paths else None
    if arguments.json:
        damaged = [{"path": str(path), "why": why} for path, why in found.damaged.items()]
        unchecked = [str(path) for path in found.unchecked]
        told = {"checked": found.checked, "damaged": damaged, "unchecked": unchecked}
        print(json.dumps(told | {"command": command}, indent=1))
        return 1 if paths else 0
    for path, why in sorted(found.damaged.items()):
        print(printable(f"damaged: {path}: {why}"))
        if path.is_dir():
            print("         It is a folder. Move it away before you make the file again.")
    seconds = time.monotonic() - began
    print(
        f"checked {found.checked} files, {found.bytes / 1e6:.1f} MB, in {seconds:.1f} s: "
        f"{len(paths) or 'none'} damaged or missing"
    )
    for path in found.unchecked:
        print(printable(f"not checked, because it has no checksum: {path}"))
    if command:
        print("To make them again, run this and then build as before:")
        print(printable(f"  {command}"))
    return 1 if paths else 0
