"""Checks all files below results/ against their checksums, to find what a disk has damaged.

Snakemake compares dates, and contents only of inputs: a flipped bit with an unchanged date stays
unnoticed until a step reads the file, and in an artifact for ever.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pte_foundry.errors import DamagedError
from pte_foundry.files import check, check_json, check_noted, is_temporary, read_json
from pte_foundry.models.checksums import check_program, check_tensors
from pte_foundry.models.decoder import TOKENIZER_FILES

Check = Callable[[Path], object]


@dataclass(frozen=True)
class Damage:
    """A file that is not what its step wrote, and why."""

    path: Path
    why: str


@dataclass
class Verification:
    """What was found.

    Attributes:
        checked: files with a checksum.
        bytes: their size.
        damaged: the damaged ones, by path.
        unchecked: files that have no checksum, such as the HTML report.
    """

    checked: int = 0
    bytes: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)
    unchecked: list[Path] = field(default_factory=list)


def _artifact(path: Path) -> None:
    check_noted(path, path.with_name(f"{path.name}.sha256"))


def _note(path: Path) -> None:
    artifact = path.with_suffix("")
    if not artifact.exists():  # if it exists, it is checked itself
        raise DamagedError(artifact, f"there is no such file, but {path.name}")


def _lowered(path: Path) -> None:
    check(path, read_json(path.with_suffix(".json"))["pte_sha256"])


CHECKS: dict[str, Check] = {
    "pte/*/*/*.pte": _artifact,
    "pte/*/*/*.pte.sha256": _note,
    **{f"pte/*/tokenizer/{name}": _artifact for name in TOKENIZER_FILES},
    **{f"pte/*/tokenizer/{name}.sha256": _note for name in TOKENIZER_FILES},
    "lower/*/*/*.pte": _lowered,
    "lower/*/*/*.json": check_json,
    "edge/*/*/*.pt2": check_program,
    "edge/*/*/*.json": check_json,
    "convert/*/*.pt2": check_program,
    "export/*.pt2": check_program,
    "export/*.json": check_json,
    "calibrate/*/*.json": check_json,
    "train/*.safetensors": check_tensors,
    "reference/*.safetensors": check_tensors,
    "evaluate/*/*.safetensors": check_tensors,
    "validation/*/*/*/*.json": check_json,
    "divergence/*/*/*.json": check_json,
    "model/*.json": check_json,
    "plan/*.json": check_json,
    "summary.json": check_json,
    "gates.json": check_json,
    "manifest.json": check_json,
}
"""How the outputs of the rules are checked, by their pattern below results/. What is fetched has
the checksum of the configuration, which ``results/model/`` holds."""

UNCHECKED = ("report/index.html",)
"""Outputs without a checksum."""


def verify(results: Path) -> Verification:
    """Checks all outputs of the rules in a folder; what else is there does not matter.

    Args:
        results: the folder ``results`` of a build. Paths in its files are relative to the folder
            that it is in.
    """
    found = Verification()
    jobs = [(path, check) for pattern, check in CHECKS.items() for path in _files(results, pattern)]
    jobs += list(_fetched(results))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter's lock
        outcomes = list(pool.map(lambda job: _damage(*job), jobs))
    for damage in filter(None, outcomes):
        found.damaged.setdefault(damage.path, damage.why)
    whole = {path for (path, _), damage in zip(jobs, outcomes, strict=True) if damage is None}
    for damage in (*_manifest(results, whole), *_reports(results, whole)):
        found.damaged.setdefault(damage.path, damage.why)
    found.checked = len(jobs)
    for path, _ in jobs:
        with suppress(OSError):
            found.bytes += path.stat().st_size
    found.unchecked = [path for name in UNCHECKED if (path := results / name).exists()]
    return found


def rebuild_command(paths: list[Path], options: list[str]) -> str:
    """Returns the command that makes files again although their dates are right.

    Args:
        paths: the files, relative to the folder of the build.
        options: those of the build, which name its configuration.
    """
    named = sorted(path.as_posix() for path in paths)
    return shlex.join(["snakemake", "--cores", "all", *options, "--force", "--", *named])


def _files(results: Path, pattern: str) -> Iterator[Path]:
    return (path for path in sorted(results.glob(pattern)) if not is_temporary(path.name))


def _damage(path: Path, check: Check) -> Damage | None:
    try:
        check(path)
    except DamagedError as error:
        return Damage(Path(error.path), error.why)
    return None


def _readable(paths: Iterator[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in paths:
        with suppress(DamagedError):  # it is found by itself
            yield path, read_json(path)


def _fetched(results: Path) -> Iterator[tuple[Path, Check]]:
    """What was fetched, with the checksums that the configuration pins."""
    for _, model in _readable(_files(results, "model/*.json")):
        paths = {**model["data"], "weights": model["weights"]}
        for name, expected in model["sha256"].items():
            path = results.parent / paths[name]
            if path.exists():
                yield path, partial(check, expected=expected)


def _noted(path: Path) -> str:
    """The digest of an artifact that agrees with it, without reading the artifact once more."""
    return path.with_name(f"{path.name}.sha256").read_text(encoding="utf-8").partition(" ")[0]


def _manifest(results: Path, whole: set[Path]) -> Iterator[Damage]:
    """Artifacts that the manifest lists and that are missing, or whole and with other bytes."""
    for _, manifest in _readable(_files(results, "manifest.json")):
        for name, entry in manifest["artifacts"].items():
            path = results.parent / name
            if not path.exists():
                yield Damage(path, "there is no such file, but the manifest lists it")
            elif path in whole and _noted(path) != entry["sha256"]:
                yield Damage(path, f"the manifest lists another sha256, {entry['sha256']}")


def _reports(results: Path, whole: set[Path]) -> Iterator[Damage]:
    """Validation reports of other bytes than a whole artifact has."""
    for path, report in _readable(_files(results, "validation/*/*/*/*.json")):
        artifact = report["artifact"]
        pte = results.parent / artifact["path"]
        if not pte.exists():
            yield Damage(pte, f"there is no such file, but its report {path}")
        elif pte in whole and _noted(pte) != artifact["sha256"]:
            yield Damage(path, f"it is the report of other bytes than {pte} has")
