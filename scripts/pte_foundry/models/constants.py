"""Constant methods: what an app asks an artifact, such as its longest prompt or the end of a text.

ExecuTorch emits a method that takes nothing and returns the value (``constant_methods`` of
``EdgeProgramManager``). They do not touch the Core ML model, so only the ``lower`` step reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import ModelError
from pte_foundry.models.user_code import model_errors

if TYPE_CHECKING:
    from pte_foundry.models.module import ModelModule

Constants = dict[str, Any]

SHAPES = ("range", "enumerated", "fixed")
"""What a target can choose: the numbers of tokens that a program takes depend on it."""


def constants_of(model: ModelModule) -> dict[str, Constants]:
    """Returns the constant methods of a model for each choice of shapes; empty if it has none.

    Raises:
        ModelError: a name or a value cannot be one of a method.
    """
    if not model.has("constants"):
        return {}
    with model_errors(model.path, "constants"):
        found = {shapes: model.call("constants", shapes=shapes) for shapes in SHAPES}
        for values in found.values():
            _check(values, model.layouts)
    return {shapes: dict(values) for shapes, values in found.items()} if any(found.values()) else {}


def chosen(constants: Mapping[str, Constants], shapes: str | None, enumerated: bool) -> Constants:
    """Returns those for a target.

    Args:
        constants: see :func:`constants_of`.
        shapes: the target's choice; None for the default.
        enumerated: whether the model has enumerated shapes, which are then the default.
    """
    return constants.get(shapes or ("enumerated" if enumerated else "range"), {})


def _check(values: Any, methods: Mapping[str, Any]) -> None:
    allowed = "allowed: int, float, bool, str, and lists of int or of float that are not empty"
    if not isinstance(values, Mapping):
        raise ModelError(f"returned {type(values).__name__}; return a dict of names and values")
    for name, value in values.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ModelError(f"has the name {name!r}; use letters, digits and _")
        if name in methods:
            raise ModelError(f"has the name {name!r}, which is a method of the model; rename it")
        items = value if isinstance(value, list) else [value]
        kinds = (int, float) if isinstance(value, list) else (int, float, bool, str)
        if not items or type(items[0]) not in kinds or len(set(map(type, items))) > 1:
            raise ModelError(f"has {name}: {value!r}; {allowed}")
