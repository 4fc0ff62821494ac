"""The sizes that a method's inputs may have: those of ``dynamic_shapes()``, or enumerated ones.

Every sample is checked against them before it runs, and default samples have every length that a
range ends with or an enumeration lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import Dim

from pte_foundry.errors import ModelError
from pte_foundry.models.tensors import Sample
from pte_foundry.upstream.torch_size_ranges import axis_spec

LARGEST = 1 << 22
"""Elements of inputs that are made up: no larger ones are."""

Shape = tuple[int, ...]


def shown_shapes(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> str:
    """Describes the shapes of inputs: ``x [1, 8], mask [8]``."""
    pairs = zip(names, shapes, strict=True)
    return ", ".join(f"{name} {list(shape)}" for name, shape in pairs)


@dataclass(frozen=True)
class Size:
    """A dynamic size.

    Attributes:
        name: equal names are equal sizes; empty: only torch knows which are equal.
        low: the smallest size.
        high: the largest one; None: any.
        of: the size that this one is computed from, and how; None: itself.
    """

    name: str
    low: int
    high: int | None
    of: tuple[str, Callable[[int], int]] | None = None

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return f"{self.low} to {self.high}" if self.high > self.low else str(self.low)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the flat inputs of a method.

    Attributes:
        shapes: of each input: numbers, and :class:`Size` where it is dynamic.
        names: of the inputs, for messages.
        enumerated: the shapes of all inputs that may occur together; empty: any in range.
    """

    shapes: tuple[tuple[int | Size, ...], ...]
    names: tuple[str, ...]
    enumerated: tuple[tuple[Shape, ...], ...] = ()

    @classmethod
    def of(
        cls,
        example: Sample,
        names: Sequence[str],
        specs: Sequence[Any],
        enumerated: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> Sizes:
        """Returns the sizes of inputs.

        Args:
            example: the tensors of the example.
            names: of the inputs.
            specs: ``dynamic_shapes`` of each input.
            enumerated: the shapes of inputs by name; the n-th ones belong together.
        """
        shapes = tuple(
            tuple(_size(axis_spec(spec, axis), size) for axis, size in enumerate(tensor.shape))
            for tensor, spec in zip(example, specs, strict=True)
        )
        columns = [
            [tuple(shape) for shape in (enumerated or {}).get(name, ())] or [tuple(tensor.shape)]
            for name, tensor in zip(names, example, strict=True)
        ]
        count = max(map(len, columns), default=0) if enumerated else 0
        rows = (tuple(column[min(n, len(column) - 1)] for column in columns) for n in range(count))
        return cls(shapes, tuple(names), tuple(rows))

    @property
    def dynamic(self) -> bool:
        """Whether samples may differ in their shapes."""
        return any(isinstance(size, Size) for shape in self.shapes for size in shape)

    def check_example(self, example: Sample) -> None:
        """Checks an example for ``torch.export``, which takes a size of 1 for a fixed one.

        Raises:
            ModelError: a dynamic size of the example is 1.
        """
        for name, shape, tensor in zip(self.names, self.shapes, example, strict=True):
            for axis, size in enumerate(shape):
                if isinstance(size, Size) and tensor.shape[axis] == 1:
                    raise ModelError(
                        f"gives {name} the size 1 in dimension {axis}, which dynamic_shapes() "
                        "makes dynamic; torch.export takes a size of 1 for a fixed one. Give the "
                        "example at least 2: the program still takes 1, and samples may have it"
                    )

    def check(self, sample: Sample, what: str) -> None:
        """Checks the shapes of a sample.

        Args:
            sample: its tensors.
            what: the sample in messages, such as ``sample 3``.

        Raises:
            ModelError: naming input, size and what is allowed.
        """
        seen: dict[str, tuple[int, str]] = {}
        for name, shape, tensor in zip(self.names, self.shapes, sample, strict=True):
            for axis, (size, given) in enumerate(zip(shape, tensor.shape, strict=True)):
                where = f"{name} of {what} with {given} in dimension {axis}"
                if isinstance(size, int) and size != given:
                    raise ModelError(
                        f"gave {where}; allowed: {size}, as in the example; change the sample, or "
                        "make the dimension dynamic in dynamic_shapes()"
                    )
                if isinstance(size, Size):
                    _check_range(size, given, where)
                    if size.name and not size.of:
                        first = seen.setdefault(size.name, (given, name))
                        if first[0] != given:
                            raise ModelError(
                                f"gave {where}; allowed: {first[0]}, as {first[1]} has: both are "
                                f"{size.name} in dynamic_shapes(); make them equal"
                            )
        shapes = tuple(tuple(tensor.shape) for tensor in sample)
        if self.enumerated and shapes not in self.enumerated:
            allowed = "; ".join(map(self.shown, self.enumerated))
            raise ModelError(
                f"gave {what} with {self.shown(shapes)}; allowed by the model's "
                f"enumerated_shapes: {allowed}; change the sample, or list its shapes there"
            )

    def shown(self, shapes: Sequence[Shape]) -> str:
        """Describes the shapes of all inputs."""
        return shown_shapes(self.names, shapes)

    def choices(self, example: Sample) -> list[tuple[Shape, ...]]:
        """Returns shapes to try: the example's, then the ends of all ranges, or the enumeration."""
        own = tuple(tuple(tensor.shape) for tensor in example)
        if self.enumerated:
            return list(self.enumerated)
        found = [own, self._at(own, lambda size: size.low), self._at(own, lambda size: size.high)]
        small = [s for s in found if sum(map(_elements, s)) <= LARGEST]
        return list(dict.fromkeys(small or [own]))

    def _at(self, own: tuple[Shape, ...], end: Callable[[Size], int | None]) -> tuple[Shape, ...]:
        """The shapes with all ranges at one end; sizes without a name stay as the example's."""
        roots: dict[str, int] = {}
        for shape, given in zip(self.shapes, own, strict=True):
            for size, now in zip(shape, given, strict=True):
                if isinstance(size, Size) and size.name and not size.of:
                    wanted = end(size)
                    roots[size.name] = now if wanted is None else wanted

        def value(size: int | Size, now: int) -> int:
            if isinstance(size, int):
                return size
            root, function = size.of or (size.name, int)
            return function(roots[root]) if root in roots else now

        return tuple(
            tuple(value(size, now) for size, now in zip(shape, given, strict=True))
            for shape, given in zip(self.shapes, own, strict=True)
        )


def _check_range(size: Size, given: int, where: str) -> None:
    if given < size.low or (size.high is not None and given > size.high):
        named = f" ({size.name} in dynamic_shapes())" if size.name else ""
        raise ModelError(f"gave {where}; allowed: {size}{named}; change the sample or the range")


def _size(spec: Any, size: int) -> int | Size:
    """A size by what ``dynamic_shapes`` has for it: None, a number, a Dim, or a hint."""
    if isinstance(spec, type(Dim.AUTO)):
        if spec.type == Dim.STATIC.type:
            return size
        return Size("", max(spec.min or 1, 1), spec.max)
    if spec is None or isinstance(spec, int):
        return size
    high = spec.max if isinstance(spec.max, int) and spec.max < 1 << 31 else None
    root = getattr(spec, "root", None)
    of = None if root is None else (root.__name__, spec.fn)
    low = spec.min if isinstance(spec.min, int) else 1
    return Size(spec.__name__, max(low, 1), high, of)


def _elements(shape: Shape) -> int:
    return torch.Size(shape).numel()
