"""Protects functions whose last bits depended on the CPU: by IEEE 754, by libm, in all variants.

tests/end_to_end/test_portable.py compares them on emulated CPUs.
"""

import numpy as np
import pytest
import torch
from pte_foundry.upstream.torch_mkl_functions import FUNCTIONS, replace_mkl_functions

VALUES = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05


@pytest.fixture(autouse=True)
def _replaced():
    replace_mkl_functions()
    replace_mkl_functions()  # a second time does nothing


def test_square_roots_are_correctly_rounded():
    """In one operation of twice the precision, rounded once."""
    exact = VALUES.double().numpy()
    expected = np.sqrt(exact).astype(np.float32)
    np.testing.assert_array_equal(VALUES.sqrt().numpy(), expected)
    np.testing.assert_array_equal((VALUES**0.5).numpy(), expected)
    np.testing.assert_array_equal(torch._foreach_sqrt([VALUES])[0].numpy(), expected)
    np.testing.assert_array_equal(VALUES.double().sqrt().numpy(), np.sqrt(exact))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_variant_gives_the_same(name, dtype):
    function, x = getattr(torch, name), VALUES.to(dtype)
    expected = torch.from_numpy(FUNCTIONS[name](x.numpy()))
    assert torch.equal(function(x), expected)
    assert torch.equal(getattr(x.clone(), f"{name}_")(), expected)
    assert torch.equal(function(x, out=torch.empty(0, dtype=dtype)), expected)
    assert torch.equal(function(x, out=torch.empty_like(x)), expected)
    square = x.reshape(25, 40)
    assert torch.equal(function(square.t()), expected.reshape(25, 40).t())
    assert function(square.t()).stride() == square.t().stride()
    assert torch.equal(function(x[::2]), expected[::2])
    assert function(x[0]).shape == ()
    assert function(x[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.complex64])
def test_other_dtypes_are_computed_by_torch(dtype):
    assert torch.tensor([4, 9]).to(dtype).sqrt().real.tolist() == [2, 3]
    assert torch.tensor([4, 9]).to(dtype).atan().is_floating_point() or dtype.is_complex


def test_special_values_and_gradients():
    special = torch.tensor([-1.0, 0.0, -0.0, torch.inf, torch.nan])
    assert torch.equal(special.sqrt()[1:4], torch.tensor([0.0, -0.0, torch.inf]))
    assert special.sqrt()[[0, 4]].isnan().all()
    assert torch.equal(torch.signbit(special.sqrt()[1:3]), torch.tensor([False, True]))
    x = VALUES.clone().requires_grad_()
    x.sqrt().sum().backward()
    assert torch.equal(x.grad, 1 / (2 * VALUES.sqrt()))
    assert torch.equal(VALUES**2, VALUES * VALUES)


def test_programs_are_exported_as_before():
    class Root(torch.nn.Module):
        def forward(self, x):
            return x.sqrt() + x.atan() + x**0.5

    program = torch.export.export(Root(), (VALUES,)).run_decompositions()
    operators = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert operators.count("aten.sqrt.default") + operators.count("aten.pow.Tensor_Scalar") == 2
    assert "aten.atan.default" in operators
    assert torch.equal(program.module()(VALUES), Root()(VALUES))
