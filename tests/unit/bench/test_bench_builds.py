"""Protects the comparison with scripts by hand: that both make the same artifacts."""

import json
import sys

import pytest
import torch
from pte_foundry.bench import builds
from pte_foundry.bench.by_hand import Job, quantized


@pytest.fixture
def folder(tmp_path):
    return builds.Folder(tmp_path / "project")


def concerned(folder, edit):
    """The artifacts that differ after an edit."""
    old = builds._config(folder)
    folder.edit(*builds.EDITS[edit])
    new = builds._config(folder)
    return {
        builds._name(b) for b in new.builds if builds._made_of(new, b) != builds._made_of(old, b)
    }


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
def test_an_edit_concerns_what_it_says(folder, edit, names):
    assert concerned(folder, edit) == names


def test_an_edit_that_fits_no_more_is_refused(folder):
    with pytest.raises(ValueError, match="has 0 times 'no such text', not once"):
        folder.edit("no such text", "")


def test_every_artifact_has_a_script_with_all_that_it_needs(folder):
    config = builds._config(folder)
    jobs = [
        builds._job(config, b, folder.path, folder.path / "out" / builds._name(b))
        for b in config.builds
    ]
    assert len({job.output for job in jobs}) == len(config.builds) > 10
    sources = {str(folder.path / name) for name in builds._sources(config)}
    assert {path for job in jobs for path in (job.weights, *job.data.values())} == sources
    command = jobs[0].command()
    assert command[0] == sys.executable
    assert Job(**json.loads(command[-1])) == jobs[0]


class Model:
    """What ``quantized`` asks of a model."""

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
    config = builds._config(folder)
    schemes = {name: builds._scheme(config, name) for name in config.recipes}
    assert schemes["int4_group32"] == "affine"
    assert schemes["lut4"] == "codebook"
    assert schemes["int8_static"] == "pt2e"
    assert schemes["fp16"] == "none"
