"""The environment in which everything that feeds a ``.pte``'s or a report's bytes is computed.

The same inputs must give the same bytes on every x86-64 machine. Floating-point results depend on
more than the program: libraries pick their code by the processor, split sums by the number of
threads, and Python orders sets by a random seed. Each variable below removes one of these choices.
Some are read before ``main`` runs (glibc) or when a library is first loaded, so a process without
them replaces itself by one that has them. Nothing heavy has been imported by then.
"""

import os
import sys

ENVIRONMENT = {
    # Sums are split by thread, so their rounding depends on the number of threads.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # torch: ATen's kernels, oneDNN's, MKL's. The oldest instruction set that all of them have.
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    # numpy's own kernels (exp, log, sums) and its BLAS.
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    # libm has a second exp, log, sin, ... that uses fused multiply-add and rounds differently.
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F",
    # Order of sets and dicts, messages and dates.
    "PYTHONHASHSEED": "0",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}


def enter() -> None:
    """Makes sure that this process has :data:`ENVIRONMENT`.

    Otherwise replaces it by one that has, with the same interpreter options (such as ``-P``) and
    arguments, and does not return.
    """
    if all(os.environ.get(name) == value for name, value in ENVIRONMENT.items()):
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)
