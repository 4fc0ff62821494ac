"""Protects the benchmark of a large model: what it measures, what it refuses, what it estimates."""

import io
import json
import sys

import pytest
from pte_foundry.bench import large, large_estimates
from pte_foundry.config.config import load
from pte_foundry.errors import FoundryError
from pte_foundry.files import replacing
from pte_foundry.workflow.memory import NEEDS, parameters
from rich.console import Console

SHAPE = json.loads((large.CONFIG.parent / "models/llama_3_2_1b/config.json").read_text())
MACHINE = {"processor": "a processor", "cores": 2}
STEPS = {
    "validation/net/lut4/ios18/host": (3000, 30),
    "validation/net/int4_group32/ios18/host": (2900, 60),
    "lower/net/lut4/ios18": (9000, 120),
    "lower/net/int4_group32/ios18": (8000, 180),
    "export/net": (7000, 90),
    "train/net": (6000, 100),
}


def written(folder):
    for name, (peak, seconds) in STEPS.items():
        file = folder / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t{peak}\t{seconds / 2}\n")
    return folder


@pytest.fixture
def measured(tmp_path):
    artifact = {
        "recipe": "lut4",
        "status": "pass",
        "bytes": 700 * 2**20,
        "weight_bytes": {"uint4": 500_000_000, "int8": 260_000_000},
        "lowering_sqnr_db": 51.26,
        "quantization_sqnr_db": 20.0,
    }
    return {
        "title": large.TITLE,
        "how": large.HOW,
        "shape": SHAPE,
        "seconds": 1200.0,
        "steps": large.rows(written(tmp_path)),
        "artifacts": [artifact],
    }


def test_the_model_is_of_the_shape_that_is_told():
    (model,) = load([large.CONFIG], large.CLONE).models.values()
    assert model.decoder.folder == "models/llama_3_2_1b"
    shapes = [SHAPE | changed for changed in ({}, *large_estimates.LARGER.values())]
    counts = [1_235_814_400, 3_212_749_824, 8_030_261_248]  # as the files of Meta's models have
    assert list(map(parameters, shapes)) == counts


def test_every_job_is_a_row_in_the_order_of_the_stages(tmp_path):
    with replacing(written(tmp_path) / "lower/net/x.tsv"):  # a step is about to write its file
        found = [(row["step"], row["recipe"]) for row in large.rows(tmp_path)]
    recipes = ("int4_group32", "lut4")
    each = [(step, recipe) for step in ("lower", "validate") for recipe in recipes]
    assert found == [("train", ""), ("export", ""), *each]


def test_what_is_not_as_it_is_to_be_is_told(measured):
    assert not list(large.problems(measured))
    measured["steps"][2]["peak_mb"] = 14 * 1024.0
    measured["artifacts"][0]["status"] = "fail"
    measured["seconds"] = 2400.0
    lower, minutes = "lower int4_group32       14.00 GiB    180 s; allowed: 14 GiB", "40 minutes"
    assert list(large.problems(measured)) == ["lut4: fail", lower, f"{minutes}; allowed: 40"]


def test_estimates_grow_without_what_the_libraries_take():
    base = NEEDS["lower, compressed"].base
    row = {"step": "lower", "peak_mb": base + 1000}
    assert large_estimates.estimated(row, 3) == base + 3000
    assert large_estimates.estimated({"step": "lower", "peak_mb": 100.0}, 3) == 100, "no weights"


def test_the_document_has_the_steps_the_estimates_and_the_jobs_of_a_cluster(measured):
    text = large_estimates.document(measured, MACHINE)
    times = 3_212_749_824 / 1_235_814_400
    more = large_estimates.estimated(measured["steps"][1], times) / 1024
    assert "1,235,814,400 parameters" in text
    assert f"| export |  | 0.8 | 6.8 | 5.9 | {more:.0f} |" in text
    assert "| lut4 | pass | 700 | 4.92 | 51.3 |" in text
    # A node needs the memory of the largest step of a group, for the time of all.
    assert "| build int4_group32 | lower, validate | 2.0 | 7.8 | 5, " in text


def test_the_picture_is_drawn(measured, tmp_path):
    large.picture(measured["steps"], tmp_path / "large.png")
    assert (tmp_path / "large.png").read_bytes().startswith(b"\x89PNG")


def test_steps_are_told_as_they_end_and_a_build_that_fails_is_an_error(tmp_path, monkeypatch):
    written(tmp_path / "benchmarks")
    config, told = tmp_path / "x.yaml", Console(file=io.StringIO())
    command = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1:] == ['fail'])"]
    monkeypatch.setattr(large, "_command", lambda *_: command)
    assert large.build(tmp_path, told, config) < 60
    lines = told.file.getvalue().splitlines()
    assert len(lines) == len(STEPS)
    assert lines[0] == "  train                     5.86 GiB    100 s"
    monkeypatch.setattr(large, "_command", lambda *_: [*command, "fail"])
    with pytest.raises(FoundryError, match=r"x\.yaml could not be built"):
        large.build(tmp_path, told, config)
    monkeypatch.setattr(large, "_DISK_GIB", 10**6)
    with pytest.raises(FoundryError, match="needed: 1000000 GiB"):
        large.build(tmp_path, told)
