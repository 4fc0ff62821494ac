"""Protects the memory that loading takes: each weight once, in the form that its operations read.

A mistake here would not change results. The figures are those of ``make bench``, too slow for a
test, so the rules behind them are tested.
"""

import weakref

import numpy as np
import pytest
import torch
from pte_foundry.formats import weight_blob
from pte_foundry.formats.mil_contents import weigh, weigh_decompressed
from pte_foundry.formats.mlpackage import read_package
from pte_foundry.mil import Program, constant_pool, constants
from pte_foundry.mil.ops import constexpr

from tests.mil.mil_cases import HALF
from tests.mil.test_mil_program import mb, save, spec

TABLE = np.arange(64, dtype=HALF).reshape(8, 8)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Two products with one fp16 weight, one with an int4 weight, and a gather of the first."""
    from coremltools.converters.mil.mil import types

    def function(x):
        weight = mb().const(val=TABLE, name="weight")
        data = np.full((8, 8), 3).astype(types.np_int4_dtype)
        packed = mb().constexpr_blockwise_shift_scale(data=data, scale=np.full((8, 2), 2, HALF))
        y = mb().linear(x=mb().linear(x=x, weight=weight), weight=weight)
        row = mb().gather(x=weight, indices=np.int32(1), axis=0)
        return mb().add(x=mb().linear(x=y, weight=packed), y=row, name="out")

    folder = tmp_path_factory.mktemp("memory") / "m.mlpackage"
    return save(folder, function, x=spec(1, 8, dtype="fp16"))


def test_a_weight_is_upcast_once_for_all_its_products_and_gathered_from_there(package):
    program = Program.load(package)
    constants = {
        i.operation.name: i.constants | {"op": i.operation.op}
        for i in program._blocks["main"].instructions
    }
    first, second, third = (c["weight"] for c in constants.values() if c["op"] == "linear")
    assert first is second
    assert (first.dtype, third.dtype) == (torch.float32, torch.float32)
    (gathered,) = (c["x"] for c in constants.values() if c["op"] == "gather")
    assert gathered is first
    x = np.full((1, 8), 0.01, HALF)
    wide = TABLE.astype(np.float32)
    y = (x.astype(np.float32) @ wide.T).astype(HALF).astype(np.float32)
    y = (y @ wide.T).astype(HALF).astype(np.float32)
    expected = (y @ np.full((8, 8), 6, np.float32)).astype(HALF) + TABLE[1]
    np.testing.assert_array_equal(program.run({"x": x})["out"], expected)


def test_weights_are_freed_once_they_are_decompressed_or_upcast(package, monkeypatch):
    read = []
    original = constants.as_tensor

    def spy(raw, declared):
        tensor = original(raw, declared)
        read.append((str(declared), weakref.ref(tensor)))
        return tensor

    monkeypatch.setattr(constants, "as_tensor", spy)
    monkeypatch.setattr(constant_pool, "as_tensor", spy)
    program = Program.load(package)
    alive = [name for name, reference in read if reference() is not None]
    assert any(name.startswith("int4") for name, _ in read)
    assert alive == []
    assert program.functions


def test_a_constant_is_read_once_and_forgotten_at_its_last_use():
    read = []

    def new():
        tensor = torch.zeros(3)
        read.append(weakref.ref(tensor))
        return tensor

    constant = constant_pool.LazyConstant("key", 3, new)
    assert read == []
    first = constant.take()
    assert constant.take() is first
    constant.skip()
    del first
    assert [reference() for reference in read] == [None]


def test_a_weight_that_is_only_gathered_from_stays_fp16(tmp_path):
    def function(x):
        indices = mb().cast(x=x, dtype="int32")
        return mb().gather(x=TABLE, indices=indices, axis=0, name="out")

    package = save(tmp_path / "m.mlpackage", function, x=spec(2, dtype="fp16"))
    program = Program.load(package)
    assert program.constants("out")["x"].dtype == torch.float16
    np.testing.assert_array_equal(program.run({"x": np.array([3, 1], HALF)})["out"], TABLE[[3, 1]])


def test_a_mapped_file_is_read_correctly_after_its_pages_were_released(package, monkeypatch):
    expected = Program.load(package).run({"x": np.ones((1, 8), HALF)})["out"]
    monkeypatch.setattr(weight_blob, "_KEEP_BYTES", 0)
    again = Program.load(package).run({"x": np.ones((1, 8), HALF)})["out"]
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("tables", [(1, 1), (3, 1), (1, 4), (3, 4), (6, 8)])
@pytest.mark.parametrize("vector", [1, 2])
def test_a_table_is_looked_up_piece_by_piece_as_element_by_element(monkeypatch, tables, vector):
    random = np.random.default_rng(0)
    indices = random.integers(0, 16, (6, 8)).astype(np.uint8)
    lut = random.standard_normal((*tables, 16, vector)).astype(HALF)
    expected = np.zeros((6, 8, vector), HALF)
    for row, column in np.ndindex(6, 8):
        table = lut[row * tables[0] // 6, column * tables[1] // 8]
        expected[row, column] = table[indices[row, column]]
    expected = expected.transpose(0, 2, 1).reshape(6 * vector, 8)  # vectors along the rows
    for size in (1, 4, 100):
        monkeypatch.setattr(constexpr, "_piece", lambda shape, size=size: size)
        dense = constexpr.constexpr_lut_to_dense(
            indices=torch.from_numpy(indices), lut=torch.from_numpy(lut), vector_axis=0
        )
        np.testing.assert_array_equal(dense.numpy(), expected)


@pytest.mark.parametrize("scales", [(1, 1), (3, 1), (1, 4), (3, 4), (6, 8)])
@pytest.mark.parametrize("offsets", [None, (1, 1), (2, 8)])
def test_a_weight_is_scaled_piece_by_piece_as_element_by_element(monkeypatch, scales, offsets):
    random = np.random.default_rng(0)
    data = random.integers(-128, 128, (6, 8)).astype(np.int8)
    scale = random.standard_normal(scales).astype(HALF)
    offset = None if offsets is None else random.integers(-128, 128, offsets).astype(np.int8)
    expected = np.zeros((6, 8), HALF)
    for row, column in np.ndindex(6, 8):
        factor = scale[row * scales[0] // 6, column * scales[1] // 8]
        shift = 0 if offset is None else offset[row * offsets[0] // 6, column * offsets[1] // 8]
        expected[row, column] = np.float32(int(data[row, column]) - int(shift)) * factor
    for size in (1, 4, 100):
        monkeypatch.setattr(constexpr, "_piece", lambda shape, size=size: size)
        dense = constexpr.constexpr_blockwise_shift_scale(
            data=torch.from_numpy(data),
            scale=torch.from_numpy(scale),
            offset=None if offset is None else torch.from_numpy(offset),
        )
        np.testing.assert_array_equal(dense.numpy(), expected)


def test_weights_are_weighed_as_stored_and_as_used(package):
    function = read_package(package)[0].mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    assert weigh(block)["int4"] == 64 / 2
    # Two matrices of 64 in fp16: the stored one and the decompressed one, but no scales.
    assert weigh_decompressed(block) == {"float16": 2 * 64 * 2}
