"""Protects the memory of loading and running: measured in processes, on weights of known size.

The limits leave room for the memory of Python and torch, far less than one form of a weight.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.mil.mil_cases import HALF
from tests.mil.test_mil_program import mb, save, spec

WIDTH, ROWS, LAYERS = 1024, 8192, 4
LARGEST = ROWS * WIDTH
ELEMENTS = LARGEST + LAYERS * WIDTH**2
ROOM = 5 << 20

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak"
)

MEASURE = """
import json, sys
import numpy as np
from pte_foundry.bench import footprint
from pte_foundry.mil import Program

shape = json.loads(sys.argv[2])
x = np.full(shape, 0.5, np.float16)
(before, _) = footprint.start()
program = Program.load(sys.argv[1])
(loaded, load_peak) = footprint.memory()
for _ in range(4):  # the later ones follow a plan
    program.run({"x": x})
(_, run_peak) = footprint.memory()
figures = {"loaded": loaded, "load_peak": load_peak, "run_peak": run_peak}
print(json.dumps({name: figure - before for name, figure in figures.items()}))
"""


def measure(package, *shape):
    """Bytes beyond the libraries': after loading, and at most while loading and while running."""
    command = [sys.executable, "-c", MEASURE, str(package), json.dumps(shape)]
    # Whatever is large gets memory of its own and gives it back: this is about what we hold, not
    # about what the allocator keeps for later.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def random(*shape, high):
    return np.random.default_rng(0).integers(0, high, shape).astype(np.uint8)


def plain(rows):
    return random(rows, WIDTH, high=255).astype(HALF)


def affine(rows):
    return mb().constexpr_affine_dequantize(
        quantized_data=random(rows, WIDTH, high=255), zero_point=np.uint8(3), axis=0,
        scale=np.ones(rows, HALF))  # fmt: skip


def flat_table(rows):
    return mb().constexpr_lut_to_dense(
        indices=random(rows * WIDTH * 6 // 8, high=255), lut=np.arange(64, dtype=HALF),
        shape=np.array([rows, WIDTH], np.uint32))  # fmt: skip


def packed(rows, bits):
    from coremltools.converters.mil.mil import types

    return random(rows, WIDTH, high=2**bits).astype(getattr(types, f"np_uint{bits}_dtype"))


def groups(rows):
    return mb().constexpr_blockwise_shift_scale(
        data=packed(rows, 4), scale=np.ones((rows, WIDTH // 32), HALF))  # fmt: skip


def channels(rows):
    return mb().constexpr_blockwise_shift_scale(
        data=random(rows, WIDTH, high=255), scale=np.ones((rows, 1), HALF),
        offset=np.full((rows, 1), 7, np.uint8))  # fmt: skip


def table(rows):
    return mb().constexpr_lut_to_dense(
        indices=packed(rows, 6), lut=np.arange(64, dtype=HALF).reshape(1, 1, 64, 1))  # fmt: skip


def tables(rows):
    lut = np.zeros((rows // 16, 1, 16, 1), HALF)
    return mb().constexpr_lut_to_dense(indices=packed(rows, 4), lut=lut)


def network(weight, first):
    """Layers, and the largest weight at their end; with ``first``, its rows at their beginning."""

    def function(x):
        largest = weight(ROWS) if first else None
        if first:
            index = mb().cast(x=mb().reduce_sum(x=x, axes=[1]), dtype="int32")
            x = mb().gather(x=largest, indices=index, axis=0)
        for _ in range(LAYERS):
            x = mb().linear(x=x, weight=weight(WIDTH))
        return mb().linear(x=x, weight=largest if first else weight(ROWS), name="out")

    return function


@pytest.mark.parametrize(
    ("weight", "opset"),
    [
        (plain, "iOS16"),
        (affine, "iOS16"),
        (flat_table, "iOS16"),
        (groups, "iOS18"),
        (channels, "iOS18"),
        (table, "iOS18"),
        (tables, "iOS18"),
    ],
)
def test_weights_take_their_upcast_size_and_loading_one_declared_weight_more(
    tmp_path, weight, opset
):
    package = tmp_path / "m.mlpackage"
    save(package, network(weight, first=False), opset, x=spec(1, WIDTH, dtype="fp16"))
    figures = measure(package, 1, WIDTH)
    assert 4 * ELEMENTS < figures["loaded"] < 4 * ELEMENTS + ROOM
    assert figures["load_peak"] < 4 * ELEMENTS + 2 * LARGEST + ROOM
    assert figures["run_peak"] < 4 * ELEMENTS + ROOM


def test_a_table_that_is_gathered_from_and_multiplied_with_is_held_once(tmp_path):
    package = tmp_path / "m.mlpackage"
    save(package, network(table, first=True), x=spec(1, WIDTH, dtype="fp16"))
    figures = measure(package, 1, WIDTH)
    assert figures["loaded"] < 4 * ELEMENTS + ROOM
    assert figures["load_peak"] < 4 * ELEMENTS + 2 * LARGEST + ROOM


def test_weights_in_fp32_take_no_more_than_themselves(tmp_path):
    def function(x):
        y = mb().cast(x=x, dtype="fp32")
        return mb().linear(x=y, weight=plain(ROWS).astype(np.float32), name="out")

    package = save(tmp_path / "m.mlpackage", function, x=spec(1, WIDTH, dtype="fp16"))
    figures = measure(package, 1, WIDTH)
    assert figures["run_peak"] < 4 * LARGEST + ROOM


def test_a_value_is_freed_when_the_operation_that_reads_it_last_has_upcast_it(tmp_path):
    """In fp16, an operation that computes in fp32 needs both its sides once, in fp32."""

    def function(x):
        for _ in range(3):
            x = mb().tanh(x=mb().exp(x=x))
        return mb().reduce_max(x=x, axes=[0, 1], keep_dims=False, name="out")

    package = save(tmp_path / "m.mlpackage", function, x=spec(ROWS, WIDTH, dtype="fp16"))
    assert measure(package, ROWS, WIDTH)["run_peak"] < 8 * LARGEST + ROOM
