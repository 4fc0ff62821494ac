"""Non-maximum suppression: literal boxes, and a plain loop over random ones."""

import numpy as np
import pytest

from tests.mil.mil_cases import HALF, INT, SINGLE, compute

# Center and size. The second overlaps the first by 1/3, the third is apart, the fourth is the
# first again.
BOXES = np.array([[2, 2, 2, 2], [3, 2, 2, 2], [9, 9, 2, 4], [2, 2, 2, 2]], SINGLE)
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.7], [0.5, 0.4]], SINGLE)


def suppress(opset, boxes, scores, iou, max_boxes, score=None, per_class=False):
    """One batch; as lists. iOS17 has the boxes last, no score threshold and no count."""
    old = opset in ("iOS15", "iOS16")
    arguments = {"boxes": boxes if old else boxes.T, "scores": scores if old else scores.T}
    arguments = {name: value[None] for name, value in arguments.items()}
    arguments |= {"iou_threshold": boxes.dtype.type(iou), "max_boxes": INT(max_boxes)}
    if old:
        arguments["score_threshold"] = boxes.dtype.type(score)
    results = compute("non_maximum_suppression", opset, {**arguments, "per_class_suppression":
                      per_class})  # fmt: skip
    assert len(results) == (4 if old else 3)
    kept, values, indices = (r[0] for r in results[:3])
    assert (kept.dtype, values.dtype, indices.dtype) == (boxes.dtype, scores.dtype, INT)
    if not old:
        kept, values = kept.T, values.T
    count = int((indices >= 0).sum())
    if old:
        assert (results[3].dtype, results[3].tolist()) == (INT, [count])
    assert (kept[count:] == 0).all()
    assert (values[count:] == 0).all()
    np.testing.assert_array_equal(kept[:count], boxes[indices[:count]])
    np.testing.assert_array_equal(values[:count], scores[indices[:count]])
    assert len(kept) == len(values) == len(indices) == max_boxes
    return indices.tolist()


@pytest.mark.parametrize("opset", ["iOS15", "iOS16", "iOS17", "iOS18", "iOS26"])
@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize(
    ("iou", "per_class", "want"),
    [
        (0.5, False, [0, 1, 2, -1]),  # only the copy goes
        (0.25, False, [0, 2, -1, -1]),
        (0.25, True, [0, 1, 2, -1]),  # the second is of the other class
        (1.0, False, [0, 1, 2, 3]),  # more than all of it cannot overlap
    ],
)
def test_literal_boxes(opset, dtype, iou, per_class, want):
    boxes, scores = BOXES.astype(dtype), SCORES.astype(dtype)
    assert suppress(opset, boxes, scores, iou, 4, -1, per_class) == want
    assert suppress(opset, boxes, scores, iou, 2, -1, per_class) == want[:2]
    assert suppress(opset, boxes, scores, iou, 6, -1, per_class) == [*want, -1, -1]


def test_overlap_equal_to_the_threshold_survives():
    boxes = np.array([[2, 2, 4, 4], [2, 2, 4, 2]], SINGLE)  # one is half of the other
    assert suppress("iOS17", boxes, SCORES[:2], 0.5, 2) == [0, 1]
    assert suppress("iOS17", boxes, SCORES[:2], 0.49, 2) == [0, -1]


def test_scores_below_the_threshold_are_rejected_and_equal_ones_are_not():
    assert suppress("iOS15", BOXES, SCORES, 0.5, 3, score=np.float32(0.8)) == [0, 1, -1]


def test_if_nothing_reaches_the_threshold_the_best_box_remains():
    assert suppress("iOS15", BOXES, SCORES[::-1].copy(), 0.5, 3, score=2) == [3, -1, -1]


def test_boxes_without_area_overlap_by_nothing_and_ties_keep_their_order():
    boxes = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], SINGLE)
    assert suppress("iOS17", boxes, np.ones((2, 1), SINGLE), 0.0, 2) == [0, 1]


def test_no_box_may_be_wanted():
    assert suppress("iOS17", BOXES, SCORES, 0.5, 0) == []


def overlap(a, b):
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_random_boxes_agree_with_a_plain_loop(seed, per_class):
    random = np.random.default_rng(seed)
    boxes = random.uniform(0, 100, (60, 4)).astype(SINGLE)
    scores = random.uniform(-1, 1, (60, 3)).astype(SINGLE)
    kept = []
    for i in np.argsort(-scores.max(1)):
        if scores[i].max() >= 0.2 and not any(
            overlap(boxes[i].astype(float), boxes[j].astype(float)) > 0.3
            and (not per_class or scores[i].argmax() == scores[j].argmax())
            for j in kept
        ):
            kept.append(int(i))
    kept = (kept + [-1] * 50)[:50]
    assert suppress("iOS15", boxes, scores, 0.3, 50, 0.2, per_class) == kept


def test_batches_are_independent():
    boxes, scores = np.stack([BOXES, BOXES[::-1]]), np.stack([SCORES, SCORES[::-1]])
    arguments = {"boxes": boxes, "scores": scores, "iou_threshold": SINGLE(0.25)}
    arguments |= {"score_threshold": SINGLE(-1), "max_boxes": INT(3)}
    _, _, indices, counts = compute("non_maximum_suppression", "iOS15", arguments)
    assert (indices.tolist(), counts.tolist()) == ([[0, 2, -1], [3, 1, -1]], [2, 2])
