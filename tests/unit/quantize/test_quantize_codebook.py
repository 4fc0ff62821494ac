"""Tests that our tables replace torchao's: same blocks, shapes and dtypes, less error."""

import numpy as np
import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.quantize.codebook import choose, solver
from torch import nn
from torchao.prototype.quantization.codebook_coreml import (
    CodebookQuantizedTensor,
    CodebookWeightOnlyConfig,
    codebook_ops,
    codebook_quantized_tensor,
)
from torchao.quantization import quantize_
from torchao.quantization.utils import compute_error


def trained_layer():
    """A weight as training makes it: low rank, with noise, rows of different sizes."""
    rng = np.random.default_rng(1)
    low_rank = rng.normal(size=(64, 4)) @ rng.normal(size=(4, 96))
    values = (low_rank + 0.1 * rng.normal(size=(64, 96))) * rng.gamma(2, size=(64, 1))
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("block_size", [[-1, -1], [16, -1], [-1, 16], [64, -1], [-1, 96], [1, 96]])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_blocks_shapes_and_dtypes_are_torchaos(block_size, bits):
    """Tables of both are taken for the same blocks, so exchanging two would raise the error."""
    weight = trained_layer()
    dtype = getattr(torch, f"uint{bits}")
    theirs = codebook_ops.choose_qparams_and_quantize_codebook_coreml(weight, dtype, block_size)
    ours = choose(bits, weight, dtype, block_size)
    assert [(t.shape, t.dtype) for t in ours] == [(t.shape, t.dtype) for t in theirs]
    restored = [
        codebook_ops.dequantize_codebook(codes.int(), table, bits, block_size)
        for table, codes in (ours, theirs)
    ]
    errors = [float(((value - weight) ** 2).mean()) for value in restored]
    assert errors[0] <= errors[1] * (1 + 1e-6) + 1e-14


@pytest.mark.parametrize(("bits", "carried"), [(5, 6), (7, 8), (2, 8)])
def test_a_wider_code_leaves_the_end_of_the_table_unused(bits, carried):
    tables, codes = choose(bits, trained_layer(), getattr(torch, f"uint{carried}"), [16, -1])
    narrow, same = choose(bits, trained_layer(), getattr(torch, f"uint{bits}"), [16, -1])
    assert tables.shape == (4, 1, 1 << carried, 1)
    assert torch.equal(tables[:, :, : 1 << bits], narrow)
    assert not tables[:, :, 1 << bits :].any()
    assert torch.equal(codes, same)


@pytest.mark.parametrize(
    ("shape", "block_size", "message"),
    [
        ((64, 96), [24, -1], "do not cut"),
        ((64, 96), [-1, 36], "do not cut"),
        ((64, 96), [16, 16], "one way"),
        ((4, 4, 4), [-1, -1, -1], "matrices"),
        ((4, 4), [-1], "matrices"),
    ],
)
def test_blocks_that_torchao_refuses_are_refused(shape, block_size, message):
    weight = torch.ones(shape)
    with pytest.raises(AssertionError):
        codebook_ops.choose_qparams_and_quantize_codebook_coreml(weight, torch.uint2, block_size)
    with pytest.raises(ModelError, match=message):
        choose(2, weight, torch.uint2, block_size)


@pytest.fixture
def normal():
    """torchao's own tests (test/prototype/test_codebook_coreml.py) work on such a tensor."""
    torch.manual_seed(123)
    return torch.randn(100, 256)


@pytest.mark.parametrize(
    ("bits", "group", "least_db"), [(8, 4, 30.0), (4, 16, 18.0)], ids=["uint8", "uint4"]
)
def test_torchaos_tensors_are_as_good_as_it_asks(normal, bits, group, least_db):
    dtype = getattr(torch, f"uint{bits}")
    with solver(bits):
        tensor = CodebookQuantizedTensor.from_float(normal, dtype, [-1, group])
    assert tensor.codebook.shape == (1, 256 // group, 1 << bits, 1)
    assert tensor.codes.shape == (100, 256)
    assert not tensor.codebook.isnan().any()
    assert compute_error(tensor.dequantize(), normal) > least_db


def test_torchaos_configuration_makes_modules_that_export(normal):
    model = nn.Sequential(nn.Linear(256, 64))
    with solver(8):
        quantize_(model, CodebookWeightOnlyConfig(torch.uint8, [-1, 4]))
    assert type(model[0].weight) is CodebookQuantizedTensor
    program = torch.export.export(model, (normal[:1],))
    targets = [node.target for node in program.module().graph.nodes]
    assert torch.ops.quant.dequantize_codebook.default in targets
    assert torch.equal(program.module()(normal[:1]), model(normal[:1]))


def test_the_solver_is_exchanged_only_for_a_while():
    theirs = codebook_quantized_tensor.choose_qparams_and_quantize_codebook_coreml
    with solver(4):
        assert codebook_quantized_tensor.choose_qparams_and_quantize_codebook_coreml is not theirs
    assert codebook_quantized_tensor.choose_qparams_and_quantize_codebook_coreml is theirs
