"""The weights in a ``.pte``, each counted once, however many methods read it."""

from __future__ import annotations

from collections.abc import Iterator

from pte_foundry.formats.coreml_delegate import BACKEND, resolve
from pte_foundry.formats.mil_contents import weigh, weights_by_offset
from pte_foundry.formats.mlpackage import body_of
from pte_foundry.formats.pte_file import PteFile


def stored_weights(file: PteFile) -> Iterator[dict[str, int]]:
    """Yields the bytes of weights by dtype: of each model, and of those that methods share."""
    shared: dict[str, dict[int, tuple[str, int]]] = {}
    for plan in file.program.execution_plan:
        for delegate in plan.delegates:
            if delegate.id != BACKEND:
                continue
            model, function = resolve(file, delegate)
            if model.compiled:
                continue
            block = body_of(model.spec.mlProgram.functions[function])
            if model.shared:
                key = str(model.metadata.get("identifier"))
                shared.setdefault(key, {}).update(weights_by_offset(block))
            else:
                yield weigh(block)
    for weights in shared.values():
        for dtype, size in weights.values():
            yield {dtype: size}
