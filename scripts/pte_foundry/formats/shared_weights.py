"""The weights of Core ML models that methods share, each counted once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pte_foundry.formats.coreml_delegate import CoreMLModel
from pte_foundry.formats.mil_contents import weights_by_offset
from pte_foundry.formats.mlpackage import body_of


def shared_weights(called: Iterable[tuple[CoreMLModel, str]]) -> Iterator[dict[str, int]]:
    """Yields the bytes of shared weights by dtype.

    Args:
        called: models with the function that a delegate calls; those that nobody shares are left
            out.
    """
    shared: dict[str, dict[int, tuple[str, int]]] = {}
    for model, function in called:
        if model.shared_key is not None and not model.compiled:
            block = body_of(model.spec.mlProgram.functions[function])
            shared.setdefault(model.shared_key, {}).update(weights_by_offset(block))
    for weights in shared.values():
        for dtype, size in weights.values():
            yield {dtype: size}
