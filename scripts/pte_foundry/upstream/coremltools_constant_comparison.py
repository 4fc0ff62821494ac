"""Compares constants of a Core ML program in small memory.

Stands against: coremltools 9.0
Repairs: ``const_deduplication`` (``converters/mil/mil/passes/defs/cleanup/
    const_deduplication.py``), which compares constants that begin alike by ``numpy.allclose``. That
    takes 32 bytes for each value, whatever their type: 9 GB for the 8-bit embedding of Llama 3.2 1B
    and the equal weight of its last layer, which are 0.26 GB each.
Remove when: a comparison takes less memory than the constants.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from pte_foundry.upstream.versions import require

# The package has the class by the name of its module.
module = importlib.import_module(
    "coremltools.converters.mil.mil.passes.defs.cleanup.const_deduplication"
)

require(module.const_deduplication, "find_constants", "blocks", patch=__name__)

_PIECE = 1 << 20


class _Numpy:
    """numpy, whose ``allclose`` takes its arrays in pieces."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def allclose(a: Any, b: Any, **tolerance: float) -> bool:
        first, second = np.asarray(a), np.asarray(b)
        if first.shape != second.shape:
            return np.allclose(first, second, **tolerance)
        first, second = first.reshape(-1), second.reshape(-1)
        pieces = (slice(start, start + _PIECE) for start in range(0, first.size, _PIECE))
        return all(np.allclose(first[piece], second[piece], **tolerance) for piece in pieces)


@contextmanager
def compared_in_pieces() -> Iterator[None]:
    """Within this context equal constants are found in a few megabytes."""
    with patch.object(module, "np", _Numpy()):
        yield
