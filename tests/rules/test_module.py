"""Protects use as a Snakemake module, from a repository that knows nothing of this one.

The other repository has traps: a package `scripts`, and in its folder files named like packages
that our commands or a model import.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = pytest.mark.slow

MODEL = '''\
"""A private model."""
import evaluate_metrics_of_a_model  # found on the user's own PYTHONPATH
import torch
from torch import nn


def network():
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def train():
    torch.manual_seed(0)
    return network().state_dict()


def build(weights):
    from safetensors.torch import load_file

    model = network()
    model.load_state_dict(load_file(weights))
    return model.eval()


def example_inputs():
    return (torch.zeros(1, 16),)


def evaluation():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(1, 16, generator=generator),) for _ in range(4)], None
'''
CONFIG = """\
models:
  secret: {module: models/secret.py, weights: {train: true}}
recipes:
  fp16: {scheme: none}
targets:
  ios18: {minimum_os: iOS18}
builds:
  - {models: [secret], recipes: [fp16], targets: [ios18]}
"""
SNAKEFILE = """\
configfile: "mine.yaml"


module foundry:
    snakefile:
        %s
    config:
        config


use rule * from foundry as foundry_*


rule publish:
    default_target: True
    input:
        "results/validation/secret/fp16/ios18/host.json",
        pte="results/pte/secret/fp16/ios18.pte",
    output:
        "published/secret.pte",
    shell:
        "cp {input.pte} {output}"
"""
# Where Snakemake keeps the repositories that it has fetched rules from.
GIT_CACHE = "snakemake/snakemake/source-cache/snakemake-git-cache"
TRAP = "raise RuntimeError('a file of the user shadows a package')\n"


@pytest.fixture
def clone(tmp_path) -> Project:
    (tmp_path / "pte-foundry").mkdir()
    return Project(tmp_path / "pte-foundry")


def team(folder: Path, snakefile: str) -> Path:
    """A repository that uses the project as a module; `snakefile` says where from."""
    files = {
        "Snakefile": SNAKEFILE % snakefile,
        "mine.yaml": CONFIG,
        "models/secret.py": MODEL,
        "scripts/__init__.py": TRAP,
        "evaluate.py": TRAP,
        "json.py": TRAP,
        "shared/evaluate_metrics_of_a_model.py": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def snakemake(folder: Path, *targets: str, **variables: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # -P: Snakemake itself would import the traps.
    return subprocess.run(
        [sys.executable, "-P", "-m", "snakemake", "--cores", "2", *targets],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(folder / "shared")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_built(folder: Path, **variables: str) -> None:
    done = snakemake(folder, **variables)
    logs = "".join(log.read_text() for log in folder.glob("logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert (folder / "published/secret.pte").stat().st_size > 1000
    report = folder / "results/validation/secret/fp16/ios18/host.json"
    assert json.loads(report.read_text())["status"] == "pass"
    assert (folder / "benchmarks/lower/secret/fp16").is_dir()


def test_a_module_of_a_local_clone_runs_with_the_clone_s_library(clone, tmp_path):
    """Whatever library is installed: here another clone's, of which this one is an edited copy."""
    for file in ("formats/canonical_pte.py", "config/config.py"):
        source = f"scripts/pte_foundry/{file}"
        clone.write(source, clone.read(source) + f"\nprint('the clone: {file}')\n")
    folder = team(tmp_path / "team", '"../pte-foundry/Snakefile"')
    assert_built(folder)
    (log,) = folder.glob("logs/lower/**/*.log")
    assert "the clone: formats/canonical_pte.py" in log.read_text()
    everything = snakemake(folder, "foundry_all")
    assert everything.returncode == 0, everything.stderr
    assert "the clone: config/config.py" in everything.stdout
    assert (folder / "results/report/index.html").is_file()
    again = snakemake(folder, "foundry_all")
    assert "Nothing to be done" in again.stdout + again.stderr


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def hub(clone, tmp_path) -> tuple[Path, dict[str, str]]:
    """A repository that takes the rules from github(...), and variables that make that work here.

    github(...) fetches rules and no packages. Its cache is filled without a network.
    """
    git(clone.folder, "init", "-q", "-b", "main")
    git(clone.folder, "add", "--force", "Snakefile", "rules", "config", "report")
    git(clone.folder, "commit", "-q", "-m", "one")
    bare = tmp_path / f"cache/{GIT_CACHE}/github.com/acme/pte-foundry"
    bare.parent.mkdir(parents=True)
    git(clone.folder, "clone", "-q", "--bare", str(clone.folder), str(bare))
    commit = git(clone.folder, "rev-parse", "HEAD")
    where = f'github("acme/pte-foundry", path="Snakefile", commit="{commit}")'
    return team(tmp_path / "team", where), {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_a_module_of_github_runs_with_the_installed_library(hub):
    folder, variables = hub
    assert_built(folder, **variables)


def test_a_module_of_github_without_the_library_says_how_to_install_it(hub, tmp_path):
    folder, variables = hub
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.path = [p for p in sys.path if not p.rstrip('/').endswith('scripts')]\n"
    )
    done = snakemake(folder, **variables, PYTHONPATH=f"{tmp_path}:{folder / 'shared'}")
    assert done.returncode != 0
    assert "pte_foundry is not installed in this environment" in done.stdout + done.stderr
    assert not (folder / "results").exists()
