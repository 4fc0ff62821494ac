"""The outputs of a model: flat, in order, with the names that their keys give."""

from __future__ import annotations

from collections.abc import Iterator, MappingView, Sequence, Set
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from pte_foundry.errors import ModelError
from pte_foundry.models.containers import children, described, fields_of, kind_of, leaves, unique
from pte_foundry.models.tensors import Sample, default_output_names


def named_outputs(returned: Any) -> dict[str, Tensor] | Sample:
    """Returns the tensors that forward() returned: by name, or a tuple if they have no names.

    Raises:
        ModelError: there are none, or something else is among them.
    """
    sequence = isinstance(returned, tuple | list) and not fields_of(returned)
    found = [
        (f"output_{name}" if sequence else name, value)
        for name, value in leaves(returned)
        if value is not None
    ]
    for name, value in found:
        if not isinstance(value, Tensor):
            raise ModelError(f"returned {described(name, value)}; {_ALLOWED}; {_fix(value)}")
        if value.layout != torch.strided:
            kind = str(value.layout).removeprefix("torch.")
            raise ModelError(f"returned a {kind} tensor as {name or 'output_0'}; call .to_dense()")
    if returned is None:
        raise ModelError("returned None; return tensors; look for a missing `return`")
    if not found:
        raise ModelError(f"returned {kind_of(returned)}; {_ALLOWED}; return at least one tensor")
    flat = tuple(value for _, value in found)
    for (name, _), value in zip(found, flat, strict=True):
        if value.is_complex():
            shown = f"output {name.removeprefix('output_') or 0}"
            raise ModelError(
                f"returned {shown} as {value.dtype}, which Core ML does not have; "
                "return torch.view_as_real(y), or its magnitude"
            )
    nested = any(children(value) is not None for _, value in children(returned) or ())
    if isinstance(returned, Tensor) or (sequence and not nested):
        return flat
    return dict(zip(unique([name for name, _ in found]), flat, strict=True))


_ALLOWED = "allowed: tensors, in any nesting of tuples, lists, dicts and dataclasses"


def _fix(value: Any) -> str:
    """How to return tensors instead of a value that is no tensor."""
    kind = type(value).__name__
    if kind.endswith("Cache"):
        return (
            "switch the cache off with `use_cache=False` in the call or in the model's "
            "configuration, or return its tensors in a module around the model"
        )
    if isinstance(value, str | int | float | complex | Enum | torch.Size):
        return f"leave it out, e.g. in a module around the model: the {kind} is a constant"
    if hasattr(value, "__array__"):
        return "return tensors, without .numpy(), whose operators torch.export does not see"
    if isinstance(value, Set | Iterator | MappingView):
        return "return a tuple, a list or a dict"
    return (
        f"return the tensors of the {kind} in a tuple or a dict, e.g. in a module around the model"
    )


class NamedSample(tuple):
    """The outputs of one sample: a tuple whose tensors also have names, ``outputs["logits"]``.

    ``outputs.names`` are the names in order, ``outputs.get(name)`` is None where there is none.
    """

    names: tuple[str, ...]

    def __new__(cls, tensors: Sequence[Tensor], names: Sequence[str] | None = None) -> NamedSample:
        made = super().__new__(cls, tensors)
        made.names = tuple(names or default_output_names(len(made)))
        return made

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise KeyError(f"no output {key!r}; outputs: {', '.join(self.names)}")
        return super().__getitem__(self.names.index(key))

    def get(self, name: str) -> Tensor | None:
        """Returns the output of this name; None if there is none."""
        return self[name] if name in self.names else None
