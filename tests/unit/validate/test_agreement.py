"""Protects that an argmax is compared along classes, and nowhere else."""

import math

import pytest
import torch
from pte_foundry.validate.agreement import ClassAxis, class_axis, top1_agreement
from pte_foundry.validate.metrics import compare


def outputs(*shapes, samples=2):
    generator = torch.Generator().manual_seed(0)
    return [
        tuple(torch.randn(shape, generator=generator) for shape in shapes) for _ in range(samples)
    ]


def test_logits_of_a_classifier():
    assert class_axis(outputs((1, 10)), torch.tensor([3, 9])) == ClassAxis(0, -1)
    assert class_axis(outputs((10,)), torch.tensor([[3], [9]])) == ClassAxis(0, -1)


def test_logits_of_a_language_model():
    """A label for every token of a window."""
    labels = torch.tensor([[1, 2, 3], [4, 5, -100]])
    assert class_axis(outputs((1, 3, 6)), labels) == ClassAxis(0, -1)


def test_logits_of_pixels_have_their_classes_first():
    labels = torch.randint(0, 5, (2, 4, 6), generator=torch.Generator().manual_seed(0))
    assert class_axis(outputs((1, 5, 4, 6)), labels) == ClassAxis(0, 1)


@pytest.mark.parametrize(
    ("shape", "labels"),
    [
        ((1, 384), None),  # an embedding, or logits without labels: nobody can tell
        ((1, 20, 384), torch.tensor([1, 2])),  # hidden states, and a label for the whole
        ((1, 3, 8, 8), torch.tensor([1, 2])),  # pixels
        ((1, 4), torch.tensor([[0.5], [0.25]])),  # a regression
        ((1, 4), torch.tensor([True, False])),
        ((1, 4), torch.tensor([4, 0])),  # not an index into four classes
        ((1, 4), torch.tensor([-100, -100])),
        ((1, 1), torch.tensor([0, 0])),
        ((), torch.tensor([0, 0])),
        ((1, 4), torch.zeros(2, 0, dtype=torch.int64)),
    ],
)
def test_where_an_argmax_means_nothing(shape, labels):
    assert class_axis(outputs(shape), labels) is None
    found, (output,) = compare(outputs(shape), outputs(shape), labels=labels)
    assert found["top1_agreement"] is output["top1_agreement"] is None


def test_integer_outputs_have_no_classes():
    assert class_axis([(torch.zeros(1, 4, dtype=torch.int64),)], torch.tensor([1])) is None


def test_of_several_outputs_the_one_that_predicts_the_labels():
    """Boxes [20, 4] would take the labels of scores [20, 3] as well."""
    labels = torch.randint(0, 3, (2, 20), generator=torch.Generator().manual_seed(0))
    scores = torch.nn.functional.one_hot(labels, 3).float()
    boxes = torch.rand(2, 1, 20, 4, generator=torch.Generator().manual_seed(1))
    reference = [(box, score[None]) for box, score in zip(boxes, scores, strict=True)]
    assert class_axis(reference, labels) == ClassAxis(1, -1)
    wrong = [(box, score.roll(1, -1)) for box, score in reference]
    found, per_output = compare(wrong, reference, labels=labels)
    assert found["top1_agreement"] == per_output[1]["top1_agreement"] == 0.0
    assert per_output[0]["top1_agreement"] is None


def test_the_share_of_equal_classes():
    reference = torch.tensor([[1.0, 3, 2], [9, 0, 0]])
    ours = torch.tensor([[1.0, 2, 3], [7, 0, 0]])
    assert top1_agreement([(ours, reference)], -1) == 0.5
    assert top1_agreement([(ours.T, reference.T)], 0) == 0.5


def test_ignored_positions_do_not_count():
    reference, ours = torch.eye(3)[None], torch.eye(3)[None].flip(-1)
    assert top1_agreement([(ours, reference)], -1, torch.tensor([[0, 1, 2]])) == pytest.approx(
        1 / 3
    )
    assert top1_agreement([(ours, reference)], -1, torch.tensor([[-100, 1, -100]])) == 1.0
    assert top1_agreement([(ours, reference)], -1, torch.tensor([[-1, -1, -1]])) is None


def test_a_nan_never_agrees_and_ties_take_the_first():
    assert top1_agreement([(torch.tensor([[math.nan, 2]]), torch.tensor([[1.0, 2]]))], -1) == 0.0
    assert top1_agreement([(torch.ones(1, 3), torch.ones(1, 3))], -1) == 1.0


def test_another_shape_has_no_agreement():
    assert top1_agreement([(torch.ones(2, 3), torch.ones(1, 3))], -1) is None
