"""Which options of a recipe can be swept, by their types in the definitions of the recipes.

It is those that take one of several scalars. A list there cannot mean anything else.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pte_foundry.config.gates import Gate
from pte_foundry.config.recipes import SCHEMES
from pte_foundry.config.translate import bare, below, is_class
from pte_foundry.findings import KeyPath

RECIPE = Union[tuple(SCHEMES.values())]  # noqa: UP007  # of a tuple that is not known here
"""The type of a recipe."""

_APART = (Gate,)
"""Classes without options of a recipe: gates do not change an artifact."""

_SCALARS = (bool, int, float, str)


def lists(value: Any, kind: Any = RECIPE, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yields the path of every list where one value is taken, and the type of that.

    Args:
        value: a recipe, not validated, or a part of one.
        kind: its type.
        path: its key path.
    """
    kind = _chosen(bare(kind), value)
    if isinstance(value, dict) and kind not in _APART:
        for key, inner in value.items():
            yield from lists(inner, below(kind, key), (*path, key))
    elif isinstance(value, list):
        if takes_one_value(kind):
            yield path, kind
        elif not takes_one_value(bare(below(kind, 0))):  # else it is a list by nature
            for at, inner in enumerate(value):
                yield from lists(inner, below(kind, at), (*path, at))


def takes_one_value(kind: Any) -> bool:
    """Whether an option of a type takes one of several scalars, so that a list is a sweep."""
    if _is_union(kind):
        return all(takes_one_value(bare(member)) for member in get_args(kind))
    return kind in _SCALARS or (get_origin(kind) is Literal and len(get_args(kind)) > 1)


def classes(kind: Any = RECIPE) -> dict[str, type[BaseModel]]:
    """Returns the classes that have the options of recipes, by name."""
    kind = bare(kind)
    inner, found = get_args(kind), {}
    if is_class(kind) and kind not in _APART:
        inner = [field.annotation for field in kind.model_fields.values()]
        found[kind.__name__] = kind
    for each in inner:
        found |= classes(each)
    return found


def _chosen(kind: Any, value: Any) -> Any:
    """Returns the class of a union that has the most keys of a mapping."""
    members = [bare(member) for member in get_args(kind)] if _is_union(kind) else []
    if not isinstance(value, dict) or not members or not all(map(is_class, members)):
        return kind
    return max(members, key=lambda member: len(member.model_fields.keys() & value.keys()))


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)
