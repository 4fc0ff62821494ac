"""Attention, normalization and losses."""

import torch
from torch.nn import functional as F

from pte_foundry.bench.operators.calls.inputs import booleans, integers, normal, spiky, uniform
from pte_foundry.upstream.torch_operators import operator

sdpa = F.scaled_dot_product_attention
QKV = (normal(1, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4))
SQUARE = (normal(1, 2, 5, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4))
GROUPED = (normal(1, 4, 3, 8), normal(1, 2, 5, 8), normal(1, 2, 5, 8))
MASK = booleans(1, 1, 3, 5) | (torch.arange(5) == 0)
LOG_SOFTMAX = operator("aten._log_softmax.default")
FLASH = operator("aten._scaled_dot_product_flash_attention_for_cpu.default")

CALLS = [
    ("scaled_dot_product_attention", "boolean mask", sdpa, *QKV, MASK),
    ("scaled_dot_product_attention", "additive mask", sdpa, *QKV, normal(1, 1, 3, 5)),
    (
        "scaled_dot_product_attention",
        "mask of -inf",
        lambda q, k, v, m: sdpa(q, k, v, torch.zeros(3, 5).masked_fill(~m, float("-inf"))),
        *QKV,
        MASK,
    ),
    (
        "scaled_dot_product_attention",
        "causal",
        lambda q, k, v: sdpa(q, k, v, is_causal=True),
        *SQUARE,
    ),
    ("scaled_dot_product_attention", "scale", lambda q, k, v: sdpa(q, k, v, scale=0.3), *QKV),
    (
        "scaled_dot_product_attention",
        "grouped queries",
        lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        *GROUPED,
    ),
    ("scaled_dot_product_attention", "rank 3", sdpa, *(x[0] for x in QKV)),
    ("scaled_dot_product_attention", "values wider than keys", sdpa, *QKV[:2], normal(1, 2, 5, 6)),
    ("_scaled_dot_product_flash_attention_for_cpu", "", lambda q, k, v: FLASH(q, k, v)[0], *QKV),
    (
        "_scaled_dot_product_flash_attention_for_cpu",
        "causal",
        lambda q, k, v: FLASH(q, k, v, 0.0, True)[0],
        *SQUARE,
    ),
    ("rms_norm", "no epsilon, spiky", lambda x: F.rms_norm(x, (8,)), spiky(3, 8)),
    (
        "rms_norm",
        "small values",
        lambda x, w: F.rms_norm(x, (8,), w, 1e-5),
        normal(3, 8, scale=0.01),
        normal(8),
    ),
    ("rms_norm", "epsilon 1e-3, spiky", lambda x: F.rms_norm(x, (8,), None, 1e-3), spiky(3, 8)),
    ("rms_norm", "two dimensions", lambda x: F.rms_norm(x, (4, 8)), normal(3, 4, 8)),
    ("layer_norm", "spiky", lambda x: F.layer_norm(x, (8,)), spiky(3, 8)),
    ("layer_norm", "small values", lambda x: F.layer_norm(x, (8,)), normal(3, 8, scale=0.005)),
    (
        "layer_norm",
        "weights, no bias",
        lambda x, w: F.layer_norm(x, (8,), w),
        normal(3, 8),
        normal(8),
    ),
    (
        "native_layer_norm",
        "all outputs",
        lambda x: torch.native_layer_norm(x, (8,), None, None, 1e-5),
        normal(3, 8),
    ),
    ("group_norm", "rank 3", lambda x: F.group_norm(x, 2), normal(2, 4, 6)),
    (
        "group_norm",
        "weights",
        lambda x, w, b: F.group_norm(x, 2, w, b),
        normal(2, 4, 3, 3),
        normal(4),
        normal(4),
    ),
    ("group_norm", "constant groups", lambda x: F.group_norm(x, 2), torch.ones(2, 4, 3, 3)),
    ("instance_norm", "rank 3", F.instance_norm, normal(2, 4, 6)),
    (
        "instance_norm",
        "weights",
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
        normal(2, 4, 3, 3),
        normal(4),
        normal(4),
    ),
    (
        "instance_norm",
        "running statistics",
        lambda x, m, v: F.instance_norm(x, m, v, use_input_stats=False),
        normal(2, 4, 3, 3),
        normal(4),
        uniform(0.5, 2, 4),
    ),
    (
        "batch_norm",
        "inference",
        lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b),
        normal(2, 4, 3, 3),
        normal(4),
        uniform(0.5, 2, 4),
        normal(4),
        normal(4),
    ),
    (
        "batch_norm",
        "rank 2, epsilon",
        lambda x, m, v: F.batch_norm(x, m, v, eps=0.1),
        normal(3, 4),
        normal(4),
        uniform(0.5, 2, 4),
    ),
    ("batch_norm", "rank 5", F.batch_norm, normal(1, 4, 2, 3, 3), normal(4), uniform(0.5, 2, 4)),
    (
        "_native_batch_norm_legit_no_training",
        "",
        lambda x, m, v: operator("aten._native_batch_norm_legit_no_training.default")(
            x, None, None, m, v, 0.1, 1e-5
        )[0],
        normal(2, 4, 3, 3),
        normal(4),
        uniform(0.5, 2, 4),
    ),
    (
        "_native_batch_norm_legit",
        "no statistics",
        lambda x: operator("aten._native_batch_norm_legit.no_stats")(
            x, None, None, True, 0.1, 1e-5
        )[0],
        normal(2, 4, 3, 3),
    ),
    ("nll_loss_nd", "", torch.ops.aten.nll_loss_nd, uniform(-3, 0, 4, 5), integers(0, 5, 4)),
    (
        "nll_loss_nd",
        "no reduction",
        lambda x, y: torch.ops.aten.nll_loss_nd(x, y, None, 0),
        uniform(-3, 0, 4, 5),
        integers(0, 5, 4),
    ),
    (
        "nll_loss_nd",
        "weights, ignored class",
        lambda x, y, w: torch.ops.aten.nll_loss_nd(x, y, w, 1, 2),
        uniform(-3, 0, 4, 5),
        integers(0, 5, 4),
        uniform(0.5, 2, 5),
    ),
    ("softmax", "wide range", lambda x: x.softmax(-1), normal(3, 8, scale=30)),
    ("softmax", "first of four dimensions", lambda x: x.softmax(0), normal(3, 2, 2, 2)),
    (
        "softmax",
        "of -inf",
        lambda x: torch.where(x > 0, x, float("-inf")).softmax(-1),
        torch.arange(-3.0, 5).expand(2, 8).contiguous(),
    ),
    ("log_softmax", "wide range", lambda x: x.log_softmax(-1), normal(3, 8, scale=30)),
    ("log_softmax", "small range", lambda x: x.log_softmax(1), normal(3, 8, 2)),
    ("_softmax", "", lambda x: operator("aten._softmax.default")(x, -1, False), normal(3, 8)),
    ("_log_softmax", "", lambda x: LOG_SOFTMAX(x, 1, False), normal(3, 8)),
    ("_log_softmax", "wide range", lambda x: LOG_SOFTMAX(x, 1, False), normal(3, 8, scale=60)),
    (
        "_weight_norm",
        "",
        lambda v, g: operator("aten._weight_norm.default")(v, g, 0),
        normal(3, 4),
        uniform(0.5, 2, 3, 1),
    ),
    (
        "_weight_norm",
        "last dimension",
        lambda v, g: operator("aten._weight_norm.default")(v, g, 1),
        normal(3, 4),
        uniform(0.5, 2, 1, 4),
    ),
    (
        "_weight_norm_interface",
        "",
        lambda v, g: operator("aten._weight_norm_interface.default")(v, g)[0],
        normal(3, 4),
        uniform(0.5, 2, 3, 1),
    ),
    (
        "cosine_similarity",
        "",
        lambda x, y: F.cosine_similarity(x, y),
        normal(3, 8),
        normal(3, 8, scale=2),
    ),
    ("cosine_similarity", "zeros", lambda x: F.cosine_similarity(x, x * 0, dim=-1), normal(3, 8)),
]
