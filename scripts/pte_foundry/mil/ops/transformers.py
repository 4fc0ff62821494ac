"""Attention (``iOS18/transformers.py``)."""

import torch
from torch import Tensor

from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op


@op("scaled_dot_product_attention", since="iOS18")
def scaled_dot_product_attention(
    *, query: Upcast, key: Upcast, value: Upcast, attn_mask: Upcast | None = None
) -> Tensor:
    # Not torch's fused kernel: a row that is masked completely is nan in coremltools'
    # value_inference (and on devices), but zeros in torch.
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value
