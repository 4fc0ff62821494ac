"""Protects what rules declare as memory: it follows the model's size, whatever file tells it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pte_foundry.bench import job_memory as bench
from pte_foundry.files import write_json
from pte_foundry.job.fork_server import OFF, VARIABLE
from pte_foundry.models import programs
from pte_foundry.slice_argument import encoded
from pte_foundry.workflow.build_options import keep_options
from pte_foundry.workflow.memory import MEBIBYTE, NEEDS, needed, weights_mb
from pte_foundry.workflow.stages import FLOOR
from safetensors.torch import save_file
from torch import nn

from tests.gguf_files import write_gguf
from tests.project import CONFIG, ROOT, Project
from tests.rules.test_names import rules
from tests.rules.test_rebuild import M
from tests.unit.lowering.test_lowering import TARGET


def test_every_rule_has_its_need():
    assert {name.partition(",")[0] for name in NEEDS} == rules().keys() <= NEEDS.keys()


@pytest.mark.parametrize("name", NEEDS)
def test_a_larger_model_never_needs_less(name):
    assert 0 < needed(name) <= needed(name, 10) <= needed(name, 1000)
    step = name.partition(",")[0]
    of_a_model = "{model}" in rules()[step].partition("output:")[2].partition("log:")[0]
    grows = needed(name, 1000) > needed(name)
    # These read no weights.
    assert grows == (of_a_model and step not in ("model", "plan", "fetch", "tokenizer"))


@pytest.mark.parametrize("step", ["edge", "lower"])
def test_compressed_programs_never_need_more(step):
    for size in (0, 10, 1000):
        assert needed(f"{step}, compressed", size) <= needed(step, size)


def test_safetensors_count_their_numbers_not_their_bytes(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(300, 1000).half(), "b": torch.zeros(7, dtype=torch.int8)}, file)
    assert weights_mb([file]) == 4 * 300_007 / MEBIBYTE


def test_a_snapshot_counts_what_it_describes_if_that_is_a_decoder(tmp_path):
    """Random weights are in no file before they are made."""
    file, shape = tmp_path / "folder.zip", ROOT / "config/models/llama_3_2_1b/config.json"
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(shape, "config.json")
    assert weights_mb([file]) == 4 * 1_235_814_400 / MEBIBYTE
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", '{"hidden_size": 8}')
    assert weights_mb([file]) < 0.001
    file.write_bytes(b"damaged")
    assert weights_mb([file]) == 7 / MEBIBYTE


def test_gguf_is_estimated_from_above(tmp_path):
    """Its header would take a second to read, and the exported program soon tells exactly."""
    tensors = {"blk.0": (np.ones((64, 128), np.float32), "Q4_1")}
    file = write_gguf(tmp_path / "a.gguf", "llama", tensors)
    assert weights_mb([file]) >= 4 * 64 * 128 / MEBIBYTE


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, (2).to_bytes(8, "little") + b"[]", b"\2" + bytes(7) + b"{}"],
)
def test_damaged_weights_count_their_bytes(content, tmp_path):
    """Their step says that they are damaged; planning must not fail for it."""
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    expected = 0 if content.endswith(b"{}") else len(content) / MEBIBYTE
    assert weights_mb([file]) == expected


def test_in_a_storage_only_the_size_tells(tmp_path):
    sizes = {"m.pt2": 40, "m.safetensors": 20, "m.gguf": 5}
    stored = {tmp_path / name: size * MEBIBYTE for name, size in sizes.items()}.get
    found = [weights_mb([tmp_path / "absent", tmp_path / name], stored) for name in sizes]
    assert found == [40, 40, 40], "16-bit, or four bits for a number"
    assert weights_mb([tmp_path / "absent"], stored) == 0


def test_the_first_file_that_exists_tells(tmp_path):
    program, weights = tmp_path / "a.pt2", tmp_path / "a.pth"
    assert weights_mb([program, weights]) == 0
    weights.write_bytes(bytes(MEBIBYTE))
    assert weights_mb([program, weights]) == 1
    program.write_bytes(bytes(3 * MEBIBYTE))
    assert weights_mb([program, weights]) == 3
    program.write_bytes(bytes(2 * MEBIBYTE))
    assert weights_mb([program, weights]) == 2  # not what it was when it was looked at first


@pytest.mark.parametrize(
    ("peaks", "within"),
    [
        ([700, 1300], True),
        ([700, 1400.1], False),  # more than declared
        ([699, 1300], False),  # declared is more than twice as much
    ],
)
def test_peaks_are_held_against_what_is_declared(peaks, within):
    found = bench.row("lower", "a", 100, [(peak, 1400) for peak in peaks], FLOOR)
    assert (found["declared_mb"], found["within"]) == (1400, within)
    assert found["peak_per_weights"] == max(peaks) / 100


def test_the_libraries_alone_may_need_less_than_half():
    asked = [(200, 2 * FLOOR)]
    assert bench.row("lower", "a", 0.1, asked, FLOOR)["within"]
    assert not bench.row("lower", "a", 0.1, asked, 0)["within"]
    assert bench.row("lower", "a", 0, asked, FLOOR).keys().isdisjoint({"peak_per_weights"})


def test_peaks_are_read_from_the_files_of_a_build(tmp_path):
    """By the name of the column; the folder's first two names are step and model."""
    project = Project(tmp_path, CONFIG)
    for name, peak in {
        f"export/{M}": 300,
        f"edge/{M}/_float/default": 320,
        f"lower/{M}/fp16/x": 400,
        f"lower/{M}/fp32/y": 450.5,
        f"lower/{M}/int8_per_axis/x": 350,
        f"evaluate/{M}/int8_per_axis": 250,
        f"pte/{M}/fp16/ios17": 150,
        f"pte/{M}/fp16/ios17_ne": 440,
        f"validation/{M}/fp16/ios17/host": 200,
    }.items():
        project.write(f"benchmarks/{name}.tsv", f"s\tmax_rss\tcpu_time\n1.5\t{peak}\t2.5\n")
    project.write(f"results/export/{M}.pt2", "x" * 2 * MEBIBYTE)
    key = bench.jobs_of(tmp_path).lowering_key("ios17")
    project.write(f"results/lower/{M}/fp16/{key}.pte", "x" * MEBIBYTE)
    rows = bench.stages(tmp_path / "results")
    seen = [(r["step"], r["jobs"], r["highest_peak_mb"], r["declared_mb"]) for r in rows]
    assert seen == [
        ("edge", 1, 320, needed("edge", 2)),
        ("evaluate", 1, 250, needed("evaluate", 2)),
        ("export", 1, 300, needed("export", 2)),
        ("lower", 2, 450.5, needed("lower", 2)),
        ("lower, compressed", 1, 350, needed("lower, compressed", 2)),
        ("pte", 1, 150, needed("pte", 1)),
        ("pte, rewritten", 1, 440, needed("pte, rewritten", 1)),
        ("validate", 1, 200, needed("validate", 2)),
    ]


def test_other_configurations_of_a_build_count(tmp_path):
    project = Project(tmp_path, CONFIG)
    project.write("more.yaml", "targets: {ios18_gpu: {minimum_os: iOS18}}\n")
    keep_options(tmp_path, tmp_path / "Snakefile", [Path("more.yaml")], {"divergence": True})
    assert "ios18_gpu" in bench.jobs_of(tmp_path).config.targets


def peak_of(step, folder, **options):
    """MiB that a step takes at most, as it measures it itself."""
    costs = folder / f"{step}.tsv"
    files = {"log": folder / f"{step}.log", "benchmark": costs}
    given = [f"--{name}={value}" for name, value in (options | files).items()]
    command = [sys.executable, "-P", "-m", f"pte_foundry.steps.{step}", *given]
    # Not straight from here: until a process starts another program, its peak is its parent's.
    done = subprocess.run(
        ["bash", "-c", '"$@"; exit $?', "bash", *command],
        env=os.environ | {VARIABLE: OFF},
        check=False,
    )
    assert done.returncode == 0, files["log"].read_text()
    return bench.peak(costs)


def peaks_of_lowering(network, inputs, folder):
    """The peaks of both steps, in fp32."""
    target = TARGET | {"compute_precision": "float32"}
    program, edge, metadata = folder / "a.pt2", folder / "edge.pt2", folder / "edge.json"
    programs.save(torch.export.export(network.eval(), inputs), program)
    skip = encoded({"skip_ops_for_coreml_delegation": []})
    first = peak_of("edge", folder, slice=skip, program=program, output=edge, metadata=metadata)
    made = {"output": folder / "a.pte", "debug-handles": folder / "a.json"}
    sliced, shapes = encoded(target | {"shapes": None}), encoded(None)
    write_json(structure := folder / "structure.json", {"constants": {}})
    inputs = {"slice": sliced, "shapes": shapes, "program": edge, "metadata": metadata}
    inputs["structure"] = structure
    return first, peak_of("lower", folder, **inputs, **made)


@pytest.mark.slow
def test_lowering_takes_less_than_six_times_the_weights(tmp_path):
    """Beyond the libraries; with what upstream leaves behind it was more than six times."""
    side, layers = 4096, 4
    network = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(layers)))
    weights = 4 * side * side * layers / MEBIBYTE
    large = peaks_of_lowering(network, (torch.zeros(1, side),), tmp_path)
    small = peaks_of_lowering(nn.Linear(8, 8), (torch.zeros(1, 8),), tmp_path)
    for step, most, least in zip(("edge", "lower"), large, small, strict=True):
        assert 0 < most - least < 6 * weights, (step, large, small)
        assert most < needed(step, weights)
