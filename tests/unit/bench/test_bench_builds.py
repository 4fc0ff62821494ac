"""Tests the comparison with upstream's scripts: that both build the same artifacts."""

import json
import sys

import pytest
import torch
from pte_foundry.bench import builds
from pte_foundry.bench.upstream_script import Job, quantized


@pytest.fixture
def folder(tmp_path):
    return builds.Folder(tmp_path / "project")


def affected(folder, edit):
    """The artifacts that differ after an edit."""
    old = folder.jobs()
    folder.edit(*builds.EDITS[edit])
    return {builds.name_of(build) for build in builds.affected(folder.jobs(), old)}


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        ("recipe", {"digits_cnn/int8_static/ios17", "mobilenet_v2/int8_static/ios17"}),
        (
            "target's system",
            {
                "digits_cnn/int8_static/ios17",
                "mobilenet_v2/int8_static/ios17",
                "digits_cnn/int8_weight_only/ios17",
                "digits_cnn/int8_mixed/ios17",
            },
        ),
        ("target's units", {"digits_cnn/fp16/ios18_ne"}),
    ],
)
def test_an_edit_affects_what_it_says(folder, edit, names):
    assert affected(folder, edit) == names


def test_an_edit_that_fits_no_more_is_refused(folder):
    with pytest.raises(ValueError, match="has 0 times 'no such text', not once"):
        folder.edit("no such text", "")


def test_every_artifact_has_a_script_with_all_that_it_needs(folder):
    jobs = folder.jobs()
    config = jobs.config
    scripts = [
        builds.script(jobs, b, folder.path, folder.path / "out" / builds.name_of(b))
        for b in config.builds
    ]
    assert len({script.output for script in scripts}) == len(config.builds) > 10
    sources = {str(folder.path / name) for name in builds.sources(config)}
    assert {path for one in scripts for path in (one.weights, *one.data.values())} == sources
    command = scripts[0].command()
    assert command[0] == sys.executable
    assert Job(**json.loads(command[-1])) == scripts[0]


class Model:
    """What ``quantized`` needs of a model."""

    def build(self):
        return torch.nn.Sequential(torch.nn.Linear(32, 4), torch.nn.ReLU()).eval()

    def example_inputs(self):
        return (torch.ones(1, 32),)

    def dynamic_shapes(self):
        return None


@pytest.mark.parametrize(
    "step",
    [
        {"scheme": "affine", "weight_dtype": "int4", "granularity": {"group_size": 16}},
        {"scheme": "affine", "weight_dtype": "int8", "granularity": {"axis": 0}},
        {"scheme": "codebook", "dtype": "uint2", "block_size": [-1, -1]},
    ],
)
def test_a_script_quantizes(step):
    recipe = {"scheme": "quantize", "steps": [step | {"types": ["torch.nn.Linear"]}]}
    program = quantized(Model(), recipe)
    plain = quantized(Model(), {"scheme": "none"})
    operators = [{str(n.target) for n in p.graph.nodes} for p in (program, plain)]
    assert {name for name in operators[0] - operators[1] if "dequantize" in name}


def test_what_upstream_gives_twice_is_told(folder):
    config = folder.jobs().config
    schemes = {name: builds.scheme_of(config, name) for name in config.recipes}
    assert schemes["int4_group32"] == "affine"
    assert schemes["lut4"] == "codebook"
    assert schemes["int8_static"] == "pt2e"
    assert schemes["fp16"] == "none"
