"""The lengths that an artifact takes, read from its Core ML programs, and the samples that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Sample, Samples
from pte_foundry.pte import Pte


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
