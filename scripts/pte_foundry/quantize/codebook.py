"""Tables and codes of codebook quantization (LUT palettization), found by our scalar k-means.

torchao 0.18's ``CodebookWeightOnlyConfig`` calls coremltools 9.0 for each table, which runs
scikit-learn's general k-means: slow, and its sums depend on the number of threads. Here
``pte_foundry.quantize.kmeans`` finds all tables of a weight together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from torchao.prototype.quantization.codebook_coreml import codebook_quantized_tensor

from pte_foundry.errors import ModelError
from pte_foundry.quantize.kmeans import lookup_tables

# Core ML has no codes of 5 and 7 bits (coremltools 9.0, mil/types); the next wider ones carry
# them, with unused entries at the end of the table.
_CARRIERS = {5: 6, 7: 8}


def carrier(bits: int) -> int:
    """Width in bits of the codes that Core ML stores for tables of ``2**bits`` entries."""
    return _CARRIERS.get(bits, bits)


def choose(
    bits: int, weight: torch.Tensor, code_dtype: torch.dtype, block_size: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces torchao's ``choose_qparams_and_quantize_codebook_coreml``.

    Args:
        bits: 1 to 8; tables have ``2**bits`` entries in use, and room for codes of ``code_dtype``.
        weight: a matrix of any float dtype.
        code_dtype: ``torch.uint1`` to ``torch.uint8``, at least ``bits`` wide.
        block_size: rows and columns that share a table, -1 for all; only one of the two may cut.

    Returns:
        Tables, float64, of shape (row blocks, column blocks, entries, 1); and the codes, uint8, in
        the shape of the weight.

    Raises:
        ModelError: blocks do not divide the weight or cut it both ways, or a value is not finite.
    """
    width = int(str(code_dtype).removeprefix("torch.uint"))
    shape = tuple(weight.shape)
    if weight.dim() != 2 or len(block_size) != 2:
        raise ModelError(f"only matrices get codebooks, not shape {shape}, block {block_size}")
    rows, columns = (n if size == -1 else size for size, n in zip(block_size, shape, strict=True))
    divided = not (shape[0] % rows or shape[1] % columns)
    if not divided or (rows != shape[0] and columns != shape[1]):
        raise ModelError(f"blocks of {rows} × {columns} do not cut a weight of {shape} one way")
    block = (rows, columns)
    centres, codes = lookup_tables.tables_and_codes(weight.detach(), block, 1 << bits)
    tables = np.zeros((shape[0] // rows, shape[1] // columns, 1 << width, 1))
    tables[:, :, : 1 << bits, 0] = centres.reshape(*tables.shape[:2], -1)
    return torch.from_numpy(tables), torch.from_numpy(codes)


@contextmanager
def solver(bits: int) -> Iterator[None]:
    """Makes torchao find codebooks of ``2**bits`` entries with :func:`choose`; not thread-safe.

    Args:
        bits: 1 to 8; torchao is to be asked for codes of ``carrier(bits)`` bits.
    """
    function = "choose_qparams_and_quantize_codebook_coreml"
    with patch.object(codebook_quantized_tensor, function, partial(choose, bits)):
        yield
