"""Square roots and inverse trigonometric functions that are the same on every CPU.

Stands against: torch 2.13.0
Repairs: ``sqrt``, ``acos``, ``asin``, ``atan`` and ``tan`` of CPU tensors
    (``aten/src/ATen/cpu/vml.h``). They call MKL's vector functions, which in the mode
    ``MKL_CBWR=COMPATIBLE`` refine the CPU's own estimates (RSQRTPS, RCPPS). These estimates differ
    between generations of CPUs, and so do the last bits of the results: a training with Adam gave
    other weights. numpy computes square roots as IEEE 754 defines them and the others with libm,
    which ``job.deterministic_env`` holds to one variant.
Remove when: torch computes them without MKL, or MKL offers a mode without estimates.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch

FUNCTIONS = {
    "sqrt": np.sqrt,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "tan": np.tan,
}
_DTYPES = (torch.float32, torch.float64)

_library: torch.library.Library | None = None  # the kernels are registered as long as this exists


def replace_mkl_functions() -> None:
    """Registers numpy's functions as torch's kernels for CPU tensors; once per process."""
    global _library
    if _library is not None:
        return
    _library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of every replaced kernel
        for name, function in FUNCTIONS.items():
            for overload, kernel in _kernels(name, function).items():
                _library.impl(overload, kernel, "CPU", with_keyset=True)
        _library.impl("pow.Tensor_Scalar", _power(), "CPU", with_keyset=True)


def _power() -> Callable:
    """Returns a kernel of ``pow``: upstream's calls MKL's square root for exponents of 0.5."""
    upstream = torch.library.get_kernel("aten::pow.Tensor_Scalar", "CPU")

    def power(keys: torch._C.DispatchKeySet, x: torch.Tensor, exponent: float) -> torch.Tensor:
        if exponent == 0.5 and x.dtype in _DTYPES:
            return x.sqrt()
        return upstream.call_boxed(keys, x, exponent)

    return power


def _kernels(name: str, function: Callable[..., np.ndarray]) -> dict[str, Callable]:
    """Returns the kernels of an operator by overload: functional, in place, and with ``out``."""
    upstream = {
        overload: torch.library.get_kernel(f"aten::{overload}", "CPU")
        for overload in (name, f"{name}_", f"{name}.out")
    }

    def compute(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        with np.errstate(all="ignore"):
            function(x.detach().numpy(), out=out.detach().numpy())
        return out

    def functional(keys: torch._C.DispatchKeySet, x: torch.Tensor) -> torch.Tensor:
        if x.dtype not in _DTYPES:
            return upstream[name].call_boxed(keys, x)
        return compute(x, torch.empty_like(x))

    def in_place(keys: torch._C.DispatchKeySet, x: torch.Tensor) -> torch.Tensor:
        if x.dtype not in _DTYPES:
            return upstream[f"{name}_"].call_boxed(keys, x)
        return compute(x, x)

    def with_out(
        keys: torch._C.DispatchKeySet, x: torch.Tensor, *, out: torch.Tensor
    ) -> torch.Tensor:
        if x.dtype not in _DTYPES or out.dtype != x.dtype:
            return upstream[f"{name}.out"].call_boxed(keys, x, out=out)
        return compute(x, out if out.shape == x.shape else out.resize_(x.shape))

    return {name: functional, f"{name}_": in_place, f"{name}.out": with_out}
