"""Protects that quantized programs can be read: their operators are not there by themselves."""

import subprocess
import sys

PROGRAM = """
import torch
from pte_foundry.upstream.torch_quantized_operators import register
# If this fails, torch registers them itself: remove the file.
assert not hasattr(torch.ops.quantized_decomposed, "quantize_per_tensor")
register()
register()
assert torch.ops.quantized_decomposed.quantize_per_tensor.default
"""


def test_the_operators_are_registered_and_only_on_request():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
