"""Runs many programs, each in a process of its own, which neither a crash nor a hang can leave."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from pte_foundry.bench.operators import program
from pte_foundry.bench.operators.patterns import Pattern
from pte_foundry.bench.operators.program import GOOD, Result
from pte_foundry.upstream import torch_decompositions

LIMIT = 120.0
"""Seconds after which a program is given up."""


@dataclass(frozen=True)
class Both:
    """What became of a program by our pipeline and by upstream alone; None: it did not run."""

    ours: Result
    upstream: Result | None

    @classmethod
    def read(cls, fields: dict) -> Both:
        """Returns what ``dataclasses.asdict`` made a dictionary of."""
        one, other = fields["ours"], fields["upstream"]
        return cls(Result(**one), Result(**other) if other else None)


_SQUARES = "the sixth power of 9 is beyond float16; a validation reports it"
KNOWN = {
    ("linalg_vector_norm", "f32[2], ord=6", "float16"): _SQUARES,
}
"""Differences that are Core ML's own: programs whose outputs are not torch's, and why."""

Key = tuple[str, str, str]
"""Operator, label of the pattern, precision."""


def outcomes(
    patterns: Mapping[Key, Pattern], known: Mapping[Key, Result], processes: int
) -> Iterator[tuple[Key, Both]]:
    """Yields what becomes of programs, as they end.

    Args:
        patterns: by operator, label, and the precision to run it in.
        known: what becomes of them by upstream alone, as far as it is known.
        processes: how many run at a time.
    """
    torch.set_num_threads(1)  # a fork cannot use the threads of its parent
    with torch_decompositions.collected_once():
        for pattern in list(patterns.values())[:1]:
            program.run(pattern, "float16")  # imports what libraries import late
            program.run(pattern, "float16", upstream=True)
        gc.collect()
        gc.freeze()  # else every fork writes to the pages of all objects
        jobs = {key: partial(both, p, key[2], known.get(key)) for key, p in patterns.items()}
        for key, result in in_forks(jobs, processes):
            yield key, result if isinstance(result, Both) else Both(result, known.get(key))
        gc.unfreeze()


def both(pattern: Pattern, precision: str, upstream: Result | None) -> Both:
    """Runs a program, and with upstream alone too if that is of interest and not known."""
    ours = program.run(pattern, precision)
    if upstream is None and ours.outcome in GOOD:
        upstream = program.run(pattern, precision, upstream=True)
    return Both(ours, upstream)


def verdict(key: Key, result: Both) -> Result:
    """Returns the outcome for the table."""
    ours, upstream = result.ours, result.upstream
    if ours.outcome == "wrong" and key in KNOWN:
        return replace(ours, outcome="differs", detail=KNOWN[key])
    if ours.outcome in GOOD and upstream and upstream.outcome not in GOOD:
        detail = f"upstream: {upstream.outcome}, {upstream.detail}"
        return replace(ours, outcome="repaired", detail=detail)
    return ours


@dataclass
class _Child:
    key: Key
    process: int
    started: float
    text: bytes = b""


def in_forks(jobs: Mapping[Key, Callable[[], Any]], processes: int) -> Iterator[tuple[Key, Any]]:
    """Runs functions in forks of this process, some at a time; yields their results as they end.

    Each returns a ``Result`` or ``Both``. What crashes or hangs has a ``Result``.
    """
    waiting = list(reversed(jobs.items()))
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < processes:
                key, function = waiting.pop()
                reader, process = _fork(function)
                child = _Child(key, process, time.monotonic())
                selector.register(reader, selectors.EVENT_READ, child)
            for event, _ in selector.select(timeout=1):
                read = os.read(event.fd, 1 << 16)
                event.data.text += read
                if not read:
                    selector.unregister(event.fd)
                    os.close(event.fd)
                    yield event.data.key, _result(event.data)
            for event in selector.get_map().values():
                if time.monotonic() - event.data.started > LIMIT:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(event.data.process, signal.SIGKILL)


def _fork(function: Callable[[], Any]) -> tuple[int, int]:
    """Returns where to read the function's result as JSON, and the process that computes it."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return reader, process
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        text = json.dumps(asdict(function())).encode()
        with os.fdopen(writer, "wb") as file:
            file.write(text)
    finally:
        os._exit(0)


def _result(child: _Child) -> Any:
    _, status = os.waitpid(child.process, 0)
    if child.text:
        fields = json.loads(child.text)
        return Both.read(fields) if "ours" in fields else Result(**fields)
    if not os.WIFSIGNALED(status):
        return Result("crashed", "the process ended without a result")
    number = signal.Signals(os.WTERMSIG(status))
    return Result("hung" if number == signal.SIGKILL else "crashed", number.name)
