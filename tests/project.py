"""A copy of the project with a small configuration, on which tests run the real Snakemake."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROMISE = "would run: "

# Small, and with everything that decides about rebuilding: recipes that share a calibration or not,
# targets that share a lowering or not, a recipe without conversion, one without calibration.
CONFIG = """\
models:
  digits_cnn:
    module: config/models/digits_cnn.py
    weights: {train: true}
    data:
      digits:  # the data
        package: scikit-learn
        file: sklearn/datasets/data/digits.csv.gz
        sha256: 09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22
recipes:
  fp16: {scheme: none}
  int8_static:
    scheme: pt2e
    global_config: {weight_per_channel: true, weight_dtype: qint8}
  int8_tensor:
    scheme: pt2e
    global_config: {weight_per_channel: false, weight_dtype: qint8}
  int8_per_axis:
    scheme: quantize
    steps:
      - affine: {weight_dtype: int8, granularity: {axis: 0}}
targets:
  ios16: {minimum_os: iOS16, compute_units: all}
  ios17: {minimum_os: iOS17, compute_units: all}
  ios17_ne: {minimum_os: iOS17, compute_units: cpu_and_ne}
gates:
  sqnr_db: {min: 10}
builds:
  - {models: [digits_cnn], recipes: [fp16, int8_per_axis], targets: [ios16]}
  - {models: [digits_cnn], recipes: [int8_static], targets: [ios17, ios17_ne]}
  - {models: [digits_cnn], recipes: [int8_tensor], targets: [ios17]}
"""


class Project:
    """The project in a folder of its own."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        self.write("config/config.yaml", config)

    def copy(self, folder: Path) -> "Project":
        """This project with its results and Snakemake's records, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = Project.__new__(Project)
        copied.folder = folder
        return copied

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Edits a file; the old text must be there once, so that no test edits nothing."""
        text = self.read(name)
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        self.write(name, text.replace(old, new))

    def environment(self) -> dict[str, str]:
        """The variables of a process that runs Snakemake here."""
        return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def snakemake(
        self, *arguments: str, prefix: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*prefix, "snakemake", "--logger", "foundry", "--cores", "2", *arguments],
            cwd=self.folder,
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=900,
        )

    def build(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Builds, and shows the logs of what failed if it does not succeed."""
        done = self.snakemake(*arguments, **environment)
        if done.returncode:
            failed = re.findall(r"^FAILED .*log: (\S+)\)$", done.stderr, re.MULTILINE)
            logs = "\n".join(f"== {log}\n{self.read(log)[-3000:]}" for log in failed)
            raise AssertionError(f"{done.stdout}\n{done.stderr}\n{logs}")
        return done

    def jobs(self, *arguments: str, **environment: str) -> set[str]:
        """What Snakemake would do now, each job by its message."""
        done = self.snakemake("--dry-run", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return {
            line.removeprefix(PROMISE)
            for line in done.stdout.splitlines()  # where Snakemake prints dry runs
            if line.startswith(PROMISE)
        }

    def results(self) -> dict[str, bytes]:
        """Every file below the results."""
        found = (path for path in (self.folder / "results").rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    def artifacts(self) -> dict[str, bytes]:
        """Every ``.pte`` by its path below the results."""
        found = sorted((self.folder / "results" / "pte").rglob("*.pte"))
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


def with_helper(project: Project) -> Project:
    """The project, whose model imports a file beside it."""
    model = "config/models/digits_cnn.py"
    project.write("config/models/brightness.py", "LARGEST = 16\n")
    project.replace(model, "import numpy as np\n", "import numpy as np\nimport brightness\n")
    project.replace(model, "(pixels / 16)", "(pixels / brightness.LARGEST)")
    return project
