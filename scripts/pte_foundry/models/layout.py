"""Names and order of a model's inputs and outputs, which may be nested in containers.

Programs take and return flat lists of tensors, in the order in which ``torch.export`` flattens
mappings (a ``ModelOutput`` is one), dataclasses, named tuples, tuples and lists. The keys on the
way to a tensor, joined by dots, are its name: ``logits``, ``hidden.0``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.containers import children, described, fields_of, kind_of, leaves, unique
from pte_foundry.models.tensors import Sample

if TYPE_CHECKING:
    from pte_foundry.models.sizes import Sizes

_FIXED = (type(None), bool)
"""Inputs that are no tensors: the program is exported with their values."""


class Arguments(NamedTuple):
    """A sample with positional and keyword inputs of forward()."""

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]


def _parts(sample: Any) -> dict[int | str, Any]:
    """The inputs of a sample by position or keyword, in order."""
    if isinstance(sample, Arguments):
        return {**dict(enumerate(sample.positional)), **sample.keywords}
    return dict(sample if isinstance(sample, Mapping) else enumerate(sample))


class InputLayout:
    """How samples are given to forward(): a tuple by position, a mapping by keyword, or both.

    Args:
        example: the sample of ``example_inputs()``.
        fixed: whether calls must have its sizes.

    Raises:
        ModelError: it is no tuple or mapping with tensors.
    """

    def __init__(self, example: Any, fixed: bool = False) -> None:
        self._example, self._fixed = example, fixed
        self._names = self._leaves(example, "the sample")
        self._example_tensors = [v for v in self._names.values() if isinstance(v, Tensor)]
        self.plain = isinstance(example, tuple) and all(isinstance(v, Tensor) for v in example)
        """Whether a sample is a tuple of tensors, as programs take them."""
        self.sizes: Sizes | None = None
        """What the tensors of a call are checked against, if they are."""

    def flat(self, sample: Any, what: str = "the sample") -> Sample:
        """Returns the tensors of a sample in the order of the example's.

        Raises:
            ModelError: it has other names than the example, or other values that are no tensors.
        """
        return self._in_order(self._leaves(sample, what), what)

    def _in_order(self, found: Mapping[str, Any], what: str) -> Sample:
        """The tensors among the leaves of a sample, in the order of the example's."""
        if found.keys() != self._names.keys() and not self.plain:
            raise ModelError(
                f"gave {what} with the inputs {_listed(found)}, but example_inputs() has "
                f"{_listed(self._names)}; give all samples its structure"
            )
        order = found if self.plain else self._names
        for name, value in self._names.items() if not self.plain else ():
            same = isinstance(found[name], Tensor) or found[name] is value
            if isinstance(found[name], Tensor) != isinstance(value, Tensor) or not same:
                raise ModelError(
                    f"gave {name} of {what} as {_shown(found[name])}, but example_inputs() has "
                    f"{_shown(value)}; what is no tensor is fixed when the model is exported"
                )
        return tuple(found[name] for name in order if isinstance(found[name], Tensor))

    def labels(self, flat: Sample) -> list[str]:
        """Returns what messages call the tensors: their keys, or their positions."""
        if self.plain:
            return [str(position) for position in range(len(flat))]
        return [name for name, value in self._names.items() if isinstance(value, Tensor)]

    def arguments(self, flat: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the positional and the keyword arguments of forward() for flat tensors."""
        if self.plain:
            return tuple(flat), {}
        left = iter(flat)
        made = {key: _rebuilt(value, left) for key, value in _parts(self._example).items()}
        positional = tuple(value for key, value in made.items() if isinstance(key, int))
        return positional, {key: value for key, value in made.items() if isinstance(key, str)}

    def call(self, method: str, positional: tuple[Any, ...], keywords: Mapping[str, Any]) -> Sample:
        """Returns the flat tensors of a call of a method with these arguments.

        Raises:
            ModelError: the method takes others, or tensors of another dtype or rank.
        """
        if isinstance(self._example, Mapping):  # by position too, in the example's order
            given = dict(zip(self._example, positional, strict=False)) | keywords
            sample = given if len(given) == len(positional) + len(keywords) else ()
        else:
            sample = Arguments(positional, keywords) if keywords else positional
        what = f"a call of {method}()"
        found = self._leaves(sample, what)
        if list(found) != list(self._names):
            raise ModelError(
                f"gave {what} with the inputs {', '.join(found)}; it takes {_listed(self._names)}"
            )
        flat = self._in_order(found, what)
        rows = zip(self.labels(flat), flat, self._example_tensors, strict=True)
        for label, tensor, expected in rows:
            given, wanted = (
                (t.dtype, list(t.shape) if self._fixed else t.dim()) for t in (tensor, expected)
            )
            if given != wanted:
                sizes = f"{wanted[1]}" if self._fixed else f"with {wanted[1]} dimensions"
                raise ModelError(
                    f"gave {what} the input {label} as {tensor.dtype} {list(tensor.shape)}; it "
                    f"takes {expected.dtype} {sizes}"
                )
        if self.sizes is not None:
            self.sizes.check(flat, what)
        return flat

    @property
    def by_keyword(self) -> bool:
        """Whether the keys of a sample name its inputs: no model is needed for that."""
        return all(isinstance(key, str) for key in _parts(self._example))

    def names(self, module: nn.Module | None) -> list[str]:
        """Returns the names of the flat tensors; the model's parameters name positional ones."""
        top = self._by_parameter(module)
        return unique([name for name, value in leaves(top) if isinstance(value, Tensor)])

    def specs(self, module: nn.Module | None, shapes: Any) -> list[Any]:
        """Returns ``dynamic_shapes`` of each flat tensor, given those of a sample.

        Args:
            module: the model; None will do for samples :attr:`by_keyword`.
            shapes: of a sample.

        Raises:
            ModelError: they name an input that does not exist.
        """
        top = self._by_parameter(module)
        known = [name for name, value in leaves(top) if isinstance(value, Tensor)]
        if isinstance(shapes, Mapping):
            wrong = [key for key in shapes if key not in top and key not in known]
            if wrong:
                raise ModelError(
                    f"names {wrong[0]!r}, which is no input; inputs: {', '.join(known)}"
                )
        else:
            shapes = dict(zip(top, shapes or (), strict=False))
        return list(_specs(top, shapes, shapes, ""))

    def _leaves(self, sample: Any, what: str) -> dict[str, Any]:
        fix = "give a tuple of tensors, or a dict of them by the parameters of forward()"
        if not isinstance(sample, tuple | Mapping) or not sample:
            raise ModelError(f"gave {what} as {kind_of(sample)}; {fix}")
        found = list(leaves(_parts(sample)))
        for name, value in found:
            if not isinstance(value, (Tensor, *_FIXED)):
                raise ModelError(
                    f"gave {what} as {kind_of(sample)}: {described(name, value)}; {fix}, in any "
                    "nesting of tuples, lists, dicts and dataclasses; None, True and False are "
                    "fixed when the model is exported; make other values in a module around it"
                )
        if not any(isinstance(value, Tensor) for _, value in found):
            raise ModelError(f"gave {what} as {kind_of(sample)}; {fix}")
        unique([name for name, _ in found])
        return dict(found)

    def _by_parameter(self, module: nn.Module | None) -> dict[str, Any]:
        """The arguments of forward() by the names of its parameters, in the sample's order."""
        parts = _parts(self._example)
        if module is None:
            return parts
        left = [value for key, value in parts.items() if isinstance(key, int)]
        keywords = {key: value for key, value in parts.items() if isinstance(key, str)}
        try:
            parameters = list(inspect.signature(module.forward).parameters.values())
        except (TypeError, ValueError):  # not written in Python
            parameters = []
        found: dict[str, Any] = {}
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL and left:
                found[parameter.name], left = tuple(left), []
            elif left and parameter.kind is not parameter.KEYWORD_ONLY:
                found[parameter.name] = left.pop(0)
        return found | ({"args": tuple(left)} if left else {}) | keywords


def _rebuilt(value: Any, left: Iterator[Tensor]) -> Any:
    """A copy of a container with other tensors."""
    if isinstance(value, Tensor):
        return next(left)
    inside = children(value)
    if inside is None:
        return value
    made = {key: _rebuilt(child, left) for key, child in inside}
    if isinstance(value, Mapping):
        return made
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **made)
    return type(value)(*made.values()) if fields_of(value) else type(value)(made.values())


def _specs(value: Any, given: Any, all_given: Any, name: str) -> Iterator[Any]:
    """Yields the dynamic sizes of each tensor in a container, in order."""
    inside = children(value)
    if inside is None:
        if isinstance(value, Tensor):
            named = all_given.get(name) if isinstance(all_given, Mapping) else None
            yield given if given is not None else named
        return
    below = dict(children(given) or ())
    for key, child in inside:
        path = f"{name}.{key}" if name else str(key)
        yield from _specs(child, below.get(key), all_given, path)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "nothing"


def _shown(value: Any) -> str:
    return "a tensor" if isinstance(value, Tensor) else repr(value)
