"""Artifacts that are asked for by path: they are validated as well, and a run ends with a verdict.

``snakemake results/pte/minilm/lut4/ios18.pte`` would otherwise write a file that nobody has looked
at, and say nothing about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pte_foundry.errors import DamagedError, InputError
from pte_foundry.files import read_json
from pte_foundry.place import Folder
from pte_foundry.report import text
from pte_foundry.report.artifacts import Artifact, render
from pte_foundry.report.summary import report_path, summarize
from pte_foundry.workflow.requested import matching

if TYPE_CHECKING:
    from rich.console import Console

    from pte_foundry.config.config import Config
    from pte_foundry.upstream.snakemake_storage import Storage

ARTIFACT = "results/pte/{model}/{recipe}/{target}.pte"
UNTIL = "the run was to end before, because of --until"
NO_BUILD = "it is not among the builds, so it has no gates. Add it to `builds` in the config."


class AskedArtifacts:
    """The artifacts that a run was asked for.

    Args:
        config: the configuration.
        place: where the results are.
    """

    def __init__(self, config: Config, place: Folder | Storage | None = None) -> None:
        self._config = config
        self._place = place or Folder()
        self.reports: dict[str, list[str]] = {}
        """Names of the reports of each artifact, by its name; none if it is not validated."""
        self._reason = NO_BUILD

    def ask(self, targets: Iterable[str], until: Collection[str] = ()) -> list[str]:
        """Takes what a run is asked for; returns what it is to make in addition.

        Args:
            targets: files and names of rules; what is no artifact is ignored.
            until: rules and files at which the run is to end: then it validates nothing.
        """
        for name, found in matching(map(self._place.asked, targets), ARTIFACT).items():
            names = found["model"], found["recipe"], found["target"]
            devices = sorted(self._config.devices) if names in self._config.by_names else []
            self.reports[name] = [report_path(*names, device) for device in devices if not until]
        if until:
            self._reason = UNTIL
        return [self._place.target_of(r) for reports in self.reports.values() for r in reports]

    def conclude(self, console: Console, unmade: Collection[str] = ()) -> str:
        """Prints what has become of the artifacts.

        Args:
            console: where to print.
            unmade: what the run had to make, and has not: an older version says nothing.

        Returns:
            Why the run fails: which builds miss their gates; "" if none does.
        """
        made = {n: r for n, r in self.reports.items() if not {n, *r} & set(unmade)}
        found = [
            self._found(name, size, reports)
            for name, reports in made.items()
            if (size := self._place.size(name)) is not None
        ]
        if found:
            render(found, console)
        records = [one.record for one in found if one.record]
        missed = [text.build_name(one["build"]) for one in records if one["status"] == "fail"]
        return f"Built, but it does not pass: {', '.join(missed)}" if missed else ""

    def _found(self, name: str, size: int, reports: list[str]) -> Artifact:
        path = self._place.target_of(name)
        if not reports:
            return Artifact(path, size, None, self._reason)
        try:
            summary = summarize({report: read_json(self._place.path(report)) for report in reports})
        except (DamagedError, InputError) as error:
            return Artifact(path, size, None, str(error))
        (record,) = summary["builds"]
        return Artifact(path, size, record)
