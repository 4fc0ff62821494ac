"""The memory and the time that loading a program takes, measured in a process of its own.

``python -m scripts.bench.footprint A.pte samples.safetensors`` prints JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def of(pte: Path, samples: Path) -> dict[str, Any]:
    """Starts a process that loads ``pte`` and runs its first sample twice.

    Returns:
        ``load_s``: reading, checking and decompressing it; ``first_run_s``; ``weights_bytes``, of
        its decompressed weights; ``peak_bytes``: the most memory it took beyond that of the
        libraries (Linux counts it: elsewhere it is missing).
    """
    command = [sys.executable, "-m", __name__, str(pte), str(samples)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(pte: Path, samples: Path) -> dict[str, Any]:
    """What :func:`of` returns, of this process: only true in a fresh one."""
    import torch

    from scripts.pte import Pte
    from scripts.pte.contents import weigh_decompressed
    from scripts.tensors import Samples

    sample = Samples.load(samples).inputs[0]
    _load_kernels()
    before = memory()
    began = time.perf_counter()
    program = Pte.load(pte)
    for delegate in program.delegates:
        _ = delegate.program  # decoded when it is first asked for
    loaded = time.perf_counter()
    program.run(sample)
    ran = time.perf_counter()
    program.run(sample)
    after = memory()
    bodies = (
        function.block_specializations[function.opset]
        for delegate in program.delegates
        for function in delegate.model.spec.mlProgram.functions.values()
    )
    return {
        "load_s": loaded - began,
        "first_run_s": ran - loaded,
        "threads": torch.get_num_threads(),
        "weights_bytes": sum(sum(weigh_decompressed(body).values()) for body in bodies),
        **({"peak_bytes": after[1] - before[0]} if after and before else {}),
    }


def _load_kernels() -> None:
    """Runs what libraries load lazily: they are no part of a program."""
    import torch
    from torch.nn import functional

    from scripts.mil import Program  # noqa: F401  (the interpreter itself)

    functional.linear(torch.ones(8, 8), torch.ones(8, 8).half().float())
    functional.conv2d(torch.ones(1, 8, 8, 8), torch.ones(8, 8, 3, 3))


def memory() -> tuple[int, int] | None:
    """Bytes in memory now and at most since the last call, if the system tells (Linux does)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    reset.write_text("5")  # begins a new peak (proc(5))
    return tuple(int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


if __name__ == "__main__":
    print(json.dumps(measure(*map(Path, sys.argv[1:]))))
