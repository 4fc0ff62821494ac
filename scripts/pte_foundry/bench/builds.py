"""Building a configuration with our rules against one upstream script for each artifact."""

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
from typing import TYPE_CHECKING, Any

from pte_foundry.bench import CLONE
from pte_foundry.bench.matrix import PARTS
from pte_foundry.bench.measure import Comparison, Side
from pte_foundry.bench.upstream_script import Job

if TYPE_CHECKING:
    from pte_foundry.config.config import Build, Config
    from pte_foundry.workflow.jobs import Jobs

TITLE = "Builds"
HOW = (
    "Seconds to build all artifacts of config/config.yaml: snakemake with two cores, then one "
    "script for each artifact after ExecuTorch's documentation, two at a time, on the same "
    "machine. Both begin with fetched and trained weights; the scripts validate nothing. "
    "with_reports_s is our time with every validation, the summary, the manifest and the page. "
    "Edits are made in a finished build: the recipe int8_static gets other weight settings, the "
    "targets ios17 and ios18_ne another OS and other compute units; the scripts of the affected "
    "artifacts run again. identical: artifacts of the scripts that are byte-identical to ours in "
    "canonical form. The others are of recipes for which upstream's result depends on the run or "
    "on the machine (calibration, k-means)."
)
WORKERS = 2
CONFIG = "config/config.yaml"

# Edits of the configuration: a text in it, which must occur once, and its replacement.
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
# Schemes for which upstream gives the same weights every time.
REPRODUCIBLE = ("none", "affine")


class Folder:
    """A copy of this clone, with a configuration that can be edited."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        for part in PARTS:
            copy = shutil.copytree if (CLONE / part).is_dir() else shutil.copy2
            copy(CLONE / part, path / part)
        self.config = path / CONFIG

    def edit(self, before: str, after: str) -> None:
        """Replaces a text of the configuration. Raises ValueError unless it occurs once."""
        text = self.config.read_text(encoding="utf-8")
        if text.count(before) != 1:
            raise ValueError(f"{self.config} has {text.count(before)} times {before!r}, not once")
        self.config.write_text(text.replace(before, after), encoding="utf-8")

    def snakemake(self, *targets: str, until: str | None = None) -> float:
        """Builds targets, or everything; returns the seconds that it took."""
        end = ["--until", until] if until else []
        command = ["snakemake", "--cores", str(WORKERS), *end, "--", *targets]
        return _timed(partial(_run, command, self.path))

    def jobs(self) -> Jobs:
        """Returns the jobs of the configuration as it is now."""
        from pte_foundry.config.config import load
        from pte_foundry.workflow.jobs import Jobs

        return Jobs(load([self.config], self.path))

    def artifacts(self) -> dict[str, Path]:
        """Returns the built artifacts by ``model/recipe/target``."""
        folder = self.path / "results" / "pte"
        return {f.relative_to(folder).with_suffix("").as_posix(): f for f in folder.rglob("*.pte")}


def comparisons() -> Iterator[Comparison]:
    """Yields the default configuration, cold and after edits."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        ours = Folder(Path(scratch) / "ours")
        theirs = Path(scratch) / "theirs"
        ours.snakemake(*sources(ours.jobs().config))
        yield _compare("everything, cold", ours, theirs)
        idle = Side("snakemake, again", [ours.snakemake() for _ in range(3)])
        yield Comparison("nothing to do", idle, None, {})
        for name, (before, after) in EDITS.items():
            old = ours.jobs()
            ours.edit(before, after)
            yield _compare(f"after an edit of a {name}", ours, theirs, old)


def _compare(case: str, ours: Folder, theirs: Path, old: Jobs | None = None) -> Comparison:
    """Builds the artifacts that differ from those of the jobs ``old``, both ways."""
    jobs = ours.jobs()
    builds = jobs.config.builds
    built = affected(jobs, old)
    shutil.rmtree(theirs, ignore_errors=True)
    scripts = [script(jobs, build, ours.path, theirs / name_of(build)) for build in built]
    paths = (f"results/pte/{name_of(build)}.pte" for build in builds)
    took = ours.snakemake(*paths, until="pte")
    rest = ours.snakemake()
    return Comparison(
        f"{case}: {len(built)} of {len(builds)} artifacts",
        Side("snakemake", [took]),
        Side("one script an artifact", [_timed(partial(_in_parallel, scripts))]),
        {"with_reports_s": took + rest, **_identical(jobs.config, built, ours, theirs)},
    )


def _identical(config: Config, built: list[Build], ours: Folder, theirs: Path) -> dict[str, Any]:
    from pte_foundry.formats.canonical_pte import canonical_pte

    same, reproducible, differing = 0, 0, []
    made = ours.artifacts()
    for build in built:
        name = name_of(build)
        units = config.targets[build.target].compute_units
        equal = canonical_pte((theirs / name).read_bytes(), units) == made[name].read_bytes()
        same += equal
        if scheme_of(config, build.recipe) in REPRODUCIBLE:
            reproducible += 1
            differing += [] if equal else [name]
    return {
        "identical": same,
        "upstream_reproducible": reproducible,
        "reproducible_but_different": differing,
    }


def name_of(build: Build) -> str:
    """Returns ``model/recipe/target``."""
    return f"{build.model}/{build.recipe}/{build.target}"


def scheme_of(config: Config, recipe: str) -> str:
    """Returns the scheme of a recipe, but ``affine`` or ``codebook`` for ``quantize``."""
    entry = config.recipes[recipe]
    if entry.scheme != "quantize":
        return entry.scheme
    return "affine" if all(step.codebook is None for step in entry.steps) else "codebook"


def affected(jobs: Jobs, old: Jobs | None) -> list[Build]:
    """Returns the builds whose artifacts depend on other settings than in ``old``; None: all."""
    if old is None:
        return list(jobs.config.builds)
    before = {name_of(build): _settings(old, build) for build in old.config.builds}
    return [b for b in jobs.config.builds if before.get(name_of(b)) != _settings(jobs, b)]


def _settings(jobs: Jobs, build: Build) -> tuple[Any, ...]:
    """The parts of the configuration that an artifact depends on."""
    return (
        jobs.part("convert", model=build.model, recipe=build.recipe),
        jobs.part("lower", target=build.target),
        jobs.part("pte", target=build.target),
    )


def script(jobs: Jobs, build: Build, folder: Path, output: Path) -> Job:
    """Returns the upstream script of a build, with the sources that the project has fetched."""
    entry = jobs.config.models[build.model]
    return Job(
        module=str(jobs.config.module_file(build.model)),
        weights=str(folder / _weights(build.model, entry)),
        data={name: str(folder / path) for name, path in _data(build.model, entry).items()},
        options=dict(entry.options),
        recipe=jobs.part("convert", model=build.model, recipe=build.recipe)["recipe"],
        target=jobs.part("lower", target=build.target),
        compute_units=jobs.config.targets[build.target].compute_units,
        output=str(output),
    )


def sources(config: Config) -> list[str]:
    """Returns the weights and data of all models that are built, as targets for snakemake."""
    models = {build.model: config.models[build.model] for build in config.builds}
    weights = [_weights(name, entry) for name, entry in models.items()]
    data = [path for name, entry in models.items() for path in _data(name, entry).values()]
    return sorted(weights + data)


def _weights(model: str, entry: Any) -> str:
    if entry.weights.kind == "train":
        return f"results/train/{model}.safetensors"
    return f"results/fetch/{model}/weights/{entry.weights.filename}"


def _data(model: str, entry: Any) -> dict[str, str]:
    return {
        name: f"results/fetch/{model}/{name}/{source.filename}"
        for name, source in entry.data.items()
    }


def _in_parallel(jobs: list[Job]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda job: _run(job.command(), CLONE), jobs))


def _run(command: list[str], folder: Path) -> None:
    # As from the user's shell: libraries choose threads and kernels.
    environment = os.environ | {"PYTHONPATH": str(folder / "scripts")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[:3]} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
