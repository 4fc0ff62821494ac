"""Tests the benchmark's arithmetic and record: alternation, medians, ratios, JSON, picture.

Workloads are fakes that advance a fake clock, so that every figure is known in advance.
"""

import io
import json
import os
import sys

import numpy as np
import pytest
import torch
from pte_foundry.bench import __main__ as bench
from pte_foundry.bench import (
    builds,
    built,
    footprint,
    generation,
    interpreter,
    job_memory,
    jobs,
    matrix,
    palettization,
    planning,
    preparation,
    record,
    show,
)
from pte_foundry.bench.measure import Comparison, Side, side_by_side
from pte_foundry.bench.palettization_process import Palettizer
from pte_foundry.models.decoder.generate import Interface, Session, generate
from pte_foundry.models.decoder.load import load_decoder
from rich.console import Console

from tests.unit.models.test_decoder_families import theirs, write_converted

MACHINE = {"processor": "a processor", "cores": 2, "torch_threads": 1, "load_average": 0.25}


class Clock:
    """A clock that stands still but while a workload runs."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def workload(self, name, *durations):
        remaining = iter(durations)

        def work():
            self.calls.append(name)
            self.now += next(remaining)
            return f"{name} {len(self.calls)}"

        return work


def comparison(ours=(1.0,), baseline=(2.0,), **figures):
    sides = {
        name: {figure: pair[i] for figure, pair in figures.items() if pair[i] is not None}
        for i, name in enumerate(("ours", "baseline"))
    }
    return Comparison(
        "case",
        Side("ours", list(ours), sides["ours"]),
        Side("theirs", list(baseline), sides["baseline"]),
    )


def example():
    rows = [
        comparison((0.1,), (3.0,), squared_error=(0.98, 1.0)),
        comparison((2.0,), (1.0,), squared_error=(1.0, 0.9)),
    ]
    benchmarks = [
        record.benchmark("Palettization", "how it is measured", rows),
        record.benchmark("Interpreter", "how", [], "not measured, run make first"),
    ]
    return record.record(benchmarks, MACHINE, {"torch": "2.13.0"})


def test_sides_alternate_and_neither_is_always_first():
    clock = Clock()
    ours, baseline = clock.workload("a", 1, 2, 3), clock.workload("b", 4, 5, 6)
    fast, slow, last_ours, last_baseline = side_by_side(ours, baseline, 3, clock=clock)
    assert clock.calls == ["a", "b", "b", "a", "a", "b"]
    assert (fast, slow) == ([1, 2, 3], [4, 5, 6])
    assert (last_ours, last_baseline) == ("a 5", "b 6")


def test_warm_ups_do_not_count():
    clock = Clock()
    ours, baseline = clock.workload("a", 100, 1), clock.workload("b", 200, 2)
    fast, slow, _, _ = side_by_side(ours, baseline, 1, warm_ups=1, clock=clock)
    assert (fast, slow) == ([1], [2])


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, 1), (10.9, 1), (11.1, 2), (100.0, 3)])
def test_no_round_starts_after_the_budget(budget, rounds):
    clock = Clock()
    ours, baseline = clock.workload("a", 1, 1, 1), clock.workload("b", 10, 10, 10)
    fast, slow, _, _ = side_by_side(ours, baseline, 3, budget_s=budget, clock=clock)
    assert len(fast) == len(slow) == rounds


def test_ratios_are_of_medians_and_above_one_where_ours_is_better():
    measured = comparison((1.0, 100.0, 3.0), (4.0, 6.0, 9.0), squared_error=(0.5, 1.0))
    assert measured.ratios == {"time": 2.0, "squared_error": 2.0}


def test_a_figure_without_a_counterpart_or_of_zero_has_no_ratio():
    measured = comparison(squared_error=(0.0, 1.0), load=(1.0, None))
    assert measured.ratios == {"time": 2.0}


def test_the_record_keeps_raw_figures_and_says_how_they_were_measured():
    measured = json.loads(json.dumps(example(), allow_nan=False))
    assert set(measured) == {"format", "measured_at", "machine", "versions", "benchmarks"}
    first, second = measured["benchmarks"]
    assert set(first) == {"title", "how", "comparisons", "skipped"}
    assert first["comparisons"][0] == {
        "case": "case",
        "ours": {"what": "ours", "seconds": [0.1], "median_s": 0.1, "squared_error": 0.98},
        "baseline": {"what": "theirs", "seconds": [3.0], "median_s": 3.0, "squared_error": 1.0},
        "ratios": {"time": pytest.approx(30), "squared_error": pytest.approx(1 / 0.98)},
    }
    assert first["skipped"] is None
    assert (second["comparisons"], second["skipped"]) == ([], "not measured, run make first")


def test_the_machine_and_the_versions_are_told():
    assert record.machine().keys() >= MACHINE.keys()
    assert record.machine()["cores"] >= 1
    assert record.machine()["processor"]
    assert set(record.LIBRARIES) < set(record.versions())


def test_facts_are_recorded():
    measured = comparison()
    measured.facts["load_s"] = 0.5
    assert measured.record()["facts"] == {"load_s": 0.5}


def test_the_table_shows_ratios_and_what_was_skipped():
    console = Console(record=True, width=100, file=io.StringIO())
    show.table(example(), console)
    text = console.export_text()
    assert "30×" in text
    assert "0.5×" in text
    assert "1.020×" in text
    assert "run make first" in text
    assert "a processor, cores: 2" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.2134, "0.213×"), (1.0031, "1.003×"), (38.64, "38.6×"), (1234.5, "1234×")],
)
def test_ratios_show_digits_where_they_matter(value, shown):
    assert show.ratio(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(108.2, "108 s"), (1.0, "1 s"), (0.0213, "21.3 ms"), (4e-6, "4 µs")]
)
def test_durations_choose_their_unit(value, shown):
    assert show.seconds(value) == shown


def test_the_picture_is_drawn(tmp_path):
    show.picture(example(), tmp_path / "bench.png")
    drawn = (tmp_path / "bench.png").read_bytes()
    assert drawn.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(drawn) > 5000
    assert [path.name for path in tmp_path.iterdir()] == ["bench.png"]


def make(results, *paths):
    for path in paths:
        made = results / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()


def test_one_artifact_of_each_recipe_is_measured_and_models_without_any_are_named(tmp_path):
    assert interpreter.missing(tmp_path) == ["mobilenet_v2", "minilm", "smollm2"]
    make(
        tmp_path,
        "pte/minilm/fp16/ios16.pte",
        "pte/minilm/fp16/ios18.pte",
        "pte/minilm/fp32/ios18_fp32.pte",
        "pte/minilm/lut4/elsewhere.txt",
        "pte/smollm2/fp16/ios18.pte",
        "reference/minilm.safetensors",
    )
    chosen = built.artifacts(tmp_path, "minilm")
    assert {recipe: path.name for recipe, path in chosen.items()} == {
        "fp16": "ios18.pte",
        "fp32": "ios18_fp32.pte",
    }
    # Without the samples of its reference there is nothing to run SmolLM2 on.
    assert interpreter.missing(tmp_path) == ["mobilenet_v2", "smollm2"]


def test_what_is_not_built_is_skipped_and_told(tmp_path, monkeypatch):
    for module in (preparation, palettization, builds, jobs):
        monkeypatch.setattr(module, "comparisons", lambda: iter(()))
    monkeypatch.setattr(planning, "RUNS", {})
    measured = bench.measure(tmp_path, Console(file=io.StringIO()))
    entries = {entry["title"]: entry for entry in measured["benchmarks"]}
    assert [entry["comparisons"] for entry in entries.values()] == [[]] * 8
    assert "not measured: mobilenet_v2, minilm, smollm2" in entries["Interpreter"]["skipped"]
    assert "no decoder is built" in entries["Generation"]["skipped"]
    assert "make is not measured" in entries["Planning"]["skipped"]
    assert entries[job_memory.TITLE]["stages"] == []
    assert "nothing is built" in entries[job_memory.TITLE]["skipped"]


@pytest.mark.parametrize("solver", ["exact", pytest.param("upstream", marks=pytest.mark.slow)])
def test_a_side_palettizes_in_its_own_process(tmp_path, solver):
    """Two values in each row: with a table a row there is no error, with one for all there is."""
    weight = np.where(np.arange(64) % 2, 1.0, 0.25) * np.arange(1, 33)[:, None]
    np.save(tmp_path / "weight.npy", weight.astype(np.float32))
    with Palettizer(solver, os.environ) as side:
        side.open(tmp_path / "weight.npy", 1, [1, -1])
        side.solve()
        assert side.result()["squared_error"] < 1e-10
        side.open(tmp_path / "weight.npy", 1, [-1, -1])
        side.solve()
        side.solve()
        result = side.result()
        process = side._process
    assert process.returncode == 0
    low = weight < 14  # any threshold: the best of two centres
    spread = sum(float(((part - part.mean()) ** 2).sum()) for part in (weight[low], weight[~low]))
    assert 0.5 * spread / weight.size < result["squared_error"] <= 1.1 * spread / weight.size
    assert result.get("peak_ratio", 0) >= 0


def test_a_side_that_ends_says_so(tmp_path):
    with Palettizer("exact", os.environ) as side, pytest.raises(RuntimeError, match="ended with 1"):
        side.open(tmp_path / "absent.npy", 4, [-1, -1])


def test_weights_that_are_palettized_have_the_shapes_that_are_told():
    for name, weight, _, block_size in palettization.WEIGHTS:
        rows, columns = weight().shape
        assert name.endswith(f"{rows}×{columns}")
        assert block_size[0] == -1 or rows % block_size[0] == 0


@pytest.mark.slow
def test_a_built_model_is_measured_in_a_process_of_its_own(built):
    results = built.folder / "results"
    path = next((results / "pte" / "digits_cnn").rglob("*.pte"))
    facts = footprint.of(path, results / "reference" / "digits_cnn.safetensors")
    assert facts["load_s"] > 0
    assert facts["first_run_s"] > 0
    # The network's weights in fp16, give or take what is stored in eight bits.
    assert 50_000 < facts["weights_bytes"] < 400_000
    assert facts["peak_bytes"] > facts["weights_bytes"]


def test_the_table_shows_load_time_and_memory():
    measured = comparison()
    measured.facts |= {"load_s": 0.25, "peak_ratio": 2.345}
    entry = record.benchmark("Interpreter", "how", [measured])
    console = Console(record=True, width=100, file=io.StringIO())
    show.table(record.record([entry], MACHINE, {}), console)
    row = next(line for line in console.export_text().splitlines() if line.startswith("  case"))
    assert row.split()[-3:] == ["250", "ms", "2.35×"]


def test_what_eager_takes_to_run_is_left_out_of_the_net_peak():
    facts = interpreter.ratios({"weights_bytes": 100, "peak_bytes": 700, "eager_run_bytes": 500})
    assert (facts["peak_ratio"], facts["net_peak_ratio"]) == (7.0, 2.0)
    measured = comparison()
    measured.facts |= facts
    console = Console(record=True, width=100, file=io.StringIO())
    show.table(record.record([record.benchmark("", "", [measured])], MACHINE, {}), console)
    row = next(line for line in console.export_text().splitlines() if line.startswith("  case"))
    assert row.split()[-2:] == ["7×", "2×"]


def test_a_system_that_does_not_tell_memory_has_no_ratios():
    assert interpreter.ratios({"weights_bytes": 100, "load_s": 1.0}) == {
        "weights_bytes": 100,
        "load_s": 1.0,
    }


def test_the_table_shows_peaks_by_step_and_model_the_smallest_first():
    stages = [
        job_memory.row("lower", "large", 600, [(1500, 3000), (2900.4, 3100)], 500),
        job_memory.row("lower", "small", 1, [(400, 700)], 500),
        job_memory.row("export", "large", 600, [(2116, 2000)], 500),
    ]
    entry = record.benchmark(job_memory.TITLE, job_memory.HOW, []) | {"stages": stages}
    console = Console(record=True, width=100, file=io.StringIO())
    show.table(record.record([entry], MACHINE, {}), console)
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["Memory,", "MiB", "small", "large"] in lines
    assert ["lower", "400", "/", "700", "1500–2900", "/", "3100"] in lines
    assert ["export", "2116", "/", "2000"] in lines


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"same_annotations": True, "same_program": True}, ["same"]),
        ({"same_annotations": True, "same_program": False}, ["DIFFERENT"]),
        ({"limit": 2}, []),
        ({"identical": 3, "reproducible_but_different": []}, ["3", "identical"]),
        ({"identical": 3, "reproducible_but_different": ["a/b/c"]}, ["DIFFERENT"]),
    ],
)
def test_the_table_shows_whether_both_have_the_same_result(facts, shown):
    measured = comparison()
    measured.facts |= facts
    entry = record.benchmark("PT2E preparation", "how", [measured])
    console = Console(record=True, width=100, file=io.StringIO())
    show.table(record.record([entry], MACHINE, {}), console)
    row = next(line for line in console.export_text().splitlines() if line.startswith("  case"))
    assert row.partition("2×")[2].split() == shown


def test_both_sides_of_generation_write_the_same_tokens(tmp_path, monkeypatch):
    """transformers' model of a GGUF file, and the library's decoder instead of an artifact."""
    model = theirs("smollm2")
    write_converted(tmp_path / "m.gguf", model, "llama", {})
    monkeypatch.setattr(generation, "PROMPT", [5, 3, 9])
    monkeypatch.setattr(generation, "_TOKENS", 6)
    decoder = load_decoder(tmp_path / "m.gguf", "inputs", 24)
    shape = (len(decoder.attentions), decoder.config.kv_heads, 24, decoder.config.head_dim)
    session = Session(
        lambda _, *given: decoder(*given).values(),
        Interface("inputs", 24, {"decode": [1]}, shape),
    )
    written = generate(session, generation.PROMPT, 20)
    sides = [[next(written)], []]
    ours, eager = (lambda: next(written)), generation.transformers_writer(tmp_path / "m.gguf")

    def kept(side, write):
        return lambda: sides[side].append(write())

    with torch.no_grad():
        measured = generation.compare("llama", kept(0, ours), kept(1, eager))
    assert sides[0][1:] == sides[1]
    assert len(measured.ours.seconds) == len(measured.baseline.seconds) == 6
    assert measured.facts["cpu_ratio"] > 0


def test_an_artifact_that_is_no_decoder_with_a_cache_is_not_measured(tmp_path):
    make(tmp_path, "pte/minilm/fp16/ios18.pte")
    assert list(generation.comparisons(tmp_path)) == []


def test_every_benchmark_says_how_it_is_measured():
    for module in (builds, jobs, preparation, palettization, interpreter, generation, planning):
        assert module.TITLE
        assert module.HOW.startswith("Seconds")


def test_a_job_is_measured_in_a_fork_and_in_a_process_of_its_own(monkeypatch):
    """Otherwise the benchmark itself fails. Without fork servers nothing is measured."""
    monkeypatch.setattr(jobs, "ROUNDS", 1)
    monkeypatch.setattr(jobs, "KINDS", ("executing",))
    measured = list(jobs.comparisons())
    assert [one.case for one in measured] == (["executing"] if sys.platform == "linux" else [])
    for one in measured:
        assert len(one.ours.seconds) == len(one.baseline.seconds) == 1
        assert one.facts["once_a_build_s"] > 0


def planned(seconds_of_builds):
    rows = [
        Comparison("case", Side("--dry-run", [seconds]), None, {"builds": builds, "cpu_s": seconds})
        for builds, seconds in seconds_of_builds.items()
    ]
    make = Comparison("default build", Side("make", [2.0]), None)
    return record.benchmark("Planning", "how", [*rows, make])


def test_what_has_no_baseline_has_no_ratios_and_is_shown():
    entry = planned({100: 1.5})
    assert entry["comparisons"][0]["baseline"] is None
    assert entry["comparisons"][0]["ratios"] == {}
    console = Console(record=True, width=100, file=io.StringIO())
    show.table(record.record([entry], MACHINE, {}), console)
    row = next(line for line in console.export_text().splitlines() if line.startswith("  case"))
    assert row.split()[1:] == ["1.5", "s"]


def test_linear_growth_is_told_from_the_two_smallest_sizes():
    rows = planned({100: 3.0, 1_000: 12.0, 10_000: 500.0})["comparisons"]
    assert planning.predicted(rows, 10_000) == pytest.approx(102.0)


def test_the_picture_of_planning_is_drawn(tmp_path):
    planning.picture(planned({100: 3.0, 1_000: 12.0, 10_000: 102.0}), tmp_path / "planning.png")
    assert (tmp_path / "planning.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.slow
def test_the_real_snakemake_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "RUNS", {100: 1})
    (row,) = planning.comparisons(tmp_path / "results", idle=False)
    assert row.facts["builds"] == 100
    models, recipes, _ = matrix.SHAPES[100]
    # Of each build an artifact and its validation; of each model four steps before any recipe.
    assert row.facts["jobs"] > 2 * 100 + models * (recipes + 4)
    assert row.facts["cpu_s"] > 0
    assert row.facts["peak_bytes"] > 20e6


@pytest.mark.slow
def test_make_is_measured_only_where_it_has_nothing_to_do(built):
    """Elsewhere it would build; and the copy that it runs in leaves nothing."""
    before = sorted(built.folder.iterdir())
    assert planning.unmeasured(built.folder / "results") is None
    assert sorted(built.folder.iterdir()) == before
    assert "make is not measured" in planning.unmeasured(built.folder / "nothing")
