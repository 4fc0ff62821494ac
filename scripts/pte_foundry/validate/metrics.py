"""Distances between two sets of outputs: every output is judged by itself, and the worst decides.

The rules for a single output are in :mod:`pte_foundry.validate.output_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from pte_foundry.errors import InputError
from pte_foundry.models.tensors import Sample, default_output_names
from pte_foundry.validate.agreement import class_axis, top1_agreement
from pte_foundry.validate.metrics_schema import Metrics, OutputMetrics, WorstSample
from pte_foundry.validate.output_metrics import compare_output, is_floating, lowest_first

DISTANCES = {"sqnr_db": min, "cosine": min, "max_abs_error": max, "equal_fraction": min}
"""The metrics of an output, each with what chooses the worst of two outputs."""


class Comparison(NamedTuple):
    """The metrics over all outputs, and those of each output, in order."""

    metrics: Metrics
    outputs: list[OutputMetrics]


def compare(
    outputs: Sequence[Sample],
    reference: Sequence[Sample],
    names: Sequence[str] | None = None,
    labels: torch.Tensor | None = None,
) -> Comparison:
    """Compares outputs with reference outputs.

    Args:
        outputs: one tuple of tensors for each sample, of any shapes and dtypes.
        reference: as many samples, each with as many tensors.
        names: of the outputs; ``output_0`` and so on by default.
        labels: of the evaluation samples, which show the class axis
            (:mod:`pte_foundry.validate.agreement`).

    Raises:
        InputError: there are no samples, or the numbers of samples or outputs differ.
    """
    _check(outputs, reference)
    names = names or default_output_names(len(reference[0]))
    columns = [
        [(out[at], ref[at]) for out, ref in zip(outputs, reference, strict=True)]
        for at in range(len(reference[0]))
    ]
    found = [compare_output(name, pairs) for name, pairs in zip(names, columns, strict=True)]
    if at := class_axis(reference, labels):
        agreement = top1_agreement(columns[at.output], at.axis, labels)
        found[at.output]["top1_agreement"] = agreement
    floating = [one for one, ref in zip(found, reference[0], strict=True) if is_floating(ref)]
    return Comparison(_worst(found, floating), found)


def _worst(outputs: list[OutputMetrics], floating: list[OutputMetrics]) -> Metrics:
    """Every metric of the output where it is worst; ``floating`` are the outputs with an SQNR."""
    exact = [one for one in outputs if one not in floating]
    agreements = [one["top1_agreement"] for one in outputs if one["top1_agreement"] is not None]
    decisive = min(
        floating or exact, key=lambda one: lowest_first(one["sqnr_db"], one["equal_fraction"])
    )
    return {
        "sqnr_db": _lowest(floating, "sqnr_db"),
        # An output without a direction (reference all zero) has an SQNR, but no cosine.
        "cosine": _lowest([one for one in floating if _has_direction(one)], "cosine"),
        "max_abs_error": _lowest(floating or exact, "max_abs_error"),
        "top1_agreement": min(agreements, default=None),
        "equal_fraction": _lowest(exact, "equal_fraction"),
        "worst_output": decisive["name"],
        "worst": _worst_sample(floating or exact),
    }


def _lowest(outputs: list[OutputMetrics], metric: str) -> float | None:
    """The worst value of a metric; ``None`` if an output has none, or there are no outputs."""
    values = [one[metric] for one in outputs]
    return DISTANCES[metric](values) if values and None not in values else None


def _has_direction(output: OutputMetrics) -> bool:
    return output["sqnr_db"] is None or output["cosine"] is not None


def _worst_sample(outputs: list[OutputMetrics]) -> WorstSample:
    def score(output: OutputMetrics) -> tuple[float, ...]:
        worst = output["worst"]
        return lowest_first(worst["sqnr_db"], worst["cosine"], worst.get("equal_fraction"))

    lowest = min(outputs, key=score)
    return lowest["worst"] | {"output": lowest["name"]}


def _check(outputs: Sequence[Sample], reference: Sequence[Sample]) -> None:
    if not reference:
        raise InputError("There are no samples to compare; give at least one.")
    if len(outputs) != len(reference):
        raise InputError(
            f"{len(outputs)} samples of outputs against {len(reference)} of the reference; "
            "compute both from the same evaluation samples."
        )
    expected = len(reference[0])
    for index, (out, ref) in enumerate(zip(outputs, reference, strict=True)):
        if not ref:
            raise InputError(f"Sample {index}: the reference has no outputs to compare.")
        if not len(out) == len(ref) == expected:
            raise InputError(
                f"Sample {index}: {len(out)} outputs, but the reference has {len(ref)}, and "
                f"{expected} in sample 0."
            )
