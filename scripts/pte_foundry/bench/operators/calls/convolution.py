"""Convolutions, resizing, and sampling."""

import torch
from torch.nn import functional as F

from pte_foundry.bench.operators.calls.inputs import normal, uniform
from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten
X1, X2, X3 = normal(1, 4, 9), normal(1, 4, 7, 6), normal(1, 4, 5, 4, 4)
W1, W2, W3 = normal(6, 4, 3), normal(6, 4, 3, 3), normal(6, 4, 3, 3, 3)
BIAS, DEPTHWISE = normal(6), normal(8, 1, 3)
T1, T3 = normal(4, 3, 3), normal(4, 2, 2, 2, 2)
T2, T2_SMALL = normal(4, 1, 4, 4), normal(4, 3, 2, 2)
IMAGE = normal(1, 2, 5, 6)
GRID = uniform(-1.2, 1.2, 1, 4, 3, 2)
THETA = torch.tensor([[[0.8, 0.2, 0.1], [-0.3, 1.1, -0.2]]])


def interpolate(**options):
    return lambda x: F.interpolate(x, **options)


def convolution(x, w, *, stride=1, padding=0, dilation=1, transposed=False, output=0, groups=1):
    rank = x.dim() - 2
    lists = [[n] * rank for n in (stride, padding, dilation, output)]
    return aten.convolution(x, w, None, *lists[:3], transposed, lists[3], groups)


CALLS = [
    (
        "conv1d",
        "same, even kernel",
        lambda x, w: F.conv1d(x, w, padding="same"),
        X1,
        normal(6, 4, 4),
    ),
    (
        "conv1d",
        "depthwise, dilated",
        lambda x: F.conv1d(x, DEPTHWISE, groups=4, dilation=2, padding=2),
        X1,
    ),
    ("conv1d", "no batch", F.conv1d, X1[0], W1),
    (
        "conv2d",
        "constant weight, stride, bias",
        lambda x: F.conv2d(x, W2, BIAS, 2, 1),
        X2,
    ),
    ("conv2d", "same, dilated", lambda x: F.conv2d(x, W2, padding="same", dilation=2), X2),
    (
        "conv2d",
        "groups, unequal padding",
        lambda x, w: F.conv2d(x, w, groups=2, padding=(0, 2)),
        X2,
        normal(6, 2, 3, 3),
    ),
    (
        "conv2d",
        "depthwise",
        lambda x, w: F.conv2d(x, w, groups=4, padding=1),
        X2,
        normal(4, 1, 3, 3),
    ),
    ("conv3d", "stride", lambda x, w: F.conv3d(x, w, stride=2, padding=1), X3, W3),
    ("conv3d", "same", lambda x: F.conv3d(x, W3, padding="same"), X3),
    (
        "conv_transpose1d",
        "output padding",
        lambda x, w: F.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1),
        X1,
        normal(4, 6, 3),
    ),
    (
        "conv_transpose1d",
        "groups, dilated",
        lambda x: F.conv_transpose1d(x, T1, groups=2, dilation=2),
        X1,
    ),
    (
        "conv_transpose2d",
        "output padding",
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        X2,
        normal(4, 6, 3, 3),
    ),
    (
        "conv_transpose2d",
        "depthwise, constant weight",
        lambda x: F.conv_transpose2d(x, T2, stride=2, padding=1, groups=4),
        X2,
    ),
    (
        "conv_transpose2d",
        "padding larger than kernel",
        lambda x: F.conv_transpose2d(x, T2_SMALL, padding=2),
        X2,
    ),
    (
        "conv_transpose3d",
        "stride",
        lambda x: F.conv_transpose3d(x, T3, stride=2),
        X3,
    ),
    ("convolution", "", convolution, X2, W2),
    (
        "convolution",
        "transposed",
        lambda x, w: convolution(x, w, stride=2, transposed=True, output=1),
        X2,
        normal(4, 3, 3, 3),
    ),
    (
        "convolution",
        "rank 3, groups",
        lambda x, w: convolution(x, w, groups=2, padding=1),
        X1,
        normal(6, 2, 3),
    ),
    (
        "_convolution",
        "",
        lambda x, w: operator("aten._convolution.default")(
            x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True, True
        ),
        X2,
        W2,
    ),
    (
        "_convolution_mode",
        "same",
        lambda x, w: operator("aten._convolution_mode.default")(
            x, w, None, [1, 1], "same", [1, 1], 1
        ),
        X2,
        W2,
    ),
    ("upsample_bilinear2d", "by size", interpolate(size=(7, 11), mode="bilinear"), IMAGE),
    (
        "upsample_bilinear2d",
        "by size, corners",
        interpolate(size=(7, 11), mode="bilinear", align_corners=True),
        IMAGE,
    ),
    ("upsample_bilinear2d", "by 2", interpolate(scale_factor=2, mode="bilinear"), IMAGE),
    ("upsample_bilinear2d", "by 1.7", interpolate(scale_factor=1.7, mode="bilinear"), IMAGE),
    (
        "upsample_bilinear2d",
        "by 1.7, recomputed, corners",
        interpolate(
            scale_factor=1.7, mode="bilinear", recompute_scale_factor=True, align_corners=True
        ),
        IMAGE,
    ),
    ("upsample_bilinear2d", "to half", interpolate(scale_factor=0.5, mode="bilinear"), IMAGE),
    ("upsample_bilinear2d", "to one pixel", interpolate(size=(1, 1), mode="bilinear"), IMAGE),
    (
        "upsample_bilinear2d",
        "unequal factors",
        interpolate(scale_factor=(1.5, 0.6), mode="bilinear"),
        IMAGE,
    ),
    (
        "_upsample_bilinear2d_aa",
        "to a third",
        interpolate(scale_factor=1 / 3, mode="bilinear", antialias=True),
        normal(1, 2, 12, 12),
    ),
    (
        "_upsample_bilinear2d_aa",
        "larger",
        interpolate(size=(9, 8), mode="bilinear", antialias=True),
        IMAGE,
    ),
    (
        "_upsample_bilinear2d_aa",
        "smaller, corners",
        interpolate(size=(3, 4), mode="bilinear", antialias=True, align_corners=True),
        normal(1, 2, 12, 12),
    ),
    ("upsample_linear1d", "by size", interpolate(size=7, mode="linear"), X1),
    ("upsample_linear1d", "by 1.7", interpolate(scale_factor=1.7, mode="linear"), X1),
    (
        "upsample_linear1d",
        "by 2, corners",
        interpolate(scale_factor=2, mode="linear", align_corners=True),
        X1,
    ),
    ("upsample_nearest1d", "by size", interpolate(size=13), X1),
    ("upsample_nearest1d", "by 2", interpolate(scale_factor=2), X1),
    ("upsample_nearest1d", "by 1.7", interpolate(scale_factor=1.7), X1),
    ("upsample_nearest2d", "by size", interpolate(size=(7, 11)), IMAGE),
    ("upsample_nearest2d", "by 2", interpolate(scale_factor=2), IMAGE),
    ("upsample_nearest2d", "by 1.7", interpolate(scale_factor=1.7), IMAGE),
    ("upsample_nearest2d", "to half", interpolate(scale_factor=0.5), IMAGE),
    ("upsample_nearest2d", "to a size smaller", interpolate(size=(3, 4)), IMAGE),
    (
        "grid_sampler",
        "bilinear",
        lambda x, g: F.grid_sample(x, g, align_corners=False),
        IMAGE,
        GRID,
    ),
    (
        "grid_sampler",
        "bilinear, corners, border",
        lambda x, g: F.grid_sample(x, g, padding_mode="border", align_corners=True),
        IMAGE,
        GRID,
    ),
    (
        "grid_sampler",
        "nearest",
        lambda x, g: F.grid_sample(x, g, mode="nearest", align_corners=False),
        IMAGE,
        GRID,
    ),
    (
        "grid_sampler",
        "reflection",
        lambda x, g: F.grid_sample(x, g, padding_mode="reflection", align_corners=False),
        IMAGE,
        GRID,
    ),
    (
        "grid_sampler",
        "bicubic",
        lambda x, g: F.grid_sample(x, g, mode="bicubic", align_corners=False),
        IMAGE,
        GRID,
    ),
    (
        "affine_grid_generator",
        "corners",
        lambda t: F.affine_grid(t, (1, 2, 4, 5), align_corners=True),
        THETA,
    ),
    (
        "affine_grid_generator",
        "no corners",
        lambda t: F.affine_grid(t, (1, 2, 4, 5), align_corners=False),
        THETA,
    ),
    (
        "affine_grid_generator",
        "sampled",
        lambda x, t: F.grid_sample(
            x, F.affine_grid(t, (1, 2, 4, 5), align_corners=False), align_corners=False
        ),
        IMAGE,
        THETA,
    ),
    ("col2im", "", lambda x: F.fold(x, (4, 5), (2, 2)), normal(1, 8, 12)),
    (
        "col2im",
        "stride, padding",
        lambda x: F.fold(x, (4, 4), (2, 2), padding=1, stride=2),
        normal(1, 8, 9),
    ),
    (
        "im2col",
        "stride, padding, dilation",
        lambda x: F.unfold(x, (2, 3), padding=1, stride=2, dilation=(1, 2)),
        IMAGE,
    ),
    ("pixel_shuffle", "", lambda x: F.pixel_shuffle(x, 2), normal(1, 8, 3, 2)),
    ("pixel_unshuffle", "", lambda x: F.pixel_unshuffle(x, 2), normal(1, 2, 4, 6)),
    ("pad", "constant 1.5", lambda x: F.pad(x, (1, 2, 0, 3), value=1.5), IMAGE),
    ("pad", "negative", lambda x: F.pad(x, (-1, 2, 1, -2)), IMAGE),
    ("pad", "circular", lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"), IMAGE),
    ("pad", "replicate, rank 5", lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate"), X3),
    (
        "pad",
        "of integers",
        lambda x: F.pad(x, (1, 2), value=7),
        torch.arange(6, dtype=torch.int32).reshape(2, 3),
    ),
    ("pad", "of booleans", lambda x: F.pad(x, (1, 2), value=True), torch.tensor([[True, False]])),
    ("reflection_pad1d", "", lambda x: aten.reflection_pad1d(x, (2, 3)), X1),
    ("reflection_pad2d", "", lambda x: aten.reflection_pad2d(x, (2, 3, 1, 0)), IMAGE),
    ("replication_pad1d", "", lambda x: aten.replication_pad1d(x, (2, 3)), X1),
    ("replication_pad2d", "", lambda x: aten.replication_pad2d(x, (2, 3, 1, 0)), IMAGE),
]
