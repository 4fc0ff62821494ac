"""Runs random files in children with limits; keeps each that breaks something.

usage: python -m tests.fuzz [--cases N] [--seed S] [mil] [pte]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import cases, strategies

FOUND = Path(__file__).with_name("found")
KINDS = ("mil", "pte")
_CHUNK = 500
_SECONDS = 30  # for one case; the interpreters' own limit is a third of it
_MEMORY = 3 << 30  # beyond what the libraries have


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="mil, pte (both)")
    parser.add_argument("--cases", type=int, default=100_000, help="files of all kinds together")
    parser.add_argument("--seed", type=int, default=None, help="for the same files again")
    parser.add_argument("--found", type=Path, default=FOUND, help="folder for what breaks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork has no other threads
    kinds = arguments.kinds or list(KINDS)
    start = int(time.time()) if arguments.seed is None else arguments.seed
    broken = replay(arguments.found)
    each = arguments.cases // len(kinds)
    ended: Counter[str] = Counter()
    for kind in kinds:
        number = 0
        while (left := each - ended.total()) > 0:  # a child that ends leaves some of its files out
            broken += _child(kind, start + number, min(_CHUNK, left), arguments.found, ended)
            number += _CHUNK
        print(f"{kind}: {each} files, seed {start}: {dict(ended.most_common())}", flush=True)
        ended.clear()
    return 1 if broken else 0


def replay(folder: Path) -> int:
    """Runs every file that was found before; returns how many still break something."""
    broken = 0
    for path in sorted(folder.glob("*.*")):
        kind = path.suffix[1:]
        if kind not in KINDS:
            continue
        child = os.fork()
        if not child:
            _limit()
            _end(0 if _survives(kind, path.read_bytes()) else 1)
        if code := _code(child):
            broken += 1
            print(f"still breaks: {path.name} ({code})", flush=True)
    return broken


def _child(kind: str, start: int, count: int, folder: Path, ended: Counter[str]) -> int:
    """Runs a number of random files in a child; returns how many broke something."""
    folder.mkdir(exist_ok=True)
    before = len(list(folder.iterdir()))
    with tempfile.NamedTemporaryFile() as current, tempfile.TemporaryFile() as notes:
        child = os.fork()
        if not child:
            _limit()
            tally: Counter[str] = Counter()

            @seed(start)
            @settings(
                max_examples=count,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(strategies.programs(kind))
            def run(data: bytes) -> None:
                os.pwrite(current.fileno(), data, 0)
                os.ftruncate(current.fileno(), len(data))
                try:
                    signal.alarm(_SECONDS)
                    tally[cases.run(kind, data)] += 1
                except Exception as error:
                    _keep(kind, data, folder, "".join(traceback.format_exception(error)[-3:]))
                    tally["broken"] += 1
                finally:
                    signal.alarm(0)

            run()
            notes.write(json.dumps(tally).encode())
            notes.flush()
            _end(0)
        code = _code(child)
        notes.seek(0)
        ended.update(json.loads(notes.read() or b"{}"))
        if code:
            ended["broken"] += 1
            _keep(kind, Path(current.name).read_bytes(), folder, f"the process ended: {code}")
    return len(list(folder.iterdir())) - before


def _survives(kind: str, data: bytes) -> bool:
    signal.alarm(_SECONDS)
    try:
        cases.run(kind, data)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return False
    return True


def _keep(kind: str, data: bytes, folder: Path, why: str) -> None:
    path = folder / f"{hashlib.sha256(data).hexdigest()[:12]}.{kind}"
    path.write_bytes(data)
    print(f"{path}: {why}", flush=True)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # torch's warnings of arguments


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    raise SystemExit(main())
