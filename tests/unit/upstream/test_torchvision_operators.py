"""torchvision can be imported next to a CPU torch, in every Python of the environment."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pte_foundry.upstream import torchvision_operators
from pte_foundry.upstream.torchvision_operators import SCHEMAS, make_importable, nms

ROOT = Path(__file__).resolve().parents[3]
BOXES = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [1, 1, 11, 11], [20, 20, 30, 31]]
SCORES = [0.5, 0.9, 0.1, 0.7, 0.3]


def test_scripts_and_notebooks_of_the_environment_import_it():
    """They do not go through the loader of models: envs/startup.py is all that they run."""
    code = (
        "import sys, importlib.util\n"
        f"sys.path[:0] = [{str(ROOT / 'envs')!r}, {str(ROOT / 'scripts')!r}]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'Torchvision' not in str(f)]\n"
        "import startup\n"
        "assert importlib.util.find_spec('torchvision') and 'torch' not in sys.modules\n"
        "import torchvision, torch\n"
        f"boxes, scores = torch.tensor({BOXES}) * 1.0, torch.tensor({SCORES})\n"
        "print(torchvision.ops.nms(boxes, scores, 0.5).tolist())\n"
        "kinds = torch.tensor([0, 1, 0, 0, 0])\n"
        "print(torchvision.ops.batched_nms(boxes, scores, kinds, 0.5).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "[1, 4]\n[1, 3, 4]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only torchvision's wheel for Linux links CUDA")
def test_upstream_still_needs_it():
    """If this fails, torchvision loads by itself: remove the file."""
    make_importable()
    import torchvision

    assert not torchvision.extension._has_ops()
    assert torchvision_operators._library is not None
    from torchvision.ops import deform_conv2d

    with pytest.raises(RuntimeError, match=r"custom C\+\+ ops"):  # no kernel: loudly
        deform_conv2d(torch.ones(1, 1, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 1, 1))


def test_nms_keeps_what_no_better_box_overlaps():
    """By its definition, one pair at a time."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + torch.rand(60, 2, generator=generator) * 12], 1)
    boxes[7] = boxes[8]
    boxes[9, 2:] = boxes[9, :2]  # empty
    scores = torch.rand(60, generator=generator)

    def overlap(one, other):
        low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
        shared = (high - low).clamp(min=0).prod()
        areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
        return shared / (areas[0] + areas[1] - shared)

    kept = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[index], boxes[better]) <= 0.3 for better in kept):
            kept.append(index)
    assert 5 < len(kept) < 55
    assert nms(boxes, scores, 0.3).tolist() == kept
    assert nms(boxes[:0], scores[:0], 0.3).tolist() == []
    assert nms(boxes[:0], scores[:0], 0.3).dtype == torch.int64


def test_schemas_have_the_parameters_of_torchvisions_shape_rules():
    """The compiled library does not load here and its text is scattered over machine code, so the
    shape rules that torchvision registers for the same operators are the witness."""
    make_importable()
    from torchvision import _meta_registrations as rules

    for rule, name in ((rules.meta_nms, "nms"), (rules.meta_qnms, "qnms")):
        schema = getattr(torch.ops.torchvision, name).default._schema
        assert str(schema) in [f"torchvision::{each}" for each in SCHEMAS]
        assert [argument.name for argument in schema.arguments] == list(
            inspect.signature(rule).parameters
        )
        assert [str(argument.type) for argument in schema.arguments] == ["Tensor"] * 2 + ["float"]
        assert [str(result.type) for result in schema.returns] == ["Tensor"]
