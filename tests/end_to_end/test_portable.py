"""Protects the claim that no processor changes the bytes: other ones are emulated and compared.

QEMU's user mode runs the same Python as a Nehalem (no AVX, no FMA) and as a Haswell.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pte_foundry.job.deterministic_env import ENVIRONMENT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

NUMERICS = """
import hashlib, numpy, torch
from pte_foundry.upstream.torch_mkl_functions import replace_mkl_functions
replace_mkl_functions()
F = torch.nn.functional
g = torch.Generator().manual_seed(0)
a, b = torch.randn(64, 96, generator=g), torch.randn(96, 80, generator=g)
x, w = torch.randn(1, 8, 16, 16, generator=g), torch.randn(16, 8, 3, 3, generator=g)
n = a.numpy()
results = {
    "random": x, "conv": F.conv2d(x, w), "depthwise": F.conv2d(x, w[:8, :1], groups=8),
    "matmul": a @ b, "sum": a.sum(0), "mean": a.mean(), "amax": a.amax(1), "exp": a.exp(),
    "softmax": a.softmax(-1), "gelu": F.gelu(a), "tanh": a.tanh(),
    "layer_norm": F.layer_norm(a, (96,)), "rsqrt": a.abs().rsqrt(),
    "numpy": torch.from_numpy(numpy.exp(n) + numpy.sin(n) + numpy.log(abs(n))),
    "blas": torch.from_numpy(n @ b.numpy()), "svd": torch.from_numpy(numpy.linalg.svd(n)[1]),
}
p = a.abs() + 0.1
parameter = torch.nn.Parameter(a.clone())
optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.1)
for _ in range(5):
    optimizer.zero_grad()
    (F.silu(parameter @ b) ** 2).mean().backward()
    optimizer.step()
results |= {
    "sqrt": p.sqrt(), "sqrt64": p.double().sqrt(), "pow": p**0.5, "atan": a.atan(), "tan": a.tan(),
    "asin": (p / 9).asin(), "acos": (p.double() / 9).acos(), "norm": a.norm(), "std": a.std(0),
    "adam": parameter.detach(),
}
for name, value in results.items():
    print(name, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()[:16])
"""


def run(*prefix: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", NUMERICS],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def emulator() -> str:
    found = shutil.which("qemu-x86_64")
    if not found:
        assert "CI" not in os.environ, "CI must have qemu-user"
        pytest.skip("needs qemu-x86_64 (Debian: qemu-user)")
    return found


@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_portable_numerics_are_the_same_on_another_processor(emulator, processor):
    here = run(environment=ENVIRONMENT)
    there = run(emulator, "-cpu", processor, environment=ENVIRONMENT)
    assert there.splitlines() == here.splitlines()
