"""The records of a ``.pt2`` archive, as torch's own reader finds them.

Stands against: torch 2.13.0
Uses: ``torch._C.PyTorchFileReader``, with which ``torch.export.load`` reads. Another reader of zip
    files may find other records in the same bytes, so checks must look at those of this one.
Remove when: ``torch.export.load`` neither unpickles nor evaluates what is in the file.
"""

from __future__ import annotations

from pathlib import Path

import torch


class Archive:
    """A ``.pt2`` file. Raises RuntimeError if it is not one."""

    def __init__(self, path: Path) -> None:
        self._reader = torch._C.PyTorchFileReader(str(path))

    def names(self) -> list[str]:
        """Names of the records, without the archive's own."""
        return list(self._reader.get_all_records())

    def read(self, name: str) -> bytes:
        """One record. Raises RuntimeError if there is none of this name."""
        return self._reader.get_record(name)
