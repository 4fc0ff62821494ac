"""Protects the search for spoiled integers and constants: in programs as coremltools makes them."""

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.mil import Program
from pte_foundry.models.tensors import Samples
from pte_foundry.pte import Pte
from pte_foundry.validate.gates import damage
from pte_foundry.validate.hazards import Hazards, constants_beyond_fp16
from pte_foundry.validate.report import execute
from torch import nn

from tests.unit.lowering.test_outside import OPTIONS, TARGET


def hazards(folder, function, values, dtype=types.int32):
    values = np.asarray(values, types.nptype_from_builtin(dtype))
    built = mb.program([mb.TensorSpec(values.shape, dtype)], opset_version=ct.target.iOS17)(
        function
    )
    model = ct.convert(
        built,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    model.save(str(folder / "a.mlpackage"))
    program, found = Program.load(folder / "a.mlpackage"), Hazards()
    (name,) = (value.name for value in program.functions["main"].inputs)
    found.observe({name: values})
    program.run({name: values}, tap=found.tap)
    return [(h["kind"], h["op"]) for h in found.findings(program)]


def as_float(x):
    return mb.mul(x=mb.cast(x=x, dtype="fp16"), y=np.float16(0.25))


def and_back(x):
    half = mb.floor(x=mb.mul(x=mb.cast(x=x, dtype="fp16"), y=np.float16(0.5)))
    return mb.cast(x=half, dtype="int32")


def tripled(x):
    return mb.cast(x=mb.mul(x=mb.cast(x=x, dtype="fp16"), y=np.float16(3)), dtype="int32")


def narrowed(dtype):
    return lambda x: mb.cast(x=mb.cast(x=x, dtype=dtype), dtype="int32")


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        (as_float, [2048, -2048, 0], []),
        (as_float, [2050, 4096], []),  # fp16 has these
        (as_float, [2049, 1], [("fp16_integer", "cast")]),
        (and_back, [3001], [("integer_rounded", "cast")]),
        (and_back, [-3001], [("integer_rounded", "cast")]),
        (and_back, [30], []),
        (tripled, [1001], [("fp16_integer", "mul")]),
        (narrowed("int16"), [32767, -32768], []),
        (narrowed("int16"), [32768], [("integer_wrap", "cast")]),
        (narrowed("int16"), [-40000, 1], [("integer_wrap", "cast")]),
        (narrowed("uint16"), [65535], []),
        (narrowed("uint16"), [-1], [("integer_wrap", "cast")]),
        (narrowed("int8"), [128], [("integer_wrap", "cast")]),
    ],
)
def test_integers(tmp_path, function, values, expected):
    assert hazards(tmp_path, function, values) == expected


def test_floats_are_no_integers(tmp_path):
    assert hazards(tmp_path, lambda x: mb.mul(x=x, y=np.float16(2)), [3001.0], types.fp16) == []


def test_an_overflow_that_no_softmax_reads_is_no_mask(tmp_path):
    """relu hides -inf, but a sum of the model is infinite; before a softmax it is a mask."""

    def added(reader):
        return lambda x: reader(x=mb.add(x=x, y=np.full(2, -30000.0, np.float16)))

    values = [-40000.0, 3.0]
    assert ("fp16_overflow", "add") in hazards(tmp_path, added(mb.relu), values, types.fp16)
    softmax = hazards(tmp_path, added(mb.softmax), values, types.fp16)
    assert softmax == []


LOWEST = torch.finfo(torch.float32).min


class Masked(nn.Module):
    """A padding mask as Hugging Face's models make it."""

    def __init__(self, lowest):
        super().__init__()
        self.lowest = lowest

    def forward(self, x, keep):
        mask = (1.0 - keep.float()) * self.lowest
        return torch.softmax(x + mask, -1)


class Filled(nn.Module):
    def __init__(self, lowest):
        super().__init__()
        self.lowest = lowest

    def forward(self, x, keep):
        return torch.softmax(x.masked_fill(keep == 0, self.lowest), -1)


def found_in(module, folder, precision="float16"):
    inputs = (torch.randn(1, 4), torch.tensor([[1, 1, 0, 1]]))
    program = torch.export.export(module.eval(), inputs)
    metadata = edge_program.save(edge_program.make(program, []), folder / "edge.pt2")
    options = OPTIONS | {"skip_ops_for_coreml_delegation": []}
    target = TARGET | {"compute_precision": precision, "partitioner": options}
    written = coreml.lower(edge_program.load(folder / "edge.pt2", metadata), target)
    handles, constants = metadata["debug_handles"], metadata["beyond_fp16"]
    return execute(Pte.load(written), Samples([inputs], [], None), handles, constants).hazards


NAMED = "-3.4028235e+38 became -inf in fp16; use -1e4 or a boolean mask"


def test_a_constant_that_becomes_infinite_is_named_with_the_fix(tmp_path):
    """0 * -inf is nan: the damage and its cause are at the same operation."""
    found = found_in(Masked(LOWEST), tmp_path)
    assert [h["kind"] for h in found] == ["nan", "constant_overflow"]
    assert {(h["op"], h["torch_source"], h["constant"]) for h in found} == {
        ("mul", "aten.mul.Tensor", NAMED)
    }
    assert damage(found) == 1


def test_a_constant_that_does_no_damage_is_a_warning(tmp_path):
    (hazard,) = found_in(Filled(LOWEST), tmp_path)
    assert (hazard["kind"], hazard["constant"]) == ("constant_overflow", NAMED)
    assert damage([hazard]) == 0


@pytest.mark.parametrize(
    ("module", "precision"),
    [
        (Masked(LOWEST), "float32"),
        (Masked(-1e4), "float16"),
        (Filled(-torch.inf), "float16"),  # the model's own infinity
    ],
)
def test_other_constants_are_none(tmp_path, module, precision):
    assert found_in(module, tmp_path, precision) == []


def test_constants_are_found_by_the_handles_of_their_operators():
    info = {"debugSymbolToHandles": {"y_to_fp16:const": [3], "sum:add": [3, 4], "z:mul": [5]}}
    found = constants_beyond_fp16(info, {"3": -1e38, "9": 7e4})
    assert (found["y_to_fp16"], found["sum"]) == (-1e38, -1e38)
    assert "z" not in found
    assert 7e4 in found.values()  # folded: no value has its handle
    assert constants_beyond_fp16({}, {}) == {}
