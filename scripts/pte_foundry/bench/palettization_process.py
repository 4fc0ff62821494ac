"""One side of the palettization benchmark, in a process with an environment of its own.

``python -m pte_foundry.bench.palettization_process exact|upstream`` reads requests, lines of JSON,
and answers each with a line: ``open`` reads a weight, ``solve`` finds its tables, ``result``
returns their error and the peak of memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pte_foundry.bench.footprint import memory


class Palettizer:
    """A running side; ends with the ``with`` statement."""

    def __init__(self, solver: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, solver],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Palettizer:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def open(self, weight: Path, bits: int, block_size: list[int]) -> None:
        """Reads a weight, a ``.npy`` file, and warms up on a few of its values."""
        self._ask({"open": str(weight), "bits": bits, "block_size": block_size})

    def solve(self) -> None:
        """Finds the tables and the codes: the part to time."""
        self._ask({"solve": True})

    def result(self) -> dict[str, float]:
        """Returns figures of the last ``solve``.

        ``squared_error``: the mean over the weight restored from tables and codes. ``peak_ratio``:
        peak memory of the first ``solve`` since ``open``, as a multiple of the weight (on Linux
        only).
        """
        return self._ask({"result": True})

    def _ask(self, request: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that palettizes ended with {self._process.wait()}")
        return json.loads(answer)


def serve(solver: str) -> None:
    """Answers requests until the input ends.

    Args:
        solver: ``exact`` for our k-means, ``upstream`` for scikit-learn's, as torchao calls it.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stderr: stdout is for answers
    if solver == "upstream":
        # Without pte_foundry.upstream.coremltools_imports, which hides scikit-learn.
        import coremltools  # noqa: F401
    import numpy as np
    import torch
    from torchao.prototype.quantization.codebook_coreml import codebook_ops

    from pte_foundry.quantize.codebook import choose

    upstream = codebook_ops.choose_qparams_and_quantize_codebook_coreml

    def solve(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = getattr(torch, f"uint{bits}")
        if solver == "upstream":
            return upstream(weight, dtype, block_size)
        return choose(bits, weight, dtype, block_size)

    made: Any = None
    peak: float | None = None
    settled: int | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = None
        if "open" in request:
            weight = torch.from_numpy(np.load(request["open"]))
            bits, block_size = request["bits"], [-1, -1]
            solve(weight[:16, :64].contiguous())
            block_size, made, peak, settled = request["block_size"], None, None, _settled()
        elif "solve" in request:
            made = None
            made = solve(weight)
            if settled is not None:
                peak, settled = (memory()[1] - settled) / weight.nbytes, None
        else:
            answer = {"squared_error": _error(weight, *made)}
            if peak is not None:
                answer["peak_ratio"] = peak
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _settled() -> int | None:
    """Bytes in memory after the allocator returned free memory to the system."""
    from pte_foundry.heap import trim_heap

    trim_heap()
    taken = memory()
    return None if taken is None else taken[0]


def _error(weight: Any, tables: Any, codes: Any) -> float:
    import numpy as np

    rows, columns = (weight.shape[i] // tables.shape[i] for i in (0, 1))
    total = 0.0
    for row in range(tables.shape[0]):
        for column in range(tables.shape[1]):
            block = np.s_[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
            table = tables[row, column, :, 0].numpy().astype(np.float32).astype(np.float64)
            off = table[codes[block].numpy()] - weight[block].numpy()
            total += float(np.einsum("ij,ij->", off, off))
    return total / weight.numel()


if __name__ == "__main__":
    serve(sys.argv[1])
