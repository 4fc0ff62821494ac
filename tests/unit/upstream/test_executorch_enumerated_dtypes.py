"""Protects enumerated shapes of tokens, which ExecuTorch's runners give as int64."""

import pytest
import torch
from coremltools.converters.mil.mil import types
from executorch.backends.apple.coreml.compiler import enumerated_shape_utils
from pte_foundry.errors import ProgramError
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.pte import Pte
from pte_foundry.upstream.executorch_enumerated_dtypes import enumerated_int64
from torch import nn
from torch.export import Dim

from tests.unit.lowering.test_lowering import TARGET

SHAPES = {"tokens": [[1, 1], [1, 4]]}


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 2)

    def forward(self, tokens):
        return self.table(tokens)


@pytest.fixture(scope="module")
def program():
    length = {1: Dim("length", min=1, max=8)}
    tokens = torch.ones(1, 4, dtype=torch.int64)
    return torch.export.export(Table().eval(), (tokens,), dynamic_shapes=(length,))


def inputs(program):
    by_shape = enumerated_shape_utils._SymbolicShapeToEnumeratedShapeMap
    shapes = by_shape.from_exported_program(program, SHAPES)
    return enumerated_shape_utils._get_ct_inputs(program, shapes)


def test_upstream_still_refuses(program):
    """If this fails, upstream has fixed it: remove enumerated_int64."""
    with pytest.raises(AssertionError, match="dtyeps"):
        inputs(program)
    with enumerated_int64():
        (given,) = inputs(program)
    assert given.dtype is types.int32


def test_the_artifact_takes_int64_in_the_shapes(program):
    edges = edge_program.make(program, [])
    pte = Pte.load(lower(edges, TARGET | {"enumerated_shapes": SHAPES}))
    table = program.state_dict["table.weight"]
    for count in (1, 4):
        tokens = torch.arange(count)[None]
        (found,) = pte.run((tokens,))
        torch.testing.assert_close(found, table[tokens], rtol=1e-3, atol=1e-3)
    with pytest.raises(ProgramError, match=r"int32\[1, 2\], expected"):
        pte.run((torch.zeros(1, 2, dtype=torch.int64),))
