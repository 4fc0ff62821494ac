"""What differs between two builds of a project: sizes, metrics, verdicts, bytes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pte_foundry.report import text
from pte_foundry.report.schema import Summary, SummaryRecord

State = Literal["fails now", "passes now", "gone", "new", "changed", "same"]
STATES: tuple[State, ...] = ("fails now", "gone", "passes now", "new", "changed", "same")
"""The states of a build, those that need attention first."""

HEAD = ("build", "change", "size", "SQNR dB", "worst dB", "task metrics", "bytes", "inputs")
"""The titles of :meth:`Change.cells`."""


@dataclass(frozen=True)
class Change:
    """One build in two summaries.

    Attributes:
        name: ``model/recipe/target``.
        old: its record in the old summary, if it has one.
        new: its record in the new one.
        inputs: names of the inputs whose digests differ; None if a manifest does not have them.
    """

    name: str
    old: SummaryRecord | None
    new: SummaryRecord | None
    inputs: tuple[str, ...] | None

    @property
    def state(self) -> State:
        """What happened to the build."""
        if self.old is None or self.new is None:
            return "new" if self.old is None else "gone"
        if self.old["status"] != self.new["status"]:
            return "fails now" if self.new["status"] == "fail" else "passes now"
        kept = ("sha256", "bytes", "metrics", "gates", "hazards")
        return "same" if all(self.old[key] == self.new[key] for key in kept) else "changed"

    @property
    def same_bytes(self) -> bool | None:
        """Whether the artifacts are equal to the byte; None if there are not two."""
        if not (self.old and self.new and self.old["sha256"] and self.new["sha256"]):
            return None
        return self.old["sha256"] == self.new["sha256"]

    def cells(self) -> list[str]:
        """Returns the texts of the columns :data:`HEAD`."""
        equal = {None: text.MISSING, True: "equal", False: "differ"}[self.same_bytes]
        inputs = "unknown" if self.inputs is None else ", ".join(self.inputs) or "equal"
        if self.old is None or self.new is None:
            inputs = text.MISSING
        return [
            self.name,
            self.state,
            self._both(lambda build: text.size(build["bytes"])),
            self._both(lambda build: text.decibel(build["metrics"]["sqnr_db"])),
            self._both(lambda build: text.decibel(text.worst_sqnr_db(build["metrics"]))),
            self._both(lambda build: text.task(build["metrics"])),
            equal,
            inputs,
        ]

    def _both(self, shown: Any) -> str:
        texts = [shown(build) for build in (self.old, self.new) if build is not None]
        return texts[0] if len(set(texts)) == 1 else " → ".join(texts)


def compare(
    old: Summary,
    new: Summary,
    old_manifest: Mapping[str, Any] | None = None,
    new_manifest: Mapping[str, Any] | None = None,
) -> list[Change]:
    """Compares two summaries, build by build.

    Args:
        old: the earlier summary.
        new: the later one.
        old_manifest: the manifest of the earlier build, for the digests of inputs.
        new_manifest: that of the later one.

    Returns:
        All builds of both, by state in the order of :data:`STATES`, then by name.
    """
    before, after = (
        {text.build_name(build["build"]): build for build in summary["builds"]}
        for summary in (old, new)
    )
    changes = [
        Change(
            name,
            before.get(name),
            after.get(name),
            _differing(_inputs(old_manifest, name), _inputs(new_manifest, name)),
        )
        for name in before | after
    ]
    return sorted(changes, key=lambda change: (STATES.index(change.state), change.name))


def headline(changes: list[Change]) -> str:
    """Returns the counts of all states in one line: ``1 fails now, 2 changed, 15 same``."""
    found = [change.state for change in changes]
    counts = [f"{found.count(state)} {state}" for state in STATES if state in found]
    return ", ".join(counts) or "no builds"


def _differing(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> tuple | None:
    if old is None or new is None:
        return None
    return tuple(name for name in sorted(old | new) if old.get(name) != new.get(name))


def _inputs(manifest: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """The inputs of an artifact by name, as the manifest has them; None if it does not."""
    paths = [] if manifest is None else manifest["artifacts"]
    path = next((p for p in paths if p.endswith(f"/pte/{name}.pte")), None)
    if manifest is None or path is None:
        return None
    artifact = manifest["artifacts"][path]
    model = manifest["models"][artifact["model"]]
    recipe = manifest["recipes"][artifact["recipe"]]
    environment = manifest["environment"]
    return {
        "recipe": recipe,
        "target": manifest["targets"][artifact["target"]],
        "model options": model["options"],
        "lock file": environment["lock_sha256"],
        "Python": environment["python"],
        "unlocked packages": environment.get("unlocked"),
        "imported packages": model.get("imports"),
        **{f"model's {role}": file["sha256"] for role, file in model["files"].items()},
        **dict(_code(manifest["code"], recipe["scheme"])),
    }


def _code(digests: Mapping[str, str], scheme: str) -> Iterator[tuple[str, str]]:
    for stage, digest in digests.items():
        name, _, of_scheme = stage.partition("/")
        if of_scheme in ("", scheme):
            yield f"code of {name}" + (f" ({of_scheme})" if of_scheme else ""), digest
