"""``pte-foundry pin``: adds the SHA-256 of weights and data files to a config file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pte_foundry.cli.console import cell, console, table
from pte_foundry.config import pins
from pte_foundry.config.layers import clone_of, layered
from pte_foundry.config.pins import Pin
from pte_foundry.errors import ConfigError, FoundryError, InputError
from pte_foundry.files import replacing, sha256
from pte_foundry.packages import packaged_file

DESCRIPTION = """\
Computes the sha256 of all weights and data files in a config file that have
none, and writes them into it; comments and order stay. Look where the files
are from first: a pin keeps a file as it is now, it does not tell whether it is
the right one."""
EXAMPLES = """\
  pte-foundry pin mine.yaml
  pte-foundry pin --update mine.yaml      # also those that have changed
"""
EXIT_CODES = {0: "every file has a pin", 1: "a file cannot be read, or the config is not YAML"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the config file")
    parser.add_argument(
        "--update", action="store_true", help="compute the pins that are there again, too"
    )


def run(arguments: argparse.Namespace) -> int:
    path = arguments.config
    try:
        text = path.read_bytes().decode("utf-8")
        found = pins.pins(text)
        layers = layered(yaml.full_load(text), [path.resolve()], clone_of(Path.cwd()))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error

    def folder(pin: Pin) -> Path:
        return layers.folder((*pin.key, "file"), str(pin.source.get("file")))

    wanted = [pin for pin in found if arguments.update or not pin.digest]
    digests: dict[str, str] = {}
    failures = []
    for pin in wanted:
        try:
            digests[pin.name] = digest(pin.source, folder(pin))
        except (FoundryError, OSError) as error:
            failures.append(f"{path}: {pin.name}: {error}")
    if failures:
        raise ConfigError("\n".join([*failures, f"{path} is as it was."]))
    changed = [pin for pin in wanted if digests[pin.name] != pin.digest]
    if changed:
        made = pins.pinned(text, lambda pin: digests[pin.name], changed)
        with replacing(path, keep_mode=True) as temporary:
            temporary.write_bytes(made.encode("utf-8"))  # with the ends of lines that it has
    output = console()
    made = table("source", "sha256", "")
    for pin in changed:
        made.add_row(*map(cell, (pin.name, digests[pin.name], "changed" if pin.digest else "new")))
    if changed:
        output.print(made)
    output.print(f"{len(changed)} pinned, {len(found) - len(changed)} as they were")
    return 0


def digest(source: Mapping[str, Any], folder: Path) -> str:
    """Returns the SHA-256 of a source of weights or data.

    Args:
        source: as the config has it.
        folder: what the path of a file is relative to.
    """
    if "url" in source:
        from pte_foundry.models.download import digest_of

        return digest_of(str(source["url"]))
    if "package" in source:
        return sha256(packaged_file(str(source["package"]), str(source["file"])))
    return sha256(folder / str(source["file"]))
