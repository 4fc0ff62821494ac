"""Times two ways of doing the same thing in one process, alternately."""

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
        what: a description for readers.
        seconds: wall time of each repetition, in order.
        figures: other figures of its result, such as its error, by JSON key.
    """

    what: str
    seconds: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median wall time in seconds."""
        return statistics.median(self.seconds)

    def record(self) -> dict[str, Any]:
        """Returns the side as JSON."""
        return {
            "what": self.what,
            "seconds": self.seconds,
            "median_s": self.median,
            **self.figures,
        }


@dataclass
class Comparison:
    """One row of a benchmark: ours against the baseline, if there is one.

    Attributes:
        case: the input of both.
        ours, baseline: the two sides.
        facts: other figures of the pair, or of ours alone.
    """

    case: str
    ours: Side
    baseline: Side | None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> dict[str, float]:
        """Baseline / ours, for the median time and each figure of both: above 1 ours is better.

        If ours is zero there is no ratio; without a baseline there are none.
        """
        if self.baseline is None:
            return {}
        pairs = {"time": (self.baseline.median, self.ours.median)}
        for name in sorted(self.ours.figures.keys() & self.baseline.figures.keys()):
            pairs[name] = (self.baseline.figures[name], self.ours.figures[name])
        return {name: theirs / ours for name, (theirs, ours) in pairs.items() if ours != 0}

    def record(self) -> dict[str, Any]:
        """Returns the comparison as JSON."""
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
    """Runs both alternately, so that other load on the machine affects both.

    The first of the two changes with every round.

    Args:
        ours, baseline: the functions to time.
        repetitions: the most rounds, at least 1.
        warm_ups: rounds before them, which are not timed.
        budget_s: no round starts after this many seconds, except the first one.
        clock: returns the time in seconds.

    Returns:
        The seconds of each repetition, ours and the baseline's, and the last result of each.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(warm_ups):
        ours()
        baseline()
    gc.freeze()  # collecting the libraries' objects would take seconds each time
    began = clock()
    for number in range(repetitions):
        if number and clock() - began >= budget_s:
            break
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            results[side] = None
            gc.collect()  # neither collects the other's garbage
            start = clock()
            results[side] = (ours, baseline)[side]()
            seconds[side].append(clock() - start)
    gc.unfreeze()
    return *seconds, *results
