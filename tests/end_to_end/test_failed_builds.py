"""Protects what a user sees of builds that fail: all others whole, each failure once, an exit code.

One project goes through the runs of a first day: broken models, a missed gate, a model that breaks
later. Every test looks at one of these runs; `make` and plain `snakemake` take turns.
"""

import json
import re
import subprocess
from collections import Counter

import pytest

from tests.end_to_end.test_faults import made
from tests.project import CONFIG, Project

pytestmark = pytest.mark.slow

MODEL = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x)


def train():
    torch.manual_seed(0)
    return Net().state_dict()


def build(weights):
    from safetensors.torch import load_file

    net = Net()
    net.load_state_dict(load_file(weights))
    return net.eval()


def example_inputs():
    return (torch.zeros(1, 4),)


def evaluation():
    return [(torch.full((1, 4), float(i)),) for i in range(4)], None
"""
BROKEN = {
    "raises": ("net = Net()", "raise LookupError('no luck')", "raises.py:{line}: build() raised"),
    "not_finite": ("self.linear(x)", "self.linear(x) * torch.nan", "not_finite.py: forward()"),
    "wide": ("torch.full((1, 4)", "torch.full((1, 5)", "wide.py: evaluation()"),
}
OVERFLOWING = (
    ("self.linear(x)", "(self.linear(x) * 1e6).sum(-1, keepdim=True)"),
    (
        "\n\ndef build",
        "\n\ndef score(outputs, labels):\n"
        "    return {'mean': max(o[0].mean().item() for o in outputs)}\n\n\ndef build",
    ),
)
CONFIG_FILE = "config/config.yaml"
SUMMARY, MANIFEST, PAGE = (
    "results/summary.json",
    "results/manifest.json",
    "results/report/index.html",
)


def edited(*edits: tuple[str, str]) -> str:
    text = MODEL
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def plain(project: Project, *arguments: str) -> subprocess.CompletedProcess:
    """Snakemake without our logger, as most people run it."""
    return subprocess.run(
        ["snakemake", "--cores", "2", *arguments],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def executed(done: subprocess.CompletedProcess) -> Counter:
    """How often each rule has begun a job that came to its end."""
    return Counter(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", done.stderr))


def records(project: Project) -> dict[str, dict]:
    builds = json.loads(project.read(SUMMARY))["builds"]
    return {"/".join(build["build"].values()): build for build in builds}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    modules = {"sound": MODEL, "loud": edited(*OVERFLOWING)}
    modules |= {name: edited((old, new)) for name, (old, new, _) in BROKEN.items()}
    models = "".join(
        f"  {name}: {{module: config/models/{name}.py, weights: {{train: true}}}}\n"
        for name in modules
    )
    config = CONFIG[CONFIG.index("recipes:") : CONFIG.index("builds:")]
    builds = (
        f"builds:\n  - {{models: [{', '.join(modules)}], recipes: [fp16], targets: [ios16]}}\n"
        "  - {models: [sound, raises], recipes: [int8_per_axis], targets: [ios16]}\n"
    )
    project = Project(tmp_path_factory.mktemp("failed"), f"models:\n{models}{config}{builds}")
    for name, text in modules.items():
        project.write(f"config/models/{name}.py", text)
    return project


def blamed() -> list[str]:
    """What the three broken models are told to be."""
    return [
        message.format(line=MODEL[: MODEL.index(old)].count("\n") + 1)
        for old, _, message in BROKEN.values()
    ]


@pytest.fixture(scope="module")
def broken(project) -> tuple[int, str]:
    """`make` with three broken models, one whose artifact overflows, and one that is sound."""
    return made(project)


def test_broken_models_do_not_hide_the_others(broken, project):
    code, _ = broken
    assert code != 0
    found = records(project)
    assert len(found) == 7
    for name in ("sound/fp16/ios16", "sound/int8_per_axis/ios16"):
        assert found[name]["status"] == "pass"
        assert found[name]["metrics"]["sqnr_db"] > 20
    stages = {"raises": "export", "not_finite": "reference", "wide": "reference"}
    for name, stage in stages.items():
        error = found[f"{name}/fp16/ios16"]["error"]
        assert (error["stage"], error["log"]) == (stage, f"logs/{stage}/{name}.log")
        assert (project.folder / error["log"]).is_file()
    assert found["loud/fp16/ios16"]["status"] == "fail"
    page = project.read(PAGE)
    assert "Failures" in page
    assert page.count("raises.py:") >= 1
    assert not (project.folder / MANIFEST).exists(), "it would name artifacts that do not exist"


def test_each_failure_is_told_when_it_happens_and_once_at_the_end(broken):
    _, output = broken
    for message in blamed():
        assert output.count(message) == 2, output
    assert output.count("FAIL raises: export failed") == 1
    assert "(stops 2 builds; log: logs/export/raises.log)" in output
    assert output.count("7 builds, 2 passed, 5 failed") == 1
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def missed(broken, project) -> subprocess.CompletedProcess:
    """Plain Snakemake after the models were repaired, with a gate that int8 does not meet."""
    for name in (*BROKEN, "loud"):
        project.write(f"config/models/{name}.py", MODEL)
    project.replace(CONFIG_FILE, "sqnr_db: {min: 10}", "sqnr_db: {min: 60}")
    return plain(project)


def test_a_missed_gate_fails_the_run_after_everything_is_built(missed, project):
    assert missed.returncode != 0
    told = missed.stderr
    assert (
        "everything is built, but 2 of 7 builds fail: raises/int8_per_axis/ios16 (sqnr_db)" in told
    )
    assert told.count("FAIL sound/int8_per_axis/ios16: sqnr_db") == 1
    assert "7 builds, 5 passed, 2 failed" in told
    assert "CalledProcessError" not in told
    assert "Traceback" not in told
    artifacts = json.loads(project.read(MANIFEST))["artifacts"]
    assert artifacts.keys() == project.artifacts().keys()
    assert len(artifacts) == 7
    assert "Missed gates" in project.read(PAGE)


def test_the_next_run_fails_again_without_any_work(missed, project):
    again = plain(project)
    assert again.returncode != 0
    assert "2 of 7 builds fail" in again.stderr
    assert executed(again) == {}
    assert not (project.folder / "results/gates.json").exists()


def test_gates_are_of_all_builds_not_of_files_asked_for_by_path(missed, project):
    """A report is made and has the verdict; `all` and `gates` are what judges."""
    name = "results/validation/sound/int8_per_axis/ios16/host.json"
    (project.folder / name).unlink()
    assert plain(project, "--", name).returncode == 0
    assert json.loads(project.read(name))["status"] == "fail"


def test_an_artifact_asked_for_by_path_ends_with_its_verdict(missed, project):
    name = "results/pte/sound/int8_per_axis/ios16.pte"
    (project.folder / "results/validation/sound/int8_per_axis/ios16/host.json").unlink()
    done = plain(project, "--", name)
    assert done.returncode != 0
    assert executed(done) == {"validate": 1}
    assert re.search(rf"^{name}  8\.\d+ kB  \d\d\.\d dB  FAIL *$", done.stderr, re.MULTILINE)
    assert done.stderr.count("FAIL sound/int8_per_axis/ios16: sqnr_db") == 1
    assert done.stderr.count("Built, but it does not pass: sound/int8_per_axis/ios16") == 1
    assert "Traceback" not in done.stderr
    assert ' File "' not in done.stderr


@pytest.fixture(scope="module")
def warned(missed, project) -> subprocess.CompletedProcess:
    project.replace(CONFIG_FILE, "sqnr_db: {min: 60}", "sqnr_db: {min: 60, on_fail: warn}")
    return plain(project)


def test_a_gate_that_only_warns_passes(warned, project):
    assert warned.returncode == 0, warned.stderr
    assert executed(warned).keys() == {"validate", "summary", "report", "gates", "all"}
    assert json.loads(project.read("results/gates.json"))["warned"] == 2
    assert project.jobs() == set()


LOWER = "scripts/pte_foundry/steps/lower.py"


@pytest.fixture(scope="module")
def broken_later(warned, project) -> subprocess.CompletedProcess:
    """A step that has worked fails; all artifacts and reports of the earlier run still exist."""
    sound = project.read(LOWER)
    project.write(
        LOWER, sound.replace("def step() -> None:\n", "def step() -> None:\n        1 / 0\n")
    )
    done = plain(project, "--workflow-profile", "none")  # without --keep-going
    project.write(LOWER, sound)
    return done


def test_an_old_report_does_not_pass_for_a_build_that_failed_now(broken_later, project):
    assert broken_later.returncode != 0
    errors = [record["error"] for record in records(project).values()]
    assert len(errors) == 7
    told = Counter(error["message"].partition(":")[0] for error in errors)
    assert told["ZeroDivisionError"] in (1, 2), "one or both of the jobs at a time"
    assert told["ZeroDivisionError"] + told["not built"] == 7
    assert {record["artifact"] for record in records(project).values()} == {None}
    assert 1 <= broken_later.stderr.count("lower failed: ZeroDivisionError") <= 2
    assert not (project.folder / MANIFEST).exists()


def test_what_is_put_back_as_it_was_passes_again_without_building(broken_later, project):
    """Nothing but the summary of the failed run is to be made anew."""
    done = plain(project)
    assert done.returncode == 0, done.stderr
    assert executed(done).keys() <= {"summary", "manifest", "report", "gates", "all"}
    assert {record["status"] for record in records(project).values()} == {"pass"}
    assert project.jobs() == set()


def test_an_edit_of_what_all_steps_share_reruns_all_of_them(project, broken_later):
    """A model without data: Snakemake skips what is behind an `ancient` file that it makes anew."""
    path = "scripts/pte_foundry/job/command.py"
    project.write(path, project.read(path) + "\nNEW = 1\n")
    planned = project.jobs()
    for job in ("Describing sound", "Making the weights of sound", "Exporting sound"):
        assert job in planned
