"""Exports transformer layers whose mask is not declared causal or otherwise.

Stands against: torch 2.13.0
Repairs: ``torch.nn.modules.transformer._detect_is_causal_mask``, which ``TransformerEncoder`` and
    ``TransformerDecoder`` call to choose a faster kernel. Without ``is_causal`` it compares the
    values of the mask, a branch that ``torch.export`` cannot trace. While a model is exported a
    mask is causal only if the caller declares it; it is applied either way, so that the results are
    the same.
Remove when: ``torch.export`` traces ``nn.TransformerEncoder(…)(x, mask=mask)``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.modules import transformer


@contextmanager
def declared_masks() -> Iterator[None]:
    """Within this context transformer layers do not look at the values of their masks."""
    upstream = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = upstream
