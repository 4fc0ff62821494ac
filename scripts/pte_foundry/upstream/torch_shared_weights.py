"""Several exported programs in one ``.pt2`` archive, with their equal weights stored once.

Stands against: torch 2.13.0
Uses: ``torch.export.pt2_archive``, whose archives hold several programs. It writes the weights of
    each, and reads them into memory once for each program. Here the writer leaves out a record
    whose bytes it has written already, and the reader gives programs the same memory.
Remove when: ``package_pt2`` writes the weights that programs share once, and ``load_pt2`` shares
    them. The test of the same name shows what it does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive import _package as package

from pte_foundry.upstream.versions import require

require(package.PT2ArchiveWriter, "write_bytes", "self name data", patch=__name__)
require(
    package, "_package_payload_config", "archive_writer payload_config config_file", patch=__name__
)
require(package, "_build_file_map", "archive_reader config base_dir", patch=__name__)

_PREFIX = "method_"  # torch calls the only program of an archive "model"
_PAYLOADS = ("data/weights/weight_", "data/constants/tensor_")


def save(programs: Mapping[str, ExportedProgram], file: IO[bytes]) -> None:
    """Writes programs by name; equal programs give equal bytes."""
    named = {f"{_PREFIX}{name}": program for name, program in programs.items()}
    with _written_once():
        package.package_pt2(file, exported_programs=named)


def load(path: Path) -> dict[str, ExportedProgram]:
    """Reads the programs that :func:`save` wrote, in its order; they share equal weights."""
    with _read_once():
        found = package.load_pt2(str(path)).exported_programs
    with package.PT2ArchiveReader(str(path)) as reader:
        for kind in ("weights", "constants"):
            _share_pickled(found, kind, reader)
    return {name.removeprefix(_PREFIX): program for name, program in found.items()}


@contextmanager
def _written_once() -> Iterator[None]:
    """Within this context an archive gets records of equal bytes once.

    torch numbers the records of a program from the number of those that are there, so every record
    that is written gets the next number, and the configuration of the program the numbers given.
    """
    write, configure = package.PT2ArchiveWriter.write_bytes, package._package_payload_config
    names: dict[bytes, str] = {}
    given: dict[str, str] = {}

    def write_bytes(self: package.PT2ArchiveWriter, name: str, data: bytes) -> None:
        prefix = next((p for p in _PAYLOADS if name.startswith(p)), None)
        if prefix is None:
            write(self, name, data)
            return
        digest = hashlib.sha256(prefix.encode())
        digest.update(data)
        key = digest.digest()
        if key not in names:
            names[key] = f"{prefix}{self.count_prefix(prefix)}"
            write(self, names[key], data)
        given[name.rpartition("/")[2]] = names[key].rpartition("/")[2]

    def payload_config(writer: package.PT2ArchiveWriter, config: Any, file: str) -> None:
        for entry in config.config.values():
            entry.path_name = given.get(entry.path_name, entry.path_name)
        given.clear()
        configure(writer, config, file)

    with (
        patch.object(package.PT2ArchiveWriter, "write_bytes", write_bytes),
        patch.object(package, "_package_payload_config", payload_config),
    ):
        yield


@contextmanager
def _read_once() -> Iterator[None]:
    """Within this context the programs of one archive share the memory of equal records."""
    build = package._build_file_map
    known: dict[tuple[str, str, Any], torch.Tensor] = {}

    def build_file_map(reader: Any, config: Any, folder: str) -> dict[str, torch.Tensor]:
        found = build(reader, config, folder)
        return {
            name: known.setdefault((folder, name, tensor.dtype), tensor)
            for name, tensor in found.items()
        }

    with patch.object(package, "_build_file_map", build_file_map):
        yield


def _share_pickled(
    programs: Mapping[str, ExportedProgram], kind: str, reader: package.PT2ArchiveReader
) -> None:
    """Gives programs the same object for a weight that is pickled, as quantized ones are."""
    known: dict[str, torch.Tensor] = {}
    for name, program in programs.items():
        held = program.state_dict if kind == "weights" else program.constants
        config = json.loads(reader.read_string(f"data/{kind}/{name}_{kind}_config.json"))
        for tensor, entry in config["config"].items():
            if entry["use_pickle"] and tensor in held:
                held[tensor] = known.setdefault(entry["path_name"], held[tensor])
