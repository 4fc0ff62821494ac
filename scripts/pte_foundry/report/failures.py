"""Failures of builds in words: each failed step once, however many builds it stops."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pte_foundry.report import text
from pte_foundry.report.schema import BuildError, SummaryRecord

_LONGEST = 240  # characters of a message in one line
# A finding's first line is only its place in the config (pte_foundry.findings).
_PROBLEM = re.compile(r"^ +problem: (.+)$", re.MULTILINE)


@dataclass
class Failure:
    """One failure, and the builds that it stops.

    Attributes:
        subject: what the step worked on: a model, a model and a recipe, or a build.
        stage: the step that failed.
        message: its error message, of any number of lines.
        logs: the logs of the jobs that failed with this message.
        builds: indices of the builds in the summary.
    """

    subject: str
    stage: str
    message: str
    logs: list[str]
    builds: list[int]

    @property
    def title(self) -> str:
        """``digits_cnn/lut4: lower failed``, or the stage alone for a job that is of no build."""
        return f"{self.subject}: {self.stage} failed" if self.subject else f"{self.stage} failed"

    @property
    def consequence(self) -> str:
        """The number of builds that it stops, and the logs: ``stops 3 builds; log: …``."""
        count = len(self.builds)
        stops = [f"stops {count} build{'s' if count != 1 else ''}"] if count else []
        more = f" and {len(self.logs) - 1} more" if len(self.logs) > 1 else ""
        logs = [f"log: {self.logs[0]}{more}"] if self.logs else []
        return "; ".join(stops + logs)

    @property
    def line(self) -> str:
        """All of it in one line, with the first line of the message, or the first problem."""
        first, *more = self.message.splitlines() or [""]
        if problem := _PROBLEM.search(self.message):
            first = f"{first}: {problem[1]}"
        if more or len(first) > _LONGEST:
            first = f"{first[:_LONGEST].rstrip()} …"
        consequence = f" ({self.consequence})" if self.consequence else ""
        return f"{self.title}: {first}{consequence}"


def failure_of(error: BuildError) -> Failure:
    """Returns the failure of a job that stops no build."""
    logs = [error["log"]] if error["log"] else []
    return Failure(error.get("subject", ""), error["stage"], error["message"], logs, [])


def failures(builds: Sequence[SummaryRecord]) -> list[Failure]:
    """Returns the failures of builds, in the order of the first build of each.

    Equal messages of one stage and model are one failure: an operator that Core ML lacks stops
    every recipe of a model in the same words.
    """
    found: dict[tuple[str, str, str], Failure] = {}
    for index, build in enumerate(builds):
        error = build.get("error")
        if not error:
            continue
        model = build["build"]["model"]
        subject = error.get("subject") or text.build_name(build["build"])
        key = model, error["stage"], error["message"]
        failure = found.setdefault(key, Failure(subject, *key[1:], [], []))
        if failure.subject != subject:
            failure.subject = model
        if error["log"] and error["log"] not in failure.logs:
            failure.logs.append(error["log"])
        failure.builds.append(index)
    return list(found.values())
