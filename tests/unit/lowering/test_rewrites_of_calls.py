"""Protects the rewrites of calls that the sweep of operators found: one of each kind.

Each is a call that upstream alone lowers to wrong numbers, to a program that does not run, or
refuses. Once upstream gets it right, the case fails: remove its rewrite.
"""

import math

import pytest
import torch
from pte_foundry.lowering import rewrites
from torch.nn import functional as F

from tests.unit.lowering.both_ways import decibels, ours, target, together, upstream

aten = torch.ops.aten
SIGNED = torch.tensor([-7.5, -4.0, -1.25, 0.0, 1.0, 2.5, 5.5, 9.0])
MATES = torch.tensor([2.0, -3.0, 3.0, 1.0, -1.5, 2.0, -2.0, 4.0])
INTEGERS = torch.tensor([3, 0, 2, 7], dtype=torch.int32)
MASK = torch.tensor([[[True, False, True]], [[False, False, True]]])
SMALL = torch.tensor([1e-3, -2e-3, 0.02, 0.9, -0.99, 5.0, -6.0, 0.0])


def normal(*shape, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale


W1, W2 = normal(6, 4, 3), normal(4, 3, 2, 2)
THETA = torch.tensor([[[0.8, 0.2, 0.1], [-0.3, 1.1, -0.2]]])
INDEX = torch.tensor([[0, 3], [1, 2]])

CASES = {
    "log_softmax of a wide range": (lambda x: x.log_softmax(-1), (normal(3, 8, scale=60),)),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), (normal(2, 6, 3, scale=60),)),
    "std without dimensions": (lambda x: torch.std(x, keepdim=True), (normal(2, 3),)),
    "shifts and low bits": (
        lambda i: (i >> 1, i << 3, i & 255, i & 1),
        (torch.tensor([5, -7, 70_001, -1, 0]),),
    ),
    "shifts by name": (
        lambda i: (torch.bitwise_right_shift(i, 4), torch.bitwise_left_shift(i, 2)),
        (torch.tensor([5, -70_007], dtype=torch.int32),),
    ),
    "a number or a tensor of another dtype": (
        lambda x, i: (torch.where(x > 0, i, 0.5), F.hardshrink(x)),
        (SIGNED, torch.arange(8)),
    ),
    "a choice between numbers for a scalar": (
        lambda x: torch.where(x.sum() > 0, 1.5, -2.0),
        (SIGNED,),
    ),
    "expm1": (lambda x: torch.expm1(x * 1e-3), (SMALL,)),
    "clamp, limits that cross": (torch.clamp, (SIGNED, MATES, MATES.flip(0))),
    "elu with scales": (lambda x: aten.elu(x, 0.7, 1.5, 0.5), (SIGNED,)),
    "softplus with a low threshold": (lambda x: F.softplus(x, 0.7, 0.1), (SIGNED,)),
    "instance_norm with statistics": (
        lambda x, m, v: F.instance_norm(x, m, v.abs() + 1, use_input_stats=False),
        (normal(2, 4, 3, 3), normal(4), normal(4)),
    ),
    "std and var without a correction": (
        lambda x: (torch.std(x), torch.var(x), aten.std.correction(x, [1], keepdim=True)),
        (normal(3, 4),),
    ),
    "rsub with a factor": (lambda x, y: torch.rsub(x, y, alpha=-2), (SIGNED, MATES)),
    "addmm with factors": (
        lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2),
        (normal(5), normal(3, 4), normal(4, 5)),
    ),
    "masked_fill by a larger mask": (
        lambda x, m: x.masked_fill(m, float("-inf")).softmax(-1),
        (normal(3), MASK),
    ),
    "matmul, vectors": (
        lambda x, y: (x @ y, y @ x.mT, y @ y),
        (normal(2, 3, 4), normal(4)),
    ),
    "conv1d without batch": (lambda x: F.conv1d(x, W1, padding=1), (normal(4, 9),)),
    "conv_transpose2d without batch": (
        lambda x: F.conv_transpose2d(x, W2, stride=2),
        (normal(4, 3, 5),),
    ),
    "max_pool2d without batch": (lambda x: F.max_pool2d(x, 2), (normal(3, 4, 6),)),
    "scatter into a part": (
        lambda x, i, v: (x.scatter(1, i, v), x.scatter_add(1, i, v), x.scatter(0, i, 2.0)),
        (normal(4, 6), INDEX, normal(3, 3)),
    ),
    "tile with more numbers": (lambda x: x.tile(2, 1, 3), (normal(2, 3),)),
    "meshgrid": (lambda x, y: torch.meshgrid(x, y, indexing="xy"), (normal(3), normal(4))),
    "nearest by a fraction": (
        lambda x: F.interpolate(x, scale_factor=(1.7, 0.6)),
        (normal(1, 2, 5, 6),),
    ),
    "affine_grid": (
        lambda t: (F.affine_grid(t, (1, 2, 4, 5), False), F.affine_grid(t, (1, 2, 1, 3), True)),
        (THETA,),
    ),
    "functions of integers": (
        lambda x: (x.exp(), x.sqrt(), torch.softmax(x, 0, torch.float32)),
        (INTEGERS,),
    ),
    "maximum of booleans": (lambda x: (x.max().float(), x.amax(-1).float() * 2), (MASK,)),
    "comparison of booleans": (lambda x: (x < x.flip(-1)).float() * 2, (MASK,)),
    "padding by negative widths": (lambda x: F.pad(x, (-1, 2, 1, -2), value=3), (normal(1, 5, 6),)),
    "cross along the first three": (aten.cross, (normal(2, 3, 3), normal(1, 3, 3))),
    "nan_to_num of a scalar": (lambda x: torch.nan_to_num(x.sum() / 0, 0, 5, 6), (SIGNED,)),
    "broadcast_tensors": (lambda x, y: torch.broadcast_tensors(x, y), (normal(3, 1), normal(4))),
    "floor of integers": (lambda x: (x * 2).floor(), (INTEGERS,)),
}


def fault(case):
    """Why upstream alone does not do, or None: numbers or an error, in either precision."""
    for precision in ("float32", "float16"):
        try:
            result = decibels(upstream, *case, target(precision))
        except Exception as error:
            return repr(error)
        if result < 40:
            return result
    return None


@pytest.mark.upgrade
@pytest.mark.parametrize("name", CASES)
def test_upstream_still_has_the_fault(name):
    """If this fails, upstream has fixed it: remove the rewrite."""
    assert fault(CASES[name]) is not None


@pytest.mark.parametrize(("precision", "least"), [("float32", 90), ("float16", 45)])
def test_the_rewritten_calls_are_right(precision, least):
    found = together(CASES, target(precision))
    assert {name: result for name, result in found.items() if not result >= least} == {}


def test_two_rewrites_of_an_operator_are_both_tried():
    table = rewrites.TABLE[aten.roll.default]  # of booleans, and of all elements
    seven = torch.arange(7.0)
    assert torch.equal(table(seven, [2]), seven.roll(2))
    assert torch.equal(table(seven > 3, [2], [0]), (seven > 3).roll(2))
    assert table(seven, [2], [0]) is NotImplemented


@pytest.mark.parametrize("shift", [0.0, -50.0, 300.0])
def test_a_logarithm_of_a_softmax_does_not_underflow(shift):
    x = torch.tensor([[0.0, -90, -30000]]) + shift
    assert torch.equal(rewrites.TABLE[aten.log_softmax.int](x, 1), x.log_softmax(1))
    assert math.isfinite(rewrites.TABLE[aten.logcumsumexp.default](x, 1).sum())


DYNAMIC = {
    "numbers": lambda x: torch.where(x > 0, 1.0, -2.0),
    "the condition is larger": lambda x: torch.where(x[:, None] > x[..., None], x[:, :1], -1.0),
    "all differ": lambda x: torch.where(x[:, :1] > 0, x[:, :, None], x[:, None]),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x, 1),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x, 1, return_indices=True),
    "std": lambda x: x.std(),
    "a number, scattered": lambda x: x.scatter(1, x.argsort(1), 0.5) + x,
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_calls_of_a_dynamic_shape_are_right(name):
    """The converter takes the shape of the first operand, or needs a static one."""
    shapes = (({1: torch.export.Dim("length", min=2, max=32)},),)
    case = DYNAMIC[name], (normal(1, 6),), target()
    assert decibels(ours, *case, [(normal(1, 9),)], shapes) >= 90


def test_log1p_of_small_numbers_keeps_their_digits():
    """In float32: numbers this small have few digits in float16 anyway."""
    case = lambda x: torch.log1p(x * 1e-6), (SMALL,), target()
    assert decibels(upstream, *case) < 60
    assert decibels(ours, *case) > 120
