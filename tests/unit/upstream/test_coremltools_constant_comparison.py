"""Protects lowering from running out of memory where large constants are equal."""

import tracemalloc

import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Program, types
from pte_foundry.upstream import coremltools_constant_comparison as repair

SIZE = 1 << 22
CLASS = repair.module.const_deduplication


def program(*values):
    made = Program()
    with Function({"x": mb.placeholder(shape=(1,), dtype=types.fp32)}) as function:
        constants = [mb.const(val=value, name=f"c{at}") for at, value in enumerate(values)]
        function.set_outputs([*constants, *function.inputs.values()])
        made.add_function("main", function)
    return function


def found(function):
    """Names of equal constants, and the peak of memory in bytes."""
    tracemalloc.start()
    try:
        groups = CLASS.find_constants([function])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return {first.name: [other.name for other in rest] for first, rest in groups.items()}, peak


@pytest.fixture(scope="module")
def equal():
    values = np.arange(SIZE).astype(np.int8)
    return program(values, values.copy())


def test_upstream_takes_many_times_the_constant(equal):
    """If this fails, the repair can go."""
    assert found(equal)[1] > 16 * SIZE


def test_a_comparison_takes_a_part_of_the_constant(equal):
    expected, _ = found(equal)
    with repair.compared_in_pieces():
        groups, peak = found(equal)
    assert groups == expected == {"c0": ["c1"]}
    assert peak < 16 * SIZE / 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.bool_])
def test_what_is_equal_is_the_same_as_upstreams(dtype, monkeypatch):
    """Also where they differ in one value, by less than the tolerance, or by one that is nan."""
    monkeypatch.setattr(repair, "_PIECE", 64)
    base = (np.arange(301) % 2).astype(dtype)
    values = [base, base.copy(), base.copy(), base.copy(), base.reshape(7, 43)]
    values[2][300] += 1
    if dtype in (np.float16, np.float32):
        values[3][200] = np.nan
        values.append(base + np.asarray(5e-8 if dtype == np.float16 else 1e-13, dtype))
    function = program(*values)
    expected, _ = found(function)
    with repair.compared_in_pieces():
        assert found(function)[0] == expected
    assert expected["c0"][0] == "c1"
    assert expected["c2"] == expected["c4"] == []
