"""Building a configuration by our rules against one upstream script for each artifact."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pte_foundry.bench.by_hand import Job
from pte_foundry.bench.measure import Comparison, Side

TITLE = "Builds"
HOW = (
    "Seconds until all artifacts of config/config.yaml are there: snakemake with two cores, then "
    "one script for each artifact after ExecuTorch's documentation, two at a time, on the same "
    "machine. Both begin with fetched and trained weights, the scripts without "
    "any check of what they wrote; with_reports_s is our time with every validation, the summary, "
    "the manifest and the page. An edit is made in a finished build: the recipe int8_static gets "
    "other weight settings; the targets ios17 and ios18_ne get another system and other units. By "
    "hand, the artifacts concerned are made again, if one knows which. identical: how many of the "
    "scripts' artifacts are ours byte for byte once they are in canonical form; those that cannot "
    "be are of recipes for which upstream's result depends on the run or on the machine "
    "(calibration, k-means)."
)
WORKERS = 2
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "config.yaml"

# An edit: what it replaces in the configuration, and how often that must be there.
EDITS = {
    "recipe": (
        "      weight_per_channel: true\n      weight_observer: moving_average_min_max",
        "      weight_per_channel: true\n      weight_observer: min_max",
    ),
    "target's system": (
        "  ios17:\n    minimum_os: iOS17",
        "  ios17:\n    minimum_os: iOS18",
    ),
    "target's units": ("    compute_units: cpu_and_ne", "    compute_units: cpu_only"),
}
# Recipes of which upstream gives the same weights every time.
REPRODUCIBLE = ("none", "affine")


class Folder:
    """A project folder of its own: our rules and scripts, a configuration that can be edited."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        for name in ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "report"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, path / name)
        self.config = path / "config" / CONFIG.name

    def edit(self, before: str, after: str) -> None:
        text = self.config.read_text(encoding="utf-8")
        if text.count(before) != 1:
            raise ValueError(f"{self.config} has {text.count(before)} times {before!r}, not once")
        self.config.write_text(text.replace(before, after), encoding="utf-8")

    def snakemake(self, *targets: str) -> float:
        """Builds targets, or everything; returns the seconds that it took."""
        command = ["snakemake", "--cores", str(WORKERS), "--", *targets]
        return _timed(partial(_run, command, self.path))

    def artifacts(self) -> dict[str, Path]:
        folder = self.path / "results" / "pte"
        return {f.relative_to(folder).with_suffix("").as_posix(): f for f in folder.rglob("*.pte")}


def comparisons() -> Iterator[Comparison]:
    """One configuration, cold and after edits."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        ours = Folder(Path(scratch) / "ours")
        by_hand = Path(scratch) / "by_hand"
        ours.snakemake(*_sources(_config(ours)))
        yield _compare("everything, cold", ours, by_hand)
        idle = Side("snakemake, again", [ours.snakemake() for _ in range(3)])
        yield Comparison("nothing to do", idle, None, {})
        for name, (before, after) in EDITS.items():
            old = _config(ours)
            ours.edit(before, after)
            yield _compare(f"after an edit of a {name}", ours, by_hand, old)


def _compare(case: str, ours: Folder, by_hand: Path, old: Any = None) -> Comparison:
    """Makes the artifacts that differ from those of the configuration ``old``, both ways."""
    config = _config(ours)
    concerned = [b for b in config.builds if old is None or _made_of(config, b) != _made_of(old, b)]
    shutil.rmtree(by_hand, ignore_errors=True)
    jobs = [_job(config, build, ours.path, by_hand / _name(build)) for build in concerned]
    took = ours.snakemake(*(f"results/pte/{_name(b)}.pte" for b in config.builds))
    rest = ours.snakemake()
    scripts = _timed(partial(_in_parallel, jobs))
    return Comparison(
        f"{case}: {len(concerned)} of {len(config.builds)} artifacts",
        Side("snakemake", [took]),
        Side("one script an artifact", [scripts]),
        {"with_reports_s": took + rest, **_identical(config, concerned, ours, by_hand)},
    )


def _identical(config: Any, concerned: list, ours: Folder, by_hand: Path) -> dict[str, Any]:
    from pte_foundry.formats.canonical_pte import canonical_pte

    same, reproducible, differing = 0, 0, []
    made = ours.artifacts()
    for build in concerned:
        name = _name(build)
        units = config.targets[build.target].compute_units
        equal = canonical_pte((by_hand / name).read_bytes(), units) == made[name].read_bytes()
        same += equal
        if _scheme(config, build.recipe) in REPRODUCIBLE:
            reproducible += 1
            differing += [] if equal else [name]
    return {
        "identical": same,
        "upstream_reproducible": reproducible,
        "reproducible_but_different": differing,
    }


def _name(build: Any) -> str:
    return f"{build.model}/{build.recipe}/{build.target}"


def _scheme(config: Any, recipe: str) -> str:
    entry = config.recipes[recipe]
    if entry.scheme != "quantize":
        return entry.scheme
    return "affine" if all(step.codebook is None for step in entry.steps) else "codebook"


def _made_of(config: Any, build: Any) -> Any:
    """What an artifact depends on in the configuration; None if it is not built."""
    if _name(build) not in map(_name, config.builds):
        return None
    return (
        config.slice("convert", model=build.model, recipe=build.recipe),
        config.slice("lower", target=build.target),
        config.slice("pte", target=build.target),
    )


def _job(config: Any, build: Any, folder: Path, output: Path) -> Job:
    results, entry = folder / "results", config.models[build.model]
    fetched = results / "fetch" / build.model
    data = {name: str(fetched / name / source.filename) for name, source in entry.data.items()}
    trained = results / "train" / f"{build.model}.safetensors"
    weights = (
        trained if entry.weights.kind == "train" else fetched / "weights" / entry.weights.filename
    )
    return Job(
        module=str(folder / entry.module),
        weights=str(weights),
        data=data,
        options=dict(entry.options),
        recipe=config.slice("convert", model=build.model, recipe=build.recipe)["recipe"],
        target=config.slice("lower", target=build.target),
        compute_units=config.targets[build.target].compute_units,
        output=str(output),
    )


def _sources(config: Any) -> list[str]:
    """Weights and data, which both ways begin with."""
    files = set()
    for model in sorted({build.model for build in config.builds}):
        entry = config.models[model]
        for name, source in entry.data.items():
            files.add(f"results/fetch/{model}/{name}/{source.filename}")
        if entry.weights.kind == "train":
            files.add(f"results/train/{model}.safetensors")
        else:
            files.add(f"results/fetch/{model}/weights/{entry.weights.filename}")
    return sorted(files)


def _config(folder: Folder) -> Any:
    from pte_foundry.config.config import load

    return load([folder.config], folder.path)


def _in_parallel(jobs: list[Job]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda job: _run(job.command(), ROOT), jobs))


def _run(command: list[str], folder: Path) -> None:
    # As from a shell of the user's: threads and kernels as libraries choose them.
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[:3]} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
