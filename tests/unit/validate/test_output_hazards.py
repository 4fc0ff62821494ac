"""Protects that a lost output is damage, and that a rounded one is not."""

import pytest
import torch
from pte_foundry.report.text import hazard_text
from pte_foundry.validate.gates import damage
from pte_foundry.validate.output_hazards import FP16_STEP, FP32_STEP, output_hazards

ZEROS, CONSTANT = "output is all zeros", "output is constant"


def kinds(outputs, reference, step=FP16_STEP):
    samples = [[(torch.as_tensor(value),) for value in side] for side in (outputs, reference)]
    return [hazard["kind"] for hazard in output_hazards(["y"], *samples, step)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_output_is_named_and_counts_as_damage():
    """What coremltools 9.0 makes of ``x % 1`` (coremltools#2836)."""
    reference = [(noise(1, 4, seed=i), noise(1, 3, seed=i)) for i in range(5)]
    outputs = [(boxes, torch.zeros(1, 3)) for boxes, _ in reference]
    found = output_hazards(["boxes", "scores"], outputs, reference)
    assert found == [
        {"op": "output", "torch_source": None, "kind": ZEROS, "count": 5, "output": "scores"}
    ]
    assert damage(found) == 5


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e-26, 1e-40])
def test_underflow_is_a_loss_however_small_the_reference_is(scale):
    assert kinds([torch.zeros(8)] * 2, [noise(8) * scale, noise(8, seed=1) * scale]) == [ZEROS]


def test_values_that_fp16_does_not_have_are_the_cause_of_zeros():
    """Not where a layer in between underflows: there the output's own values would fit."""
    small = [(noise(8) * 1e-10,), (noise(8, seed=1) * 1e-10,)]
    zeros = [(torch.zeros(8),)] * 2
    (lost,) = output_hazards(["y"], zeros, small)
    largest = max(float(y.abs().max()) for (y,) in small)
    assert lost["cause"].startswith(f"in fp32 it is at most {largest:.1e}, which fp16 rounds to 0;")
    assert hazard_text(lost).startswith("output is all zeros: `y`, in fp32 it is at most")
    assert "cause" not in output_hazards(["y"], zeros, small, FP32_STEP)[0]
    assert "cause" not in output_hazards(["y"], zeros, [(noise(8),)] * 2)[0]


def test_zeros_in_place_of_zeros_and_in_some_samples_only():
    assert kinds([[0.0, 0.0]], [[0.0, 0.0]]) == []
    assert kinds([[0.0, 0.0], [1.0, 0.0]], [[0.5, 0.0], [1.0, 0.0]]) == []
    assert kinds([[0.0]], [[1.0]]) == [ZEROS]


def test_a_lost_signal_behind_an_offset():
    """60 dB, and nothing left of what the model computes."""
    reference = [1000 + noise(1, 16, seed=i) for i in range(3)]
    assert kinds([torch.full((1, 16), 1000.0)] * 3, reference) == [CONSTANT]
    assert kinds([ref.half() for ref in reference], reference) == []


def test_the_same_output_for_every_input():
    """A branch that is dead: only the bias is left."""
    bias = noise(1, 16, seed=9)
    reference = [bias + noise(1, 16, seed=i) for i in range(4)]
    assert kinds([bias] * 4, reference) == [CONSTANT]
    assert kinds([bias] * 4, [bias] * 4) == [], "the model is as constant"
    assert kinds([bias], reference[:1]) == [], "one sample shows no dependence"


@pytest.mark.parametrize("step", [FP16_STEP, FP32_STEP])
def test_differences_below_the_precision_of_the_program_may_vanish(step):
    """A saturated sigmoid: 1 - 1e-5 is 1 in fp16, and must not be in fp32."""
    reference = [1 - 1e-5 * noise(4, seed=i).abs() for i in range(4)]
    found = kinds([torch.ones(4)] * 4, reference, step)
    assert found == ([] if step == FP16_STEP else [CONSTANT])


def test_rounding_noise_of_elements_without_a_signal():
    """Elements of 1e-9 that differ beside others of 1 that do not."""
    reference = [torch.tensor([1.0, 1e-9 * i]) for i in range(4)]
    assert kinds([torch.tensor([1.0, 0.0])] * 4, reference, FP32_STEP) == []


def test_values_that_are_not_finite_are_other_hazards():
    assert kinds([torch.tensor([torch.nan])], [torch.ones(1)]) == []
    assert kinds([torch.ones(2)] * 2, [torch.tensor([1.0, torch.inf]), torch.ones(2)]) == []


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8])
def test_lost_integers(dtype):
    reference = [
        torch.tensor([[1, 0, 1, 1, 0]]).to(dtype),
        torch.tensor([[0, 1, 1, 0, 1]]).to(dtype),
    ]
    assert kinds([torch.zeros(1, 5, dtype=dtype)] * 2, reference) == [ZEROS]
    assert kinds([torch.ones(1, 5, dtype=dtype)] * 2, reference) == [CONSTANT]
    assert kinds(reference[:1] * 2, reference) == [CONSTANT], "the first sample's, twice"
    assert kinds(reference, reference) == []


def test_one_rounded_element_of_a_sparse_mask_is_no_loss():
    """The only True of a thousand may be next to the threshold; three are not all."""
    few, several = torch.zeros(1, 1000, dtype=torch.bool), torch.zeros(1, 1000, dtype=torch.bool)
    few[0, 7] = True
    several[0, 7:10] = True
    nothing = torch.zeros(1, 1000, dtype=torch.bool)
    assert kinds([nothing], [few]) == []
    assert kinds([nothing], [several]) == [ZEROS]
    assert kinds([torch.zeros(4, dtype=torch.int64)], [torch.tensor([0, 0, 0, 1])]) == [ZEROS]


def test_empty_outputs_and_other_shapes():
    assert kinds([torch.zeros(0)] * 2, [torch.zeros(0)] * 2) == []
    assert kinds([torch.zeros(0, 2)], [torch.ones(1, 2)]) == [], "its shape is the finding"
    assert kinds([torch.zeros(2), torch.zeros(1)], [torch.ones(2), torch.ones(1)]) == [ZEROS]
