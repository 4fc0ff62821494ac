"""Replaces the k-means behind torchao's codebook quantization.

Stands against: torchao 0.18.0
Repairs: ``choose_qparams_and_quantize_codebook_coreml``, as ``CodebookQuantizedTensor.from_float``
    (``prototype/quantization/codebook_coreml/codebook_quantized_tensor.py``) calls it. It runs
    scikit-learn's general k-means through coremltools for each table: slow, and its sums depend on
    the number of threads.
Remove when: ``CodebookWeightOnlyConfig`` takes a solver, or upstream's is exact and deterministic.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torchao.prototype.quantization.codebook_coreml import codebook_quantized_tensor

from pte_foundry.upstream.versions import require

Solver = Callable[[torch.Tensor, torch.dtype, list[int]], tuple[torch.Tensor, torch.Tensor]]
"""Takes weight, dtype of the codes and block size; returns tables and codes, as upstream does."""

_FUNCTION = "choose_qparams_and_quantize_codebook_coreml"
require(codebook_quantized_tensor, _FUNCTION, patch=__name__)


@contextmanager
def codebooks_solved_by(solver: Solver) -> Iterator[None]:
    """Within this context torchao finds codebooks with ``solver``; not thread-safe."""
    with patch.object(codebook_quantized_tensor, _FUNCTION, solver):
        yield
