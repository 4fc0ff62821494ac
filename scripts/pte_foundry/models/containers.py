"""Walks over nested containers: mappings, dataclasses, named tuples, tuples and lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pte_foundry.errors import ModelError


def children(value: Any) -> list[tuple[Any, Any]] | None:
    """Returns the keys and values of a container, in order; None for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)]
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        return list(zip(fields_of(value) or range(len(value)), value, strict=True))
    return None


def fields_of(value: Any) -> Sequence[str]:
    """Names of a named tuple, or of what torch.topk returns."""
    fields = getattr(value, "__match_args__", ())
    return fields if isinstance(value, tuple) and len(fields) == len(value) else ()


def leaves(value: Any, name: str = "", around: Sequence[Any] = ()) -> Iterator[tuple[str, Any]]:
    """Yields what is in nested containers, with its name.

    Raises:
        ModelError: a container is within itself, one of those ``around`` it.
    """
    inside = children(value)
    if inside is None:
        yield name, value
        return
    if any(value is one for one in around):
        kind = with_article(type(value).__name__)
        raise ModelError(f"has {kind} that contains itself as {name}; remove it")
    for key, child in inside:
        yield from leaves(child, f"{name}.{key}" if name else str(key), (*around, value))


def unique(names: Sequence[str]) -> list[str]:
    """Returns the names if all differ. Raises ModelError naming those that do not."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"has two tensors with the name {twice[0]!r}; rename a key")
    return list(names)


def described(name: str, value: Any) -> str:
    """Describes a value that is no tensor: ``a float as loss.0``, ``an int as 0``."""
    return with_article(type(value).__name__) + (f" as {name}" if name else "")


def with_article(word: str) -> str:
    """Returns ``a Box`` or ``an int``."""
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"


def kind_of(value: Any) -> str:
    """Describes a value and what is in it for a message: ``a tuple of Tensor, int``."""
    inside = children(value)
    if inside is None:
        return "None" if value is None else with_article(_type(value))
    kinds = sorted({_type(child) for _, child in inside})
    return f"{with_article(type(value).__name__)} of {', '.join(kinds) or 'nothing'}"


def _type(value: Any) -> str:
    # While a model is exported its tensors are of a subclass.
    if value is None:
        return "None"
    return "Tensor" if isinstance(value, Tensor) else type(value).__name__
