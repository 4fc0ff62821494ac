"""The config's ``enumerated_shapes`` of a model: for its only method, or by method."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[Sequence[int]]]
"""The shapes of inputs by name; the n-th shapes of all inputs belong together."""


def by_method(given: Mapping[str, Any] | None) -> dict[str | None, Shapes]:
    """Returns the shapes by method; those that name no method under None."""
    given = given or {}
    if not given or any(not isinstance(value, Mapping) for value in given.values()):
        return {None: given} if given else {}
    return dict(given)


def of_method(given: Mapping[str, Any] | None, method: str, methods: Collection[str]) -> Shapes:
    """Returns the shapes of a method's inputs; empty if it has none.

    Raises:
        ValueError: they name no method and there are several, or name one that does not exist.
    """
    found = by_method(given)
    if None in found and len(methods) > 1:
        raise ValueError(
            "names inputs, and the model has several methods; name the method first: "
            f"{next(iter(methods))}: {{INPUT: [SHAPE, …]}}"
        )
    if unknown := [name for name in found if name is not None and name not in methods]:
        raise ValueError(f"names {unknown[0]!r}, which is no method; methods: {', '.join(methods)}")
    return found.get(method, found.get(None, {}))
