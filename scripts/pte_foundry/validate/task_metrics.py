"""Task metrics: what ``score()`` and ``agreement()`` of a model module return for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from pte_foundry.errors import ModelError
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Sample
from pte_foundry.validate.schema import GATE_METRICS

Values = dict[str, float | None]
"""Metrics by name; ``None`` if a value is not finite, or the function failed."""


class _Result(NamedTuple):
    values: Values
    error: ModelError | None = None


class TaskMetrics:
    """The task metrics of one model's programs.

    A function of the module that fails on a program's outputs gives no values. If it fails on the
    fp32 reference as well, the fault is its own, and the ModelError is raised.

    Args:
        model: the model module.
        reference: the fp32 outputs.
        labels: one row for each sample, or none.
        names: of the outputs.

    Raises:
        ModelError: ``score()`` fails on the reference, returns a number that is not finite, or one
            that has the name of a metric of every model.
    """

    def __init__(
        self,
        model: ModelModule,
        reference: list[Sample],
        labels: torch.Tensor | None,
        names: Sequence[str] | None = None,
    ) -> None:
        self._names = names
        self._model = model
        self._reference = reference
        self._labels = labels
        # By identity; the outputs are kept as well, so that an identity stays theirs.
        self._done: dict[tuple[int, ...], tuple[list[list[Sample]], _Result]] = {}
        expected = _Result(model.score(reference, labels, names))
        self._check_names("score", expected.values)
        self._done[(id(reference),)] = [reference], expected
        self.names = [name for score in expected.values for name in (score, f"{score}_change")]
        """Names of the scores, and of their changes."""

    def measure(self, ours: list[Sample], theirs: list[Sample]) -> Values:
        """Returns the task metrics of a program's outputs against those of another.

        A score comes with ``<name>_change``, its difference from the score of ``theirs``. Metrics
        of ``agreement()`` may have a ``top1_agreement``, which replaces the common one.
        """
        mine, other = self._score(ours).values, self._score(theirs).values
        values = dict(self._agreement(ours, theirs).values)
        for name in {**mine, **other}:
            pair = mine.get(name), other.get(name)
            values[name] = pair[0]
            values[f"{name}_change"] = None if None in pair else pair[0] - pair[1]
        return values

    def errors(self, ours: list[Sample]) -> Iterator[tuple[str, ModelError]]:
        """Yields what failed on a program's outputs, and on them only: function and error."""
        if error := self._score(ours).error:
            yield "score", error
        if error := self._agreement(ours, self._reference).error:
            yield "agreement", error

    def _score(self, outputs: list[Sample]) -> _Result:
        key = (id(outputs),)
        if key not in self._done:
            try:  # the reference has been scored, so the outputs are at fault
                result = _Result(
                    self._model.score(outputs, self._labels, self._names, finite=False)
                )
            except ModelError as error:
                expected = self._done[(id(self._reference),)][1].values
                result = _Result(dict.fromkeys(expected), error)
            self._check_names("score", result.values)
            self._done[key] = [outputs], result
        return self._done[key][1]

    def _agreement(self, ours: list[Sample], theirs: list[Sample]) -> _Result:
        key = id(ours), id(theirs)
        if key not in self._done:
            try:
                result = _Result(self._model.agreement(ours, theirs, self._names, finite=False))
            except ModelError as error:
                same = self._model.agreement(
                    self._reference, self._reference, self._names, finite=False
                )
                result = _Result(dict.fromkeys(same), error)
            self._check_names("agreement", result.values)
            self._done[key] = [ours, theirs], result
        return self._done[key][1]

    def _check_names(self, function: str, values: Values) -> None:
        """A task metric called ``sqnr_db`` would take the measured one's place in its gate."""
        own = {"top1_agreement"} if function == "agreement" else set()
        taken = sorted((set(values) & set(GATE_METRICS)) - own)
        if taken:
            raise ModelError(
                f"{self._model.path}: {function}() returned {taken[0]!r}, a metric that every "
                "validation measures by itself; give yours another name."
            )
