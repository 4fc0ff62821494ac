"""Protects archives of several programs: equal weights once, on disk and in memory."""

import io
import zipfile

import pytest
import torch
from pte_foundry.upstream import torch_shared_weights
from torch import nn
from torch.export.pt2_archive._package import load_pt2, package_pt2


class Net(nn.Module):
    def __init__(self, inner, extra):
        super().__init__()
        self.inner, self.extra = inner, nn.Parameter(torch.full((3,), extra))

    def forward(self, x):
        return self.inner(x) + self.extra


@pytest.fixture(scope="module")
def programs():
    torch.manual_seed(0)
    inner = nn.Linear(3, 3)
    return {
        name: torch.export.export(Net(inner, extra), (torch.ones(size, 3),))
        for name, size, extra in (("a", 1, 1.0), ("b", 2, 2.0), ("c", 3, 1.0))
    }


def records(archive):
    with zipfile.ZipFile(archive) as opened:
        return [name for name in opened.namelist() if "/weights/weight_" in name]


def test_torch_writes_every_weight_for_every_program(programs, tmp_path):
    """If this fails: does ``package_pt2`` share weights now? Then this file can go."""
    package_pt2(str(tmp_path / "a.pt2"), exported_programs=programs)
    assert len(records(tmp_path / "a.pt2")) == 9
    loaded = load_pt2(str(tmp_path / "a.pt2")).exported_programs
    assert len({p.state_dict["inner.weight"].data_ptr() for p in loaded.values()}) == 3


def test_equal_weights_are_written_and_read_once(programs, tmp_path):
    """The third program has what the first has, after one of the second's own."""
    with (tmp_path / "a.pt2").open("wb") as file:
        torch_shared_weights.save(programs, file)
    assert len(records(tmp_path / "a.pt2")) == 4
    loaded = torch_shared_weights.load(tmp_path / "a.pt2")
    assert list(loaded) == ["a", "b", "c"]
    weights = [program.state_dict for program in loaded.values()]
    assert len({one["inner.weight"].data_ptr() for one in weights}) == 1
    assert weights[0]["extra"].data_ptr() == weights[2]["extra"].data_ptr()
    for name, program in loaded.items():
        x = programs[name].example_inputs[0][0]
        torch.testing.assert_close(program.module()(x), programs[name].module()(x))
    buffer = io.BytesIO()
    torch_shared_weights.save(programs, buffer)
    assert buffer.getvalue() == (tmp_path / "a.pt2").read_bytes()
