"""Protects every rewrite: upstream's fault, the repair in both precisions, when it can go.

Each case is a call that upstream alone lowers to wrong numbers or refuses. Once upstream gets it
right, the case fails: remove its rewrite.
"""

import itertools

import pytest
import torch
from pte_foundry.lowering import edge_program, rewrites
from torch import nn
from torch.nn import functional as F

from tests.unit.lowering.both_ways import decibels, exported, ours, target, together, upstream

aten = torch.ops.aten


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padding(*lengths, of):
    return torch.arange(of)[None] >= torch.tensor(lengths)[:, None]


def spiky(*shape):
    x = normal(*shape)
    x[..., 0] = 3000
    x[0] *= 1e-5
    x[-1] = 0
    return x


torch.manual_seed(0)
MULTIHEAD = nn.MultiheadAttention(8, 2, batch_first=True).eval()
ENCODER = nn.TransformerEncoder(
    nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False
).eval()
DECODER = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1).eval()
TOKENS = normal(2, 5, 8)
PADDED = padding(3, 4, of=5)
LATER = torch.ones(5, 5).triu(1) > 0
GROUPED = normal(1, 4, 5, 8), normal(1, 2, 7, 8), normal(1, 2, 7, 8, seed=1)
IMAGE = normal(1, 2, 7, 9)
SIGNAL, VOLUME = normal(1, 2, 9), normal(1, 2, 5, 7, 6)


def gqa(query, key, value, mask=None, **options):
    return F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True, **options)


CASES = {
    "encoder, padding": (lambda x, m: ENCODER(x, src_key_padding_mask=m), (TOKENS, PADDED)),
    "encoder, padding and mask": (
        lambda x, p, m: ENCODER(x, m, src_key_padding_mask=p, is_causal=False),
        (TOKENS, PADDED, LATER),
    ),
    "decoder": (
        lambda x, y, p: DECODER(
            x, y, tgt_mask=LATER, memory_key_padding_mask=p, tgt_is_causal=False
        ),
        (TOKENS, TOKENS + 1, PADDED),
    ),
    "multihead, padding": (
        lambda x, m: MULTIHEAD(x, x, x, key_padding_mask=m, need_weights=False)[0],
        (TOKENS, PADDED),
    ),
    "multihead, padding, weights": (
        lambda x, m: MULTIHEAD(x, x, x, key_padding_mask=m),
        (TOKENS, PADDED),
    ),
    "multihead, both masks, weights per head": (
        lambda x, p, m: MULTIHEAD(
            x, x, x, key_padding_mask=p, attn_mask=m, average_attn_weights=False
        ),
        (TOKENS, PADDED, LATER),
    ),
    "zeros_like, float of bool": (
        lambda m: torch.zeros_like(m, dtype=torch.float32).masked_fill(m, -4),
        (PADDED,),
    ),
    "gqa": (gqa, GROUPED),
    "gqa, causal, scale": (lambda *qkv: gqa(*qkv, is_causal=True, scale=0.5), GROUPED),
    "gqa, bool mask": (gqa, (*GROUPED, ~padding(3, 4, 5, 6, 7, of=7))),
    "gqa, float mask": (gqa, (*GROUPED, normal(5, 7))),
    "gqa, rank 5": (gqa, tuple(x.reshape(1, *x.shape) for x in GROUPED)),
    "power of two": (lambda x: 2**x, (TOKENS,)),
    "rms_norm, spikes, zeros, tiny rows": (
        lambda x: F.rms_norm(x, [8], TOKENS[0, 0], 1e-6),
        (spiky(4, 8),),
    ),
    "rms_norm, no epsilon": (lambda x: F.rms_norm(x, [8]), (TOKENS,)),
    "rms_norm, two dimensions": (nn.RMSNorm([5, 8], eps=1e-5), (spiky(3, 5, 8),)),
    "avg_pool1d, overhang": (lambda x: F.avg_pool1d(x, 2, 2, ceil_mode=True), (SIGNAL,)),
    "pools, a window too many": (
        lambda x: (
            F.avg_pool1d(x, 2, 3, ceil_mode=True),
            F.max_pool1d(x, 2, 3, ceil_mode=True),
        ),
        (SIGNAL,),
    ),
    "avg_pool2d, overhang": (lambda x: F.avg_pool2d(x, 2, 3, ceil_mode=True), (IMAGE,)),
    "avg_pool2d, overhang and padding": (
        lambda x: F.avg_pool2d(x, (3, 4), (2, 3), (1, 2), ceil_mode=True),
        (normal(1, 2, 6, 8),),
    ),
    "avg_pool2d, divisor": (
        lambda x: (
            F.avg_pool2d(x, 3, 2, 1, divisor_override=4),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=2),
        ),
        (IMAGE,),
    ),
    "avg_pool3d, overhang and padding": (
        lambda x: (
            F.avg_pool3d(x, 3, 2, 1, ceil_mode=True) + F.avg_pool3d(x, 2, 2, ceil_mode=True).sum()
        ),
        (normal(1, 2, 6, 8, 6),),
    ),
    "avg_pool3d, divisor": (lambda x: F.avg_pool3d(x, 2, 2, divisor_override=3), (VOLUME,)),
    "antialias, bilinear": (
        lambda x: F.interpolate(x, (3, 5), mode="bilinear", antialias=True),
        (IMAGE,),
    ),
    "antialias, bilinear by factors": (
        lambda x: F.interpolate(x, scale_factor=(0.4, 1.7), mode="bilinear", antialias=True),
        (IMAGE,),
    ),
    "bilinear by factors": (
        lambda x: F.interpolate(x, scale_factor=(0.4, 1.7), mode="bilinear"),
        (IMAGE,),
    ),
    "linear by a factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"), (SIGNAL,)),
    "antialias, bicubic": (
        lambda x: F.interpolate(x, (3, 5), mode="bicubic", antialias=True),
        (IMAGE,),
    ),
    "reciprocal": (lambda x: x.reciprocal(), (torch.tensor([1e-4, -1e-3, 0.5, 70.0]),)),
    "one over": (lambda x: 1 / x, (torch.tensor([1e-4, -1e-3, 0.5, 70.0]),)),
    "atan2": (
        torch.atan2,
        (
            torch.tensor([0.0, 0, 0, 1, -1, 1, -1, 2, -3, 1e-3]),
            torch.tensor([0.0, -1, 1, 0, 0, -1, -1, 5, -0.5, -1e-3]),
        ),
    ),
    "lerp": (lambda x: torch.lerp(x, x * x, 0.3), (TOKENS,)),
    "cosine_similarity": (
        lambda x, y: F.cosine_similarity(x, y, -1),
        (spiky(4, 8), normal(4, 8)),
    ),
    "cosine_similarity, broadcast": (F.cosine_similarity, (normal(3, 4), normal(1, 4))),
    "mean of integers": (
        lambda x: (x.mean(-1, dtype=torch.float32), x.mean(dtype=torch.float32)),
        (torch.arange(8).reshape(2, 4) ** 2,),
    ),
    "hann_window": (
        lambda x: (x * torch.hann_window(8), x * torch.hann_window(8, periodic=False)),
        (TOKENS,),
    ),
    "pad, circular": (
        lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
        (IMAGE,),
    ),
    "roll of all": (lambda x: torch.roll(x, 3), (TOKENS,)),
}


def fault(case):
    """Why upstream alone does not do, or None: numbers or an error."""
    try:
        result = decibels(upstream, *case, target())
    except Exception as error:
        return repr(error)
    return None if result >= 90 else result


@pytest.mark.upgrade
@pytest.mark.parametrize("name", CASES)
def test_upstream_still_has_the_fault(name):
    """If this fails, upstream has fixed it: remove the rewrite."""
    assert fault(CASES[name]) is not None


@pytest.mark.parametrize(("precision", "least"), [("float32", 90), ("float16", 50)])
def test_the_rewritten_calls_are_right(precision, least):
    found = together(CASES, target(precision))
    assert {name: result for name, result in found.items() if not result >= least} == {}


def test_zeros_of_a_dynamic_infinite_tensor_are_zeros():
    """The converter computes them as ``x - x``."""
    x = torch.full((3, 4), -torch.inf)
    dynamic = ((({0: torch.export.Dim("n", min=2, max=9)}),),)
    case = (lambda x: torch.zeros_like(x) + 1, (x,), target(), [(x[:2],)], dynamic)
    assert decibels(ours, *case) > 90
    assert decibels(upstream, *case) == -float("inf")


def test_an_operator_that_stays_outside_of_core_ml_is_not_rewritten():
    name = "aten.reciprocal.default"
    assert aten.reciprocal.default in rewrites.without([])
    assert aten.reciprocal.default not in rewrites.without([name])
    program = exported(lambda x: x.reciprocal(), (TOKENS,))
    assert name in edge_program.make(program, [name]).debug_handles.values()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_poolings_keep_torchs_windows(rank):
    """All sizes, kernels, strides and paddings: shapes and numbers in torch."""
    pool = [aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default][rank - 1]
    rewrite = rewrites.TABLE[pool]
    changed = 0
    options = itertools.product(
        (4, 5, 7), (1, 2, 3), (1, 2, 3, 4), (0, 1), (True, False), (None, 5)
    )
    for size, kernel, stride, pad, include, divisor in options:
        if pad * 2 > kernel or (rank == 1 and divisor):
            continue
        x = normal(1, 2, *range(size, size + rank)).double()
        call = (x, [kernel] * rank, [stride] * rank, [pad] * rank, True, include)
        call += (divisor,) if rank > 1 else ()
        result = rewrite(*call)
        if result is not NotImplemented:
            changed += 1
            torch.testing.assert_close(result, pool(*call))
    assert changed > 10


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiased_resampling_is_torchs(mode, corners):
    operator = getattr(aten, f"_upsample_{mode}2d_aa").default
    for size, wanted in itertools.product([(7, 9), (1, 5), (30, 3)], [(3, 5), (20, 11), (1, 1)]):
        call = normal(1, 2, *size), wanted, corners
        torch.testing.assert_close(rewrites.TABLE[operator](*call), operator(*call))


def test_antialiasing_of_a_dynamic_size_is_refused_with_the_fix():
    size = {2: torch.export.Dim("height", min=4, max=9)}
    program = exported(CASES["antialias, bilinear"][0], (IMAGE,), ((size,),))
    with pytest.raises(edge_program.EdgeError, match="static height and width"):
        edge_program.make(program, [])


@pytest.mark.parametrize("specification", [7, 9])
@pytest.mark.parametrize("name", ["gqa", "gqa, causal, scale", "gqa, bool mask", "gqa, rank 5"])
def test_grouped_attention_is_right_on_every_target(name, specification):
    """iOS18 has an operator for attention, iOS16 has not."""
    assert decibels(ours, *CASES[name], target("float16", specification)) > 50
