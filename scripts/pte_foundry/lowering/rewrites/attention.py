"""Rewrites of attention."""

import torch

aten = torch.ops.aten


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attention with every head of key and value repeated: the converter ignores ``enable_gqa``."""
    if not enable_gqa:
        return NotImplemented
    return aten.scaled_dot_product_attention.default(
        query,
        _repeated(key, query.shape[-3] // key.shape[-3]),
        _repeated(value, query.shape[-3] // value.shape[-3]),
        attn_mask,
        dropout_p,
        is_causal,
        scale=scale,
    )


def _repeated(x: torch.Tensor, times: int) -> torch.Tensor:
    """Each head ``times`` times in a row, without a dimension more than Core ML's five."""
    if times == 1:
        return x
    *batch, heads, length, size = x.shape
    rows = aten.reshape.default(x, [-1, 1, length, size])
    rows = aten.expand.default(rows, [-1, times, length, size])
    return aten.reshape.default(rows, [*batch, heads * times, length, size])


REWRITES = {aten.scaled_dot_product_attention.default: scaled_dot_product_attention}
