"""Forecasts the end of a run: from what its jobs took in earlier runs, and in this one so far."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

LOADING = 8.0
"""Seconds for which the first jobs of a run wait: the fork servers load torch and coremltools."""

_WEIGHT = 3.0  # of a finished job of the same rule; the same again if it is of the same model
_PRIOR = 10.0  # seconds of work at the expected pace that a run begins with
_LATE = 0.1  # of the time that a job has taken is left, if it takes longer than expected
_DAMPING = 5.0  # seconds in which the shown estimate goes most of the way to a new one


class Planned(NamedTuple):
    """A job that the run is to do.

    Attributes:
        rule: the name of its rule.
        model: the model that it is about, or an empty string.
        seconds: what it took in an earlier run, or what such a job usually takes.
        needs: ids of the jobs that it waits for.
    """

    rule: str
    model: str
    seconds: float
    needs: tuple[int, ...] = ()


class _Sums:
    """Seconds that jobs were expected to take, and took."""

    def __init__(self) -> None:
        self.expected = self.taken = 0.0

    def add(self, other: _Sums | tuple[float, float], weight: float = 1.0) -> None:
        pair = other if isinstance(other, tuple) else (other.expected, other.taken)
        self.expected += weight * pair[0]
        self.taken += weight * pair[1]


class Forecast:
    """The jobs of a run, and an estimate of the time left.

    Each job is expected to take the time that it is planned with, times a factor that the finished
    jobs give: how much longer they took than planned. Jobs of the same rule, and those of the same
    model, count more. The estimate is the longer of the work shared by all cores, and the longest
    chain of jobs that wait for each other. All times are of one monotonic clock, in seconds.

    Args:
        jobs: the jobs by their ids.
        now: when the run begins.
    """

    def __init__(self, jobs: Mapping[int, Planned], now: float) -> None:
        self.jobs = dict(jobs)
        self.left = set(jobs)
        self._began = now
        self._running: dict[int, float] = {}
        self._failed: set[int] = set()
        self._seen: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
        self._shown: tuple[float, float] | None = None
        self._order = _sorted(self.jobs)

    def start(self, job: int, now: float) -> None:
        """Records that a job has been started, for the first time or again."""
        if job in self.left:
            self._running[job] = now
            self._failed.discard(job)

    def fail(self, job: int) -> None:
        """Records that a job has failed: what waits for it will not run."""
        self._running.pop(job, None)
        self._failed.add(job)

    def finish(self, job: int, now: float) -> None:
        """Records that a job has ended well."""
        if job not in self.left:
            return
        self.left.discard(job)
        began = self._running.pop(job, now)
        rule, model, expected, _ = self.jobs[job]
        # What a job waits for the fork servers says nothing about other jobs.
        waited = max(0.0, self._began + LOADING - began)
        taken = max(min(now - began, expected), now - began - waited)
        for key in {(rule, model), (rule, ""), ("", model), ("", "")}:
            self._seen[key].add((expected, taken))

    def seconds_left(self, now: float, slots: int) -> float:
        """Returns the time left in seconds.

        Args:
            now: the time.
            slots: the number of jobs that run at a time.
        """
        new = self._estimate(now, slots)
        if self._shown is not None and new:
            before, then = self._shown
            old = max(0.0, before - (now - then))
            new = old + (1 - math.exp((then - now) / _DAMPING)) * (new - old)
        self._shown = new, now
        return new

    def _estimate(self, now: float, slots: int) -> float:
        factors: dict[tuple[str, str], float] = {}
        blocked: set[int] = set(self._failed)
        chains: dict[int, float] = {}
        work = 0.0
        for job in self._order:
            planned = self.jobs[job]
            if job not in self.left:
                continue
            if job in blocked or not blocked.isdisjoint(planned.needs):
                blocked.add(job)
                continue
            key = planned.rule, planned.model
            if key not in factors:
                factors[key] = self._factor(*key)
            seconds = planned.seconds * factors[key]
            if job in self._running:
                taken = now - self._running[job]
                seconds = max(seconds - taken, _LATE * taken)
            chains[job] = seconds + max(
                (chains.get(need, 0.0) for need in planned.needs), default=0
            )
            work += seconds
        if not chains:
            return 0.0
        loading = max(0.0, self._began + LOADING - now)
        return max(work / max(1, min(slots, len(chains))), *chains.values()) + loading

    def _factor(self, rule: str, model: str) -> float:
        sums = _Sums()
        sums.add((_PRIOR, _PRIOR))
        sums.add(self._seen["", ""])
        sums.add(self._seen[rule, ""], _WEIGHT)
        if model:
            sums.add(self._seen["", model], _WEIGHT)
            sums.add(self._seen[rule, model], _WEIGHT * _WEIGHT)
        return sums.taken / sums.expected


def _sorted(jobs: Mapping[int, Planned]) -> list[int]:
    """Returns the ids, those of needed jobs before those that need them."""
    found: dict[int, None] = {}

    def visit(ids: Iterable[int]) -> None:
        stack = [(job, False) for job in ids]
        while stack:
            job, done = stack.pop()
            if job in found or job not in jobs:
                continue
            if done:
                found[job] = None
            else:
                stack.append((job, True))
                stack += [(need, False) for need in jobs[job].needs]

    visit(jobs)
    return list(found)
