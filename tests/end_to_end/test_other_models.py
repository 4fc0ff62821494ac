"""Builds models after public bug reports, right and wrong ones side by side, by the real rules.

One run has them all: what is right passes, what is wrong fails for the reason written here, what
cannot be built is told once, and none of them hides another.
"""

import json
import re

import pytest

from tests.project import ROOT, Project

pytestmark = pytest.mark.slow

CONFIG = """\
recipes:
  fp32: {scheme: none}
  fp16: {scheme: none}
  int8_static:
    scheme: pt2e
    global_config: {activation_observer: min_max}
  int4_group32:
    scheme: quantize
    steps:
      - affine: {weight_dtype: int4, granularity: {group_size: 32}}
        modules: {types: [torch.nn.Embedding], exclude: []}
        optional: true
      - affine: {weight_dtype: int4, granularity: {group_size: 32}}
  lut2:
    scheme: quantize
    steps:
      - codebook: {dtype: uint2, block_size: [-1, -1]}
targets:
  ios16: {minimum_os: iOS16}
  ios17: {minimum_os: iOS17}
  ios18: {minimum_os: iOS18}
  ios18_fp32: {minimum_os: iOS18, compute_precision: float32}
divergence: true
"""

# Recipe and target of builds that are right, by net.
RIGHT = {
    "Binomial": ["fp16 ios17", "fp32 ios18_fp32"],
    "Cache": ["fp16 ios17", "fp16 ios18"],
    "CeilPool": ["fp16 ios16", "fp32 ios18_fp32"],
    "Detector": ["fp16 ios18", "fp32 ios18_fp32"],
    "GroupedQuery": ["fp16 ios16", "fp16 ios18"],
    "Handed": ["fp16 ios17"],
    "LargeIds": ["fp16 ios17"],
    "PaddingMask": ["fp16 ios17", "fp32 ios18_fp32"],
    "Peaks": ["fp16 ios17"],
    "Positioned": ["int4_group32 ios18"],
    "Positions": ["int8_static ios17"],
    "RmsNorm": ["fp16 ios18", "fp32 ios18_fp32"],
    "Transposed": ["fp16 ios16", "int8_static ios17"],
    "Twins": ["fp16 ios18", "fp32 ios18_fp32"],
}

# Builds whose artifact is wrong: what the report must have in its hazards or missed gates.
WRONG = {
    "LargestMask fp16 ios18": "-3.4.*e\\+?38",
    "Loud fp16 ios18": "fp16_overflow",
    "Untrained fp16 ios18": "output is all zeros",
}
# Builds that have no artifact: the stage that refuses them, and what the message must hold.
REFUSED = {
    "Choice fp16 ios18": ("export", "torch.cond.*torch.where"),
    "InPlace fp16 ios18": ("export", "changes its input x in place"),
    "Indices fp16 ios18": ("lower", "max_pool2d_with_indices.*skip_ops_for_coreml_delegation"),
    "Recurrent int8_static ios17": ("convert", "nothing"),
    "Tied int4_group32 ios18": ("convert|structure", "embed.*out"),
}


def config():
    """The config with a model for each net and a build for each of the tables' entries."""
    builds = [(net, *build.split()) for net, found in RIGHT.items() for build in found]
    builds += [tuple(build.split()) for build in (*WRONG, *REFUSED, "Ruined lut2 ios18")]
    path = "tests/end_to_end/other_models.py"
    models = {
        net: {"module": path, "weights": {"train": True}, "options": {"net": net}}
        for net in sorted({net for net, _, _ in builds})
    }
    entries = [{"models": [m], "recipes": [r], "targets": [t]} for m, r, t in builds]
    return CONFIG + f"models: {json.dumps(models)}\nbuilds: {json.dumps(entries)}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("others"), config())
    done = project.snakemake()
    return project, done, done.stdout + done.stderr


def record(project, build):
    names = dict(zip(("model", "recipe", "target"), build.split(), strict=True))
    records = json.loads(project.read("results/summary.json"))["builds"]
    return next(record for record in records if names.items() <= record["build"].items())


@pytest.mark.parametrize("build", [f"{n} {b}" for n, found in RIGHT.items() for b in found])
def test_right_builds_pass(run, build):
    found = record(run[0], build)
    assert found["status"] == "pass", found
    assert found["artifact"]["delegated_fraction"] == 1.0


@pytest.mark.parametrize("build", WRONG)
def test_wrong_artifacts_fail_and_say_why(run, build):
    found = record(run[0], build)
    assert found["status"] == "fail"
    reasons = found["hazards"], [gate for gate in found["gates"] if not gate["passed"]]
    assert re.search(WRONG[build], json.dumps(reasons)), reasons


def test_a_large_output_does_not_hide_a_ruined_one(run):
    found = record(run[0], "Ruined lut2 ios18")
    assert found["metrics"]["worst_output"] == "output_1"
    assert found["metrics"]["sqnr_db"] < 20
    assert [output["sqnr_db"] > 60 for output in found["outputs"]] == [True, False]


@pytest.mark.parametrize("build", REFUSED)
def test_refused_builds_are_rows_and_leave_nothing(run, build):
    project, _, _ = run
    stage, message = REFUSED[build]
    error = record(project, build)["error"]
    assert re.fullmatch(stage, error["stage"]), error
    assert re.search(message, error["message"], re.S), error
    assert not (project.folder / f"results/pte/{build.replace(' ', '/')}.pte").exists()


def test_each_failure_is_told_once(run):
    _, done, printed = run
    assert done.returncode != 0
    for build in REFUSED:
        assert printed.count(f"FAILED  {build.split()[0]}: export failed:") <= 1


def test_known_device_issues_are_warnings(run):
    issues = record(run[0], "Peaks fp16 ios17")["known_issues"]
    assert any(issue["effect"] == "crash" and "17537" in issue["source"] for issue in issues)


def test_divergence_reports_and_the_page_exist(run):
    project, _, _ = run
    page = project.read("results/report/index.html")
    for net, builds in RIGHT.items():
        for build in builds:
            path = f"results/divergence/{net}/{build.replace(' ', '/')}.json"
            assert (project.folder / path).exists(), path
            assert net in page


def test_the_models_are_those_of_this_folder():
    assert (ROOT / "tests/end_to_end/other_models.py").exists()
