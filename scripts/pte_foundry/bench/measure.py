"""Timing two ways of doing the same thing in one process, alternately."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Side:
    """One of the two ways.

    Attributes:
        what: what runs, for readers.
        seconds: wall time of each repetition, in order.
        figures: other figures of its result, such as its error; names in the form of JSON keys.
    """

    what: str
    seconds: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def record(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "seconds": self.seconds,
            "median_s": self.median,
            **self.figures,
        }


@dataclass
class Comparison:
    """One row of the benchmark: ours against what one would use without us, if there is such.

    Attributes:
        case: what both work on.
        facts: what is known about the pair, or about ours alone.
    """

    case: str
    ours: Side
    baseline: Side | None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> dict[str, float]:
        """Baseline over ours, for the median time and each figure that both have: above 1 is good.

        A figure of which ours is zero has no ratio; without a baseline there is none.
        """
        if self.baseline is None:
            return {}
        pairs = {"time": (self.baseline.median, self.ours.median)}
        for name in sorted(self.ours.figures.keys() & self.baseline.figures.keys()):
            pairs[name] = (self.baseline.figures[name], self.ours.figures[name])
        return {name: theirs / ours for name, (theirs, ours) in pairs.items() if ours != 0}

    def record(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "ours": self.ours.record(),
            "baseline": None if self.baseline is None else self.baseline.record(),
            "ratios": self.ratios,
            **({"facts": self.facts} if self.facts else {}),
        }


def side_by_side(
    ours: Callable[[], Any],
    baseline: Callable[[], Any],
    repetitions: int,
    *,
    warm_ups: int = 0,
    budget_s: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float], Any, Any]:
    """Runs both alternately, so that whatever else the machine does hits both alike.

    Which of the two goes first changes with every round.

    Args:
        repetitions: rounds at most, at least 1.
        warm_ups: rounds before them whose times do not count.
        budget_s: no round starts after this many seconds; the first always does.

    Returns:
        The seconds of each repetition, ours and the baseline's, and the last result of each.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(warm_ups):
        ours()
        baseline()
    gc.freeze()  # what the libraries made stays; looking through it would take seconds each time
    began = clock()
    for number in range(repetitions):
        if number and clock() - began >= budget_s:
            break
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            results[side] = None
            gc.collect()  # so that neither pays for the other's garbage
            start = clock()
            results[side] = (ours, baseline)[side]()
            seconds[side].append(clock() - start)
    gc.unfreeze()
    return *seconds, *results
