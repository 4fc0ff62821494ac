"""Protects that torchao finds codebooks with the solver that it is given."""

import pytest
import torch
from pte_foundry.upstream.torchao_codebook_solver import codebooks_solved_by
from torchao.prototype.quantization.codebook_coreml import (
    CodebookQuantizedTensor,
    api,
    codebook_ops,
    codebook_quantized_tensor,
)

from tests.unit.upstream.source_digest import assert_source_digest


@pytest.mark.parametrize(
    ("source", "digest"),
    [
        (codebook_ops, "32f8d0049094da72106dcc3ef901e3f1a0f5e84a792909784162285536f9a363"),
        (
            codebook_quantized_tensor,
            "26893da2beffa496911b1e1d0e707db040fa3918402388fe28d81f868be3d9b4",
        ),
        (api, "26546d7fccc120876151b0abed21a888d40873c1d2e1ed9fea985e85d2f77067"),
    ],
    ids=["solver", "tensor", "api"],
)
def test_upstream_is_what_was_read(source, digest):
    check = "Read again which blocks, shapes and dtypes the solver is given and must return."
    assert_source_digest(source, digest, check)


def test_torchao_asks_the_solver_and_only_for_a_while():
    asked = []

    def solver(weight, dtype, block_size):
        asked.append((tuple(weight.shape), dtype, block_size))
        return torch.zeros(1, 4, 4, 1), torch.zeros(weight.shape, dtype=torch.uint8)

    with codebooks_solved_by(solver):
        tensor = CodebookQuantizedTensor.from_float(torch.ones(8, 16), torch.uint2, [-1, 4])
    assert asked == [((8, 16), torch.uint2, [-1, 4])]
    assert not tensor.dequantize().any()
    upstream = codebook_ops.choose_qparams_and_quantize_codebook_coreml
    assert codebook_quantized_tensor.choose_qparams_and_quantize_codebook_coreml is upstream
