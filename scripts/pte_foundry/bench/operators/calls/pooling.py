"""Pooling."""

import torch
from torch.nn import functional as F

from pte_foundry.bench.operators.calls.inputs import distinct, normal, uniform
from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten
X1, X2, X3 = normal(1, 2, 9), normal(1, 2, 7, 7), normal(1, 2, 5, 6, 5)
POSITIVE = uniform(1, 2, 1, 2, 7, 7)

CALLS = [
    ("avg_pool1d", "ceil, overhang", lambda x: F.avg_pool1d(x, 2, 3, ceil_mode=True), X1[..., :7]),
    ("avg_pool2d", "ceil, overhang", lambda x: F.avg_pool2d(x, 2, 3, ceil_mode=True), POSITIVE),
    (
        "avg_pool2d",
        "ceil, padding, not counted",
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
        POSITIVE,
    ),
    ("avg_pool2d", "ceil, padding, counted", lambda x: F.avg_pool2d(x, 2, 3, 1, True), POSITIVE),
    (
        "avg_pool2d",
        "padding, not counted",
        lambda x: F.avg_pool2d(x, 3, 2, 1, False, False),
        POSITIVE,
    ),
    ("avg_pool2d", "divisor", lambda x: F.avg_pool2d(x, 2, divisor_override=3), POSITIVE),
    ("avg_pool3d", "ceil, overhang", lambda x: F.avg_pool3d(x, 2, 3, ceil_mode=True), X3),
    ("avg_pool3d", "padding", lambda x: F.avg_pool3d(x, 3, 2, 1), X3),
    ("adaptive_avg_pool1d", "divides", lambda x: F.adaptive_avg_pool1d(x, 3), X1),
    ("adaptive_avg_pool1d", "does not divide", lambda x: F.adaptive_avg_pool1d(x, 4), X1),
    ("adaptive_avg_pool2d", "global", lambda x: F.adaptive_avg_pool2d(x, 1), X2),
    ("adaptive_avg_pool2d", "does not divide", lambda x: F.adaptive_avg_pool2d(x, (3, 5)), X2),
    ("adaptive_avg_pool2d", "larger", lambda x: F.adaptive_avg_pool2d(x, (9, 7)), X2),
    (
        "_adaptive_avg_pool2d",
        "",
        lambda x: operator("aten._adaptive_avg_pool2d.default")(x, (2, 3)),
        normal(1, 2, 4, 6),
    ),
    (
        "_adaptive_avg_pool2d",
        "does not divide",
        lambda x: operator("aten._adaptive_avg_pool2d.default")(x, (3, 3)),
        X2,
    ),
    ("adaptive_max_pool1d", "does not divide", lambda x: F.adaptive_max_pool1d(x, 4), X1),
    ("adaptive_max_pool2d", "does not divide", lambda x: F.adaptive_max_pool2d(x, 3), X2),
    (
        "adaptive_max_pool2d",
        "indices",
        lambda x: F.adaptive_max_pool2d(x, 2, True),
        distinct(1, 2, 4, 4),
    ),
    ("max_pool1d", "ceil, padding", lambda x: F.max_pool1d(x, 3, 2, 1, ceil_mode=True), X1),
    (
        "max_pool1d_with_indices",
        "values",
        lambda x: F.max_pool1d_with_indices(x, 2)[0],
        distinct(1, 2, 8),
    ),
    (
        "max_pool2d",
        "ceil, overhang, negative",
        lambda x: F.max_pool2d(-x, 2, 3, ceil_mode=True),
        POSITIVE,
    ),
    ("max_pool2d", "no batch", lambda x: F.max_pool2d(x, 2), X2[0]),
    ("max_pool3d", "no batch", lambda x: F.max_pool3d(x, 2), X3[0]),
    ("max_pool2d", "dilation", lambda x: F.max_pool2d(x, 2, 1, dilation=2), X2),
    (
        "max_pool2d_with_indices",
        "values",
        lambda x: aten.max_pool2d_with_indices(x, [2, 2])[0],
        distinct(1, 2, 4, 4),
    ),
    (
        "max_pool2d_with_indices",
        "both",
        lambda x: F.max_pool2d(x, 2, return_indices=True),
        distinct(1, 2, 4, 4),
    ),
    ("max_pool3d", "ceil, padding", lambda x: F.max_pool3d(x, 3, 2, 1, ceil_mode=True), X3),
    (
        "max_pool3d_with_indices",
        "values",
        lambda x: aten.max_pool3d_with_indices(x, [2, 2, 2])[0],
        distinct(1, 1, 4, 4, 4),
    ),
]
