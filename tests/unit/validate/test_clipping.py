"""Protects that values beyond the range they are quantized in are told, with what to do."""

import numpy as np
import pytest
from pte_foundry.mil import Program
from pte_foundry.report.text import failure
from pte_foundry.validate.gates import damage, warnings
from pte_foundry.validate.hazards import Hazards

from tests.mil.test_mil_program import mb, save, spec


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """relu(x) in steps of 0.01 from 0 to 2.55, as a static recipe gives it."""

    def function(x):
        hidden = mb().relu(x=x, name="hidden")
        levels = mb().quantize(
            input=hidden, scale=np.float32(0.01), zero_point=np.uint8(0), output_dtype="uint8"
        )
        return mb().dequantize(
            input=levels, scale=np.float32(0.01), zero_point=np.uint8(0), name="out"
        )

    path = tmp_path_factory.mktemp("packages") / "static.mlpackage"
    return Program.load(save(path, function, "iOS17", x=spec(1, 4)))


def found(program, *runs):
    hazards = Hazards(lambda: program)
    for values in runs:
        inputs = {"x": np.array([values], dtype=np.float32)}
        hazards.observe(inputs)
        program.run(inputs, tap=hazards.tap)
    return hazards.findings(program, {"hidden": "aten.relu.default @ layer"})


def test_what_is_cut_off_is_named_with_both_ranges(program):
    (hazard,) = found(program, [1, 2, 3, 5], [0, 0, 4, 1], [1, 1, 1, 1])
    assert (hazard["kind"], hazard["count"]) == ("clipped", 2), "the third is in the range"
    assert hazard["torch_source"] == "aten.relu.default @ layer"
    assert hazard["cause"].startswith("values of 0 … 5 in a range of 0 … 2.55; calibrate with")
    assert (damage([hazard]), warnings([hazard])) == (0, 2)


def test_a_rounded_bound_and_rare_outliers_are_no_clipping(program):
    """Observers leave outliers out on purpose; 2.554 is rounded to 2.55 like any other value."""
    assert found(program, [0, 0, 0, 2.554], [2.5, 2.5, 2.5, 2.65]) == []


def test_a_missed_gate_on_noise_names_it(program):
    hazards = found(program, [1, 2, 3, 5])
    gate = {"metric": "sqnr_db", "value": 11.15, "limit": ">= 12"}
    told = failure(gate, hazards)
    assert told.startswith("sqnr_db 11.15, required >= 12 (clipped at aten.relu.default @ layer: v")
    assert "clipped" not in failure(gate | {"metric": "bytes"}, hazards)
