"""Time and memory to load and run a program, measured in a process of its own.

``python -m pte_foundry.bench.footprint A.pte samples.safetensors`` prints them as JSON;
``python -m pte_foundry.bench.footprint --eager RESULTS MODEL`` prints those of the model in torch.
"""

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def of(pte: Path, samples: Path) -> dict[str, Any]:
    """Starts a process that loads ``pte`` and runs its first sample twice.

    Returns:
        ``load_s``: seconds to read, check and decompress it; ``first_run_s``; ``threads`` of torch;
        ``weights_bytes`` of its decompressed weights; ``peak_bytes``: the peak of memory beyond
        that of the libraries (on Linux only).
    """
    return _in_a_process(pte, samples)


def of_eager(results: Path, model: str) -> dict[str, Any]:
    """Starts a process that runs the first sample of a built model in torch, in fp32.

    Returns:
        ``eager_run_bytes``: the peak of memory of a run beyond that of the libraries and the model,
        that is for activations and the libraries' workspaces (on Linux only).
    """
    return _in_a_process("--eager", results, model)


def _in_a_process(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(pte: Path, samples: Path) -> dict[str, Any]:
    """Measures what :func:`of` returns, in this process, which must be new."""
    import torch

    from pte_foundry.formats.mil_contents import weigh_decompressed
    from pte_foundry.models.tensors import Samples
    from pte_foundry.pte import Pte

    sample = Samples.load(samples).inputs[0]
    before = start()
    began = time.perf_counter()
    program = Pte.load(pte)
    for delegate in program.delegates:
        _ = delegate.program  # decodes it
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


def measure_eager(results: Path, model: str) -> dict[str, Any]:
    """Measures what :func:`of_eager` returns, in this process, which must be new."""
    import torch

    from pte_foundry.bench.built import load_module, reference
    from pte_foundry.models.tensors import Samples

    network = load_module(results, model).build()
    sample = Samples.load(reference(results, model)).inputs[0]
    before = start()
    with torch.inference_mode():
        network(*sample)
        network(*sample)
    after = memory()
    return {"eager_run_bytes": after[1] - before[0]} if after and before else {}


def start() -> tuple[int, int] | None:
    """Loads all that is not part of a program into memory, then returns :func:`memory`."""
    from pte_foundry.heap import trim_heap

    _load_kernels()
    _map_libraries()
    trim_heap()
    return memory()


def _load_kernels() -> None:
    """Runs operators whose kernels the libraries load lazily."""
    import torch
    from torch.nn import functional

    from pte_foundry.mil import Program  # noqa: F401  (the interpreter itself)

    functional.linear(torch.ones(8, 8), torch.ones(8, 8).half().float())
    functional.conv2d(torch.ones(1, 8, 8, 8), torch.ones(8, 8, 3, 3))


def _map_libraries() -> None:
    """Maps all pages of the libraries' files: which of them a program touches first varies."""
    populate = 22  # MADV_POPULATE_READ, of Linux 5.14 and later; older ones refuse it
    maps, libc = Path("/proc/self/maps"), ctypes.CDLL(None)
    if not maps.exists():
        return
    for fields in (line.split(maxsplit=5) for line in maps.read_text().splitlines()):
        if len(fields) == 6 and ".so" in Path(fields[5]).name and fields[1].startswith("r"):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), populate)


def memory() -> tuple[int, int] | None:
    """Returns bytes in memory: now, and the peak since the last call. None if not on Linux."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    reset.write_text("5")  # begins a new peak (proc(5))
    return tuple(int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


if __name__ == "__main__":
    if sys.argv[1] == "--eager":
        facts = measure_eager(Path(sys.argv[2]), sys.argv[3])
    else:
        facts = measure(*map(Path, sys.argv[1:]))
    print(json.dumps(facts))
