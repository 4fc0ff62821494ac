"""How much memory a step needs, from the size of its model: what rules tell a scheduler.

Peaks are those of getrusage(2), as in ``benchmarks/``, on x86-64 Linux with the locked libraries.
``make bench`` holds them against what is declared here.
"""

import json
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 2**20

# Below this the libraries decide, and what a model adds is noise; in MB.
FLOOR = 500


class Need(NamedTuple):
    """Memory in MB: ``base`` for libraries and samples, and ``factor`` times the size."""

    base: float
    factor: float = 0.0


# By rule, and after a comma a case in which a rule needs something else. The size is that of the
# weights in fp32, for `pte` that of the lowered program. Recipes differ, up to twice: what is
# declared is above the hungriest of them and below twice the most frugal one. Measured on models
# with 0.3, 15, 86 and 626 MB of weights.
NEEDS = {
    "fetch": Need(100),
    "train": Need(FLOOR),
    "export": Need(500, 3.1),
    "reference": Need(500, 2.6),
    "calibrate": Need(550, 1.6),
    "convert": Need(700, 2.4),
    "evaluate": Need(600, 3),
    "edge": Need(550, 2.6),
    "edge, compressed": Need(550, 1.2),
    "lower": Need(700, 4),
    "lower, compressed": Need(700, 2.8),
    "pte": Need(100, 1.2),
    "pte, rewritten": Need(450, 4.2),
    "validate": Need(500, 2.9),
    "diverge": Need(500, 3.6),
    "summary": Need(100),
    "manifest": Need(100),
    "report": Need(FLOOR),
}


def needed(name: str, size: float = 0.0) -> int:
    """MB to ask for: of what ``NEEDS`` has under this name, for a size in MB."""
    need = NEEDS[name]
    return round(need.base + need.factor * size)


def weights_mb(files: Iterable[Path]) -> float:
    """MB of a model's weights in fp32, from the first of ``files`` that exists; 0 if none does.

    Args:
        files: exported programs or files of weights, the most telling first.
    """
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        return _fp32_bytes(file, status.st_size, status.st_mtime_ns) / MEBIBYTE
    return 0.0


@cache
def _fp32_bytes(file: Path, size: int, _changed: int) -> int:
    """What the numbers in a file take in fp32; formats that do not tell are taken for fp32."""
    count = {".gguf": _gguf_elements, ".safetensors": _safetensors_elements}.get(file.suffix)
    try:
        return 4 * count(file) if count else size
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        return size  # damaged; the step that reads it says so


def _safetensors_elements(file: Path) -> int:
    """https://huggingface.co/docs/safetensors: the length of a JSON header, and the header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, file.stat().st_size)))
    return sum(_product(entry["shape"]) for key, entry in header.items() if key != "__metadata__")


# Width of GGUF's types of scalars by their numbers; 8 is a text, 9 an array.
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9


def _gguf_elements(file: Path) -> int:
    """https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: settings, then tensors' shapes.

    The library for it would take a second to read the vocabulary, which is only stepped over here.
    """
    with file.open("rb") as opened:

        def number(code: str) -> int:
            return struct.unpack(code, opened.read(struct.calcsize(code)))[0]

        def skip_text() -> None:
            opened.seek(number("<Q"), 1)

        def skip(kind: int) -> None:
            if kind == _TEXT:
                skip_text()
            elif kind == _ARRAY:
                items, count = number("<I"), number("<Q")
                if items in _WIDTHS:
                    opened.seek(_WIDTHS[items] * count, 1)
                else:
                    for _ in range(count):
                        skip(items)
            else:
                opened.seek(_WIDTHS[kind], 1)

        if opened.read(4) != b"GGUF":
            raise ValueError("no GGUF file")
        number("<I")  # version
        tensors, settings = number("<Q"), number("<Q")
        for _ in range(settings):
            skip_text()
            skip(number("<I"))
        total = 0
        for _ in range(tensors):
            skip_text()
            total += _product([number("<Q") for _ in range(number("<I"))])
            opened.seek(4 + 8, 1)  # type and place of its numbers
    return total


def _product(shape: list[int]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
