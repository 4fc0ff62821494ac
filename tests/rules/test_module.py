"""Protects use from another repository: as a Snakemake module, and by ``-s CLONE/Snakefile``.

The other repository has handlers, a model of two files, and traps: a package `scripts`, and in its
folder files named like packages that our commands or a model import.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, Project

pytestmark = pytest.mark.slow

MODEL = '''\
"""A private model."""
import evaluate_metrics_of_a_model  # found on the user's own PYTHONPATH
import torch
from layers import Block  # beside it
from torch import nn


def network():
    return nn.Sequential(Block(16), nn.Linear(16, 4))


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
LAYERS = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inner = nn.Linear(n, n)

    def forward(self, x):
        return x + torch.relu(self.inner(x))
"""
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
# As the README has it, but that the configuration is a part of that of the team.
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOCAL = '"../pte-foundry/Snakefile"'
(USED,) = re.findall(r"\n(module foundry:\n[^`]*)```", README)
SNAKEFILE = f"""\
configfile: "ours.yaml"


{USED.replace("config: config", 'config: config["foundry"]')}

rule publish:
    default_target: True
    input:
        "foundry/results/pte/secret/fp16/ios18.pte",
    output:
        "published/secret.pte",
    shell:
        "cp {{input}} {{output}}"


onstart:
    print("the team's handler: starts")


onerror:
    print("the team's handler: failed")
"""
# Where Snakemake keeps the repositories that it has fetched rules from.
GIT_CACHE = "snakemake/snakemake/source-cache/snakemake-git-cache"
TRAP = "raise RuntimeError('a file of the user shadows a package')\n"
VALIDATION = "results/validation/secret/fp16/ios18/host.json"
PTE = "results/pte/secret/fp16/ios18.pte"


SCRIPTS = ROOT / "scripts"  # stands for an installed library


def copy_of_the_project(folder: Path) -> Project:
    folder.mkdir()
    return Project(folder)


def team(folder: Path, snakefile: str) -> Path:
    """A repository that uses the project as a module; `snakefile` says where from."""
    nested = "published: published\nfoundry:\n" + "".join(f"  {x}\n" for x in CONFIG.splitlines())
    files = {
        "Snakefile": SNAKEFILE.replace(LOCAL, snakefile),
        "ours.yaml": nested,
        "mine.yaml": CONFIG,
        "models/secret.py": MODEL,
        "models/layers.py": LAYERS,
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
        env=os.environ | {"PATH": path, "PYTHONPATH": f"{folder / 'shared'}:{SCRIPTS}"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_ended_well(done: subprocess.CompletedProcess, folder: Path) -> None:
    logs = "".join(log.read_text() for log in folder.rglob("logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory) -> Path:
    """A team's repository beside an edited clone, after its first build of everything."""
    folder = tmp_path_factory.mktemp("team")
    clone = copy_of_the_project(folder / "pte-foundry")
    for file in ("formats/canonical_pte.py", "config/config.py"):
        source = f"scripts/pte_foundry/{file}"
        clone.write(source, clone.read(source) + f"\nprint('the clone: {file}')\n")
    made = team(folder / "team", LOCAL)
    done = snakemake(made, "publish", "foundry_all")
    assert_ended_well(done, made)
    (made / "output.txt").write_text(done.stdout)
    return made


def test_a_module_builds_with_the_clone_s_library_below_its_prefix(neighbour):
    """Whatever library is installed: here another clone's, of which this one is an edited copy."""
    (log,) = neighbour.glob("foundry/logs/pte/**/*.log")
    assert "the clone: formats/canonical_pte.py" in log.read_text()
    output = (neighbour / "output.txt").read_text()
    assert "the clone: config/config.py" in output
    report = json.loads((neighbour / f"foundry/{VALIDATION}").read_text())
    assert (report["status"], report["artifact"]["path"]) == ("pass", PTE)
    assert (neighbour / "published/secret.pte").stat().st_size > 1000
    assert (neighbour / "foundry/benchmarks/lower/secret/fp16").is_dir()
    assert (neighbour / "foundry/results/report/index.html").is_file()
    manifest = json.loads((neighbour / "foundry/results/manifest.json").read_text())
    files = {file["path"] for file in manifest["models"]["secret"]["files"].values()}
    assert {"models/secret.py", "models/layers.py", "results/train/secret.safetensors"} < files
    assert not {"results", "logs", "benchmarks"} & {path.name for path in neighbour.iterdir()}
    assert not (neighbour.parent / "pte-foundry/results").exists()


def test_a_module_starts_fork_servers_and_runs_the_team_s_handlers_too(neighbour):
    assert "the team's handler: starts" in (neighbour / "output.txt").read_text()
    assert list(neighbour.glob("foundry/logs/fork_server*"))


def test_a_module_plans_nothing_anew_and_a_helper_s_edit_everything(neighbour):
    again = snakemake(neighbour, "foundry_all")
    assert "Nothing to be done" in again.stdout + again.stderr
    layers = neighbour / "models/layers.py"
    layers.write_text(LAYERS.replace("relu", "tanh"))
    planned = snakemake(neighbour, "foundry_all", "--dry-run", "--quiet", "rules")
    layers.write_text(LAYERS)
    assert "foundry_export" in planned.stdout + planned.stderr


def test_a_module_refuses_what_is_asked_for_by_path_and_cannot_be_built(neighbour):
    wrong = snakemake(neighbour, f"foundry/{PTE}".replace("ios18", "ios19"))
    assert "did you mean ios18?" in wrong.stdout + wrong.stderr
    config = neighbour / "ours.yaml"
    sound = config.read_text()
    config.write_text(sound.replace("iOS18", "iOS99"))
    wrong = snakemake(neighbour, "--dry-run")
    config.write_text(sound)
    assert "ours.yaml:8: targets.ios18.minimum_os" in wrong.stdout + wrong.stderr


def test_a_module_s_artifact_that_is_asked_for_by_path_is_validated(neighbour):
    report = neighbour / "foundry" / VALIDATION
    report.unlink()
    done = snakemake(neighbour, f"foundry/{PTE}")
    assert_ended_well(done, neighbour)
    assert report.is_file()
    assert re.search(rf"foundry/{PTE} +[\d.]+ kB +[\d.]+ dB +pass", done.stdout + done.stderr)


def test_a_module_tells_failures_in_a_table_and_the_summary(neighbour):
    model = neighbour / "models/secret.py"
    model.write_text(
        MODEL.replace("def build(weights):", "def build(weights):\n    return 1 / 0\n")
    )
    failed = snakemake(neighbour, "foundry_all", "--keep-going")
    model.write_text(MODEL)
    assert failed.returncode != 0
    text = failed.stdout + failed.stderr
    assert "FAIL secret: export failed: models/secret.py:18: build() raised ZeroDivision" in text
    assert "the team's handler: failed" in text
    (build,) = json.loads((neighbour / "foundry/results/summary.json").read_text())["builds"]
    assert (build["status"], build["error"]["stage"]) == ("fail", "export")


def test_the_clone_s_snakefile_builds_the_same_bytes_in_the_team_s_folder(neighbour):
    """Also without a module: its profile is found, and paths are relative to the config."""
    done = snakemake(
        neighbour, "--snakefile", "../pte-foundry/Snakefile", "--configfile", "mine.yaml", "--", PTE
    )
    assert_ended_well(done, neighbour)
    assert (neighbour / PTE).read_bytes() == (neighbour / "published/secret.pte").read_bytes()
    assert not (neighbour.parent / "pte-foundry/results").exists()


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def hub(tmp_path) -> tuple[Path, dict[str, str]]:
    """A repository that takes the rules from github(...), and variables that make that work here.

    github(...) fetches rules and no packages. Its cache is filled without a network.
    """
    clone = copy_of_the_project(tmp_path / "pte-foundry").folder
    git(clone, "init", "-q", "-b", "main")
    git(clone, "add", "--force", "Snakefile", "rules", "config", "report")
    git(clone, "commit", "-q", "-m", "one")
    bare = tmp_path / f"cache/{GIT_CACHE}/github.com/acme/pte-foundry"
    bare.parent.mkdir(parents=True)
    git(clone, "clone", "-q", "--bare", str(clone), str(bare))
    commit = git(clone, "rev-parse", "HEAD")
    where = f'github("acme/pte-foundry", path="Snakefile", commit="{commit}")'
    return team(tmp_path / "team", where), {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_a_module_of_github_runs_with_the_installed_library(hub):
    """And fetches the config that another one extends."""
    folder, variables = hub
    config = folder / "ours.yaml"
    config.write_text(config.read_text().replace("  models:", "  extends: default\n  models:"))
    done = snakemake(folder, "foundry/results/export/secret.pt2", **variables)
    assert_ended_well(done, folder)
    assert (folder / "foundry/results/export/secret.pt2").stat().st_size > 1000


def test_a_module_of_github_without_the_library_says_how_to_install_it(hub, tmp_path):
    folder, variables = hub
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.path = [p for p in sys.path if not p.rstrip('/').endswith('scripts')]\n"
    )
    done = snakemake(folder, **variables, PYTHONPATH=f"{tmp_path}:{folder / 'shared'}")
    assert done.returncode != 0
    assert "pte_foundry is not installed in this environment" in done.stdout + done.stderr
    assert not (folder / "foundry").exists()
