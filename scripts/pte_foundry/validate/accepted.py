"""The lengths that an artifact takes, read from its Core ML programs, and the samples that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pte_foundry.errors import ProgramError
from pte_foundry.mil.signature import Input
from pte_foundry.models.bounds import resized
from pte_foundry.models.module import ModelModule
from pte_foundry.models.sizes import shown_shapes
from pte_foundry.models.tensors import Sample, Samples
from pte_foundry.names import program_name
from pte_foundry.pte import Pte

_LARGER = 64
"""Shapes with more times the elements of a sample do not run: time may grow with the square."""


def accepted_sizes(pte: Pte) -> dict[str, dict[str, str]]:
    """Returns the inputs with more than one shape, by method: ``int32[1..8]``.

    A method with several delegates has the inputs of all of them, values between them included.
    """
    found: dict[str, dict[str, str]] = {}
    for delegate in pte.delegates:
        for given in delegate.program.functions[delegate.function].inputs:
            varies = len(given.shapes) > 1 or any(low != high for low, high in given.ranges)
            if varies:
                found.setdefault(delegate.method, {})[given.name] = given.describe()
    return found


def run_ends(pte: Pte, reference: Samples) -> None:
    """Runs an artifact at the ends of its ranges, or in all enumerated shapes, unless samples do.

    The numbers are not compared: there is no reference for them, and the edge program has been
    compared with the model at the ends (``lowering.shape_bounds``).

    Args:
        pte: the artifact. Methods with several delegates, and those without samples, do not run.
        reference: the samples, and the recorded calls of conversations.

    Raises:
        ProgramError: it fails, naming the shapes.
    """
    for method in pte.methods:
        names = reference.methods.get(method, {}).get("inputs", reference.input_names)
        samples = reference.inputs_of(method)
        delegates = pte.delegates_of(method)
        if len(delegates) != 1 or not samples:
            continue
        (delegate,) = delegates
        inputs = {i.name: i for i in delegate.program.functions[delegate.function].inputs}
        taken = [inputs.get(program_name(name)) for name in names]
        if None in taken or len(taken) != len(samples[0]):
            continue
        seen = {tuple(tuple(tensor.shape) for tensor in sample) for sample in samples}
        for shapes in dict.fromkeys(_ends(taken)):
            if shapes not in seen and _elements(shapes) <= _LARGER * max(map(_elements, seen)):
                _run(pte, method, names, resized(samples[0], shapes))


def _run(pte: Pte, method: str, names: Sequence[str], given: Sample) -> None:
    pte.reset()
    try:
        pte.run(given, method)
    except OSError:
        raise
    except Exception as error:
        shown = shown_shapes(names, [tensor.shape for tensor in given])
        raise ProgramError(
            f"the artifact fails with shapes that it declares, {shown} in {method}: {error}"
        ) from error
    finally:
        pte.reset()


def _ends(inputs: Sequence[Input]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The shapes of all inputs together: the lowest and highest sizes, or the enumerated ones."""
    count = max(len(given.shapes) for given in inputs)
    for number in range(count):
        yield tuple(
            given.shapes[min(number, len(given.shapes) - 1)] if given.shapes else _fixed(given)
            for given in inputs
        )
    if count == 0 and any(low != high for given in inputs for low, high in given.ranges):
        for end in (0, 1):
            if all(sizes[end] is not None for given in inputs for sizes in given.ranges):
                yield tuple(
                    tuple(sizes[end] for sizes in given.ranges) if given.ranges else _fixed(given)
                    for given in inputs
                )


def _elements(shapes: Sequence[Sequence[int]]) -> int:
    return sum(map(math.prod, shapes))


def _fixed(given: Input) -> tuple[int, ...]:
    return tuple(given.type.shape)


def with_example_shapes(
    model: ModelModule, reference: Samples, quantized: Samples
) -> tuple[Samples, Samples]:
    """Returns the samples that a program with fixed shapes takes, and their outputs.

    All samples if none has the shapes of the example, or if they are conversations.
    """
    if model.plays:
        return reference, quantized
    shapes = [tensor.shape for tensor in model.example_inputs()]
    kept = [n for n, given in enumerate(reference.inputs) if [x.shape for x in given] == shapes]
    if not kept:
        return reference, quantized
    return _chosen(reference, kept), _chosen(quantized, kept)


def _chosen(samples: Samples, kept: Sequence[int]) -> Samples:
    def of(given: list[Sample]) -> list[Sample]:
        return [given[number] for number in kept] if given else []

    labels = None if samples.labels is None else samples.labels[list(kept)]
    return replace(samples, inputs=of(samples.inputs), outputs=of(samples.outputs), labels=labels)
