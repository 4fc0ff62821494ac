"""Protects the process: dividing the smallest integer by -1 must not end it."""

import subprocess
import sys

import pytest
import torch
from pte_foundry.upstream import torch_division

CODE = """
import torch
x = torch.tensor([torch.iinfo(torch.{dtype}).min], dtype=torch.{dtype})
print(torch.div(x, torch.tensor([-1], dtype=x.dtype), rounding_mode="trunc").item())
"""


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_the_quotient_of_the_smallest_integer_wraps(dtype):
    low = torch.iinfo(dtype).min
    x = torch.tensor([low, low, 7, -7, 7, 0], dtype=dtype)
    y = torch.tensor([-1, 1, 2, 2, -1, -1], dtype=dtype)
    found = torch_division.truncated_quotient(x, y)
    assert found.tolist() == [low, low, 3, -3, -7, 0]
    assert found.dtype == dtype
    with pytest.raises(RuntimeError, match="ZeroDivision"):
        torch_division.truncated_quotient(x, y * 0)


@pytest.mark.skipif(sys.platform != "linux", reason="arm64 wraps")
def test_torch_still_ends_the_process():
    """If this fails: remove ``torch_division``."""
    ran = subprocess.run([sys.executable, "-c", CODE.format(dtype="int32")], capture_output=True)
    assert ran.returncode == -8
