"""Protects what a run says of artifacts that are asked for by path: size, verdict and path."""

import io
from pathlib import Path

import pytest
from pte_foundry.config.config import load
from pte_foundry.files import write_json
from pte_foundry.place import Folder
from pte_foundry.workflow.asked_artifacts import NO_BUILD, UNTIL, AskedArtifacts
from rich.console import Console

from tests.made_up_reports import path_of, report
from tests.storage_folder import storage_in

CONFIG = """\
models:
  net: {module: net.py, weights: {train: true}}
recipes:
  fp16: {scheme: none}
  int8: {scheme: quantize, steps: [{affine: {weight_dtype: int8, granularity: {axis: 0}}}]}
targets:
  ios18: {minimum_os: iOS18}
  ios17: {minimum_os: iOS17}
builds:
  - {models: "*", recipes: "*", targets: [ios18]}
"""
NET = "def build(): ...\ndef train(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\n"
FP16, INT8 = "results/pte/net/fp16/ios18.pte", "results/pte/net/int8/ios18.pte"
NO_GATES = "results/pte/net/fp16/ios17.pte"


@pytest.fixture
def asked(tmp_path, monkeypatch) -> AskedArtifacts:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    Path("config.yaml").write_text(CONFIG)
    return AskedArtifacts(load([Path("config.yaml")], Path.cwd()))


def build(path: str, **changes) -> str:
    """Writes an artifact and its report; returns the report's path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(bytes(1500))
    made = report(*Path(path).with_suffix("").parts[-3:]) | changes
    write_json(Path(path_of(made)), made)
    return path_of(made)


def concluded(asked: AskedArtifacts, *, width: int = 80, unmade=()) -> tuple[str, list[str]]:
    out = io.StringIO()
    why = asked.conclude(Console(file=out, width=width, highlight=False), unmade)
    return why, [line.rstrip() for line in out.getvalue().splitlines()]


def test_an_artifact_is_validated_on_all_devices_and_reports_are_what_they_are(asked, tmp_path):
    absolute = str(tmp_path / FP16)
    reports = asked.ask(["all", absolute, "./results/pte/net/int8/ios18.pte", "results/x.json"])
    assert reports == [
        "results/validation/net/fp16/ios18/host.json",
        "results/validation/net/int8/ios18/host.json",
    ]
    assert asked.reports.keys() == {FP16, INT8}


def test_one_artifact_is_one_line(asked):
    asked.ask([FP16])
    build(FP16)
    why, (line,) = concluded(asked)
    assert not why
    path, size, noise, status = line.split("  ")
    assert (path, size, status) == (FP16, "1.5 kB", "pass")
    assert noise.endswith(" dB")


GATE = {"metric": "sqnr_db", "limit": ">= 60", "value": 18.66, "passed": False}


def test_several_artifacts_are_a_table_with_the_gates_they_miss(asked):
    asked.ask([FP16, INT8])
    build(FP16)
    build(INT8, gates=[GATE], status="fail")
    why, lines = concluded(asked)
    assert why == "Built, but it does not pass: net/int8/ios18"
    assert [line.split()[0] for line in lines] == ["artifact", FP16, INT8, "FAIL"]
    assert lines[2].endswith("FAIL")
    assert lines[3] == "FAIL net/int8/ios18: sqnr_db 18.66, required >= 60"


@pytest.mark.parametrize(
    ("path", "until", "reason"), [(NO_GATES, [], NO_BUILD), (FP16, ["pte"], UNTIL)]
)
def test_what_is_not_validated_is_told_with_the_reason(asked, path, until, reason):
    build(path)
    assert asked.ask([path], until) == []
    why, lines = concluded(asked, width=200)
    assert not why, "it has no gates that it could miss"
    assert lines[0].endswith("not validated")
    assert lines[1] == f"{path} is not validated: {reason}"


def test_what_the_run_has_not_made_is_not_judged_by_what_was_there_before(asked):
    asked.ask([FP16, INT8])
    build(INT8)
    old = build(FP16)
    assert concluded(asked, unmade=[old])[1][0].startswith(INT8)
    assert concluded(asked, unmade=[FP16, INT8])[1] == []
    Path(INT8).unlink()
    assert concluded(asked, unmade=[FP16])[1] == []


def test_a_damaged_report_is_no_verdict(asked):
    asked.ask([FP16])
    Path(build(FP16)).write_text("{}")
    why, lines = concluded(asked, width=300)
    assert not why
    assert lines[0].endswith("not validated")
    assert "results/validation/net/fp16/ios18/host.json" in lines[1]


def test_a_run_of_everything_prints_no_artifacts(asked):
    assert asked.ask(["all", "results/summary.json"]) == []
    assert concluded(asked) == ("", [])


def test_a_module_s_artifact_is_that_below_its_prefix(asked, monkeypatch):
    """Another workflow may have files of its own that are called like ours."""
    below = AskedArtifacts(asked._config, Folder(Path("foundry")))
    assert below.ask([FP16, "publish", "published/net.pte"]) == []
    wanted = below.ask([f"foundry/{FP16}"])
    assert wanted == ["foundry/results/validation/net/fp16/ios18/host.json"]
    Path("foundry").mkdir()
    with monkeypatch.context() as inside:
        inside.chdir("foundry")
        report_of_it = build(FP16)
    assert concluded(below)[1][0].startswith(f"foundry/{FP16}  1.5 kB")
    assert concluded(below, unmade=[report_of_it])[1] == []


def test_an_artifact_in_a_storage_is_judged_by_the_report_there(asked, tmp_path):
    storage = storage_in(tmp_path / "buckets", tmp_path / "copies", folder=Path("foundry"))
    stored = AskedArtifacts(asked._config, storage)
    wanted = stored.ask([f"foundry/{FP16}"])
    assert wanted == ["foundry/results/validation/net/fp16/ios18/host.json"]
    assert concluded(stored)[1] == [], "it has not been made"
    report_of_it = build(FP16, gates=[GATE], status="fail")
    for name in (FP16, report_of_it):
        stored_file = tmp_path / "buckets/bucket/run" / name
        stored_file.parent.mkdir(parents=True)
        Path(name).rename(stored_file)
    assert concluded(stored)[0] == "Built, but it does not pass: net/fp16/ios18"
