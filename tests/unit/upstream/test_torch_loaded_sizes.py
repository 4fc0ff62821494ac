"""Protects programs whose sizes are computed, as those of images are that strides divide."""

import io

import pytest
import torch
from pte_foundry.models import programs
from pte_foundry.upstream.torch_loaded_sizes import forget_computed
from torch.export import Dim


class Halves(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 2)


@pytest.fixture(scope="module")
def program():
    shapes = {"x": {2: 2 * Dim("height", min=2, max=8), 3: Dim("width", min=4, max=9) + 1}}
    return torch.export.export(Halves(), (torch.ones(1, 1, 8, 6),), dynamic_shapes=shapes)


def test_a_program_is_decomposed_after_it_was_read(program, tmp_path):
    programs.save(program, tmp_path / "a.pt2")
    changed = programs.load(tmp_path / "a.pt2").run_decompositions({})
    limits = {str(key): (r.lower, r.upper) for key, r in changed.range_constraints.items()}
    assert sorted(limits.values()) == [(2, 8), (4, 9), (4, 16), (5, 10)]
    for shape in ((1, 1, 4, 5), (1, 1, 16, 10)):
        x = torch.rand(shape)
        torch.testing.assert_close(changed.module()(x), Halves()(x))


def test_upstream_still_has_the_fault(program):
    """If this fails, upstream has fixed it: remove forget_computed."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    with pytest.raises(AssertionError, match=r"expected sympy\.Symbol"):
        loaded.run_decompositions({})
    assert forget_computed(loaded).run_decompositions({}).range_constraints
