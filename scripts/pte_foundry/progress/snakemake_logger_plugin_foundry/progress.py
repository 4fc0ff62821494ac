"""What a run has done, and how long it will take: what the lines of the display show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from snakemake_logger_plugin_foundry.forecast import Forecast

_EVERY = 0.5  # seconds between two estimates


class Progress:
    """Counts the jobs of a run, and forecasts its end. Several threads may use it.

    Attributes:
        announced: the number of jobs, if there is no forecast.
        slots: the number of jobs that run at a time.
        done: the number of finished jobs.

    Args:
        forecast: the planned jobs; None: their number is announced, and there is no estimate.
        before: the number of jobs that an earlier part of the build has done.
        clock: returns a monotonic time in seconds.
    """

    def __init__(
        self,
        forecast: Forecast | None = None,
        before: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.announced = 0
        self.slots = 1
        self.done = before
        self._before = before
        self._forecast = forecast
        self._clock = clock
        self._estimate: tuple[float, float] | None = None
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """The number of jobs."""
        return self._before + (len(self._forecast.jobs) if self._forecast else self.announced)

    @property
    def count(self) -> str:
        """The number of finished jobs and of all, always equally long: `` 7/31``."""
        return f"{self.done:>{len(str(self.total))}}/{self.total}"

    def knows(self, job: int) -> bool:
        """Whether a job is among the planned ones: rules that only collect files are not."""
        return self._forecast is None or job in self._forecast.jobs

    def start(self, job: int) -> None:
        """Records the start of a job."""
        with self._lock:
            if self._forecast:
                self._forecast.start(job, self._clock())

    def finish(self, job: int) -> None:
        """Records that a job has ended well."""
        with self._lock:
            self.done += 1
            self._estimate = None
            if self._forecast:
                self._forecast.finish(job, self._clock())

    def fail(self, job: int) -> None:
        """Records that a job has failed."""
        with self._lock:
            self._estimate = None
            if self._forecast:
                self._forecast.fail(job)

    def seconds_left(self) -> float | None:
        """Returns the estimate of the time left in seconds; None if there is none."""
        with self._lock:
            if self._forecast is None:
                return None
            now = self._clock()
            if self._estimate is None or now - self._estimate[1] >= _EVERY:
                self._estimate = self._forecast.seconds_left(now, self.slots), now
            return self._estimate[0]
